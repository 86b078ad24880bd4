//! The README's table of metrics is the list in `observe/metrics/list.rs`; `UPDATE=1` writes it.

use std::{fmt::Write as _, fs, path::Path};

use lb_userspace::observe::metrics::METRICS;

const START: &str = "<!-- metrics:";
const END: &str = "<!-- /metrics -->";

#[test]
fn the_readme_names_every_metric() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let mut table = String::from("\n\n| metric | type | labels | what |\n|---|---|---|---|\n");
    for metric in METRICS {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let kind = match metric.unit {
            "" => metric.kind.label().to_owned(),
            unit => format!("{}, {unit}", metric.kind.label()),
        };
        writeln!(table, "| `{}` | {kind} | {} | {} |", metric.name, labels.join(", "), metric.help).unwrap();
    }
    table.push('\n');
    let (before, rest) = readme.split_once(START).unwrap();
    let (note, rest) = rest.split_once("-->").unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let wanted = format!("{before}{START}{note}-->{table}{END}{after}");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let readme = fs::read_to_string(&path).unwrap();
    let how = "`UPDATE=1 cargo test -p lb-userspace --test readme` writes it";
    assert!(readme == wanted, "README.md has another table of metrics; {how}");
}
