//! Slot tables: how many slots a service has, and which slot a client falls on.

/// Slots of an ordinary service, a prime (Maglev wants one).
pub const SMALL: u32 = 4093;
/// Slots of a service that asked for a large table, a prime.
pub const LARGE: u32 = 65537;
/// Slots of one element of `TABLES`; those past [`SMALL`] stay zero.
pub const SMALL_ELEMENT: usize = 4096;
/// Slots of one element of `LARGE_TABLES`, a multiple of eight octets; those past [`LARGE`] stay zero.
pub const LARGE_ELEMENT: usize = 65_540;

/// The slot of a 32-bit hash in a table of `slots` slots: the hash as a fraction of its range.
#[inline(always)]
pub const fn slot(hash: u32, slots: u32) -> u32 {
    ((hash as u64 * slots as u64) >> 32) as u32
}
