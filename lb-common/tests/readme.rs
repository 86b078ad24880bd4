//! The README's table of reasons is the list in `reason.rs`; `UPDATE=1` writes it.

use std::{fmt::Write as _, fs, path::Path};

use lb_common::Reason;

const START: &str = "<!-- reasons:";
const END: &str = "<!-- /reasons -->";

#[test]
fn the_readme_names_every_reason() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(&path).expect("README.md");
    let mut table = String::from("\n\n| reason | what becomes of it | why |\n|---|---|---|\n");
    for reason in Reason::ALL {
        let action = format!("{:?}", reason.action()).to_lowercase();
        writeln!(table, "| `{}` | {action} | {} |", reason.label(), reason.help()).expect("a string takes all");
    }
    table.push('\n');
    let (before, rest) = readme.split_once(START).expect("where the table starts");
    let (note, rest) = rest.split_once("-->").expect("the end of that comment");
    let (_, after) = rest.split_once(END).expect("where the table ends");
    let wanted = format!("{before}{START}{note}-->{table}{END}{after}");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &wanted).expect("README.md can be written");
    }
    let readme = fs::read_to_string(&path).expect("README.md");
    assert!(readme == wanted, "README.md has another table of reasons; `UPDATE=1 cargo test -p lb-common` writes it");
}
