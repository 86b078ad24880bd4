//! What the controller answers when it is asked how things are.

use std::{collections::BTreeMap, net::SocketAddrV4, time::Duration};

use lb_common::{BackendId, Endpoint, Reason, Times, Traffic};
use serde_json::to_value;

use super::{
    Answer, Question, Seat,
    controller::Controller,
    rests::Draining,
    surroundings::{Surroundings, Way},
    tally::Measures,
    wish::published,
};
use crate::{
    datapath::{Attached, Datapath, FlowCounts, ServiceId},
    health::Standing,
    model::{self, LiveFlows},
    observe::documents::{
        Announced, BackendLine, Backends, BackendsByService, Config, Count, Flows, Interface, Readiness,
        ServiceBackends, ServiceLine, Services, Status,
    },
    plan::endpoint,
    time::{Now, rfc3339, spelt},
};

/// A sweep this old is still news: those who ask often do not make us sweep often.
const FRESH: Duration = Duration::from_millis(500);

/// What backends carry, by id.
#[derive(Default)]
pub(super) struct Load {
    pub(super) flows: FlowCounts,
    traffic: BTreeMap<BackendId, Traffic>,
    times: BTreeMap<BackendId, Times>,
}

impl<D: Datapath> Controller<D> {
    pub(super) fn answer(&mut self, question: &Question, now: Now) -> Answer {
        let document = match question {
            Question::Status => to_value(self.status(now)?),
            Question::Readiness => to_value(self.readiness()),
            Question::Services => to_value(self.service_lines(now)?),
            Question::Backends(service) => to_value(self.backends(service.as_deref(), now)?),
            Question::Flows(asked) => to_value(self.look(asked)?),
            Question::Explain(caller, called) => to_value(self.explain(*caller, *called, now)?),
            Question::Diff(model) => to_value(self.diff(model, now)?),
        };
        document.map_err(|error| error.to_string())
    }

    /// All that metrics are made of.
    pub(super) fn measures(&mut self, now: Now) -> Result<Measures, String> {
        Ok(Measures {
            status: self.status(now)?,
            services: self.service_lines(now)?,
            backends: self.backends(None, now)?,
            reloads: self.tally.reloads,
            probes: self.tally.probes(),
            events: self.journal.counts().clone(),
            sweep: self.sweep.as_ref().map_or(Duration::ZERO, |(_, flows)| flows.took),
        })
    }

    /// What may do harm.
    fn warnings(&self) -> Vec<String> {
        let ground = self.ground.iter().filter(|fault| !fault.fatal).map(ToString::to_string);
        let unheard = self.http.iter().filter_map(|http| http.clone().err());
        ground.chain(self.announcer.warnings().cloned()).chain(unheard).collect()
    }

    fn readiness(&self) -> Readiness {
        let reason = self.unready();
        Readiness { ready: reason.is_none(), reason: reason.unwrap_or_default() }
    }

    fn flows(&mut self, now: Now) -> Result<FlowCounts, String> {
        if let Some((at, flows)) = &self.sweep
            && now.at.saturating_duration_since(*at) < FRESH
        {
            return Ok(flows.clone());
        }
        self.sweep_now(now).map_err(|error| format!("cannot sweep the flow tables: {error:#}"))
    }

    pub(super) fn load(&mut self, now: Now) -> Result<Load, String> {
        let flows = self.flows(now)?;
        let ids: Vec<BackendId> = self.have.backends.keys().copied().collect();
        let traffic = self.datapath.traffic(&ids).map_err(|error| format!("cannot read counters: {error:#}"))?;
        let times = self.datapath.times(&ids).map_err(|error| format!("cannot read times: {error:#}"))?;
        Ok(Load { flows, traffic, times })
    }

