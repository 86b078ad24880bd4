//! One connection as userspace sees it, from either table: who, how far, how much, and how it ended.

use std::{net::SocketAddrV4, time::Duration};

use lb_common::{
    Address4, BackendId, Endpoint, Flow, Half, Port, ended, flow_hash, idle, kind, octets, protocol, stage, state,
};

use crate::model::LogConnections;

/// A connection under way or just over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who opened it.
    pub client: SocketAddrV4,
    /// What it was opened to.
    pub vip: SocketAddrV4,
    /// Who serves it.
    pub backend: SocketAddrV4,
    /// The backend's id, 0 for one that was opened directly.
    pub id: BackendId,
    /// How far it is.
    pub state: State,
    /// Since its first packet.
    pub age: Duration,
    /// Since its last packet; of a handshake, since the first SYN to this backend.
    pub idle: Duration,
    /// From the client (0) and to it (1).
    pub packets: [u64; 2],
    /// Octets of IP packets, from the client (0) and to it (1).
    pub bytes: [u64; 2],
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its client has not proved itself yet.
    Handshake,
    /// First seen in mid-life, and its backend has not gone on with it yet.
    MidLife,
    /// Both sides speak.
    Established,
    /// One side has finished.
    HalfClosed,
    /// Both have.
    Closing,
    /// One side broke off.
    Reset,
    /// Opened directly to the backend's own address, past every service.
    Direct,
}

/// A connection that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// As it was last.
    pub entry: Entry,
    /// Why it is.
    pub how: How,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// Both sides finished.
    Finished,
    /// The client broke off.
    ResetByClient,
    /// The backend broke off, or the gateway for it.
    ResetByBackend,
    /// Nobody spoke for too long.
    Idle,
    /// The backend refused.
    Refused,
    /// The backend never answered.
    NoAnswer,
    /// The backend answered, and the client never went on.
    Unfinished,
}

impl Ending {
    /// Whether its line is wanted. A share is chosen by the client's endpoint, the same on every gateway.
    pub fn is_wanted(&self, wanted: LogConnections) -> bool {
        match wanted {
            LogConnections::Off => false,
            LogConnections::Errors => self.how.is_error(),
            LogConnections::All => true,
            LogConnections::OneIn(many) => {
                let client = self.entry.client;
                let hash = flow_hash((*client.ip()).into(), client.port().into(), protocol::TCP, 0);
                hash.is_multiple_of(many.get().into())
            }
        }
    }
}

impl State {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::MidLife => "mid-life",
            Self::Established => "established",
            Self::HalfClosed => "half-closed",
            Self::Closing => "closing",
            Self::Reset => "reset",
            Self::Direct => "direct",
        }
    }

    /// Whether it counts as a connection of a service: what has ended and what no service has does not.
    pub fn is_counted(self) -> bool {
        matches!(self, Self::Handshake | Self::MidLife | Self::Established | Self::HalfClosed)
    }

    /// Of a live flow.
    pub(super) fn of_flow(flow: &Flow) -> Self {
        let [client, backend] = flow.state;
        match () {
            () if flow.kind & kind::DIRECT != 0 => Self::Direct,
            () if (client | backend) & state::RESET != 0 => Self::Reset,
            () if ended(flow.state) => Self::Closing,
            () if (client | backend) & state::FIN != 0 => Self::HalfClosed,
            () => Self::Established,
        }
    }

    /// Of an entry of the half-open table.
    pub(super) fn of_half(half: &Half) -> Self {
        match half.kind {
            kind if kind & kind::DIRECT != 0 => Self::Direct,
            kind if kind & kind::MIDLIFE != 0 => Self::MidLife,
            _ => Self::Handshake,
        }
    }
}

impl How {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::ResetByClient => "reset-by-client",
            Self::ResetByBackend => "reset-by-backend",
            Self::Idle => "idle",
            Self::Refused => "refused",
            Self::NoAnswer => "no-answer",
            Self::Unfinished => "unfinished",
        }
    }

    /// Whether somebody may want to know why.
    pub fn is_error(self) -> bool {
        self != Self::Finished
    }

    /// Of a live flow that has ended, or that was idle for too long.
    pub(super) fn of_flow(flow: &Flow) -> Self {
        let [client, backend] = flow.state;
        match () {
            () if client & state::RESET != 0 => Self::ResetByClient,
            () if backend & state::RESET != 0 => Self::ResetByBackend,
            () if ended(flow.state) => Self::Finished,
            () => Self::Idle,
        }
    }

    /// Of a handshake that came to nothing.
    pub(super) fn of_half(half: &Half) -> Self {
        match half.state[1] {
            stage if stage & stage::REFUSED != 0 => Self::Refused,
            stage if stage & (stage::ANSWERED | stage::ENDED) == stage::ANSWERED | stage::ENDED => Self::ResetByBackend,
            stage if stage & stage::ANSWERED != 0 => Self::Unfinished,
            _ => Self::NoAnswer,
        }
    }
}

/// What makes durations of jiffies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// Jiffies, low half.
    pub(super) now: u32,
    /// Jiffies a second.
    pub(super) hertz: u32,
}

impl Clock {
    fn since(self, then: u32) -> Duration {
        Duration::from_secs(idle(self.now, then).into()) / self.hertz.max(1)
    }
}

