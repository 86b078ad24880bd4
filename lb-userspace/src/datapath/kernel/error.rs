//! Why the packet path cannot be opened or taken away: three kinds that the exit code tells apart.

use std::{error, fmt, path::PathBuf};

/// What stands between us and the kernel's packet path.
#[derive(Debug)]
pub enum OpenError {
    /// A capability is missing, or the kernel refuses BPF to us (exit code 77).
    NotPermitted(String),
    /// Another controller works on the same pins (exit code 1).
    Occupied {
        /// Its process, where the kernel tells.
        pid: Option<u32>,
        /// The directory of the pins.
        pin_dir: PathBuf,
    },
    /// Anything else, as a sentence with its causes (exit code 1).
    Other(anyhow::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPermitted(what) => f.write_str(what),
            Self::Occupied { pid, pin_dir } => {
                write!(f, "another tidegate ")?;
                if let Some(pid) = pid {
                    write!(f, "(process {pid}) ")?;
                }
                write!(f, "works on the pins in {}; stop it, or give this one its own --pin-dir", pin_dir.display())
            }
            // The whole chain: these errors end at a person's terminal.
            Self::Other(error) => write!(f, "{error:#}"),
        }
    }
}

impl error::Error for OpenError {}

impl From<anyhow::Error> for OpenError {
    /// Keeps the kind of an `OpenError` that travelled as an `anyhow::Error`.
    fn from(error: anyhow::Error) -> Self {
        error.downcast().unwrap_or_else(Self::Other)
    }
}
