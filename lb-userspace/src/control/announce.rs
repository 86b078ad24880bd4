//! Which VIPs are put on the gateway, on which interface, and when they are taken away again. Pure.
//!
//! A VIP is *announced* in two places. In the maps, where a flag has its unserved ports refused and tells the next
//! controller and `detach` that the address is ours; and on the host, where the address makes the gateway answer
//! ARP. The flag is there before the address and stays until it is gone, so there is no instant at which the
//! address is on the host and nobody knows whose. An address that the host has without our mark is somebody
//! else's: it is never flagged, never touched, and where it appears beside ours, ours gives way.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{
    rests::REST,
    surroundings::{Running, Surroundings},
};
use crate::{
    datapath::{Attached, Snapshot},
    net::Address,
    time::Now,
};

/// `lo`, whose number is the same in every network namespace.
const LO: u32 = 1;
/// The first and the longest pause before an errand that is still to be done is posted again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// A VIP on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat {
    /// The address.
    pub vip: Ipv4Addr,
    /// The kernel's number of the interface.
    pub ifindex: u32,
}

/// One thing to do with the host's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Put the VIP there.
    Add(Seat),
    /// Take it away.
    Remove(Seat),
}

/// What is to be done on the host now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Posting {
    /// It moves when errands are to be done, also when they are the same once more.
    pub number: u64,
    /// In this order.
    pub errands: Vec<Errand>,
    /// Where VIPs are to be found: neighbours hear of it when one of these is new or its interface is.
    pub told: BTreeMap<Seat, Running>,
}

/// What is so, for a decision.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    /// Whether the file wants VIPs announced at all.
    pub(super) is_on: bool,
    pub(super) have: &'a Snapshot,
    pub(super) found: &'a Surroundings,
    pub(super) attached: &'a [Attached],
}

/// What was posted, and what came of it.
#[derive(Debug)]
pub(super) struct Announcer {
    posting: Posting,
    /// When the last posting was answered; `None` as long as it is not.
    answered: Option<Instant>,
    failed: Option<String>,
    again: Instant,
    pause: Duration,
    quiet: BTreeSet<Ipv4Addr>,
    /// Some VIP is flagged, and neither wanted nor on the host any more.
    is_idle: bool,
    astray: BTreeSet<String>,
    /// Something may have changed since the last look: most turns of the loop have probes only.
    is_stale: bool,
}

impl Announcer {
    pub(super) fn new(now: Now) -> Self {
        Self {
            posting: Posting::default(),
            answered: Some(now.at),
            failed: None,
            again: now.at,
            pause: PAUSES.0,
            quiet: BTreeSet::new(),
            is_idle: false,
            astray: BTreeSet::new(),
            is_stale: true,
        }
    }

    /// The VIPs that shall be flagged, when these addresses are served.
    pub(super) fn flags(&self, scene: Scene<'_>, served: &BTreeSet<Ipv4Addr>, now: Now) -> BTreeSet<Ipv4Addr> {
        let flagged = &scene.have.announced;
        if !scene.found.is_known() {
            return flagged.clone();
        }
        let fresh = served.iter().filter(|vip| scene.is_on && !scene.is_foreign(**vip));
        let kept = flagged.iter().filter(|vip| {
            self.is_wanted(scene, **vip) || scene.found.at(**vip).any(|at| at.is_marked) || !self.has_rested(now)
        });
        fresh.chain(kept).copied().collect()
    }

    /// Another look is due: the maps or the surroundings have changed.
    pub(super) fn note_change(&mut self) {
        self.is_stale = true;
    }

    /// Posts what is to be done, given what is so.
    pub(super) fn post(&mut self, scene: Scene<'_>, now: Now) {
        let is_overdue = !self.posting.errands.is_empty() && self.again <= now.at;
        if !scene.found.is_known() || !(self.is_stale || is_overdue) {
            return;
        }
        self.is_stale = false;
        self.quiet.retain(|vip| !scene.serves(*vip));
        let flagged = &scene.have.announced;
        let (attached, others) = scene.subnets();
        let (kept, dropped): (Vec<Ipv4Addr>, Vec<Ipv4Addr>) =
            flagged.iter().partition(|vip| self.is_wanted(scene, **vip));
        let wanted: BTreeSet<Seat> = kept.iter().map(|vip| seat(*vip, &attached)).collect();
        let there = scene.found.seats(flagged);
        self.is_idle = dropped.iter().any(|vip| !there.iter().any(|seat| seat.vip == *vip));
        let astray: BTreeSet<String> = kept.iter().filter_map(|vip| scene.astray(*vip, &others)).collect();
        astray.difference(&self.astray).for_each(|line| log::warn!("{line}"));
        self.astray = astray;
        let heard = wanted.intersection(&there).filter(|seat| seat.ifindex != LO);
        let running = |seat: &Seat| Some((*seat, *scene.found.running.get(&seat.ifindex)?));
        self.posting.told = heard.filter_map(running).collect();
        self.renew(errands(&wanted, &there), now);
    }

    fn renew(&mut self, errands: Vec<Errand>, now: Now) {
        let is_new = errands != self.posting.errands;
        if !is_new && (errands.is_empty() || self.again > now.at) {
            return;
        }
        if !is_new && self.answered.is_some() && self.failed.is_none() {
            let text =
                "the gateway's addresses do not stay as they were put; does somebody else manage them?".to_owned();
            log::error!("{text}");
            self.failed = Some(text);
        }
        self.pause = if is_new { PAUSES.0 } else { (self.pause * 2).min(PAUSES.1) };
        self.again = now.at + self.pause;
        self.answered = None;
        if errands.is_empty() && self.failed.take().is_some() {
            log::info!("the VIPs are on the gateway as they shall be");
        }
        self.posting =
            Posting { number: self.posting.number + 1, errands, told: std::mem::take(&mut self.posting.told) };
    }

