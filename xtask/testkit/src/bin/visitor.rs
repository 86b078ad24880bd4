//! What the kit's own tests start in a room: it says what it sees there, and plays the balancer's part of
//! the conversation with `Tidegate`. No machine lacks it, unlike `cat` under a known path.

use std::{
    env, fs,
    io::{self, Write as _},
    thread::sleep,
    time::Duration,
};

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let said = match arguments.first().map(String::as_str) {
        Some("look") => look()?,
        Some("capabilities") => fs::read_to_string("/proc/self/status")?,
        Some("sleep") => {
            sleep(Duration::from_secs(1000));
            return Ok(());
        }
        Some("run") => return balance(&arguments),
        _ => format!("{{\"arguments\": {arguments:?}}}"),
    };
    Ok(io::stdout().write_all(said.as_bytes())?)
}

/// The file `hello`, the links; and leaves a pin and an answer.
fn look() -> Result<String> {
    let links = fs::read_dir("/sys/class/net")?.map(|link| Ok(link?.file_name().to_string_lossy().into_owned()));
    fs::create_dir("/sys/fs/bpf/pin")?;
    fs::write("/run/answer", "back")?;
    Ok(format!("{} {}", fs::read_to_string("/run/hello")?, links.collect::<Result<Vec<_>>>()?.join(" ")))
}

/// Says that it is ready and what its file says, until TERM.
fn balance(arguments: &[String]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stop = signal(SignalKind::terminate())?;
        let mut reload = signal(SignalKind::hangup())?;
        let Some(file) = arguments.iter().skip_while(|argument| *argument != "--config").nth(1) else {
            bail!("--config is missing")
        };
        writeln!(io::stderr(), "ready with {}", fs::read_to_string(file)?)?;
        loop {
            tokio::select! {
                _ = stop.recv() => return Ok(()),
                _ = reload.recv() => writeln!(io::stderr(), "again with {}", fs::read_to_string(file)?)?,
            }
        }
    })
}
