//! The keys that say what becomes of connections: `timeouts`, `drain`, `limits`, `all_down` and their like,
//! in `defaults` and in services.

use std::{num::NonZeroU32, ops::RangeInclusive, time::Duration};

use super::{
    access, duration,
    fields::Fields,
    keys::Room,
    report::{Complaint, Place, Report, Value},
    scalar::{self, shown},
    tree::Kind,
};
use crate::{
    model::{Access, AllDown, Drain, Limits, LiveFlows, Measure, Rate, Retry, Timeouts},
    time::spelt,
};

/// What an idle time may be. Jiffies, in which the packet path counts, wrap after 49 days at 1,000 a second.
const IDLE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
/// How long a removed backend may keep its live flows.
const DRAIN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(30 * 86_400);
/// New connections in the time of a rate.
const RATES: RangeInclusive<u32> = 1..=10_000_000;
/// Connections of one address at a time.
const PER_SOURCE: RangeInclusive<u32> = 1..=1_000_000;
const TIMES: [(&str, Duration); 3] =
    [("s", Duration::from_secs(1)), ("m", Duration::from_secs(60)), ("h", Duration::from_secs(3600))];
const DRAIN_HELP: &str = "write it like `drain: 5m` or `drain: {for: 5m, then: keep}`";
const RATE_HELP: &str = "write new connections per second, minute or hour, like 20_000/s, or `none`";

/// What is meant when neither a service nor `defaults` say otherwise (DESIGN.md 1.2).
const TIMEOUTS: Timeouts = Timeouts {
    syn: Duration::from_secs(60),
    // RFC 5382, REQ-5: at least two hours and four minutes.
    established: Duration::from_secs(130 * 60),
    fin: Duration::from_secs(30),
};
const DEFAULT_DRAIN: Duration = Duration::from_secs(300);

/// The keys as they are written; what is not written is `None`.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    syn: Option<Timed>,
    established: Option<Timed>,
    fin: Option<Timed>,
    drain_for: Option<Duration>,
    drain_then: Option<LiveFlows>,
    all_down: Option<AllDown>,
    on_down: Option<LiveFlows>,
    retry: Option<Retry>,
    measure: Option<Measure>,
    /// The inner `None` is the word `none`.
    rate: Option<Option<Rate>>,
    per_source: Option<Option<NonZeroU32>>,
    access: access::Settings,
}

/// The keys as they are meant.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) timeouts: Timeouts,
    pub(super) drain: Drain,
    pub(super) all_down: AllDown,
    pub(super) on_down: LiveFlows,
    pub(super) retry: Retry,
    pub(super) measure: Measure,
    pub(super) limits: Limits,
    pub(super) access: Access,
}

/// A duration and where it is written.
#[derive(Clone, Debug)]
struct Timed {
    duration: Duration,
    place: Place,
}

impl Settings {
    /// Takes the keys out of a map.
    pub(super) fn read(report: &mut Report, fields: &mut Fields<'_>) -> Self {
        const LIVE_FLOWS: [(&str, LiveFlows); 2] = [("keep", LiveFlows::Keep), ("reset", LiveFlows::Reset)];
        const ALL_DOWN: [(&str, AllDown); 3] =
            [("reject", AllDown::Reject), ("drop", AllDown::Drop), ("any", AllDown::Any)];
        const RETRY: [(&str, Retry); 2] = [("none", Retry::None), ("refused", Retry::Refused)];
        const MEASURE: [(&str, Measure); 3] =
            [("first-byte", Measure::FirstByte), ("handshake", Measure::Handshake), ("none", Measure::None)];
        let mut settings = Self {
            all_down: fields.take("all_down").and_then(|value| report.choice(&value, &ALL_DOWN, &[])),
            on_down: fields.take("on_down").and_then(|value| report.choice(&value, &LIVE_FLOWS, &[])),
            retry: fields.take("retry").and_then(|value| report.choice(&value, &RETRY, &[])),
            measure: fields.take("measure").and_then(|value| report.choice(&value, &MEASURE, &[])),
            access: access::Settings {
                allow: fields.take("allow").and_then(|value| access::allow(report, &value)),
                deny: fields.take("deny").and_then(|value| access::list(report, &value)),
            },
            ..Self::default()
        };
        if let Some(value) = fields.take("timeouts") {
            settings.timeouts(report, &value);
        }
        if let Some(value) = fields.take("drain") {
            settings.drain(report, &value, &LIVE_FLOWS);
        }
        if let Some(value) = fields.take("limits") {
            settings.limits(report, &value);
        }
        settings
    }

    /// `timeouts: {syn: 60s, …}`.
    fn timeouts(&mut self, report: &mut Report, value: &Value<'_>) {
        let Some(mut fields) = Fields::read(report, value, Room::Timeouts) else { return };
        let mut time = |key: &str| {
            let value = fields.take(key)?;
            let duration =
                report.text(&value, "a duration", "write it like 60s", |text| duration::duration(text, IDLE))?;
            Some(Timed { duration, place: value.place() })
        };
        (self.syn, self.established, self.fin) = (time("syn"), time("established"), time("fin"));
    }

