//! Maps of the file as their readers want them: known keys only, each once, merges done.

use std::collections::HashMap;

use super::{
    keys::{Meaning, Room},
    report::{Report, Value},
    tree::{Entry, Kind, Span},
};

/// The known keys of one map.
#[derive(Debug)]
pub(super) struct Fields<'t> {
    map: Value<'t>,
    known: Vec<(&'static str, Value<'t>)>,
    /// Keys that are probably there, misspelt.
    misspelt: Vec<&'static str>,
}

impl<'t> Fields<'t> {
    /// The keys of a map that belongs to `room`; all others are noted as faults.
    pub(super) fn read(report: &mut Report, map: &Value<'t>, room: Room) -> Option<Self> {
        let Kind::Map(written) = map.kind() else {
            let help = format!("keys that may stand here: {}", room.keys().now.join(", "));
            report.mismatch(map, "a map of keys", &help);
            return None;
        };
        let entries = entries(report, map, written);
        let mut known = Vec::with_capacity(entries.len());
        let mut misspelt = Vec::new();
        for entry in entries {
            let value = map.under(&entry.key, entry.span, entry.value);
            match room.meaning(&entry.key) {
                Meaning::Known(key) => known.push((key, value)),
                Meaning::Refused { message, help, likely } => {
                    report.fault(value.key_place(), message, help);
                    misspelt.extend(likely);
                }
            }
        }
        Some(Self { map: map.clone(), known, misspelt })
    }

    /// Like [`read`](Self::read), but a map without any keys may also be left out.
    pub(super) fn read_optional(report: &mut Report, map: &Value<'t>, room: Room) -> Option<Self> {
        match map.kind() {
            Kind::Null => Some(Self { map: map.clone(), known: Vec::new(), misspelt: Vec::new() }),
            _ => Self::read(report, map, room),
        }
    }

    /// A key, where it is given.
    pub(super) fn take(&mut self, key: &str) -> Option<Value<'t>> {
        let at = self.known.iter().position(|(known, _)| *known == key)?;
        Some(self.known.swap_remove(at).1)
    }

    /// A key that has to be there.
    pub(super) fn required(&mut self, report: &mut Report, key: &str, help: &str) -> Option<Value<'t>> {
        let value = self.take(key);
        // One slip of the finger is one fault.
        if value.is_none() && !self.misspelt.contains(&key) {
            let mut place = self.map.key_place();
            place.path = self.map.path_of(key);
            report.fault(place, format!("`{key}` is missing"), help);
        }
        value
    }
}

/// The entries of a map, each key once, with what `<<` merges into it.
pub(super) fn entries<'t>(report: &mut Report, map: &Value<'t>, written: &'t [Entry<'t>]) -> Vec<Entry<'t>> {
    let mut first: HashMap<&str, Span> = HashMap::with_capacity(written.len());
    let mut entries = Vec::with_capacity(written.len());
    let mut merges = Vec::new();
    for entry in written {
        if let Some(before) = first.get(&*entry.key) {
            let place = map.under(&entry.key, entry.span, entry.value).key_place();
            let key = super::scalar::shown(&entry.key);
            report.fault(
                place,
                format!("`{key}` stands here twice, first in line {}", before.line),
                "keep one of them",
            );
            continue;
        }
        first.insert(&entry.key, entry.span);
        if entry.key == "<<" { merges.push(entry) } else { entries.push(entry.clone()) }
    }
    for merge in merges {
        for source in map.under("<<", merge.span, merge.value).items() {
            merge_into(report, &source, &mut first, &mut entries);
        }
    }
    entries
}

/// Adds the entries of a merged map; keys that are there already win. How deep merges go is bounded
/// by the number of values in a file, since each one counts all that it stands for.
fn merge_into<'t>(
    report: &mut Report,
    source: &Value<'t>,
    first: &mut HashMap<&'t str, Span>,
    entries: &mut Vec<Entry<'t>>,
) {
    let Kind::Map(written) = source.kind() else {
        report.mismatch(source, "a map of keys", "`<<` merges maps: write `<<: *anchor` or `<<: [*one, *two]`");
        return;
    };
    for entry in written {
        if entry.key == "<<" {
            for inner in source.instead(entry.value).items() {
                merge_into(report, &inner, first, entries);
            }
        } else if !first.contains_key(&*entry.key) {
            first.insert(&entry.key, entry.span);
            entries.push(entry.clone());
        }
    }
}
