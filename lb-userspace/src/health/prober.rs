//! Knocks on backends: one task for all of them, a connection for each knock.
//!
//! A probe connects and closes with RST (`SO_LINGER` of zero), so no `TIME_WAIT` piles up on the gateway
//! and the backend's listener is free at once. The first probes of a backend go out as soon as it is
//! known; then its phase is drawn anywhere in the interval, and jitter of ±10% keeps phases from
//! falling into step. At most [`AT_ONCE`] probes are under way.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    io,
    net::SocketAddrV4,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use nix::errno::Errno;
use tokio::{
    net::TcpSocket,
    sync::{mpsc, watch},
    time,
};

use super::Outcome;

/// Probes that may be under way at one time: a thousand file descriptors are what a process has by default.
pub const AT_ONCE: usize = 512;

/// Between the first probes of two backends: a thousand take 50 ms. All in one instant would overrun the
/// listen queue of a host that has many of them.
const PACE: Duration = Duration::from_micros(50);

/// A backend of a service, by the service's name and its own address.
pub type Key = (Arc<str>, SocketAddrV4);

/// What to knock on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where the probe goes.
    pub address: SocketAddrV4,
    /// Between two probes.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
}

/// A knock that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// Whom it was for.
    pub key: Key,
    /// What it found.
    pub outcome: Outcome,
    /// When it was sent.
    pub sent: Instant,
    /// How long it took.
    pub took: Duration,
}

