//! Limits, who may connect and idle times, as a later controller and the packet path find them in the pinned maps.
//! Needs root.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod space;

use std::net::SocketAddrV4;

use aya::maps::{Array, LpmTrie, Map, MapData, lpm_trie::Key};
use lb_common::{Backend, Endpoint, LAYOUT, Limits, Mac, Origin, Service, Timeouts, slots};
use lb_userspace::datapath::{
    Datapath as _, Prefix, Snapshot, Step,
    kernel::{KernelDatapath, detach},
};
use space::{Space, veth};

const TIMES: Timeouts = Timeouts { syn: 1, established: 2, fin: 3 };

fn pinned(space: &Space, name: &str) -> Map {
    let path = space.pin_dir().join(format!("v{LAYOUT}")).join(name);
    Map::from_map_data(MapData::from_pin(path).unwrap()).unwrap()
}

fn prefix(service: u16, clients: &str) -> Prefix {
    Prefix { service, clients: clients.parse().unwrap() }
}

fn limits(interval: u64, per_source: u32) -> Limits {
    Limits { interval, burst: 7 * interval, per_source, zero: 0 }
}

fn plan() -> Vec<Step> {
    let Endpoint { address, port, .. } = "10.0.1.11:8080".parse::<SocketAddrV4>().unwrap().into();
    let flags = Backend::PRESENT | Backend::ELIGIBLE | Backend::RESETS;
    let backend =
        Backend { address, port, flags, nic: 0, service: 258, hop: Mac([2; 6]), zero: [0; 2], timeouts: TIMES };
    let flags = Service::FILTERED | Service::RATED | Service::PER_SOURCE | Service::DROPS | Service::RETRIES;
    let service = Service { id: 258, table: 258, slots: slots::SMALL, flags };
    vec![
        Step::NameService(258, "web".to_owned()),
        Step::NameService(513, "api".to_owned()),
        Step::PutLimits(258, limits(1 << 40, 200)),
        Step::PutLimits(513, limits(0, 9)),
        Step::PutAccess(prefix(258, "192.0.2.7/32"), Origin::ALLOWED),
        Step::PutAccess(prefix(258, "10.66.0.0/16"), Origin::ALLOWED),
        Step::PutAccess(prefix(258, "10.66.0.0/16"), Origin::DENIED),
        Step::PutAccess(prefix(258, "10.0.0.0/8"), Origin::ALLOWED),
        Step::PutAccess(prefix(258, "0.0.0.0/0"), Origin::DENIED),
        Step::PutAccess(prefix(513, "10.66.6.0/24"), Origin::DENIED),
        Step::PutBackend(5, backend),
        Step::FillTable { slots: slots::SMALL, table: 258, ids: vec![5; slots::SMALL as usize] },
        Step::PublishService("203.0.113.10:80".parse::<SocketAddrV4>().unwrap().into(), service),
    ]
}

#[test]
fn what_is_written_is_what_a_later_controller_finds() {
    let space = Space::enter();
    veth("eth0", "peer0");
    let mut datapath = KernelDatapath::open(&space.options(&["eth0"])).unwrap();
    let mut wanted = Snapshot::default();
    for step in plan() {
        datapath.apply(&step).unwrap();
        // Twice is once.
        datapath.apply(&step).unwrap();
        wanted.note(&step);
    }
    assert_eq!(datapath.snapshot().unwrap(), wanted);
    drop(datapath);
    let mut later = KernelDatapath::open(&space.options(&["eth0"])).unwrap();
    assert_eq!(later.snapshot().unwrap(), wanted);
    for step in [
        Step::RemoveAccess(prefix(258, "0.0.0.0/0")),
        Step::RemoveAccess(prefix(513, "10.66.6.0/24")),
        Step::PutLimits(513, limits(0, 0)),
    ] {
        later.apply(&step).unwrap();
        later.apply(&step).unwrap();
        wanted.note(&step);
    }
    assert_eq!(later.snapshot().unwrap(), wanted);
    assert_eq!((wanted.access.len(), wanted.limits.len()), (3, 1));
    drop(later);
    detach(&space.pin_dir()).unwrap();
}

#[test]
fn the_longest_prefix_of_a_client_counts_and_services_do_not_mix() {
    let space = Space::enter();
    veth("eth0", "peer0");
    let mut datapath = KernelDatapath::open(&space.options(&["eth0"])).unwrap();
    for step in plan() {
        datapath.apply(&step).unwrap();
    }
    let access: LpmTrie<_, Origin, u32> = pinned(&space, "ACCESS").try_into().unwrap();
    let said = |service: u16, client: [u8; 4]| {
        let origin = Origin::new(service, lb_common::Address4(client));
        access.get(&Key::new(Origin::SERVICE_BITS + 32, origin), 0).ok()
    };
    let (allowed, denied) = (Some(Origin::ALLOWED), Some(Origin::DENIED));
    assert_eq!([said(258, [10, 1, 2, 3]), said(258, [192, 0, 2, 7])], [allowed; 2]);
    assert_eq!([said(258, [10, 66, 0, 1]), said(258, [192, 0, 2, 8])], [denied; 2]);
    assert_eq!([said(513, [10, 66, 6, 1]), said(513, [10, 66, 7, 1]), said(2, [10, 1, 2, 3])], [denied, None, None]);
}

#[test]
fn a_changed_limit_makes_the_next_connection_due_at_once() {
    let space = Space::enter();
    veth("eth0", "peer0");
    let mut datapath = KernelDatapath::open(&space.options(&["eth0"])).unwrap();
    let mut rates: Array<_, u64> = pinned(&space, "RATES").try_into().unwrap();
    rates.set(258, u64::MAX / 2, 0).unwrap();
    rates.set(513, 1, 0).unwrap();
    datapath.apply(&Step::PutLimits(258, limits(1, 0))).unwrap();
    assert_eq!((rates.get(&258, 0).unwrap(), rates.get(&513, 0).unwrap()), (0, 1));
}

#[test]
fn flows_of_no_service_have_the_default_idle_times() {
    let space = Space::enter();
    veth("eth0", "peer0");
    let datapath = KernelDatapath::open(&space.options(&["eth0"])).unwrap();
    let backends: Array<_, Backend> = pinned(&space, "BACKENDS").try_into().unwrap();
    let hertz = datapath.hertz();
    let wanted = Timeouts { syn: 60 * hertz, established: 7800 * hertz, fin: 30 * hertz };
    assert_eq!(backends.get(&0, 0).unwrap().timeouts, wanted);
}
