//! A network with the balancer running on it, and what tests ask of it.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use testkit::{Connection, Finished, Gateway, Host, Launch, Load, Pings, Report, Server, Tidegate, Topology, VIP};

use crate::file::{WEB, endpoint};

/// The real binary.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_tidegate");
/// How long a condition may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A network, a server on every backend, and the balancer. They end in this order.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) tidegate: Tidegate,
    pub(crate) servers: Vec<Server>,
    pub(crate) topology: Topology,
}

/// A start on all NICs of the gateway.
pub(crate) fn launch(gateway: &Gateway, file: &str) -> Launch {
    Tidegate::on(gateway, PROGRAM).config(file)
}

/// A server on each backend, at [`endpoint`].
pub(crate) fn serve(topology: &Topology) -> Vec<Server> {
    (0..).zip(&topology.backends).map(|(index, host)| Server::start(host, endpoint(index)).unwrap()).collect()
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !so() {
        assert!(Instant::now() < deadline, "{what}: not so after {SOON:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs the binary with these arguments on a gateway, to its end.
pub(crate) fn say(gateway: &Gateway, arguments: &str) -> Finished {
    gateway.start(PROGRAM.as_ref(), arguments.split_whitespace()).unwrap().wait(SOON).unwrap()
}

impl Stage {
    /// Two NICs, so many backends, the balancer ready with this file.
    pub(crate) fn two_arms(backends: u8, file: &str) -> Self {
        Self::on(Topology::two_arms(backends).unwrap(), file)
    }

    /// One NIC for both sides.
    pub(crate) fn one_arm(backends: u8, file: &str) -> Self {
        Self::on(Topology::one_arm(backends).unwrap(), file)
    }

    /// The balancer ready with this file in a network that is there.
    pub(crate) fn on(topology: Topology, file: &str) -> Self {
        Self::with(topology, |gateway| launch(gateway, file))
    }

    /// The same with servers on some of the backends.
    pub(crate) fn serving(topology: Topology, file: &str, served: &[u8]) -> Self {
        let server = |index: &u8| Server::start(&topology.backends[usize::from(*index)], endpoint(*index)).unwrap();
        let servers = served.iter().map(server).collect();
        let tidegate = launch(&topology.gateway, file).start().unwrap();
        Self { tidegate, servers, topology }
    }

    /// The same, started in another way.
    pub(crate) fn with(topology: Topology, how: impl FnOnce(&Gateway) -> Launch) -> Self {
        let servers = serve(&topology);
        let tidegate = how(&topology.gateway).start().unwrap();
        Self { tidegate, servers, topology }
    }

    pub(crate) fn client(&self) -> &Host {
        &self.topology.client
    }

    pub(crate) fn gateway(&self) -> &Host {
        &self.topology.gateway.host
    }

    /// One request from each of the client's addresses.
    pub(crate) fn ask_all(&self, target: SocketAddrV4) -> Report {
        Load::new(Topology::sources(), target).once(self.client())
    }

    /// One request from the first so many addresses.
    pub(crate) fn ask_some(&self, target: SocketAddrV4, sources: usize) -> Report {
        Load::new(Topology::sources()[..sources].to_vec(), target).once(self.client())
    }

    /// A connection from the client's address number `index`.
    pub(crate) fn connect(&self, index: usize, target: SocketAddrV4) -> anyhow::Result<Connection> {
        Connection::open(self.client(), SocketAddrV4::new(Topology::sources()[index], 0), target)
    }

    /// Long connections to `web` from the first so many addresses.
    pub(crate) fn pings(&self, sources: usize) -> Pings {
        Pings::start(self.client(), &Topology::sources()[..sources], WEB, Duration::from_millis(10)).unwrap()
    }

    /// Waits until a backend is in this state; empty where it shall be gone.
    #[track_caller]
    pub(crate) fn until_state(&self, backend: &str, wanted: &str) {
        let what = format!("{backend} {wanted}");
        self.tidegate.wait_until(&what, SOON, |answer| state(answer, backend) == wanted).unwrap();
    }

    /// Waits until `status` satisfies.
    #[track_caller]
    pub(crate) fn until_status(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        until(what, || {
            last = self.tidegate.ask(&["status"]).unwrap();
            wanted(&last)
        });
        last
    }

    /// Waits until a request from this address is answered by this backend.
    #[track_caller]
    pub(crate) fn until_served_by(&self, backend: &str) {
        until(&format!("{backend} serves"), || self.ask_all(WEB).spread().contains_key(backend));
    }

    /// Gives the gateway the virtual address itself, as some operators do, and a listener there.
    pub(crate) fn own_the_vip(topology: &Topology, port: u16) -> Server {
        let gateway = &topology.gateway.host;
        if !addresses(gateway).contains(&VIP) {
            gateway.addresses("lo", [VIP], 32).unwrap();
        }
        Server::start(gateway, SocketAddrV4::new(VIP, port)).unwrap()
    }
}

/// A backend in what `backends --json` says, of the first service that has it.
pub(crate) fn backend<'a>(answer: &'a Value, name: &str) -> Option<&'a Value> {
    let services = answer["services"].as_array().into_iter().flatten();
    let mut backends = services.flat_map(|service| service["backends"].as_array().into_iter().flatten());
    backends.find(|backend| backend["name"] == name)
}

/// Its state; empty where it is not there.
pub(crate) fn state<'a>(answer: &'a Value, name: &str) -> &'a str {
    backend(answer, name).and_then(|backend| backend["state"].as_str()).unwrap_or_default()
}

