//! The file as a tree: values, and where each of them stands.
//!
//! It knows neither YAML's grammar nor the keys of the file. An alias is the same node a second time,
//! so a tree never grows by what its aliases expand to.

use std::{borrow::Cow, ops::Range};

/// Where something stands in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The first octet.
    pub(super) start: usize,
    /// The octet after the last.
    pub(super) end: usize,
    /// The line of `start`, from 1.
    pub(super) line: usize,
    /// The column of `start` in characters, from 1.
    pub(super) column: usize,
}

/// Which node of a tree.
pub(super) type NodeId = usize;

/// One value.
#[derive(Debug)]
pub(super) struct Node<'t> {
    /// Where it stands; for a map or list in block style, where its first item starts.
    pub(super) span: Span,
    /// What it is.
    pub(super) kind: Kind<'t>,
}

/// What a value is. Scalars keep their text: what it means depends on the key.
#[derive(Debug)]
pub(super) enum Kind<'t> {
    /// Nothing at all, `~` or `null`.
    Null,
    /// A scalar; `plain` means without quotes.
    Text { text: Cow<'t, str>, plain: bool },
    /// A list.
    List(Vec<NodeId>),
    /// A map as it is written: keys may stand twice.
    Map(Vec<Entry<'t>>),
}

/// One key of a map and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry<'t> {
    /// The key.
    pub(super) key: Cow<'t, str>,
    /// Where the key stands.
    pub(super) span: Span,
    /// Its value.
    pub(super) value: NodeId,
}

/// A whole file.
#[derive(Debug)]
pub(super) struct Tree<'t> {
    /// What it was read from.
    pub(super) source: &'t str,
    /// Its nodes, children before their parents.
    pub(super) nodes: Vec<Node<'t>>,
    /// The outermost node.
    pub(super) root: NodeId,
}

impl<'t> Tree<'t> {
    /// A node by its number.
    pub(super) fn node(&self, id: NodeId) -> &Node<'t> {
        &self.nodes[id]
    }
}

impl Span {
    /// The octets that it covers.
    pub(super) const fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

impl Kind<'_> {
    /// What a person calls it.
    pub(super) const fn noun(&self) -> &'static str {
        match self {
            Self::Null => "empty",
            Self::Text { .. } => "a single value",
            Self::List(_) => "a list",
            Self::Map(_) => "a map of keys",
        }
    }
}
