//! The object that the kernel runs: its programs, and nothing of what they decide.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod kernel;
#[cfg(target_arch = "bpf")]
mod maps;

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::{bindings::xdp_action, helpers::bpf_jiffies64, macros::xdp, programs::XdpContext};
    use lb_common::Reason;
    use lb_ebpf::{forward::forward, frame::Frame as _};

    use crate::{kernel, maps::Maps};

    /// The balancer, attached to every NIC.
    #[xdp]
    fn tidegate(context: XdpContext) -> u32 {
        let (verdict, reason) = forward(&mut kernel::Packet::new(&context), &Maps);
        if matches!(reason, Reason::Inconsistent | Reason::TupleConflict) {
            kernel::report(&context, reason);
        }
        kernel::action(verdict)
    }

    /// Writes jiffies into the first eight octets: run by the controller to learn the datapath's clock, never attached.
    #[xdp]
    fn clock(context: XdpContext) -> u32 {
        if let Some(first) = kernel::Packet::new(&context).view::<[u8; 8]>(0) {
            // SAFETY: takes nothing and touches nothing.
            *first = unsafe { bpf_jiffies64() }.to_le_bytes();
        }
        xdp_action::XDP_PASS
    }

    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    // Helpers such as the spin lock are for GPL-compatible programs only (kernel, `gpl_only`).
    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}
