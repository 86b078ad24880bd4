//! The tree is as the README says, and every file keeps the habits that a machine can check.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The longest that a source file may be.
const WALL: usize = 400;
/// What a code map may name.
const FILES: [&str; 8] = [".rs", ".toml", ".yaml", ".md", ".txt", ".service", ".run", ".sh"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every source file, relative to the root.
fn sources() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rooms = vec![root()];
    while let Some(room) = rooms.pop() {
        for entry in fs::read_dir(&room).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                rooms.push(path);
            } else if name.ends_with(".rs") {
                found.insert(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    assert!(found.contains("xtask/tests/tidy.rs"), "the walk through the tree found {found:?}");
    found
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Panics with all faults, one a line.
fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let silent = sources().into_iter().filter(|path| !text(path).starts_with("//! "));
    none(
        &silent
            .map(|path| format!("{path}: the first line must be `//! ` and say what the file is"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn no_file_is_too_long() {
    let lengths = sources().into_iter().map(|path| (text(&path).lines().count(), path));
    let long = lengths.filter(|(lines, _)| *lines > WALL);
    none(&long.map(|(lines, path)| format!("{path}: {lines} lines, more than {WALL}")).collect::<Vec<_>>());
}

#[test]
fn lints_are_expected_and_not_allowed() {
    // In two pieces, or this file would find itself.
    let allow = ["#[allow", "#![allow"].map(|start| format!("{start}("));
    let mut faults = Vec::new();
    // What several test files share may be unused in one of them and used in another: there `allow` is right.
    for path in sources().into_iter().filter(|path| !path.contains("/tests/")) {
        for (number, line) in (1..).zip(text(&path).lines()) {
            if allow.iter().any(|allow| line.trim_start().starts_with(allow)) {
                faults
                    .push(format!("{path}:{number}: write `expect` with a reason: it tells when it is needed no more"));
            }
        }
    }
    none(&faults);
}

#[test]
fn the_code_map_equals_the_tree() {
    let Ok(readme) = fs::read_to_string(root().join("README.md")) else {
        println!("there is no README.md yet, so there is no code map to compare");
        return;
    };
    let sources = sources();
    let map = Map::read(&readme);
    let mut faults: Vec<String> = sources
        .iter()
        .filter(|path| !map.covers(path))
        .map(|path| format!("{path}: is not in the code map of README.md"))
        .collect();
    let gone = map.files.iter().filter(|path| !root().join(path).is_file());
    let gone = gone.chain(map.rooms.iter().filter(|path| !root().join(path).is_dir()));
    faults.extend(gone.map(|path| format!("{path}: is in the code map of README.md but not in the tree")));
    none(&faults);
}

/// The code map: the first fenced block after a heading that contains `code map`.
///
/// A line starts with names, separated by spaces, and goes on with words. Names end in `/` or in an
/// ending of [`FILES`]. A deeper line belongs to the directory above it; a directory that nothing
/// belongs to stands for all that is in it.
#[derive(Debug, Default)]
struct Map {
    files: BTreeSet<String>,
    rooms: BTreeSet<String>,
}

impl Map {
    fn read(readme: &str) -> Self {
        let mut lines = readme.lines();
        let heading = lines.find(|line| line.starts_with('#') && line.to_lowercase().contains("code map"));
        assert!(heading.is_some(), "README.md has no heading with the words `code map`");
        let block =
            lines.skip_while(|line| !line.starts_with("```")).skip(1).take_while(|line| !line.starts_with("```"));
        let mut map = Self::default();
        let mut open: Vec<(usize, String)> = Vec::new();
        for line in block {
            let indent = line.len() - line.trim_start().len();
            let names: Vec<&str> = line.split_whitespace().take_while(|word| is_name(word)).collect();
            if names.is_empty() {
                continue;
            }
            open.retain(|(outer, _)| *outer < indent);
            let base = open.last().map(|(_, room)| room.clone()).unwrap_or_default();
            map.rooms.remove(&base);
            for name in names {
                let path = format!("{base}{name}");
                if path.ends_with('/') {
                    map.rooms.insert(path.clone());
                    open.push((indent, path));
                } else {
                    map.files.insert(path);
                }
            }
        }
        map
    }

    fn covers(&self, path: &str) -> bool {
        self.files.contains(path) || self.rooms.iter().any(|room| path.starts_with(room.as_str()))
    }
}

fn is_name(word: &str) -> bool {
    word.ends_with('/') || FILES.iter().any(|ending| word.ends_with(ending))
}

#[test]
fn a_code_map_is_read_as_it_is_written() {
    let map = Map::read(
        "# The code map\nwords\n```text\na/src/  what a.rs does\n  lib.rs  one.rs   two things\n  deep/\n    x.rs\n  all/  everything\nb/\n```\n",
    );
    assert_eq!(
        map.files.iter().map(String::as_str).collect::<Vec<_>>(),
        ["a/src/deep/x.rs", "a/src/lib.rs", "a/src/one.rs"]
    );
    assert_eq!(map.rooms.iter().map(String::as_str).collect::<Vec<_>>(), ["a/src/all/", "b/"]);
    assert!(map.covers("a/src/all/y.rs") && !map.covers("a/src/y.rs"));
}
