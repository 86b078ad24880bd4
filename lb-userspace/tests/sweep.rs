//! The flow tables as sweeps and looks see them, in pinned maps that the test fills. Needs root.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod space;

use std::{net::SocketAddrV4, num::NonZeroU32, time::Duration};

use aya::maps::{Array, HashMap};
use bytemuck::Zeroable as _;
use lb_common::{
    Address4, Flow, Half, Port, Service, Source, Tags, flow_hash, kind, limits, protocol, slots, stage, state,
};
use lb_userspace::{
    datapath::{
        Datapath as _, FlowCounts, Step,
        entry::{How, State},
        kernel::{KernelDatapath, Options},
        query::Query,
    },
    model::LogConnections,
};
use space::{Space, veth};

const SPOKE: u8 = state::SPOKE;
const FIN: u8 = SPOKE | state::FIN;
const RESET: u8 = SPOKE | state::RESET;
/// At the usual rates a day in jiffies is more than any timeout, and a minute less than two hours.
const DAY: u32 = 86_400_000;
const WAYS: usize = limits::WAYS;
const HALF_WAYS: usize = limits::HALF_WAYS;
const VIP: &str = "203.0.113.10:80";

/// A datapath, and its flow tables as the packet path has them.
struct Tables {
    datapath: KernelDatapath,
    flows: Array<aya::maps::MapData, Flow>,
    flow_tags: Array<aya::maps::MapData, Tags>,
    halves: Array<aya::maps::MapData, Half>,
    half_tags: Array<aya::maps::MapData, Tags>,
    now: u32,
    space: Space,
}

impl Tables {
    fn new(max_flows: u32) -> Self {
        let space = Space::enter();
        veth("eth0", "peer0");
        let mut datapath = KernelDatapath::open(&Options { max_flows, ..space.options(&["eth0"]) }).unwrap();
        Self {
            now: datapath.jiffies().unwrap(),
            datapath,
            flows: space.pinned("FLOWS").try_into().unwrap(),
            flow_tags: space.pinned("FLOW_TAGS").try_into().unwrap(),
            halves: space.pinned("HALVES").try_into().unwrap(),
            half_tags: space.pinned("HALF_TAGS").try_into().unwrap(),
            space,
        }
    }

    /// A backend of service 7 by this id, with the timeouts that are the datapath's own.
    fn backend(&mut self, id: u16) {
        let backend = lb_common::Backend { flags: 1, service: 7, ..lb_common::Backend::zeroed() };
        let timeouts = self.backend_zero();
        self.datapath.apply(&Step::PutBackend(id, lb_common::Backend { timeouts, ..backend })).unwrap();
    }

    fn backend_zero(&self) -> lb_common::Timeouts {
        let backends: Array<_, lb_common::Backend> = self.space.pinned("BACKENDS").try_into().unwrap();
        backends.get(&0, 0).unwrap().timeouts
    }

    fn flow(&mut self, place: usize, flow: Flow, age: u32) {
        let who = who(place);
        let flow = Flow { client: who.0, client_port: who.1, vip: vip().0, vip_port: vip().1, ..flow };
        self.flows.set(place as u32, Flow { seen: self.now.wrapping_sub(age), ..flow }, 0).unwrap();
        tag(&mut self.flow_tags, place / WAYS, place % WAYS, 0xabcd);
    }

    fn half(&mut self, place: usize, half: Half, age: u32) {
        let who = who(place + 1_000_000);
        let half = Half { client: who.0, client_port: who.1, vip: vip().0, vip_port: vip().1, ..half };
        self.halves.set(place as u32, Half { created: self.now.wrapping_sub(age), ..half }, 0).unwrap();
        tag(&mut self.half_tags, place / HALF_WAYS, place % HALF_WAYS, 0xabcd);
    }

    /// Whether places of the live table are held.
    fn held<const N: usize>(&self, places: [usize; N]) -> [bool; N] {
        places.map(|place| tag_of(&self.flow_tags, place / WAYS, place % WAYS) != 0)
    }

    fn half_held<const N: usize>(&self, places: [usize; N]) -> [bool; N] {
        places.map(|place| tag_of(&self.half_tags, place / HALF_WAYS, place % HALF_WAYS) != 0)
    }

    fn sweep(&mut self) -> FlowCounts {
        self.datapath.flows().unwrap()
    }

    fn ended(&mut self) -> Vec<How> {
        let mut how: Vec<How> = self.sweep().ended.into_iter().map(|ending| ending.how).collect();
        how.sort_unstable();
        how
    }
}

