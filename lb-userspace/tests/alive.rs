//! The whole controller alive, with real probes, a real file and a real socket; only the packet path and
//! the routes are in memory. Needs no root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use lb_userspace::{
    config,
    control::{self, Channels, Controller, Ended, Event, Network, Posting, Settings, follow, surroundings},
    datapath::memory::MemoryDatapath,
    health::prober,
    model::Model,
    net::{Address, Link, NextHop},
    observe::{
        Request, client,
        documents::{BackendsByService, Reloaded, Status},
        socket::Socket,
    },
    time::Now,
};
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time,
};

/// Every backend is one hop away.
struct Flat;

impl Network for Flat {
    async fn next_hop(&self, _: Ipv4Addr) -> Result<NextHop> {
        Ok(NextHop::Known { ifindex: 2, mac: [2; 6] })
    }

    async fn addresses(&self) -> Result<BTreeSet<Address>> {
        Ok(BTreeSet::new())
    }

    async fn resolve(&self, _: u32, _: Ipv4Addr) -> Result<()> {
        Ok(())
    }

    async fn links(&self) -> Result<Vec<Link>> {
        Ok(Vec::new())
    }

    fn changes(&self) -> mpsc::Receiver<()> {
        let (send, changes) = mpsc::channel(1);
        // Nothing changes: the sender stays with a task that never ends.
        tokio::spawn(async move { send.closed().await });
        changes
    }
}

/// The file, with backends 10.77.0.N on 127.0.0.N: a file cannot name those of this host itself.
fn load(file: &Path) -> Result<Model, String> {
    let mut model = config::load(file).map_err(|faults| faults.to_string())?;
    for backend in model.services.values_mut().flat_map(|service| &mut service.backends) {
        if let [10, 77, c, d] = backend.address.ip().octets() {
            backend.address.set_ip(Ipv4Addr::new(127, 0, c, d));
        }
    }
    Ok(model)
}

/// A controller that runs, on a directory of its own.
struct Alive {
    directory: TempDir,
    events: mpsc::Sender<Event>,
    ready: oneshot::Receiver<()>,
    ended: JoinHandle<(Ended, MemoryDatapath)>,
}

impl Alive {
    fn start(yaml: &str) -> Self {
        Self::on(tempfile::tempdir().unwrap(), MemoryDatapath::new(), yaml)
    }

