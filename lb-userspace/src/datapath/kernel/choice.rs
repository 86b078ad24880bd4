//! What the maps say to a client that opens a connection. Nothing is changed here.

use anyhow::Result;
use aya::maps::{MapError, lpm_trie::Key};
use lb_common::{Address4, Endpoint, Origin, Service, Source};

use super::maps::Maps;
use crate::datapath::choice::Choice;

impl Maps {
    /// What a client finds on an endpoint.
    pub(super) fn choice(&self, client: Address4, listen: &Endpoint) -> Result<Option<Choice>> {
        let Some(service) = found(self.services.get(listen, 0))? else { return Ok(None) };
        let origin = Key::new(Origin::SERVICE_BITS + u32::BITS, Origin::new(service.id, client));
        let is_counted = service.flags & Service::PER_SOURCE != 0;
        let source = Source { client, service: service.id, zero: [0; 2] };
        Ok(Some(Choice {
            service,
            table: self.table(&service)?,
            verdict: found(self.access.get(&origin, 0))?.unwrap_or(0),
            connections: if is_counted { self.sources.of(&source)? } else { 0 },
            per_source: self.limits(service.id)?.per_source,
        }))
    }
}

/// What is there, if it is.
fn found<T>(looked: Result<T, MapError>) -> Result<Option<T>> {
    match looked {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
