//! The object that the kernel runs: its programs, and nothing of what they decide.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod calls;
#[cfg(target_arch = "bpf")]
mod kernel;
#[cfg(target_arch = "bpf")]
mod maps;

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::{
        bindings::{xdp_action, xdp_md},
        helpers::bpf_jiffies64,
        macros::xdp,
        programs::XdpContext,
    };
    use lb_common::Reason;
    use lb_ebpf::{
        forward::{First, first, from_backend, from_client, past},
        frame::Frame as _,
        parse::{FROM_BACKEND, TO_BACKEND, TO_VIP, glance},
        table::Tables as _,
    };

    use crate::{kernel, maps::Maps};

    /// The balancer, attached to every NIC.
    #[xdp]
    fn tidegate(context: XdpContext) -> u32 {
        let hints = glance(&mut kernel::Packet::new(&context), &Maps);
        if hints == 0 {
            Maps.count(Reason::Foreign);
            return xdp_action::XDP_PASS;
        }
        let mut end = quick(context.ctx, hints);
        if end & UNKNOWN != 0 {
            end = closer(context.ctx, end as u8);
        }
        let (verdict, reason) = kernel::unpacked(end);
        Maps.count(reason);
        if matches!(reason, Reason::Inconsistent | Reason::TupleConflict) {
            kernel::report(&context, reason);
        }
        kernel::action(verdict)
    }

    /// The packet belongs to no live flow; what is known of it is in the lowest octet.
    const UNKNOWN: u64 = 1 << 63;

    /// Most packets; a function of its own, so that its stack is free again for the others.
    #[inline(never)]
    fn quick(context: *mut xdp_md, hints: u8) -> u64 {
        match first(&mut kernel::Packet::from(context), &Maps, hints) {
            First::Ended(end) => kernel::packed(end),
            First::Unknown(hints) => UNKNOWN | hints as u64,
        }
    }

    // What follows are global functions: the verifier looks at each by itself, once, and not once more for
    // every way that leads to it. (Linux 5.6, 51c39bb1d5d1.)

    #[inline(always)]
    fn closer(context: *mut xdp_md, hints: u8) -> u64 {
        let mut end = 0;
        if hints & TO_VIP != 0 {
            end = tidegate_from_client(context, hints);
        }
        if hints & FROM_BACKEND != 0 && end == 0 {
            end = tidegate_from_backend(context, hints);
        }
        if hints & TO_BACKEND != 0 && end == 0 {
            end = tidegate_past(context);
        }
        end
    }

    /// A packet of no live flow for an address that may be a VIP.
    #[unsafe(no_mangle)]
    #[inline(never)]
    extern "C" fn tidegate_from_client(context: *mut xdp_md, hints: u8) -> u64 {
        kernel::packed(from_client(&mut kernel::Packet::from(context), &Maps, hints))
    }

    /// A packet of no live flow from an address that may be a backend's.
    #[unsafe(no_mangle)]
    #[inline(never)]
    extern "C" fn tidegate_from_backend(context: *mut xdp_md, hints: u8) -> u64 {
        kernel::packed(from_backend(&mut kernel::Packet::from(context), &Maps, hints))
    }

    /// A packet of no live flow for an address that may be a backend's.
    #[unsafe(no_mangle)]
    #[inline(never)]
    extern "C" fn tidegate_past(context: *mut xdp_md) -> u64 {
        kernel::packed(past(&mut kernel::Packet::from(context), &Maps))
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
