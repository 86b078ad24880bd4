//! The controller's state, how an event changes it, and what follows from it.
//!
//! It reads no clock and waits for nothing, so tests play whole days with it in no time.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Instant, SystemTime},
};

use anyhow::Context as _;
use log::{Level, LevelFilter};
use tokio::sync::oneshot;

use super::{
    Event, Posting,
    announce::Announcer,
    apply::Trouble,
    drains::Drained,
    endings::Ration,
    hold::Hold,
    journal::{Journal, Note},
    rests::Rests,
    returns::Returns,
    roster,
    roster::Roster,
    scene::Scene,
    surroundings::Surroundings,
    tally::Tally,
    wish::Tables,
};
use crate::{
    datapath::{Datapath, FlowCounts, Snapshot},
    health::prober::{Key, Target},
    model::{Http, Model, Node},
    net::GroundFault,
    observe::documents::Reloaded,
    plan::{Verdicts, verdicts},
    time::Now,
};

/// Reads the file: the model, or its faults as text.
pub type Load = Box<dyn FnMut() -> Result<Model, String>>;

/// What a controller is started with and keeps for life.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file, for `status`.
    pub file: PathBuf,
    /// The node as this process runs it: flags over the file over defaults.
    pub node: Node,
    /// Whether a flag named the interfaces, so that those of the file do not matter.
    pub interfaces_by_flag: bool,
    /// Whether a flag named the way to attach.
    pub xdp_by_flag: bool,
    /// Whether a flag named the socket, so that that of the file does not matter.
    pub socket_by_flag: bool,
    /// The socket of the file at start.
    pub socket: Option<PathBuf>,
    /// Whether a flag says where HTTP is spoken, so that the file does not matter.
    pub http_by_flag: bool,
    /// What the file said of it at start.
    pub http: Option<Http>,
}

/// The state of the control plane over one packet path.
pub struct Controller<D> {
    pub(super) datapath: D,
    pub(super) settings: Settings,
    pub(super) load: Load,
    /// What the maps hold, kept by noting every step that was done.
    pub(super) have: Snapshot,
    /// What the maps held when this controller started, until the first model is taken up.
    pub(super) adopted: Option<Snapshot>,
    pub(super) model: Option<Model>,
    pub(super) roster: Roster,
    pub(super) surroundings: Option<Surroundings>,
    pub(super) tables: Tables,
    /// Who may connect, by service: made once for each model.
    pub(super) verdicts: BTreeMap<Arc<str>, Arc<Verdicts>>,
    pub(super) rests: Rests,
    pub(super) announcer: Announcer,
    pub(super) hold: Option<Hold>,
    pub(super) trouble: Option<Trouble>,
    pub(super) file: FileState,
    /// What of this host stands in the way, and what may.
    pub(super) ground: Vec<GroundFault>,
    pub(super) unseen: Option<String>,
    /// Where HTTP is spoken, or why not; nothing where it is off.
    pub(super) http: Option<Result<SocketAddr, String>>,
    pub(super) short: Vec<String>,
    pub(super) astray: BTreeSet<String>,
    pub(super) returns: Returns,
    pub(super) started: SystemTime,
    pub(super) sweep: Option<(Instant, FlowCounts)>,
    /// Why the flow tables cannot be swept, and when it is tried again; changes do not wait for that.
    pub(super) unswept: Option<(String, Instant)>,
    /// How much may be written of connections that end.
    pub(super) ration: Ration,
    pub(super) waiting: Vec<Waiting>,
    /// Until when some service waits for backends that nothing is known of.
    pub(super) awaited: Option<Instant>,
    /// Whether anything changed since the last plan that was done whole.
    pub(super) stale: bool,
    /// Whether a plan was done whole with all services served.
    pub(super) published: bool,
    /// Whether the VIPs of the first tables were put on the gateway, or could not be.
    pub(super) settled: bool,
    pub(super) journal: Journal,
    pub(super) scene: Scene,
    pub(super) tally: Tally,
    targets: Option<BTreeMap<Key, Target>>,
}

/// What is known of the file.
#[derive(Debug, Default)]
pub(super) struct FileState {
    pub(super) loaded_at: Option<SystemTime>,
    pub(super) fault: Option<String>,
    pub(super) needs_restart: Vec<String>,
}

/// Someone who waits until a reload is in force.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) done: oneshot::Sender<Reloaded>,
    pub(super) until: Option<Instant>,
}

