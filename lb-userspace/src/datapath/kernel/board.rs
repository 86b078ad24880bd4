//! The pin directory and the lock of the one controller that works on it.
//!
//! The lock is `flock` on the pin directory itself. It is the same for everyone who reaches the same
//! pins, whatever path or mount namespace they come by; it leaves no file behind, and the kernel lets
//! go of it when its holder dies.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MntFlags, umount2},
};

use super::{
    OpenError,
    bpffs::{self, Made},
};

/// The pin directory, locked for us as long as this lives.
pub(super) struct Pinboard {
    path: PathBuf,
    /// What we made to get it, for [`Pinboard::unmake`].
    made: Made,
    _lock: Flock<File>,
}

impl Pinboard {
    /// Makes the pin directory on a bpffs, mounting one where there is none, and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let path = std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))?;
        let mut made = Made::default();
        let lock = bpffs::prepare(&path, &mut made).map_err(OpenError::from).and_then(|()| lock(&path));
        match lock {
            // Mounts are known by their true path.
            Ok(lock) => Ok(Self { path: path.canonicalize().unwrap_or(path), made, _lock: lock }),
            // Whoever has the lock uses what we made.
            Err(occupied @ OpenError::Occupied { .. }) => Err(occupied),
            Err(error) => {
                made.undo(&path);
                Err(error)
            }
        }
    }

    /// Locks a pin directory that exists; `None` where there is none, or nothing can be pinned in it.
    pub(super) fn existing(path: &Path) -> Result<Option<Self>, OpenError> {
        let path = std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))?;
        // Never touch what is no bpffs: names in it are somebody's files, not pins.
        if !path.is_dir() || !bpffs::is_one(&path)? {
            return Ok(None);
        }
        let lock = lock(&path)?;
        Ok(Some(Self { path: path.canonicalize().unwrap_or(path), made: Made::default(), _lock: lock }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes away what [`Pinboard::open`] made, after a start that failed; and the mount that an earlier
    /// start made, where nothing is pinned in it.
    pub(super) fn unmake(self) {
        let Self { path, mut made, _lock } = self;
        made.mounted |= bpffs::is_unused(&path) && bpffs::mounted_by_us(&path).unwrap_or_default();
        made.undo(&path);
    }

    /// Takes the directory away, and the file system where we mounted it there.
    pub(super) fn remove(self) -> Result<()> {
        use io::ErrorKind::{DirectoryNotEmpty, NotFound, ResourceBusy};
        let Self { path, made: _, _lock } = self;
        if bpffs::is_unused(&path) && bpffs::mounted_by_us(&path)? {
            // Our lock holds the mount busy: detach it lazily, which is at once for everyone else.
            umount2(&path, MntFlags::MNT_DETACH).with_context(|| format!("cannot unmount {}", path.display()))?;
        }
        match fs::remove_dir(&path) {
            // Somebody else's mount, or other pins in it: not ours to take away.
            Err(error) if !matches!(error.kind(), NotFound | DirectoryNotEmpty | ResourceBusy) => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }
}

fn lock(path: &Path) -> Result<Flock<File>, OpenError> {
    let directory = open(path)?;
    let identity = directory.metadata().map(|metadata| (metadata.dev(), metadata.ino())).ok();
    match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => {
            // A `detach` may have taken the directory away between the opening and the locking.
            let now = fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
            if now == identity {
                return Ok(lock);
            }
            Err(anyhow!("{} was made or taken away at this moment; try again", path.display()).into())
        }
        Err((_, Errno::EWOULDBLOCK)) => {
            let pid = identity.and_then(|(device, inode)| holder(device, inode));
            Err(OpenError::Occupied { pid, pin_dir: path.to_owned() })
        }
        Err((_, errno)) => Err(anyhow!("cannot lock {}: {errno}", path.display()).into()),
    }
}

/// A directory, for its lock.
pub(super) fn open(path: &Path) -> Result<File> {
    let options = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_CLOEXEC).open(path);
    options.with_context(|| format!("cannot open {}", path.display()))
}

/// The process that holds the lock, from `/proc/locks` (proc_locks(5)).
fn holder(device: u64, inode: u64) -> Option<u32> {
    let identity = format!("{:02x}:{:02x}:{inode}", libc::major(device), libc::minor(device));
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, "FLOCK", _, _, pid, file, ..] = words.as_slice() else { return None };
        (*file == identity).then(|| pid.parse().ok()).flatten().filter(|pid| *pid != 0)
    })
}