fn who(number: usize) -> (Address4, Port) {
    (Address4([10, (number >> 16) as u8, (number >> 8) as u8, number as u8]), Port::from(1000 + (number % 7) as u16))
}

fn vip() -> (Address4, Port) {
    let vip: SocketAddrV4 = VIP.parse().unwrap();
    ((*vip.ip()).into(), vip.port().into())
}

fn tag(map: &mut Array<aya::maps::MapData, Tags>, set: usize, lane: usize, tag: u16) {
    let mut lanes: [u16; WAYS] = bytemuck::cast(map.get(&(set as u32), 0).unwrap().words);
    lanes[lane] = tag;
    map.set(set as u32, Tags { words: bytemuck::cast(lanes) }, 0).unwrap();
}

fn tag_of(map: &Array<aya::maps::MapData, Tags>, set: usize, lane: usize) -> u16 {
    bytemuck::cast::<_, [u16; WAYS]>(map.get(&(set as u32), 0).unwrap().words)[lane]
}

fn live(id: u16, state: [u8; 2]) -> Flow {
    Flow { backend_id: id, state, ..Flow::zeroed() }
}

fn shaking(id: u16, kind: u8, stage: u8) -> Half {
    Half { backend_id: id, kind, state: [0, stage], ..Half::zeroed() }
}

#[test]
fn a_sweep_counts_what_lives_and_frees_what_is_over() {
    let mut tables = Tables::new(4096);
    let last = limits::flow_sets(4096) as usize * WAYS - 1;
    let last_half = limits::half_sets(limits::flow_sets(4096)) as usize * HALF_WAYS - 1;
    for id in [1, 2, 3, 16_383] {
        tables.backend(id);
    }
    tables.flow(0, live(1, [SPOKE; 2]), 0);
    tables.flow(7, live(1, [SPOKE; 2]), 60_000);
    tables.flow(8, live(2, [FIN, SPOKE]), 0);
    tables.flow(last, live(16_383, [SPOKE, FIN]), 0);
    tables.flow(20, live(3, [SPOKE; 2]), DAY);
    tables.flow(21, live(3, [FIN; 2]), DAY);
    tables.flow(22, live(3, [FIN; 2]), 0);
    tables.flow(23, live(3, [SPOKE, RESET]), 0);
    tables.flow(24, Flow { kind: kind::DIRECT, ..live(0, [SPOKE; 2]) }, 0);
    tables.half(0, shaking(1, 0, stage::ANSWERED), 0);
    tables.half(6, shaking(2, kind::MIDLIFE, 0), 0);
    tables.half(last_half, shaking(2, 0, 0), 0);
    tables.half(7, shaking(2, 0, 0), DAY);
    tables.half(8, shaking(2, 0, stage::REFUSED | stage::ENDED), 0);
    tables.half(9, shaking(2, kind::RETRY, stage::REFUSED), 0);
    tables.half(10, shaking(0, kind::DIRECT, 0), 0);
    // The last lane of a set says which place goes next, and is none.
    tag(&mut tables.half_tags, 3, HALF_WAYS, 5);
    let counts = tables.sweep();
    assert_eq!((counts.live, counts.half_open, counts.max), (4, 4, 4096));
    assert_eq!(counts.by_backend, [(1, 2), (2, 1), (16_383, 1)].into());
    assert_eq!(counts.handshakes, [(1, 1), (2, 3)].into());
    assert_eq!((&counts.closing, counts.names(3)), (&[3].into(), true), "late packets find their backend");
    assert!(counts.took > Duration::ZERO && counts.ended.is_empty(), "nobody asked to be told");
    // What has ended stays a while for late packets.
    assert_eq!(tables.held([20, 21, 22, 23, 24, 0, last]), [false, false, true, true, true, true, true]);
    assert_eq!(tables.half_held([7, 8, 9, 10, 0, last_half]), [false, false, true, true, true, true]);
    assert_eq!(tag_of(&tables.half_tags, 3, HALF_WAYS), 5);
}

