//! Which backend a client has or would get, and why: from the flow tables and the maps as they are, in the
//! order in which the packet path asks them.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
};

use lb_common::{Backend, BackendId, Endpoint, Origin, Service};

use super::{controller::Controller, look::MOST_FLOWS, report::Load, wish::published};
use crate::{
    datapath::{
        Datapath,
        choice::Choice,
        entry::{Entry, State},
        query::Query,
    },
    net::Address,
    observe::{
        documents::{Candidate, Explained},
        ends::{Called, Caller},
    },
    plan::endpoint,
    time::{Now, spelt},
};

/// Slots that the packet path tries where a client's port already talks to a backend.
const TRIES: usize = 8;

/// What is chosen for a new connection.
#[derive(Debug, PartialEq, Eq)]
struct Chosen {
    id: Option<BackendId>,
    why: String,
}

impl<D: Datapath> Controller<D> {
    pub(super) fn explain(&mut self, caller: Caller, called: Called, now: Now) -> Result<Explained, String> {
        if called.is_udp {
            return Err(format!("{called}: UDP is not served yet, this version balances TCP alone"));
        }
        let choice = self.datapath.choice(caller.address, called.listen.into());
        let choice = choice.map_err(|error| format!("cannot read the maps: {error:#}"))?;
        let choice = choice.ok_or_else(|| self.unserved(called.listen))?;
        let name = self.have.names.get(&choice.service.id).cloned().unwrap_or_default();
        let own = match caller.port {
            Some(port) => {
                let (client, port) = (Some(caller.address), Some(port));
                let query = Query { client, port, all: true, limit: MOST_FLOWS, ..Query::default() };
                self.list(&query)?.entries
            }
            None => Vec::new(),
        };
        let found = own.iter().find(|entry| entry.vip == called.listen && entry.state.is_counted());
        let (backend, from, why) = match found {
            Some(entry) => (Some(self.served_by(entry).1), "flow", self.flow_says(entry)),
            None => {
                let Chosen { id, mut why } = choose(&choice, caller, &own, &self.have.backends);
                if let Some(id) = id {
                    why.extend(self.hindrances(&name, id, caller.address));
                }
                (id.map(|id| self.backend_name(&name, id)), "table", why)
            }
        };
        let candidates = self.candidates(&name, &choice, now);
        let algorithm = "source-hash".to_owned();
        Ok(Explained { service: name, algorithm, backend, from: from.to_owned(), why, candidates })
    }

    /// What a flow that is there says of its backend.
    fn flow_says(&self, entry: &Entry) -> String {
        let resets = self.have.backends.get(&entry.id).is_some_and(|backend| backend.flags & Backend::RESETS != 0);
        let (age, idle) = (seconds(entry.age), seconds(entry.idle));
        let end =
            if resets { "; its backend is to have it no longer: its next packet is answered with RST" } else { "" };
        match entry.state {
            State::Handshake => format!("its handshake is under way, for {age}{end}"),
            State::MidLife => format!("first seen in mid-life {age} ago; its backend has not gone on with it yet{end}"),
            _ => format!("it has a live flow, for {age}, idle for {idle}{end}"),
        }
    }

    /// What may keep a new connection from that backend all the same, each with a word before it.
    fn hindrances(&self, service: &str, id: BackendId, client: Ipv4Addr) -> Vec<String> {
        let backend = self.have.backends.get(&id).map(|backend| Ipv4Addr::from(backend.address));
        let past = match (&self.surroundings, backend) {
            (Some(found), _) if found.at(client).next().is_some() => Some(
                "; but it is an address of this gateway, and what the gateway itself sends is not balanced".to_owned(),
            ),
            (_, Some(backend)) if backend == client => {
                Some("; but that is the client itself, so that it would not connect".to_owned())
            }
            (Some(found), Some(backend)) => {
                let near = found.addresses.iter().find(|at| at.reaches(client) && at.reaches(backend));
                let answers = |at: &Address| {
                    let (subnet, bits) = at.subnet;
                    format!(
                        "; but both are in the subnet of {subnet}/{bits}, where the backend answers past this gateway, so \
                         that it would not connect"
                    )
                };
                near.map(answers)
            }
            _ => None,
        };
        let model = self.model.as_ref().and_then(|model| model.services.get(service));
        let rate = model.and_then(|model| model.limits.rate);
        let limit =
            |rate| format!("; `limits.rate` lets in {rate} of all clients together, and drops the SYNs of others");
        past.into_iter().chain(rate.map(limit)).collect()
    }