impl<D: Datapath> Controller<D> {
    /// A controller over what the packet path holds, with the first model; the packet path back where it
    /// cannot be read.
    pub fn new(
        mut datapath: D,
        settings: Settings,
        model: Model,
        load: Load,
        now: Now,
    ) -> Result<Self, (D, anyhow::Error)> {
        let have = match datapath.snapshot().context("cannot read what the packet path holds") {
            Ok(have) => have,
            Err(error) => return Err((datapath, error)),
        };
        let mut controller = Self {
            datapath,
            settings,
            load,
            adopted: Some(have.clone()),
            have,
            model: None,
            roster: Roster::default(),
            surroundings: None,
            tables: Tables::default(),
            verdicts: BTreeMap::new(),
            rests: Rests::new(now),
            announcer: Announcer::new(now),
            hold: None,
            trouble: None,
            file: FileState::default(),
            ground: Vec::new(),
            unseen: None,
            http: None,
            short: Vec::new(),
            astray: BTreeSet::new(),
            returns: Returns::default(),
            started: now.wall,
            sweep: None,
            unswept: None,
            ration: Ration::default(),
            waiting: Vec::new(),
            awaited: None,
            stale: true,
            published: false,
            settled: false,
            journal: Journal::new(),
            scene: Scene::default(),
            tally: Tally::default(),
            targets: None,
        };
        controller.take_up(model, now);
        controller.note_start(now);
        Ok(controller)
    }

    /// The packet path, to take it away.
    pub fn into_datapath(self) -> D {
        self.datapath
    }

    /// The packet path.
    pub fn datapath(&self) -> &D {
        &self.datapath
    }

    /// The packet path, for tests that change what it sees.
    pub fn datapath_mut(&mut self) -> &mut D {
        &mut self.datapath
    }

    /// How many services the file has.
    pub fn services(&self) -> usize {
        self.model.as_ref().map_or(0, |model| model.services.len())
    }

    /// What the maps hold, as far as this controller knows.
    pub fn have(&self) -> &Snapshot {
        &self.have
    }

    /// Whether the first tables are published and nothing of this host stands in the way.
    pub fn is_ready(&self) -> bool {
        let has_nics = self.gone().len() < self.datapath.attached().len();
        has_nics && self.published && self.settled && self.ground.iter().all(|fault| !fault.fatal)
    }

    /// The NICs that vanished.
    pub(super) fn gone(&self) -> Vec<&str> {
        self.surroundings.as_ref().map_or(Vec::new(), |found| found.gone(self.datapath.attached()))
    }

    /// Takes in one event. What follows from it is done by the next [`turn`](Self::turn).
    pub fn absorb(&mut self, event: Event, now: Now) {
        match event {
            Event::FileChanged => self.reload(now),
            Event::Reload(done) => {
                self.reload(now);
                // Whoever asks for it wants it tried now, whatever failed before.
                self.trouble = None;
                self.waiting.extend(done.map(|done| Waiting { done, until: self.roster.waits_until(now) }));
            }
            Event::Probed(probed) => {
                // One that was under way when its backend left is nobody's.
                if self.roster.knows(&probed.key) {
                    self.tally.probed(&probed);
                }
                self.stale |= self.roster.probed(&probed, now);
            }
            Event::Surroundings(Ok(found)) => {
                self.stale |= self.surroundings.as_ref() != Some(&found);
                self.announcer.note_change();
                self.surroundings = Some(found);
                self.unseen = None;
            }
            Event::Surroundings(Err(error)) => {
                log::error!("cannot read routes and addresses: {error}; what was known stays");
                self.unseen = Some(format!("cannot read routes and addresses: {error}"));
                // The packet path is served by what the maps say; a first plan must not wait for ever.
                self.surroundings.get_or_insert_with(|| Surroundings::unknown(&self.have.locals));
            }
            Event::Posted(number, result) => self.announcer.answer(number, result, now),
            Event::Ground(faults) => {
                for fault in faults.iter().filter(|fault| !self.ground.contains(fault)) {
                    log::log!(if fault.fatal { Level::Error } else { Level::Warn }, "{fault}");
                }
                for fault in self.ground.iter().filter(|fault| !faults.contains(fault)) {
                    log::info!("no longer so: {}", fault.what);
                }
                self.ground = faults;
            }
            Event::Http(http) => {
                match &http {
                    Ok(address) => log::info!("HTTP is served at {address}"),
                    Err(error) => log::error!("{error}"),
                }
                self.http = Some(http);
            }
            Event::Ask(question, answer) => {
                let _ = answer.send(self.answer(&question, now));
            }
            Event::Measure(measures) => drop(measures.send(self.measures(now))),
            Event::Follow(limit, following) => drop(following.send(self.journal.follow(limit))),
            Event::Stop | Event::Detach(_) => {}
        }
    }

