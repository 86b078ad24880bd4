//! What the packet path goes by when a client opens a connection, read from where it reads.

use lb_common::{BackendId, Service, client_hash, slots};

/// What the maps say to a client's SYN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The service.
    pub service: Service,
    /// Its slot table.
    pub table: Vec<BackendId>,
    /// What `allow` and `deny` say of the client, as [`Origin`](lb_common::Origin) has it; 0 for nothing.
    pub verdict: u32,
    /// How many connections the client has, where they are counted.
    pub connections: u32,
    /// How many it may have.
    pub per_source: u32,
}

impl Choice {
    /// The slot that a client falls on.
    pub fn slot(&self, client: std::net::Ipv4Addr) -> u32 {
        slots::slot(client_hash(client.into()), self.service.slots)
    }
}
