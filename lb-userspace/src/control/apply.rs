//! One turn of the loop: what is due by now, what is wanted, the plan, and doing it.

use std::{
    collections::BTreeSet,
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use lb_common::Service;

use super::{
    announce::Scene,
    controller::Controller,
    hold::{Hold, packets},
    rests::large_tables,
    surroundings::Way,
    wish::{Facts, Wish, wish},
};
use crate::{
    datapath::{Datapath, Step},
    model::{LiveFlows, LogConnections},
    observe::documents::Reloaded,
    plan::{Printed, endpoint, plan},
    time::{Now, spelt},
};

/// A step that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// What failed and why.
    pub(super) text: String,
    /// When it is tried again.
    again: Instant,
    pause: Duration,
}

/// The first and the longest pause before a failed plan is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How often traffic is looked at while backends are held.
const LOOK: Duration = Duration::from_secs(1);

impl<D: Datapath> Controller<D> {
    /// Does what follows from all that was taken in, and says when something is due next.
    pub fn turn(&mut self, now: Now) -> Option<Instant> {
        // Someone was waited for, and no longer is.
        self.stale |= self.awaited.is_some_and(|until| until <= now.at);
        self.awaited = self.roster.wakes_at(now);
        self.watch_hold(now);
        self.sweep_when_due(now);
        self.end_drains(now);
        self.take_back(now);
        let is_due = self.is_due(now);
        if is_due {
            self.replan(now);
        }
        self.post(now);
        self.look_around(is_due, now);
        self.answer_reloads(now);
        self.wakes_at(now)
    }

    fn is_due(&self, now: Now) -> bool {
        let due = self.stale || self.trouble.is_some() || !self.published || !self.short.is_empty();
        let due = due || self.announcer.is_due(now) || self.rests.forget_at(&self.have).is_some_and(|at| at <= now.at);
        due && self.surroundings.is_some() && self.trouble.as_ref().is_none_or(|trouble| trouble.again <= now.at)
    }

    fn wakes_at(&self, now: Now) -> Option<Instant> {
        let trouble = self.trouble.as_ref().map(|trouble| trouble.again);
        let hold = self.hold.is_some().then(|| now.at + LOOK);
        let short = (!self.short.is_empty()).then(|| now.at + LOOK);
        let rests = self.rests.forget_at(&self.have).map_or(self.sweep_at(), |at| at.min(self.sweep_at()));
        let rests = self.rests.ends_at().map_or(rests, |at| at.min(rests));
        // Whatever cannot be done because of trouble is not due before it.
        let rests = Some(trouble.map_or(rests, |again| rests.max(again)));
        let idle = self.announcer.wakes_at().map(|at| trouble.map_or(at, |again| at.max(again)));
        [trouble, hold, short, rests, idle, self.returns.wakes_at(), self.roster.wakes_at(now)]
            .into_iter()
            .flatten()
            .min()
    }

    fn replan(&mut self, now: Now) {
        if let Some(model) = &self.model {
            self.rests.heed(model, &self.have, now);
        }
        let Some(wish) = self.wish(now) else { return };
        let steps = plan(&self.have, &wish.wanted);
        let before = large_tables(&self.have);
        let is_whole = self.apply(&steps, now);
        self.announcer.note_change();
        self.note_short(&wish);
        self.note_astray();
        if is_whole {
            self.rests.note(&before, &self.have, &wish, now);
            self.stale = false;
            self.published |= self.roster.waits_until(now).is_none();
        }
    }

    /// Posts what is to be done on the host after what the maps say now.
    fn post(&mut self, now: Now) {
        let (Some(model), Some(found)) = (&self.model, &self.surroundings) else { return };
        let is_on = model.node.announce_vips;
        let scene = Scene { is_on, have: &self.have, found, attached: self.datapath.attached() };
        self.announcer.post(scene, now);
        self.settled |= self.published && self.announcer.is_settled();
    }