/// Probes whatever `targets` last named and sends what it finds, until one of the channels closes.
pub async fn probe(mut targets: watch::Receiver<BTreeMap<Key, Target>>, found: mpsc::Sender<Probed>) {
    let mut current: BTreeMap<Key, Target> = BTreeMap::new();
    let mut queue = Queue::default();
    let mut under_way = FuturesUnordered::new();
    let mut dice = Dice(seed());
    loop {
        let due = queue.next().filter(|_| under_way.len() < AT_ONCE);
        tokio::select! {
            changed = targets.changed() => {
                if changed.is_err() {
                    return;
                }
                let new = targets.borrow_and_update().clone();
                let fresh = new.keys().filter(|key| !current.contains_key(*key));
                for (key, number) in fresh.zip(0..) {
                    queue.push(Instant::now() + PACE * number, key.clone(), true);
                }
                // Who is probed otherwise from now on does not wait for the end of an interval of before.
                for (key, target) in new.iter().filter(|(key, target)| current.get(*key).is_some_and(|old| old != *target)) {
                    let at = Instant::now() + target.interval.mul_f64(dice.between(0.0, 1.0));
                    queue.advance(at, key);
                }
                current = new;
            }
            () = time::sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                // Of a key that was removed and came back, only the newest entry counts.
                let Some((key, first)) = queue.pop() else { continue };
                let Some(target) = current.get(&key) else { continue };
                let wait = if first { dice.between(0.1, 1.0) } else { dice.between(0.9, 1.1) };
                under_way.push(knock(key, target.clone()).map(move |probed| (probed, wait)));
            }
            Some((probed, wait)) = under_way.next() => {
                // A probe that takes longer than the interval delays the next: they never overlap.
                if let Some(target) = current.get(&probed.key) {
                    queue.push(probed.sent + target.interval.mul_f64(wait), probed.key.clone(), false);
                }
                if found.send(probed).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// One probe.
async fn knock(key: Key, target: Target) -> Probed {
    let sent = Instant::now();
    let outcome = match time::timeout(target.timeout, connect(target.address)).await {
        Ok(Ok(())) => Outcome::Answered,
        Ok(Err(error)) => outcome(&error),
        Err(_) => Outcome::Silent,
    };
    Probed { key, outcome, sent, took: sent.elapsed() }
}

async fn connect(address: SocketAddrV4) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_zero_linger()?;
    socket.connect(address.into()).await.map(drop)
}

/// What an error of `connect` says: about the backend, about the way to it, or about ourselves.
fn outcome(error: &io::Error) -> Outcome {
    let errno = error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
    match errno {
        Errno::ECONNREFUSED | Errno::ECONNRESET => Outcome::Refused,
        Errno::ETIMEDOUT => Outcome::Silent,
        Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EHOSTDOWN | Errno::ENETDOWN | Errno::ENONET => {
            Outcome::Unreachable(errno)
        }
        // EMFILE, ENOBUFS, EADDRNOTAVAIL, EPERM of a firewall rule of ours: no word about the backend.
        _ => Outcome::Ours(errno),
    }
}

/// Who is to be probed next.
#[derive(Default)]
struct Queue {
    heap: BinaryHeap<Reverse<(Instant, Key, bool)>>,
    /// When each is due: other entries of the heap are outdated.
    due: BTreeMap<Key, Instant>,
}

impl Queue {
    fn push(&mut self, at: Instant, key: Key, first: bool) {
        self.due.insert(key.clone(), at);
        self.heap.push(Reverse((at, key, first)));
    }

    /// Makes one due at `at` that is due later.
    fn advance(&mut self, at: Instant, key: &Key) {
        if self.due.get(key).is_some_and(|due| *due > at) {
            self.push(at, key.clone(), false);
        }
    }

    fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    fn pop(&mut self) -> Option<(Key, bool)> {
        let Reverse((at, key, first)) = self.heap.pop()?;
        if self.due.get(&key) != Some(&at) {
            return None;
        }
        self.due.remove(&key);
        Some((key, first))
    }
}

/// SplitMix64: good enough to keep probes out of step.
struct Dice(u64);

/// Another one in each process, so that gateways that start together do not probe together.
fn seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

impl Dice {
    fn between(&mut self, low: f64, high: f64) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        low + (high - low) * ((value >> 32) as f64 / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn target(address: SocketAddrV4) -> Target {
        Target { address, interval: Duration::from_millis(200), timeout: Duration::from_millis(500) }
    }

    fn key(address: SocketAddrV4) -> Key {
        ("web".into(), address)
    }

    async fn listener() -> (TcpListener, SocketAddrV4) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let std::net::SocketAddr::V4(address) = listener.local_addr().unwrap() else { panic!("not IPv4") };
        (listener, address)
    }

    #[tokio::test]
    async fn tells_an_answer_from_a_refusal_and_from_silence() {
        let (listener, open) = listener().await;
        assert_eq!(knock(key(open), target(open)).await.outcome, Outcome::Answered);
        drop(listener);
        assert_eq!(knock(key(open), target(open)).await.outcome, Outcome::Refused);
        let broadcast = SocketAddrV4::new([255, 255, 255, 255].into(), 80);
        assert_ne!(knock(key(broadcast), target(broadcast)).await.outcome, Outcome::Answered);
        for (errno, expected) in [
            (libc::ECONNREFUSED, Outcome::Refused),
            (libc::EHOSTUNREACH, Outcome::Unreachable(Errno::EHOSTUNREACH)),
            (libc::EMFILE, Outcome::Ours(Errno::EMFILE)),
            (libc::EPERM, Outcome::Ours(Errno::EPERM)),
        ] {
            assert_eq!(outcome(&io::Error::from_raw_os_error(errno)), expected);
        }
    }

    #[tokio::test]
    async fn leaves_no_time_wait_behind() {
        let (_listener, open) = listener().await;
        for _ in 0..20 {
            knock(key(open), target(open)).await;
        }
        let port = format!(":{:04X}", open.port());
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let waiting = sockets.lines().filter(|line| line.contains(&port) && line.contains(" 06 ")).count();
        assert_eq!(waiting, 0, "{sockets}");
    }

    #[tokio::test]
    async fn probes_at_once_and_then_out_of_step() {
        let (listener, open) = listener().await;
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        let (send_targets, targets) = watch::channel(BTreeMap::new());
        let (send, mut found) = mpsc::channel(1000);
        tokio::spawn(probe(targets, send));
        // A hundred services with the same backend.
        let keys: Vec<Key> = (0..100).map(|number| (format!("s{number}").into(), open)).collect();
        let start = Instant::now();
        send_targets.send(keys.iter().map(|key| (key.clone(), target(open))).collect()).unwrap();
        let mut sent: BTreeMap<Key, Vec<Duration>> = BTreeMap::new();
        while sent.len() < 100 || sent.values().any(|times| times.len() < 3) {
            let probed = found.recv().await.unwrap();
            assert_eq!(probed.outcome, Outcome::Answered);
            sent.entry(probed.key).or_default().push(probed.sent - start);
        }
        let first = sent.values().map(|times| times[0]).max().unwrap();
        assert!(first < Duration::from_millis(150), "the first round took {first:?}");
        let mut seconds: Vec<Duration> = sent.values().map(|times| times[1]).collect();
        seconds.sort();
        assert!(seconds[90] - seconds[10] > Duration::from_millis(80), "all at one instant: {seconds:?}");
        // Who is no longer named is no longer probed.
        send_targets.send(BTreeMap::new()).unwrap();
        time::sleep(Duration::from_millis(20)).await;
        while found.try_recv().is_ok() {}
        time::sleep(Duration::from_millis(400)).await;
        assert!(found.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_shorter_interval_is_not_waited_for() {
        let (_listener, open) = listener().await;
        let (send_targets, targets) = watch::channel(BTreeMap::new());
        let (send, mut found) = mpsc::channel(10);
        tokio::spawn(probe(targets, send));
        let hourly = Target { interval: Duration::from_secs(3600), ..target(open) };
        send_targets.send([(key(open), hourly)].into()).unwrap();
        found.recv().await.unwrap();
        send_targets.send([(key(open), target(open))].into()).unwrap();
        time::timeout(Duration::from_secs(2), found.recv()).await.expect("the interval of before is waited for");
    }
}
