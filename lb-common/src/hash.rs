//! The hashes that both sides, every node and every version must agree on.
//!
//! All are multiply-and-fold mixers: BPF has no rotate and no 128-bit product, so the fold takes the
//! high half of a 64-bit product down with a shift and an exclusive or.

use super::{Address4, Port};

const A: u64 = 0x9e37_79b9_7f4a_7c15;
const B: u64 = 0xbf58_476d_1ce4_e5b9;

/// The finisher of SplitMix64 (Steele, Lea, Flood 2014) in two rounds: every input bit moves every output bit.
#[inline(always)]
const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 32)).wrapping_mul(A);
    let value = (value ^ (value >> 29)).wrapping_mul(B);
    value ^ (value >> 32)
}

/// The hash of `source-hash`: the same client on the same slot on every node and in every version.
#[inline(always)]
pub const fn client_hash(client: Address4) -> u32 {
    mix(u32::from_be_bytes(client.0) as u64 ^ 0x7469_6465_6761_7465) as u32
}

/// Where a client's flows stand in the flow table. The VIP is no part of it, so that a reply, which
/// does not name the VIP, falls on the same sets.
#[inline(always)]
pub const fn flow_hash(client: Address4, port: Port, protocol: u8, seed: u64) -> u64 {
    let tuple =
        (u32::from_ne_bytes(client.0) as u64) << 24 | (u16::from_ne_bytes(port.0) as u64) << 8 | protocol as u64;
    mix(tuple ^ seed)
}

/// The octet of the address filter that speaks of an address.
#[inline(always)]
pub const fn filter_index(address: Address4) -> usize {
    // Neighbouring addresses must not share octets, and prefixes must not either.
    ((u32::from_ne_bytes(address.0)).wrapping_mul(0x9e37_79b1) >> 16) as usize
}