    fn on(directory: TempDir, datapath: MemoryDatapath, yaml: &str) -> Self {
        let file = directory.path().join("f.yaml");
        fs::write(&file, yaml).unwrap();
        let model = load(&file).unwrap_or_else(|faults| panic!("{faults}"));
        let settings = Settings {
            file: file.clone(),
            node: model.node.clone(),
            interfaces_by_flag: true,
            xdp_by_flag: false,
            socket_by_flag: true,
            socket: None,
            http_by_flag: true,
            http: None,
        };
        let (events, inbox) = mpsc::channel(64);
        let (found, probes) = mpsc::channel(64);
        let (targets, wanted_targets) = watch::channel(BTreeMap::new());
        let (addresses, wanted_addresses) = watch::channel(BTreeSet::new());
        let (postings, _) = watch::channel(Posting::default());
        let socket = Socket::bind(&directory.path().join("s")).unwrap();
        tokio::spawn(prober::probe(wanted_targets, found));
        tokio::spawn(surroundings::follow(Arc::new(Flat), wanted_addresses, events.clone()));
        tokio::spawn(follow::follow(file.clone(), fs::read(&file).ok(), events.clone()));
        tokio::spawn(socket.serve("/pins".into(), events.clone(), mpsc::channel(1).0));
        let (say_ready, ready) = oneshot::channel();
        // The loop is not sent between threads, as in `run`.
        let ended = tokio::task::spawn_blocking(move || {
            let load = Box::new(move || load(&file));
            let mut controller = Controller::new(datapath, settings, model, load, Now::read()).ok().unwrap();
            let drains = watch::channel(Vec::new()).0;
            let channels = Channels { events: inbox, probes, targets, addresses, drains, postings };
            let on_ready = |_: &_| say_ready.send(()).unwrap();
            let loop_ = control::serve(&mut controller, channels, on_ready);
            let ended = tokio::runtime::Handle::current().block_on(loop_);
            (ended, controller.into_datapath())
        });
        Self { directory, events, ready, ended }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn ready(&mut self) {
        time::timeout(Duration::from_secs(5), &mut self.ready).await.expect("it is never ready").unwrap();
    }

    async fn ask<T: DeserializeOwned>(&self, request: Request) -> T {
        let socket = self.path("s");
        let answer = tokio::task::spawn_blocking(move || client::ask(&socket, &request)).await.unwrap();
        serde_json::from_value(answer.unwrap()).unwrap()
    }

    /// The states of all backends.
    async fn states(&self) -> Vec<String> {
        let document: BackendsByService = self.ask(Request::Backends { service: None }).await;
        document.services.into_iter().flat_map(|service| service.backends).map(|backend| backend.state).collect()
    }

    async fn until_states(&self, wanted: &[&str]) -> Duration {
        let start = Instant::now();
        while self.states().await != wanted {
            assert!(start.elapsed() < Duration::from_secs(5), "{:?}, not {wanted:?}", self.states().await);
            time::sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    }

    async fn stop(self) -> (TempDir, MemoryDatapath) {
        self.events.send(Event::Stop).await.unwrap();
        let (ended, datapath) = self.ended.await.unwrap();
        assert!(matches!(ended, Ended::Stopped));
        (self.directory, datapath)
    }
}

/// A backend that takes connections and says nothing.
async fn backend(address: &str) -> (JoinHandle<()>, SocketAddr) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    (tokio::spawn(async move { while listener.accept().await.is_ok() {} }), address)
}

fn yaml(backends: &[SocketAddr]) -> String {
    let list: Vec<String> = backends.iter().map(|address| address.to_string().replace("127.0.", "10.77.")).collect();
    format!(
        "version: 1\nservices:\n  web:\n    listen: 203.0.113.10:80\n    \
         health: {{interval: 100ms, timeout: 50ms, rise: 2, fall: 3}}\n    backends: [{}]\n",
        list.join(", ")
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_the_first_start_to_a_restart() {
    let (one, first) = backend("127.0.0.1:0").await;
    let (_two, second) = backend("127.0.0.2:0").await;
    let start = Instant::now();
    let mut alive = Alive::start(&yaml(&[first, second]));
    alive.ready().await;
    assert!(start.elapsed() < Duration::from_millis(500), "ready after {:?}", start.elapsed());
    alive.until_states(&["up", "up"]).await;

    // A backend dies: it is out after three failures, and back after two successes.
    one.abort();
    let took = alive.until_states(&["down", "up"]).await;
    assert!(took > Duration::from_millis(150), "{took:?}");
    let (_one, _) = backend(&first.to_string()).await;
    alive.until_states(&["up", "up"]).await;

    // The file is followed, and a bad one changes nothing.
    fs::write(alive.path("f.yaml"), yaml(&[second])).unwrap();
    alive.until_states(&["up", "drain"]).await;
    fs::write(alive.path("f.yaml"), "version: 1\nservices: {").unwrap();
    let reloaded: Reloaded = alive.ask(Request::Reload {}).await;
    assert!(reloaded.fault.unwrap().contains("f.yaml"));
    let status: Status = alive.ask(Request::Status {}).await;
    assert!(status.ready && status.config.fault.is_some());
    fs::write(alive.path("f.yaml"), yaml(&[first, second])).unwrap();
    let reloaded: Reloaded = alive.ask(Request::Reload {}).await;
    assert_eq!(reloaded.fault, None);
    // What a reload adds is known when the reload is done.
    assert_eq!(alive.states().await, ["up", "up"]);

    // Another controller on the same maps changes nothing.
    let (directory, mut datapath) = alive.stop().await;
    datapath.applied.clear();
    let mut again = Alive::on(directory, datapath, &yaml(&[first, second]));
    again.ready().await;
    again.until_states(&["up", "up"]).await;
    let (_, datapath) = again.stop().await;
    assert_eq!(datapath.applied, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_backend_delays_the_first_tables_by_one_timeout_at_most() {
    let (_one, first) = backend("127.0.0.1:0").await;
    // TEST-NET-2 (RFC 5737): nobody answers, or the network says that there is no way.
    let silent: SocketAddr = "198.51.100.1:9".parse().unwrap();
    let start = Instant::now();
    let mut alive = Alive::start(&yaml(&[first, silent]));
    alive.ready().await;
    let took = start.elapsed();
    assert!(took < Duration::from_millis(500), "ready after {took:?}");
    assert_eq!(alive.states().await[0], "up");
    alive.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn detach_ends_the_loop_and_is_told_when_it_is_done() {
    let (_one, first) = backend("127.0.0.1:0").await;
    let mut alive = Alive::start(&yaml(&[first]));
    alive.ready().await;
    let socket = alive.path("s");
    let asked = tokio::task::spawn_blocking(move || {
        client::ask(&socket, &Request::Detach { pin_dir: Path::new("/pins").to_owned() })
    });
    let (ended, _) = (&mut alive.ended).await.unwrap();
    let Ended::Detach(done) = ended else { panic!("not detached") };
    assert!(!asked.is_finished());
    done.send(Ok(())).unwrap();
    assert!(asked.await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_level_that_is_taken_out_of_the_file_is_the_default_again() {
    let (_one, first) = backend("127.0.0.1:0").await;
    log::set_max_level(log::LevelFilter::Debug);
    let mut alive = Alive::start(&yaml(&[first]));
    alive.ready().await;
    assert_eq!(log::max_level(), log::LevelFilter::Info);
    alive.stop().await;
}
