//! The maps, and the maps as the packet logic asks them: the one place where a map's memory is touched.

use core::{cell::Cell, ptr};

use aya_ebpf::{
    bindings::bpf_spin_lock,
    btf_maps::{Array, DevMap, HashMap, LpmTrie, LruHashMap, PerCpuArray, lpm_trie::Key},
    helpers::{bpf_jiffies64, bpf_ktime_get_ns, bpf_spin_lock as lock, bpf_spin_unlock as unlock},
    macros::btf_map,
};
use lb_common::{
    Address4, Backend, BackendId, Endpoint, Flow, Half, Limits, Nic, Origin, Reason, Service, ServiceName, Settings,
    Side, Source, Tags, Timeouts, Times, Traffic, Vip, limits, slots,
};
use lb_ebpf::{
    table::{HalfPlace, Pending, Place, Shape, Tables},
    verifier::masked,
};

/// `BPF_F_MMAPABLE` (Linux 5.5): userspace sweeps these without system calls.
const MMAPABLE: usize = 1 << 10;
/// Sizes of the flow table until userspace says others at load.
const SETS: usize = limits::flow_sets(limits::DEFAULT_MAX_FLOWS) as usize;
const HALF_SETS: usize = limits::half_sets(SETS as u32) as usize;

/// Guards the tags of all sets with the same remainder.
#[repr(C)]
pub(crate) struct FlowLock {
    lock: bpf_spin_lock,
}

#[btf_map]
static SERVICES: HashMap<Endpoint, Service, { limits::LISTENS }> = HashMap::new();
#[btf_map]
static VIPS: HashMap<Address4, Vip, { limits::LISTENS }> = HashMap::new();
#[btf_map]
static ENDPOINTS: HashMap<Endpoint, u32, { limits::BACKENDS }> = HashMap::new();
#[btf_map]
static LOCALS: HashMap<Address4, u32, { limits::LOCALS }> = HashMap::new();
#[btf_map]
static BACKENDS: Array<Backend, { limits::BACKENDS }> = Array::new();
#[btf_map]
static TRAFFIC: PerCpuArray<Traffic, { limits::BACKENDS }> = PerCpuArray::new();
#[btf_map]
static TABLES: Array<[BackendId; slots::SMALL_ELEMENT], { limits::SERVICES }> = Array::new();
#[btf_map]
static LARGE_TABLES: Array<[BackendId; slots::LARGE_ELEMENT], { limits::LARGE_SERVICES }> = Array::new();
#[btf_map]
static SERVICE_NAMES: Array<ServiceName, { limits::SERVICES }> = Array::new();
#[btf_map]
static FILTER: Array<[u8; limits::FILTER], 1> = Array::new();
#[btf_map]
static NICS: Array<Nic, { limits::NICS }> = Array::new();
#[btf_map]
pub(crate) static DEVICES: DevMap<{ limits::NICS }> = DevMap::new();
#[btf_map]
static REASONS: PerCpuArray<[u64; limits::REASONS], 1> = PerCpuArray::new();
#[btf_map]
static SETTINGS: Array<Settings, 1> = Array::new();
#[btf_map]
static FLOWS: Array<Flow, { SETS * limits::WAYS }, MMAPABLE> = Array::new();
#[btf_map]
static FLOW_TAGS: Array<Tags, SETS, MMAPABLE> = Array::new();
#[btf_map]
static FLOW_LOCKS: Array<FlowLock, { limits::FLOW_LOCKS }> = Array::new();
#[btf_map]
static HALVES: Array<Half, { HALF_SETS * limits::HALF_WAYS }, MMAPABLE> = Array::new();
#[btf_map]
static HALF_TAGS: Array<Tags, HALF_SETS, MMAPABLE> = Array::new();
#[btf_map]
static ACCESS: LpmTrie<Origin, u32, { limits::PREFIXES }> = LpmTrie::new();
#[btf_map]
static LIMITS: Array<Limits, { limits::SERVICES }> = Array::new();
#[btf_map]
static RATES: Array<u64, { limits::SERVICES }> = Array::new();
#[btf_map]
static SOURCES: LruHashMap<Source, u32, { limits::SOURCES }> = LruHashMap::new();
#[btf_map]
static TIMES: Array<Times, { limits::BACKENDS }> = Array::new();
#[btf_map]
static PENDING: Array<[u32; 2], { limits::PENDING }> = Array::new();

// Set by userspace at load; the verifier sees them as constants.
#[unsafe(no_mangle)]
static FLOW_SETS: u32 = SETS as u32;
#[unsafe(no_mangle)]
static FLOW_SEED: u64 = 0;
#[unsafe(no_mangle)]
static HALF_OPEN_SETS: u32 = HALF_SETS as u32;
/// Jiffies after which a repeated SYN goes to another backend.
#[unsafe(no_mangle)]
static PATIENCE: u32 = 900;

/// A value that userspace wrote before the program was loaded.
#[inline(always)]
fn global<T: Copy>(value: &'static T) -> T {
    // SAFETY: a reference is valid for reads; volatile, or the compiler would use the value written here.
    unsafe { ptr::read_volatile(value) }
}

