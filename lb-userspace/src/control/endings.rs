//! A line in the log for each connection that has ended, where `log.connections` wants it: `key=value`, to be
//! searched and counted by the usual tools. So many a second and no more: a log that floods is read by nobody.

use std::time::{Duration, Instant};

use log::Level;

use super::controller::Controller;
use crate::{
    datapath::{
        Datapath, FlowCounts,
        entry::{Ending, Entry, State},
    },
    time::Now,
};

/// Lines a second; journald drops what is beyond 10,000 in 30 s.
const LINES: u64 = 300;
const SECOND: Duration = Duration::from_secs(1);

/// How many lines there may still be in this second.
#[derive(Debug, Default)]
pub(super) struct Ration {
    since: Option<Instant>,
    written: u64,
    withheld: u64,
}

impl Ration {
    /// Whether a line may be written now.
    fn take(&mut self) -> bool {
        let may = self.written < LINES;
        self.written += u64::from(may);
        self.withheld += u64::from(!may);
        may
    }

    /// What was withheld in a second that is over; then the next one begins.
    fn turn(&mut self, now: Instant) -> u64 {
        if self.since.is_some_and(|since| now.saturating_duration_since(since) < SECOND) {
            return 0;
        }
        self.since = Some(now);
        self.written = 0;
        std::mem::take(&mut self.withheld)
    }
}

impl<D: Datapath> Controller<D> {
    /// Sweeps the flow tables, and writes of those connections that have ended.
    pub(super) fn sweep_now(&mut self, now: Now) -> anyhow::Result<FlowCounts> {
        let mut flows = self.datapath.flows()?;
        let ended = std::mem::take(&mut flows.ended);
        let untold = std::mem::take(&mut flows.untold);
        for (level, line) in self.lines_of(&ended, untold, now) {
            log::log!(level, "{line}");
        }
        self.sweep = Some((now.at, flows.clone()));
        Ok(flows)
    }

    /// What is to be written of connections that have ended, and of `untold` more.
    pub(super) fn lines_of(&mut self, ended: &[Ending], untold: u64, now: Now) -> Vec<(Level, String)> {
        let mut lines = Vec::new();
        let withheld = self.ration.turn(now.at);
        if withheld > 0 {
            let more = format!("{withheld} more connections ended and were not written: over {LINES} a second");
            lines.push((Level::Warn, more));
        }
        for ending in ended {
            if self.ration.take() {
                let level = if ending.how.is_error() { Level::Warn } else { Level::Info };
                let (service, name) = self.served_by(&ending.entry);
                lines.push((level, line(ending, service.unwrap_or("-"), &name)));
            }
        }
        self.ration.withheld += untold;
        lines
    }
}

/// All of a connection. Octets are those of IP packets.
fn line(Ending { entry, how }: &Ending, service: &str, name: &str) -> String {
    let Entry { client, vip, backend, packets, bytes, .. } = entry;
    let duration = match entry.state {
        State::Handshake => entry.age,
        // From the first packet to the last, not to the sweep.
        _ => entry.age.saturating_sub(entry.idle),
    };
    format!(
        "connection how={} service={service} client={client} vip={vip} backend={backend} name={name} duration={:.3}s \
         to_backend_packets={} to_backend_bytes={} from_backend_packets={} from_backend_bytes={}",
        how.word(),
        duration.as_secs_f64(),
        packets[0],
        bytes[0],
        packets[1],
        bytes[1]
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::entry::How;

    fn ending(state: State, how: How) -> Ending {
        let socket = |text: &str| text.parse().unwrap();
        let entry = Entry {
            client: socket("192.0.2.7:50123"),
            vip: socket("203.0.113.10:80"),
            backend: socket("10.0.1.11:8080"),
            id: 1,
            state,
            age: Duration::from_millis(4500),
            idle: Duration::from_millis(1000),
            packets: [6, 5],
            bytes: [600, 5000],
        };
        Ending { entry, how }
    }

    #[test]
    fn a_line_has_everything_and_can_be_searched() {
        assert_eq!(
            line(&ending(State::Closing, How::Finished), "web", "one"),
            "connection how=finished service=web client=192.0.2.7:50123 vip=203.0.113.10:80 backend=10.0.1.11:8080 \
             name=one duration=3.500s to_backend_packets=6 to_backend_bytes=600 from_backend_packets=5 \
             from_backend_bytes=5000"
        );
        let silent = line(&ending(State::Handshake, How::NoAnswer), "-", "10.0.1.11:8080");
        assert!(silent.contains("how=no-answer service=- ") && silent.contains(" duration=4.500s "), "{silent}");
    }

    #[test]
    fn lines_are_rationed_by_the_second_and_what_is_withheld_is_said_once() {
        let start = Instant::now();
        let mut ration = Ration::default();
        assert_eq!(ration.turn(start), 0);
        let written = (0..LINES + 20).filter(|_| ration.take()).count();
        assert_eq!(written as u64, LINES);
        assert_eq!(ration.turn(start + SECOND / 2), 0);
        assert!(!ration.take());
        assert_eq!(ration.turn(start + SECOND), 21);
        assert!(ration.take());
        assert_eq!(ration.turn(start + SECOND * 2), 0);
    }
}
