//! The real binary over real wires: clients, a gateway and backends in network namespaces. Needs root.
//!
//! Every test makes a network of its own, without names, so that all may run at once, and waits for
//! conditions, never for seconds to pass.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod announce;
mod change;
mod detach;
mod documents;
mod drain;
mod endings;
mod failure;
mod file;
mod floods;
mod flows;
mod frames;
mod ground;
mod http;
mod life;
mod neighbours;
mod nics;
mod past;
mod places;
mod policy;
mod redispatch;
mod refusal;
mod seeing;
mod silence;
mod stack;
mod stage;
mod traffic;
