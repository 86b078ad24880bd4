//! Connections that stay open and ask again and again.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::task::JoinHandle;

use crate::{
    host::Host,
    report::Report,
    talk::{PATIENCE, dial, timeout_at, who},
    traffic::{Samples, note},
};

/// One long connection from each source. A connection that fails is not opened again.
#[derive(Debug)]
pub struct Pings {
    host: Host,
    stop: Arc<AtomicBool>,
    samples: Samples,
    connections: Vec<JoinHandle<()>>,
}

impl Pings {
    /// Opens all connections, then lets each ask every so often.
    pub fn start(host: &Host, sources: &[Ipv4Addr], target: SocketAddrV4, every: Duration) -> Result<Self> {
        let (stop, samples) = (Arc::<AtomicBool>::default(), Samples::default());
        let mut connections = Vec::new();
        for source in sources.iter().copied() {
            let mut line = host
                .run(timeout_at(PATIENCE, "connect", dial(SocketAddrV4::new(source, 0), target)))
                .with_context(|| format!("cannot connect {source} to {target}"))?;
            let (stop, samples) = (Arc::clone(&stop), Arc::clone(&samples));
            connections.push(host.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let outcome = timeout_at(PATIENCE, "ping", who(&mut line)).await;
                    let failed = outcome.is_err();
                    note(&samples, source, began, outcome);
                    if failed {
                        return;
                    }
                    tokio::time::sleep(every).await;
                }
            }));
        }
        Ok(Self { host: host.clone(), stop, samples, connections })
    }

    /// What became of the pings so far.
    pub fn report(&self) -> Report {
        Report { samples: self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone() }
    }

    /// Closes the connections and says what became of all pings.
    pub fn stop(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let connections = std::mem::take(&mut self.connections);
        self.host.run(async move {
            futures::future::join_all(connections).await;
        });
        self.report()
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        self.connections.iter().for_each(JoinHandle::abort);
    }
}