/// One slot of a table, 0 where there is no such table or slot.
#[inline(always)]
fn element<const N: usize>(table: Option<*const [BackendId; N]>, slot: usize) -> BackendId {
    match table {
        // SAFETY: inside the table, which is there for as long as the map.
        Some(table) if slot < N => unsafe { ptr::read_volatile(table.cast::<BackendId>().add(slot)) },
        _ => 0,
    }
}

/// A set's tags, each word read whole.
#[inline(always)]
fn words(tags: *const Tags) -> Option<[u64; 2]> {
    // SAFETY: the element is there for as long as the map.
    Some(unsafe { [ptr::read_volatile(&raw const (*tags).words[0]), ptr::read_volatile(&raw const (*tags).words[1])] })
}

/// Exchanges one tag of a set under the set's lock.
#[inline(always)]
fn swap(tags: Option<*mut Tags>, set: u32, way: u32, old: u16, new: u16) -> bool {
    let (Some(tags), Some(guard)) = (tags, FLOW_LOCKS.get_ptr_mut(set % limits::FLOW_LOCKS as u32)) else {
        return false;
    };
    // SAFETY: both elements are there for as long as their maps; `way` is masked to the set; the lock
    // keeps other CPUs from swapping the tags of this set.
    unsafe {
        let guard = &raw mut (*guard).lock;
        let tag = tags.cast::<u16>().add(masked::<7>(way as u64));
        lock(guard);
        let same = ptr::read_volatile(tag) == old;
        if same {
            ptr::write_volatile(tag, new);
        }
        unlock(guard);
        same
    }
}

/// Writes one tag of a set.
#[inline(always)]
fn put(tags: Option<*mut Tags>, lane: u32, new: u16) {
    if let Some(tags) = tags {
        // SAFETY: as in `swap`; the caller has claimed the place, so nobody else writes its tag. The rotor
        // is nobody's, and of two CPUs that turn it at once one turns it.
        unsafe { ptr::write_volatile(tags.cast::<u16>().add(masked::<7>(lane as u64)), new) }
    }
}

/// The maps of the kernel.
pub(crate) struct Maps;

impl Tables for Maps {
    #[inline(always)]
    fn filter(&self, address: Address4) -> u8 {
        match FILTER.get(0) {
            Some(filter) => filter.get(lb_common::filter_index(address) & (limits::FILTER - 1)).copied().unwrap_or(0),
            None => 0,
        }
    }

    #[inline(always)]
    fn service(&self, endpoint: &Endpoint) -> Option<Service> {
        // SAFETY: copied out at once, and userspace replaces values whole.
        unsafe { SERVICES.get(endpoint).copied() }
    }

    #[inline(always)]
    fn vip(&self, address: Address4) -> Option<Vip> {
        // SAFETY: as in `service`.
        unsafe { VIPS.get(address).copied() }
    }

    #[inline(always)]
    fn is_backend(&self, endpoint: &Endpoint) -> bool {
        ENDPOINTS.get_ptr(endpoint).is_some()
    }

    #[inline(always)]
    fn is_local(&self, address: Address4) -> bool {
        LOCALS.get_ptr(address).is_some()
    }

    #[inline(always)]
    fn slot(&self, slots: u32, table: u16, slot: u32) -> BackendId {
        // The mask is one bit wider than the largest table; the comparison after it is the bound.
        let slot = masked::<0x1_ffff>(slot as u64);
        let table = table as u32;
        if slots == slots::LARGE {
            element::<{ slots::LARGE_ELEMENT }>(LARGE_TABLES.get_ptr(table), slot)
        } else {
            element::<{ slots::SMALL_ELEMENT }>(TABLES.get_ptr(table), slot)
        }
    }

    #[inline(always)]
    fn backend(&self, id: BackendId) -> Option<Backend> {
        BACKENDS.get(id as u32).copied()
    }

    #[inline(always)]
    fn timeouts(&self, id: BackendId) -> Timeouts {
        match BACKENDS.get(id as u32) {
            Some(backend) => backend.timeouts,
            None => Timeouts { syn: 0, established: 0, fin: 0 },
        }
    }

