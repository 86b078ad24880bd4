//! A frame on the heap.

use std::{boxed::Box, vec::Vec};

use crate::frame::{Frame, NoRoom};

/// A frame on the heap, as it came in on a NIC.
pub struct Heap {
    octets: Box<[u16]>,
    start: *mut u8,
    length: usize,
    ingress: u32,
}

impl Heap {
    /// A copy of `octets` that came in on `ingress`.
    pub fn new(octets: &[u8], ingress: u32) -> Self {
        // Words, so that the start is even; the pointer is taken once and all access derives from it.
        let mut words = std::vec![0u16; octets.len().div_ceil(2)].into_boxed_slice();
        let start = words.as_mut_ptr().cast::<u8>();
        let mut heap = Self { octets: words, start, length: octets.len(), ingress };
        heap.start = heap.octets.as_mut_ptr().cast();
        // SAFETY: the allocation holds at least as many octets.
        unsafe { heap.start.copy_from_nonoverlapping(octets.as_ptr(), octets.len()) };
        heap
    }

    /// The octets now.
    pub fn octets(&self) -> Vec<u8> {
        // SAFETY: `length` octets from `start` are ours and were written by `new`.
        unsafe { core::slice::from_raw_parts(self.start, self.length) }.to_vec()
    }
}

// SAFETY: the allocation lives as long as `self`, only `cut` moves its end, and words start at even addresses.
unsafe impl Frame for Heap {
    fn start(&self) -> *mut u8 {
        self.start
    }

    fn end(&self) -> *mut u8 {
        self.start.wrapping_add(self.length)
    }

    fn cut(&mut self, length: u16) -> Result<(), NoRoom> {
        // The kernel leaves no frame without an Ethernet header and does not grow into nothing.
        if length < 14 || length as usize > self.length {
            return Err(NoRoom);
        }
        self.length = length as usize;
        Ok(())
    }

    fn ingress(&self) -> u32 {
        self.ingress
    }
}
