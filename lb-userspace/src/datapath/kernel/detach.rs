//! Everything taken away: links first, so that no program runs without its maps.

use std::path::Path;

use anyhow::Result;

use super::{
    OpenError,
    board::Pinboard,
    links::{self, Pinned},
    permit, pins,
};

/// Takes programs, pins and our mount away, of every layout. Says whether there was anything. Fails with
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
    board.remove()
}