    fn wish(&mut self, now: Now) -> Option<Wish> {
        let facts = Facts {
            model: self.model.as_ref()?,
            roster: &self.roster,
            surroundings: self.surroundings.as_ref()?,
            attached: self.datapath.attached(),
            have: &self.have,
            rests: &self.rests,
            verdicts: &self.verdicts,
            hertz: self.datapath.hertz(),
            announcer: &self.announcer,
        };
        Some(wish(&facts, &mut self.tables, now))
    }

    /// Does the steps in turn, and says whether all were done. What was done is noted in any case.
    fn apply(&mut self, steps: &[Step], now: Now) -> bool {
        if !steps.is_empty() {
            log::debug!("plan:\n{}", Printed::new(&self.have, steps));
        }
        for (number, step) in steps.iter().enumerate() {
            if let Err(error) = self.datapath.apply(step) {
                let shown = Printed::new(&self.have, std::slice::from_ref(step)).to_string();
                let pause = self.trouble.as_ref().map_or(PAUSES.0, |trouble| (trouble.pause * 2).min(PAUSES.1));
                let text = format!(
                    "step {} of {} of a change failed: {}: {error:#}; what came before it is in force, the rest is tried again",
                    number + 1,
                    steps.len(),
                    shown.split_whitespace().collect::<Vec<_>>().join(" ")
                );
                log::error!("{text} in {pause:?}");
                self.trouble = Some(Trouble { text, again: now.at + pause, pause });
                return false;
            }
            self.have.note(step);
        }
        if self.trouble.take().is_some() {
            log::info!("the change that had failed is in force now");
        }
        true
    }

    fn note_short(&mut self, wish: &Wish) {
        for short in wish.short.iter().filter(|short| !self.short.contains(short)) {
            log::error!("{short}");
        }
        self.short.clone_from(&wish.short);
    }

    /// NICs that are gone, and backends that no packet path of ours leads to.
    fn note_astray(&mut self) {
        let (Some(model), Some(surroundings)) = (&self.model, &self.surroundings) else { return };
        let gone = surroundings.gone(self.datapath.attached());
        let gone = gone.iter().map(|nic| {
            format!("{nic}: this NIC is gone, and the program with it; it is attached again as soon as it is back")
        });
        let mut astray: BTreeSet<String> = gone.chain(self.returns.refused()).collect();
        for (name, service) in &model.services {
            for backend in &service.backends {
                if let Way::None(why) = surroundings.way(*backend.address.ip(), self.datapath.attached()) {
                    astray.insert(format!("{name}: backend {} gets no traffic: {why}", backend.address));
                }
            }
        }
        for line in astray.difference(&self.astray) {
            log::error!("{line}");
        }
        self.astray = astray;
    }

    /// When the next sweep is due: each second, where connections are told of when they end, or counted by client.
    fn sweep_at(&self) -> Instant {
        let tells = self.model.as_ref().is_some_and(|model| model.log_connections != LogConnections::Off);
        let counts = || self.have.services.values().any(|service| service.flags & Service::PER_SOURCE != 0);
        let due = self.rests.sweep_at(tells || counts());
        self.unswept.as_ref().map_or(due, |(_, again)| due.max(*again))
    }

    /// Sweeps the flow tables, for backends that drain and for places of flows that are over, when that is due.
    fn sweep_when_due(&mut self, now: Now) {
        let blocked = self.trouble.as_ref().is_some_and(|trouble| trouble.again > now.at);
        if blocked || self.sweep_at() > now.at {
            return;
        }
        match self.sweep_now(now) {
            Ok(flows) => {
                self.stale |= self.rests.swept(&flows, now);
                self.announcer.swept(&flows.quiet);
                self.unswept = None;
            }
            Err(error) => {
                let text = format!("cannot sweep the flow table: {error:#}; it is tried again");
                log::error!("{text} in {:?}", PAUSES.1);
                self.unswept = Some((text, now.at + PAUSES.1));
            }
        }
    }

