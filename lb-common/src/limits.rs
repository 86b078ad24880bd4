//! Every capacity, with what it costs.

use super::{Backend, Flow, Half, Limits, Nic, Reason, Times, Traffic, slots};

/// Services at one time, those that are being withdrawn included.
pub const SERVICES: usize = 2048;
/// Services with 65,537 slots at one time.
pub const LARGE_SERVICES: usize = 64;
/// VIP:port endpoints of all services together.
pub const LISTENS: usize = 8192;
/// Backends of all services together, those included that only keep their last flows. Id 0 is nobody.
pub const BACKENDS: usize = 16_384;
/// NICs at one time.
pub const NICS: usize = 64;
/// Places from `ifindex % NICS` on in which a NIC may stand.
pub const NIC_PROBES: usize = 8;
/// Addresses of the gateway itself.
pub const LOCALS: usize = 4096;
/// Octets of a service's name.
pub const NAME_OCTETS: usize = 63;
/// Octets of the address filter.
pub const FILTER: usize = 65_536;
/// Counters in `REASONS`: room for more reasons without another layout.
pub const REASONS: usize = 64;
/// Flows in one set of the flow table.
pub const WAYS: usize = 8;
/// Handshakes in one set of their table; the last lane of its tags says which goes next.
pub const HALF_WAYS: usize = 7;
/// Prefixes in `allow` and `deny` of all services together.
pub const PREFIXES: usize = 65_536;
/// Client addresses whose connections are counted at one time, of all services together.
pub const SOURCES: usize = 65_536;
/// First bytes that are waited for at one time; more of them share places, and some go untimed.
pub const PENDING: usize = 16_384;
/// Locks that the sets of the flow table share.
pub const FLOW_LOCKS: usize = 4096;
/// Flows that the table is made for where nothing else is asked for.
pub const DEFAULT_MAX_FLOWS: u32 = 1_000_000;
/// The fewest and the most flows that can be asked for.
pub const MAX_FLOWS: core::ops::RangeInclusive<u32> = 1024..=30_000_000;

/// How many sets of [`WAYS`] the flow table has for `max_flows` flows.
///
/// A flow may stand in either of two sets, and the emptier one is taken. A sixth of room beyond
/// `max_flows` keeps both sets of a flow from being full before the whole table is.
pub const fn flow_sets(max_flows: u32) -> u32 {
    (max_flows as u64 * 7 / 6).div_ceil(WAYS as u64) as u32
}

/// How many sets of [`HALF_WAYS`] handshakes there are beside a flow table of `flow_sets` sets.
///
/// A sixteenth of the flows, 62,500 where a million is asked for: at a million forged SYNs a second a true
/// handshake has 60 ms before its entry goes, and what is lost with the entry is found again by hash.
pub const fn half_sets(flow_sets: u32) -> u32 {
    let sets = (flow_sets as u64 * WAYS as u64 * 6 / 7 / 16).div_ceil(HALF_WAYS as u64) as u32;
    if sets < 256 { 256 } else { sets }
}

const _: () = assert!(Reason::COUNT <= REASONS, "every reason has its counter");
const _: () = assert!(size_of::<Flow>() == 64, "a flow is one cache line");
const _: () = assert!(size_of::<[u16; slots::SMALL_ELEMENT]>() * SERVICES == 16 << 20, "small tables: 16 MiB");
const _: () = assert!(size_of::<[u16; slots::LARGE_ELEMENT]>() * LARGE_SERVICES < 9 << 20, "large tables: 8 MiB");
const _: () = assert!(size_of::<Half>() == 64, "a handshake is one cache line");
const _: () = assert!(size_of::<Backend>() * BACKENDS == 512 << 10, "backends: 512 KiB");
const _: () = assert!(size_of::<Times>() * BACKENDS == 256 << 10, "times: 256 KiB");
const _: () = assert!((size_of::<Limits>() + 8) * SERVICES == 64 << 10, "limits and rates: 64 KiB");
const _: () = assert!(size_of::<Traffic>() * BACKENDS == 512 << 10, "counters: 512 KiB for each CPU");
const _: () = assert!(size_of::<Nic>() * NICS == 768, "NICs: under a KiB");
// 64 octets and a tag of 2 in seven places for six flows.
const _: () = assert!((size_of::<Flow>() + 2) * 7 / 6 == 77, "a flow costs 77 octets, both directions");
// 64 octets and a tag of 2 in eight lanes for seven, for every sixteenth flow.
const _: () = assert!((size_of::<Half>() * HALF_WAYS + 16) / HALF_WAYS / 16 == 4, "and 4 for handshakes");