    /// Why nothing is served on an endpoint.
    fn unserved(&self, listen: SocketAddrV4) -> String {
        let services = self.model.iter().flat_map(|model| &model.services);
        if let Some((name, _)) = services.clone().find(|(_, service)| service.listen.contains(&listen)) {
            let is_published = published(&self.have).contains(name.as_str());
            let why = if is_published { "a change of it failed" } else { "its backends are being probed" };
            return format!(
                "{listen} is of the service {name}, which is not served on it yet: {why}; see `tidegate status`"
            );
        }
        let mut others: Vec<String> = Vec::new();
        for (name, service) in services {
            let here = service.listen.iter().filter(|other| other.ip() == listen.ip());
            others.extend(here.map(|other| format!("{name} on {other}")));
        }
        match others.len() {
            0 => format!("no service listens on {listen}: its packets pass to the gateway's own stack"),
            _ => format!("no service listens on {listen}; on that address there is {}", others.join(", ")),
        }
    }

    fn backend_name(&self, service: &str, id: BackendId) -> String {
        let Some(backend) = self.have.backends.get(&id) else { return format!("id {id}") };
        let address = SocketAddrV4::from(endpoint(backend));
        let file = self.model.as_ref().and_then(|model| model.services.get(service));
        let backend = file.and_then(|file| file.backends.iter().find(|backend| backend.address == address));
        backend.and_then(|backend| backend.name.clone()).unwrap_or_else(|| address.to_string())
    }

    /// Every backend of a service, and how much of the table is its.
    fn candidates(&self, name: &str, choice: &Choice, now: Now) -> Vec<Candidate> {
        let mut slots = BTreeMap::<BackendId, usize>::new();
        for id in &choice.table {
            *slots.entry(*id).or_default() += 1;
        }
        let of = |address: Endpoint| {
            let mut all = self.have.backends.iter();
            all.find(|(_, backend)| backend.service == choice.service.id && endpoint(backend) == address)
                .map(|(id, _)| *id)
        };
        let model = self.model.as_ref().and_then(|model| model.services.get(name));
        let mut candidates = Vec::new();
        let services = self.lines(Some(name), &Load::default(), now);
        for line in services.into_iter().flat_map(|service| service.backends) {
            let address = line.address.parse::<SocketAddrV4>().ok();
            let held = address.and_then(|address| of(address.into())).and_then(|id| slots.get(&id)).copied();
            let weight = model.and_then(|model| model.backends.iter().find(|backend| Some(backend.address) == address));
            let weighs_nothing = weight.is_some_and(|backend| backend.weight == 0);
            let since = format!("{} since {}: {}", line.state, line.since, line.reason);
            let why = match held {
                Some(held) => format!("{held} of {} slots; {since}", choice.table.len()),
                None if weighs_nothing => format!("its weight is 0: no new connections; {since}"),
                None => since,
            };
            candidates.push(Candidate { name: line.name, eligible: held.is_some(), why });
        }
        candidates
    }
}

/// What the packet path does with a SYN of no flow that it knows.
fn choose(choice: &Choice, caller: Caller, own: &[Entry], backends: &BTreeMap<BackendId, Backend>) -> Chosen {
    let Choice { service, table, .. } = choice;
    let nobody = |why: String| Chosen { id: None, why };
    if service.flags & Service::FILTERED != 0 && choice.verdict == Origin::DENIED {
        return nobody(format!("`allow` or `deny` keeps {} away: its SYN is dropped", caller.address));
    }
    if service.flags & Service::PER_SOURCE != 0 && choice.connections >= choice.per_source {
        let (has, may) = (choice.connections, choice.per_source);
        return nobody(format!(
            "it has {has} connections, and `limits.per_source` lets it have {may}: its SYN is dropped"
        ));
    }
    let first = choice.slot(caller.address) as usize;
    let mut talks = Vec::new();
    for slot in (0..TRIES).map(|step| (first + step) % table.len().max(1)) {
        let Some(id) = table.get(slot).copied().filter(|id| *id != 0) else {
            let end = if service.flags & Service::DROPS != 0 { "dropped" } else { "answered with RST" };
            return nobody(format!("no backend takes new connections: its SYN is {end}"));
        };
        let Some(backend) = backends.get(&id) else {
            return nobody(format!("slot {slot} names a backend {id} that is not there: `tidegate detach` mends it"));
        };
        let address = SocketAddrV4::from(endpoint(backend));
        if own.iter().all(|entry| entry.backend != address || is_over(entry)) {
            let mut why = format!("slot {slot} of {}, by the hash of its address", table.len());
            if !talks.is_empty() {
                why = format!("{why}; its port already talks to {}, so that it is not slot {first}", talks.join(", "));
            }
            if own.iter().any(is_over) {
                why = format!("{why}; a connection of this port has just ended, this is for the next one");
            }
            return Chosen { id: Some(id), why };
        }
        if !talks.contains(&address.to_string()) {
            talks.push(address.to_string());
        }
    }
    nobody(format!(
        "its port already talks to {}, which is all that is found from slot {first} on: its SYN is dropped, another port is not",
        talks.join(", ")
    ))
}

