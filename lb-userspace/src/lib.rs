//! The controller of Tidegate: what happens to one change.
//!
//! A change walks through the rooms in this order: [`config`] reads the file as typed, [`model`] is the
//! file as meant, [`health`] knows which backends answer, [`balance`] turns them into slot tables,
//! [`plan`] says which writes lead from what the kernel has to what is wanted, and [`datapath`] does
//! them. [`control`] is the one loop that decides.

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
