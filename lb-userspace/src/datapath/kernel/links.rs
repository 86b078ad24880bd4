//! Pinned links: which NICs the program is attached to, and stays attached to when we are gone.
//!
//! A link is pinned under the number of its NIC (bpffs has no names with dots, and NICs do). A link
//! whose NIC was deleted lives on as a file that is attached to nothing; it is known by its program,
//! which the NIC of that number does not run.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use aya::programs::links::{FdLink, PinnedLink};

use super::pins;
use crate::net::{self, Link};

/// How long the kernel may take to let go of a NIC whose link is removed.
const PATIENCE: Duration = Duration::from_secs(2);

/// One pinned link.
pub(super) struct Pinned {
    pub(super) ifindex: u32,
    /// The program that it runs.
    pub(super) program: u32,
    path: PathBuf,
}

impl Pinned {
    /// All links pinned in a layout's directory.
    pub(super) fn all(layout: &Path) -> Result<Vec<Self>> {
        let directory = pins::links(layout);
        pins::names(&directory)?.iter().map(|name| Self::open(&directory, name)).collect()
    }

    fn open(directory: &Path, name: &str) -> Result<Self> {
        let path = directory.join(name);
        let link = || format!("cannot read the link {}; run `tidegate detach` first", path.display());
        let ifindex = name.parse().with_context(link)?;
        let pinned = PinnedLink::from_pin(&path).with_context(link)?;
        let program = FdLink::from(pinned).info().with_context(link)?.program_id();
        Ok(Self { ifindex, program, path })
    }

    /// The link itself, for another program.
    pub(super) fn link(&self) -> Result<FdLink> {
        let pinned = PinnedLink::from_pin(&self.path);
        Ok(pinned.with_context(|| format!("cannot open the link {}", self.path.display()))?.into())
    }

    /// Whether the NIC of its number runs its program.
    pub(super) fn lives(&self, links: &[Link]) -> bool {
        let nic = links.iter().find(|link| link.ifindex == self.ifindex);
        nic.and_then(|nic| nic.xdp).is_some_and(|xdp| xdp.program == self.program)
    }

    /// Detaches: nothing else holds the link.
    pub(super) fn remove(&self) -> Result<()> {
        fs::remove_file(&self.path).with_context(|| format!("cannot remove the link {}", self.path.display()))
    }
}

/// Pins a link that was just made.
pub(super) fn pin(layout: &Path, ifindex: u32, link: FdLink) -> Result<Pinned> {
    let program = link.info().context("cannot ask for the link's program")?.program_id();
    let directory = pins::links(layout);
    if !directory.is_dir() {
        fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let path = directory.join(ifindex.to_string());
    link.pin(&path).with_context(|| format!("cannot pin the link {}", path.display()))?;
    Ok(Pinned { ifindex, program, path })
}

/// Waits until none of these programs runs on its NIC: the kernel frees links from a work queue.
pub(super) fn wait_until_gone(removed: &[Pinned]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !removed.is_empty() {
        let links = net::links_now()?;
        let Some(still) = removed.iter().find(|pinned| pinned.lives(&links)) else { break };
        if Instant::now() > deadline {
            let name = links.iter().find(|link| link.ifindex == still.ifindex).map(|link| link.name.as_str());
            bail!(
                "{}: the program {} is still attached; something else holds its link",
                name.unwrap_or("a NIC"),
                still.program
            );
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
