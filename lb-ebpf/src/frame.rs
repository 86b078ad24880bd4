//! The octets of one packet, and the only `unsafe` of the packet logic.

use bytemuck::Pod;

/// The tail of the frame cannot be moved there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// One packet, from the first octet of its Ethernet header, and the NIC that it came in on.
///
/// # Safety
///
/// `start()..end()` is valid for reads and writes, and moves only in `cut`; `start()` is even.
pub unsafe trait Frame {
    /// Where the Ethernet header starts.
    fn start(&self) -> *mut u8;

    /// One past the last octet.
    fn end(&self) -> *mut u8;

    /// Leaves the first `length` octets of the frame and takes the rest away.
    fn cut(&mut self, length: u16) -> Result<(), NoRoom>;

    /// The kernel's number of the NIC that the packet came in on.
    fn ingress(&self) -> u32;

    /// How many octets there are.
    #[inline(always)]
    fn length(&self) -> usize {
        (self.end() as usize).wrapping_sub(self.start() as usize)
    }

    /// The octets at `offset`, seen as a `T`.
    ///
    /// The verifier wants `offset` constant or bounded by a mask: bound it before it comes here. It is
    /// even: every header is a whole number of 16-bit words long.
    #[inline(always)]
    fn view<T: Pod>(&mut self, offset: usize) -> Option<&mut T> {
        const { assert!(align_of::<T>() <= 2) };
        debug_assert!(offset % 2 == 0, "headers stand at even offsets");
        let start = self.start().wrapping_add(offset);
        // The verifier learns the packet's bounds from this comparison and from no other.
        if start.wrapping_add(size_of::<T>()) > self.end() {
            return None;
        }
        // SAFETY: in bounds, aligned to two, any octets are a `T`; `&mut self` keeps it the only view.
        Some(unsafe { &mut *start.cast() })
    }
}
