//! The packet path without a kernel: heap frames, memory tables, packets and cases.
//!
//! A [`Case`] is a small world and packets that arrive in it, each with the verdict, the octets and the
//! counters that must come of it. A [`Floor`] is where it is played: [`Memory`] here, the kernel's
//! maps and `BPF_PROG_TEST_RUN` in `lb-userspace/tests/kernel.rs`. [`cases`] is the list for all floors.

pub mod cases;
mod floor;
mod heap;
mod memory;
mod packet;
mod stray;

pub use floor::{Act, Case, Expected, Floor, World, endpoint, play};
pub use heap::Heap;
pub use memory::Memory;
pub use packet::{NIC_A, NIC_B, ROUTER_A, TcpPacket, checksum, mac_of, mac_of_address, tcp};
pub use stray::Strays;
