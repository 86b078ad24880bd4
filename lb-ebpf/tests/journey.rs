//! Every case on the host, against memory tables.

use lb_ebpf::testing::{Memory, World, cases, play};

#[test]
fn every_case_ends_as_it_should() {
    let mut failures = Vec::new();
    let cases = cases::all();
    for case in &cases {
        if let Err(why) = play(case, &mut Memory::new(World::new())) {
            failures.push(why);
        }
    }
    println!("{} cases on the host", cases.len());
    assert!(failures.is_empty(), "{} of {} cases failed:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

#[test]
fn every_case_has_a_name_of_its_own() {
    let mut names: Vec<_> = cases::all().iter().map(|case| case.name).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}