    /// Takes in what came of a posting.
    pub(super) fn answer(&mut self, number: u64, result: Result<(), String>, now: Now) {
        if number != self.posting.number {
            return;
        }
        (self.answered, self.is_stale) = (Some(now.at), true);
        let Err(error) = result else { return };
        let text = format!("{error}; it is tried again");
        if self.failed.as_ref() != Some(&text) {
            log::error!("{text}");
        }
        self.failed = Some(text);
    }

    /// Takes in what a sweep saw.
    pub(super) fn swept(&mut self, quiet: &BTreeSet<Ipv4Addr>) {
        self.is_stale |= self.quiet != *quiet;
        self.quiet.clone_from(quiet);
    }

    /// Whether all is done that can be.
    pub(super) fn is_settled(&self) -> bool {
        self.posting.errands.is_empty() || self.failed.is_some()
    }

    /// Whether a flag can go now.
    pub(super) fn is_due(&self, now: Now) -> bool {
        self.is_idle && self.has_rested(now)
    }

    /// When something is due.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        let errands = (!self.posting.errands.is_empty()).then_some(self.again);
        let idle = self.answered.filter(|_| self.is_idle).map(|at| at + REST);
        errands.into_iter().chain(idle).min()
    }

    /// What is to be done.
    pub(super) fn posting(&self) -> &Posting {
        &self.posting
    }

    /// What cannot be done, for the operator.
    pub(super) fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// What may do harm, and what to do about it.
    pub(super) fn warnings(&self) -> impl Iterator<Item = &String> {
        self.astray.iter()
    }

    /// Whether a flagged VIP shall be on the host: it is served, or connections through it live.
    fn is_wanted(&self, scene: Scene<'_>, vip: Ipv4Addr) -> bool {
        scene.is_on && !scene.is_foreign(vip) && !self.quiet.contains(&vip)
    }

    /// Nothing that was posted can still change the host, and what it changed is known by now.
    fn has_rested(&self, now: Now) -> bool {
        self.answered.is_some_and(|at| at + REST <= now.at)
    }
}

impl Scene<'_> {
    /// Whether the host has the address from somebody else.
    fn is_foreign(&self, vip: Ipv4Addr) -> bool {
        let is_flagged = self.have.announced.contains(&vip);
        self.found.at(vip).any(|at| !(is_flagged && at.is_marked))
    }

    fn serves(&self, vip: Ipv4Addr) -> bool {
        let first = lb_common::Endpoint { address: vip.into(), port: lb_common::Port([0; 2]), protocol: 0, zero: 0 };
        self.have.services.range(first..).next().is_some_and(|(listen, _)| listen.address == vip.into())
    }

    /// The subnets of the attached NICs, and those of all others but `lo`.
    fn subnets(&self) -> (Vec<&Address>, Vec<&Address>) {
        let is_attached = |at: &&Address| self.attached.iter().any(|nic| nic.ifindex == at.ifindex);
        let subnets = self.found.addresses.iter().filter(|at| at.subnet.1 < 32);
        let (attached, others): (Vec<_>, Vec<_>) = subnets.partition(is_attached);
        (attached, others.into_iter().filter(|at| at.ifindex != LO).collect())
    }

    /// The kernel answers ARP for any address of the host on every NIC: where a VIP's neighbours are on a NIC without
    /// the program, they come to the gateway's own stack.
    fn astray(&self, vip: Ipv4Addr, others: &[&Address]) -> Option<String> {
        let name = self.found.names.get(&others.iter().find(|at| at.reaches(vip))?.ifindex)?;
        Some(format!(
            "{vip}: its subnet is on {name} too, where nothing is balanced; add {name} to node.interfaces or --iface"
        ))
    }
}

impl Surroundings {
    /// Where those of these VIPs are that were put on the host by us.
    pub(super) fn seats(&self, announced: &BTreeSet<Ipv4Addr>) -> BTreeSet<Seat> {
        let ours = announced.iter().flat_map(|vip| self.at(*vip)).filter(|at| at.is_marked);
        ours.map(|at| Seat { vip: at.address, ifindex: at.ifindex }).collect()
    }
}

/// Where a VIP belongs: on the NIC whose subnet it is of, the smallest of these, else on `lo`.
fn seat(vip: Ipv4Addr, subnets: &[&Address]) -> Seat {
    let near = subnets.iter().filter(|at| at.reaches(vip));
    let nearest = near.max_by_key(|at| (at.subnet.1, u32::MAX - at.ifindex));
    Seat { vip, ifindex: nearest.map_or(LO, |at| at.ifindex) }
}

/// From what is there to what is wanted; a VIP that moves is in its new place before it leaves the old one.
fn errands(wanted: &BTreeSet<Seat>, there: &BTreeSet<Seat>) -> Vec<Errand> {
    let added: BTreeSet<Seat> = wanted.difference(there).copied().collect();
    let is_moving = |seat: &&Seat| added.iter().any(|new| new.vip == seat.vip);
    let removed: Vec<Seat> = there.difference(wanted).filter(|seat| !is_moving(seat)).copied().collect();
    added.into_iter().map(Errand::Add).chain(removed.into_iter().map(Errand::Remove)).collect()
}
