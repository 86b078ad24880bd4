//! The address filter: one octet for all addresses of one hash, which lets the packet path pass on at
//! once what surely is not ours.
//!
//! A bit is set before anything is published that needs it, and cleared after the last such thing is
//! gone. Each change writes the whole element, in one system call.

use std::collections::HashMap;

use anyhow::Result;
use aya::maps::{Array, MapData};
use lb_common::{Address4, filter_index, limits};

pub(super) struct Filter {
    map: Array<MapData, [u8; limits::FILTER]>,
    octets: Box<[u8; limits::FILTER]>,
    /// How many keys need each bit of each octet.
    needs: HashMap<(usize, u8), u32>,
}

impl Filter {
    pub(super) fn new(map: Array<MapData, [u8; limits::FILTER]>) -> Self {
        Self { map, octets: Box::new([0; limits::FILTER]), needs: HashMap::new() }
    }

    /// Makes the filter speak of exactly these, whatever it said before.
    pub(super) fn reset(&mut self, keys: impl Iterator<Item = (Address4, u8)>) -> Result<()> {
        self.octets.fill(0);
        self.needs.clear();
        for (address, bit) in keys {
            self.note(address, bit);
        }
        self.write()
    }

    /// Something with this address is about to be published.
    pub(super) fn add(&mut self, address: Address4, bit: u8) -> Result<()> {
        let before = self.octets[filter_index(address)];
        self.note(address, bit);
        if self.octets[filter_index(address)] != before { self.write() } else { Ok(()) }
    }

    /// Something with this address is gone.
    pub(super) fn remove(&mut self, address: Address4, bit: u8) -> Result<()> {
        let place = filter_index(address);
        match self.needs.get_mut(&(place, bit)) {
            Some(needs) if *needs > 1 => *needs -= 1,
            Some(_) => {
                self.octets[place] &= !bit;
                // Counted after the write: one that fails is tried again.
                self.write()?;
                self.needs.remove(&(place, bit));
            }
            None => {}
        }
        Ok(())
    }

    fn note(&mut self, address: Address4, bit: u8) {
        let place = filter_index(address);
        *self.needs.entry((place, bit)).or_default() += 1;
        self.octets[place] |= bit;
    }

    fn write(&mut self) -> Result<()> {
        let octets: &[u8; limits::FILTER] = &self.octets;
        Ok(self.map.set(0, octets, 0)?)
    }
}
