//! Cases, and the floors they are played on.

use std::{
    collections::{BTreeMap, BTreeSet},
    format,
    net::SocketAddrV4,
    string::String,
    time::Instant,
    vec,
    vec::Vec,
};

use lb_common::{
    Address4, Backend, BackendId, Endpoint, Flow, Half, Limits, Nic, Origin, Reason, Service, Source, Timeouts, Times,
    Traffic, Vip, octets, slots, stage,
};

use super::packet::{NIC_A, NIC_B, dump, mac_of, mac_of_address};
use crate::forward::Verdict;

/// What the maps hold.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Endpoints that are served.
    pub services: BTreeMap<Endpoint, Service>,
    /// Slot tables by service id.
    pub tables: BTreeMap<u16, Vec<BackendId>>,
    /// Backends by id.
    pub backends: BTreeMap<BackendId, Backend>,
    /// NICs by index.
    pub nics: BTreeMap<u16, Nic>,
    /// The gateway's own addresses.
    pub locals: BTreeSet<Address4>,
    /// VIPs that we announce.
    pub announced: BTreeSet<Address4>,
    /// What `allow` and `deny` say, by prefix: bits of the key that count, and the key.
    pub access: BTreeMap<(u32, Origin), u32>,
    /// Limits by service id.
    pub limits: BTreeMap<u16, Limits>,
    /// Timeouts of flows that no service has, where they are not [`World::TIMEOUTS`].
    pub timeouts: Option<Timeouts>,
}

/// A packet's end as a case wants it.
#[derive(Clone, Debug)]
pub struct Expected {
    /// What is done with it.
    pub verdict: Verdict,
    /// Its octets after, where they matter.
    pub frame: Option<Vec<u8>>,
    /// All counters that move.
    pub counts: Vec<(Reason, u64)>,
}

/// One thing that happens in a case.
#[derive(Clone, Debug)]
pub enum Act {
    /// A packet arrives on a NIC.
    Arrives(Vec<u8>, u16, Expected),
    /// Nothing happens for so many jiffies.
    Idle(u32),
    /// The controller changes the maps.
    Change(World),
    /// So many flows are in the table.
    Flows(usize),
    /// So many handshakes are under way in the half-open table.
    Halves(usize),
    /// What is in the live table now is what [`Unchanged`](Self::Unchanged) asks for.
    Remember,
    /// The live table is what it was, octet for octet.
    Unchanged,
    /// The only flow in the table has shown these bits of state, and counted these packets and octets.
    Shows([u8; 2], [u32; 2], [u64; 2]),
    /// A client's address has so many connections with a service.
    Connections(Address4, u16, u32),
    /// So many times were taken of a backend, and this is their sum in microseconds, but for what the floor itself needs.
    Times(BackendId, u32, u64),
    /// A backend's traffic is this: packets and octets from clients, and to them.
    Traffic(BackendId, [u64; 2], [u64; 2]),
}

/// A world and what happens in it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it shows.
    pub name: &'static str,
    /// The world at the beginning.
    pub world: World,
    /// What happens, in order.
    pub acts: Vec<Act>,
}

/// Where a case is played.
pub trait Floor {
    /// Makes the maps hold another world; flows stay.
    fn change(&mut self, world: &World);
    /// Runs the program on one packet that came in on a NIC.
    fn run(&mut self, frame: &[u8], nic: u16) -> (Verdict, Vec<u8>);
    /// The counters.
    fn reasons(&mut self) -> [u64; Reason::COUNT];
    /// Makes every flow so much older.
    fn age(&mut self, jiffies: u32);
    /// The flows in the table.
    fn flows(&mut self) -> Vec<Flow>;
    /// The handshakes in the half-open table.
    fn halves(&mut self) -> Vec<Half>;
    /// How many connections a client's address has with a service.
    fn connections(&mut self, source: Source) -> u32;
    /// How fast a backend answers.
    fn times(&mut self, id: BackendId) -> Times;
    /// A backend's counters.
    fn traffic(&mut self, id: BackendId) -> Traffic;
}

impl World {
    /// Flows that the table of a case is made for.
    pub const MAX_FLOWS: u32 = 1024;
    /// The seed of its hash.
    pub const SEED: u64 = 0x5eed;
    /// Its timeouts, at a HZ of 1000 wherever it runs.
    pub const TIMEOUTS: Timeouts = Timeouts { syn: 60_000, established: 7_800_000, fin: 30_000 };

