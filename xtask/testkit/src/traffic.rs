//! Requests without end from many client addresses, each on a connection of its own.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::task::JoinHandle;

use crate::{
    host::Host,
    report::{Report, Sample},
    talk::{Answer, ask},
};

/// What the clients do.
#[derive(Clone, Debug)]
pub struct Load {
    /// The addresses that ask, in turn.
    pub sources: Vec<Ipv4Addr>,
    /// Whom they ask.
    pub target: SocketAddrV4,
    /// Clients at the same time.
    pub workers: usize,
    /// Between two requests of one of them.
    pub pause: Duration,
}

/// Requests that go on until they are stopped.
#[derive(Debug)]
pub struct Traffic {
    host: Host,
    stop: Arc<AtomicBool>,
    samples: Samples,
    workers: Vec<JoinHandle<()>>,
}

/// What the workers have seen.
pub(crate) type Samples = Arc<Mutex<Vec<Sample>>>;

impl Load {
    /// Eight clients, a few hundred requests each second.
    pub fn new(sources: Vec<Ipv4Addr>, target: SocketAddrV4) -> Self {
        Self { sources, target, workers: 8, pause: Duration::from_millis(10) }
    }

    /// One request from every source, and what became of them.
    pub fn once(&self, host: &Host) -> Report {
        let (load, samples) = (self.clone(), Samples::default());
        let done = Arc::clone(&samples);
        host.run(async move {
            for batch in load.sources.chunks(load.workers.max(1)) {
                futures::future::join_all(batch.iter().map(|source| one(*source, load.target, &samples))).await;
            }
        });
        Report { samples: std::mem::take(&mut *done.lock().unwrap_or_else(PoisonError::into_inner)) }
    }

    /// Starts it.
    pub fn start(self, host: &Host) -> Traffic {
        let (stop, samples) = (Arc::<AtomicBool>::default(), Samples::default());
        let workers =
            (0..self.workers).map(|worker| host.spawn(work(worker, self.clone(), stop.clone(), samples.clone())));
        Traffic { workers: workers.collect(), host: host.clone(), stop, samples }
    }
}

impl Traffic {
    /// What became of the requests so far.
    pub fn report(&self) -> Report {
        Report { samples: self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone() }
    }

    /// How many requests have ended.
    pub fn requests(&self) -> usize {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Lets the requests under way end, starts no other, and says what became of all.
    pub fn stop(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let workers = std::mem::take(&mut self.workers);
        self.host.run(async move {
            futures::future::join_all(workers).await;
        });
        self.report()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.workers.iter().for_each(JoinHandle::abort);
    }
}

async fn work(worker: usize, load: Load, stop: Arc<AtomicBool>, samples: Samples) {
    // Each worker takes every n-th source, so no source asks twice at once.
    let sources = load.sources.iter().skip(worker).step_by(load.workers);
    for source in sources.cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        one(*source, load.target, &samples).await;
        tokio::time::sleep(load.pause).await;
    }
}

async fn one(source: Ipv4Addr, target: SocketAddrV4, samples: &Samples) {
    let began = Instant::now();
    note(samples, source, began, ask(source, target).await);
}

/// Writes an outcome down.
pub(crate) fn note(samples: &Samples, source: Ipv4Addr, began: Instant, outcome: Result<Answer>) {
    let outcome = match outcome {
        Ok(answer) if *answer.client.ip() == source => Ok(Arc::from(answer.backend)),
        Ok(answer) => Err(format!("{} saw the client as {}", answer.backend, answer.client)),
        Err(error) => Err(format!("{error:#}")),
    };
    let sample = Sample { source, began, ended: Instant::now(), outcome };
    samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
}
