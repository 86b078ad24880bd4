//! What happens to one packet.
//!
//! The journey, in the order of the files: [`parse`] says whether a packet may be ours, [`spot`] where
//! its flow would stand, [`track`] finds it there, and [`note`](mod@note) writes down what the packet changes
//! in it. Where there is no live flow, [`open`](mod@open) decides about a client's packet and [`answer`](mod@answer)
//! about a backend's, over the handshakes of [`half`]; [`select`] chooses a backend, and [`past`]
//! lets through what clients and backends say to each other directly. [`rewrite`](mod@rewrite) changes the packet, or
//! [`reset`](mod@reset) answers it. [`forward`](mod@forward) is the order of it all.
//!
//! This library names neither the kernel nor aya: it sees a packet as a [`Frame`](frame::Frame) and
//! the maps as [`Tables`](table::Tables), and runs on the host and in the kernel alike.
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(any(test, feature = "testing"))]
extern crate std;

pub mod admit;
pub mod answer;
pub mod checksum;
pub mod decision;
pub mod enter;
pub mod forward;
pub mod frame;
pub mod half;
pub mod header;
pub mod note;
pub mod open;
pub mod parse;
pub mod past;
pub mod reset;
pub mod rewrite;
pub mod select;
pub mod spot;
pub mod table;
#[cfg(feature = "testing")]
pub mod testing;
pub mod track;
pub mod verifier;