    /// Jiffies after which a repeated SYN goes to another backend.
    pub const PATIENCE: u32 = 900;

    /// A gateway with two NICs, A towards the clients and B towards the backends, and no services.
    pub fn new() -> Self {
        let nic = |index: u16| Nic { ifindex: u32::from(index), mac: mac_of(index), zero: [0; 2] };
        Self { nics: [(NIC_A, nic(NIC_A)), (NIC_B, nic(NIC_B))].into(), ..Self::default() }
    }

    /// The addresses and ports of all backends.
    pub fn endpoints(&self) -> impl Iterator<Item = Endpoint> + '_ {
        self.backends.values().map(|backend| Endpoint::tcp(backend.address, backend.port))
    }

    /// The addresses of VIPs, with what is served there.
    pub fn vips(&self) -> BTreeMap<Address4, Vip> {
        let served = self.services.keys().map(|endpoint| (endpoint.address, Vip { protocols: Vip::TCP, flags: 0 }));
        let mut vips: BTreeMap<_, _> = served.collect();
        for vip in &self.announced {
            vips.entry(*vip).or_insert(Vip { protocols: 0, flags: 0 }).flags |= Vip::ANNOUNCED;
        }
        vips
    }

    /// Sets flags of all endpoints of a service.
    pub fn flag(&mut self, id: u16, flags: u32) {
        for service in self.services.values_mut().filter(|service| service.id == id) {
            service.flags |= flags;
        }
    }

    /// Adds a service on some VIPs whose slots go to these backends in turn. Backends get the next free ids.
    pub fn serve(&mut self, vips: &[&str], backends: &[&str]) -> Vec<BackendId> {
        let id = self.tables.len() as u16 + 1;
        let ids: Vec<BackendId> = backends.iter().map(|backend| self.add_backend(id, backend)).collect();
        for vip in vips {
            self.services.insert(endpoint(vip), Service { id, table: id, slots: slots::SMALL, flags: 0 });
        }
        self.fill(id, &ids);
        ids
    }

    /// Fills a service's table with these backends in turn.
    pub fn fill(&mut self, service: u16, ids: &[BackendId]) {
        let mut table = vec![0; slots::SMALL_ELEMENT];
        if !ids.is_empty() {
            for (slot, entry) in table.iter_mut().take(slots::SMALL as usize).enumerate() {
                *entry = ids[slot % ids.len()];
            }
        }
        self.tables.insert(service, table);
    }

    fn add_backend(&mut self, service: u16, at: &str) -> BackendId {
        let Endpoint { address, port, .. } = endpoint(at);
        let id = self.backends.len() as BackendId + 1;
        let flags = Backend::PRESENT | Backend::REACHABLE | Backend::ELIGIBLE;
        let hop = mac_of_address(address);
        let timeouts = Self::TIMEOUTS;
        self.backends.insert(id, Backend { address, port, flags, nic: NIC_B, service, hop, zero: [0; 2], timeouts });
        id
    }
}

/// The TCP endpoint that a text names.
pub fn endpoint(text: &str) -> Endpoint {
    text.parse::<SocketAddrV4>().unwrap_or_else(|_| panic!("{text} is no address:port")).into()
}

impl Case {
    /// A case in a world that `build` makes.
    pub fn new(name: &'static str, build: impl FnOnce(&mut World)) -> Self {
        let mut world = World::new();
        build(&mut world);
        Self { name, world, acts: Vec::new() }
    }

    /// A packet arrives on a NIC; it leaves with a verdict and octets, and exactly these counters move.
    pub fn arrives(
        mut self,
        frame: Vec<u8>,
        nic: u16,
        verdict: Verdict,
        out: impl Into<Option<Vec<u8>>>,
        counts: &[(Reason, u64)],
    ) -> Self {
        let expected = Expected { verdict, frame: out.into(), counts: counts.to_vec() };
        self.acts.push(Act::Arrives(frame, nic, expected));
        self
    }

    /// The packet passes untouched for a reason.
    pub fn passes(self, frame: Vec<u8>, nic: u16, counts: &[(Reason, u64)]) -> Self {
        let out = frame.clone();
        self.arrives(frame, nic, Verdict::Pass, out, counts)
    }

