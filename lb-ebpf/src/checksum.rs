//! The Internet checksum, changed in step with what is rewritten, or made anew.
//!
//! RFC 1624, equation 3: HC' = ~(~HC + ~m + m'). One's complement sums do not depend on the order of
//! octets (RFC 1071, section 2), so all words are taken as the machine has them and never swapped.

use lb_common::{Address4, Port};

use super::header::Word;

/// What a rewrite adds to the complement of a checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u32);

impl Delta {
    /// One 16-bit word became another.
    #[inline(always)]
    pub fn word(self, old: [u8; 2], new: [u8; 2]) -> Self {
        // At most 2 × 0xffff a word: a u32 holds more words than any header has.
        Self(self.0.wrapping_add((!u16::from_ne_bytes(old)) as u32).wrapping_add(u16::from_ne_bytes(new) as u32))
    }

    /// An address became another.
    #[inline(always)]
    pub fn address(self, Address4([a, b, c, d]): Address4, Address4([e, f, g, h]): Address4) -> Self {
        self.word([a, b], [e, f]).word([c, d], [g, h])
    }

    /// A port became another.
    #[inline(always)]
    pub fn port(self, old: Port, new: Port) -> Self {
        self.word(old.0, new.0)
    }

    /// The checksum after the rewrite.
    #[inline(always)]
    pub fn apply(self, Word(checksum): Word) -> Word {
        let sum = self.0.wrapping_add((!u16::from_ne_bytes(checksum)) as u32);
        Word((!fold(sum)).to_ne_bytes())
    }
}

/// The one's complement sum of words, to be folded.
#[inline(always)]
pub fn sum<const N: usize>(octets: &[u8; N]) -> u32 {
    let mut total = 0u32;
    for pair in octets.chunks_exact(2) {
        if let [a, b] = pair {
            total = total.wrapping_add(u16::from_ne_bytes([*a, *b]) as u32);
        }
    }
    total
}

/// The checksum of words that were summed.
#[inline(always)]
pub fn finish(sum: u32) -> Word {
    Word((!fold(sum)).to_ne_bytes())
}

/// Twice, because the first fold can carry again.
#[inline(always)]
fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff).wrapping_add(sum >> 16);
    (sum.wrapping_add(sum >> 16)) as u16
}
