//! The maps, typed: which octets stand in which map is said here and nowhere else in userspace.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, PerCpuValues, xdp::DevMap},
    util::nr_cpus,
};
use lb_common::{
    Address4, Backend, BackendId, Endpoint, Limits, Nic, Origin, Reason, Service, ServiceName, Settings, Timeouts,
    Times, Traffic, Vip, limits, slots,
};

use super::{
    filter::Filter,
    flows::{Flows, Parts, Terms},
    sources::Sources,
};
use crate::datapath::ServiceId;

type SmallTable = [u16; slots::SMALL_ELEMENT];
type LargeTable = [u16; slots::LARGE_ELEMENT];

pub(super) struct Maps {
    pub(super) services: HashMap<MapData, Endpoint, Service>,
    pub(super) vips: HashMap<MapData, Address4, Vip>,
    /// VIPs that nothing is served on any more, since when; they stay for their last flows.
    pub(super) leaving: BTreeMap<Address4, Instant>,
    pub(super) endpoints: HashMap<MapData, Endpoint, u32>,
    pub(super) locals: HashMap<MapData, Address4, u32>,
    backends: Array<MapData, Backend>,
    traffic: PerCpuArray<MapData, Traffic>,
    times: Array<MapData, Times>,
    tables: Array<MapData, SmallTable>,
    large_tables: Array<MapData, LargeTable>,
    names: Array<MapData, ServiceName>,
    pub(super) filter: Filter,
    pub(super) nics: Array<MapData, Nic>,
    pub(super) devices: DevMap<MapData>,
    reasons: PerCpuArray<MapData, [u64; limits::REASONS]>,
    pub(super) settings: Array<MapData, Settings>,
    pub(super) flows: Flows,
    pub(super) sources: Sources,
    /// What `backends` says of flows, by id: sweeps need it of all, and reading them is 16,384 system calls.
    pub(super) terms: Vec<Terms>,
    pub(super) access: LpmTrie<MapData, Origin, u32>,
    limits: Array<MapData, Limits>,
    rates: Array<MapData, u64>,
    cpus: usize,
}

impl Maps {
    /// Takes the maps out of a loaded object.
    pub(super) fn take(object: &mut Ebpf, flow_sets: u32) -> Result<Self> {
        let parts = Parts {
            flows: data(object, "FLOWS")?,
            flow_tags: data(object, "FLOW_TAGS")?,
            halves: data(object, "HALVES")?,
            half_tags: data(object, "HALF_TAGS")?,
        };
        let backends: Array<MapData, Backend> = typed(object, "BACKENDS")?;
        let terms = (0..limits::BACKENDS as u32).map(|id| Ok(terms(&backends.get(&id, 0)?)));
        Ok(Self {
            terms: terms.collect::<Result<_>>()?,
            services: typed(object, "SERVICES")?,
            vips: typed(object, "VIPS")?,
            leaving: BTreeMap::new(),
            endpoints: typed(object, "ENDPOINTS")?,
            locals: typed(object, "LOCALS")?,
            backends,
            traffic: typed(object, "TRAFFIC")?,
            times: typed(object, "TIMES")?,
            tables: typed(object, "TABLES")?,
            large_tables: typed(object, "LARGE_TABLES")?,
            names: typed(object, "SERVICE_NAMES")?,
            filter: Filter::new(typed(object, "FILTER")?),
            nics: typed(object, "NICS")?,
            devices: typed(object, "DEVICES")?,
            reasons: typed(object, "REASONS")?,
            settings: typed(object, "SETTINGS")?,
            flows: Flows::map(&parts, flow_sets)?,
            sources: Sources::new(data(object, "SOURCES")?),
            access: typed(object, "ACCESS")?,
            limits: typed(object, "LIMITS")?,
            rates: typed(object, "RATES")?,
            cpus: nr_cpus().map_err(|(_, error)| error).context("cannot tell the number of CPUs")?,
        })
    }

    /// The timeouts of flows that no service has.
    pub(super) fn default_timeouts(&mut self, timeouts: Timeouts) -> Result<()> {
        let nobody = Backend { timeouts, ..bytemuck::Zeroable::zeroed() };
        self.set_backend(0, &nobody)
    }

    fn set_backend(&mut self, id: BackendId, backend: &Backend) -> Result<()> {
        self.backends.set(id.into(), backend, 0)?;
        if let Some(known) = self.terms.get_mut(usize::from(id)) {
            *known = terms(backend);
        }
        Ok(())
    }

    pub(super) fn backend(&self, id: BackendId) -> Result<Option<Backend>> {
        let backend = self.backends.get(&id.into(), 0)?;
        Ok((backend.flags & Backend::PRESENT != 0).then_some(backend))
    }

