//! The maps, and the maps as the packet logic asks them: the one place where a map's memory is touched.

use core::ptr;

use aya_ebpf::{
    bindings::bpf_spin_lock,
    btf_maps::{Array, DevMap, HashMap, PerCpuArray},
    helpers::{bpf_jiffies64, bpf_spin_lock as lock, bpf_spin_unlock as unlock},
    macros::btf_map,
};
use lb_common::{
    Address4, Backend, BackendId, Endpoint, Flow, Nic, Reason, Service, ServiceName, Settings, Side, Tags, Traffic,
    Vip, limits, slots,
};
use lb_ebpf::{
    table::{Place, Shape, Tables, Timeouts},
    verifier::masked,
};

/// `BPF_F_MMAPABLE` (Linux 5.5): userspace sweeps these without system calls.
const MMAPABLE: usize = 1 << 10;
/// Room for reasons to come without a new layout.
const REASONS_ROOM: usize = 64;
/// Sizes of the flow table until userspace says others at load.
const SETS: usize = limits::flow_sets(limits::DEFAULT_MAX_FLOWS) as usize;

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
static REASONS: PerCpuArray<[u64; REASONS_ROOM], 1> = PerCpuArray::new();
#[btf_map]
static SETTINGS: Array<Settings, 1> = Array::new();
#[btf_map]
static FLOWS: Array<Flow, { SETS * limits::WAYS }, MMAPABLE> = Array::new();
#[btf_map]
static FLOW_TAGS: Array<Tags, SETS, MMAPABLE> = Array::new();
#[btf_map]
static FLOW_LOCKS: Array<FlowLock, { limits::FLOW_LOCKS }> = Array::new();

// Set by userspace at load; the verifier sees them as constants.
#[unsafe(no_mangle)]
static FLOW_SETS: u32 = SETS as u32;
#[unsafe(no_mangle)]
static FLOW_SEED: u64 = 0;
#[unsafe(no_mangle)]
static SYN_TIMEOUT: u32 = 60_000;
#[unsafe(no_mangle)]
static ESTABLISHED_TIMEOUT: u32 = 7_800_000;
#[unsafe(no_mangle)]
static FIN_TIMEOUT: u32 = 30_000;

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
    fn slot(&self, service: &Service, slot: u32) -> BackendId {
        // The mask is one bit wider than the largest table; the comparison after it is the bound.
        let slot = masked::<0x1_ffff>(slot as u64);
        let table = service.table as u32;
        if service.slots == slots::LARGE {
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
    fn nic(&self, index: u16) -> Option<Nic> {
        NICS.get(index as u32).copied()
    }

    #[inline(always)]
    fn shape(&self) -> Shape {
        Shape { sets: global(&FLOW_SETS), seed: global(&FLOW_SEED) }
    }

    #[inline(always)]
    fn tags(&self, set: u32) -> Option<[u64; 2]> {
        let tags = FLOW_TAGS.get_ptr(set)?;
        // SAFETY: the element is there for as long as the map; words are read whole.
        Some(unsafe {
            [ptr::read_volatile(&raw const (*tags).words[0]), ptr::read_volatile(&raw const (*tags).words[1])]
        })
    }

    #[inline(always)]
    fn place(&self, set: u32, way: u32) -> Option<&Place> {
        let flow = FLOWS.get_ptr(set.wrapping_mul(limits::WAYS as u32).wrapping_add(way))?;
        // SAFETY: the element is there for as long as the map, `Place` has the layout of `Flow`, and its
        // cells are read and written whole, as what is shared with other CPUs must be.
        Some(unsafe { &*flow.cast::<Place>() })
    }

    #[inline(always)]
    fn swap_tag(&self, set: u32, way: u32, old: u16, new: u16) -> bool {
        let (Some(tags), Some(guard)) =
            (FLOW_TAGS.get_ptr_mut(set), FLOW_LOCKS.get_ptr_mut(set % limits::FLOW_LOCKS as u32))
        else {
            return false;
        };
        // SAFETY: both elements are there for as long as their maps; `way` is masked to the set; the lock
        // keeps other CPUs from swapping the tags of this set.
        unsafe {
            let guard = &raw mut (*guard).lock;
            let tag = tags.cast::<u16>().add((way & 7) as usize);
            lock(guard);
            let same = ptr::read_volatile(tag) == old;
            if same {
                ptr::write_volatile(tag, new);
            }
            unlock(guard);
            same
        }
    }

    #[inline(always)]
    fn set_tag(&self, set: u32, way: u32, new: u16) {
        if let Some(tags) = FLOW_TAGS.get_ptr_mut(set) {
            // SAFETY: as in `swap_tag`; the caller has claimed the place, so nobody else writes its tag.
            unsafe { ptr::write_volatile(tags.cast::<u16>().add((way & 7) as usize), new) }
        }
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
    fn timeouts(&self) -> Timeouts {
        Timeouts { syn: global(&SYN_TIMEOUT), established: global(&ESTABLISHED_TIMEOUT), fin: global(&FIN_TIMEOUT) }
    }

    #[inline(always)]
    fn count(&self, reason: Reason) {
        if let Some(counters) = REASONS.get_ptr_mut(0) {
            // SAFETY: this CPU's own element; XDP programs of one CPU do not interrupt each other.
            unsafe {
                let counter = counters.cast::<u64>().add(masked::<{ REASONS_ROOM as u32 - 1 }>(reason as u64));
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