    /// Reads the file. A bad one changes nothing.
    fn reload(&mut self, now: Now) {
        match (self.load)() {
            Ok(model) => {
                if self.file.fault.take().is_some() {
                    log::info!("{}: good again", self.settings.file.display());
                }
                self.tally.reloads[0] += 1;
                self.file.loaded_at = Some(now.wall);
                let is_new = self.model.as_ref() != Some(&model);
                let said = match is_new {
                    true => format!("in force now, services: {}", model.services.len()),
                    false => "read again, it says nothing new".to_owned(),
                };
                log::info!("{}: {said}", self.settings.file.display());
                self.note_reload("ok", said, now);
                if is_new {
                    self.take_up(model, now);
                }
            }
            Err(fault) => {
                self.tally.reloads[1] += 1;
                // A file that is asked for while it changes is read twice.
                if self.file.fault.as_ref() != Some(&fault) {
                    log::error!("the file changes nothing, what was in force stays: {fault}");
                    self.note_reload("failed", fault.clone(), now);
                }
                self.file.fault = Some(fault);
            }
        }
    }

    /// Puts a model in force.
    fn take_up(&mut self, model: Model, now: Now) {
        self.file.loaded_at = Some(now.wall);
        self.file.needs_restart = self.needs_restart(&model);
        for what in &self.file.needs_restart {
            log::warn!("{what}");
        }
        // Also back to the default, when the key is taken out of the file.
        log::set_max_level(model.log_level.unwrap_or(LevelFilter::Info));
        self.datapath.tell_of(model.log_connections);
        let adopted = self.adopted.take();
        self.roster.follow(&model, adopted.as_ref(), now);
        let judged = model.services.iter().map(|(name, service)| (name.as_str().into(), &service.access));
        self.verdicts = judged.map(|(name, access)| (name, verdicts(access).into())).collect();
        let targets = roster::targets(&model);
        let probed = self.model.as_ref().map(roster::targets);
        if probed.as_ref() != Some(&targets) {
            self.tally.keep(|key| targets.contains_key(key));
            self.targets = Some(targets);
        }
        self.model = Some(model);
        self.stale = true;
    }

    fn note_start(&mut self, now: Now) {
        let reason = format!("tidegate {}, process {}", env!("CARGO_PKG_VERSION"), std::process::id());
        self.journal.write(Note { kind: "start", to: Some("running"), reason, ..Note::default() }, now);
    }

    fn note_reload(&mut self, result: &'static str, reason: String, now: Now) {
        self.journal.write(Note { kind: "reload", to: Some(result), reason, ..Note::default() }, now);
    }

    /// What to probe, if that changed.
    pub fn take_targets(&mut self) -> Option<BTreeMap<Key, Target>> {
        self.targets.take()
    }

    /// Takes in what an earlier controller knew of backends that drain. Only before the first turn.
    pub fn recall(&mut self, drains: Vec<Drained>) {
        self.rests.recall(drains);
    }

    /// Brings what a later controller shall know of backends that drain up to date, and says whether it changed.
    pub fn update_drains(&self, known: &mut Vec<Drained>) -> bool {
        let Some(drains) = self.rests.drained(&self.have).filter(|drains| drains != known) else { return false };
        *known = drains;
        true
    }

    /// Brings what is to be done on the host up to date, and says whether it changed.
    pub fn update_posting(&self, known: &mut Posting) -> bool {
        let changed = known != self.announcer.posting();
        if changed {
            known.clone_from(self.announcer.posting());
        }
        changed
    }

    /// Brings the set of addresses whose next hops matter up to date, and says whether it changed.
    pub fn update_addresses(&self, known: &mut BTreeSet<Ipv4Addr>) -> bool {
        let wanted = self.model.iter().flat_map(|model| model.services.values()).flat_map(|service| &service.backends);
        let wanted = wanted.map(|backend| *backend.address.ip());
        let draining = self.have.backends.values().map(|backend| backend.address.into());
        let addresses: BTreeSet<Ipv4Addr> = wanted.chain(draining).collect();
        let changed = *known != addresses;
        *known = addresses;
        changed
    }
}
