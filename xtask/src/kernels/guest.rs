//! An emulated machine that boots a kernel, runs one static program as all there is, and goes off.
//!
//! Emulated, not virtual: the same everywhere, also in machines that are virtual themselves. It has no disk and no
//! network.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::{prctl, signal::Signal};

use super::said::{ENDED, RELEASE, Said};

/// The longest that a machine may run; on an idle host it needs two minutes.
const PATIENCE: Duration = Duration::from_secs(1800);

/// What the first process does. The limit of open files is the one that a shell of a distribution has.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t tmpfs tmp /tmp
ulimit -n 1024
echo \"RELEASE$(/bin/busybox cat /proc/sys/kernel/version)\"
/tests --nocapture --test-threads=1 2>&1
echo \"ENDED$?\"
/bin/busybox poweroff -f
";

/// The emulator and a shell, with the libraries that they were built for.
pub(super) struct Tools {
    root: PathBuf,
}

impl Tools {
    /// In a directory with Debian's packages.
    pub(super) fn of(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The emulator, run by its own dynamic linker, so that this machine's libc does not matter.
    fn emulator(&self) -> Command {
        let usr = self.root.join("usr");
        let mut command = Command::new(usr.join("lib64/ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(usr.join("lib/x86_64-linux-gnu")).arg(usr.join("bin/qemu-system-x86_64"));
        command.arg("-L").arg(usr.join("share/qemu")).arg("-L").arg(usr.join("share/seabios"));
        command
    }

    fn busybox(&self) -> PathBuf {
        self.root.join("usr/bin/busybox")
    }
}

/// The kernel in a directory with its package.
pub(super) fn image(home: &Path) -> Result<PathBuf> {
    let boot = home.join("boot");
    let entries = fs::read_dir(&boot).with_context(|| format!("cannot read {}", boot.display()))?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_image = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"));
    paths
        .find(is_image)
        .with_context(|| format!("{} has no kernel: remove {} and run this again", boot.display(), home.display()))
}

/// Boots a kernel with the tests; all that it says goes into `log`.
pub(super) fn boot(tools: &Tools, kernel: &Path, tests: &Path, log: &Path) -> Result<Said> {
    let initramfs = initramfs(tools, tests, &log.with_extension("root"))?;
    let mut command = tools.emulator();
    command.args(["-M", "q35", "-cpu", "max", "-m", "2048", "-smp", "1", "-nographic", "-no-reboot", "-nic", "none"]);
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(&initramfs);
    command.args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on"]);
    let said = listen(&mut command, log)?;
    fs::remove_file(&initramfs).with_context(|| format!("cannot remove {}", initramfs.display()))?;
    Ok(said)
}

/// Packs a root directory for the kernel: a shell, the tests, and what mounts need.
fn initramfs(tools: &Tools, tests: &Path, root: &Path) -> Result<PathBuf> {
    let fault = || format!("cannot write in {}", root.display());
    if root.exists() {
        fs::remove_dir_all(root).with_context(fault)?;
    }
    for directory in ["bin", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(root.join(directory)).with_context(fault)?;
    }
    fs::copy(tools.busybox(), root.join("bin/busybox")).with_context(|| {
        format!("cannot copy busybox from {}: remove that directory and run this again", tools.root.display())
    })?;
    fs::copy(tests, root.join("tests")).with_context(fault)?;
    let init = root.join("init");
    fs::write(&init, INIT.replace("RELEASE", RELEASE).replace("ENDED", ENDED)).with_context(fault)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).with_context(fault)?;
    let archive = root.with_extension("cpio");
    let mut pack = Command::new(tools.busybox());
    pack.args(["sh", "-c", "$0 find . | $0 cpio -o -H newc >$1"]).arg(tools.busybox()).arg(&archive);
    let output = pack.current_dir(root).output().context("cannot start busybox")?;
    if !output.status.success() {
        bail!("busybox could not pack {}: {}", root.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    fs::remove_dir_all(root).with_context(fault)?;
    Ok(archive)
}

/// Runs the emulator to its end and understands what the machine says.
fn listen(command: &mut Command, log: &Path) -> Result<Said> {
    let mut file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file.try_clone()?);
    // SAFETY: one system call that touches no memory. Whoever ends us ends the machine.
    unsafe { command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)) };
    let mut child =
        command.spawn().context("cannot start the emulator: remove the cache of kernels and run this again")?;
    let stdout = child.stdout.take().context("the emulator has no output")?;
    let (send, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut all = BufReader::new(stdout).split(b'\n').map_while(Result::ok);
        all.try_for_each(|line| send.send(String::from_utf8_lossy(&line).trim_end().to_owned()))
    });
    let (mut said, end) = (Said::default(), Instant::now() + PATIENCE);
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                writeln!(file, "{line}").with_context(|| format!("cannot write {}", log.display()))?;
                said.hear(&line);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill().context("cannot end the emulator")?;
                said.hear(&format!("it was ended after {PATIENCE:.0?}"));
                break;
            }
        }
    }
    child.wait().context("cannot wait for the emulator")?;
    Ok(said)
}
