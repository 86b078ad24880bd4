//! One of the two tables: sets of places, each with its tag, and how they are read without a lock.
//!
//! An entry that changes while it is looked at is seen as it was or as it will be, field by field. Who needs it
//! to be one entry's throughout asks [`Place::is_whole`] after reading.

use std::{
    marker::PhantomData,
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use bytemuck::Pod;
use lb_common::{Flow, Half, Tags};

use super::mapping::Mapping;

/// The tag of a place that the packet path is writing.
const CLAIMED: u16 = 1;
/// Tags of one set, places or not.
const LANES: usize = size_of::<Tags>() / size_of::<u16>();
/// Tags in one word.
const LANES_A_WORD: usize = 4;
/// Words of one entry.
const WORDS: usize = 8;

const _: () = assert!(size_of::<Flow>() == WORDS * 8 && size_of::<Half>() == WORDS * 8);
const _: () = assert!(offset_of!(Flow, kind) == offset_of!(Half, kind));

/// A table of flows or of handshakes.
pub(super) struct Table<T> {
    entries: Mapping,
    tags: Mapping,
    sets: usize,
    ways: usize,
    kind: PhantomData<T>,
}

/// A place that somebody holds.
#[derive(Clone, Copy)]
pub(super) struct Place<'t, T> {
    table: &'t Table<T>,
    /// Its entry.
    number: usize,
    /// Its tag.
    lane: usize,
    tag: u16,
}

impl<T: Pod> Table<T> {
    /// A table of so many sets of so many places.
    pub(super) fn map(entries: &MapData, tags: &MapData, sets: usize, ways: usize) -> Result<Self> {
        Ok(Self {
            entries: Mapping::new(entries, sets * ways * WORDS * size_of::<u64>()).context("cannot map its entries")?,
            tags: Mapping::new(tags, sets * size_of::<Tags>()).context("cannot map its tags")?,
            sets,
            ways,
            kind: PhantomData,
        })
    }

    /// Shows every place that is held.
    pub(super) fn each<'t>(&'t self, mut visit: impl FnMut(Place<'t, T>)) {
        let words_a_set = LANES / LANES_A_WORD;
        for (index, word) in self.tags.words().iter().take(self.sets * words_a_set).enumerate() {
            let mut word = word.load(Ordering::Acquire);
            let (set, mut way) = (index / words_a_set, index % words_a_set * LANES_A_WORD);
            while word != 0 && way < self.ways {
                let tag = (word & 0xffff) as u16;
                if tag > CLAIMED {
                    visit(Place { table: self, number: set * self.ways + way, lane: set * LANES + way, tag });
                }
                word >>= 16;
                way += 1;
            }
        }
    }
}

impl<T: Pod> Place<'_, T> {
    /// Whose it is, as it is now.
    pub(super) fn read(&self) -> T {
        let words = &self.table.entries.words()[self.number * WORDS..][..WORDS];
        let mut entry = [0_u64; WORDS];
        for (value, word) in entry.iter_mut().zip(words) {
            *value = AtomicU64::load(word, Ordering::Relaxed);
        }
        bytemuck::cast(entry)
    }

    /// Whether the place had one holder since it was shown.
    pub(super) fn is_whole(&self) -> bool {
        self.table.tags.tags()[self.lane].load(Ordering::Acquire) == self.tag
    }

    /// Empties the place, and says whether it did: not if it has another holder by now.
    pub(super) fn free(&self) -> bool {
        let tag = &self.table.tags.tags()[self.lane];
        tag.compare_exchange(self.tag, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Adds a bit to the kind of the entry, and says whether it did: not if the entry is of another kind by now.
    pub(super) fn mark(&self, kind: u8, bit: u8) -> bool {
        let octet = &self.table.entries.octets()[self.number * WORDS * size_of::<u64>() + offset_of!(Flow, kind)];
        self.is_whole() && octet.compare_exchange(kind, kind | bit, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}
