//! The order in which one backend asks for slots, and which slots are still free.
//!
//! Most of Maglev's work is spent on the last slots: with `k` of `m` free, finding one takes `m / k`
//! looks. So the walk stops where the free slots are few enough to be compared one by one: how far a
//! slot stands down a permutation is a subtraction and a product modulo `m`. The table is the same,
//! and 65,537 slots over 100 backends take half the time.

use lb_common::Endpoint;

/// Slots of a permutation that are looked at together: one branch the processor cannot foresee for
/// all of them, and not one for each.
const STRIDE: usize = 8;

/// A permutation of `slots` slots: `at`, `at + skip`, `at + 2 skip`, … modulo `slots`, a prime.
pub(super) struct Permutation {
    /// The slot to ask for next.
    at: u32,
    /// `skip`, `2 skip`, … modulo `slots`.
    ahead: [u32; STRIDE],
    /// The inverse of `skip` modulo `slots`, once it was needed; 0 before.
    inverse: u32,
}

/// The slots that nobody has taken, at most `ROOM` of them, a power of two.
pub(super) struct Free<const ROOM: usize> {
    slots: u32,
    left: u32,
    /// What is few: comparing that many costs as much as looking for one.
    few_from: u32,
    /// One octet a slot, 1 while it is free.
    places: Box<[u8; ROOM]>,
    /// The free slots by number, once they are few.
    few: Vec<u32>,
}

impl Permutation {
    pub(super) fn new(endpoint: Endpoint, slots: u32) -> Self {
        let [a, b, c, d] = endpoint.address.0;
        let [e, f] = endpoint.port.0;
        let seed = mix(u64::from_be_bytes([0, 0, a, b, c, d, e, f]));
        let fraction = |half: u64, of: u32| ((half * u64::from(of)) >> 32) as u32;
        let skip = 1 + fraction(seed & 0xffff_ffff, slots - 1);
        let mut next = 0;
        let ahead = [(); STRIDE].map(|()| {
            next = sum(next, skip, slots);
            next
        });
        Self { at: fraction(seed >> 32, slots), ahead, inverse: 0 }
    }

    #[cfg(test)]
    pub(super) fn start_and_skip(&self) -> (u32, u32) {
        (self.at, self.skip())
    }

    fn skip(&self) -> u32 {
        self.ahead[0]
    }

    /// How many slots are asked for before `slot`.
    fn distance(&mut self, slot: u32, slots: u32) -> u32 {
        if self.inverse == 0 {
            self.inverse = inverse(self.skip(), slots);
        }
        let gap = sum(slot, slots - self.at, slots);
        (u64::from(gap) * u64::from(self.inverse) % u64::from(slots)) as u32
    }
}

impl<const ROOM: usize> Free<ROOM> {
    pub(super) fn new(slots: u32) -> Self {
        let mut places = Box::new([0; ROOM]);
        places.iter_mut().take(slots as usize).for_each(|place| *place = 1);
        Self { slots, left: slots, few_from: slots.isqrt() / 2, places, few: Vec::new() }
    }

    /// The first free slot of a permutation, no longer free; `None` when all are taken.
    pub(super) fn take(&mut self, permutation: &mut Permutation) -> Option<u32> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let slot = if self.left > self.slots / 2 {
            self.take_of_many(permutation)
        } else if self.left > self.few_from {
            self.take_of_some(permutation)
        } else {
            self.take_of_few(permutation)?
        };
        *self.place(slot) = 0;
        permutation.at = sum(slot, permutation.skip(), self.slots);
        Some(slot)
    }

    /// The mask proves to the compiler that the place exists.
    fn place(&mut self, slot: u32) -> &mut u8 {
        &mut self.places[slot as usize & (ROOM - 1)]
    }

    /// One slot after the other: every second is free at least.
    fn take_of_many(&mut self, permutation: &mut Permutation) -> u32 {
        while *self.place(permutation.at) == 0 {
            permutation.at = sum(permutation.at, permutation.skip(), self.slots);
        }
        permutation.at
    }

    /// A stride of slots at a time.
    fn take_of_some(&mut self, permutation: &mut Permutation) -> u32 {
        let mut at = permutation.at;
        loop {
            let mut slots = [at; STRIDE];
            let mut free = u32::from(self.places[at as usize & (ROOM - 1)]);
            for (index, slot) in slots.iter_mut().enumerate().skip(1) {
                *slot = sum(at, permutation.ahead[index - 1], self.slots);
                free |= u32::from(self.places[*slot as usize & (ROOM - 1)]) << index;
            }
            if free != 0 {
                return slots[free.trailing_zeros() as usize % STRIDE];
            }
            at = sum(at, permutation.ahead[STRIDE - 1], self.slots);
        }
    }

    /// The slot that stands first in the permutation, of those that are left.
    fn take_of_few(&mut self, permutation: &mut Permutation) -> Option<u32> {
        if self.few.is_empty() {
            self.few = (0..self.slots).filter(|slot| *self.place(*slot) == 1).collect();
        }
        let distances = self.few.iter().map(|slot| permutation.distance(*slot, self.slots));
        let (index, _) = distances.enumerate().min_by_key(|(_, distance)| *distance)?;
        Some(self.few.swap_remove(index))
    }
}

/// `a + b` modulo `modulus`, for `a` below it and `b` at most that.
#[inline(always)]
fn sum(a: u32, b: u32, modulus: u32) -> u32 {
    let sum = a + b;
    // The smaller of the two, where a wrapped one is huge: no branch.
    sum.min(sum.wrapping_sub(modulus))
}

/// The inverse of `value` modulo the prime `modulus`, by Euclid.
fn inverse(value: u32, modulus: u32) -> u32 {
    let (mut old, mut new) = ((i64::from(modulus), 0_i64), (i64::from(value), 1_i64));
    while new.0 != 0 {
        let quotient = old.0 / new.0;
        (old, new) = (new, (old.0 - quotient * new.0, old.1 - quotient * new.1));
    }
    old.1.rem_euclid(i64::from(modulus)) as u32
}

/// SplitMix64 (Steele, Lea, Flood 2014): every bit of an address moves every bit of its permutation.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
