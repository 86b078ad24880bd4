//! The key `health`: how backends are probed, in `defaults` and in services.

use std::{num::NonZeroU32, ops::RangeInclusive, time::Duration};

use super::{
    duration,
    fields::Fields,
    keys::Room,
    report::{Complaint, Place, Report, Value},
    scalar,
    tree::Kind,
};
use crate::{model::Health, time::spelt};

/// What a probe's times may be.
const TIMES: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
/// What `rise` and `fall` may be.
const COUNTS: RangeInclusive<u32> = 1..=1000;
const HELP: &str = "write `none`, or keys like {tcp: {}, interval: 2s}";

/// `health` as it is written; what is not written is `None`.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    kind: Option<Kinds>,
    interval: Option<Timed>,
    timeout: Option<Timed>,
    rise: Option<NonZeroU32>,
    fall: Option<NonZeroU32>,
    /// The key itself, where it is written.
    place: Option<Place>,
}

/// Whether there are probes, and of which kind.
#[derive(Clone, Copy, Debug)]
enum Kinds {
    /// `none`.
    Off,
    /// `tcp`, on a port of its own perhaps.
    Tcp(Option<u16>),
}

/// A duration and where it is written.
#[derive(Clone, Debug)]
struct Timed {
    duration: Duration,
    place: Place,
}

impl Settings {
    /// Reads the value of a key `health`.
    pub(super) fn read(report: &mut Report, value: &Value<'_>) -> Self {
        let place = Some(value.key_place());
        if let Kind::Text { .. } = value.kind() {
            let kind = report.text(value, "a map of keys", HELP, word);
            return Self { kind, place, ..Self::default() };
        }
        let Some(mut fields) = Fields::read(report, value, Room::Health) else { return Self::default() };
        Self {
            kind: fields.take("tcp").and_then(|value| tcp(report, &value)),
            interval: fields.take("interval").and_then(|value| time(report, &value)),
            timeout: fields.take("timeout").and_then(|value| time(report, &value)),
            rise: fields.take("rise").and_then(|value| count(report, &value)),
            fall: fields.take("fall").and_then(|value| count(report, &value)),
            place,
        }
    }

    /// What is meant where `defaults` stand behind these settings; `None` where nothing is probed.
    pub(super) fn over(&self, report: &mut Report, defaults: &Self) -> Option<Health> {
        if let (None, Some(Kinds::Off), Some(place)) = (self.kind, defaults.kind, &self.place) {
            report.fault(
                place.clone(),
                "`defaults` switch probes off, and this names no kind to switch on",
                "add `tcp: {}` to probe, or write `none`",
            );
        }
        let port = match self.kind.or(defaults.kind).unwrap_or(Kinds::Tcp(None)) {
            Kinds::Off => return None,
            Kinds::Tcp(port) => port,
        };
        let interval = self.interval.as_ref().or(defaults.interval.as_ref());
        let timeout = self.timeout.as_ref().or(defaults.timeout.as_ref());
        let health = Health {
            port,
            interval: interval.map_or(Duration::from_secs(2), |time| time.duration),
            timeout: timeout.map_or(Duration::from_secs(1), |time| time.duration),
            rise: self.rise.or(defaults.rise).unwrap_or(const { NonZeroU32::new(2).expect("two") }),
            fall: self.fall.or(defaults.fall).unwrap_or(const { NonZeroU32::new(3).expect("three") }),
        };
        // Said once, where it is written: not for every service that takes both times from `defaults`.
        if let Some(own) = self.timeout.as_ref().or(self.interval.as_ref())
            && health.timeout > health.interval
        {
            let (timeout, interval) = (spelt(health.timeout), spelt(health.interval));
            report.warn(
                own.place.clone(),
                format!("a probe may take {timeout}, longer than the {interval} between two of them"),
                "make `timeout` at most `interval`, so that each probe ends before the next",
            );
        }
        Some(health)
    }

    /// What is meant where nothing stands behind: for the warnings in `defaults` themselves.
    pub(super) fn alone(&self, report: &mut Report) {
        self.over(report, &Self::default());
    }
}

/// The short form: `none` alone.
fn word(text: &str) -> Result<Kinds, Complaint> {
    match text {
        "none" => Ok(Kinds::Off),
        "tcp" => Err(Complaint::new("tcp is a key of `health`", "write `health: {tcp: {}}`")),
        _ => scalar::choice(text, &[("none", Kinds::Off)], &["http", "tls", "exchange", "exec"], HELP),
    }
}

/// `tcp: {port: N}`.
fn tcp(report: &mut Report, value: &Value<'_>) -> Option<Kinds> {
    let mut fields = Fields::read_optional(report, value, Room::Tcp)?;
    let Some(port) = fields.take("port") else { return Some(Kinds::Tcp(None)) };
    let port = report.number(&port, "a port", 1..=65_535)?;
    Some(Kinds::Tcp(u16::try_from(port).ok()))
}

fn time(report: &mut Report, value: &Value<'_>) -> Option<Timed> {
    let duration = report.text(value, "a duration", "write it like 2s", |text| duration::duration(text, TIMES))?;
    Some(Timed { duration, place: value.place() })
}

fn count(report: &mut Report, value: &Value<'_>) -> Option<NonZeroU32> {
    NonZeroU32::new(report.number(value, "a number of probes", COUNTS)?)
}
