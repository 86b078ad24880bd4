//! Who the backends of the file are and how they are: the state that [`health`](crate::health) judges.
//!
//! It keeps three indexes beside the backends, so that a probe costs the same whether there are ten
//! backends or ten thousand: who is up by address, whose silence has no witness yet, and who is held.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    datapath::Snapshot,
    health::{
        Health, Outcome, Rules, Standing,
        prober::{Key, Probed, Target},
    },
    model::{AllDown, Model, Service},
    plan::endpoint,
    time::Now,
};

/// All services' backends.
#[derive(Debug, Default)]
pub(super) struct Roster {
    teams: BTreeMap<Arc<str>, Team>,
    /// Probed backends that are up, by address.
    up: BTreeMap<Ipv4Addr, usize>,
    unwitnessed: BTreeSet<Key>,
    held: BTreeSet<Key>,
}

/// The backends of one service.
#[derive(Debug)]
pub(super) struct Team {
    members: BTreeMap<SocketAddrV4, Health>,
    rules: Option<Rules>,
    all_down: AllDown,
    /// Backends that nothing is known of are waited for until then.
    patience: Instant,
}

impl Team {
    /// What is known of a backend.
    pub(super) fn member(&self, address: &SocketAddrV4) -> Option<&Health> {
        self.members.get(address)
    }

    /// Why a backend stands where it stands.
    pub(super) fn reason(&self, health: &Health) -> String {
        health.reason(self.rules)
    }

    /// What is to be said where all backends are down.
    pub(super) fn outage(&self) -> Option<&'static str> {
        let is_out = self.members.values().all(|health| health.standing == Standing::Down);
        is_out.then_some(match self.all_down {
            AllDown::Reject => "no backend is up: new connections are answered with RST",
            AllDown::Drop => "no backend is up: new connections are dropped",
            AllDown::Any => "no backend is up: new connections go to all of them, as `all_down: any` wants it",
        })
    }

    /// Until when unknown backends are waited for; `None` when there are none or waiting is over.
    pub(super) fn waits_until(&self, now: Now) -> Option<Instant> {
        let unknown = self.members.values().any(|health| !health.is_known());
        (unknown && now.at < self.patience).then_some(self.patience)
    }
}

impl Roster {
    /// A service's backends.
    pub(super) fn team(&self, service: &str) -> Option<&Team> {
        self.teams.get(service)
    }

    /// Whether there is such a backend.
    pub(super) fn knows(&self, (service, address): &Key) -> bool {
        self.teams.get(service).is_some_and(|team| team.members.contains_key(address))
    }

    /// The backends that are up only because nobody can testify to their silence.
    pub(super) fn held(&self) -> &BTreeSet<Key> {
        &self.held
    }

    /// Until when any service waits for unknown backends.
    pub(super) fn waits_until(&self, now: Now) -> Option<Instant> {
        self.teams.values().filter_map(|team| team.waits_until(now)).max()
    }

    /// The next moment when a service stops waiting.
    pub(super) fn wakes_at(&self, now: Now) -> Option<Instant> {
        self.teams.values().filter_map(|team| team.waits_until(now)).min()
    }

    /// Takes up a new model. Who stays keeps what is known of it. `adopted` is what the maps held when
    /// this controller started, for the first model; nothing after.
    pub(super) fn follow(&mut self, model: &Model, adopted: Option<&Snapshot>, now: Now) {
        let mut old = std::mem::take(&mut self.teams);
        for (name, service) in &model.services {
            let name: Arc<str> = name.as_str().into();
            let team = team(&name, service, old.remove(&name), adopted, now);
            self.teams.insert(name, team);
        }
        self.reindex();
    }

    fn reindex(&mut self) {
        (self.up, self.unwitnessed, self.held) = Default::default();
        for (name, team) in &self.teams {
            let Some(rules) = team.rules else { continue };
            for (address, health) in &team.members {
                let key = (name.clone(), *address);
                if health.is_up() {
                    *self.up.entry(*address.ip()).or_default() += 1;
                }
                if health.wants_witness() {
                    self.unwitnessed.insert(key.clone());
                }
                if health.is_held(rules) {
                    self.held.insert(key);
                }
            }
        }
    }

    /// Takes in what a probe found, and says whether a backend went up or down by it, or is known now.
    pub(super) fn probed(&mut self, probed: &Probed, now: Now) -> bool {
        let (name, address) = &probed.key;
        let alone = self.up.keys().all(|up| up == address.ip());
        let Some(team) = self.teams.get_mut(name) else { return false };
        let Some(rules) = team.rules else { return false };
        let Some(health) = team.members.get_mut(address) else { return false };
        let before = (health.standing, health.is_known());
        *health = health.clone().after(probed.outcome, probed.sent, rules, alone, now);
        let after = (health.standing, health.is_known());
        self.index(&probed.key, before.0);
        if matches!(probed.outcome, Outcome::Answered | Outcome::Refused) {
            self.testify(*address.ip(), now);
        }
        before != after
    }