    #[inline(always)]
    fn access(&self, origin: &Origin) -> u32 {
        let key = Key { prefix_len: Origin::SERVICE_BITS + 32, data: *origin };
        ACCESS.get(&key).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn limits(&self, service: u16) -> Option<Limits> {
        LIMITS.get(service as u32).copied()
    }

    #[inline(always)]
    fn due(&self, service: u16) -> Option<&Cell<u64>> {
        let due = RATES.get_ptr_mut(service as u32)?;
        // SAFETY: the element is there for as long as the map; it is read and written whole.
        Some(unsafe { &*due.cast::<Cell<u64>>() })
    }

    #[inline(always)]
    fn connections(&self, source: &Source) -> u32 {
        // SAFETY: copied out at once.
        unsafe { SOURCES.get(source).copied() }.unwrap_or(0)
    }

    #[inline(always)]
    fn count_connection(&self, source: &Source, more: bool) {
        match SOURCES.get_ptr_mut(source) {
            // SAFETY: the element is not freed while the program runs; two CPUs that count at once may
            // lose one, which the controller's sweep sets right.
            Some(count) => unsafe {
                let old = ptr::read_volatile(count);
                ptr::write_volatile(count, if more { old.wrapping_add(1) } else { old.saturating_sub(1) });
            },
            None if more => {
                // A full table forgets who was counted longest ago.
                let _ = SOURCES.insert(source, &1, 0);
            }
            None => {}
        }
    }

    #[inline(always)]
    fn nic(&self, index: u16) -> Option<Nic> {
        NICS.get(index as u32).copied()
    }

    #[inline(always)]
    fn shape(&self) -> Shape {
        Shape { sets: global(&FLOW_SETS), half_sets: global(&HALF_OPEN_SETS), seed: global(&FLOW_SEED) }
    }

    #[inline(always)]
    fn tags(&self, set: u32) -> Option<[u64; 2]> {
        words(FLOW_TAGS.get_ptr(set)?)
    }

    #[inline(always)]
    fn half_tags(&self, set: u32) -> Option<[u64; 2]> {
        words(HALF_TAGS.get_ptr(set)?)
    }

    #[inline(always)]
    fn half(&self, number: u32) -> Option<&HalfPlace> {
        let half = HALVES.get_ptr(number)?;
        // SAFETY: as in `place`.
        Some(unsafe { &*half.cast::<HalfPlace>() })
    }

    #[inline(always)]
    fn place(&self, number: u32) -> Option<&Place> {
        let flow = FLOWS.get_ptr(number)?;
        // SAFETY: the element is there for as long as the map, `Place` has the layout of `Flow`, and its
        // cells are read and written whole, as what is shared with other CPUs must be.
        Some(unsafe { &*flow.cast::<Place>() })
    }

    #[inline(always)]
    fn swap_tag(&self, set: u32, way: u32, old: u16, new: u16) -> bool {
        swap(FLOW_TAGS.get_ptr_mut(set), set, way, old, new)
    }

    #[inline(always)]
    fn set_tag(&self, set: u32, way: u32, new: u16) {
        put(FLOW_TAGS.get_ptr_mut(set), way, new);
    }

    #[inline(always)]
    fn swap_half_tag(&self, set: u32, way: u32, old: u16, new: u16) -> bool {
        swap(HALF_TAGS.get_ptr_mut(set), set, way, old, new)
    }

    #[inline(always)]
    fn set_half_tag(&self, set: u32, lane: u32, new: u16) {
        put(HALF_TAGS.get_ptr_mut(set), lane, new);
    }

    #[inline(always)]
    fn fence(&self) {
        // LLVM cannot select a fence for BPF; assembly that may touch all memory is the same to the compiler.
        // SAFETY: no instruction at all.
        unsafe { core::arch::asm!("") }
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        // SAFETY: takes nothing and touches nothing.
        unsafe { bpf_jiffies64() as u32 }
    }

    #[inline(always)]
    fn jiffies(&self) -> u64 {
        // SAFETY: takes nothing and touches nothing.
        unsafe { bpf_jiffies64() }
    }

    #[inline(always)]
    fn patience(&self) -> u32 {
        global(&PATIENCE)
    }

    #[inline(always)]
    fn micros(&self) -> u32 {
        // SAFETY: takes nothing and touches nothing.
        (unsafe { bpf_ktime_get_ns() } / 1000) as u32
    }

    #[inline(always)]
    fn pending(&self, index: u32) -> Option<&Pending> {
        let pending = PENDING.get_ptr_mut(index % limits::PENDING as u32)?;
        // SAFETY: the element is there for as long as the map, `Pending` is two numbers, read and written whole.
        Some(unsafe { &*pending.cast::<Pending>() })
    }

    #[inline(always)]
    fn took(&self, id: BackendId, micros: u32) {
        if let Some(times) = TIMES.get_ptr_mut(id as u32) {
            // SAFETY: the element is there for as long as the map; of two CPUs that note at once one may be lost.
            unsafe { ptr::write_volatile(times, ptr::read_volatile(times).with(micros)) }
        }
    }

    #[inline(always)]
    fn count(&self, reason: Reason) {
        if let Some(counters) = REASONS.get_ptr_mut(0) {
            // SAFETY: this CPU's own element; XDP programs of one CPU do not interrupt each other.
            unsafe {
                let counter = counters.cast::<u64>().add(masked::<{ limits::REASONS as u32 - 1 }>(reason as u64));
                *counter = (*counter).wrapping_add(1);
            }
        }
    }

    #[inline(always)]
    fn traffic(&self, id: BackendId, side: Side, octets: u16) {
        if let Some(traffic) = TRAFFIC.get_ptr_mut(id as u32) {
            let index = side as usize;
            // SAFETY: as in `count`; the index is 0 or 1.
            unsafe {
                (*traffic).packets[index] = (*traffic).packets[index].wrapping_add(1);
                (*traffic).bytes[index] = (*traffic).bytes[index].wrapping_add(octets as u64);
            }
        }
    }
}
