//! What the compiler must not know and the verifier must see.
//!
//! The compiler drops a mask that it can prove needless, and unrolls a loop whose length it knows;
//! the verifier cannot prove the one and pays for the other. One instruction of assembly, which the
//! compiler does not read and the verifier does, keeps both. On the host these are plain arithmetic.

/// `N`, as a number that the compiler does not know: the bound of a loop that is not to be unrolled.
#[inline(always)]
pub fn times<const N: u32>() -> u32 {
    #[cfg(target_arch = "bpf")]
    {
        let number: u64;
        // SAFETY: one instruction that sets one register.
        unsafe { core::arch::asm!("{0} = {1}", out(reg) number, const N, options(pure, nomem, nostack)) };
        number as u32
    }
    #[cfg(not(target_arch = "bpf"))]
    N
}

/// `number & MASK`, even where the compiler knows that `number` has no other bits.
#[inline(always)]
pub fn masked<const MASK: u32>(number: u64) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut number = number;
        // SAFETY: one instruction that changes one register.
        unsafe { core::arch::asm!("{0} &= {1}", inout(reg) number, const MASK, options(pure, nomem, nostack)) };
        number as usize
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        (number & MASK as u64) as usize
    }
}
