//! The program in this machine's kernel, as a floor that cases are played on: maps of its own, nothing
//! pinned, nothing attached.
#![allow(dead_code, reason = "the cases and the bench use different parts")]
#![expect(clippy::unwrap_used, reason = "a test that cannot touch its maps has nothing to say")]

use std::{collections::BTreeSet, os::fd::AsFd as _};

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, DevMap, HashMap, LpmTrie, MapData, PerCpuArray, PerCpuValues, lpm_trie::Key},
    programs::{TestRun as _, TestRunOptions, Xdp},
    util::nr_cpus,
};
use lb_common::{
    Backend, BackendId, Endpoint, Flow, Half, Limits, Nic, Origin, Reason, Service, Source, Tags, Times, Traffic, Vip,
    limits, slots,
};
use lb_ebpf::{
    forward::Verdict,
    testing::{Floor, NIC_A, NIC_B, World},
};

/// The object under test.
pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tidegate-ebpf"));

/// The NIC that `BPF_PROG_TEST_RUN` says every packet came in on: lo of this namespace.
const LO: u32 = 1;
/// No NIC has this number.
const NOBODY: u32 = 0x7fff_ffff;

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Plain<T>(T);

// SAFETY: used below with arrays of plain numbers only.
unsafe impl<T: Copy + 'static> Pod for Plain<T> {}

/// The program with maps of its own.
pub(crate) struct Machine {
    pub(crate) object: Ebpf,
    world: World,
    sets: u32,
    ingress: u16,
}

impl Machine {
    /// Loads the object for a table of `max_flows`.
    pub(crate) fn new(max_flows: u32) -> Self {
        Self::with_patience(max_flows, World::PATIENCE)
    }

