//! The packet path in the kernel: BPF maps and XDP programs, pinned so that they outlive us.
//!
//! This folder is the only user of aya. [`KernelDatapath::open`] is the journey: what a start does, in
//! its order. Maps that are there and fit are adopted; the program is always our own, and takes the
//! place of the one before it at one instant. Nothing here decides what is served.

mod attach;
mod board;
mod bpffs;
mod choice;
mod clock;
mod detach;
mod driver;
mod error;
mod filter;
mod flows;
mod links;
mod load;
mod logs;
mod maps;
mod nics;
mod permit;
mod pins;
mod sources;
mod steps;

use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf, time::Instant};

use anyhow::{Context as _, Result};
use aya::{Ebpf, programs::Xdp};
use lb_common::{BackendId, Endpoint, LAYOUT, Reason, Service, Settings, Times, Traffic, limits};

use self::{board::Pinboard, flows::Sweep, maps::Maps};
pub use self::{detach::detach, error::OpenError};
use super::{
    Attached, Datapath, FlowCounts, Snapshot, Step,
    choice::Choice,
    entry::Clock,
    query::{Listing, Query},
};
use crate::model::{LogConnections, XdpMode};

/// Where and how to attach.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of the pins; a bpffs is mounted there where it is on none.
    pub pin_dir: PathBuf,
    /// The NICs, by name.
    pub interfaces: Vec<String>,
    /// In the driver or in the generic hook.
    pub xdp: XdpMode,
    /// Flows that the flow table is made for, where it is not adopted.
    pub max_flows: u32,
}

/// The packet path in the kernel, open for one controller. Dropped, it goes on forwarding.
pub struct KernelDatapath {
    maps: Maps,
    attached: Vec<Attached>,
    max_flows: u64,
    hertz: u32,
    xdp: XdpMode,
    adopted: bool,
    /// Which connections sweeps tell of when they have ended.
    endings: LogConnections,
    /// What is served, to know when an address has its last service.
    services: BTreeMap<Endpoint, Service>,
    object: Ebpf,
    _logs: Option<logs::Logs>,
    // Dropped last: the lock ends when all else has.
    board: Pinboard,
}

impl KernelDatapath {
    /// Loads the program, makes or adopts the maps, and attaches to the NICs. A first start that fails
    /// leaves nothing behind; a later one leaves what was running.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        permit::check()?;
        let board = Pinboard::open(&options.pin_dir)?;
        let adopted = match pins::survey(board.path()) {
            Ok(settings) => settings,
            Err(error) => {
                board.unmake();
                return Err(error.into());
            }
        };
        let opened = Self::on(&board, options, adopted);
        match opened {
            Ok(open) => Ok(open.with(board, options.xdp, adopted.is_some())),
            Err(error) => {
                if adopted.is_none() {
                    clean(board);
                }
                Err(load::kind(error))
            }
        }
    }

    fn on(board: &Pinboard, options: &Options, adopted: Option<Settings>) -> Result<Opened> {
        let layout = pins::directory(board.path());
        let settings = match adopted {
            Some(settings) => settings,
            None => load::settings(options.max_flows)?,
        };
        if settings.flow_sets != limits::flow_sets(options.max_flows) {
            log::warn!(
                "max_flows is {}, but the flow table there is made for {}; to change it, `tidegate detach` and start again \
                 (live connections will end)",
                options.max_flows,
                flows::room(settings.flow_sets.into())
            );
        }
        let hertz = clock::hertz()?;
        let mut object = load::load(&layout, &settings, hertz)?;
        let logs = logs::Logs::follow(&mut object);
        let mut maps = Maps::take(&mut object, settings.flow_sets)?;
        if adopted.is_none() {
            // From here on the maps are worth keeping.
            maps.settings.set(0, settings, 0).context("cannot write SETTINGS")?;
        }
        maps.default_timeouts(clock::timeouts(hertz))?;
        let services = maps.mend()?;
        let program = program(&mut object, driver::PROGRAM)?;
        let attached = attach::attach(program, &mut maps, &layout, &options.interfaces, options.xdp)?;
        let max_flows = match limits::flow_sets(options.max_flows) == settings.flow_sets {
            true => options.max_flows.into(),
            false => flows::room(settings.flow_sets.into()),
        };
        Ok(Opened { maps, attached, max_flows, hertz, services, object, logs })
    }

    /// Whether the maps were there before: a warm start, whose tables stay until there is evidence.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// The kernel's clock, in which [`Flow::seen`](lb_common::Flow::seen) is written.
    pub fn jiffies(&mut self) -> Result<u32> {
        clock::jiffies(program(&mut self.object, load::CLOCK)?)
    }

    fn clock(&mut self) -> Result<Clock> {
        Ok(Clock { now: self.jiffies()?, hertz: self.hertz })
    }

    /// Takes programs, maps and mounts away: the end of forwarding.
    pub fn detach(self) -> Result<()> {
        let Self { maps, object, _logs, board, .. } = self;
        drop((maps, object, _logs));
        detach::take_away(board)
    }
}

