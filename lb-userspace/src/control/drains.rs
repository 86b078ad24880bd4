//! What outlives a controller of the backends that drain: since when, for how long, and what then.
//!
//! The maps know who drains, but not since when. So it stands in a file of the state directory, and a restart
//! does not give a backend its time anew. Without the file, or where it cannot be read, it does: the
//! times begin when the controller finds the backend out of use.

use std::{
    fs, io,
    net::SocketAddrV4,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task};

use crate::model::{Drain, LiveFlows};

/// The file's name in the state directory.
const FILE: &str = "drains.json";

/// A backend that drains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Its service's name.
    pub service: String,
    /// Where it listens.
    pub address: SocketAddrV4,
    /// Since when: milliseconds since 1970.
    pub since_ms: u64,
    /// How long its flows are left alone.
    pub for_ms: u64,
    /// Whether they are reset then.
    pub resets: bool,
}

impl Drained {
    /// What its service said.
    pub(super) fn drain(&self) -> Drain {
        let then = if self.resets { LiveFlows::Reset } else { LiveFlows::Keep };
        Drain { time: Duration::from_millis(self.for_ms), then }
    }
}

/// What an earlier controller wrote; nothing where that cannot be known.
pub fn read(state_dir: &Path) -> Vec<Drained> {
    let path = state_dir.join(FILE);
    let read = || -> io::Result<Vec<Drained>> {
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            octets => Ok(serde_json::from_slice(&octets?)?),
        }
    };
    read().unwrap_or_else(|error| {
        log::warn!("{}: cannot be read: {error}; backends that drain get their time anew", path.display());
        Vec::new()
    })
}

/// Keeps the file as the controller says, until it is gone.
pub async fn keep(state_dir: PathBuf, mut drains: watch::Receiver<Vec<Drained>>) {
    let mut failed = None;
    while drains.changed().await.is_ok() {
        let (now, state_dir) = (drains.borrow_and_update().clone(), state_dir.clone());
        let path = state_dir.join(FILE);
        let written = task::spawn_blocking(move || write(&state_dir, &now)).await;
        let error = written.map_err(io::Error::other).flatten().err().map(|error| error.to_string());
        if let Some(error) = error.as_ref().filter(|error| failed.as_ref() != Some(*error)) {
            log::warn!(
                "{}: cannot be written: {error}; after a restart backends that drain get their time anew",
                path.display()
            );
        }
        failed = error;
    }
}

/// Whole or not at all: a file that is half written is no file. Where nobody drains, there is none.
fn write(state_dir: &Path, drains: &[Drained]) -> io::Result<()> {
    if drains.is_empty() {
        return match fs::remove_file(state_dir.join(FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    fs::create_dir_all(state_dir)?;
    let new = state_dir.join(format!("{FILE}.new"));
    fs::write(&new, serde_json::to_vec_pretty(drains)?)?;
    fs::rename(new, state_dir.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(resets: bool) -> Drained {
        let address = SocketAddrV4::new([10, 0, 1, 11].into(), 8080);
        Drained { service: "web".to_owned(), address, since_ms: 1_700_000_000_000, for_ms: 300_000, resets }
    }

    #[tokio::test]
    async fn what_is_kept_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("not/there/yet");
        assert_eq!(read(&state), []);
        let (says, hears) = watch::channel(Vec::new());
        let keeper = tokio::spawn(keep(state.clone(), hears));
        says.send_replace(vec![drained(true), drained(false)]);
        drop(says);
        keeper.await.unwrap();
        assert_eq!(read(&state), [drained(true), drained(false)]);
        write(&state, &[]).unwrap();
        assert_eq!((read(&state), fs::read_dir(&state).unwrap().count()), (Vec::new(), 0));
        write(&state, &[]).unwrap();
        assert_eq!(drained(true).drain(), Drain { time: Duration::from_secs(300), then: LiveFlows::Reset });
        fs::write(state.join(FILE), "[{").unwrap();
        assert_eq!(read(&state), []);
    }
}
