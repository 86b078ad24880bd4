//! What happens to one packet.
//!
//! The journey, in the order of the files: [`parse`] says whether a packet may be ours, [`track`]
//! finds its flow, [`select`] chooses a backend for a new one, [`rewrite`] changes it, or [`reset`]
//! answers that nobody is there; [`past`] lets through what clients and backends say to each other
//! directly. [`forward`](mod@forward) is the order of it all.
//!
//! This library names neither the kernel nor aya: it sees a packet as a [`Frame`](frame::Frame) and
//! the maps as [`Tables`](table::Tables), and runs on the host and in the kernel alike.
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(any(test, feature = "testing"))]
extern crate std;

pub mod checksum;
pub mod forward;
pub mod frame;
pub mod header;
pub mod parse;
pub mod past;
pub mod reset;
pub mod rewrite;
pub mod select;
pub mod table;
#[cfg(feature = "testing")]
pub mod testing;
pub mod track;
pub mod verifier;