    fn status(&mut self, now: Now) -> Result<Status, String> {
        let flows = self.flows(now)?;
        let none = Load { flows: flows.clone(), traffic: BTreeMap::new(), times: BTreeMap::new() };
        let mut backends = Backends::default();
        for service in self.lines(None, &none, now) {
            add(&mut backends, &count(&service.backends));
        }
        let reasons = self.datapath.reasons().map_err(|error| format!("cannot read counters: {error:#}"))?;
        let packets = Reason::ALL.iter().zip(reasons).map(|(reason, count)| (reason.label().to_owned(), count));
        let gone = self.gone();
        let mode = |nic: &Attached| if gone.contains(&nic.name.as_str()) { "gone" } else { nic.mode };
        let interface = |nic: &Attached| Interface { name: nic.name.clone(), mode: mode(nic).to_owned() };
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: self.is_ready(),
            pid: std::process::id(),
            started_at: rfc3339(self.started),
            config: Config {
                file: self.settings.file.display().to_string(),
                loaded_at: self.file.loaded_at.map(rfc3339),
                fault: self.file.fault.clone(),
                needs_restart: self.file.needs_restart.clone(),
            },
            interfaces: self.datapath.attached().iter().map(interface).collect(),
            announced: self.announced(),
            flows: Flows { live: flows.live, half_open: flows.half_open, max: flows.max },
            packets: packets.collect(),
            services: self.services(),
            backends,
            faults: self.faults(),
            warnings: self.warnings(),
            http: self.http.as_ref().and_then(|http| http.as_ref().ok()).map(ToString::to_string),
        })
    }

    /// The VIPs that are on the gateway because of us.
    fn announced(&self) -> Vec<Announced> {
        let line = |seat: Seat, found: &Surroundings| Announced {
            address: seat.vip.to_string(),
            interface: found.names.get(&seat.ifindex).cloned().unwrap_or_default(),
        };
        let found = self.surroundings.iter();
        found.flat_map(|found| found.seats(&self.have.announced).into_iter().map(|seat| line(seat, found))).collect()
    }

    fn service_lines(&mut self, now: Now) -> Result<Services, String> {
        let load = self.load(now)?;
        let published = published(&self.have);
        let lines = self.lines(None, &load, now).into_iter().map(|line| {
            let model = self.model.as_ref().and_then(|model| model.services.get(&line.name));
            let sum = |part: fn(&BackendLine) -> u64| line.backends.iter().map(part).sum();
            ServiceLine {
                listen: model.map_or(Vec::new(), |service| service.listen.iter().map(ToString::to_string).collect()),
                protocol: "tcp".to_owned(),
                slots: model.map_or(0, |service| service.slots),
                published: published.contains(line.name.as_str()),
                backends: count(&line.backends),
                flows: sum(|backend| backend.flows),
                packets: sum(|backend| backend.packets),
                bytes: sum(|backend| backend.bytes),
                name: line.name,
                mode: line.mode,
                algorithm: line.algorithm,
            }
        });
        Ok(Services { services: lines.collect() })
    }

    fn backends(&mut self, service: Option<&str>, now: Now) -> Result<BackendsByService, String> {
        let load = self.load(now)?;
        let services = self.lines(service, &load, now);
        match service {
            Some(name) if services.is_empty() => Err(self.unknown(name)),
            _ => Ok(BackendsByService { services }),
        }
    }

    pub(super) fn unknown(&self, name: &str) -> String {
        let names = self.model.iter().flat_map(|model| model.services.keys());
        let names: Vec<&str> = names.take(10).map(String::as_str).collect();
        format!("there is no service {name}; there is: {}", names.join(", "))
    }

    /// The services with their backends, in the order of their names: those of the file, and those of
    /// which some backends still drain.
    pub(super) fn lines(&self, only: Option<&str>, load: &Load, now: Now) -> Vec<ServiceBackends> {
        let ids: BTreeMap<(&str, Endpoint), BackendId> = self
            .have
            .backends
            .iter()
            .filter_map(|(id, backend)| Some(((self.name(backend.service)?, endpoint(backend)), *id)))
            .collect();
        let mut lines: BTreeMap<&str, Vec<BackendLine>> = BTreeMap::new();
        for (name, service) in self.model.iter().flat_map(|model| &model.services) {
            let backends = service.backends.iter().map(|backend| {
                let id = ids.get(&(name.as_str(), backend.address.into())).copied();
                carried(self.member(name, backend), id, load)
            });
            lines.insert(name, backends.collect());
        }
        for ((name, listens), id) in &ids {
            if let Some(draining) = self.rests.draining(*id) {
                lines.entry(name).or_default().push(leaving((*listens).into(), draining, *id, load, now));
            }
        }
        let wanted = lines.into_iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
        let line = |(name, backends): (&str, _)| ServiceBackends {
            name: name.to_owned(),
            mode: "nat".to_owned(),
            algorithm: "source-hash".to_owned(),
            measure: self.measure(name).to_owned(),
            backends,
        };
        wanted.map(line).collect()
    }

    /// What is timed of a service's backends; nothing where it is not in the file any more.
    fn measure(&self, service: &str) -> &'static str {
        match self.model.as_ref().and_then(|model| model.services.get(service)).map(|service| service.measure) {
            Some(model::Measure::FirstByte) => "first-byte",
            Some(model::Measure::Handshake) => "handshake",
            Some(model::Measure::None) | None => "none",
        }
    }

    fn name(&self, id: ServiceId) -> Option<&str> {
        self.have.names.get(&id).map(String::as_str)
    }

    /// A backend of the file.
    pub(super) fn member(&self, service: &str, backend: &model::Backend) -> BackendLine {
        let team = self.roster.team(service);
        let health = team.and_then(|team| team.member(&backend.address));
        let reason = match self.way(backend.address) {
            Some(Way::None(why)) => why,
            _ => team.zip(health).map_or(String::new(), |(team, health)| team.reason(health)),
        };
        BackendLine {
            name: backend.name.clone().unwrap_or_else(|| backend.address.to_string()),
            address: backend.address.to_string(),
            state: self.state(service, backend.address).to_owned(),
            reason,
            since: rfc3339(health.map_or(self.started, |health| health.since)),
            weight: backend.weight,
            ..empty()
        }
    }

    /// The state of a backend of the file, in a word.
    pub(super) fn state(&self, service: &str, address: SocketAddrV4) -> &'static str {
        let health = self.roster.team(service).and_then(|team| team.member(&address));
        match health.map(|health| health.standing) {
            _ if matches!(self.way(address), Some(Way::None(_))) => "down",
            Some(Standing::Up) => "up",
            Some(Standing::Down) => "down",
            Some(Standing::Starting { .. }) | None => "starting",
        }
    }

    pub(super) fn way(&self, address: SocketAddrV4) -> Option<Way> {
        self.surroundings.as_ref().map(|found| found.way(*address.ip(), self.datapath.attached()))
    }
}

