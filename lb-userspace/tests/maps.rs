//! What is written to the pinned maps is what a later controller finds there. Needs root.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod space;

use std::{
    net::Ipv4Addr,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use aya::maps::{Array, HashMap, MapData, PerCpuArray, PerCpuValues};
use lb_common::{
    Address4, Backend, Endpoint, Flow, Half, Mac, Service, Tags, Timeouts, Traffic, Vip, filter, filter_index, limits,
    slots,
};
use lb_userspace::{
    datapath::{
        Datapath as _, Snapshot, Step,
        kernel::{KernelDatapath, Options, detach},
    },
    model::XdpMode,
};
use space::{Space, program, veth};

fn endpoint(text: &str) -> Endpoint {
    text.parse::<std::net::SocketAddrV4>().unwrap().into()
}

fn backend(address: &str, flags: u16) -> Backend {
    let Endpoint { address, port, .. } = endpoint(address);
    Backend {
        address,
        port,
        flags: flags | Backend::PRESENT,
        nic: 3,
        service: 7,
        hop: Mac([2; 6]),
        zero: [0; 2],
        timeouts: Timeouts { syn: 0, established: 0, fin: 0 },
    }
}

/// The octet of the address filter for an address.
fn filtered(space: &Space, address: &str) -> u8 {
    let map: Array<_, [u8; limits::FILTER]> = space.pinned("FILTER").try_into().unwrap();
    map.get(&0, 0).unwrap()[filter_index(address.parse::<Ipv4Addr>().unwrap().into())]
}

/// One of each kind of step, in the order of a plan.
fn plan() -> Vec<Step> {
    let small = Service { id: 7, table: 7, slots: slots::SMALL, flags: 0 };
    let large = Service { id: 2047, table: 63, slots: slots::LARGE, flags: 0 };
    vec![
        Step::AddLocal("10.0.0.1".parse().unwrap()),
        Step::AddLocal("203.0.113.10".parse().unwrap()),
        Step::NameService(7, "web".into()),
        Step::NameService(2047, "ü".repeat(31)),
        Step::PutBackend(1, backend("10.0.1.11:8080", 0)),
        Step::PutBackend(16_383, backend("10.0.1.12:8080", Backend::REACHABLE)),
        Step::AddEndpoint(endpoint("10.0.1.11:8080")),
        Step::AddEndpoint(endpoint("10.0.1.12:8080")),
        Step::FillTable { slots: slots::SMALL, table: 7, ids: [1, 16_383].repeat(2047)[..4093].to_vec() },
        Step::FillTable { slots: slots::LARGE, table: 63, ids: (0..65_537).map(|slot| (slot % 2) as u16).collect() },
        Step::PublishService(endpoint("203.0.113.10:80"), small),
        Step::PublishService(endpoint("203.0.113.10:443"), small),
        Step::PublishService(endpoint("203.0.113.11:80"), large),
        Step::PublishService(endpoint("203.0.113.10:443"), large),
    ]
}

fn undo() -> Vec<Step> {
    vec![
        Step::WithdrawService(endpoint("203.0.113.10:80")),
        Step::WithdrawService(endpoint("203.0.113.10:443")),
        Step::WithdrawService(endpoint("203.0.113.11:80")),
        Step::RemoveEndpoint(endpoint("10.0.1.11:8080")),
        Step::RemoveEndpoint(endpoint("10.0.1.12:8080")),
        Step::RetireBackend(1),
        Step::RetireBackend(16_383),
        Step::ForgetService(7),
        Step::ForgetService(2047),
        Step::RemoveLocal("10.0.0.1".parse().unwrap()),
        Step::RemoveLocal("203.0.113.10".parse().unwrap()),
    ]
}

#[test]
fn every_step_is_in_the_snapshot_and_outlives_the_controller() {
    let space = Space::enter();
    veth("eth0", "peer0");
    let mut datapath = KernelDatapath::open(&space.options(&["eth0"])).unwrap();
    let mut wanted = Snapshot::default();
    assert_eq!(datapath.snapshot().unwrap(), wanted);
    for step in plan() {
        datapath.apply(&step).unwrap();
        // Twice is once.
        datapath.apply(&step).unwrap();
        wanted.note(&step);
    }
    wanted.tables.retain(|key, _| wanted.services.values().any(|service| (service.slots, service.table) == *key));
    assert_eq!(datapath.snapshot().unwrap(), wanted);

    drop(datapath);
    let mut datapath = KernelDatapath::open(&space.options(&["eth0"])).unwrap();
    assert_eq!(datapath.snapshot().unwrap(), wanted);
    for step in undo() {
        datapath.apply(&step).unwrap();
        datapath.apply(&step).unwrap();
    }
    assert_eq!(datapath.snapshot().unwrap(), Snapshot::default());
}

#[test]
fn vips_and_filter_say_what_is_published() {
    let space = Space::enter();
    veth("eth0", "peer0");
    let mut datapath = KernelDatapath::open(&space.options(&["eth0"])).unwrap();
    for step in plan() {
        datapath.apply(&step).unwrap();
    }
    let vips: HashMap<_, Address4, Vip> = space.pinned("VIPS").try_into().unwrap();
    let octets = |space| ["203.0.113.10", "203.0.113.11", "10.0.1.11", "10.0.1.13"].map(|a| filtered(space, a));
    let served = [filter::VIP, filter::VIP, filter::BACKEND, 0];
    assert_eq!((octets(&space), vips.keys().count()), (served, 2));

    let mut steps = undo().into_iter();
    datapath.apply(&steps.next().unwrap()).unwrap();
    assert_eq!((octets(&space), vips.keys().count()), (served, 2), "the address has another service");
    drop(datapath);

    // A restart counts anew who needs which bit, and mends what a crash left.
    let mut broken: HashMap<_, Address4, Vip> = space.pinned("VIPS").try_into().unwrap();
    broken.insert(Address4([1, 2, 3, 4]), Vip { protocols: Vip::TCP, flags: 0 }, 0).unwrap();
    let mut datapath = KernelDatapath::open(&space.options(&["eth0"])).unwrap();
    assert_eq!((octets(&space), vips.get(&Address4([1, 2, 3, 4]), 0).unwrap().protocols), (served, 0));
    // The address of a service that is gone stays a VIP while a flow through it lives.
    let vip = Address4([203, 0, 113, 10]);
    let mut tags: Array<_, Tags> = space.pinned("FLOW_TAGS").try_into().unwrap();
    let mut flows: Array<_, Flow> = space.pinned("FLOWS").try_into().unwrap();
    let seen = datapath.jiffies().unwrap();
    flows.set(0, Flow { vip, seen, ..bytemuck::Zeroable::zeroed() }, 0).unwrap();
    let (one, none) = (Tags { words: [0xabcd, 0] }, Tags { words: [0; 2] });
    tags.set(0, one, 0).unwrap();
    datapath.apply(&steps.next().unwrap()).unwrap();
    let sweep_until = |datapath: &mut KernelDatapath, count: usize| {
        for _ in 0..500 {
            assert!(datapath.flows().is_ok());
            if vips.keys().count() == count {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("{count} VIPs wanted, not {:?}", vips.keys().collect::<Vec<_>>());
    };
    // That of the crash goes, and nobody served the one of the flow for as long.
    sweep_until(&mut datapath, 2);
    thread::sleep(Duration::from_millis(1100));
    sweep_until(&mut datapath, 2);
    assert_eq!((octets(&space), vips.get(&vip, 0).unwrap().protocols), (served, 0));
    // So does a handshake hold it.
    let mut half_tags: Array<_, Tags> = space.pinned("HALF_TAGS").try_into().unwrap();
    let mut halves: Array<_, Half> = space.pinned("HALVES").try_into().unwrap();
    halves.set(0, Half { vip, created: seen, ..bytemuck::Zeroable::zeroed() }, 0).unwrap();
    half_tags.set(0, one, 0).unwrap();
    tags.set(0, none, 0).unwrap();
    sweep_until(&mut datapath, 2);
    half_tags.set(0, none, 0).unwrap();
    sweep_until(&mut datapath, 1);
    assert_eq!(octets(&space), [0, filter::VIP, filter::BACKEND, 0]);
    steps.for_each(|step| datapath.apply(&step).unwrap());
    sweep_until(&mut datapath, 0);
    assert_eq!(octets(&space), [0; 4]);
}

#[test]
fn an_announced_vip_is_kept_over_everything_until_it_is_announced_no_more() {
    let space = Space::enter();
    veth("eth0", "peer0");
    let mut datapath = KernelDatapath::open(&space.options(&["eth0"])).unwrap();
    let (vip, listen) = (Ipv4Addr::new(203, 0, 113, 10), endpoint("203.0.113.10:80"));
    let service = Service { id: 7, table: 7, slots: slots::SMALL, flags: 0 };
    assert!(datapath.apply(&Step::Announce(vip)).is_err(), "nothing is served on it");
    let steps = [Step::PublishService(listen, service), Step::Announce(vip), Step::Announce(vip)];
    steps.iter().for_each(|step| datapath.apply(step).unwrap());
    let vips: HashMap<_, Address4, Vip> = space.pinned("VIPS").try_into().unwrap();
    let there = || vips.get(&vip.into(), 0).ok().map(|vip| (vip.protocols, vip.flags));
    assert_eq!(there(), Some((Vip::TCP, Vip::ANNOUNCED)));
    // Withdrawn, served again, withdrawn, and another controller.
    let turns = [Step::WithdrawService(listen), Step::PublishService(endpoint("203.0.113.10:81"), service)];
    turns.iter().for_each(|step| datapath.apply(step).unwrap());
    assert_eq!(there(), Some((Vip::TCP, Vip::ANNOUNCED)));
    datapath.apply(&Step::WithdrawService(endpoint("203.0.113.10:81"))).unwrap();
    assert!(datapath.flows().unwrap().quiet.is_empty(), "who read the service may still make its flow");
    drop(datapath);
    let mut datapath = KernelDatapath::open(&space.options(&["eth0"])).unwrap();
    assert_eq!(datapath.snapshot().unwrap().announced, [vip].into());
    let deadline = Instant::now() + Duration::from_secs(10);
    while datapath.flows().unwrap().quiet != [vip].into() {
        assert!(Instant::now() < deadline, "sweeps never say that it is quiet");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(there(), Some((0, Vip::ANNOUNCED)), "its address is still on the gateway");
    datapath.apply(&Step::Unannounce(vip)).unwrap();
    datapath.apply(&Step::Unannounce(vip)).unwrap();
    assert_eq!((datapath.flows().unwrap().quiet.len(), there()), (0, None));
    datapath.apply(&Step::Unannounce(vip)).unwrap();
}

#[test]
fn traffic_is_summed_kept_and_begins_at_zero() {
    let space = Space::enter();
    veth("eth0", "peer0");
    let mut datapath = KernelDatapath::open(&space.options(&["eth0"])).unwrap();
    let put = |flags| Step::PutBackend(5, backend("10.0.1.11:8080", flags));
    datapath.apply(&put(0)).unwrap();
    let mut counters: PerCpuArray<_, Traffic> = space.pinned("TRAFFIC").try_into().unwrap();
    let cpus = aya::util::nr_cpus().unwrap();
    let once = Traffic { packets: [2, 1], bytes: [200, 50] };
    counters.set(5, PerCpuValues::try_from(vec![once; cpus]).unwrap(), 0).unwrap();
    datapath.apply(&put(Backend::REACHABLE)).unwrap();
    let all = cpus as u64;
    let sum = Traffic { packets: [2 * all, all], bytes: [200 * all, 50 * all] };
    assert_eq!(datapath.traffic(&[5]).unwrap()[&5], sum);
    datapath.apply(&Step::RetireBackend(5)).unwrap();
    datapath.apply(&put(0)).unwrap();
    assert_eq!(datapath.traffic(&[5]).unwrap()[&5], Traffic { packets: [0; 2], bytes: [0; 2] });
}

#[test]
fn a_step_that_cannot_be_done_changes_nothing() {
    let space = Space::enter();
    veth("eth0", "peer0");
    let mut datapath = KernelDatapath::open(&space.options(&["eth0"])).unwrap();
    for step in [
        Step::PutBackend(0, backend("10.0.1.11:8080", 0)),
        Step::PutBackend(16_384, backend("10.0.1.11:8080", 0)),
        Step::FillTable { slots: slots::SMALL, table: 0, ids: vec![1; 4092] },
        Step::FillTable { slots: 5, table: 0, ids: vec![1; 5] },
        Step::FillTable { slots: slots::LARGE, table: 64, ids: vec![1; 65_537] },
        Step::NameService(1, "x".repeat(64)),
    ] {
        assert!(datapath.apply(&step).is_err(), "{step:?}");
    }
    assert_eq!(datapath.snapshot().unwrap(), Snapshot::default());
}

#[test]
fn a_flow_table_of_another_size_is_kept() {
    let space = Space::enter();
    veth("eth0", "peer0");
    drop(KernelDatapath::open(&space.options(&["eth0"])).unwrap());
    let mut datapath = KernelDatapath::open(&Options { max_flows: 1_000_000, ..space.options(&["eth0"]) }).unwrap();
    let max = datapath.flows().unwrap().max;
    assert!(datapath.adopted() && (4096..4104).contains(&max), "{max}");
}

#[test]
fn maps_that_do_not_fit_are_refused_and_left_alone() {
    let space = Space::enter();
    veth("eth0", "peer0");
    drop(KernelDatapath::open(&space.options(&["eth0"])).unwrap());
    let (attached, pin) = (program("eth0"), space.pin_dir().join("v2/BACKENDS"));
    std::fs::remove_file(&pin).unwrap();
    Array::<MapData, u64>::create(16, 0).unwrap().pin(&pin).unwrap();
    let error = KernelDatapath::open(&space.options(&["eth0"])).err().unwrap().to_string();
    assert!(error.starts_with("run `tidegate detach` first") && error.contains("BACKENDS does not fit"), "{error}");
    assert_eq!(program("eth0"), attached);

    std::fs::create_dir(space.pin_dir().join("v3")).unwrap();
    let error = KernelDatapath::open(&space.options(&["eth0"])).err().unwrap().to_string();
    assert!(error.contains("v3 holds the maps of another version"), "{error}");
    assert!(detach(&space.pin_dir()).unwrap());
    assert!(!space.pin_dir().exists() && program("eth0") == 0);
}

/// Names the pins to the process that is killed.
const PINS: &str = "TIDEGATE_TEST_PINS";

/// The process that is killed: this test's own program, once more.
fn open_and_wait(pin_dir: &str) {
    let options =
        Options { pin_dir: pin_dir.into(), interfaces: vec!["eth0".into()], xdp: XdpMode::Auto, max_flows: 4096 };
    let _datapath = KernelDatapath::open(&options).unwrap();
    thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_start_that_is_killed_is_recovered() {
    if let Ok(pin_dir) = std::env::var(PINS) {
        return open_and_wait(&pin_dir);
    }
    let space = Space::enter();
    veth("eth0", "peer0");
    let begin = Instant::now();
    KernelDatapath::open(&space.options(&["eth0"])).unwrap().detach().unwrap();
    let whole = begin.elapsed();
    let (mut begun, mut complete) = (0, 0);
    for turn in 0..12 {
        // Born in this thread's namespaces.
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_start_that_is_killed_is_recovered", "--test-threads=1"])
            .env(PINS, space.pin_dir())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let pins = space.pin_dir().join("v2");
        let patience = Instant::now() + Duration::from_secs(20);
        while !pins.exists() {
            assert!(Instant::now() < patience, "the child makes no pins: {:?}", child.try_wait());
            thread::sleep(Duration::from_micros(200));
        }
        // At all stages: from before the first map until after the last link.
        thread::sleep(whole * turn / 6);
        child.kill().unwrap();
        child.wait().unwrap();
        begun += 1;
        let datapath = KernelDatapath::open(&space.options(&["eth0"])).unwrap();
        complete += u32::from(datapath.adopted());
        assert_ne!(program("eth0"), 0);
        datapath.detach().unwrap();
        assert!(!space.pin_dir().exists());
    }
    assert!(complete > 0 && complete < begun, "{complete} of {begun} were complete: kill at other times");
}
