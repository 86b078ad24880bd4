//! Network namespaces, links and real TCP peers for the demo and the network tests.
//!
//! A [`Topology`] is a client, a gateway and some backends, each a [`Host`]: an anonymous network
//! namespace with a thread in it. [`Tidegate`] is the real binary, running on the gateway in a [`Room`]
//! of its own for files and pins. [`Server`], [`Connection`], [`Traffic`] and [`Pings`] are real TCP;
//! [`Wire`] sends and sees single frames, a [`Flood`] is forged ones without end.
//!
//! Nothing here needs another program, and nothing is left behind however a test ends: namespaces and
//! mounts have no names, so they go with the last process that holds them, and children are killed by
//! the kernel when the process that started them dies.
//!
//! ```no_run
//! # use std::net::SocketAddrV4;
//! # use testkit::{Load, Server, Tidegate, Topology, VIP};
//! let topology = Topology::two_arms(1)?;
//! let server = Server::start(&topology.backends[0], SocketAddrV4::new(Topology::backend_address(0), 8080))?;
//! let tidegate = Tidegate::on(&topology.gateway, "target/release/tidegate").config("version: 1 …").start()?;
//! Load::new(Topology::sources(), SocketAddrV4::new(VIP, 80)).once(&topology.client).expect_no_failure();
//! # anyhow::Ok(())
//! ```
//!
//! The hosts keep the rule of native XDP on veth: end hosts compute whole checksums (`tx off`), and the
//! peer of every veth that the gateway transmits on runs a program that passes everything.

mod crowd;
mod flood;
mod host;
mod link;
mod log;
mod namespace;
mod offload;
mod pings;
mod process;
mod report;
mod room;
mod segment;
mod server;
mod talk;
mod tidegate;
mod topology;
mod traffic;
mod wire;
mod xdp;

pub use crowd::{Crowd, End};
pub use flood::{Flood, Forgery};
pub use host::Host;
pub use link::Mac;
pub use log::Log;
pub use namespace::{Namespace, need_root};
pub use pings::Pings;
pub use process::{Finished, Process};
pub use report::{Report, Sample};
pub use room::Room;
pub use segment::Segment;
pub use server::Server;
pub use talk::{Answer, Connection, PATIENCE, ask};
pub use tidegate::{Launch, Tidegate};
pub use topology::{Gateway, Topology, VIP};
pub use traffic::{Load, Traffic};
pub use wire::Wire;