    /// `drain: 5m`, or `{for: 5m, then: keep}`.
    fn drain(&mut self, report: &mut Report, value: &Value<'_>, then: &[(&str, LiveFlows)]) {
        let time = if let Kind::Map(_) = value.kind() {
            let Some(mut fields) = Fields::read(report, value, Room::Drain) else { return };
            self.drain_then = fields.take("then").and_then(|value| report.choice(&value, then, &[]));
            fields.take("for")
        } else {
            Some(value.clone())
        };
        self.drain_for =
            time.and_then(|time| report.text(&time, "a duration", DRAIN_HELP, |text| duration::duration(text, DRAIN)));
    }

    /// `limits: {rate: 20_000/s, per_source: 200}`, or `none`.
    fn limits(&mut self, report: &mut Report, value: &Value<'_>) {
        if is_none(value) {
            (self.rate, self.per_source) = (Some(None), Some(None));
            return;
        }
        let Some(mut fields) = Fields::read(report, value, Room::Limits) else { return };
        self.rate = fields.take("rate").and_then(|value| or_none(&value, |value| rate(report, value)));
        self.per_source = fields.take("per_source").and_then(|value| {
            or_none(&value, |value| NonZeroU32::new(report.number(value, "a number of connections", PER_SOURCE)?))
        });
    }

    /// What is meant where `defaults` stand behind these settings.
    pub(super) fn over(&self, report: &mut Report, defaults: &Self) -> Policy {
        let time = |own: &Option<Timed>, default: &Option<Timed>, otherwise| {
            own.as_ref().or(default.as_ref()).map_or(otherwise, |time| time.duration)
        };
        let timeouts = Timeouts {
            syn: time(&self.syn, &defaults.syn, TIMEOUTS.syn),
            established: time(&self.established, &defaults.established, TIMEOUTS.established),
            fin: time(&self.fin, &defaults.fin, TIMEOUTS.fin),
        };
        self.weigh(report, &timeouts);
        Policy {
            timeouts,
            drain: Drain {
                time: self.drain_for.or(defaults.drain_for).unwrap_or(DEFAULT_DRAIN),
                then: self.drain_then.or(defaults.drain_then).unwrap_or_default(),
            },
            all_down: self.all_down.or(defaults.all_down).unwrap_or_default(),
            on_down: self.on_down.or(defaults.on_down).unwrap_or_default(),
            retry: self.retry.or(defaults.retry).unwrap_or_default(),
            measure: self.measure.or(defaults.measure).unwrap_or_default(),
            limits: Limits {
                rate: self.rate.or(defaults.rate).flatten(),
                per_source: self.per_source.or(defaults.per_source).flatten(),
            },
            access: self.access.over(report, &defaults.access),
        }
    }

    /// What is meant where nothing stands behind: for the warnings in `defaults` themselves.
    pub(super) fn alone(&self, report: &mut Report) {
        self.over(report, &Self::default());
    }

    /// Warns of idle times that are not what they seem; once, where one of them is written.
    fn weigh(&self, report: &mut Report, timeouts: &Timeouts) {
        let written = [&self.established, &self.syn, &self.fin].into_iter().flatten().next();
        let shorter =
            [("syn", timeouts.syn), ("fin", timeouts.fin)].into_iter().find(|(_, time)| *time > timeouts.established);
        if let (Some(own), Some((key, time))) = (written, shorter) {
            let (time, established) = (spelt(time), spelt(timeouts.established));
            report.warn(
                own.place.clone(),
                format!("`{key}` is {time}, longer than the {established} of `established`"),
                "make `established` the longest of them: a living connection is forgotten first otherwise",
            );
        }
    }
}

/// The word `none` in the place of a value.
fn is_none(value: &Value<'_>) -> bool {
    matches!(value.kind(), Kind::Text { text, .. } if text == "none")
}

/// `none`, or what `read` makes of the value.
fn or_none<T>(value: &Value<'_>, read: impl FnOnce(&Value<'_>) -> Option<T>) -> Option<Option<T>> {
    if is_none(value) { Some(None) } else { read(value).map(Some) }
}

fn rate(report: &mut Report, value: &Value<'_>) -> Option<Rate> {
    report.text(value, "a rate", RATE_HELP, |text| {
        let Some((number, unit)) = text.split_once('/') else {
            return Err(Complaint::new(format!("{} is not a rate: its unit is missing", shown(text)), RATE_HELP));
        };
        let connections = scalar::number(number, "a number of connections", RATES)
            .map_err(|complaint| complaint.at(0..number.len()))?;
        let time = TIMES.iter().find(|(name, _)| *name == unit).map(|(_, time)| *time);
        match (NonZeroU32::new(connections), time) {
            (Some(connections), Some(time)) => Ok(Rate { connections, time }),
            _ => {
                let message = format!("{} is not a rate: {} is not a unit", shown(text), shown(unit));
                Err(Complaint::new(message, RATE_HELP).at(number.len() + 1..text.len()))
            }
        }
    })
}
