//! A controller over memory, and a host that is a list of addresses.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use lb_userspace::{
    config,
    control::{Controller, Errand, Event, Posting, Question, Running, Settings, Surroundings},
    datapath::memory::MemoryDatapath,
    model::Model,
    net::Address,
    observe::documents::Status,
    time::Now,
};
use tokio::sync::oneshot;

/// On the subnet of `eth0`, which is attached.
pub(crate) const NEAR: &str = "192.0.2.200";
/// On no subnet of the gateway.
pub(crate) const FAR: &str = "203.0.113.10";
/// What the file has when it has none of those.
pub(crate) const OTHER: &str = "203.0.113.99";

pub(crate) fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

pub(crate) fn own(address: &str, bits: u8, ifindex: u32) -> Address {
    Address { address: ip(address), ifindex, subnet: (ip(address), bits), is_marked: false }
}

pub(crate) fn marked(address: &str, ifindex: u32) -> Address {
    Address { is_marked: true, ..own(address, 32, ifindex) }
}

/// A file whose services listen on port 80 of these addresses, one each.
pub(crate) fn model(vips: &[&str], rest: &str) -> Model {
    let services = vips.iter().enumerate().map(|(number, vip)| {
        format!("  s{number}: {{listen: \"{vip}:80\", health: none, backends: [\"10.0.1.11:80\"]}}\n")
    });
    let services: String = services.collect();
    config::parse(&format!("version: 1\n{rest}\nservices:\n{services}"), "test.yaml").unwrap().0
}

pub(crate) struct Stage {
    pub(crate) now: Now,
    pub(crate) controller: Controller<MemoryDatapath>,
    pub(crate) file: Arc<Mutex<Model>>,
    pub(crate) found: Surroundings,
    pub(crate) posted: Posting,
    pub(crate) answered: u64,
    /// The herald answers nothing.
    pub(crate) is_stuck: bool,
}

impl Stage {
    /// A gateway with `eth0`, which is attached, `eth1` and `lo`, before it knows its surroundings.
    pub(crate) fn new(vips: &[&str]) -> Self {
        let (now, file) = (Now::read(), Arc::new(Mutex::new(model(vips, ""))));
        let found = Surroundings {
            addresses: [own("192.0.2.1", 24, 2), own("198.51.100.1", 24, 3)].into(),
            names: [(1, "lo".to_owned()), (2, "eth0".to_owned()), (3, "eth1".to_owned())].into(),
            running: [1, 2, 3].map(|ifindex| (ifindex, Running { mac: [2; 6], ups: 1 })).into(),
            ..Surroundings::default()
        };
        let controller = start(MemoryDatapath::new(), &file, now);
        Self { now, controller, file, found, posted: Posting::default(), answered: 0, is_stuck: false }
    }

    /// The same with all VIPs where they belong.
    pub(crate) fn settled(vips: &[&str]) -> Self {
        let mut stage = Self::new(vips);
        stage.look();
        stage.carry_out();
        assert!(stage.controller.is_ready());
        stage
    }

    pub(crate) fn turn(&mut self) {
        self.controller.turn(self.now);
        self.controller.update_posting(&mut self.posted);
        // Nothing is soon done, unless the herald is still at what was posted before.
        if self.posted.errands.is_empty() && self.posted.number != self.answered && !self.is_stuck {
            self.answer(Ok(()));
        }
    }

    /// The controller hears how its surroundings are.
    pub(crate) fn look(&mut self) {
        self.controller.absorb(Event::Surroundings(Ok(self.found.clone())), self.now);
        self.turn();
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        let end = self.now.after(Duration::from_secs(seconds));
        while let Some(wake) = self.controller.turn(self.now).filter(|wake| *wake < end.at) {
            assert!(wake > self.now.at, "the controller does not sleep");
            self.now = self.now.after(wake - self.now.at);
        }
        self.now = end;
        self.turn();
    }

    /// What is posted and not answered.
    pub(crate) fn errands(&self) -> Vec<String> {
        let shown = |errand: &Errand| match errand {
            Errand::Add(seat) => format!("+ {} {}", seat.vip, seat.ifindex),
            Errand::Remove(seat) => format!("- {} {}", seat.vip, seat.ifindex),
        };
        let open = self.posted.number != self.answered;
        self.posted.errands.iter().filter(|_| open).map(shown).collect()
    }

    pub(crate) fn answer(&mut self, result: Result<(), String>) {
        self.answered = self.posted.number;
        self.controller.absorb(Event::Posted(self.answered, result), self.now);
        self.turn();
    }

    /// Does what is posted, as the herald would.
    pub(crate) fn carry_out(&mut self) {
        for errand in &self.posted.errands {
            let _ = match errand {
                Errand::Add(seat) => self.found.addresses.insert(marked(&seat.vip.to_string(), seat.ifindex)),
                Errand::Remove(seat) => self.found.addresses.remove(&marked(&seat.vip.to_string(), seat.ifindex)),
            };
        }
        self.answer(Ok(()));
        self.look();
    }

    pub(crate) fn reload(&mut self, model: Model) {
        *self.file.lock().unwrap() = model;
        self.controller.absorb(Event::FileChanged, self.now);
        self.turn();
    }

    /// Sweeps see no flow of these any more.
    pub(crate) fn quiet(&mut self, vips: &[&str]) {
        self.controller.datapath_mut().flows.quiet = vips.iter().map(|vip| ip(vip)).collect();
        self.wait(11);
    }

    pub(crate) fn flagged(&self) -> BTreeSet<Ipv4Addr> {
        self.controller.datapath().maps.announced.clone()
    }

    pub(crate) fn status(&mut self) -> Status {
        let (answer, mut answered) = oneshot::channel();
        self.controller.absorb(Event::Ask(Question::Status, answer), self.now);
        serde_json::from_value(answered.try_recv().unwrap().unwrap()).unwrap()
    }
}

pub(crate) fn start(datapath: MemoryDatapath, file: &Arc<Mutex<Model>>, now: Now) -> Controller<MemoryDatapath> {
    let model = file.lock().unwrap().clone();
    let file = Arc::clone(file);
    let settings = Settings {
        file: "test.yaml".into(),
        node: model.node.clone(),
        interfaces_by_flag: true,
        xdp_by_flag: false,
        socket_by_flag: true,
        socket: None,
        http_by_flag: true,
        http: None,
    };
    let load = Box::new(move || Ok(file.lock().unwrap().clone()));
    Controller::new(datapath, settings, model, load, now).ok().unwrap()
}