/// All of an open packet path but its lock.
struct Opened {
    maps: Maps,
    attached: Vec<Attached>,
    max_flows: u64,
    hertz: u32,
    services: BTreeMap<Endpoint, Service>,
    object: Ebpf,
    logs: Option<logs::Logs>,
}

impl Opened {
    fn with(self, board: Pinboard, xdp: XdpMode, adopted: bool) -> KernelDatapath {
        let Self { maps, attached, max_flows, hertz, services, object, logs } = self;
        let endings = LogConnections::Off;
        KernelDatapath { maps, attached, max_flows, hertz, xdp, adopted, endings, services, object, _logs: logs, board }
    }
}

/// Takes away what a failed first start made.
fn clean(board: Pinboard) {
    if let Err(error) = pins::remove(&pins::directory(board.path())) {
        log::warn!("cannot take everything away again: {error:#}");
    }
    board.unmake();
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = object.program_mut(name).with_context(|| format!("the BPF object has no program {name}"))?;
    program.try_into().with_context(|| format!("the program {name} of the BPF object is not of XDP"))
}

impl Datapath for KernelDatapath {
    fn snapshot(&mut self) -> Result<Snapshot> {
        self.maps.snapshot()
    }

    fn apply(&mut self, step: &Step) -> Result<()> {
        self.maps.apply(step, &mut self.services).with_context(|| format!("cannot do {step:?}"))
    }

    fn flows(&mut self) -> Result<FlowCounts> {
        let at = Instant::now();
        let sources = self.services.values().any(|service| service.flags & Service::PER_SOURCE != 0);
        let (clock, endings) = (self.clock()?, self.endings);
        let Maps { terms, leaving, .. } = &self.maps;
        let swept = self.maps.flows.sweep(Sweep { clock, terms, leaving, endings, sources });
        if sources && let Err(error) = self.maps.sources.set_right(swept.sources) {
            // What was counted is still true, and no change of the file has to wait for it.
            log::warn!("{error:#}; `limits.per_source` may refuse clients that it should let in");
        }
        let quiet = self.maps.let_go(&swept.named, at)?;
        Ok(FlowCounts { max: self.max_flows, quiet, took: at.elapsed(), ..swept.counts })
    }

    fn tell_of(&mut self, endings: LogConnections) {
        self.endings = endings;
    }

    fn list(&mut self, query: &Query) -> Result<Listing> {
        let clock = self.clock()?;
        Ok(self.maps.flows.list(query, clock))
    }

    fn choice(&mut self, client: Ipv4Addr, listen: Endpoint) -> Result<Option<Choice>> {
        self.maps.choice(client.into(), &listen)
    }

    fn traffic(&mut self, ids: &[BackendId]) -> Result<BTreeMap<BackendId, Traffic>> {
        ids.iter().map(|id| Ok((*id, self.maps.traffic(*id)?))).collect()
    }

    fn times(&mut self, ids: &[BackendId]) -> Result<BTreeMap<BackendId, Times>> {
        ids.iter().map(|id| Ok((*id, self.maps.times(*id)?))).collect()
    }

    fn reasons(&mut self) -> Result<[u64; Reason::COUNT]> {
        self.maps.reasons()
    }

    fn attached(&self) -> &[Attached] {
        &self.attached
    }

    fn hertz(&self) -> u32 {
        self.hertz
    }

    fn attach(&mut self, name: &str) -> Result<()> {
        let old = self.attached.iter_mut().find(|nic| nic.name == name);
        let old = old.with_context(|| format!("{name}: it was never attached"))?;
        let layout = pins::directory(self.board.path());
        let program = program(&mut self.object, driver::PROGRAM)?;
        *old = attach::again(program, &mut self.maps, &layout, old, self.xdp)?;
        Ok(())
    }
}

const _: () = assert!(LAYOUT == 2, "another layout: say in `pins` what becomes of the one before");