#[test]
fn a_vip_of_a_withdrawn_service_stays_for_what_is_late_of_its_connections() {
    let mut tables = Tables::new(4096);
    tables.backend(1);
    let service = Service { id: 7, table: 7, slots: slots::SMALL, flags: 0 };
    let other = "203.0.113.11:80";
    for listen in [VIP, other] {
        let listen = listen.parse::<SocketAddrV4>().unwrap().into();
        for step in [Step::PublishService(listen, service), Step::WithdrawService(listen)] {
            tables.datapath.apply(&step).unwrap();
        }
    }
    // Its client may not have heard yet that it is over, and would be answered by the gateway's own stack.
    tables.flow(0, live(1, [FIN; 2]), 0);
    let vips: HashMap<_, Address4, lb_common::Vip> = tables.space.pinned("VIPS").try_into().unwrap();
    let is_there = |vip: &str| vips.get(&(*vip.parse::<SocketAddrV4>().unwrap().ip()).into(), 0).is_ok();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while is_there(other) {
        assert!(std::time::Instant::now() < deadline, "the other is never let go");
        tables.sweep();
    }
    assert!(is_there(VIP));
}

#[test]
fn what_has_ended_is_told_of_once() {
    let mut tables = Tables::new(4096);
    tables.backend(1);
    tables.flow(0, live(1, [SPOKE; 2]), 0);
    tables.flow(1, live(1, [FIN; 2]), 0);
    tables.flow(2, live(1, [RESET, SPOKE]), 0);
    tables.flow(3, Flow { kind: kind::DIRECT, ..live(0, [RESET; 2]) }, 0);
    assert_eq!(tables.ended(), []);
    tables.datapath.tell_of(LogConnections::All);
    assert_eq!(tables.ended(), [How::Finished, How::ResetByClient]);
    assert_eq!((tables.ended(), tables.held([1, 2])), (vec![], [true; 2]), "it stays, and was told of");
    // Idle ones go with the sweep that finds them.
    tables.flow(0, live(1, [SPOKE; 2]), DAY);
    tables.flow(4, live(1, [FIN; 2]), DAY);
    tables.flow(5, Flow { kind: kind::LOGGED, ..live(1, [FIN; 2]) }, DAY);
    tables.half(0, shaking(1, 0, 0), DAY);
    tables.half(1, shaking(1, 0, stage::ANSWERED), DAY);
    tables.half(2, shaking(1, 0, stage::REFUSED | stage::ENDED), 0);
    tables.half(3, shaking(1, kind::MIDLIFE, 0), DAY);
    tables.half(4, shaking(0, kind::DIRECT, 0), DAY);
    assert_eq!(tables.ended(), [How::Finished, How::Idle, How::Refused, How::NoAnswer, How::Unfinished]);
    assert_eq!(tables.ended(), []);
    tables.datapath.tell_of(LogConnections::Errors);
    tables.flow(6, live(1, [FIN; 2]), 0);
    tables.flow(7, live(1, [SPOKE, RESET]), 0);
    assert_eq!(tables.ended(), [How::ResetByBackend]);
    let share = NonZeroU32::new(2).unwrap();
    tables.datapath.tell_of(LogConnections::OneIn(share));
    let chosen = (100..1100).filter(|place| {
        let (client, port) = who(*place);
        flow_hash(client, port, protocol::TCP, 0).is_multiple_of(2)
    });
    let chosen = chosen.count();
    (100..1100).for_each(|place| tables.flow(place, live(1, [FIN; 2]), 0));
    assert_eq!(tables.ended().len(), chosen);
    // More than one sweep tells of are counted.
    tables.datapath.tell_of(LogConnections::All);
    (2000..3200).for_each(|place| tables.flow(place, live(1, [FIN; 2]), 0));
    let counts = tables.sweep();
    assert_eq!((counts.ended.len(), counts.untold), (1000, 200));
}

