//! What a pinned set of maps was made with.

use super::shared;

/// The generation of the maps' layout: it moves when any key, value, size rule or hash changes
/// meaning. Pins stand in a directory of this name.
pub const LAYOUT: u32 = 2;

shared! {
    /// The one element of `SETTINGS`: what a later controller must know to load its program on these maps.
    pub struct Settings {
        /// [`LAYOUT`] of the maps.
        pub layout: u32,
        /// Sets of the flow table; [`half_sets`](super::limits::half_sets) follows from it.
        pub flow_sets: u32,
        /// The secret of the flow table's hash, so that nobody can aim at one set.
        pub flow_seed: u64,
    }
}
