//! What is so at one moment, in a word for each subject: the difference of two moments is what `events` shows.
//!
//! A state that another part learns to tell needs one line here, and no call where it changes. What changed and
//! changed back between two turns was never in force, and is not told.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use super::{apply::ALL_SILENT, controller::Controller, journal::Note, roster::Team};
use crate::{datapath::Datapath, plan::endpoint, time::Now};

/// What a state is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// A NIC that the program was attached to.
    Interface(String),
    /// Something of this host that stands in the way, in its own words.
    Ground(String),
    /// A VIP that is on this host because of us.
    Vip(Ipv4Addr),
    /// A change that the packet path did not take.
    Change,
    /// All backends fell silent at once.
    Hold,
    /// A backend of a service.
    Backend(Arc<str>, SocketAddrV4),
    /// A service, by name: told after its backends, which are why.
    Service(Arc<str>),
    /// HTTP.
    Http,
    /// The whole.
    Ready,
}

/// Every subject in a word.
pub(super) type Words = BTreeMap<Subject, &'static str>;

/// What was so when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Scene {
    whole: Option<Words>,
    members: Option<Words>,
}

impl<D: Datapath> Controller<D> {
    /// Writes down what has changed since the last look. Services and backends are looked at where `members` says
    /// so: there may be ten thousand of them.
    pub(super) fn look_around(&mut self, members: bool, now: Now) {
        let mut notes = Vec::new();
        if members {
            let words = self.members();
            // At first, what is as it shall be is not worth a word, and what is not known yet will have its own.
            let as_wanted = |_: &Subject, word: &mut &str| ["up", "serving", "starting"].contains(word);
            let first = || words.clone().extract_if(.., as_wanted).collect();
            let old = self.scene.members.take().unwrap_or_else(first);
            self.scene.members = Some(words);
            notes.extend(self.differences(&old, self.scene.members.iter().flatten()));
        }
        let words = self.whole();
        if self.scene.whole.as_ref() != Some(&words) {
            let old = self.scene.whole.replace(words).unwrap_or_default();
            notes.extend(self.differences(&old, self.scene.whole.iter().flatten()));
        }
        for note in notes {
            self.journal.write(note, now);
        }
    }

    /// All but services and backends.
    fn whole(&self) -> Words {
        let attached = self.datapath.attached();
        let mut words: Words = attached.iter().map(|nic| (Subject::Interface(nic.name.clone()), nic.mode)).collect();
        words.extend(self.gone().into_iter().map(|nic| (Subject::Interface(nic.to_owned()), "gone")));
        let weight = |fatal| if fatal { "fault" } else { "warning" };
        words.extend(self.ground.iter().map(|fault| (Subject::Ground(fault.to_string()), weight(fault.fatal))));
        words.extend(self.unseen.iter().map(|what| (Subject::Ground(what.clone()), "fault")));
        let heard = |http: &Result<_, _>| if http.is_ok() { "served" } else { "unavailable" };
        words.extend(self.http.iter().map(|http| (Subject::Http, heard(http))));
        words.extend(self.trouble.iter().map(|_| (Subject::Change, "failed")));
        words.extend(self.hold.iter().map(|_| (Subject::Hold, "held")));
        words.insert(Subject::Ready, if self.is_ready() { "ready" } else { "not ready" });
        words
    }

    /// Services and backends.
    fn members(&self) -> Words {
        let mut words = Words::new();
        words.extend(self.have.announced.iter().map(|vip| (Subject::Vip(*vip), "announced")));
        let mut of_file = BTreeSet::new();
        for (name, service) in self.model.iter().flat_map(|model| &model.services) {
            let name: Arc<str> = name.as_str().into();
            let is_out = self.roster.team(&name).and_then(Team::outage).is_some();
            words.insert(Subject::Service(name.clone()), if is_out { "out" } else { "serving" });
            for backend in &service.backends {
                of_file.insert((name.clone(), backend.address));
                words.insert(Subject::Backend(name.clone(), backend.address), self.state(&name, backend.address));
            }
        }
        for backend in self.have.backends.values() {
            let Some(name) = self.have.names.get(&backend.service) else { continue };
            let key = (Arc::from(name.as_str()), endpoint(backend).into());
            if !of_file.contains(&key) {
                words.insert(Subject::Backend(key.0, key.1), "drain");
            }
        }
        words
    }

