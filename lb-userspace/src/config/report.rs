//! Values with the keys that lead to them, and the list of faults that reading them fills.
//!
//! A reader asks for what it wants and gets `None` where that cannot be had: the fault is noted then,
//! and the reader goes on, so that all faults are found at once.

use std::{ops::Range, ops::RangeInclusive};

use super::{
    excerpt::Excerpt,
    fault::{Fault, Faults},
    scalar,
    tree::{Kind, Node, NodeId, Span, Tree},
};

/// A value, and the keys that lead to it.
#[derive(Clone, Debug)]
pub(super) struct Value<'t> {
    tree: &'t Tree<'t>,
    node: &'t Node<'t>,
    /// The key that names it; the value itself in a list.
    key: Span,
    path: String,
}

/// Where a fault is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// What it is about: its start is the place that is named.
    pub(super) span: Span,
    /// The part that is marked.
    pub(super) mark: Range<usize>,
    /// The keys that lead there.
    pub(super) path: String,
}

/// What is wrong with a value, before anyone knows where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    /// The part of the value, where it is not all of it.
    pub(super) part: Option<Range<usize>>,
    /// What is wrong.
    pub(super) message: String,
    /// What to do.
    pub(super) help: String,
}

/// The faults and warnings found so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    faults: Vec<(Place, Complaint)>,
    warnings: Vec<(Place, Complaint)>,
    hidden: usize,
}

impl<'t> Value<'t> {
    /// The whole file.
    pub(super) fn root(tree: &'t Tree<'t>) -> Self {
        let node = tree.node(tree.root);
        Self { tree, node, key: node.span, path: String::new() }
    }

    /// What it is.
    pub(super) fn kind(&self) -> &'t Kind<'t> {
        &self.node.kind
    }

    /// A value of this map.
    pub(super) fn under(&self, name: &str, key: Span, id: NodeId) -> Self {
        Self { tree: self.tree, node: self.tree.node(id), key, path: self.path_of(name) }
    }

    /// The path of a key in this map.
    pub(super) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Another node at the same path.
    pub(super) fn instead(&self, id: NodeId) -> Self {
        Self { node: self.tree.node(id), ..self.clone() }
    }

    /// The values of a list; a value that is no list stands for a list of itself.
    pub(super) fn items(&self) -> Vec<Self> {
        let Kind::List(ids) = self.kind() else { return vec![self.clone()] };
        let item = |(index, id): (usize, &NodeId)| {
            let node = self.tree.node(*id);
            Self { tree: self.tree, node, key: node.span, path: format!("{}[{index}]", self.path) }
        };
        ids.iter().enumerate().map(item).collect()
    }

    /// Where the value stands; an empty one has only its key to show.
    pub(super) fn place(&self) -> Place {
        let span = if matches!(self.node.kind, Kind::Null) { self.key } else { self.node.span };
        Place { span, mark: span.range(), path: self.path.clone() }
    }

    /// Where its key stands.
    pub(super) fn key_place(&self) -> Place {
        Place { span: self.key, mark: self.key.range(), path: self.path.clone() }
    }

    /// Where a part of its text stands. Only where the source is the text, with or without quotes.
    fn part(&self, part: Range<usize>) -> Place {
        let mut place = self.place();
        let Kind::Text { text, plain } = self.kind() else { return place };
        let quote = usize::from(!plain);
        let written = self.tree.source.get(place.span.start + quote..place.span.end.saturating_sub(quote));
        if written == Some(text.as_ref()) {
            let start = place.span.start + quote;
            place.mark = start + part.start..start + part.end;
        }
        place
    }
}

impl Complaint {
    /// About the whole value.
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { part: None, message: message.into(), help: help.into() }
    }

    /// About a part of it.
    pub(super) fn at(self, part: Range<usize>) -> Self {
        Self { part: Some(part), ..self }
    }
}

