//! Follows the file however it is changed: written in place, replaced by rename, deleted and made
//! again, or reached by symlinks of which one is swapped, as Kubernetes does with ConfigMaps
//! (`tidegate.yaml` → `..data/tidegate.yaml`, `..data` → `..2026_11_21`).
//!
//! What is watched are directories, never the file: a watch on a file dies with it. For every step of
//! the way from `/` to the file, symlinks followed, the directory of the step is watched for the name
//! that is looked up there, so whatever happens on the way is noticed. When things have been quiet for
//! [`QUIET`], or [`LONGEST`] after the first change, the file is read and compared: only other octets
//! are news.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    path::{Component, Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};

use super::Event;
use crate::config;

/// A burst is over when nothing has happened for this long,
pub const QUIET: Duration = Duration::from_millis(100);
/// or when it has gone on for this long.
pub const LONGEST: Duration = Duration::from_secs(1);
/// How often the file is compared although nobody said that it changed: file systems on which nobody
/// does exist, and so do limits on watches.
const COMPARED: Duration = Duration::from_secs(30);
const COMPARED_BLIND: Duration = Duration::from_secs(1);
/// Symlinks followed on the way, as in the kernel (path_resolution(7)).
const LINKS: usize = 40;

/// Sends [`Event::FileChanged`] whenever the file at `path` has other octets than before, until the loop
/// is gone. `read` are the octets that the loop knows.
pub async fn follow(path: PathBuf, read: Option<Vec<u8>>, events: mpsc::Sender<Event>) {
    let path = std::path::absolute(&path).unwrap_or(path);
    let (send_hint, mut hints) = mpsc::channel(64);
    let mut watch = Watch::new(&path, send_hint);
    let mut known = read;
    // What happened between that reading and the watch was said to nobody: it is compared at once.
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            hint = hints.recv() => {
                // The channel closes only where there is no watcher at all.
                match hint {
                    Some(paths) if watch.concerns(&paths) => settle(&mut hints, &watch).await,
                    Some(_) => continue,
                    None => time::sleep(COMPARED_BLIND).await,
                }
            }
            () = time::sleep(pause) => {}
            () = events.closed() => return,
        }
        // Before the file is read, so that no change after the reading is missed.
        watch.renew();
        pause = if watch.is_blind() { COMPARED_BLIND } else { COMPARED };
        let now = config::contents(&path);
        if now != known {
            known = now;
            if events.send(Event::FileChanged).await.is_err() {
                return;
            }
        }
    }
}

/// Waits until a burst is over.
async fn settle(hints: &mut mpsc::Receiver<Vec<PathBuf>>, watch: &Watch) {
    let latest = Instant::now() + LONGEST;
    let mut quiet = Instant::now() + QUIET;
    loop {
        match time::timeout_at(quiet.min(latest), hints.recv()).await {
            Ok(Some(paths)) if watch.concerns(&paths) => quiet = Instant::now() + QUIET,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

/// The watches on the way to the file.
struct Watch {
    path: PathBuf,
    watcher: Option<RecommendedWatcher>,
    /// The names that are looked up, by directory.
    way: BTreeMap<PathBuf, BTreeSet<OsString>>,
    watched: BTreeSet<PathBuf>,
    failed: bool,
    /// Hints were lost, and one of them may have been ours.
    lost: Arc<AtomicBool>,
}

impl Watch {
    fn new(path: &Path, hints: mpsc::Sender<Vec<PathBuf>>) -> Self {
        let lost = Arc::new(AtomicBool::new(false));
        let is_lost = Arc::clone(&lost);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // A queue that overflowed says no names: everything may have changed.
            let paths = match event {
                Ok(event) if event.need_rescan() => Vec::new(),
                Ok(event) if is_change(event.kind) => event.paths,
                Ok(_) => return,
                Err(_) => Vec::new(),
            };
            // A full channel holds hints already, but perhaps all of other files in a busy directory.
            if hints.try_send(paths).is_err() {
                is_lost.store(true, Ordering::Relaxed);
            }
        });
        if let Err(error) = &watcher {
            log::warn!("cannot watch the file for changes, so it is read once a second: {error}");
        }
        let mut watch = Self {
            path: path.to_owned(),
            watcher: watcher.ok(),
            way: BTreeMap::new(),
            watched: BTreeSet::new(),
            failed: false,
            lost,
        };
        watch.renew();
        watch
    }

    fn is_blind(&self) -> bool {
        self.watcher.is_none() || self.failed
    }

    /// Whether a change at any of these paths may be one of the file. No paths are all paths.
    fn concerns(&self, paths: &[PathBuf]) -> bool {
        let is_on_the_way = |path: &PathBuf| {
            let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return true };
            self.way.get(directory).is_some_and(|names| names.contains(name)) || self.way.contains_key(path)
        };
        self.lost.swap(false, Ordering::Relaxed) || paths.is_empty() || paths.iter().any(is_on_the_way)
    }

    /// Watches the way as it is now.
    fn renew(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        self.way = way(&self.path);
        let directories: BTreeSet<PathBuf> = self.way.keys().cloned().collect();
        for gone in self.watched.difference(&directories) {
            let _ = watcher.unwatch(gone);
        }
        self.failed = false;
        // All of them each time: a directory that was replaced has the same name and no watch.
        for directory in &directories {
            if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                if !self.failed {
                    log::debug!("cannot watch {}: {error}", directory.display());
                }
                self.failed = true;
            }
        }
        self.watched = directories;
    }
}

/// Reading is no change, and we do it ourselves.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// Which names are looked up in which directories on the way to a file, symlinks followed. The way ends
/// where something is not there: that is where it may appear.
fn way(path: &Path) -> BTreeMap<PathBuf, BTreeSet<OsString>> {
    let mut way: BTreeMap<PathBuf, BTreeSet<OsString>> = BTreeMap::new();
    let mut at = PathBuf::from("/");
    let mut left: Vec<OsString> = parts(path);
    let mut links = 0;
    while let Some(name) = left.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        way.entry(at.clone()).or_default().insert(name.clone());
        let next = at.join(&name);
        let Ok(metadata) = fs::symlink_metadata(&next) else { break };
        if !metadata.is_symlink() {
            at = next;
            continue;
        }
        links += 1;
        let Ok(target) = fs::read_link(&next) else { break };
        if links > LINKS {
            break;
        }
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        left.extend(parts(&target));
    }
    way
}

/// The names in a path, the first one last.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    let mut parts: Vec<OsString> = parts.map(|part| part.as_os_str().to_owned()).collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests;
