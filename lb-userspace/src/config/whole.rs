//! What can only be seen with all services at hand, and the model that comes of it.
//!
//! Every endpoint is looked up in a table once, so the work grows with the file and not with its square.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddrV4,
};

use lb_common::{limits, slots};

use super::{
    policy::Policy,
    report::{Place, Report},
    service::{Backend, Draft},
};
use crate::model;

/// Slots that a backend should have at least, for the shares to be even within a few percent.
const SLOTS_PER_BACKEND: usize = 100;

/// The services of the model, where nothing is wrong.
pub(super) fn services(report: &mut Report, drafts: Vec<Draft>, all: &Place) -> BTreeMap<String, model::Service> {
    count(report, &drafts, all);
    let vips = vips(report, &drafts);
    let mut services = BTreeMap::new();
    for draft in drafts {
        let endpoints = endpoints(report, &draft, &vips);
        names(report, &draft);
        weigh(report, &draft);
        services.insert(draft.name.clone(), service(draft, endpoints));
    }
    services
}

/// Everything has a capacity.
fn count(report: &mut Report, drafts: &[Draft], all: &Place) {
    let listens: usize = drafts.iter().map(|draft| draft.listens.len()).sum();
    let backends: usize = drafts.iter().map(|draft| draft.backends.len()).sum();
    let lists = |draft: &Draft| {
        let access = &draft.policy.access;
        access.allow.as_ref().map_or(0, |allow| allow.len() + 1) + access.deny.len()
    };
    let prefixes: usize = drafts.iter().map(lists).sum();
    for (number, most, what) in [
        (drafts.len(), limits::SERVICES, "services"),
        (listens, limits::LISTENS, "addresses to listen on"),
        // Id 0 is nobody.
        (backends, limits::BACKENDS - 1, "backends"),
        // While they change, the old ones and the new ones are there.
        (prefixes, limits::PREFIXES / 2, "prefixes in `allow` and `deny`"),
    ] {
        if number > most {
            report.fault(all.clone(), format!("{number} {what} (at most {most})"), "divide them between two gateways");
        }
    }
    let large: Vec<&Draft> = drafts.iter().filter(|draft| draft.slots == slots::LARGE).collect();
    if let Some(first) = large.get(limits::LARGE_SERVICES) {
        let message = format!(
            "{} services have tables of {} slots (at most {})",
            large.len(),
            slots::LARGE,
            limits::LARGE_SERVICES
        );
        let help = format!("leave {} slots to services with few backends", slots::SMALL);
        report.fault(first.slots_place.clone(), message, help);
    }
}

/// Each VIP:port once; the value is where it stands.
fn vips(report: &mut Report, drafts: &[Draft]) -> HashMap<SocketAddrV4, (String, usize)> {
    let mut vips: HashMap<SocketAddrV4, (String, usize)> = HashMap::new();
    for listen in drafts.iter().flat_map(|draft| &draft.listens) {
        let here = (listen.place.path.clone(), listen.place.span.line);
        if let Some((path, line)) = vips.get(&listen.endpoint) {
            let message = format!("{} is taken already, by {path} in line {line}", listen.endpoint);
            report.fault(listen.place.clone(), message, "one address and port leads to one service");
        } else {
            vips.insert(listen.endpoint, here);
        }
    }
    vips
}

/// The backends' endpoints, the port filled in where the VIP's is meant; in their order.
fn endpoints(report: &mut Report, draft: &Draft, vips: &HashMap<SocketAddrV4, (String, usize)>) -> Vec<SocketAddrV4> {
    let mut ports = draft.listens.iter().map(|listen| listen.endpoint.port());
    let first = ports.next();
    let one_port = first.filter(|first| ports.all(|port| port == *first));
    let mut seen: HashMap<SocketAddrV4, usize> = HashMap::with_capacity(draft.backends.len());
    let mut endpoints = Vec::with_capacity(draft.backends.len());
    for backend in &draft.backends {
        let Some(port) = backend.port.or(one_port) else {
            missing_port(report, draft, backend);
            continue;
        };
        let endpoint = SocketAddrV4::new(backend.address, port);
        if let Some((path, line)) = vips.get(&endpoint) {
            let message = format!("{endpoint} is a service's own address ({path} in line {line})");
            report.fault(
                backend.place.clone(),
                message,
                "name the host behind it; packets would come back here for ever",
            );
        } else if let Some(line) = seen.get(&endpoint) {
            let message = format!("{endpoint} is a backend of this service already, in line {line}");
            report.fault(backend.place.clone(), message, "keep one of them; `weight` gives it a larger share");
        } else {
            seen.insert(endpoint, backend.place.span.line);
        }
        endpoints.push(endpoint);
    }
    endpoints
}

/// A backend without a port in a service of several; where `listen` is at fault, nothing can be said.
fn missing_port(report: &mut Report, draft: &Draft, backend: &Backend) {
    if draft.listens_sound {
        let message = format!("the port of {} is missing: `listen` has several to choose from", backend.address);
        report.fault(backend.place.clone(), message, format!("write it like {}:8080", backend.address));
    }
}

/// Each name once in a service.
fn names(report: &mut Report, draft: &Draft) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (name, place) in draft.backends.iter().filter_map(|backend| backend.name.as_ref()) {
        if let Some(line) = seen.get(name.as_str()) {
            let message = format!("{name} is the name of another backend of this service, in line {line}");
            report.fault(place.clone(), message, "a name stands for one backend");
        } else {
            seen.insert(name, place.span.line);
        }
    }
}

/// Warnings about shares that are not what they seem.
fn weigh(report: &mut Report, draft: &Draft) {
    let backends = draft.backends.len();
    if backends > 0 && draft.backends.iter().all(|backend| backend.weight == 0) {
        report.warn(
            draft.place.clone(),
            "all weights are zero: no new connection is served",
            "give one backend a weight",
        );
    }
    if backends * SLOTS_PER_BACKEND > draft.slots as usize {
        let message = format!("{backends} backends share {} slots, less than {SLOTS_PER_BACKEND} each", draft.slots);
        let help = if draft.slots == slots::LARGE {
            "their shares are uneven; divide the service".to_owned()
        } else {
            format!("their shares are uneven; `slots: {}` is for large services", slots::LARGE)
        };
        report.warn(Place { path: format!("{}.slots", draft.place.path), ..draft.slots_place.clone() }, message, help);
    }
}

/// The service as it is meant. `endpoints` are those of its backends.
fn service(draft: Draft, endpoints: Vec<SocketAddrV4>) -> model::Service {
    let backends = draft.backends.into_iter().zip(endpoints).map(|(backend, address)| model::Backend {
        name: backend.name.map(|(name, _)| name),
        address,
        weight: backend.weight,
    });
    let Policy { timeouts, drain, all_down, on_down, retry, measure, limits, access } = draft.policy;
    model::Service {
        listen: draft.listens.into_iter().map(|listen| listen.endpoint).collect(),
        slots: draft.slots,
        health: draft.health,
        timeouts,
        drain,
        all_down,
        on_down,
        retry,
        measure,
        limits,
        access,
        backends: backends.collect(),
    }
}
