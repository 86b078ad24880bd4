//! Steps of a plan, done in the maps; and the maps, read back.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aya::maps::{MapError, lpm_trie::Key};
use bytemuck::Zeroable as _;
use ipnet::Ipv4Net;
use lb_common::{Address4, Endpoint, Limits, Origin, Port, Service, Vip, filter, limits};

use super::maps::{Maps, forget};
use crate::datapath::{Prefix, Snapshot, Step};

impl Maps {
    /// Does one step. `services` are those published before it, and after it.
    pub(super) fn apply(&mut self, step: &Step, services: &mut BTreeMap<Endpoint, Service>) -> Result<()> {
        match step {
            Step::AddLocal(address) => Ok(self.locals.insert(Address4::from(*address), 1, 0)?),
            Step::RemoveLocal(address) => forget(&mut self.locals, &(*address).into()),
            Step::NameService(id, name) => self.set_name(*id, name),
            Step::PutBackend(id, backend) => self.put_backend(*id, backend),
            Step::PutLimits(id, limits) => self.put_limits(*id, limits),
            Step::PutAccess(prefix, verdict) => Ok(self.access.insert(&key(prefix), verdict, 0)?),
            Step::RemoveAccess(prefix) => match self.access.remove(&key(prefix)) {
                Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
                other => Ok(other?),
            },
            Step::AddEndpoint(endpoint) => {
                if self.endpoints.get(endpoint, 0).is_ok() {
                    return Ok(());
                }
                self.filter.add(endpoint.address, filter::BACKEND)?;
                Ok(self.endpoints.insert(endpoint, 1, 0)?)
            }
            Step::FillTable { slots, table, ids } => self.fill_table(*slots, *table, ids),
            Step::PublishService(endpoint, service) => {
                self.publish(endpoint, service, services)?;
                services.insert(*endpoint, *service);
                Ok(())
            }
            Step::WithdrawService(endpoint) => {
                if !services.contains_key(endpoint) {
                    return Ok(());
                }
                self.withdraw(endpoint, services)?;
                services.remove(endpoint);
                Ok(())
            }
            Step::Announce(address) => self.announce((*address).into()),
            Step::Unannounce(address) => self.unannounce((*address).into()),
            Step::RemoveEndpoint(endpoint) => {
                if self.endpoints.get(endpoint, 0).is_err() {
                    return Ok(());
                }
                forget(&mut self.endpoints, endpoint)?;
                self.filter.remove(endpoint.address, filter::BACKEND)
            }
            Step::RetireBackend(id) => self.retire_backend(*id),
            Step::ForgetService(id) => self.set_name(*id, ""),
        }
    }

    /// The filter, then the VIP, then the service: each is there before what needs it.
    fn publish(&mut self, endpoint: &Endpoint, service: &Service, there: &BTreeMap<Endpoint, Service>) -> Result<()> {
        if !there.contains_key(endpoint) {
            if self.vips.get(&endpoint.address, 0).is_err() {
                self.filter.add(endpoint.address, filter::VIP)?;
            }
            let flags = self.vip_flags(endpoint.address);
            self.vips.insert(endpoint.address, Vip { protocols: Vip::TCP, flags }, 0)?;
            self.leaving.remove(&endpoint.address);
        }
        Ok(self.services.insert(endpoint, service, 0)?)
    }

    /// The service goes at once. Its address stays a VIP that nothing is served on, as long as connections
    /// through it live: without it their packets would pass to the gateway's own stack.
    fn withdraw(&mut self, endpoint: &Endpoint, there: &BTreeMap<Endpoint, Service>) -> Result<()> {
        forget(&mut self.services, endpoint)?;
        if on(there, endpoint.address).all(|other| other == endpoint) {
            let flags = self.vip_flags(endpoint.address);
            self.vips.insert(endpoint.address, Vip { protocols: 0, flags }, 0)?;
            self.leaving.insert(endpoint.address, Instant::now());
        }
        Ok(())
    }

    /// What the map says of a VIP; 0 where it is none.
    fn vip_flags(&self, address: Address4) -> u16 {
        self.vips.get(&address, 0).map_or(0, |vip| vip.flags)
    }

    fn announce(&mut self, address: Address4) -> Result<()> {
        let vip = self.vips.get(&address, 0).context("nothing is served on it")?;
        Ok(self.vips.insert(address, Vip { flags: vip.flags | Vip::ANNOUNCED, ..vip }, 0)?)
    }

    fn unannounce(&mut self, address: Address4) -> Result<()> {
        let Ok(vip) = self.vips.get(&address, 0) else { return Ok(()) };
        Ok(self.vips.insert(address, Vip { flags: vip.flags & !Vip::ANNOUNCED, ..vip }, 0)?)
    }

