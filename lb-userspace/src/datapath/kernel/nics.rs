//! The NICs as the packet path knows them: `NICS`, and `DEVICES` at the same indices.
//!
//! A device is written before the NIC that names it, and cleared after it.

use anyhow::{Context as _, Result, bail};
use bytemuck::Zeroable as _;
use lb_common::{Mac, Nic, limits};

use super::maps::Maps;
use crate::{datapath::Attached, net::Link};

impl Maps {
    /// The index of a NIC, which gets a place if it has none.
    pub(super) fn place_nic(&mut self, link: &Link) -> Result<u16> {
        let nic = Nic { ifindex: link.ifindex, mac: Mac(link.mac), zero: [0; 2] };
        let mut free = None;
        for index in places(link.ifindex) {
            let there = self.nics.get(&index, 0)?;
            if there.ifindex == link.ifindex {
                self.write_nic(index, nic)?;
                return Ok(index as u16);
            }
            if there.ifindex == 0 && free.is_none() {
                free = Some(index);
            }
        }
        let Some(index) = free else {
            bail!("{}: no place among the {} NICs, whose numbers collide; attach to fewer", link.name, limits::NICS);
        };
        self.write_nic(index, nic)?;
        Ok(index as u16)
    }

    /// The index of a NIC that has a place.
    pub(super) fn nic_place(&self, ifindex: u32) -> Result<Option<u16>> {
        for index in places(ifindex) {
            if self.nics.get(&index, 0)?.ifindex == ifindex {
                return Ok(Some(index as u16));
            }
        }
        Ok(None)
    }

    /// The place of a NIC that vanished leads to the one that came in its stead: flows name it. Places that it had
    /// taken over itself are free again, so that a NIC that comes and goes does not fill them all.
    pub(super) fn succeed_nic(&mut self, old: &Attached, link: &Link) -> Result<()> {
        if old.ifindex == link.ifindex {
            return Ok(());
        }
        self.clear_nics_but(|index, ifindex| ifindex != old.ifindex || index == u32::from(old.nic))?;
        self.write_nic(old.nic.into(), Nic { ifindex: link.ifindex, mac: Mac(link.mac), zero: [0; 2] })
    }

    /// Frees the places of all NICs but those that are kept.
    pub(super) fn clear_nics(&mut self, keep: impl Fn(u32) -> bool) -> Result<()> {
        self.clear_nics_but(|_, ifindex| keep(ifindex))
    }

    fn clear_nics_but(&mut self, keep: impl Fn(u32, u32) -> bool) -> Result<()> {
        for index in 0..limits::NICS as u32 {
            let nic = self.nics.get(&index, 0)?;
            if nic.ifindex == 0 || keep(index, nic.ifindex) {
                continue;
            }
            self.nics.set(index, Nic::zeroed(), 0)?;
            self.devices.set(index, 0, None, 0).context("cannot clear a device")?;
        }
        Ok(())
    }

    fn write_nic(&mut self, index: u32, nic: Nic) -> Result<()> {
        self.devices
            .set(index, nic.ifindex, None, 0)
            .with_context(|| format!("cannot redirect to interface {}", nic.ifindex))?;
        Ok(self.nics.set(index, nic, 0)?)
    }
}

/// Where a NIC may stand (see [`Nic`]).
fn places(ifindex: u32) -> impl Iterator<Item = u32> {
    (0..limits::NIC_PROBES as u32).map(move |step| (ifindex % limits::NICS as u32 + step) % limits::NICS as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_wrap_at_the_end_of_the_array() {
        assert_eq!(places(2).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(places(64 + 60).collect::<Vec<_>>(), [60, 61, 62, 63, 0, 1, 2, 3]);
    }
}
