//! The file system that pins stand in, and the lock of the one controller that works on them.
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

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::OpenError;

/// Where every distribution mounts it.
const USUAL: &str = "/sys/fs/bpf";
/// The source of a mount that we made on a pin directory, by which `detach` knows it.
const SOURCE: &str = "tidegate";

/// The pin directory, locked for us as long as this lives.
pub(super) struct Pinboard {
    path: PathBuf,
    /// What we made to get it, for [`Pinboard::unmake`].
    made: Made,
    _lock: Flock<File>,
}

#[derive(Default)]
struct Made {
    directories: Vec<PathBuf>,
    mounted: bool,
}

impl Pinboard {
    /// Makes the pin directory on a bpffs, mounting one where there is none, and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let path = std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))?;
        let mut made = Made::default();
        let lock = prepare(&path, &mut made).map_err(OpenError::from).and_then(|()| lock(&path));
        match lock {
            // Mounts are known by their true path.
            Ok(lock) => Ok(Self { path: path.canonicalize().unwrap_or(path), made, _lock: lock }),
            Err(error) => {
                made.undo(&path);
                Err(error)
            }
        }
    }

    /// Locks a pin directory that exists; `None` where there is none.
    pub(super) fn existing(path: &Path) -> Result<Option<Self>, OpenError> {
        let path = std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))?;
        if !path.is_dir() {
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
        let empty = fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none());
        made.mounted |= empty && mounted_by_us(&path).unwrap_or_default();
        made.undo(&path);
    }

    /// Takes the directory away, and the file system where we mounted it there.
    pub(super) fn remove(self) -> Result<()> {
        let Self { path, made: _, _lock } = self;
        if mounted_by_us(&path)? {
            // Our lock holds the mount busy: detach it lazily, which is at once for everyone else.
            umount2(&path, MntFlags::MNT_DETACH).with_context(|| format!("cannot unmount {}", path.display()))?;
        }
        match fs::remove_dir(&path) {
            Err(error)
                if error.kind() != io::ErrorKind::NotFound && error.kind() != io::ErrorKind::DirectoryNotEmpty =>
            {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }
}

impl Made {
    fn undo(self, path: &Path) {
        if self.mounted
            && let Err(error) = umount2(path, MntFlags::MNT_DETACH)
        {
            log::warn!("cannot unmount {} again: {error}", path.display());
        }
        for directory in self.directories.iter().rev() {
            if let Err(error) = fs::remove_dir(directory) {
                log::debug!("cannot remove {} again: {error}", directory.display());
            }
        }
    }
}

/// Makes `path` a directory on a bpffs.
fn prepare(path: &Path, made: &mut Made) -> Result<()> {
    if !is_bpffs(existing_ancestor(path))? {
        if path.starts_with(USUAL) {
            mount_usual()?;
        } else {
            make_directories(path, made)?;
            mount_on(path, SOURCE)?;
            made.mounted = true;
            log::info!("mounted a BPF file system on {}", path.display());
            return Ok(());
        }
    }
    // bpffs keeps names with dots for itself and says EPERM, which would read like a missing capability.
    if let Some(name) = path.strip_prefix(existing_ancestor(path)).unwrap_or(path).iter().find(|name| has_dot(name)) {
        bail!(
            "{}: a BPF file system has no names with dots, such as {name:?}; choose another --pin-dir",
            path.display()
        );
    }
    make_directories(path, made)
}

fn has_dot(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().contains(&b'.')
}

fn existing_ancestor(path: &Path) -> &Path {
    path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"))
}

fn is_bpffs(path: &Path) -> Result<bool> {
    let info = statfs(path).with_context(|| format!("cannot tell the file system of {}", path.display()))?;
    Ok(info.filesystem_type() == BPF_FS_MAGIC)
}

fn mount_usual() -> Result<()> {
    let usual = Path::new(USUAL);
    if !usual.is_dir() {
        bail!("{USUAL} is not there: mount sysfs (`mount -t sysfs sysfs /sys`), or choose another --pin-dir");
    }
    mount_on(usual, "bpf")?;
    log::info!("mounted a BPF file system on {USUAL}");
    // `ip netns exec` and systemd's sandboxes give a process mounts of its own.
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    if namespace("1").is_some_and(|init| namespace("thread-self") != Some(init)) {
        log::warn!(
            "{USUAL} was mounted in a mount namespace of this process alone: pins, and with them forwarding, \
             end with it; mount a bpffs outside and name it with --pin-dir"
        );
    }
    Ok(())
}

fn mount_on(path: &Path, source: &str) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(source), path, Some("bpf"), flags, Some("mode=0700")).map_err(|errno| {
        let command = format!("mount -t bpf {source} {}", path.display());
        match errno {
            Errno::EPERM => anyhow!(
                "{} is not on a BPF file system, and mounting one takes CAP_SYS_ADMIN; as root: `{command}`",
                path.display()
            ),
            Errno::ENODEV => anyhow!("this kernel has no BPF file system (CONFIG_BPF_SYSCALL)"),
            errno => anyhow!("cannot mount a BPF file system ({errno}); try `{command}`"),
        }
    })
}

fn make_directories(path: &Path, made: &mut Made) -> Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    for directory in missing.into_iter().rev() {
        match fs::create_dir(directory) {
            Ok(()) => made.directories.push(directory.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot make {}", directory.display())),
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Result<Flock<File>, OpenError> {
    let open = || OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_CLOEXEC).open(path);
    let directory = open().with_context(|| format!("cannot open {}", path.display()))?;
    let identity = directory.metadata().map(|metadata| (metadata.dev(), metadata.ino())).ok();
    match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => {
            // A `detach` may have taken the directory away between the opening and the locking.
            let now = fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
            if now == identity {
                return Ok(lock);
            }
            Err(anyhow!("{} was taken away at this moment; try again", path.display()).into())
        }
        Err((_, Errno::EWOULDBLOCK)) => {
            let pid = identity.and_then(|(device, inode)| holder(device, inode));
            Err(OpenError::Occupied { pid, pin_dir: path.to_owned() })
        }
        Err((_, errno)) => Err(anyhow!("cannot lock {}: {errno}", path.display()).into()),
    }
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

/// Whether the topmost mount on `path` is a bpffs of ours (proc_pid_mountinfo(5)).
fn mounted_by_us(path: &Path) -> Result<bool> {
    let mounts =
        fs::read_to_string("/proc/thread-self/mountinfo").context("cannot read /proc/thread-self/mountinfo")?;
    let place = path.to_string_lossy().replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011");
    let ours = mounts.lines().rev().find(|line| line.split(' ').nth(4) == Some(&place)).is_some_and(|line| {
        let mut kind = line.split(" - ").nth(1).unwrap_or_default().split(' ');
        (kind.next(), kind.next()) == (Some("bpf"), Some(SOURCE))
    });
    Ok(ours)
}
