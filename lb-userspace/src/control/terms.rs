//! What a service's policy is in the packet path's terms: bits, and times in jiffies. Pure.

use std::{num::NonZeroU32, time::Duration};

use bytemuck::Zeroable as _;
use lb_common::{Limits, Service, Timeouts};

use crate::{
    model::{self, AllDown, Measure, Retry},
    plan::Verdicts,
};

/// Bits of [`Limits::interval`] and [`Limits::burst`] below a jiffy.
const FRACTION: u32 = 20;

/// The flags of a service.
pub(super) fn flags(service: &model::Service, verdicts: &Verdicts) -> u32 {
    let bit = |is_set: bool, bit: u32| if is_set { bit } else { 0 };
    bit(service.all_down == AllDown::Drop, Service::DROPS)
        | bit(service.retry == Retry::Refused, Service::RETRIES)
        | bit(service.measure == Measure::Handshake, Service::HANDSHAKE)
        | bit(service.measure == Measure::FirstByte, Service::FIRST_BYTE)
        | bit(!verdicts.is_empty(), Service::FILTERED)
        | bit(service.limits.rate.is_some(), Service::RATED)
        | bit(service.limits.per_source.is_some(), Service::PER_SOURCE)
}

/// The idle times of a service's flows.
pub(super) fn timeouts(timeouts: &model::Timeouts, hertz: u32) -> Timeouts {
    let model::Timeouts { syn, established, fin } = *timeouts;
    Timeouts { syn: jiffies(syn, hertz), established: jiffies(established, hertz), fin: jiffies(fin, hertz) }
}

/// Half of the counter at most: beyond that, what is idle cannot be told from what was just seen.
fn jiffies(time: Duration, hertz: u32) -> u32 {
    let jiffies = time.as_millis().saturating_mul(hertz.into()) / 1000;
    u32::try_from(jiffies).unwrap_or(u32::MAX).min(u32::MAX / 2)
}

/// The limits of a service. The generic cell rate algorithm lets a burst run ahead by all connections of a rate
/// but the one that is due (ITU-T I.371).
pub(super) fn limits(limits: &model::Limits, hertz: u32) -> Limits {
    let per_source = limits.per_source.map_or(0, NonZeroU32::get);
    let Some(rate) = limits.rate else { return Limits { per_source, ..Limits::zeroed() } };
    let time = (rate.time.as_secs() * u64::from(hertz)) << FRACTION;
    let connections = u64::from(rate.connections.get());
    let interval = (time / connections).max(1);
    Limits { interval, burst: interval * (connections - 1), per_source, zero: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Rate;

    fn rate(connections: u32, seconds: u64) -> model::Limits {
        let connections = NonZeroU32::new(connections).expect("a rate");
        model::Limits { rate: Some(Rate { connections, time: Duration::from_secs(seconds) }), per_source: None }
    }

    #[test]
    fn times_are_jiffies_and_never_more_than_can_be_told() {
        let times = |syn, established, fin| model::Timeouts { syn, established, fin };
        let (second, week) = (Duration::from_secs(1), Duration::from_secs(7 * 86_400));
        let of = |hertz| timeouts(&times(second, Duration::from_millis(1500), week), hertz);
        assert_eq!(of(250), Timeouts { syn: 250, established: 375, fin: 151_200_000 });
        assert_eq!(of(1000), Timeouts { syn: 1000, established: 1500, fin: 604_800_000 });
        assert_eq!(of(10_000).fin, u32::MAX / 2);
    }

    #[test]
    fn a_rate_lets_as_many_in_at_once_as_it_names() {
        let second = 1000 << FRACTION;
        assert_eq!(limits(&rate(1, 1), 1000), Limits { interval: second, burst: 0, per_source: 0, zero: 0 });
        let thousand = Limits { interval: 1 << FRACTION, burst: 999 << FRACTION, per_source: 0, zero: 0 };
        assert_eq!(limits(&rate(1000, 1), 1000), thousand);
        let (minute, fast) = (limits(&rate(60, 60), 1000), limits(&rate(10_000_000, 1), 24));
        assert_eq!((minute.interval, minute.burst), (second, 59 * second));
        assert!(fast.interval > 0 && fast.burst < 24 << FRACTION);
        assert_eq!(limits(&model::Limits { rate: None, per_source: NonZeroU32::new(9) }, 1000).per_source, 9);
    }
}
