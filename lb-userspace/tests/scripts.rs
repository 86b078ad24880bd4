//! Plays the scripts in `tests/scripts`: files, probes, failures and time go in, plans and states come
//! out. Nothing is real but the controller. `UPDATE=1 cargo test` writes what came out into the scripts.
//!
//! A script is read line by line; what is indented belongs to the line above it.
//!
//! | line | does |
//! |---|---|
//! | `file` | the file is now the indented YAML; the first one starts a controller on empty maps, and later ones are reloads |
//! | `restart` | another controller on the maps as they are, which knows what the first one kept of backends that drain |
//! | `probe B… OUTCOME [xN]` | probes of these backends, a round in every interval of 2 s; `all` are all of the file; outcomes: `up`, `refused`, `silent`, `unreachable`, `ours` |
//! | `wait N` | N seconds pass |
//! | `hop ADDRESS WAY` | the way to an address: a NIC's name, `unresolved` or `none`; `locals A…` are the gateway's own |
//! | `flows B N` | as many live flows sweeps see of a backend; `traffic B TO FROM` are more packets |
//! | `fail N` | after N more steps every step fails; `heal` ends that |
//! | `plan` | the steps done since the last `plan` |
//! | `state`, `faults` | what `backends` and `status` show |
//! | `events` | what `events` shows since the last time |
//!
//! A backend is written as its name or `address:port` in the file.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use lb_common::{BackendId, Traffic};
use lb_userspace::{
    config,
    control::{Controller, Drained, Event, Question, Settings, Surroundings},
    datapath::{Snapshot, memory::MemoryDatapath},
    health::{Outcome, prober::Probed},
    model::Model,
    net::{Address, NextHop},
    observe::documents::{BackendsByService, Status},
    plan::{Printed, endpoint},
    time::Now,
};
use nix::errno::Errno;
use tokio::sync::oneshot;

/// The interval at which `probe` probes, whatever the file says.
const ROUND: Duration = Duration::from_secs(2);

#[test]
fn scripts_say_what_happens() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut failed = Vec::new();
    let mut paths: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 5, "the scripts are gone");
    for path in paths {
        let script = fs::read_to_string(&path).unwrap();
        let played = Stage::play(&script, &path.file_name().unwrap().to_string_lossy());
        if played == script {
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, played).unwrap();
        } else {
            failed.push(format!("{}:\n{}", path.display(), difference(&script, &played)));
        }
    }
    assert!(failed.is_empty(), "{}\n(`UPDATE=1 cargo test` takes what came out)", failed.join("\n"));
}

/// The lines around the first that differs.
fn difference(script: &str, played: &str) -> String {
    let same = script.lines().zip(played.lines()).take_while(|(old, new)| old == new).count();
    let show = |text: &str| text.lines().skip(same.saturating_sub(3)).take(16).collect::<Vec<_>>().join("\n  ");
    format!("line {}, expected\n  {}\nbut there was\n  {}", same + 1, show(script), show(played))
}

/// A controller over memory, and what surrounds it.
struct Stage {
    now: Now,
    controller: Option<Controller<MemoryDatapath>>,
    /// The file as it is, and what it was read as.
    file: Arc<Mutex<Result<Model, String>>>,
    names: BTreeMap<String, SocketAddrV4>,
    surroundings: Surroundings,
    /// What the maps held when the last plan was shown.
    shown: Snapshot,
    /// How many events were shown by this controller.
    told: usize,
}