impl Report {
    /// Notes a fault.
    pub(super) fn fault(&mut self, place: Place, message: impl Into<String>, help: impl Into<String>) {
        if self.faults.len() < Faults::MOST {
            self.faults.push((place, Complaint::new(message, help)));
        } else {
            self.hidden += 1;
        }
    }

    /// Notes a warning.
    pub(super) fn warn(&mut self, place: Place, message: impl Into<String>, help: impl Into<String>) {
        if self.warnings.len() < Faults::MOST {
            self.warnings.push((place, Complaint::new(message, help)));
        }
    }

    /// Notes what is wrong with a value, under the part that is meant.
    pub(super) fn complain(&mut self, value: &Value<'_>, complaint: Complaint) {
        let place = complaint.part.map_or_else(|| value.place(), |part| value.part(part));
        self.fault(place, complaint.message, complaint.help);
    }

    /// Notes that a value is of the wrong kind. `want` is a noun with its article.
    pub(super) fn mismatch(&mut self, value: &Value<'_>, want: &str, help: &str) {
        let noun = value.kind().noun();
        self.fault(value.place(), format!("{want} is wanted here, this is {noun}"), help);
    }

    /// A scalar, quoted or not, read by `parse`.
    pub(super) fn text<T>(
        &mut self,
        value: &Value<'_>,
        want: &str,
        help: &str,
        parse: impl FnOnce(&str) -> Result<T, Complaint>,
    ) -> Option<T> {
        let Kind::Text { text, .. } = value.kind() else {
            self.mismatch(value, want, help);
            return None;
        };
        parse(text).map_err(|complaint| self.complain(value, complaint)).ok()
    }

    /// A whole number. `noun` completes "70000 is not …".
    pub(super) fn number(&mut self, value: &Value<'_>, noun: &str, range: RangeInclusive<u32>) -> Option<u32> {
        self.number_by(value, |text| scalar::number(text, noun, range))
    }

    /// A number without quotes, read by `parse`.
    pub(super) fn number_by(
        &mut self,
        value: &Value<'_>,
        parse: impl FnOnce(&str) -> Result<u32, Complaint>,
    ) -> Option<u32> {
        if let Kind::Text { text, plain: false } = value.kind()
            && text.starts_with(|c: char| c.is_ascii_digit())
        {
            let message = format!("\"{}\" is text, not a number", scalar::shown(text));
            self.fault(value.place(), message, "write it without quotes");
            return None;
        }
        self.text(value, "a number", "write a whole number", parse)
    }

    /// One of a few words. Words of `later` are promised, and this version does not have them.
    pub(super) fn choice<T: Copy>(&mut self, value: &Value<'_>, now: &[(&str, T)], later: &[&str]) -> Option<T> {
        let help = format!("write {}", scalar::alternatives(now.iter().map(|(name, _)| *name)));
        self.text(value, "a word", &help, |text| scalar::choice(text, now, later, &help))
    }

    /// How many faults there are so far.
    pub(super) fn count(&self) -> usize {
        self.faults.len() + self.hidden
    }

    /// Whether nothing is wrong.
    pub(super) fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    /// The faults (how many are not among them is the second) and the warnings, in the file's order.
    pub(super) fn finish(self, file: &str, source: &str) -> (Vec<Fault>, usize, Vec<Fault>) {
        let sorted = |mut all: Vec<(Place, Complaint)>, warning: bool| {
            all.sort_by_key(|(place, _)| (place.span.start, place.mark.start));
            let fault = |(place, complaint): (Place, Complaint)| Fault {
                line: Some(place.span.line),
                column: Some(place.span.column),
                key: scalar::clean(&place.path),
                warning,
                excerpt: Some(Excerpt::new(source, place.mark)),
                ..Fault::of_file(file, complaint.message, complaint.help)
            };
            all.into_iter().map(fault).collect::<Vec<_>>()
        };
        (sorted(self.faults, false), self.hidden, sorted(self.warnings, true))
    }
}