    /// Says what becomes of backends whose time to drain is over.
    fn end_drains(&mut self, now: Now) {
        for (id, drain) in self.rests.ended(now) {
            let Some(backend) = self.have.backends.get(&id) else { continue };
            let name = self.have.names.get(&backend.service).map_or("?", String::as_str);
            let (address, time) = (SocketAddrV4::from(endpoint(backend)), spelt(drain.time));
            match drain.then {
                LiveFlows::Keep => {
                    log::info!("{name}: backend {address} has drained for {time}: what flows it has left go on");
                }
                LiveFlows::Reset => {
                    log::warn!("{name}: backend {address} has drained for {time}: what flows it has left are reset");
                    self.stale = true;
                }
            }
        }
    }

    /// Says when all backends fall silent at once, and lets their traffic decide.
    fn watch_hold(&mut self, now: Now) {
        let held = self.held_ids();
        if held.is_empty() {
            if let Some(hold) = self.hold.take() {
                let lasted = now.at - hold.since.at;
                log::info!("the silence of all backends at once is over, after {}s", lasted.as_secs());
            }
            return;
        }
        let hold = self.hold.get_or_insert_with(|| {
            log::error!("{ALL_SILENT}");
            Hold::new(held.clone(), now)
        });
        let ids: Vec<_> = held.iter().copied().collect();
        let is_dead = match self.datapath.traffic(&ids) {
            Ok(traffic) => hold.looks_dead(held, packets(traffic.values()), now),
            Err(error) => {
                log::error!("cannot read the backends' traffic: {error:#}");
                false
            }
        };
        if is_dead {
            log::error!("backends that are silent to probes do not answer traffic either: they are down after all");
            self.roster.disprove(now);
            self.hold = None;
            self.stale = true;
        }
    }

    fn held_ids(&self) -> BTreeSet<u16> {
        let held = self.roster.held();
        if held.is_empty() {
            return BTreeSet::new();
        }
        let is_held = |backend: &lb_common::Backend| {
            let name = self.have.names.get(&backend.service)?;
            Some(held.contains(&(name.as_str().into(), endpoint(backend).into())))
        };
        self.have.backends.iter().filter(|(_, backend)| is_held(backend) == Some(true)).map(|(id, _)| *id).collect()
    }

    /// Tells those who wait for a reload that it is in force, or why not.
    fn answer_reloads(&mut self, now: Now) {
        let is_settled = !self.stale && self.announcer.is_settled() || self.trouble.is_some();
        let (roster, file) = (&self.roster, &self.file);
        let mut waiting = std::mem::take(&mut self.waiting);
        let is_over = |until: Option<Instant>| until.is_none_or(|until| until <= now.at);
        let done = waiting.extract_if(.., |waiting| {
            file.fault.is_some() || is_settled && (roster.waits_until(now).is_none() || is_over(waiting.until))
        });
        for waiting in done {
            let faults = self.faults();
            let (fault, needs_restart) = (file.fault.clone(), file.needs_restart.clone());
            let failed = self.trouble.as_ref().map(|trouble| trouble.text.clone());
            let _ = waiting.done.send(Reloaded { fault, failed, needs_restart, faults });
        }
        self.waiting = waiting;
    }

    /// What is wrong right now.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self.ground.iter().filter(|fault| fault.fatal).map(ToString::to_string).collect();
        faults.extend(self.trouble.iter().map(|trouble| trouble.text.clone()));
        faults.extend(self.unswept.iter().map(|(text, _)| text.clone()));
        faults.extend(self.announcer.failed().map(str::to_owned));
        faults.extend(self.hold.iter().map(|_| ALL_SILENT.to_owned()));
        faults.extend(self.unseen.iter().chain(&self.short).chain(&self.astray).cloned());
        let services = self.model.iter().flat_map(|model| model.services.keys());
        let out = services.filter_map(|name| Some((name, self.roster.team(name)?.outage()?)));
        faults.extend(out.map(|(name, what)| format!("{name}: {what}")));
        faults
    }
}

/// The shout.
pub(super) const ALL_SILENT: &str = "all backends fell silent at once, which looks like a failure of this gateway: the tables stay as \
                          they were. Look at its NICs, routes and firewall; a backend that answers, or traffic that is not \
                          answered for 10 s, ends this";
