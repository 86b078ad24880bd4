//! The file system that pins stand in: found, or mounted where there is none.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::board;

/// Where every distribution mounts it.
const USUAL: &str = "/sys/fs/bpf";
/// The source of a mount that we made on a pin directory, by which `detach` knows it.
const SOURCE: &str = "tidegate";
/// How long another start may take to mount.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was made to get a pin directory.
#[derive(Default)]
pub(super) struct Made {
    directories: Vec<PathBuf>,
    pub(super) mounted: bool,
}

impl Made {
    /// Takes it away again.
    pub(super) fn undo(self, path: &Path) {
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
pub(super) fn prepare(path: &Path, made: &mut Made) -> Result<()> {
    if !is_one(existing_ancestor(path))? {
        if path.starts_with(USUAL) {
            if !Path::new(USUAL).is_dir() {
                bail!("{USUAL} is not there: mount sysfs (`mount -t sysfs sysfs /sys`), or choose another --pin-dir");
            }
            mount_once(Path::new(USUAL), "bpf")?;
        } else {
            make_directories(path, made)?;
            if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
                bail!("{} holds files, and a mount would hide them; choose an empty --pin-dir", path.display());
            }
            made.mounted = mount_once(path, SOURCE)?;
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

/// Whether nothing is pinned here. The kernel puts `maps.debug` and `progs.debug` into every bpffs
/// (CONFIG_BPF_PRELOAD), and lets nobody else use names with dots.
pub(super) fn is_unused(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|entries| entries.flatten().all(|entry| has_dot(&entry.file_name())))
}

pub(super) fn is_one(path: &Path) -> Result<bool> {
    let info = statfs(path).with_context(|| format!("cannot tell the file system of {}", path.display()))?;
    Ok(info.filesystem_type() == BPF_FS_MAGIC)
}

/// Mounts where nothing is mounted yet, and says whether it did: of two starts at once, one mounts.
fn mount_once(path: &Path, source: &str) -> Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let locked = Flock::lock(board::open(path)?, FlockArg::LockExclusiveNonblock);
        if is_one(path)? {
            return Ok(false);
        }
        match locked {
            Ok(_lock) => {
                mount_on(path, source)?;
                return Ok(true);
            }
            Err((_, Errno::EWOULDBLOCK)) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            Err((_, errno)) => bail!("cannot lock {} to mount on it: {errno}", path.display()),
        }
    }
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
    })?;
    log::info!("mounted a BPF file system on {}", path.display());
    // `ip netns exec` and systemd's sandboxes give a process mounts of its own.
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    if namespace("1").is_some_and(|init| namespace("thread-self") != Some(init)) {
        log::warn!(
            "{} was mounted in a mount namespace that is not the host's: pins, and with them forwarding, end with \
             it; to outlive it, mount a bpffs outside and name it with --pin-dir",
            path.display()
        );
    }
    Ok(())
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

/// Whether the topmost mount on `path` is a bpffs of ours (proc_pid_mountinfo(5)).
pub(super) fn mounted_by_us(path: &Path) -> Result<bool> {
    let mounts =
        fs::read_to_string("/proc/thread-self/mountinfo").context("cannot read /proc/thread-self/mountinfo")?;
    let place = path.to_string_lossy().replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011");
    let ours = mounts.lines().rev().find(|line| line.split(' ').nth(4) == Some(&place)).is_some_and(|line| {
        let mut kind = line.split(" - ").nth(1).unwrap_or_default().split(' ');
        (kind.next(), kind.next()) == (Some("bpf"), Some(SOURCE))
    });
    Ok(ours)
}
