//! Every way a packet can end, in one list: counters, metrics, tests and the README come from it.

/// What is done with the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes on untouched, to the gateway's own stack.
    Pass,
    /// It leaves by a NIC, rewritten.
    Forward,
    /// It becomes its own answer.
    Answer,
    /// It is gone.
    Drop,
    /// No end of a packet: something that happened on its way, counted beside the end.
    Note,
}

macro_rules! reasons {
    ($($(#[doc = $help:literal])+ $name:ident $label:literal => $action:ident,)*) => {
        /// Why a packet ended as it did. Each packet is counted under exactly one reason that is not a note.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Reason { $($(#[doc = $help])+ $name,)* }

        impl Reason {
            /// All of them, in the order of their counters.
            pub const ALL: &[Reason] = &[$(Reason::$name,)*];

            /// The name in metrics and tables.
            pub const fn label(self) -> &'static str {
                match self { $(Reason::$name => $label,)* }
            }

            /// What it means, for people.
            pub const fn help(self) -> &'static str {
                match self { $(Reason::$name => concat!($($help),+).trim_ascii(),)* }
            }

            /// What becomes of the packet.
            pub const fn action(self) -> Action {
                match self { $(Reason::$name => Action::$action,)* }
            }
        }
    };
}

reasons! {
    /// Not a packet of any service or backend.
    Foreign "foreign" => Pass,
    /// Between a client and a backend that talk directly, past every service.
    Direct "direct" => Pass,
    /// From a backend to the gateway itself: an answer to a probe.
    ToGateway "to_gateway" => Pass,
    /// From the client, sent to its backend.
    ToBackend "to_backend" => Forward,
    /// From the client, rewritten and left to the kernel's routing, because the backend's neighbour is not known yet.
    ToBackendByKernel "to_backend_by_kernel" => Forward,
    /// From the backend, sent to its client.
    ToClient "to_client" => Forward,
    /// No backend of the service is up: answered with RST.
    NoBackendReset "no_backend_reset" => Answer,
    /// Its backend is down or has drained for long enough, and its flows are to end: answered with RST.
    BackendReset "backend_reset" => Answer,
    /// A SYN-ACK of a backend that was too late, so that its client was sent to another: answered with RST.
    LateAnswer "late_answer" => Answer,
    /// To an announced VIP, on a TCP port that no service has: answered with RST.
    UnservedReset "unserved_reset" => Answer,
    /// To an announced VIP, neither for a service nor ICMP, and not to be answered.
    Unserved "unserved" => Drop,
    /// A handshake that a backend refused: its RST is kept from the client, whose next SYN goes to another.
    Refused "refused" => Drop,
    /// `deny` or `allow` keeps this client away.
    Denied "denied" => Drop,
    /// More new connections than `limits.rate`.
    RateLimited "rate_limited" => Drop,
    /// More connections of this client than `limits.per_source`.
    SourceLimited "source_limited" => Drop,
    /// No backend of the service is up, and the packet cannot be answered.
    NoBackend "no_backend" => Drop,
    /// Shorter than its own headers say.
    Truncated "truncated" => Drop,
    /// The IPv4 header length, total length or TCP data offset contradicts the packet.
    BadHeader "bad_header" => Drop,
    /// A fragment: one that is not the first has no ports to choose a backend by.
    Fragment "fragment" => Drop,
    /// Its time to live ends here.
    TtlExpired "ttl_expired" => Drop,
    /// From a backend's port to a client, of no flow that we know: sent on, it would reset a living connection.
    OrphanReply "orphan_reply" => Drop,
    /// The client already talks from this port to every backend tried, through another VIP.
    TupleConflict "tuple_conflict" => Drop,
    /// The tables of the program contradict each other; a defect, or maps that someone else wrote.
    Inconsistent "inconsistent" => Drop,
    /// A handshake, or a flow in mid-life, was noted in the half-open table.
    HalfOpened "half_opened" => Note,
    /// One of them made room for a new one before it was over.
    HalfEvicted "half_evicted" => Note,
    /// A handshake went to another backend, because the one before was silent or refused.
    Redispatched "redispatched" => Note,
    /// A flow was taken into the live table.
    FlowCreated "flow_created" => Note,
    /// A live flow, the one idle longest of its set of eight, made room for a new one.
    FlowEvicted "flow_evicted" => Note,
}

impl Reason {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();
}