    /// Makes or changes a backend. The counters of one that was not there begin at zero.
    pub(super) fn put_backend(&mut self, id: BackendId, backend: &Backend) -> Result<()> {
        if id == 0 {
            bail!("backend id 0 means nobody");
        }
        if self.backend(id)?.is_none() {
            let zero = Traffic { packets: [0; 2], bytes: [0; 2] };
            self.traffic.set(id.into(), PerCpuValues::try_from(vec![zero; self.cpus])?, 0)?;
            self.times.set(id.into(), Times { average: 0, count: 0, sum: 0 }, 0)?;
        }
        self.set_backend(id, backend)
    }

    pub(super) fn retire_backend(&mut self, id: BackendId) -> Result<()> {
        self.set_backend(id, &bytemuck::Zeroable::zeroed())
    }

    /// A service's limits; all zero for none.
    pub(super) fn limits(&self, id: ServiceId) -> Result<Limits> {
        Ok(self.limits.get(&id.into(), 0)?)
    }

    /// Sets a service's limits. Its next connection is due at once: by the old rate it might be in an hour.
    pub(super) fn put_limits(&mut self, id: ServiceId, limits: &Limits) -> Result<()> {
        self.limits.set(id.into(), limits, 0)?;
        Ok(self.rates.set(id.into(), 0, 0)?)
    }

    /// What went to and came from a backend, all CPUs together.
    pub(super) fn traffic(&self, id: BackendId) -> Result<Traffic> {
        let mut sum = Traffic { packets: [0; 2], bytes: [0; 2] };
        for cpu in self.traffic.get(&id.into(), 0)?.iter() {
            for way in 0..2 {
                sum.packets[way] = sum.packets[way].wrapping_add(cpu.packets[way]);
                sum.bytes[way] = sum.bytes[way].wrapping_add(cpu.bytes[way]);
            }
        }
        Ok(sum)
    }

    /// How fast a backend answers.
    pub(super) fn times(&self, id: BackendId) -> Result<Times> {
        Ok(self.times.get(&id.into(), 0)?)
    }

    /// How many packets ended for each reason, all CPUs together.
    pub(super) fn reasons(&self) -> Result<[u64; Reason::COUNT]> {
        let mut sums = [0_u64; Reason::COUNT];
        for cpu in self.reasons.get(&0, 0)?.iter() {
            for (sum, count) in sums.iter_mut().zip(cpu) {
                *sum = sum.wrapping_add(*count);
            }
        }
        Ok(sums)
    }

    /// Writes a whole table in one system call.
    pub(super) fn fill_table(&mut self, size: u32, table: u16, ids: &[BackendId]) -> Result<()> {
        if ids.len() != size as usize {
            bail!("a table of {size} slots was given {} ids", ids.len());
        }
        match size {
            slots::SMALL => fill(&mut self.tables, table, ids),
            slots::LARGE => fill(&mut self.large_tables, table, ids),
            _ => bail!("no table has {size} slots"),
        }
    }

    pub(super) fn table(&self, service: &Service) -> Result<Vec<BackendId>> {
        let table = service.table.into();
        match service.slots {
            slots::SMALL => Ok(self.tables.get(&table, 0)?[..slots::SMALL as usize].to_vec()),
            slots::LARGE => Ok(self.large_tables.get(&table, 0)?[..slots::LARGE as usize].to_vec()),
            other => bail!("a pinned service has a table of {other} slots; run `tidegate detach` first"),
        }
    }

    /// The name of a service; empty where the id is free.
    pub(super) fn name(&self, id: ServiceId) -> Result<String> {
        Ok(self.names.get(&id.into(), 0)?.as_str().to_owned())
    }

    pub(super) fn set_name(&mut self, id: ServiceId, name: &str) -> Result<()> {
        let octets = ServiceName::new(name)
            .with_context(|| format!("{name}: the name is longer than {} octets", limits::NAME_OCTETS))?;
        Ok(self.names.set(id.into(), octets, 0)?)
    }
}

fn terms(backend: &Backend) -> Terms {
    Terms { timeouts: backend.timeouts, service: backend.service }
}

/// Removes a key, whether or not it was there.
pub(super) fn forget<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>, key: &K) -> Result<()> {
    match map.remove(key) {
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        Err(MapError::KeyNotFound) => Ok(()),
        other => Ok(other?),
    }
}

fn fill<const N: usize>(map: &mut Array<MapData, [u16; N]>, table: u16, ids: &[BackendId]) -> Result<()> {
    let mut slots = ids.to_vec();
    slots.resize(N, 0);
    let slots: &[u16; N] = slots.as_slice().try_into().context("a table has more slots than its element")?;
    Ok(map.set(table.into(), slots, 0)?)
}

fn typed<T>(object: &mut Ebpf, name: &'static str) -> Result<T>
where
    T: TryFrom<Map, Error = MapError>,
{
    let map = object.take_map(name).with_context(|| format!("the BPF object has no map {name}"))?;
    T::try_from(map).with_context(|| format!("the map {name} of the BPF object is not what it should be"))
}

fn data(object: &mut Ebpf, name: &'static str) -> Result<MapData> {
    match object.take_map(name) {
        Some(Map::Array(data) | Map::LruHashMap(data)) => Ok(data),
        _ => bail!("the BPF object has no map {name} of the right kind"),
    }
}
