//! A backend as the packet path knows it: where it is and how a frame gets there.

use super::{Address4, Mac, Port, Timeouts, shared};

/// Which backend of which service: an index into `BACKENDS` and `TRAFFIC`. Zero is nobody.
pub type BackendId = u16;

shared! {
    /// Where a backend listens and the next hop towards it.
    ///
    /// The next hop stands here and not in the flows, so that a changed MAC is one write.
    pub struct Backend {
        /// Where the backend listens.
        pub address: Address4,
        /// The port it listens on, not always the VIP's.
        pub port: Port,
        /// [`Backend::PRESENT`] and its like.
        pub flags: u16,
        /// The NIC towards the next hop: an index into `NICS`.
        pub nic: u16,
        /// The service that this backend serves: an index into `SERVICE_NAMES`.
        pub service: u16,
        /// The next hop's Ethernet address.
        pub hop: Mac,
        /// Always zero.
        pub zero: [u8; 2],
        /// When its flows are over; the element of id 0 has those of flows that no service has.
        pub timeouts: Timeouts,
    }

    /// How fast a backend answers, as the packet path sees it. CPUs that take a time at the same instant
    /// may lose one.
    pub struct Times {
        /// Microseconds, times 16: the average that each time moves by an eighth of the difference.
        pub average: u32,
        /// How many times were taken, modulo 2³².
        pub count: u32,
        /// Microseconds, all together.
        pub sum: u64,
    }

    /// What went to a backend (index 0) and came back from it (index 1), counted per CPU.
    pub struct Traffic {
        /// Packets.
        pub packets: [u64; 2],
        /// Octets of the IP packets, headers included.
        pub bytes: [u64; 2],
    }
}

impl Times {
    /// With one more time, in microseconds.
    #[inline(always)]
    pub const fn with(self, micros: u32) -> Self {
        // What is over two minutes counts as two minutes, so that sixteenths fit.
        let most = 1 << 27;
        let sixteenths = (if micros < most { micros } else { most }) << 4;
        let average = match self.count {
            0 => sixteenths,
            // An eighth of the difference, by shifts alone.
            _ => self.average.wrapping_sub(self.average >> 3).wrapping_add(sixteenths >> 3),
        };
        Self { average, count: self.count.wrapping_add(1), sum: self.sum.wrapping_add(micros as u64) }
    }
}

impl Backend {
    /// The id is in use.
    pub const PRESENT: u16 = 1;
    /// `nic` and `hop` are known. Without it packets go through the kernel, which finds the neighbour.
    pub const REACHABLE: u16 = 2;
    /// It takes new flows: it stands in its service's table.
    pub const ELIGIBLE: u16 = 4;
    /// The next packet of each of its flows is answered with RST.
    pub const RESETS: u16 = 8;
}