impl Entry {
    /// Of a live flow.
    pub(super) fn of_flow(flow: &Flow, clock: Clock) -> Self {
        Self {
            client: socket(flow.client, flow.client_port),
            vip: socket(flow.vip, flow.vip_port),
            backend: socket(flow.backend, flow.backend_port),
            id: flow.backend_id,
            state: State::of_flow(flow),
            age: clock.since(flow.created),
            idle: clock.since(flow.seen),
            packets: flow.packets.map(u64::from),
            bytes: flow.bytes.map(octets),
        }
    }

    /// Of an entry of the half-open table.
    pub(super) fn of_half(half: &Half, clock: Clock) -> Self {
        Self {
            client: socket(half.client, half.client_port),
            vip: socket(half.vip, half.vip_port),
            backend: socket(half.backend, half.backend_port),
            id: half.backend_id,
            state: State::of_half(half),
            age: clock.since(half.created),
            idle: clock.since(half.attempt),
            packets: half.packets.map(u64::from),
            bytes: half.bytes.map(u64::from),
        }
    }
}

fn socket(address: Address4, port: Port) -> SocketAddrV4 {
    Endpoint::tcp(address, port).into()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use bytemuck::Zeroable as _;

    use super::*;

    fn flow(state: [u8; 2], kind: u8) -> Flow {
        Flow { state, kind, ..Flow::zeroed() }
    }

    #[test]
    fn states_are_what_both_sides_have_shown() {
        let of = |state, kind| State::of_flow(&flow(state, kind));
        let (spoke, fin) = (state::SPOKE, state::SPOKE | state::FIN);
        assert_eq!(of([spoke, spoke], 0), State::Established);
        assert_eq!([of([fin, spoke], 0), of([spoke, fin], 0)], [State::HalfClosed; 2]);
        assert_eq!(of([fin, fin], 0), State::Closing);
        assert_eq!([of([spoke | state::RESET, fin], 0), of([0, state::RESET], 0)], [State::Reset; 2]);
        assert_eq!(of([fin, fin], kind::DIRECT), State::Direct);
        let of = |kind| State::of_half(&Half { kind, ..Half::zeroed() });
        assert_eq!(
            [of(kind::COUNTED), of(kind::MIDLIFE), of(kind::DIRECT | kind::MIDLIFE)],
            [State::Handshake, State::MidLife, State::Direct]
        );
    }

    #[test]
    fn an_ending_names_who_ended_it() {
        let of = |state| How::of_flow(&flow(state, 0));
        assert_eq!(of([state::RESET, state::FIN]), How::ResetByClient);
        assert_eq!(of([state::FIN, state::RESET]), How::ResetByBackend);
        assert_eq!((of([state::FIN; 2]), of([state::FIN, 0])), (How::Finished, How::Idle));
        let of = |stage| How::of_half(&Half { state: [0, stage], ..Half::zeroed() });
        assert_eq!((of(0), of(stage::MOVED)), (How::NoAnswer, How::NoAnswer));
        assert_eq!((of(stage::ANSWERED), of(stage::REFUSED | stage::MOVED)), (How::Unfinished, How::Refused));
        assert_eq!(
            (of(stage::ANSWERED | stage::ENDED), of(stage::REFUSED | stage::ENDED)),
            (How::ResetByBackend, How::Refused)
        );
    }

    #[test]
    fn what_is_wanted_of_endings() {
        let ending = |how, port| {
            let flow = Flow { client: Address4([192, 0, 2, 7]), client_port: Port::from(port), ..flow([0; 2], 0) };
            Ending { entry: Entry::of_flow(&flow, Clock { now: 0, hertz: 1000 }), how }
        };
        let all = [How::Finished, How::ResetByClient, How::ResetByBackend, How::Idle, How::Refused, How::NoAnswer];
        let wanted = |wanted| all.into_iter().filter(|how| ending(*how, 1).is_wanted(wanted)).collect::<Vec<_>>();
        assert_eq!(wanted(LogConnections::Off), []);
        assert_eq!(wanted(LogConnections::Errors), all[1..]);
        assert_eq!(wanted(LogConnections::All), all);
        let share = |many| LogConnections::OneIn(NonZeroU32::new(many).unwrap());
        let of = |many| (0..20_000).filter(|port| ending(How::Finished, *port).is_wanted(share(many))).count();
        assert_eq!(of(1), 20_000);
        assert!((1800..2200).contains(&of(10)), "{}", of(10));
    }

    #[test]
    fn times_are_of_the_clock_and_octets_without_what_stands_above_them() {
        let clock = Clock { now: 500, hertz: 250 };
        let flow = Flow { seen: 0_u32.wrapping_sub(250), created: 510, bytes: [7, 7 << 48 | 9], ..Flow::zeroed() };
        let entry = Entry::of_flow(&flow, clock);
        assert_eq!((entry.idle, entry.age), (Duration::from_secs(3), Duration::ZERO), "the near future is now");
        assert_eq!(entry.bytes, [7, 9]);
        let half = Half { created: 0, attempt: 250, packets: [3, 0], ..Half::zeroed() };
        let entry = Entry::of_half(&half, clock);
        assert_eq!((entry.age, entry.idle, entry.packets), (Duration::from_secs(2), Duration::from_secs(1), [3, 0]));
    }
}
