//! The page of a controller that runs in memory: what it says, and that Prometheus can read it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use lb_common::{Times, Traffic};
use tokio::sync::oneshot;

use super::*;
use crate::{
    config,
    control::{Controller, Event, Settings, Surroundings},
    datapath::{FlowCounts, memory::MemoryDatapath},
    health::{Outcome, prober::Probed},
    net::NextHop,
    time::{Now, seconds},
};

const FILE: &str = r#"
version: 1
services:
  web:
    listen: 203.0.113.10:80
    backends: [{address: 10.0.1.11:80, name: a}, 10.0.1.12:80, {address: 10.0.1.13:80, name: c}]
"#;

/// The page after `web` has lost its third backend, which keeps a flow.
fn told() -> String {
    told_after(2)
}

/// The same after so many readings of the file, the first of which finds a fault.
fn told_after(readings: usize) -> String {
    let now = Now::read();
    let (model, _) = config::parse(FILE, "f.yaml").unwrap_or_else(|faults| panic!("{faults}"));
    let mut less = model.clone();
    less.services.get_mut("web").unwrap().backends.pop();
    let settings = Settings {
        file: "f.yaml".into(),
        node: model.node.clone(),
        interfaces_by_flag: true,
        xdp_by_flag: false,
        socket_by_flag: true,
        socket: None,
        http_by_flag: true,
        http: None,
    };
    let mut files = [Err("f.yaml:1:1: bad".to_owned()), Ok(less)].into_iter();
    let load = Box::new(move || files.next().unwrap());
    let mut controller = Controller::new(MemoryDatapath::new(), settings, model.clone(), load, now).ok().unwrap();
    let addresses: Vec<_> = model.services["web"].backends.iter().map(|backend| backend.address).collect();
    let known = NextHop::Known { ifindex: 2, mac: [2; 6] };
    let hops = addresses.iter().map(|address| (*address.ip(), known.clone())).collect();
    controller.absorb(Event::Surroundings(Ok(Surroundings { hops, ..Surroundings::default() })), now);
    let micros = [400, 3_000, 250_000];
    for ((address, outcome), micros) in
        addresses.iter().zip([Outcome::Answered, Outcome::Refused, Outcome::Answered]).zip(micros)
    {
        let (key, took) = (("web".into(), *address), Duration::from_micros(micros));
        controller.absorb(Event::Probed(Probed { key, outcome, sent: Instant::now(), took }), now);
    }
    controller.turn(now);
    let datapath = controller.datapath_mut();
    datapath.flows = FlowCounts {
        live: 7,
        half_open: 2,
        max: 100,
        took: Duration::from_millis(2),
        by_backend: [(1, 6), (3, 1)].into(),
        ..FlowCounts::default()
    };
    datapath.traffic.insert(1, Traffic { packets: [10, 20], bytes: [1000, 2000] });
    datapath.times.insert(1, Times { average: 16 * 2000, count: 3, sum: 9000 });
    (0..readings).for_each(|_| controller.absorb(Event::Reload(None), now));
    controller.turn(now);
    let (send, mut measures) = oneshot::channel();
    controller.absorb(Event::Measure(send), now);
    page(&measures.try_recv().unwrap().unwrap())
}

/// Every series with its value; panics at what a scraper would refuse.
fn series(page: &str) -> BTreeMap<&str, f64> {
    let mut all = BTreeMap::new();
    let mut family = "";
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap();
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(series.starts_with(family), "{series} stands under {family}");
            assert!(all.insert(series, value.parse().unwrap()).is_none(), "{series} is there twice");
        }
    }
    all
}

#[test]
fn a_fault_of_the_file_is_one_of_the_faults() {
    let faults = [0, 1, 2].map(|readings| series(&told_after(readings))["tidegate_faults"]);
    assert_eq!(faults, [faults[0], faults[0] + 1.0, faults[0]]);
}

