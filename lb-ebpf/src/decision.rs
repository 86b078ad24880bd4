//! What is done with a packet that belongs to no live flow, as one number: a function of its own can return no more on BPF.

use lb_common::{BackendId, Reason};

use super::verifier::masked;

/// A backend to send the packet to in the low half, the reason in the high half.
pub type Decision = u32;

/// The packet goes to a backend.
#[inline(always)]
pub const fn goes_to(id: BackendId) -> Decision {
    ends(Reason::ToBackend) | id as u32
}

/// The packet ends for a reason.
#[inline(always)]
pub const fn ends(reason: Reason) -> Decision {
    (reason as u32) << 16
}

/// Whether the packet goes to a backend.
#[inline(always)]
pub const fn is_sent(decision: Decision) -> bool {
    decision >> 16 == Reason::ToBackend as u32
}

/// The backend that it goes to.
#[inline(always)]
pub const fn target_of(decision: Decision) -> BackendId {
    decision as BackendId
}

/// Why it ends.
#[inline(always)]
pub fn reason_of(decision: Decision) -> Reason {
    // The mask hides from the compiler what it knows, and the verifier does not.
    Reason::ALL.get(masked::<0x3f>((decision >> 16) as u64)).copied().unwrap_or(Reason::Inconsistent)
}
