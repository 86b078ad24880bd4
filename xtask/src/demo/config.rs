//! The file that the demo's balancer follows.

use std::{fmt::Write as _, net::Ipv4Addr, time::Duration};

use testkit::{Topology, VIP};

/// A second virtual address, in the clients' own subnet: no route leads to it, they ask for it by ARP.
pub(super) const NEAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
/// The port that clients ask.
pub(super) const PORT: u16 = 80;
/// The port that backends listen on: another one.
pub(super) const BACKEND_PORT: u16 = 8080;
/// Between two probes of a backend.
pub(super) const INTERVAL: Duration = Duration::from_millis(200);
/// How long a probe may take.
pub(super) const TIMEOUT: Duration = Duration::from_millis(200);
/// Failures in a row that take a backend down.
pub(super) const FALL: u32 = 2;

/// The file with these backends: number and weight.
pub(super) fn file(backends: &[(u8, u16)]) -> String {
    let mut list = String::new();
    for (index, weight) in backends {
        let (address, number) = (Topology::backend_address(*index), index + 1);
        // Writing to a string does not fail.
        let _ =
            write!(list, "\n      - {{address: {address}:{BACKEND_PORT}, name: backend-{number}, weight: {weight}}}");
    }
    let (interval, timeout) = (INTERVAL.as_millis(), TIMEOUT.as_millis());
    format!(
        "version: 1
services:
  web:
    listen: [{VIP}:{PORT}, {NEAR}:{PORT}]
    health: {{tcp: {{}}, interval: {interval}ms, timeout: {timeout}ms, rise: 1, fall: {FALL}}}
    backends:{list}
"
    )
}
