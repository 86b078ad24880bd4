//! A process in a gateway's namespaces, which the kernel kills when we die.

use std::{
    ffi::OsStr,
    io,
    os::fd::AsFd as _,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sched::{CloneFlags, setns},
    sys::{prctl, signal::Signal},
    unistd::{Pid, getpid, getppid},
};

use crate::{log::Log, namespace::Namespace, room::Room};

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// What it says on standard output.
    pub stdout: Log,
    /// What it says on standard error.
    pub stderr: Log,
}

/// What a process left.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Process {
    /// Starts a program in a network and a room, without these capabilities ([`CAP_NET_ADMIN`](Self::CAP_NET_ADMIN)).
    pub fn start<A: AsRef<OsStr>>(
        network: &Arc<Namespace>,
        room: &Arc<Room>,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        without: &[u8],
    ) -> Result<Self> {
        // The working directory is the root of the room's mounts, so the path must not depend on ours.
        let mut command = Command::new(std::path::absolute(program)?);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: Ctrl-C reaches whoever runs the test, and what it started ends with it.
        command.process_group(0);
        let (network, room, without, parent) = (Arc::clone(network), Arc::clone(room), without.to_vec(), getpid());
        // SAFETY: between fork and exec only system calls are made, nothing is allocated or locked.
        unsafe { command.pre_exec(move || Ok(move_in(&network, &room, &without, parent)?)) };
        let mut child =
            on_the_starter(move || command.spawn())?.with_context(|| format!("cannot start {}", program.display()))?;
        let stdout = child.stdout.take().map(Log::follow).unwrap_or_default();
        let stderr = child.stderr.take().map(Log::follow).unwrap_or_default();
        Ok(Self { child, stdout, stderr })
    }

    /// To configure networks, and to attach XDP.
    pub const CAP_NET_ADMIN: u8 = 12;
    /// capabilities(7).
    pub const CAP_NET_RAW: u8 = 13;
    /// To mount, and all that the two below allow.
    pub const CAP_SYS_ADMIN: u8 = 21;
    /// To read kernel memory from BPF programs.
    pub const CAP_PERFMON: u8 = 38;
    /// To load BPF programs and make maps.
    pub const CAP_BPF: u8 = 39;

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid().try_into()?);
        nix::sys::signal::kill(pid, signal).with_context(|| format!("cannot send {signal} to process {pid}"))
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    pub fn wait(&mut self, within: Duration) -> Result<Finished> {
        let deadline = Instant::now() + within;
        let status = loop {
            if let Some(status) = self.ended()? {
                break status;
            }
            if Instant::now() > deadline {
                bail!("process {} still runs after {within:?}; it said:\n{}", self.pid(), self.stderr.text());
            }
            thread::sleep(Duration::from_millis(2));
        };
        // A process that it left behind may hold the streams open: wait for their end, but not for ever.
        self.stdout.wait_for_end(Duration::from_secs(1));
        self.stderr.wait_for_end(Duration::from_secs(1));
        Ok(Finished { status, stdout: self.stdout.text(), stderr: self.stderr.text() })
    }

    /// Kills it, if it still runs.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Finished {
    /// The exit code; `None` when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

/// Moves a forked child into its namespaces, before it becomes the program.
fn move_in(network: &Namespace, room: &Room, without: &[u8], parent: Pid) -> Result<(), nix::Error> {
    setns(network.as_fd(), CloneFlags::CLONE_NEWNET)?;
    setns(room.as_fd(), CloneFlags::CLONE_NEWNS)?;
    for capability in without {
        // Out of the bounding set: root does not get it back by the exec that follows.
        // SAFETY: the call takes numbers only.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(*capability), 0, 0, 0) };
        nix::Error::result(dropped)?;
    }
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have died before the line above.
    if getppid() == parent { Ok(()) } else { Err(nix::Error::ECHILD) }
}

/// The kernel kills a child when the *thread* that forked it ends, so one thread that never ends forks them all.
fn on_the_starter<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<io::Result<T>> {
    static STARTER: OnceLock<mpsc::Sender<Box<dyn FnOnce() + Send>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        thread::spawn(move || jobs.into_iter().for_each(|job| job()));
        sender
    });
    let (done, result) = mpsc::channel();
    let job = Box::new(move || {
        let _ = done.send(work());
    });
    if starter.send(job).is_err() {
        bail!("the thread that starts processes has ended");
    }
    result.recv().context("the thread that starts processes has ended")
}