#[test]
fn connections_of_a_client_are_set_right_by_what_is_in_the_tables() {
    let mut tables = Tables::new(4096);
    let mut sources: HashMap<_, Source, u32> = tables.space.pinned("SOURCES").try_into().unwrap();
    let source = |client| Source { client, service: 7, zero: [0; 2] };
    let stale = source(Address4([192, 0, 2, 1]));
    sources.insert(stale, 9, 0).unwrap();
    for id in [1, 2] {
        tables.backend(id);
    }
    let counted = |flow| Flow { kind: kind::COUNTED, ..flow };
    tables.flow(0, counted(live(1, [SPOKE; 2])), 0);
    tables.flow(1, live(1, [SPOKE; 2]), 0);
    tables.flow(2, counted(live(1, [FIN; 2])), 0);
    tables.flow(3, counted(live(2, [SPOKE; 2])), DAY);
    tables.half(0, shaking(2, kind::COUNTED, 0), 0);
    // The same client once more.
    let mut second = tables.halves.get(&0, 0).unwrap();
    (second.client, second.client_port) = (who(0).0, 9.into());
    tables.halves.set(1, second, 0).unwrap();
    tag(&mut tables.half_tags, 0, 1, 0xabce);
    tables.sweep();
    assert_eq!(sources.keys().count(), 1, "no service counts connections by client");
    let service = Service { id: 7, table: 7, slots: slots::SMALL, flags: Service::PER_SOURCE };
    let listen = VIP.parse::<SocketAddrV4>().unwrap().into();
    tables.datapath.apply(&Step::PublishService(listen, service)).unwrap();
    sources.insert(source(who(1_000_000).0), 3, 0).unwrap();
    for _ in 0..2 {
        tables.sweep();
        let mut all: Vec<(Source, u32)> = sources.iter().map(Result::unwrap).collect();
        all.sort_unstable();
        assert_eq!(all, [(source(who(0).0), 2), (source(who(1_000_000).0), 1)]);
    }
    tag(&mut tables.flow_tags, 0, 0, 0);
    for set in [0, 1] {
        tag(&mut tables.half_tags, 0, set, 0);
    }
    tables.sweep();
    assert_eq!(sources.keys().count(), 0);
}

#[test]
fn a_look_lists_both_tables_and_frees_nothing() {
    let mut tables = Tables::new(4096);
    tables.backend(1);
    tables.flow(5, Flow { packets: [3, 2], bytes: [300, 1 << 63 | 200], ..live(1, [SPOKE; 2]) }, 0);
    tables.flow(6, live(1, [FIN; 2]), 0);
    tables.half(0, shaking(1, 0, 0), 0);
    let query = Query { limit: 10, ..Query::default() };
    let states = |listing: &lb_userspace::datapath::query::Listing| {
        listing.entries.iter().map(|entry| entry.state).collect::<Vec<_>>()
    };
    let listing = tables.datapath.list(&query).unwrap();
    assert_eq!((states(&listing), listing.truncated), (vec![State::Established, State::Handshake], false));
    let first = &listing.entries[0];
    assert_eq!((first.client.to_string(), first.vip.to_string()), ("10.0.0.5:1005".to_owned(), VIP.to_owned()));
    assert_eq!((first.id, first.packets, first.bytes), (1, [3, 2], [300, 200]));
    let listing = tables.datapath.list(&Query { all: true, limit: 2, ..query }).unwrap();
    assert_eq!((states(&listing), listing.truncated), (vec![State::Established, State::Closing], true));
}

/// `cargo test --release -p lb-userspace --test sweep million -- --nocapture` prints figures that count.
#[test]
fn a_sweep_of_more_than_a_million_flows() {
    let mut tables = Tables::new(1_000_000);
    (1..=100).for_each(|id| tables.backend(id));
    let sets = limits::flow_sets(1_000_000);
    let places = sets as usize * WAYS;
    let seen = tables.now;
    for place in 0..places {
        let (client, client_port) = who(place);
        let flow =
            Flow { client, client_port, seen, kind: kind::COUNTED, ..live(1 + (place % 100) as u16, [SPOKE; 2]) };
        tables.flows.set(place as u32, flow, 0).unwrap();
    }
    let all = Tags { words: [0xabcd_abcd_abcd_abcd; 2] };
    (0..sets).for_each(|set| tables.flow_tags.set(set, all, 0).unwrap());
    tables.sweep();
    let quickest = |tables: &mut Tables| (0..5).map(|_| tables.sweep().took).min().unwrap();
    let took = quickest(&mut tables);
    assert_eq!(tables.sweep().live, places as u64);
    let service = Service { id: 7, table: 7, slots: slots::SMALL, flags: Service::PER_SOURCE };
    tables.datapath.apply(&Step::PublishService(VIP.parse::<SocketAddrV4>().unwrap().into(), service)).unwrap();
    // As many addresses as the map can hold.
    let begin = std::time::Instant::now();
    let listing = tables.datapath.list(&Query { limit: 1000, ..Query::default() }).unwrap();
    let looked = begin.elapsed();
    assert_eq!((listing.entries.len(), listing.truncated), (1000, true));
    let counted = quickest(&mut tables);
    println!("{places} flows: a sweep {took:?}, a look {looked:?}, by client as well {counted:?}");
    if !cfg!(debug_assertions) {
        assert!(took < Duration::from_millis(100));
    }
}
