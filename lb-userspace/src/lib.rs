//! The controller of Tidegate: what happens to one change.
//!
//! A change walks through the rooms in this order: [`config`] reads the file as typed, [`model`] is the
//! file as meant, [`health`] knows which backends answer, [`balance`] turns them into slot tables,
//! [`plan`] says which writes lead from what the kernel has to what is wanted, and [`datapath`] does
//! them. [`control`] is the one loop that decides, with [`net`] for its eyes and [`observe`] for its
//! voice; [`commands`] and [`cli`] are what an operator types.
//!
//! Only `datapath::kernel` names aya. `plan`, `balance` and the judgement in `health` cannot fail, await or
//! read a clock: [`time`] is an argument. `tests/scripts` plays the whole of it, and is its manual.

pub mod balance;
pub mod cli;
pub mod commands;
pub mod config;
pub mod control;
pub mod datapath;
pub mod health;
pub mod model;
pub mod net;
pub mod observe;
pub mod plan;
pub mod time;
