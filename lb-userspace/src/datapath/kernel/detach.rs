//! Everything taken away: VIPs that we put on the gateway while their unserved ports are still refused, then
//! links, so that no program runs without its maps.

use std::{collections::BTreeSet, net::Ipv4Addr, path::Path};

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, Map, MapData};
use lb_common::{Address4, Vip};

use super::{
    OpenError,
    board::Pinboard,
    links::{self, Pinned},
    permit, pins,
};
use crate::net;

/// Takes VIPs, programs, pins and our mount away, of every layout. Says whether there was anything. Fails with
/// [`OpenError::Occupied`] where a controller runs: it detaches by itself when asked.
pub fn detach(pin_dir: &Path) -> Result<bool, OpenError> {
    permit::check()?;
    let Some(board) = Pinboard::existing(pin_dir)? else { return Ok(false) };
    let was_there = !pins::layouts(board.path())?.is_empty();
    take_away(board)?;
    Ok(was_there)
}

/// The same, for the one who holds the lock.
pub(super) fn take_away(board: Pinboard) -> Result<()> {
    let layouts = pins::layouts(board.path())?;
    let mut unread = Ok(());
    for layout in &layouts {
        match announced(layout) {
            // Before the pins: as long as they are there, a failure can be made good.
            Ok(vips) => net::remove_marked_now(&vips)?,
            // Where they say nothing, all the rest goes nevertheless.
            Err(error) => unread = unread.and(Err(error)),
        }
    }
    let mut removed = Vec::new();
    for layout in &layouts {
        // Links that cannot be read are removed all the same, below.
        removed.extend(Pinned::all(layout).unwrap_or_default());
        pins::remove(&pins::links(layout))?;
    }
    links::wait_until_gone(&removed)?;
    for layout in &layouts {
        pins::remove(layout)?;
    }
    board.remove()?;
    unread
}

/// The VIPs that are on the gateway because of us, as the pins say. Maps that were never finished name none.
fn announced(layout: &Path) -> Result<BTreeSet<Ipv4Addr>> {
    let path = layout.join("VIPS");
    if !path.exists() {
        return Ok(BTreeSet::new());
    }
    let read = || -> Result<BTreeSet<Ipv4Addr>> {
        let map = HashMap::<_, Address4, Vip>::try_from(Map::from_map_data(MapData::from_pin(&path)?)?)?;
        let mut announced = BTreeSet::new();
        for vip in map.iter() {
            let (address, vip) = vip?;
            if vip.flags & Vip::ANNOUNCED != 0 {
                announced.insert(address.into());
            }
        }
        Ok(announced)
    };
    read().with_context(|| {
        format!(
            "cannot read {}, which says which addresses are ours: look for `scope host deprecated` in `ip address`",
            path.display()
        )
    })
}
