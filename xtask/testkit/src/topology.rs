//! Ready-made networks: a client, a gateway and backends.
//!
//! Clients live in 192.0.2.0/24, virtual addresses in 203.0.113.0/24, backends in 10.0.1.0/24. The
//! gateway is .1 on both sides and the default route of everybody; it has no virtual address itself.

use std::{
    ffi::OsStr,
    net::Ipv4Addr,
    path::Path,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use anyhow::Result;

use crate::{host::Host, link::Mac, process::Process, room::Room};

/// The virtual address that examples use. Any other of 203.0.113.0/24 reaches the gateway too.
pub const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);

/// The client's NIC and each backend's.
const NIC: &str = "eth0";
/// The last octets of the client's first and last address.
const CLIENTS: std::ops::RangeInclusive<u8> = 10..=250;
/// The last octet of the first backend's address.
const FIRST_BACKEND: u8 = 11;

/// The real machine, which networks share. A flood takes all of it: others would be measured with it.
static MACHINE: RwLock<()> = RwLock::new(());

/// A network's part of the machine.
#[derive(Debug)]
#[expect(dead_code, reason = "held, not read")]
enum Share {
    Some(RwLockReadGuard<'static, ()>),
    All(RwLockWriteGuard<'static, ()>),
}

/// The machine that balances.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// The machine.
    pub host: Host,
    /// Its files and pins.
    pub room: Arc<Room>,
    /// The NICs that carry the traffic.
    pub nics: Vec<String>,
}

/// A client, a gateway and backends.
#[derive(Debug)]
pub struct Topology {
    /// One machine with many addresses: see [`Topology::sources`].
    pub client: Host,
    /// The machine that balances.
    pub gateway: Gateway,
    /// The machines that serve: number `i` has the address `10.0.1.(11 + i)`.
    pub backends: Vec<Host>,
    /// The switch before the backends, a machine that only bridges.
    pub switch: Host,
    #[expect(dead_code, reason = "held as long as the network is there")]
    share: Share,
}

impl Gateway {
    /// A machine that forwards and has a room; its NICs are connected by whoever asks.
    pub fn new(nics: &[&str]) -> Result<Self> {
        let host = Host::new("gateway")?;
        host.sysctl("net/ipv4/ip_forward", "1")?;
        let room = Arc::new(Room::new(host.namespace())?);
        Ok(Self { host, room, nics: nics.iter().map(ToString::to_string).collect() })
    }

    /// Starts a program on this machine.
    pub fn start<A: AsRef<OsStr>>(&self, program: &Path, arguments: impl IntoIterator<Item = A>) -> Result<Process> {
        self.start_without(program, arguments, &[])
    }

    /// Starts a program that lacks these capabilities.
    pub fn start_without<A: AsRef<OsStr>>(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        capabilities: &[u8],
    ) -> Result<Process> {
        Process::start(self.host.namespace(), &self.room, program, arguments, capabilities)
    }
}

impl Topology {
    /// Two NICs: clients on the gateway's `eth0`, backends on its `eth1`.
    pub fn two_arms(backends: u8) -> Result<Self> {
        Self::two_arms_with(backends, some())
    }

    /// The same when no other network of this process is left; others wait until it is gone.
    pub fn alone(backends: u8) -> Result<Self> {
        Self::two_arms_with(backends, Share::All(MACHINE.write().unwrap_or_else(PoisonError::into_inner)))
    }

    fn two_arms_with(backends: u8, share: Share) -> Result<Self> {
        let gateway = Gateway::new(&["eth0", "eth1"])?;
        let client = Host::new("client")?;
        gateway.host.connect("eth0", &client, NIC)?;
        client.pass_everything(NIC)?;
        let (switch, backends) = behind_a_switch(&gateway.host, "eth1", &[], backends)?;
        gateway.host.addresses("eth0", [Self::GATEWAY_OF_CLIENTS], 24)?;
        gateway.host.addresses("eth1", [Self::GATEWAY_OF_BACKENDS], 24)?;
        Self { client, gateway, backends, switch, share }.settle()
    }