/// A backend that is no longer in the file and keeps its last flows.
fn leaving(address: SocketAddrV4, draining: &Draining, id: BackendId, load: &Load, now: Now) -> BackendLine {
    let line = BackendLine {
        name: address.to_string(),
        address: address.to_string(),
        state: "drain".to_owned(),
        since: rfc3339(draining.since.wall),
        ..empty()
    };
    let line = carried(line, Some(id), load);
    let end = match (draining.drain, draining.until()) {
        (Some(drain), Some(until)) if drain.then == LiveFlows::Reset => match until.checked_duration_since(now.at) {
            Some(left) if !left.is_zero() => format!("reset in {}", spelt(Duration::from_secs(left.as_secs().max(1)))),
            _ => "each is reset at its next packet".to_owned(),
        },
        _ => "kept until they end".to_owned(),
    };
    let flows = match line.flows {
        0 => "no flows left".to_owned(),
        1 => format!("1 flow left, {end}"),
        more => format!("{more} flows left, {end}"),
    };
    BackendLine { reason: format!("removed from the file, {flows}"), ..line }
}

/// Adds what a backend carries.
fn carried(line: BackendLine, id: Option<BackendId>, load: &Load) -> BackendLine {
    let Some(id) = id else { return line };
    let flows = load.flows.by_backend.get(&id).copied().unwrap_or(0);
    let Some(Traffic { packets, bytes }) = load.traffic.get(&id) else { return BackendLine { flows, ..line } };
    let times = load.times.get(&id).filter(|times| times.count > 0);
    BackendLine {
        flows,
        average_ms: times.map(|times| f64::from(times.average) / 16e3),
        timed: times.map_or(0, |times| times.count),
        timed_ms: times.map_or(0.0, |times| times.sum as f64 / 1e3),
        packets: packets.iter().sum(),
        bytes: bytes.iter().sum(),
        to_backend: Count { packets: packets[0], bytes: bytes[0] },
        from_backend: Count { packets: packets[1], bytes: bytes[1] },
        ..line
    }
}

fn empty() -> BackendLine {
    BackendLine {
        name: String::new(),
        address: String::new(),
        state: String::new(),
        reason: String::new(),
        since: String::new(),
        weight: 0,
        flows: 0,
        packets: 0,
        bytes: 0,
        to_backend: Count::default(),
        from_backend: Count::default(),
        average_ms: None,
        timed: 0,
        timed_ms: 0.0,
    }
}

fn count(backends: &[BackendLine]) -> Backends {
    let of = |state: &str| backends.iter().filter(|backend| backend.state == state).count();
    Backends { up: of("up"), down: of("down"), starting: of("starting"), drain: of("drain") }
}

fn add(sum: &mut Backends, more: &Backends) {
    sum.up += more.up;
    sum.down += more.down;
    sum.starting += more.starting;
    sum.drain += more.drain;
}
