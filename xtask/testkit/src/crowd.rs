//! Connections by the hundred thousand, which cost the machine nothing but their packets.
//!
//! No kernel knows of them: both ends are played here, by frames on two links. A client's segment is taken
//! from the backends' link and answered there. What a link loses is sent again, as TCP would.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use anyhow::{Result, ensure};

use crate::{link::Mac, segment::Segment, wire::Wire};

/// Packets under way at one time: a veth keeps 256.
const BATCH: usize = 128;
/// How long to wait for one that may be lost.
const PATIENCE: Duration = Duration::from_millis(100);
/// Times that each is tried.
const ATTEMPTS: usize = 20;
/// The first sequence numbers of both ends.
const ISN: u32 = 1000;

/// One end of the crowd: a link, its own Ethernet address and the gateway's.
#[derive(Debug)]
pub struct End {
    /// The link.
    pub wire: Wire,
    /// The Ethernet address of this end.
    pub mac: Mac,
    /// The gateway's.
    pub gateway: Mac,
}

/// Many connections to one VIP.
#[derive(Debug)]
pub struct Crowd {
    clients: End,
    backends: End,
    vip: SocketAddrV4,
    /// The backend of each client.
    homes: HashMap<SocketAddrV4, SocketAddrV4>,
}

impl Crowd {
    /// With nobody in it.
    pub fn new(clients: End, backends: End, vip: SocketAddrV4) -> Self {
        Self { clients, backends, vip, homes: HashMap::new() }
    }

    /// Connects these clients.
    pub fn join(&mut self, clients: &[SocketAddrV4]) -> Result<()> {
        for batch in clients.chunks(BATCH) {
            let mut left = batch.to_vec();
            for _ in 0..ATTEMPTS {
                self.shake(&left)?;
                left.retain(|client| !self.homes.contains_key(client));
                if left.is_empty() {
                    break;
                }
            }
            ensure!(
                left.is_empty(),
                "{} of {} clients do not get through, {} the first",
                left.len(),
                batch.len(),
                left[0]
            );
        }
        Ok(())
    }

    /// Lets every client speak, and returns those whose segments reach no backend or another one than before.
    pub fn strays(&mut self) -> Result<Vec<SocketAddrV4>> {
        let all: Vec<_> = self.homes.keys().copied().collect();
        self.backends.hush()?;
        let mut strays = Vec::new();
        for batch in all.chunks(BATCH) {
            let mut left = batch.to_vec();
            for _ in 0..ATTEMPTS {
                self.clients.say(&left, |client| self.of(client, Segment::ACK))?;
                for heard in self.backends.hear(left.len(), Segment::ACK)? {
                    left.retain(|client| *client != heard.source);
                    if self.homes.get(&heard.source) != Some(&heard.target) {
                        strays.push(heard.source);
                    }
                }
                if left.is_empty() {
                    break;
                }
            }
            strays.append(&mut left);
        }
        Ok(strays)
    }

    /// How many connections there are to each backend.
    pub fn spread(&self) -> HashMap<Ipv4Addr, usize> {
        let mut spread = HashMap::new();
        for backend in self.homes.values() {
            *spread.entry(*backend.ip()).or_default() += 1;
        }
        spread
    }

    /// Three packets for each of some clients, and who was heard at last.
    fn shake(&mut self, clients: &[SocketAddrV4]) -> Result<()> {
        self.clients.say(clients, |client| self.of(client, Segment::SYN))?;
        let opened = self.backends.hear(clients.len(), Segment::SYN)?;
        self.backends.say(&opened, |syn| Segment {
            source: syn.target,
            target: syn.source,
            flags: Segment::SYN | Segment::ACK,
            sequence: ISN,
            acknowledgment: syn.sequence.wrapping_add(1),
        })?;
        let answered = self.clients.hear(opened.len(), Segment::SYN | Segment::ACK)?;
        self.clients.say(&answered, |answer| self.of(answer.target, Segment::ACK))?;
        let proved = self.backends.hear(answered.len(), Segment::ACK)?;
        self.homes.extend(proved.iter().map(|ack| (ack.source, ack.target)));
        Ok(())
    }

    /// The SYN of a client, or what it says once it is connected.
    fn of(&self, source: SocketAddrV4, flags: u8) -> Segment {
        let (sequence, acknowledgment) = if flags == Segment::SYN { (ISN, 0) } else { (ISN + 1, ISN + 1) };
        Segment { source, target: self.vip, flags, sequence, acknowledgment }
    }
}

impl End {
    /// Sends a segment for each of some things.
    fn say<T: Copy>(&self, what: &[T], segment: impl Fn(T) -> Segment) -> Result<()> {
        what.iter().try_for_each(|what| self.wire.send(&segment(*what).frame(self.mac, self.gateway)))
    }

    /// So many segments with these flags, fewer where some are lost.
    fn hear(&self, count: usize, flags: u8) -> Result<Vec<Segment>> {
        let of_ours = |frame: &[u8]| Segment::of(frame).filter(|segment| segment.flags == flags);
        let mut heard = Vec::with_capacity(count);
        while heard.len() < count
            && let Some(frame) = self.wire.next(PATIENCE, |frame| of_ours(frame).is_some())?
        {
            heard.extend(of_ours(&frame));
        }
        Ok(heard)
    }

    /// Takes what is there to be heard away.
    fn hush(&self) -> Result<()> {
        while self.wire.next(Duration::from_millis(1), |_| true)?.is_some() {}
        Ok(())
    }
}
