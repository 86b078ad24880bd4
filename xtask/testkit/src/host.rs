//! A host: a network namespace and the thread that lives in it.

use std::{
    fs,
    future::Future,
    os::fd::OwnedFd,
    panic::resume_unwind,
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle, ThreadId},
};

use anyhow::{Context as _, Result};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

use crate::namespace::Namespace;

/// A machine of the test network. Clones are the same machine; it goes with the last of them.
#[derive(Clone, Debug)]
pub struct Host(Arc<Machine>);

#[derive(Debug)]
struct Machine {
    name: String,
    namespace: Arc<Namespace>,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Programs and links that go with the host.
    kept: Mutex<Vec<OwnedFd>>,
}

impl Host {
    /// A machine with nothing but `lo`. It does not speak IPv6, so that captures hold only what a test sent.
    pub fn new(name: &str) -> Result<Self> {
        let namespace = Arc::new(Namespace::new()?);
        let (stop, stopped) = oneshot::channel();
        let (ready, runtime) = mpsc::sync_channel(1);
        let inside = Arc::clone(&namespace);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || live(&inside, &ready, stopped))?;
        let runtime = runtime.recv().context("the thread of a host ended early")??;
        let host = Self(Arc::new(Machine {
            name: name.to_owned(),
            namespace,
            runtime,
            stop: Some(stop),
            thread: Some(thread),
            kept: Mutex::default(),
        }));
        for which in ["all", "default"] {
            host.sysctl(&format!("net/ipv4/conf/{which}/rp_filter"), "0")?;
            host.sysctl(&format!("net/ipv4/conf/{which}/send_redirects"), "0")?;
            if Path::new("/proc/sys/net/ipv6").exists() {
                host.sysctl(&format!("net/ipv6/conf/{which}/disable_ipv6"), "1")?;
            }
        }
        host.up("lo")?;
        Ok(host)
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The namespace, to start processes in.
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.0.namespace
    }

    /// Runs a future on this host and waits for it. A panic in it is a panic here.
    pub fn run<F>(&self, future: F) -> F::Output
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        assert_ne!(
            Some(thread::current().id()),
            self.thread_id(),
            "{}: `run` waits for the thread it is on",
            self.0.name
        );
        match futures::executor::block_on(self.spawn(future)) {
            Ok(output) => output,
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            Err(error) => panic!("{}: the host ended under a task: {error}", self.0.name),
        }
    }

    /// Runs a closure in the namespace, on the host's thread.
    pub fn call<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.run(async move { work() })
    }

    /// Starts a future on this host.
    pub fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.runtime.spawn(future)
    }

    /// Sets a sysctl, named as under /proc/sys: `net/ipv4/ip_forward`.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let (path, value) = (Path::new("/proc/sys").join(name), value.to_owned());
        let said = format!("{}: cannot set {name} to {value}", self.0.name);
        self.call(move || fs::write(path, value)).context(said)
    }

    /// Keeps a descriptor for as long as the host lives.
    pub(crate) fn keep(&self, fd: OwnedFd) {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).push(fd);
    }

    fn thread_id(&self) -> Option<ThreadId> {
        self.0.thread.as_ref().map(|thread| thread.thread().id())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A task that held the last clone drops it on the host's own thread, which cannot wait for itself.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

/// The life of a host's thread: its sockets are made in the namespace because it is.
fn live(namespace: &Namespace, ready: &mpsc::SyncSender<Result<Handle>>, stopped: oneshot::Receiver<()>) {
    let runtime = namespace
        .enter()
        .and_then(|()| Builder::new_current_thread().enable_all().build().context("cannot make a tokio runtime"));
    match runtime {
        Ok(runtime) => {
            let _ = ready.send(Ok(runtime.handle().clone()));
            let _ = runtime.block_on(stopped);
        }
        Err(error) => {
            let _ = ready.send(Err(error));
        }
    }
}
