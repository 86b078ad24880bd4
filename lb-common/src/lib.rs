//! The words both sides of Tidegate speak: what the packet path reads and the controller writes.
//!
//! Two laws hold for every type here. What comes from the network or goes to it stays bytes, in
//! network order, until someone counts with it. And no layout has holes: a value is compared,
//! hashed and pinned as the octets it is made of.
#![no_std]

mod address;
mod backend;
mod flow;
mod hash;
pub mod limits;
mod nic;
mod reason;
mod service;
mod settings;
pub mod slots;

pub use address::{Address4, Endpoint, Mac, Port, protocol};
pub use backend::{Backend, BackendId, Times, Traffic};
pub use flow::{
    Flow, Half, OCTETS, SKEW, Side, Tags, Timeouts, acknowledged, ended, idle, is_broken, kind, octets, stage, state,
};
pub use hash::{client_hash, filter_index, flow_hash};
pub use nic::Nic;
pub use reason::{Action, Reason};
pub use service::{Limits, Origin, Service, ServiceName, Source, Vip, filter};
pub use settings::{LAYOUT, Settings};

/// Defines types that live in maps: plain octets to Rust (`bytemuck::Pod`, which refuses holes at
/// compile time), to the kernel, and to aya.
macro_rules! shared {
    ($($(#[$attribute:meta])* pub struct $name:ident { $($(#[$doc:meta])* pub $field:ident: $type:ty,)* })*) => {$(
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, bytemuck::Pod, bytemuck::Zeroable)]
        #[repr(C)]
        pub struct $name { $($(#[$doc])* pub $field: $type,)* }

        // SAFETY: `bytemuck::Pod` above proved that any octets are a value and that there are no holes.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $name {}
    )*};
}
pub(crate) use shared;
