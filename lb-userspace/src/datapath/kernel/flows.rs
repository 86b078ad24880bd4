//! The flow table, read through memory that it shares with the packet path.
//!
//! A sweep looks at the tags, 16 octets a set, and at the flows of those places that are taken. It
//! takes no lock: a flow that changes under it is counted as it was or as it will be. The place of a
//! flow that is over is freed by exchanging its tag for zero, if it still is what was read: so new
//! flows find empty places, and the few near sets stay for those that live.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    os::fd::AsFd as _,
    ptr::{self, NonNull},
    slice,
    sync::atomic::{AtomicU16, AtomicU64, Ordering},
    time::Instant,
};

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use lb_common::{Address4, Flow, Tags, Timeouts, ended, idle, kind, limits};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::datapath::FlowCounts;

/// The tag of a place that the packet path is writing.
const CLAIMED: u16 = 1;
/// Tags in one word of [`Tags`].
const TAGS_A_WORD: usize = 4;

pub(super) struct Flows {
    flows: Mapping,
    tags: Mapping,
    sets: usize,
}

impl Flows {
    pub(super) fn map(flows: &MapData, tags: &MapData, sets: u32) -> Result<Self> {
        let sets = sets as usize;
        Ok(Self {
            flows: Mapping::new(flows, sets * limits::WAYS * size_of::<Flow>(), ProtFlags::PROT_READ)
                .context("cannot map FLOWS")?,
            tags: Mapping::new(tags, sets * size_of::<Tags>(), ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)
                .context("cannot map FLOW_TAGS")?,
            sets,
        })
    }

    /// Counts what lives at `now`, in jiffies, and frees the places of what is over. Also returned: which of
    /// the VIPs that are leaving some live flow still names.
    pub(super) fn sweep(
        &self,
        now: u32,
        timeouts: &[Timeouts],
        leaving: &BTreeMap<Address4, Instant>,
    ) -> (FlowCounts, BTreeSet<Address4>) {
        let mut named = BTreeSet::new();
        let mut counts = FlowCounts { max: room(self.sets as u64), ..FlowCounts::default() };
        let mut by_backend = vec![0_u64; limits::BACKENDS];
        for (word, place) in self.tags().iter().zip((0..).step_by(TAGS_A_WORD)) {
            let mut word = word.load(Ordering::Relaxed);
            let mut place: usize = place;
            while word != 0 {
                let tag = (word & 0xffff) as u16;
                let lives = tag > CLAIMED && self.note(place, tag, now, timeouts, &mut counts, &mut by_backend);
                if lives && !leaving.is_empty() {
                    named.extend(Some(self.vip(place)).filter(|vip| leaving.contains_key(vip)));
                }
                word >>= 16;
                place += 1;
            }
        }
        let taken = by_backend.iter().zip(0..).filter(|(flows, _)| **flows > 0);
        counts.by_backend = taken.map(|(flows, id)| (id, *flows)).collect::<BTreeMap<_, _>>();
        (counts, named)
    }

    /// Whether the flow at a place lives; then it is counted.
    fn note(
        &self,
        place: usize,
        tag: u16,
        now: u32,
        timeouts: &[Timeouts],
        counts: &mut FlowCounts,
        by_backend: &mut [u64],
    ) -> bool {
        let (kind, state, seen, id) = self.flow(place);
        if timeouts.get(usize::from(id)).is_none_or(|timeouts| idle(now, seen) > timeouts.of(state)) {
            self.free(place, tag);
            return false;
        }
        if kind & kind::DIRECT != 0 || ended(state) {
            return false;
        }
        counts.live += 1;
        if let Some(flows) = by_backend.get_mut(usize::from(id)) {
            *flows += 1;
        }
        true
    }

    /// The VIP of the flow at a place.
    fn vip(&self, place: usize) -> Address4 {
        debug_assert!(place < self.sets * limits::WAYS, "a place of the table");
        // SAFETY: as in `flow`.
        unsafe { ptr::read_volatile(&raw const (*self.flows.start.cast::<Flow>().as_ptr().add(place)).vip) }
    }

    /// Empties a place, unless its tag has changed since.
    fn free(&self, place: usize, tag: u16) {
        debug_assert!(place < self.sets * limits::WAYS, "a place of the table");
        // SAFETY: there is a tag for every place, aligned to two; the kernel writes single tags whole.
        let cell = unsafe { &*self.tags.start.cast::<AtomicU16>().as_ptr().add(place) };
        // Who lost the race has found a flow there that lives.
        let _ = cell.compare_exchange(tag, 0, Ordering::AcqRel, Ordering::Relaxed);
    }

    fn tags(&self) -> &[AtomicU64] {
        let words = self.sets * size_of::<Tags>() / size_of::<u64>();
        // SAFETY: the mapping is that long and page-aligned, lives as long as `self`, and the kernel
        // writes it in whole words, which is what an atomic allows for.
        unsafe { slice::from_raw_parts(self.tags.start.cast().as_ptr(), words) }
    }

    /// Kind, state, last jiffies and backend of the flow at a place.
    fn flow(&self, place: usize) -> (u8, [u8; 2], u32, u16) {
        debug_assert!(place < self.sets * limits::WAYS, "a place of the table");
        // SAFETY: every tag has its flow in the mapping, which holds as many flows as tags. The kernel
        // writes at the same time, so each field is read once, as volatile, and any value is valid.
        unsafe {
            let flow = self.flows.start.cast::<Flow>().as_ptr().add(place);
            (
                ptr::read_volatile(&raw const (*flow).kind),
                ptr::read_volatile(&raw const (*flow).state),
                ptr::read_volatile(&raw const (*flow).seen),
                ptr::read_volatile(&raw const (*flow).backend_id),
            )
        }
    }
}

/// Flows that a table of so many sets is made for; the inverse of [`limits::flow_sets`].
pub(super) fn room(sets: u64) -> u64 {
    sets * limits::WAYS as u64 * 6 / 7
}

/// A map's memory.
struct Mapping {
    start: NonNull<u8>,
    octets: usize,
}

// SAFETY: the memory belongs to the process, not to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(map: &MapData, octets: usize, access: ProtFlags) -> Result<Self> {
        let length = NonZeroUsize::new(octets).context("the map is empty")?;
        // SAFETY: a fresh mapping at an address of the kernel's choice disturbs nothing; it stays
        // until `drop`, and the kernel keeps the map as long as it is mapped.
        let start = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, map.fd().as_fd(), 0) }?.cast();
        Ok(Self { start, octets })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is what `new` mapped, and every borrow of it ended with `self`.
        if let Err(errno) = unsafe { munmap(self.start.cast(), self.octets) } {
            log::warn!("cannot unmap a map: {errno}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_the_inverse_of_sets() {
        for max in [1024, 65_536, 1_000_000, 30_000_000] {
            assert!((u64::from(max)..u64::from(max) + 8).contains(&room(limits::flow_sets(max).into())), "{max}");
        }
    }
}
