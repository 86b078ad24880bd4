//! What happens to one packet.
#![no_std]
