//! The real `tidegate` on a gateway.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    log::Log,
    process::{Finished, Process},
    topology::Gateway,
};

/// The file's name in the room.
const CONFIG: &str = "tidegate.yaml";
/// How long the controller may take to be ready, and a command to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// How the balancer is started: `Tidegate::on(&gateway, program).config(yaml).start()`.
#[derive(Clone, Debug)]
pub struct Launch {
    gateway: Gateway,
    program: PathBuf,
    config: Option<String>,
    interfaces: Vec<String>,
    arguments: Vec<String>,
    without: Vec<u8>,
}

/// A running balancer. Dropping it kills the controller; pins stay until the gateway goes.
#[derive(Debug)]
pub struct Tidegate {
    launch: Launch,
    process: Process,
}

impl Tidegate {
    /// Prepares a start of `program` (`env!("CARGO_BIN_EXE_tidegate")` in tests) on all NICs of the gateway.
    pub fn on(gateway: &Gateway, program: impl AsRef<Path>) -> Launch {
        Launch {
            gateway: gateway.clone(),
            program: program.as_ref().to_owned(),
            config: None,
            interfaces: gateway.nics.clone(),
            arguments: Vec::new(),
            without: Vec::new(),
        }
    }

    /// What the controller has said.
    pub fn log(&self) -> &Log {
        &self.process.stderr
    }

    /// The process itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Replaces the file by rename, as an editor does. The controller follows it by itself.
    pub fn edit(&self, config: &str) -> Result<()> {
        self.launch.gateway.room.replace(CONFIG, config)
    }

    /// Waits until the controller says a line with `text` that it had not said before line `from` of its log.
    pub fn says(&self, text: impl Display, from: usize, within: Duration) -> Result<String> {
        let text = text.to_string();
        match self.log().wait_for(&text, from, within) {
            Some((_, line)) => Ok(line),
            None => bail!("tidegate did not say `{text}` within {within:?}; it said:\n{}", self.log().text()),
        }
    }

    /// Runs a command against this balancer: `--socket` is added, for `detach` also `--pin-dir`.
    pub fn command(&self, arguments: &[&str]) -> Result<Finished> {
        self.launch.command(arguments)
    }

    /// Runs a reading command and returns its JSON document: `ask(&["backends"])`.
    pub fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let finished = self.command(&[arguments, &["--json"]].concat())?;
        if !finished.status.success() {
            bail!("tidegate {arguments:?} failed with {}:\n{}", finished.status, finished.stderr);
        }
        serde_json::from_str(&finished.stdout)
            .with_context(|| format!("tidegate {arguments:?} --json printed no JSON:\n{}", finished.stdout))
    }

    /// Waits until `backends --json` satisfies `wanted`, which sees each answer.
    pub fn wait_until(&self, what: &str, within: Duration, mut wanted: impl FnMut(&Value) -> bool) -> Result<Value> {
        let deadline = std::time::Instant::now() + within;
        loop {
            let answer = self.ask(&["backends"])?;
            if wanted(&answer) {
                return Ok(answer);
            }
            if std::time::Instant::now() > deadline {
                bail!("{what}: not so after {within:?}; backends say {answer:#}\nlog:\n{}", self.log().text());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The orderly stop: TERM, and how it ended. Pins stay.
    pub fn stop(mut self) -> Result<Finished> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.wait(PATIENCE)
    }

    /// `kill -9`. Pins stay.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// To start the same again on the pins and the file that are there, after a stop or while this one still runs.
    pub fn launch(&self) -> Launch {
        Launch { config: None, ..self.launch.clone() }
    }
}

impl Launch {
    /// Writes the file before the start.
    #[must_use]
    pub fn config(mut self, yaml: &str) -> Self {
        self.config = Some(yaml.to_owned());
        self
    }

    /// Attaches to these NICs; none leaves `--iface` out.
    #[must_use]
    pub fn interfaces(mut self, names: &[&str]) -> Self {
        self.interfaces = names.iter().map(ToString::to_string).collect();
        self
    }

    /// Adds an argument to `run`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts it without a capability, as `Process::CAP_BPF`.
    #[must_use]
    pub fn without(mut self, capability: u8) -> Self {
        self.without.push(capability);
        self
    }

    /// Starts the controller and waits until it says `ready`.
    pub fn start(self) -> Result<Tidegate> {
        let mut tidegate = self.spawn()?;
        if tidegate.log().wait_for("ready", 0, PATIENCE).is_some() {
            return Ok(tidegate);
        }
        match tidegate.process.ended()? {
            Some(status) => bail!("tidegate ended with {status} before it was ready:\n{}", tidegate.log().text()),
            None => bail!("tidegate was not ready after {PATIENCE:?}; it said:\n{}", tidegate.log().text()),
        }
    }

    /// Starts the controller and waits for nothing.
    pub fn spawn(self) -> Result<Tidegate> {
        if let Some(config) = &self.config {
            self.gateway.room.replace(CONFIG, config)?;
        }
        let mut arguments = vec!["run".to_owned(), "--config".to_owned(), self.inside(CONFIG)];
        for interface in &self.interfaces {
            arguments.extend(["--iface".to_owned(), interface.clone()]);
        }
        arguments.extend(["--socket".to_owned(), self.inside("admin.sock")]);
        arguments.extend(["--pin-dir".to_owned(), self.pins()]);
        arguments.extend(["--state-dir".to_owned(), self.inside("state")]);
        arguments.extend(self.arguments.iter().cloned());
        let process = self.gateway.start_without(&self.program, &arguments, &self.without)?;
        Ok(Tidegate { launch: self, process })
    }

    /// Starts the controller where it is expected to refuse, and waits for its end.
    pub fn refused(self) -> Result<Finished> {
        self.spawn()?.process.wait(PATIENCE)
    }

    /// Runs a command on the gateway, whether a controller runs or not.
    pub fn command(&self, arguments: &[&str]) -> Result<Finished> {
        let mut all: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        all.extend(["--socket".to_owned(), self.inside("admin.sock")]);
        if arguments.first() == Some(&"detach") {
            all.extend(["--pin-dir".to_owned(), self.pins()]);
        }
        self.gateway.start(&self.program, &all)?.wait(PATIENCE)
    }

    fn inside(&self, name: &str) -> String {
        self.gateway.room.inside(name).display().to_string()
    }

    fn pins(&self) -> String {
        self.gateway.room.pins_inside("tidegate").display().to_string()
    }
}
