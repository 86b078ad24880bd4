//! The kernel's packet as a frame, the verdict as its return value, and the rare line of log.

use core::ptr;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{xdp_action, xdp_md},
    helpers::{bpf_jiffies64, bpf_xdp_adjust_tail},
    programs::XdpContext,
};
use aya_log_ebpf::warn;
use lb_common::Reason;
use lb_ebpf::{
    decision::reason_of,
    forward::{End, Verdict},
    frame::{Frame, NoRoom},
};

use crate::maps::DEVICES;

/// The packet of one run of the program.
pub(crate) struct Packet {
    context: *mut xdp_md,
}

impl Packet {
    #[inline(always)]
    pub(crate) fn new(context: &XdpContext) -> Self {
        Self { context: context.as_ptr().cast() }
    }
}

// SAFETY: the kernel keeps `data..data_end` mapped until we return or move the tail, and `cut` takes `&mut self`.
unsafe impl Frame for Packet {
    #[inline(always)]
    fn start(&self) -> *mut u8 {
        // SAFETY: the context is valid for the whole run. Volatile, or the compiler would narrow the load,
        // which the verifier refuses.
        unsafe { ptr::read_volatile(&raw const (*self.context).data) as usize as *mut u8 }
    }

    #[inline(always)]
    fn end(&self) -> *mut u8 {
        // SAFETY: as in `start`.
        unsafe { ptr::read_volatile(&raw const (*self.context).data_end) as usize as *mut u8 }
    }

    #[inline(always)]
    fn cut(&mut self, length: u16) -> Result<(), NoRoom> {
        let delta = (length as i32).wrapping_sub(self.length() as i32);
        // SAFETY: the context is valid; the kernel checks the rest.
        match unsafe { bpf_xdp_adjust_tail(self.context, delta) } {
            0 => Ok(()),
            _ => Err(NoRoom),
        }
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        // SAFETY: as in `start`.
        unsafe { ptr::read_volatile(&raw const (*self.context).ingress_ifindex) }
    }
}

impl From<*mut xdp_md> for Packet {
    #[inline(always)]
    fn from(context: *mut xdp_md) -> Self {
        Self { context }
    }
}

/// An end as one number, for functions that can return no more: the reason, the NIC's index, and what is
/// done. A packet that is none of ours is zero.
#[inline(always)]
pub(crate) fn packed((verdict, reason): End) -> u64 {
    let (action, nic) = match verdict {
        Verdict::Pass => (0, 0),
        Verdict::Drop => (1, 0),
        Verdict::Transmit => (2, 0),
        Verdict::Redirect(nic) => (3, nic),
    };
    action << 32 | (reason as u64) << 16 | nic as u64
}

/// The end that was [`packed`].
#[inline(always)]
pub(crate) fn unpacked(end: u64) -> End {
    let verdict = match end >> 32 {
        0 => Verdict::Pass,
        1 => Verdict::Drop,
        2 => Verdict::Transmit,
        _ => Verdict::Redirect(end as u16),
    };
    (verdict, reason_of(end as u32))
}

/// What the kernel does with the packet.
#[inline(always)]
pub(crate) fn action(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
        Verdict::Transmit => xdp_action::XDP_TX,
        // A NIC that has gone is no way out: the packet is dropped, as on a cable that was pulled.
        Verdict::Redirect(nic) => DEVICES.redirect(nic as u32, xdp_action::XDP_DROP as u64).unwrap_or_else(|drop| drop),
    }
}

/// When the last line was written, in jiffies: one a second for the whole gateway is enough to be seen.
static mut WRITTEN: u64 = 0;
/// At least a second between two lines, whatever HZ is (1,000 at most).
const QUIET: u64 = 1000;

/// Says that something rare happened, at most once in [`QUIET`] jiffies.
#[inline(never)]
pub(crate) fn report(context: &XdpContext, reason: Reason) {
    // SAFETY: two CPUs that write at once cost a second line, nothing more.
    unsafe {
        let now = bpf_jiffies64();
        if now.wrapping_sub(ptr::read_volatile(&raw const WRITTEN)) < QUIET {
            return;
        }
        ptr::write_volatile(&raw mut WRITTEN, now);
    }
    match reason {
        Reason::TupleConflict => {
            warn!(context, "a client's port is in use on every backend tried, through another VIP")
        }
        _ => warn!(context, "the maps contradict each other: a packet was dropped"),
    }
}
