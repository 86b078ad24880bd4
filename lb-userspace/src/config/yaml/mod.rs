//! From YAML to our tree: the one module that knows serde-saphyr.
//!
//! It reads serde-saphyr's events and not its deserializer: that stops at the first fault, and knows
//! where a value starts but not where it ends. What a key means is never asked here. Bounds on
//! nesting, values and aliases make every file cheap, however it was made.

mod error;

use std::{borrow::Cow, mem};

use serde_saphyr::granit_parser::{self, Event, Marker, Parser, ScalarStyle, StructureStyle};

use super::{
    report::Complaint,
    tree::{Entry, Kind, Node, NodeId, Span, Tree},
};

/// Maps and lists within each other; the deepest key of the file needs seven.
const DEPTH: usize = 32;
/// Values that a file may have, each alias counted with all that it stands for. The largest file
/// within the other limits has some 100,000.
const VALUES: u64 = 500_000;

/// Why there is no tree: at one place, and nothing after it was read.
#[derive(Debug)]
pub(super) struct Broken {
    /// Where.
    pub(super) span: Span,
    /// What and why.
    pub(super) complaint: Complaint,
}

/// Reads one YAML document; `None` where the text has none.
pub(super) fn read(source: &str) -> Result<Option<Tree<'_>>, Broken> {
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: DEPTH,
        block_nesting_limit: DEPTH,
    };
    let mut builder = Builder { source, ..Builder::default() };
    for event in Parser::new_from_str_with_options(source, options) {
        let (event, at) = event.map_err(|cause| error::broken(source, &cause, builder.bracket()))?;
        let tag = event.tag().is_some();
        let at = span(at.start, at.end);
        if tag {
            return Err(Broken::new(
                at,
                "tags (`!name`) have no meaning in this file",
                "write the value without the tag",
            ));
        }
        builder.take(event, at)?;
    }
    Ok(builder.root.map(|root| Tree { source, nodes: builder.nodes, root }))
}

/// The tree as far as it was read.
#[derive(Default)]
struct Builder<'t> {
    source: &'t str,
    nodes: Vec<Node<'t>>,
    /// How many values each node stands for, by its number.
    sizes: Vec<u64>,
    /// Complete nodes by anchor, less one.
    anchors: Vec<Option<NodeId>>,
    open: Vec<Open<'t>>,
    root: Option<NodeId>,
    documents: usize,
    total: u64,
}

/// A map or list that has not ended.
struct Open<'t> {
    span: Span,
    flow: bool,
    anchor: usize,
    size: u64,
    kind: Kind<'t>,
    /// The key that waits for its value.
    key: Option<(Cow<'t, str>, Span)>,
}

impl<'t> Builder<'t> {
    /// Adds one event.
    fn take(&mut self, event: Event<'t>, at: Span) -> Result<(), Broken> {
        match event {
            Event::DocumentStart(..) if self.documents > 0 => {
                return Err(Broken::new(at, "a second document starts here", "keep one document: remove the `---`"));
            }
            Event::DocumentStart(..) => self.documents += 1,
            Event::Scalar(text, style, anchor, _) => self.scalar(text, style, anchor, at)?,
            Event::SequenceStart(style, anchor, _) => self.start(Kind::List(Vec::new()), style, anchor, at)?,
            Event::MappingStart(style, anchor, _) => self.start(Kind::Map(Vec::new()), style, anchor, at)?,
            Event::SequenceEnd | Event::MappingEnd => self.end(at)?,
            Event::Alias(anchor) => self.alias(anchor, at)?,
            _ => {}
        }
        Ok(())
    }

    /// A scalar: the key of a map that wants one, or a value.
    fn scalar(&mut self, text: Cow<'t, str>, style: ScalarStyle, anchor: usize, at: Span) -> Result<(), Broken> {
        let plain = style == ScalarStyle::Plain;
        if let Some(Open { kind: Kind::Map(_), key: key @ None, .. }) = self.open.last_mut() {
            *key = Some((text, at));
            return Ok(());
        }
        // YAML 1.2.2, section 10.3.2: these words without quotes are null, in this spelling only.
        let kind = match (&*text, plain) {
            ("" | "~" | "null" | "Null" | "NULL", true) => Kind::Null,
            _ => Kind::Text { text, plain },
        };
        self.add(Node { span: at, kind }, anchor, 1)
    }

    /// A map or list starts.
    fn start(&mut self, kind: Kind<'t>, style: StructureStyle, anchor: usize, at: Span) -> Result<(), Broken> {
        if let Some(Open { kind: Kind::Map(_), key: None, .. }) = self.open.last() {
            let help = "keys are words; quote a value that starts with `[` or `{`";
            let address = error::bracketed_address(self.source, at);
            return Err(address.unwrap_or_else(|| Broken::new(at, format!("{} cannot be a key", kind.noun()), help)));
        }
        let flow = style == StructureStyle::Flow;
        self.open.push(Open { span: at, flow, anchor, size: 1, kind, key: None });
        Ok(())
    }

