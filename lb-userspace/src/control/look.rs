//! Connections, one by one, for those who ask: what stands in the flow tables at this moment.

use std::{collections::BTreeSet, net::Ipv4Addr};

use lb_common::BackendId;

use super::controller::Controller;
use crate::{
    datapath::{Datapath, entry::Entry, query::Query},
    observe::documents::{Count, FlowLine, FlowLines},
    plan::endpoint,
};

/// Which connections somebody wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowsAsked {
    /// Of this service.
    pub service: Option<String>,
    /// Of this client.
    pub client: Option<Ipv4Addr>,
    /// Those that have ended or were opened directly to a backend, too.
    pub all: bool,
    /// So many at most.
    pub limit: usize,
}

/// Connections that one answer may have: a document of some 30 MB.
pub const MOST_FLOWS: usize = 100_000;

impl<D: Datapath> Controller<D> {
    pub(super) fn look(&mut self, asked: &FlowsAsked) -> Result<FlowLines, String> {
        let backends = match &asked.service {
            Some(name) => Some(self.backends_of(name)?),
            None => None,
        };
        let limit = asked.limit.min(MOST_FLOWS);
        let query = Query { backends, client: asked.client, port: None, all: asked.all, limit };
        let listing = self.list(&query)?;
        let flows = listing.entries.iter().map(|entry| self.flow_line(entry)).collect();
        Ok(FlowLines { flows, truncated: listing.truncated })
    }

    pub(super) fn list(&mut self, query: &Query) -> Result<crate::datapath::query::Listing, String> {
        self.datapath.list(query).map_err(|error| format!("cannot look into the flow tables: {error:#}"))
    }

    /// The ids of a service's backends, those included that drain.
    fn backends_of(&self, name: &str) -> Result<BTreeSet<BackendId>, String> {
        let is_in_file = self.model.as_ref().is_some_and(|model| model.services.contains_key(name));
        let id = self.have.names.iter().find(|(_, known)| *known == name).map(|(id, _)| *id);
        if id.is_none() && !is_in_file {
            return Err(self.unknown(name));
        }
        let backends = self.have.backends.iter().filter(|(_, backend)| Some(backend.service) == id);
        Ok(backends.map(|(id, _)| *id).collect())
    }

    fn flow_line(&self, entry: &Entry) -> FlowLine {
        let count = |side: usize| Count { packets: entry.packets[side], bytes: entry.bytes[side] };
        let (service, backend) = self.served_by(entry);
        FlowLine {
            client: entry.client.to_string(),
            vip: entry.vip.to_string(),
            service: service.map(str::to_owned),
            backend,
            backend_address: entry.backend.to_string(),
            protocol: "tcp".to_owned(),
            state: entry.state.word().to_owned(),
            age_s: entry.age.as_secs(),
            idle_s: entry.idle.as_secs(),
            packets: entry.packets.iter().sum(),
            bytes: entry.bytes.iter().sum(),
            to_backend: count(0),
            from_backend: count(1),
        }
    }

    /// The service of a connection and the name of its backend. An id that has another owner by now says nothing.
    pub(super) fn served_by(&self, entry: &Entry) -> (Option<&str>, String) {
        let owner = self.have.backends.get(&entry.id).filter(|owner| endpoint(owner) == entry.backend.into());
        let service = owner.and_then(|owner| self.have.names.get(&owner.service)).map(String::as_str);
        let file = service.and_then(|name| self.model.as_ref()?.services.get(name));
        let backend = file.and_then(|file| file.backends.iter().find(|backend| backend.address == entry.backend));
        let name = backend.and_then(|backend| backend.name.clone());
        (service, name.unwrap_or_else(|| entry.backend.to_string()))
    }
}