/// What has ended gives way to a new connection.
fn is_over(entry: &Entry) -> bool {
    matches!(entry.state, State::Closing | State::Reset)
}

fn seconds(time: std::time::Duration) -> String {
    spelt(std::time::Duration::from_secs(time.as_secs()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytemuck::Zeroable as _;

    use super::*;

    const TABLE: [BackendId; 7] = [1, 2, 1, 3, 1, 2, 3];

    fn choice(flags: u32, table: &[BackendId]) -> Choice {
        let service = Service { id: 0, table: 0, slots: table.len() as u32, flags };
        Choice { service, table: table.to_vec(), verdict: 0, connections: 3, per_source: 3 }
    }

    fn chosen(choice: &Choice, own: &[(BackendId, State)]) -> Chosen {
        let backends = [1, 2, 3].map(|id: BackendId| {
            let address = address(id);
            let (address, port) = ((*address.ip()).into(), address.port().into());
            (id, Backend { address, port, ..Backend::zeroed() })
        });
        let caller: Caller = "192.0.2.7:50123".parse().unwrap();
        let entry = |(id, state): &(BackendId, State)| Entry {
            client: SocketAddrV4::new(caller.address, 50123),
            vip: "203.0.113.99:80".parse().unwrap(),
            backend: address(*id),
            id: *id,
            state: *state,
            age: Duration::ZERO,
            idle: Duration::ZERO,
            packets: [0; 2],
            bytes: [0; 2],
        };
        let own: Vec<Entry> = own.iter().map(entry).collect();
        choose(choice, caller, &own, &backends.into())
    }

    fn address(id: BackendId) -> SocketAddrV4 {
        SocketAddrV4::new([10, 0, 0, id as u8].into(), 80)
    }

    #[test]
    fn the_slot_of_the_address_decides() {
        let choice = choice(0, &TABLE);
        let slot = choice.slot([192, 0, 2, 7].into()) as usize;
        let Chosen { id, why } = chosen(&choice, &[]);
        assert_eq!((id, why), (Some(TABLE[slot]), format!("slot {slot} of 7, by the hash of its address")));
    }

    #[test]
    fn a_port_that_talks_to_the_backend_already_goes_on_to_the_next_slot() {
        let choice = choice(0, &TABLE);
        let own = TABLE[choice.slot([192, 0, 2, 7].into()) as usize];
        let Chosen { id, why } = chosen(&choice, &[(own, State::Established)]);
        assert!(id.is_some_and(|id| id != own) && why.contains(&format!("already talks to {}", address(own))), "{why}");
        let Chosen { id, why } = chosen(&choice, &[(own, State::Reset)]);
        assert!(id == Some(own) && why.contains("has just ended"), "{why}");
        let all = [1, 2, 3].map(|id| (id, State::Handshake));
        let Chosen { id, why } = chosen(&choice, &all);
        assert!(id.is_none() && why.contains("another port is not"), "{why}");
    }

    #[test]
    fn whoever_is_kept_away_hears_by_what() {
        let why = |choice: &Choice| {
            let Chosen { id, why } = chosen(choice, &[]);
            assert_eq!(id, None);
            why
        };
        let denied = Choice { verdict: Origin::DENIED, ..choice(Service::FILTERED, &TABLE) };
        assert!(why(&denied).starts_with("`allow` or `deny` keeps 192.0.2.7 away"));
        assert!(why(&choice(Service::PER_SOURCE, &TABLE)).starts_with("it has 3 connections, and `limits.per_source`"));
        assert!(why(&choice(0, &[0; 7])).ends_with("answered with RST"));
        assert!(why(&choice(Service::DROPS, &[0; 7])).ends_with("dropped"));
        assert!(why(&choice(0, &[9; 7])).contains("a backend 9 that is not there"));
    }
}