impl Stage {
    /// The script with what comes out of it.
    fn play(script: &str, name: &str) -> String {
        let mut stage = Self {
            now: Now::read(),
            controller: None,
            file: Arc::new(Mutex::new(Err("no file".to_owned()))),
            names: BTreeMap::new(),
            surroundings: Surroundings {
                addresses: [own("10.0.1.1")].into(),
                names: [(2, "eth0".to_owned()), (3, "eth1".to_owned())].into(),
                ..Surroundings::default()
            },
            shown: Snapshot::default(),
            told: 0,
        };
        let mut out = String::new();
        let mut lines = script.lines().enumerate().peekable();
        while let Some((number, line)) = lines.next() {
            writeln!(out, "{line}").unwrap();
            let mut block = String::new();
            while let Some((_, indented)) = lines.next_if(|(_, next)| next.starts_with("    ")) {
                writeln!(block, "{}", &indented[4..]).unwrap();
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.is_empty() || line.starts_with('#') {
                out.push_str(&block);
                continue;
            }
            let result = match &words[..] {
                ["plan"] => stage.plan(),
                ["state"] => stage.state(),
                ["faults"] => stage.faults(),
                ["events"] => stage.events(),
                words => {
                    stage.act(words, &block, &format!("{name}:{}", number + 1));
                    block
                }
            };
            for line in result.lines() {
                writeln!(out, "{}", format!("    {line}").trim_end()).unwrap();
            }
        }
        out
    }

    fn act(&mut self, words: &[&str], block: &str, place: &str) {
        match words {
            ["file"] => self.reload(block, place),
            ["restart"] => {
                let mut drains = Vec::new();
                self.controller().update_drains(&mut drains);
                let datapath = self.controller.take().unwrap().into_datapath();
                let model = self.file.lock().unwrap().clone().unwrap();
                self.start(datapath, model, drains);
            }
            ["probe", rest @ ..] => self.probe(rest, place),
            ["wait", seconds] => self.wait(seconds.parse().unwrap()),
            ["locals", addresses @ ..] => {
                self.surroundings.addresses = addresses.iter().map(|address| own(address)).collect();
                self.look_around();
            }
            ["hop", address, way] => {
                let address: Ipv4Addr = address.parse().unwrap();
                self.surroundings.hops.insert(address, hop(address, way));
                self.look_around();
            }
            ["flows", backend, count] => {
                let id = self.id(backend);
                let flows = &mut self.datapath().flows.by_backend;
                match count.parse().unwrap() {
                    0 => drop(flows.remove(&id)),
                    count => drop(flows.insert(id, count)),
                }
            }
            ["traffic", backend, to, from] => {
                let id = self.id(backend);
                let traffic = self.datapath().traffic.entry(id).or_insert(Traffic { packets: [0; 2], bytes: [0; 2] });
                traffic.packets[0] += to.parse::<u64>().unwrap();
                traffic.packets[1] += from.parse::<u64>().unwrap();
            }
            ["fail", after] => self.datapath().failing_after = Some(after.parse().unwrap()),
            ["heal"] => self.datapath().failing_after = None,
            _ => panic!("{place}: not understood: {}", words.join(" ")),
        }
    }

    fn controller(&mut self) -> &mut Controller<MemoryDatapath> {
        self.controller.as_mut().expect("a script begins with a file")
    }

    fn datapath(&mut self) -> &mut MemoryDatapath {
        self.controller().datapath_mut()
    }

    fn absorb(&mut self, event: Event) {
        let now = self.now;
        self.controller().absorb(event, now);
    }

    fn turn(&mut self) {
        let now = self.now;
        self.controller().turn(now);
    }

    /// Lets time pass, with a turn whenever the controller wants one.
    fn wait(&mut self, seconds: f64) {
        let end = self.now.after(Duration::from_secs_f64(seconds));
        loop {
            let now = self.now;
            let Some(wake) = self.controller().turn(now).filter(|wake| *wake < end.at) else { break };
            assert!(wake > self.now.at, "the controller does not sleep");
            self.now = self.now.after(wake - self.now.at);
        }
        self.now = end;
        self.turn();
    }

    fn reload(&mut self, yaml: &str, place: &str) {
        let parsed = config::parse(yaml, place).map_err(|faults| faults.to_string());
        // What becomes of VIPs on the host is told by `announce.rs`.
        let parsed = parsed.map(|(mut model, _)| {
            model.node.announce_vips = false;
            model
        });
        *self.file.lock().unwrap() = parsed.clone();
        if let Ok(model) = &parsed {
            for backend in model.services.values().flat_map(|service| &service.backends) {
                let name = backend.name.clone().unwrap_or_else(|| backend.address.to_string());
                self.names.insert(name, backend.address);
                let ip = *backend.address.ip();
                self.surroundings.hops.entry(ip).or_insert_with(|| hop(ip, "eth0"));
            }
        }
        if self.controller.is_none() {
            self.start(MemoryDatapath::new(), parsed.unwrap_or_else(|fault| panic!("{fault}")), Vec::new());
            return;
        }
        self.look_around();
        self.absorb(Event::FileChanged);
        self.turn();
    }

    fn start(&mut self, datapath: MemoryDatapath, model: Model, drains: Vec<Drained>) {
        let file = Arc::clone(&self.file);
        let load = Box::new(move || file.lock().unwrap().clone());
        let settings = Settings {
            file: "tidegate.yaml".into(),
            node: model.node.clone(),
            interfaces_by_flag: true,
            xdp_by_flag: false,
            socket_by_flag: true,
            socket: None,
            http_by_flag: true,
            http: None,
        };
        let mut controller = Controller::new(datapath, settings, model, load, self.now).ok().unwrap();
        controller.recall(drains);
        self.controller = Some(controller);
        self.told = 0;
        self.turn();
        self.look_around();
        self.turn();
    }

    fn look_around(&mut self) {
        if self.controller.is_some() {
            let found = self.surroundings.clone();
            self.absorb(Event::Surroundings(Ok(found)));
            self.turn();
        }
    }

    fn probe(&mut self, words: &[&str], place: &str) {
        let (words, rounds) = match words {
            [words @ .., times] if times.starts_with('x') => (words, times[1..].parse().unwrap()),
            words => (words, 1),
        };
        let [backends @ .., outcome] = words else { panic!("{place}: probe whom?") };
        let outcome = match *outcome {
            "up" => Outcome::Answered,
            "refused" => Outcome::Refused,
            "silent" => Outcome::Silent,
            "unreachable" => Outcome::Unreachable(Errno::EHOSTUNREACH),
            "ours" => Outcome::Ours(Errno::EMFILE),
            other => panic!("{place}: no outcome: {other}"),
        };
        let model = self.file.lock().unwrap().clone().unwrap();
        for _ in 0..rounds {
            let mut wanted: BTreeSet<SocketAddrV4> = BTreeSet::new();
            for backend in backends {
                let all = model.services.values().flat_map(|service| &service.backends).map(|backend| backend.address);
                wanted.extend(if *backend == "all" { all.collect() } else { vec![self.names[*backend]] });
            }
            // Probes of one round are spread over the interval.
            let pause = ROUND / (wanted.len() as u32 + 1);
            for address in wanted {
                self.wait(pause.as_secs_f64());
                let sent = self.now.at;
                for (name, service) in &model.services {
                    if service.backends.iter().any(|backend| backend.address == address) {
                        let key = (name.as_str().into(), address);
                        self.absorb(Event::Probed(Probed { key, outcome, sent, took: Duration::ZERO }));
                    }
                }
                self.turn();
            }
            self.wait(pause.as_secs_f64());
        }
    }

    fn id(&mut self, backend: &str) -> BackendId {
        let address = self.names[backend];
        let maps = &self.datapath().maps;
        let found = maps.backends.iter().find(|(_, entry)| SocketAddrV4::from(endpoint(entry)) == address);
        *found.expect("the backend is in the maps").0
    }

    /// Names instead of addresses, where the file has names.
    fn named(&self, text: &str) -> String {
        let mut names: Vec<_> = self.names.iter().map(|(name, address)| (address.to_string(), name)).collect();
        names.sort_by_key(|(address, _)| usize::MAX - address.len());
        names.iter().fold(text.to_owned(), |text, (address, name)| text.replace(address, name))
    }

    fn plan(&mut self) -> String {
        let steps = std::mem::take(&mut self.datapath().applied);
        let printed = Printed::new(&self.shown, &steps).to_string();
        self.shown = self.controller().have().clone();
        if steps.is_empty() {
            return "nothing".to_owned();
        }
        self.named(&printed)
    }

    fn ask(&mut self, question: Question) -> serde_json::Value {
        let (answer, mut answered) = oneshot::channel();
        self.absorb(Event::Ask(question, answer));
        answered.try_recv().unwrap().unwrap()
    }

    fn state(&mut self) -> String {
        let document: BackendsByService = serde_json::from_value(self.ask(Question::Backends(None))).unwrap();
        let mut out = String::new();
        for service in document.services {
            for backend in service.backends {
                let (name, state, reason) = (backend.name, backend.state, backend.reason);
                writeln!(out, "{:4} {name:4} {state:8} {reason}", service.name).unwrap();
            }
        }
        self.named(&out)
    }

    fn events(&mut self) -> String {
        let (send, mut following) = oneshot::channel();
        self.absorb(Event::Follow(usize::MAX, send));
        let past = following.try_recv().unwrap().past;
        let mut out = String::new();
        for event in &past[self.told..] {
            let (service, backend) = (event.service.as_deref(), event.backend.as_deref());
            let subject: Vec<&str> = [Some(event.kind.as_str()), service, backend].into_iter().flatten().collect();
            let [from, to] = [&event.from, &event.to].map(|state| state.as_deref().unwrap_or("-"));
            // The process's number is another one each time.
            let reason = event.reason.lines().next().unwrap_or_default().split(", process").next().unwrap_or_default();
            writeln!(out, "{}: {from} > {to} ({reason})", subject.join(" ")).unwrap();
        }
        self.told = past.len();
        self.named(&out)
    }

    fn faults(&mut self) -> String {
        let status: Status = serde_json::from_value(self.ask(Question::Status)).unwrap();
        let mut lines = status.config.fault.map_or(Vec::new(), |fault| vec![format!("file: {fault}")]);
        lines.extend(status.config.needs_restart.iter().chain(&status.faults).cloned());
        lines.insert(0, if status.ready { "serving".to_owned() } else { "not serving yet".to_owned() });
        self.named(&lines.join("\n"))
    }
}

/// An address of the gateway itself.
fn own(address: &str) -> Address {
    let address = address.parse().unwrap();
    Address { address, ifindex: 2, subnet: (address, 24), is_marked: false }
}

fn hop(address: Ipv4Addr, way: &str) -> NextHop {
    let [.., last] = address.octets();
    match way {
        "none" => NextHop::NoRoute,
        "unresolved" => NextHop::Unresolved { ifindex: 2, neighbour: address },
        nic => NextHop::Known { ifindex: if nic == "eth0" { 2 } else { 3 }, mac: [2, 0, 0, 0, 1, last] },
    }
}