    /// One NIC that carries both subnets: clients and backends on one switch, the gateway's `eth0` too.
    pub fn one_arm(backends: u8) -> Result<Self> {
        let share = some();
        let gateway = Gateway::new(&["eth0"])?;
        let client = Host::new("client")?;
        let (switch, backends) = behind_a_switch(&gateway.host, "eth0", &[&client], backends)?;
        gateway.host.addresses("eth0", [Self::GATEWAY_OF_CLIENTS, Self::GATEWAY_OF_BACKENDS], 24)?;
        Self { client, gateway, backends, switch, share }.settle()
    }

    /// A NIC of a gateway with two that was pulled is back: the same name, Ethernet address and addresses, another
    /// number.
    pub fn plug_again(&self, nic: &str, mac: Mac) -> Result<()> {
        let gateway = &self.gateway.host;
        let (peer, port) = if nic == "eth0" { (&self.client, NIC) } else { (&self.switch, "gateway") };
        gateway.connect(nic, peer, port)?;
        gateway.set_mac(nic, mac)?;
        peer.pass_everything(port)?;
        gateway.whole_checksums(nic)?;
        if nic == "eth0" {
            gateway.addresses(nic, [Self::GATEWAY_OF_CLIENTS], 24)?;
            return self.settle_client();
        }
        peer.plug("switch", port)?;
        gateway.addresses(nic, [Self::GATEWAY_OF_BACKENDS], 24)
    }

    fn settle_client(&self) -> Result<()> {
        self.client.addresses(NIC, Self::sources(), 24)?;
        self.client.route(Ipv4Addr::UNSPECIFIED, 0, Self::GATEWAY_OF_CLIENTS)?;
        self.client.whole_checksums(NIC)
    }

    /// The gateway as clients see it.
    pub const GATEWAY_OF_CLIENTS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    /// The gateway as backends see it.
    pub const GATEWAY_OF_BACKENDS: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);

    /// The client's addresses, 241 of them; the first is its main one.
    pub fn sources() -> Vec<Ipv4Addr> {
        CLIENTS.map(|last| Ipv4Addr::new(192, 0, 2, last)).collect()
    }

    /// The address of backend number `index`, which may also be one that is not there.
    pub fn backend_address(index: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 1, FIRST_BACKEND + index)
    }

    /// Addresses, routes and checksums of the end hosts.
    fn settle(self) -> Result<Self> {
        self.settle_client()?;
        for (index, backend) in (0u8..).zip(&self.backends) {
            backend.addresses(NIC, [Self::backend_address(index)], 24)?;
            backend.route(Ipv4Addr::UNSPECIFIED, 0, Self::GATEWAY_OF_BACKENDS)?;
            backend.whole_checksums(NIC)?;
        }
        for nic in &self.gateway.nics {
            self.gateway.host.whole_checksums(nic)?;
        }
        Ok(self)
    }
}

/// A part of the machine beside those of others.
fn some() -> Share {
    Share::Some(MACHINE.read().unwrap_or_else(PoisonError::into_inner))
}

/// Connects the gateway's `nic`, these hosts and new backends to one switch.
fn behind_a_switch(gateway: &Host, nic: &str, hosts: &[&Host], backends: u8) -> Result<(Host, Vec<Host>)> {
    let switch = Host::new("switch")?;
    let backends = (1..=backends).map(|number| Host::new(&format!("backend-{number}"))).collect::<Result<Vec<_>>>()?;
    gateway.connect(nic, &switch, "gateway")?;
    // The gateway transmits to this port, so this port has the program.
    switch.pass_everything("gateway")?;
    let mut ports = vec!["gateway".to_owned()];
    for host in hosts.iter().copied().chain(&backends) {
        host.connect(NIC, &switch, host.name())?;
        ports.push(host.name().to_owned());
    }
    switch.bridge("switch", &ports.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok((switch, backends))
}
