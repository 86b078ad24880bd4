//! A map's memory, shared with the packet path: read and written without system calls.

use std::{
    num::NonZeroUsize,
    os::fd::AsFd as _,
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU8, AtomicU16, AtomicU64},
};

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// The memory of one map.
pub(super) struct Mapping {
    start: NonNull<u8>,
    octets: usize,
}

// SAFETY: the memory belongs to the process, not to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// The first `octets` of a map that was made for it (`BPF_F_MMAPABLE`).
    pub(super) fn new(map: &MapData, octets: usize) -> Result<Self> {
        let length = NonZeroUsize::new(octets).context("the map is empty")?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice disturbs nothing; it stays
        // until `drop`, and the kernel keeps the map as long as it is mapped.
        let start = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, map.fd().as_fd(), 0) }?.cast();
        Ok(Self { start, octets })
    }

    /// All of it, in words.
    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is that long and page-aligned and lives as long as `self`. The packet path
        // writes fields that lie inside one word each, so a word that is read has them whole.
        unsafe { slice::from_raw_parts(self.start.cast().as_ptr(), self.octets / size_of::<u64>()) }
    }

    /// All of it, in tags.
    pub(super) fn tags(&self) -> &[AtomicU16] {
        // SAFETY: as in `words`; the packet path writes single tags whole.
        unsafe { slice::from_raw_parts(self.start.cast().as_ptr(), self.octets / size_of::<u16>()) }
    }

    /// All of it, in octets.
    pub(super) fn octets(&self) -> &[AtomicU8] {
        // SAFETY: as in `words`; what is exchanged by octets the packet path writes by octets.
        unsafe { slice::from_raw_parts(self.start.cast().as_ptr(), self.octets) }
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
