//! What a process says, line by line, while it runs.

use std::{
    io::{BufRead as _, BufReader, Read},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// The lines of one stream, with the time each came. Clones read the same stream.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<(Instant, String)>,
    ended: bool,
}

impl Log {
    /// Follows a stream to its end.
    pub(crate) fn follow(stream: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let written = log.clone();
        thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                written.add(String::from_utf8_lossy(&line).trim_end());
                line.clear();
            }
            written.0.state.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
            written.0.changed.notify_all();
        });
        log
    }

    fn add(&self, line: &str) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).lines.push((Instant::now(), line.to_owned()));
        self.0.changed.notify_all();
    }

    /// All that was said so far.
    pub fn text(&self) -> String {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.lines.iter().map(|(_, line)| format!("{line}\n")).collect()
    }

    /// How many lines there are: the place to look from for what is said next.
    pub fn len(&self) -> usize {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).lines.len()
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for a line that contains `text`, at or after line `from`; `None` when the time is up or the stream ends.
    pub fn wait_for(&self, text: &str, from: usize, within: Duration) -> Option<(Instant, String)> {
        let deadline = Instant::now() + within;
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(line) = state.lines.iter().skip(from).find(|(_, line)| line.contains(text)) {
                return Some(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.ended {
                return None;
            }
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the end of the stream.
    pub(crate) fn wait_for_end(&self, within: Duration) {
        let deadline = Instant::now() + within;
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.ended && Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