    /// The packet is dropped for a reason.
    pub fn drops(self, frame: Vec<u8>, nic: u16, reason: Reason) -> Self {
        self.arrives(frame, nic, Verdict::Drop, None, &[(reason, 1)])
    }

    /// Something else happens.
    pub fn then(mut self, act: Act) -> Self {
        self.acts.push(act);
        self
    }
}

/// Plays a case; the text says at which act which expectation was not met.
pub fn play(case: &Case, floor: &mut dyn Floor) -> Result<(), String> {
    floor.change(&case.world);
    let (began, mut remembered) = (Instant::now(), Vec::new());
    for (number, act) in case.acts.iter().enumerate() {
        let at = format!("{}, act {}", case.name, number + 1);
        match act {
            Act::Arrives(frame, nic, expected) => {
                arrive(floor, frame, *nic, expected).map_err(|why| format!("{at}: {why}"))?;
            }
            Act::Idle(jiffies) => floor.age(*jiffies),
            Act::Change(world) => floor.change(world),
            Act::Flows(count) => {
                let flows = floor.flows();
                if flows.len() != *count {
                    return Err(format!("{at}: {count} flows wanted, these are there: {flows:#?}"));
                }
            }
            Act::Halves(count) => {
                let mut halves = floor.halves();
                halves.retain(|half| half.state[1] & stage::ENDED == 0);
                if halves.len() != *count {
                    return Err(format!("{at}: {count} handshakes wanted, these are there: {halves:#?}"));
                }
            }
            Act::Remember => remembered = floor.flows(),
            Act::Unchanged => {
                let flows = floor.flows();
                if flows != remembered {
                    return Err(format!("{at}: these flows wanted: {remembered:#?}, not {flows:#?}"));
                }
            }
            Act::Connections(client, service, count) => {
                let counted = floor.connections(Source { client: *client, service: *service, zero: [0; 2] });
                if counted != *count {
                    return Err(format!("{at}: {count} connections wanted, not {counted}"));
                }
            }
            Act::Times(id, count, sum) => {
                let times = floor.times(*id);
                // What passed beside the case's own waiting: seconds, where a processor is emulated.
                let late = began.elapsed().as_micros() as u64;
                if times.count != *count || !(*sum..=*sum + u64::from(*count) * late).contains(&times.sum) {
                    return Err(format!("{at}: {count} times wanted that are {sum} µs together, not {times:?}"));
                }
            }
            Act::Shows(state, packets, bytes) => match floor.flows()[..] {
                [flow] if (flow.state, flow.packets, flow.bytes.map(octets)) == (*state, *packets, *bytes) => {}
                ref flows => {
                    return Err(format!(
                        "{at}: state {state:?}, {packets:?}, {bytes:?} wanted of one flow: {flows:#?}"
                    ));
                }
            },
            Act::Traffic(id, packets, bytes) => {
                let traffic = floor.traffic(*id);
                if (traffic.packets, traffic.bytes) != (*packets, *bytes) {
                    return Err(format!("{at}: packets {packets:?} and bytes {bytes:?} wanted, not {traffic:?}"));
                }
            }
        }
    }
    Ok(())
}

fn arrive(floor: &mut dyn Floor, frame: &[u8], nic: u16, expected: &Expected) -> Result<(), String> {
    let before = floor.reasons();
    let (verdict, out) = floor.run(frame, nic);
    let after = floor.reasons();
    let moved: BTreeMap<Reason, u64> = Reason::ALL
        .iter()
        .filter_map(|reason| {
            let moved = after[*reason as usize] - before[*reason as usize];
            (moved > 0).then_some((*reason, moved))
        })
        .collect();
    let counts: BTreeMap<Reason, u64> = expected.counts.iter().copied().collect();
    if verdict != expected.verdict || moved != counts {
        let Expected { verdict: wanted, .. } = expected;
        return Err(format!("{wanted:?} with {counts:?} wanted, not {verdict:?} with {moved:?}\n in {}", dump(frame)));
    }
    match &expected.frame {
        Some(wanted) if *wanted != out => Err(format!(
            "another packet wanted\n in     {}\n wanted {}\n got    {}",
            dump(frame),
            dump(wanted),
            dump(&out)
        )),
        _ => Ok(()),
    }
}
