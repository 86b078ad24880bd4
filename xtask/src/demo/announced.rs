//! The part of the story that tells of virtual addresses: the balancer puts them on the gateway, the
//! neighbours hear of it, and they go with it.

use std::{net::SocketAddrV4, time::Duration};

use anyhow::Result;
use testkit::{Load, Sample, Topology, Wire};

use super::{
    config::{NEAR, PORT},
    summary::Summary,
};

/// How long gratuitous ARP may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the client's NIC heard of the address, and the address serves.
pub(super) fn heard(topology: &Topology, wire: Wire, summary: &mut Summary) -> Result<()> {
    let octets = NEAR.octets();
    // ARP, whose sender and target are the address itself.
    let is_word = |frame: &[u8]| {
        frame.len() >= 42 && frame[12..14] == [8, 6] && frame[28..32] == octets && frame[38..42] == octets
    };
    let word = wire.next(PATIENCE, is_word)?;
    let mac = topology.gateway.host.mac("eth0")?;
    summary.add(
        "a virtual address is put on the gateway, and its neighbours are told",
        word.as_ref().is_some_and(|frame| frame[22..28] == mac),
        match word {
            Some(_) => format!("gratuitous ARP for {NEAR} on the clients' wire"),
            None => format!("no gratuitous ARP for {NEAR} within {PATIENCE:?}"),
        },
    );
    drop(wire);
    let report = load().once(&topology.client);
    let failed = report.failures().count();
    summary.add(
        "clients in its subnet find it by ARP, without a route",
        failed == 0,
        format!("{} requests to {NEAR}, {failed} failed", report.samples.len()),
    );
    Ok(())
}

/// Whether the address is gone with the balancer.
pub(super) fn gone(topology: &Topology, summary: &mut Summary) -> Result<()> {
    topology.client.forget_neighbours("eth0")?;
    let report = Load { sources: Topology::sources()[..1].to_vec(), ..load() }.once(&topology.client);
    // Refused would be the gateway's own stack: it still had the address.
    let is_silent = |sample: &&Sample| sample.outcome.as_ref().is_err_and(|why| !why.contains("refused"));
    let nobody = report.failures().filter(is_silent).count() == report.samples.len();
    summary.add(
        "detach takes the virtual addresses from the gateway",
        nobody,
        format!("one request to {NEAR}: {}", report.samples.iter().map(said).collect::<String>()),
    );
    Ok(())
}

fn said(sample: &Sample) -> &str {
    sample.outcome.as_ref().map_or_else(String::as_str, |_| "it was answered")
}

fn load() -> Load {
    Load::new(Topology::sources(), SocketAddrV4::new(NEAR, PORT))
}