    /// Lets those VIPs go that nothing is served on and that no flow of a sweep, begun at `swept_at`, names. Those
    /// that are announced stay until they are not: their addresses leave the gateway first. They are returned.
    pub(super) fn let_go(&mut self, named: &BTreeSet<Address4>, swept_at: Instant) -> Result<BTreeSet<Ipv4Addr>> {
        let mut quiet = BTreeSet::new();
        // Who read the service a moment before it went has made its flow by then.
        let is_over = |since: Instant| swept_at.saturating_duration_since(since) >= Duration::from_secs(1);
        let over = self.leaving.iter().filter(|(vip, since)| is_over(**since) && !named.contains(vip));
        for vip in over.map(|(vip, _)| *vip).collect::<Vec<_>>() {
            if self.vip_flags(vip) & Vip::ANNOUNCED != 0 {
                quiet.insert(vip.into());
                continue;
            }
            forget(&mut self.vips, &vip)?;
            self.filter.remove(vip, filter::VIP)?;
            self.leaving.remove(&vip);
        }
        Ok(quiet)
    }

    /// Brings VIPs and filter in line with the services and endpoints that are there: a controller may
    /// have died between two writes. Returns the services.
    pub(super) fn mend(&mut self) -> Result<BTreeMap<Endpoint, Service>> {
        let services: BTreeMap<Endpoint, Service> = self.services.iter().collect::<Result<_, _>>()?;
        let endpoints: Vec<Endpoint> = self.endpoints.keys().collect::<Result<_, _>>()?;
        let mut vips: BTreeSet<Address4> = self.vips.keys().collect::<Result<_, _>>()?;
        vips.extend(services.keys().map(|endpoint| endpoint.address));
        let backends = endpoints.iter().map(|endpoint| (endpoint.address, filter::BACKEND));
        self.filter.reset(vips.iter().map(|vip| (*vip, filter::VIP)).chain(backends))?;
        for vip in vips {
            let is_served = on(&services, vip).next().is_some();
            let flags = self.vip_flags(vip);
            self.vips.insert(vip, Vip { protocols: if is_served { Vip::TCP } else { 0 }, flags }, 0)?;
            if !is_served {
                self.leaving.insert(vip, Instant::now());
            }
        }
        Ok(services)
    }

    /// All that the maps hold.
    pub(super) fn snapshot(&self) -> Result<Snapshot> {
        let mut snapshot = Snapshot {
            services: self.services.iter().collect::<Result<_, _>>()?,
            endpoints: self.endpoints.keys().collect::<Result<_, _>>()?,
            ..Snapshot::default()
        };
        for local in self.locals.keys() {
            snapshot.locals.insert(local?.into());
        }
        for vip in self.vips.iter() {
            let (address, vip) = vip?;
            if vip.flags & Vip::ANNOUNCED != 0 {
                snapshot.announced.insert(address.into());
            }
        }
        for id in 0..limits::SERVICES as u16 {
            let name = self.name(id)?;
            if !name.is_empty() {
                snapshot.names.insert(id, name);
            }
        }
        for id in snapshot.names.keys() {
            let limits = self.limits(*id)?;
            if limits != Limits::zeroed() {
                snapshot.limits.insert(*id, limits);
            }
        }
        for said in self.access.iter() {
            let (key, verdict) = said?;
            snapshot.access.insert(prefix(&key)?, verdict);
        }
        for id in 1..limits::BACKENDS as u16 {
            if let Some(backend) = self.backend(id)? {
                snapshot.backends.insert(id, backend);
            }
        }
        for service in snapshot.services.values() {
            if let Entry::Vacant(table) = snapshot.tables.entry((service.slots, service.table)) {
                table.insert(self.table(service)?);
            }
        }
        Ok(snapshot)
    }
}

/// The bits of the service come first, and all of them count.
fn key(prefix: &Prefix) -> Key<Origin> {
    let bits = Origin::SERVICE_BITS + u32::from(prefix.clients.prefix_len());
    Key::new(bits, Origin::new(prefix.service, prefix.clients.network().into()))
}

fn prefix(key: &Key<Origin>) -> Result<Prefix> {
    let Origin { service, client } = key.data();
    let length = key.prefix_len().checked_sub(Origin::SERVICE_BITS).and_then(|length| u8::try_from(length).ok());
    let length = length.context("ACCESS has a key of less than a service; run `tidegate detach` first")?;
    let service = u16::try_from(u32::from_be_bytes(service)).context("ACCESS names a service that cannot be")?;
    Ok(Prefix { service, clients: Ipv4Net::new(client.into(), length)? })
}

/// What is served on an address: endpoints are ordered by it.
fn on(services: &BTreeMap<Endpoint, Service>, address: Address4) -> impl Iterator<Item = &Endpoint> {
    let first = Endpoint { address, port: Port([0; 2]), protocol: 0, zero: 0 };
    services.range(first..).map(|(endpoint, _)| endpoint).take_while(move |endpoint| endpoint.address == address)
}