    /// Why it is not ready; nothing where it is.
    pub(super) fn unready(&self) -> Option<String> {
        if self.is_ready() {
            return None;
        }
        let ground: Vec<String> = self.ground.iter().filter(|fault| fault.fatal).map(ToString::to_string).collect();
        if !ground.is_empty() {
            return Some(ground.join("; "));
        }
        let gone = self.gone();
        if !gone.is_empty() && gone.len() == self.datapath.attached().len() {
            return Some(format!("no NIC is left to balance on: {} gone", gone.join(", ")));
        }
        Some(match (&self.trouble, &self.surroundings) {
            (Some(trouble), _) => trouble.text.clone(),
            (None, None) => "the routes and addresses of this host are not read yet".to_owned(),
            (None, Some(_)) if self.published => "the VIPs are not on this host yet".to_owned(),
            (None, Some(_)) => "the first tables are not published yet: backends are being probed".to_owned(),
        })
    }

    fn differences<'a>(&self, old: &Words, new: impl Iterator<Item = (&'a Subject, &'a &'static str)>) -> Vec<Note> {
        let mut left = old.clone();
        let mut notes = Vec::new();
        for (subject, to) in new {
            let from = left.remove(subject);
            if from != Some(to) {
                notes.push(self.note(subject, from, Some(to)));
            }
        }
        notes.extend(left.iter().map(|(subject, from)| self.note(subject, Some(from), None)));
        notes
    }

    /// A change of one subject, and why.
    fn note(&self, subject: &Subject, from: Option<&'static str>, to: Option<&'static str>) -> Note {
        let note = |kind, reason: String| Note { kind, from, to, reason, ..Note::default() };
        match subject {
            Subject::Interface(name) => note("interface", name.clone()),
            Subject::Ground(what) => note("ground", what.clone()),
            Subject::Vip(address) => note("vip", address.to_string()),
            Subject::Change => {
                let trouble = self.trouble.as_ref().map(|trouble| trouble.text.clone());
                note("change", trouble.unwrap_or_else(|| "the change that had failed is in force".to_owned()))
            }
            Subject::Http => match &self.http {
                Some(Ok(address)) => note("http", address.to_string()),
                Some(Err(error)) => note("http", error.clone()),
                None => note("http", String::new()),
            },
            Subject::Hold if to.is_some() => note("hold", ALL_SILENT.to_owned()),
            Subject::Hold => note("hold", "the silence of all backends at once is over".to_owned()),
            Subject::Ready => note("ready", self.unready().unwrap_or_else(|| "packets are balanced".to_owned())),
            Subject::Service(name) => {
                let reason = match to {
                    Some("out") => self.roster.team(name).and_then(Team::outage).unwrap_or("no backend is up"),
                    Some(_) if from.is_some() => "a backend is up again",
                    Some(_) => "new in the file",
                    None => "no longer in the file",
                };
                Note { service: Some(name.to_string()), ..note("service", reason.to_owned()) }
            }
            Subject::Backend(service, address) => {
                let (name, reason) = self.named(service, *address, to);
                Note { service: Some(service.to_string()), backend: Some(name), ..note("backend", reason) }
            }
        }
    }

    /// A backend's name, and why it is as it is now.
    fn named(&self, service: &str, address: SocketAddrV4, to: Option<&'static str>) -> (String, String) {
        let service_of_file = self.model.as_ref().and_then(|model| model.services.get(service));
        let backend =
            service_of_file.and_then(|known| known.backends.iter().find(|backend| backend.address == address));
        match backend {
            Some(backend) => {
                let line = self.member(service, backend);
                (line.name, line.reason)
            }
            None if to.is_some() => (address.to_string(), "removed from the file, keeps its live flows".to_owned()),
            None => (address.to_string(), "removed from the file, and no flow is left".to_owned()),
        }
    }
}
