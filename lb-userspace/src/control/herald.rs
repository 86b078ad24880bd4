//! Does on the host what the loop posts: VIPs put on interfaces and taken away, and neighbours told.
//!
//! It decides nothing. It runs beside the loop, so that an interface that takes no address keeps no failed
//! backend in a table; what came of each posting goes back as an event.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use anyhow::Result;
use tokio::{
    sync::{mpsc, watch},
    time::{self, Instant},
};

use super::{
    Event,
    announce::{Errand, Posting, Seat},
    surroundings::Running,
};

/// What may be done on the host.
pub trait Host: Send + Sync + 'static {
    /// Puts a VIP on an interface.
    fn add(&self, seat: Seat) -> impl Future<Output = Result<()>> + Send;
    /// Takes it away.
    fn remove(&self, seat: Seat) -> impl Future<Output = Result<()>> + Send;
    /// Tells the neighbours on the interface that the VIP is at this Ethernet address.
    fn tell(&self, seat: Seat, mac: [u8; 6]) -> impl Future<Output = Result<()>> + Send;
}

/// How often neighbours are told, for those who miss a word, and the pause between two words.
const WORDS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// Does what is posted until nobody posts any more.
pub async fn herald<H: Host>(host: Arc<H>, mut posted: watch::Receiver<Posting>, events: mpsc::Sender<Event>) {
    let mut done = 0;
    let mut words = Words::default();
    loop {
        let posting = posted.borrow_and_update().clone();
        if posting.number != done {
            let result = run(&*host, &posting.errands).await;
            done = posting.number;
            if events.send(Event::Posted(done, result)).await.is_err() {
                return;
            }
        }
        words.follow(&posting.told);
        words.say(&*host).await;
        tokio::select! {
            changed = posted.changed() => if changed.is_err() { return },
            () = time::sleep_until(words.next().unwrap_or_else(Instant::now)), if words.next().is_some() => {}
        }
    }
}

/// The errands in turn; one that fails keeps none of the others, and the first failure is told.
async fn run<H: Host>(host: &H, errands: &[Errand]) -> Result<(), String> {
    let mut result = Ok(());
    for errand in errands {
        let done = match errand {
            Errand::Add(seat) => host.add(*seat).await,
            Errand::Remove(seat) => host.remove(*seat).await,
        };
        match done {
            Ok(()) => log::info!("{}", said(errand)),
            Err(error) => result = result.and(Err(format!("{error:#}"))),
        }
    }
    result
}

fn said(errand: &Errand) -> String {
    match errand {
        Errand::Add(seat) => format!("{}/32 is put on interface {}", seat.vip, seat.ifindex),
        Errand::Remove(seat) => format!("{}/32 is taken away from interface {}", seat.vip, seat.ifindex),
    }
}

/// What is still to be said of whom, and when.
#[derive(Default)]
struct Words(BTreeMap<Seat, Word>);

struct Word {
    running: Running,
    left: u32,
    at: Instant,
}

impl Words {
    /// Begins with those that are new, and ends with those that are gone.
    fn follow(&mut self, told: &BTreeMap<Seat, Running>) {
        self.0.retain(|seat, word| told.get(seat) == Some(&word.running));
        for (seat, running) in told {
            let word = || Word { running: *running, left: WORDS, at: Instant::now() };
            self.0.entry(*seat).or_insert_with(word);
        }
    }

    /// Says what is due. A word that cannot be said is said again with the next ones, and missed after the last.
    async fn say<H: Host>(&mut self, host: &H) {
        let now = Instant::now();
        for (seat, word) in self.0.iter_mut().filter(|(_, word)| word.left > 0 && word.at <= now) {
            if let Err(error) = host.tell(*seat, word.running.mac).await {
                log::warn!("neighbours do not hear of {}, and find it when they ask: {error:#}", seat.vip);
            }
            (word.left, word.at) = (word.left - 1, now + PAUSE);
        }
    }

    fn next(&self) -> Option<Instant> {
        self.0.values().filter(|word| word.left > 0).map(|word| word.at).min()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use anyhow::bail;

    use super::*;

    /// Notes what is done, and fails to put anything on interface 9.
    #[derive(Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Notes {
        fn note(&self, what: &str, seat: Seat) -> Result<()> {
            self.0.lock().unwrap().push(format!("{what} {} {}", seat.vip, seat.ifindex));
            Ok(())
        }

        fn taken(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    impl Host for Notes {
        async fn add(&self, seat: Seat) -> Result<()> {
            if seat.ifindex == 9 {
                bail!("no such interface");
            }
            self.note("add", seat)
        }

        async fn remove(&self, seat: Seat) -> Result<()> {
            self.note("remove", seat)
        }

        async fn tell(&self, seat: Seat, _: [u8; 6]) -> Result<()> {
            self.note("tell", seat)
        }
    }

    fn seat(last: u8, ifindex: u32) -> Seat {
        Seat { vip: [192, 0, 2, last].into(), ifindex }
    }

    fn told<const N: usize>(seats: [Seat; N], ups: u32) -> BTreeMap<Seat, Running> {
        seats.map(|seat| (seat, Running { mac: [2; 6], ups })).into()
    }

    #[tokio::test(start_paused = true)]
    async fn errands_are_done_once_answered_and_what_is_new_is_told_three_times() {
        let host = Arc::new(Notes::default());
        let (post, posted) = watch::channel(Posting::default());
        let (send, mut events) = mpsc::channel(4);
        let herald = tokio::spawn(herald(Arc::clone(&host), posted, send));
        let errands = vec![Errand::Add(seat(1, 9)), Errand::Add(seat(2, 2)), Errand::Remove(seat(3, 1))];
        post.send_replace(Posting { number: 1, errands, told: BTreeMap::new() });
        let Some(Event::Posted(1, Err(error))) = events.recv().await else { panic!("the failure is told") };
        assert_eq!(error, "no such interface");
        assert_eq!(host.taken(), ["add 192.0.2.2 2", "remove 192.0.2.3 1"]);

        post.send_replace(Posting { number: 2, errands: Vec::new(), told: told([seat(2, 2)], 1) });
        assert!(matches!(events.recv().await, Some(Event::Posted(2, Ok(())))));
        time::sleep(Duration::from_secs(60)).await;
        assert_eq!(host.taken(), ["tell 192.0.2.2 2"; 3]);
        // Another joins: the first has been told.
        post.send_replace(Posting { number: 2, errands: Vec::new(), told: told([seat(2, 2), seat(4, 2)], 1) });
        time::sleep(Duration::from_millis(1)).await;
        assert_eq!(host.taken(), ["tell 192.0.2.4 2"]);
        // It leaves before all is said, and comes back: all is said anew.
        post.send_replace(Posting { number: 2, errands: Vec::new(), told: told([seat(2, 2)], 1) });
        time::sleep(Duration::from_secs(60)).await;
        assert!(host.taken().is_empty());
        post.send_replace(Posting { number: 2, errands: Vec::new(), told: told([seat(4, 2)], 1) });
        time::sleep(Duration::from_secs(60)).await;
        assert_eq!(host.taken(), ["tell 192.0.2.4 2"; 3]);
        // So it is when the interface was away between two looks.
        post.send_replace(Posting { number: 2, errands: Vec::new(), told: told([seat(4, 2)], 2) });
        time::sleep(Duration::from_secs(60)).await;
        assert_eq!(host.taken(), ["tell 192.0.2.4 2"; 3]);
        drop(post);
        herald.await.unwrap();
    }
}
