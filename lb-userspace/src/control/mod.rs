//! The one loop, and the only place that decides and reads clocks.
//!
//! Everything that happens is an [`Event`]: tasks send, the loop takes them in batches, and after each
//! batch the [`Controller`] asks what is wanted now, plans, and does the plan. A step that fails
//! stops the plan there; what was done is noted, the rest is planned anew after a pause.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time,
};

use crate::{
    datapath::Datapath,
    health::prober::{Key, Probed, Target},
    model::Model,
    net::GroundFault,
    observe::{
        documents::Reloaded,
        ends::{Called, Caller},
    },
    time::Now,
};

mod announce;
mod apply;
mod compare;
mod controller;
pub mod drains;
mod endings;
mod explain;
pub mod follow;
pub mod herald;
mod hold;
pub mod journal;
mod look;
mod needs;
mod report;
mod rests;
mod returns;
mod roster;
mod scene;
pub mod surroundings;
pub mod tally;
mod terms;
mod wish;

pub use announce::{Errand, Posting, Seat};
pub use controller::{Controller, Load, Settings};
pub use drains::Drained;
pub use herald::Host;
pub use journal::Following;
pub use look::{FlowsAsked, MOST_FLOWS};
pub use surroundings::{Network, Running, Surroundings};
pub use tally::Measures;

/// All that can happen.
#[derive(Debug)]
pub enum Event {
    /// The file changed and settled.
    FileChanged,
    /// Someone wants the file read now, and perhaps waits until it is in force.
    Reload(Option<oneshot::Sender<Reloaded>>),
    /// A backend was probed.
    Probed(Probed),
    /// Addresses, routes or neighbours changed; or cannot be read, and why.
    Surroundings(Result<Surroundings, String>),
    /// What came of the posting of this number.
    Posted(u64, Result<(), String>),
    /// What of this host stands in the way of serving.
    Ground(Vec<GroundFault>),
    /// Someone wants to know.
    Ask(Question, oneshot::Sender<Answer>),
    /// HTTP is spoken at this address, or is not, and why.
    Http(Result<SocketAddr, String>),
    /// Someone wants all that metrics are made of.
    Measure(oneshot::Sender<Result<Measures, String>>),
    /// Someone wants to know the last so many state changes, and perhaps those that come.
    Follow(usize, oneshot::Sender<Following>),
    /// The controller shall stop and leave the packet path as it is.
    Stop,
    /// The controller shall stop and take the packet path away; the sender hears what came of it.
    Detach(oneshot::Sender<Result<(), String>>),
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The whole.
    Status,
    /// Whether it is ready, and why not.
    Readiness,
    /// All services.
    Services,
    /// The backends of one service or of all.
    Backends(Option<String>),
    /// Connections, one by one.
    Flows(FlowsAsked),
    /// Which backend a client has or would get.
    Explain(Caller, Called),
    /// What this model would change.
    Diff(Box<Model>),
}

/// A document, or why there is none.
pub type Answer = Result<Value, String>;

/// How the loop ended.
#[derive(Debug)]
pub enum Ended {
    /// The packet path stays.
    Stopped,
    /// The packet path is to be taken away, and the sender told.
    Detach(oneshot::Sender<Result<(), String>>),
}

/// What the loop hears and whom it tells.
#[derive(Debug)]
pub struct Channels {
    /// Everything but probes.
    pub events: mpsc::Receiver<Event>,
    /// Probes.
    pub probes: mpsc::Receiver<Probed>,
    /// What to probe.
    pub targets: watch::Sender<BTreeMap<Key, Target>>,
    /// Whose next hops to watch.
    pub addresses: watch::Sender<BTreeSet<Ipv4Addr>>,
    /// Which backends drain, for the controller after us.
    pub drains: watch::Sender<Vec<Drained>>,
    /// What to do with the host's addresses.
    pub postings: watch::Sender<Posting>,
}

/// Events taken in at one time: ten thousand probes that answer at once become a few plans.
const BATCH: usize = 4096;

/// Runs until it is told to stop; `on_ready` is called once, when the first tables are published.
pub async fn serve<D: Datapath>(
    controller: &mut Controller<D>,
    mut channels: Channels,
    on_ready: impl FnOnce(&Controller<D>),
) -> Ended {
    let mut on_ready = Some(on_ready);
    let mut asked = Vec::new();
    loop {
        let wake = controller.turn(Now::read());
        if let Some(targets) = controller.take_targets() {
            channels.targets.send_replace(targets);
        }
        channels.addresses.send_if_modified(|known| controller.update_addresses(known));
        channels.drains.send_if_modified(|known| controller.update_drains(known));
        channels.postings.send_if_modified(|known| controller.update_posting(known));
        if controller.is_ready()
            && let Some(on_ready) = on_ready.take()
        {
            on_ready(controller);
        }
        // After the turn: what an answer says is in force.
        for question in asked.drain(..) {
            controller.absorb(question, Now::read());
        }
        for event in batch(&mut channels, wake).await {
            match event {
                Event::Ask(..) | Event::Measure(_) | Event::Follow(..) => asked.push(event),
                Event::Stop => return Ended::Stopped,
                Event::Detach(done) => return Ended::Detach(done),
                event => controller.absorb(event, Now::read()),
            }
        }
    }
}

/// What has happened by now, or happens first until `wake`.
async fn batch(channels: &mut Channels, wake: Option<Instant>) -> Vec<Event> {
    let Channels { events, probes, .. } = channels;
    let mut batch = Vec::new();
    tokio::select! {
        event = events.recv() => batch.push(event.unwrap_or(Event::Stop)),
        Some(probed) = probes.recv() => batch.push(Event::Probed(probed)),
        () = time::sleep_until(wake.unwrap_or_else(Instant::now).into()), if wake.is_some() => {}
    }
    while batch.len() < BATCH
        && let Ok(probed) = probes.try_recv()
    {
        batch.push(Event::Probed(probed));
    }
    while batch.len() < BATCH
        && let Ok(event) = events.try_recv()
    {
        batch.push(event);
    }
    batch
}