/// The names of those who answered.
pub(crate) fn names(report: &Report) -> Vec<String> {
    report.spread().into_keys().map(|name| name.to_string()).collect()
}

/// Panics where a source was answered by more than one backend.
#[track_caller]
pub(crate) fn expect_faithful(report: &Report) {
    let fickle: Vec<_> = report.by_source().into_iter().filter(|(_, backends)| backends.len() > 1).collect();
    assert!(fickle.is_empty(), "{fickle:?}\n{report}");
}

/// Who serves each source, where each is served by one.
pub(crate) fn homes(report: &Report) -> Vec<(Ipv4Addr, Arc<str>)> {
    expect_faithful(report);
    report.by_source().into_iter().map(|(source, backends)| (source, backends[0].clone())).collect()
}

/// A counter of a host's IP stack, named as in /proc/net/snmp.
pub(crate) fn counter(host: &Host, protocol: &str, name: &str) -> u64 {
    // Not /proc/net, which is that of the process's first thread.
    let text = host.call(|| fs::read_to_string("/proc/thread-self/net/snmp")).unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(&format!("{protocol}: ")));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut pairs = names.split(' ').zip(values.split(' '));
    pairs.find(|(its, _)| *its == name).unwrap().1.parse().unwrap()
}

/// Panics where an end host of the network has seen a wrong checksum.
#[track_caller]
pub(crate) fn expect_whole_checksums(topology: &Topology) {
    for host in topology.backends.iter().chain([&topology.client]) {
        let wrong = ["Ip InHdrErrors", "Tcp InCsumErrors", "Tcp InErrs"].map(|counted| {
            let (protocol, name) = counted.split_once(' ').unwrap();
            (counted, counter(host, protocol, name))
        });
        assert!(wrong.iter().all(|(_, count)| *count == 0), "{}: {wrong:?}", host.name());
    }
}

/// The IPv4 addresses of a host that its routing knows as its own.
fn addresses(host: &Host) -> Vec<Ipv4Addr> {
    let text = host.call(|| fs::read_to_string("/proc/thread-self/net/fib_trie")).unwrap();
    let mut last: Option<Ipv4Addr> = None;
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(address) = line.trim().strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line.contains("host LOCAL") {
            found.extend(last);
        }
    }
    found
}