    /// Brings the indexes in line with one backend, and says if it turned.
    fn index(&mut self, key: &Key, before: Standing) {
        let Some(team) = self.teams.get(&key.0) else { return };
        let (Some(health), Some(rules)) = (team.members.get(&key.1), team.rules) else { return };
        put(&mut self.unwitnessed, key, health.wants_witness());
        put(&mut self.held, key, health.is_held(rules));
        if health.standing == before {
            return;
        }
        let count = self.up.entry(*key.1.ip()).or_default();
        match (before == Standing::Up, health.is_up()) {
            (false, true) => *count += 1,
            (true, false) => *count = count.saturating_sub(1),
            _ => {}
        }
        self.up.retain(|_, count| *count > 0);
        let up = team.members.values().filter(|health| health.is_up()).count();
        let (name, address) = key;
        let (reason, all) = (team.reason(health), team.members.len());
        if health.is_up() {
            log::info!("{name}: backend {address} is up: {reason} ({up} of {all} up)");
        } else {
            log::warn!("{name}: backend {address} is down: {reason} ({up} of {all} up)");
        }
        if let Some(outage) = team.outage() {
            log::error!("{name}: {outage}");
        }
    }

    /// A backend at `address` answered: silences of others are their own.
    fn testify(&mut self, address: Ipv4Addr, now: Now) {
        let teams = &mut self.teams;
        self.unwitnessed.retain(|(name, silent)| {
            if *silent.ip() == address {
                return true;
            }
            if let Some(health) = teams.get_mut(name).and_then(|team| team.members.get_mut(silent)) {
                health.witness(now);
            }
            false
        });
    }

    /// Traffic proves that those who are held are dead.
    pub(super) fn disprove(&mut self, now: Now) {
        for (name, address) in std::mem::take(&mut self.held) {
            if let Some(health) = self.teams.get_mut(&name).and_then(|team| team.members.get_mut(&address)) {
                health.disprove(now);
            }
        }
        self.reindex();
    }
}

/// What a model's service has for backends, with what is known of them.
fn team(name: &Arc<str>, service: &Service, old: Option<Team>, adopted: Option<&Snapshot>, now: Now) -> Team {
    let rules = service.health.as_ref().map(|health| Rules { rise: health.rise, fall: health.fall });
    let timeout = service.health.as_ref().map_or(Duration::ZERO, |health| health.timeout);
    let (mut known, probed, patience) =
        old.map_or((BTreeMap::new(), rules.is_some(), now.at), |old| (old.members, old.rules.is_some(), old.patience));
    let table = adopted.map(|adopted| Adopted::new(name, adopted));
    let mut team = Team { members: BTreeMap::new(), rules, all_down: service.all_down, patience };
    for backend in &service.backends {
        let health = match (known.remove(&backend.address), rules) {
            (Some(health), Some(_)) if probed => health,
            (Some(health), rules) => health.reprobed(rules.is_some(), now),
            (None, None) => Health::unprobed(now),
            (None, Some(_)) => match table.as_ref().and_then(|table| table.had(backend.address)) {
                Some(was_in) => Health::adopted(was_in, now),
                None => Health::starting(now),
            },
        };
        if !health.is_known() {
            team.patience = team.patience.max(now.at + timeout);
        }
        team.members.insert(backend.address, health);
    }
    team
}

/// What the maps said of a service's backends when this controller started.
struct Adopted(BTreeMap<SocketAddrV4, bool>);

impl Adopted {
    fn new(name: &str, maps: &Snapshot) -> Self {
        let id = maps.names.iter().find(|(_, known)| *known == name).map(|(id, _)| *id);
        let service = maps.services.values().find(|service| Some(service.id) == id);
        let table = service.and_then(|service| maps.tables.get(&(service.slots, service.table)));
        let Some((id, table)) = id.zip(table) else { return Self(BTreeMap::new()) };
        let listed: BTreeSet<_> = table.iter().copied().collect();
        let members = maps.backends.iter().filter(|(_, backend)| backend.service == id);
        Self(members.map(|(number, backend)| (endpoint(backend).into(), listed.contains(number))).collect())
    }

    /// Whether the backend was in the table; `None` where it was not known.
    fn had(&self, address: SocketAddrV4) -> Option<bool> {
        self.0.get(&address).copied()
    }
}

/// What is to be probed in a model.
pub(super) fn targets(model: &Model) -> BTreeMap<Key, Target> {
    let mut targets = BTreeMap::new();
    for (name, service) in &model.services {
        let Some(health) = &service.health else { continue };
        let name: Arc<str> = name.as_str().into();
        for backend in &service.backends {
            let port = health.port.unwrap_or(backend.address.port());
            let address = SocketAddrV4::new(*backend.address.ip(), port);
            let target = Target { address, interval: health.interval, timeout: health.timeout };
            targets.insert((name.clone(), backend.address), target);
        }
    }
    targets
}

fn put(set: &mut BTreeSet<Key>, key: &Key, present: bool) {
    if present {
        set.insert(key.clone());
    } else {
        set.remove(key);
    }
}
