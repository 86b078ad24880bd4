//! Whatever arrives leaves with one verdict and one counted reason.

use lb_common::{Action, Reason};
use lb_ebpf::{
    forward::Verdict,
    testing::{Floor as _, Memory, Strays},
};

const PACKETS: usize = 100_000;

#[test]
fn any_octets_leave_with_a_verdict_and_one_counted_reason() {
    let mut memory = Memory::new(Strays::world());
    for (number, (frame, nic)) in Strays::new(1).take(PACKETS).enumerate() {
        let before = memory.reasons();
        let (verdict, out) = memory.run(&frame, nic);
        let after = memory.reasons();
        let moved: Vec<Reason> = Reason::ALL
            .iter()
            .copied()
            .filter(|reason| after[*reason as usize] != before[*reason as usize] && reason.action() != Action::Note)
            .collect();
        let [reason] = moved[..] else { panic!("packet {number} has the reasons {moved:?}: {frame:02x?}") };
        assert_eq!(after[reason as usize], before[reason as usize] + 1);
        let fits = match reason.action() {
            Action::Pass => verdict == Verdict::Pass && out == frame,
            Action::Drop => verdict == Verdict::Drop,
            Action::Answer => verdict == Verdict::Transmit && out.len() == 54,
            Action::Forward => matches!(verdict, Verdict::Transmit | Verdict::Redirect(_)) && out.len() == frame.len(),
            Action::Note => false,
        };
        assert!(fits, "packet {number}: {reason:?} with {verdict:?}\n in  {frame:02x?}\n out {out:02x?}");
        assert_ne!(reason, Reason::Inconsistent, "packet {number}: {frame:02x?}");
    }
    let reasons = memory.reasons();
    let unseen: Vec<_> = Reason::ALL.iter().filter(|reason| reasons[**reason as usize] == 0).collect();
    // Neighbours are known, NICs are there, and the table is large in this world.
    assert_eq!(unseen, [&Reason::ToBackendByKernel, &Reason::Inconsistent, &Reason::FlowEvicted]);
}
