//! The list of cases, for every floor.

mod foreign;
mod forwarding;
mod headers;
mod places;
mod state;

use std::vec::Vec;

use super::{Case, World};

/// The VIP of most cases.
const VIP: &str = "203.0.113.10:80";
/// The backend of most cases.
const BACKEND: &str = "10.0.1.11:8080";
/// The client of most cases.
const CLIENT: &str = "192.0.2.7:4321";

/// All cases.
pub fn all() -> Vec<Case> {
    [forwarding::cases(), foreign::cases(), headers::cases(), state::cases(), places::cases()].concat()
}

/// One VIP with one backend.
fn one(world: &mut World) {
    world.serve(&[VIP], &[BACKEND]);
}
