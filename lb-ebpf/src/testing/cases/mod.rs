//! The list of cases, for every floor.

mod foreign;
mod forwarding;
mod headers;
mod places;
mod state;

use std::vec::Vec;

use lb_common::Reason;

use super::{Case, NIC_A, NIC_B, World};
use crate::forward::Verdict;

/// The VIP of most cases.
const VIP: &str = "203.0.113.10:80";
/// The backend of most cases.
const BACKEND: &str = "10.0.1.11:8080";
/// The client of most cases.
const CLIENT: &str = "192.0.2.7:4321";

/// A client's packet goes out towards the backends, by the other NIC.
const TO_B: Verdict = Verdict::Redirect(NIC_B);
/// A backend's packet goes out towards the clients, by the other NIC.
const TO_A: Verdict = Verdict::Redirect(NIC_A);
/// What counts when a packet to a backend makes a flow.
const NEW: &[(Reason, u64)] = &[(Reason::ToBackend, 1), (Reason::FlowCreated, 1)];
/// What counts when it belongs to one.
const ON: &[(Reason, u64)] = &[(Reason::ToBackend, 1)];
/// What counts when a packet goes back to its client.
const BACK: &[(Reason, u64)] = &[(Reason::ToClient, 1)];

/// All cases.
pub fn all() -> Vec<Case> {
    [forwarding::cases(), foreign::cases(), headers::cases(), state::cases(), places::cases()].concat()
}

/// One VIP with one backend.
fn one(world: &mut World) {
    world.serve(&[VIP], &[BACKEND]);
}
