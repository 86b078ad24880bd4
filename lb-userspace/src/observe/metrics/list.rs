//! Every metric, in one list: `/metrics`, the tests and the README's table come from it. One that is added here is
//! there everywhere; its values come from [`Measures`] and from nowhere else.

use super::text::{
    Kind::{self, Counter, Gauge, Histogram},
    Samples,
};
use crate::{
    control::tally::{BOUNDS, Measures, OUTCOMES},
    observe::documents::BackendLine,
    time::seconds,
};

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, with its unit and `_total` as Prometheus wants them.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it counts in; empty for a plain number.
    pub unit: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it means, for people.
    pub help: &'static str,
    /// Writes its samples.
    pub(super) read: fn(&Measures, &mut Samples<'_>),
}

const NONE: &[&str] = &[];
const BACKEND: &[&str] = &["service", "backend"];

/// All of them, in the order in which they are told.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "tidegate_build_info",
        kind: Gauge,
        unit: "",
        labels: &["version"],
        help: "The version of the controller; always 1.",
        read: |all, out| out.add(&[&all.status.version], 1),
    },
    Metric {
        name: "tidegate_start_time_seconds",
        kind: Gauge,
        unit: "seconds",
        labels: NONE,
        help: "When the controller started, in Unix time.",
        read: |all, out| out.add(&[], seconds(&all.status.started_at)),
    },
    Metric {
        name: "tidegate_ready",
        kind: Gauge,
        unit: "",
        labels: NONE,
        help: "1 where the first tables are published and nothing of this host stands in the way.",
        read: |all, out| out.add(&[], u8::from(all.status.ready)),
    },
    Metric {
        name: "tidegate_faults",
        kind: Gauge,
        unit: "",
        labels: NONE,
        help: "What is wrong right now, in number; `tidegate status` has the words.",
        read: |all, out| out.add(&[], all.status.faults.len() + usize::from(all.status.config.fault.is_some())),
    },
    Metric {
        name: "tidegate_warnings",
        kind: Gauge,
        unit: "",
        labels: NONE,
        help: "What of this host may do harm, in number; `tidegate status` has the words.",
        read: |all, out| out.add(&[], all.status.warnings.len()),
    },
    Metric {
        name: "tidegate_config_in_force",
        kind: Gauge,
        unit: "",
        labels: NONE,
        help: "1 where the file as it was last read is good; 0 where it has a fault and what came before it stays.",
        read: |all, out| out.add(&[], u8::from(all.status.config.fault.is_none())),
    },
    Metric {
        name: "tidegate_config_loaded_timestamp_seconds",
        kind: Gauge,
        unit: "seconds",
        labels: NONE,
        help: "When what is in force was read, in Unix time.",
        read: |all, out| out.add(&[], all.status.config.loaded_at.as_deref().map_or(0.0, seconds)),
    },
    Metric {
        name: "tidegate_config_restart_keys",
        kind: Gauge,
        unit: "",
        labels: NONE,
        help: "Keys of the file that are not in force until the controller is restarted.",
        read: |all, out| out.add(&[], all.status.config.needs_restart.len()),
    },
    Metric {
        name: "tidegate_reloads_total",
        kind: Counter,
        unit: "",
        labels: &["result"],
        help: "Times that the file was read while running: `ok` or `failed`.",
        read: |all, out| ["ok", "failed"].iter().zip(all.reloads).for_each(|(result, count)| out.add(&[result], count)),
    },
    Metric {
        name: "tidegate_events_total",
        kind: Counter,
        unit: "",
        labels: &["kind"],
        help: "State changes, as `tidegate events` shows them.",
        read: |all, out| all.events.iter().for_each(|(kind, count)| out.add(&[kind], count)),
    },
    Metric {
        name: "tidegate_interface_info",
        kind: Gauge,
        unit: "",
        labels: &["interface", "mode"],
        help: "The NICs that the program is attached to, `native` or `generic`; always 1.",
        read: |all, out| all.status.interfaces.iter().for_each(|nic| out.add(&[&nic.name, &nic.mode], 1)),
    },
    Metric {
        name: "tidegate_packets_total",
        kind: Counter,
        unit: "packets",
        labels: &["reason"],
        help: "Packets by how they ended, and what was noted on their way; the reasons have a table of their own.",
        read: |all, out| all.status.packets.iter().for_each(|(reason, count)| out.add(&[reason], count)),
    },
    Metric {
        name: "tidegate_flows_live",
        kind: Gauge,
        unit: "",
        labels: NONE,
        help: "Flows that are not over.",
        read: |all, out| out.add(&[], all.status.flows.live),
    },
    Metric {
        name: "tidegate_flows_half_open",
        kind: Gauge,
        unit: "",
        labels: NONE,
        help: "Handshakes under way, and flows in mid-life that are not believed yet.",
        read: |all, out| out.add(&[], all.status.flows.half_open),
    },
    Metric {
        name: "tidegate_flows_max",
        kind: Gauge,
        unit: "",
        labels: NONE,
        help: "Flows that the table is made for.",
        read: |all, out| out.add(&[], all.status.flows.max),
    },
    Metric {
        name: "tidegate_sweep_duration_seconds",
        kind: Gauge,
        unit: "seconds",
        labels: NONE,
        help: "How long the last sweep of the flow table took.",
        read: |all, out| out.add(&[], all.sweep.as_secs_f64()),
    },
    Metric {
        name: "tidegate_service_published",
        kind: Gauge,
        unit: "",
        labels: &["service"],
        help: "1 where packets to the service are balanced.",
        read: |all, out| {
            all.services.services.iter().for_each(|service| out.add(&[&service.name], u8::from(service.published)));
        },
    },
    Metric {
        name: "tidegate_service_backends",
        kind: Gauge,
        unit: "",
        labels: &["service", "state"],
        help: "Backends of the service by state; `up` at 0 means that nobody serves it.",
        read: |all, out| {
            for service in &all.services.services {
                let count = &service.backends;
                let states =
                    [("up", count.up), ("down", count.down), ("starting", count.starting), ("drain", count.drain)];
                states.iter().for_each(|(state, count)| out.add(&[&service.name, state], count));
            }
        },
    },
    Metric {
        name: "tidegate_backend_up",
        kind: Gauge,
        unit: "",
        labels: BACKEND,
        help: "1 where the backend is up.",
        read: |all, out| each(all, |labels, line| out.add(&labels, u8::from(line.state == "up"))),
    },
    Metric {
        name: "tidegate_backend_state",
        kind: Gauge,
        unit: "",
        labels: &["service", "backend", "state"],
        help: "1 for the state that the backend is in; there is no sample for the others.",
        read: |all, out| each(all, |[service, backend], line| out.add(&[service, backend, &line.state], 1)),
    },
    Metric {
        name: "tidegate_backend_state_timestamp_seconds",
        kind: Gauge,
        unit: "seconds",
        labels: BACKEND,
        help: "Since when the backend is in its state, in Unix time.",
        read: |all, out| each(all, |labels, line| out.add(&labels, seconds(&line.since))),
    },
    Metric {
        name: "tidegate_backend_weight",
        kind: Gauge,
        unit: "",
        labels: BACKEND,
        help: "The backend's part of new flows.",
        read: |all, out| each(all, |labels, line| out.add(&labels, line.weight)),
    },
    Metric {
        name: "tidegate_backend_flows",
        kind: Gauge,
        unit: "",
        labels: BACKEND,
        help: "The backend's live flows.",
        read: |all, out| each(all, |labels, line| out.add(&labels, line.flows)),
    },
    Metric {
        name: "tidegate_backend_packets_total",
        kind: Counter,
        unit: "packets",
        labels: &["service", "backend", "direction"],
        help: "Packets of the backend's flows: `to_backend` or `from_backend`. It begins anew when a backend comes back that had been removed.",
        read: |all, out| {
            each(all, |[service, backend], line| {
                out.add(&[service, backend, "to_backend"], line.to_backend.packets);
                out.add(&[service, backend, "from_backend"], line.from_backend.packets);
            });
        },
    },
    Metric {
        name: "tidegate_backend_bytes_total",
        kind: Counter,
        unit: "bytes",
        labels: &["service", "backend", "direction"],
        help: "Octets of the IP packets of the backend's flows, headers included: `to_backend` or `from_backend`.",
        read: |all, out| {
            each(all, |[service, backend], line| {
                out.add(&[service, backend, "to_backend"], line.to_backend.bytes);
                out.add(&[service, backend, "from_backend"], line.from_backend.bytes);
            });
        },
    },
    Metric {
        name: "tidegate_backend_response_seconds",
        kind: Gauge,
        unit: "seconds",
        labels: BACKEND,
        help: "How long the backend takes to answer, as the service's `measure` says: from the client's first payload to the backend's (`first-byte`), or from SYN to SYN-ACK (`handshake`). Each time moves it by an eighth; there is no sample before the first.",
        read: |all, out| {
            each(all, |labels, line| line.average_ms.into_iter().for_each(|ms| out.add(&labels, ms / 1e3)));
        },
    },
    Metric {
        name: "tidegate_backend_response_seconds_total",
        kind: Counter,
        unit: "seconds",
        labels: BACKEND,
        help: "All times together that the backend took to answer, where the service's `measure` asks for them.",
        read: |all, out| each(all, |labels, line| out.add(&labels, line.timed_ms / 1e3)),
    },
    Metric {
        name: "tidegate_backend_responses_timed_total",
        kind: Counter,
        unit: "",
        labels: BACKEND,
        help: "How many answers of the backend were timed; it begins anew after 2³².",
        read: |all, out| each(all, |labels, line| out.add(&labels, line.timed)),
    },
    Metric {
        name: "tidegate_probes_total",
        kind: Counter,
        unit: "",
        labels: &["service", "backend", "outcome"],
        help: "Probes by what they found: `answered`, `refused`, `silent`, `unreachable`, or `not_sent` for a reason of our own.",
        read: |all, out| {
            each(all, |[service, backend], line| {
                let Some(probes) = all.probes.get(&(service.to_owned(), line.address.clone())) else { return };
                OUTCOMES.iter().zip(probes.outcomes).for_each(|(outcome, count)| {
                    out.add(&[service, backend, outcome], count);
                });
            });
        },
    },
    Metric {
        name: "tidegate_probe_duration_seconds",
        kind: Histogram,
        unit: "seconds",
        labels: BACKEND,
        help: "How long probes took, those included that failed.",
        read: |all, out| {
            each(all, |[service, backend], line| {
                let Some(probes) = all.probes.get(&(service.to_owned(), line.address.clone())) else { return };
                // Those that were not sent took no time.
                let count = probes.outcomes[..OUTCOMES.len() - 1].iter().sum();
                out.histogram(&[service, backend], &BOUNDS, &probes.buckets, count, probes.took.as_secs_f64());
            });
        },
    },
];

/// Calls for each backend with its labels. No series is told twice, which would cost the whole scrape: a name has no
/// colon, so it is never the address of another one that was removed.
fn each<'a>(all: &'a Measures, mut call: impl FnMut([&'a str; 2], &'a BackendLine)) {
    for service in &all.backends.services {
        service.backends.iter().for_each(|line| call([&service.name, &line.name], line));
    }
}