    /// The innermost bracket that is open, and its line.
    fn bracket(&self) -> Option<(char, usize)> {
        let open = self.open.iter().rev().find(|open| open.flow)?;
        Some((if matches!(open.kind, Kind::List(_)) { '[' } else { '{' }, open.span.line))
    }

    /// The innermost map or list ends.
    fn end(&mut self, at: Span) -> Result<(), Broken> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let end = if open.flow { at.end } else { open.span.end };
        self.add(Node { span: Span { end, ..open.span }, kind: open.kind }, open.anchor, open.size)
    }

    /// A complete node takes its place in what is open around it.
    fn add(&mut self, node: Node<'t>, anchor: usize, size: u64) -> Result<(), Broken> {
        let span = node.span;
        let id = self.nodes.len();
        self.nodes.push(node);
        self.sizes.push(size);
        if let Some(place) = anchor.checked_sub(1) {
            self.anchors.resize(self.anchors.len().max(anchor), None);
            self.anchors[place] = Some(id);
        }
        self.place(id, span, 1, size)
    }

    /// The node that an alias names, once more.
    fn alias(&mut self, anchor: usize, at: Span) -> Result<(), Broken> {
        if let Some(Open { kind: Kind::Map(_), key: None, .. }) = self.open.last() {
            return Err(Broken::new(at, "an alias cannot be a key", "write the key out"));
        }
        let target = anchor.checked_sub(1).and_then(|place| *self.anchors.get(place)?);
        let Some(id) = target else {
            return Err(Broken::new(at, "an alias within the value that it names", "the file cannot contain itself"));
        };
        self.place(id, at, self.sizes[id], self.sizes[id])
    }

    /// Puts a node where the innermost map or list wants it. `new` values have come to the file, and
    /// the node stands for `size`.
    fn place(&mut self, id: NodeId, at: Span, new: u64, size: u64) -> Result<(), Broken> {
        self.total = self.total.saturating_add(new);
        if self.total > VALUES {
            let message = format!("more than {VALUES} values, aliases counted with all that they stand for");
            return Err(Broken::new(at, message, "no configuration within the other limits is so large"));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(id);
            return Ok(());
        };
        open.size = open.size.saturating_add(size);
        match &mut open.kind {
            Kind::Map(entries) => {
                if let Some((key, span)) = mem::take(&mut open.key) {
                    entries.push(Entry { key, span, value: id });
                }
            }
            Kind::List(items) => items.push(id),
            Kind::Null | Kind::Text { .. } => {}
        }
        Ok(())
    }
}

impl Broken {
    fn new(span: Span, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { span, complaint: Complaint::new(message, help) }
    }
}

/// A place in our words: serde-saphyr counts columns from 0.
fn span(start: Marker, end: Marker) -> Span {
    let octet = |marker: Marker| marker.byte_offset().unwrap_or_default();
    Span { start: octet(start), end: octet(end), line: start.line(), column: start.col() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn complaint(source: &str) -> String {
        read(source).expect_err("a fault").complaint.message
    }

    #[test]
    fn a_value_knows_where_it_stands() {
        let tree = read("é: [a, 'b c']\n").expect("valid").expect("a document");
        let Kind::Map(entries) = &tree.node(tree.root).kind else { panic!("a map") };
        let list = tree.node(entries[0].value);
        assert_eq!(&tree.source[list.span.range()], "[a, 'b c']");
        let Kind::List(items) = &list.kind else { panic!("a list") };
        let quoted = tree.node(items[1]);
        assert_eq!((quoted.span.line, quoted.span.column), (1, 8));
        assert_eq!(&tree.source[quoted.span.range()], "'b c'");
    }

    #[test]
    fn aliases_are_counted_with_what_they_stand_for() {
        let mut bomb = String::from("a: &a [x, x, x, x, x, x, x, x, x, x]\n");
        for (name, before) in ('b'..='z').zip('a'..) {
            let list = vec![format!("*{before}"); 10].join(", ");
            bomb.push_str(&format!("{name}: &{name} [{list}]\n"));
        }
        assert!(complaint(&bomb).starts_with("more than 500000 values"));
    }

    #[test]
    fn nesting_is_bounded() {
        assert_eq!(complaint(&"[".repeat(100_000)), "nested deeper than 32 levels");
        let stairs: String = (0..100).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        assert_eq!(complaint(&stairs), "nested deeper than 32 levels");
    }

    #[test]
    fn what_yaml_has_and_this_file_has_not_is_refused() {
        assert_eq!(complaint("a: &a [*a]\n"), "an alias within the value that it names");
        assert_eq!(complaint("a: !!int 3\n"), "tags (`!name`) have no meaning in this file");
        assert_eq!(complaint("a: 1\n---\nb: 2\n"), "a second document starts here");
        assert_eq!(complaint("? [a]\n: b\n"), "a list cannot be a key");
    }

    #[test]
    fn nothing_is_no_document() {
        assert!(read("").expect("valid").is_none());
        assert!(read("# only a comment\n").expect("valid").is_none());
    }
}