#[test]
fn the_page_says_what_the_controller_knows() {
    let page = told();
    let all = series(&page);
    for (series, value) in [
        (concat!("tidegate_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
        ("tidegate_ready", 1.0),
        ("tidegate_config_in_force", 1.0),
        ("tidegate_reloads_total{result=\"ok\"}", 1.0),
        ("tidegate_reloads_total{result=\"failed\"}", 1.0),
        ("tidegate_events_total{kind=\"reload\"}", 2.0),
        ("tidegate_interface_info{interface=\"eth0\",mode=\"native\"}", 1.0),
        ("tidegate_packets_total{reason=\"to_backend\"}", 0.0),
        ("tidegate_flows_live", 7.0),
        ("tidegate_flows_half_open", 2.0),
        ("tidegate_flows_max", 100.0),
        ("tidegate_sweep_duration_seconds", 0.002),
        ("tidegate_service_published{service=\"web\"}", 1.0),
        ("tidegate_service_backends{service=\"web\",state=\"down\"}", 1.0),
        ("tidegate_service_backends{service=\"web\",state=\"drain\"}", 1.0),
        (r#"tidegate_backend_up{service="web",backend="a"}"#, 1.0),
        (r#"tidegate_backend_state{service="web",backend="10.0.1.12:80",state="down"}"#, 1.0),
        (r#"tidegate_backend_state{service="web",backend="10.0.1.13:80",state="drain"}"#, 1.0),
        (r#"tidegate_backend_weight{service="web",backend="a"}"#, 1.0),
        (r#"tidegate_backend_flows{service="web",backend="a"}"#, 6.0),
        (r#"tidegate_backend_packets_total{service="web",backend="a",direction="from_backend"}"#, 20.0),
        (r#"tidegate_backend_bytes_total{service="web",backend="a",direction="to_backend"}"#, 1000.0),
        (r#"tidegate_backend_response_seconds{service="web",backend="a"}"#, 0.002),
        (r#"tidegate_backend_response_seconds_total{service="web",backend="a"}"#, 0.009),
        (r#"tidegate_backend_responses_timed_total{service="web",backend="a"}"#, 3.0),
        (r#"tidegate_probes_total{service="web",backend="10.0.1.12:80",outcome="refused"}"#, 1.0),
        (r#"tidegate_probe_duration_seconds_bucket{service="web",backend="10.0.1.12:80",le="0.0025"}"#, 0.0),
        (r#"tidegate_probe_duration_seconds_bucket{service="web",backend="10.0.1.12:80",le="0.005"}"#, 1.0),
        (r#"tidegate_probe_duration_seconds_sum{service="web",backend="a"}"#, 0.0004),
        (r#"tidegate_probe_duration_seconds_count{service="web",backend="a"}"#, 1.0),
    ] {
        assert_eq!(all.get(series), Some(&value), "{series} in\n{page}");
    }
    let since = all["tidegate_start_time_seconds"];
    assert!((seconds(&crate::time::rfc3339(Now::read().wall)) - since).abs() < 60.0, "{since}");
}

#[test]
fn names_keep_the_habits_of_prometheus() {
    let page = told();
    let mut names = BTreeSet::new();
    for Metric { name, kind, unit, labels, help, .. } in METRICS {
        assert!(names.insert(*name), "{name} is there twice");
        assert!(name.starts_with("tidegate_") && help.ends_with('.'), "{name}: {help}");
        assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
        assert!(!["bytes", "seconds"].contains(unit) || name.contains(unit), "{name} is in {unit}");
        assert!(page.contains(&format!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.label())), "{name}");
        assert!(labels.iter().all(|label| page.contains(&format!("{label}=\""))), "{name}: {labels:?}");
    }
    for promised in [
        "backend_up",
        "backend_flows",
        "backend_packets_total",
        "backend_bytes_total",
        "probe_duration_seconds",
        "packets_total",
        "reloads_total",
        "build_info",
    ] {
        assert!(names.contains(format!("tidegate_{promised}").as_str()), "{promised} is promised");
    }
}