    /// The same, where a repeated SYN goes to another backend after so many jiffies.
    pub(crate) fn with_patience(max_flows: u32, patience: u32) -> Self {
        // Kernels before 5.11 charge maps to this limit.
        let all = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: reads one structure.
        unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const all) };
        let sets = limits::flow_sets(max_flows);
        let half_sets = limits::half_sets(sets);
        let mut object = EbpfLoader::new()
            .map_max_entries("FLOWS", sets * limits::WAYS as u32)
            .map_max_entries("FLOW_TAGS", sets)
            .override_global("FLOW_SETS", &sets, true)
            .override_global("FLOW_SEED", &World::SEED, true)
            .map_max_entries("HALVES", half_sets * limits::HALF_WAYS as u32)
            .map_max_entries("HALF_TAGS", half_sets)
            .override_global("HALF_OPEN_SETS", &half_sets, true)
            .override_global("PATIENCE", &patience, true)
            .load(OBJECT)
            .expect("the kernel makes the maps; this test needs root (sudo -E)");
        let program: &mut Xdp = object.program_mut("tidegate").unwrap().try_into().unwrap();
        program.load().expect("the kernel's verifier accepts the program");
        let machine = Self { object, world: World::default(), sets, ingress: 0 };
        for index in 0..limits::NICS as u32 {
            let mut devices: DevMap<_> = machine.map("DEVICES").try_into().unwrap();
            devices.set(index, LO, None, 0).unwrap();
        }
        machine
    }

    /// Another handle on a map.
    pub(crate) fn map(&self, name: &str) -> aya::maps::Map {
        use aya::maps::Map;
        let again = |data: &MapData| MapData::from_fd(data.fd().as_fd().try_clone_to_owned().unwrap()).unwrap();
        match self.object.map(name).unwrap_or_else(|| panic!("the object has a map {name}")) {
            Map::Array(data) => Map::Array(again(data)),
            Map::PerCpuArray(data) => Map::PerCpuArray(again(data)),
            Map::HashMap(data) => Map::HashMap(again(data)),
            Map::DevMap(data) => Map::DevMap(again(data)),
            Map::LpmTrie(data) => Map::LpmTrie(again(data)),
            Map::LruHashMap(data) => Map::LruHashMap(again(data)),
            _ => panic!("{name} is of a kind that cases do not touch"),
        }
    }

    fn array<T: Pod>(&self, name: &str) -> Array<MapData, T> {
        self.map(name).try_into().unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn hash<K: Pod, V: Pod>(&self, name: &str) -> HashMap<MapData, K, V> {
        self.map(name).try_into().unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Makes a hash map hold exactly these.
    fn hold<K: Pod + Ord, V: Pod>(&self, name: &str, wanted: impl IntoIterator<Item = (K, V)>) {
        let mut map = self.hash::<K, V>(name);
        let old: Vec<K> = map.keys().map(Result::unwrap).collect();
        let mut kept = BTreeSet::new();
        for (key, value) in wanted {
            map.insert(key, value, 0).unwrap();
            kept.insert(key);
        }
        for key in old.iter().filter(|key| !kept.contains(key)) {
            map.remove(key).unwrap();
        }
    }

    /// Forgets flows and counters.
    pub(crate) fn clear(&mut self) {
        let mut tags = self.array::<Tags>("FLOW_TAGS");
        for set in 0..self.sets {
            tags.set(set, Tags { words: [0; 2] }, 0).unwrap();
        }
        let mut tags = self.array::<Tags>("HALF_TAGS");
        for set in 0..limits::half_sets(self.sets) {
            tags.set(set, Tags { words: [0; 2] }, 0).unwrap();
        }
        self.hold::<Source, u32>("SOURCES", []);
        for id in 0..64 {
            self.array::<u64>("RATES").set(id, 0, 0).unwrap();
            self.array::<Times>("TIMES").set(id, Times { average: 0, count: 0, sum: 0 }, 0).unwrap();
        }
        let mut traffic: PerCpuArray<_, Traffic> = self.map("TRAFFIC").try_into().unwrap();
        let zero = vec![Traffic { packets: [0; 2], bytes: [0; 2] }; nr_cpus().unwrap()];
        for id in 0..64 {
            traffic.set(id, PerCpuValues::try_from(zero.clone()).unwrap(), 0).unwrap();
        }
    }

    /// NIC `ingress` gets the number of the one device that packets come in on.
    fn place_nics(&self, ingress: u16) {
        let mut nics = self.array::<Nic>("NICS");
        for index in 0..limits::NICS as u16 {
            let mut nic = self.world.nics.get(&index).copied().unwrap_or(bytemuck::Zeroable::zeroed());
            nic.ifindex = match index {
                _ if index == ingress => LO,
                NIC_A | NIC_B => NOBODY,
                _ => 0,
            };
            nics.set(u32::from(index), nic, 0).unwrap();
        }
    }

    fn shaking(&self) -> Vec<(u32, Half)> {
        let (tags, halves) = (self.array::<Tags>("HALF_TAGS"), self.array::<Half>("HALVES"));
        let mut taken = Vec::new();
        for set in 0..limits::half_sets(self.sets) {
            let lanes: [u16; limits::WAYS] = bytemuck::cast(tags.get(&set, 0).unwrap().words);
            for (place, tag) in (set * limits::HALF_WAYS as u32..).zip(lanes).take(limits::HALF_WAYS) {
                if tag > 1 {
                    taken.push((place, halves.get(&place, 0).unwrap()));
                }
            }
        }
        taken
    }

    fn taken(&self) -> Vec<(u32, Flow)> {
        let (tags, flows) = (self.array::<Tags>("FLOW_TAGS"), self.array::<Flow>("FLOWS"));
        let mut taken = Vec::new();
        for set in 0..self.sets {
            let lanes: [u16; limits::WAYS] = bytemuck::cast(tags.get(&set, 0).unwrap().words);
            for (place, tag) in (set * limits::WAYS as u32..).zip(lanes) {
                if tag > 1 {
                    taken.push((place, flows.get(&place, 0).unwrap()));
                }
            }
        }
        taken
    }
}

impl Floor for Machine {
    fn change(&mut self, world: &World) {
        self.world = world.clone();
        self.hold::<Endpoint, Service>("SERVICES", world.services.clone());
        self.hold::<_, Vip>("VIPS", world.vips());
        let mut access: LpmTrie<_, Origin, u32> = self.map("ACCESS").try_into().unwrap();
        let old: Vec<Key<Origin>> = access.keys().map(Result::unwrap).collect();
        for key in old {
            access.remove(&key).unwrap();
        }
        for ((bits, origin), verdict) in &world.access {
            access.insert(&Key::new(*bits, *origin), verdict, 0).unwrap();
        }
        let none: Limits = bytemuck::Zeroable::zeroed();
        for id in 0..64 {
            let limits = world.limits.get(&id).copied().unwrap_or(none);
            self.array::<Limits>("LIMITS").set(u32::from(id), limits, 0).unwrap();
        }
        self.hold("ENDPOINTS", world.endpoints().map(|endpoint| (endpoint, 1_u32)));
        self.hold("LOCALS", world.locals.iter().map(|local| (*local, 1_u32)));
        let filter: [u8; limits::FILTER] = world.filter().try_into().unwrap();
        self.array("FILTER").set(0, Plain(filter), 0).unwrap();
        let mut backends = self.array::<Backend>("BACKENDS");
        for id in 0..64 {
            let timeouts = world.timeouts.unwrap_or(World::TIMEOUTS);
            let none = Backend { timeouts, ..bytemuck::Zeroable::zeroed() };
            let backend = world.backends.get(&id).copied().unwrap_or(none);
            backends.set(u32::from(id), backend, 0).unwrap();
        }
        let mut tables = self.array::<Plain<[BackendId; slots::SMALL_ELEMENT]>>("TABLES");
        let mut large = self.array::<Plain<[BackendId; slots::LARGE_ELEMENT]>>("LARGE_TABLES");
        for (service, table) in &world.tables {
            if let Ok(table) = <[BackendId; slots::LARGE_ELEMENT]>::try_from(table.as_slice()) {
                large.set(u32::from(*service), Plain(table), 0).unwrap();
                continue;
            }
            let table: [BackendId; slots::SMALL_ELEMENT] = table.clone().try_into().unwrap();
            tables.set(u32::from(*service), Plain(table), 0).unwrap();
        }
        self.place_nics(NIC_A);
        self.ingress = NIC_A;
    }

    fn run(&mut self, frame: &[u8], nic: u16) -> (Verdict, Vec<u8>) {
        if self.ingress != nic {
            self.place_nics(nic);
            self.ingress = nic;
        }
        let mut out = vec![0; frame.len().max(64) + 256];
        let program: &mut Xdp = self.object.program_mut("tidegate").unwrap().try_into().unwrap();
        let options = TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::new() };
        let result = program.test_run(options).unwrap_or_else(|error| panic!("{} octets: {error}", frame.len()));
        out.truncate(result.data_size_out as usize);
        let verdict = match result.return_value {
            1 => Verdict::Drop,
            2 => Verdict::Pass,
            3 => Verdict::Transmit,
            // The kernel does not say which; there are two, and out where it came in is XDP_TX.
            4 => Verdict::Redirect(if nic == NIC_A { NIC_B } else { NIC_A }),
            other => panic!("the program returned {other}"),
        };
        (verdict, out)
    }

    fn reasons(&mut self) -> [u64; Reason::COUNT] {
        let map: PerCpuArray<_, Plain<[u64; limits::REASONS]>> = self.map("REASONS").try_into().unwrap();
        let mut sums = [0; Reason::COUNT];
        for cpu in map.get(&0, 0).unwrap().iter() {
            for (sum, count) in sums.iter_mut().zip(cpu.0) {
                *sum += count;
            }
        }
        sums
    }

    fn age(&mut self, jiffies: u32) {
        let mut flows = self.array::<Flow>("FLOWS");
        for (place, mut flow) in self.taken() {
            flow.seen = flow.seen.wrapping_sub(jiffies);
            flows.set(place, flow, 0).unwrap();
        }
        let mut halves = self.array::<Half>("HALVES");
        for (place, mut half) in self.shaking() {
            half.created = half.created.wrapping_sub(jiffies);
            half.attempt = half.attempt.wrapping_sub(jiffies);
            half.micros = half.micros.wrapping_sub(jiffies.wrapping_mul(1000));
            halves.set(place, half, 0).unwrap();
        }
        let mut pending = self.array::<Plain<[u32; 2]>>("PENDING");
        for place in 0..limits::PENDING as u32 {
            let Plain([key, micros]) = pending.get(&place, 0).unwrap();
            if key != 0 {
                pending.set(place, Plain([key, micros.wrapping_sub(jiffies.wrapping_mul(1000))]), 0).unwrap();
            }
        }
        let mut rates = self.array::<u64>("RATES");
        for id in 0..64 {
            let due = rates.get(&id, 0).unwrap();
            rates.set(id, due.saturating_sub(u64::from(jiffies) << 20), 0).unwrap();
        }
    }

    fn flows(&mut self) -> Vec<Flow> {
        self.taken().into_iter().map(|(_, flow)| flow).collect()
    }

    fn halves(&mut self) -> Vec<Half> {
        self.shaking().into_iter().map(|(_, half)| half).collect()
    }

    fn connections(&mut self, source: Source) -> u32 {
        self.hash::<Source, u32>("SOURCES").get(&source, 0).unwrap_or(0)
    }

    fn times(&mut self, id: BackendId) -> Times {
        self.array::<Times>("TIMES").get(&u32::from(id), 0).unwrap()
    }

    fn traffic(&mut self, id: BackendId) -> Traffic {
        let map: PerCpuArray<_, Traffic> = self.map("TRAFFIC").try_into().unwrap();
        let mut sum = Traffic { packets: [0; 2], bytes: [0; 2] };
        for cpu in map.get(&u32::from(id), 0).unwrap().iter() {
            for side in 0..2 {
                sum.packets[side] += cpu.packets[side];
                sum.bytes[side] += cpu.bytes[side];
            }
        }
        sum
    }
}
