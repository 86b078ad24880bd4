//! The binary's answers where there is nothing to talk to: exit codes and sentences. Needs no root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

/// Runs `tidegate` with places of its own in `directory`.
fn tidegate(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(arguments)
        .arg("--socket")
        .arg(directory.join("admin.sock"))
        .arg("--pin-dir")
        .arg(directory.join("pins"))
        .arg("--state-dir")
        .arg(directory.join("state"))
        .args(["--http", "none"])
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn without_a_running_balancer_the_code_is_69() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["services"],
        &["backends", "web"],
        &["events", "--follow"],
        &["reload"],
    ] {
        let (code, out, error) = tidegate(directory.path(), arguments);
        assert_eq!((code, out.as_str()), (Some(69), ""), "{arguments:?}");
        assert!(error.starts_with("tidegate: no balancer is running behind"), "{error}");
    }
}

#[test]
fn a_file_that_is_bad_or_missing_or_names_no_interface_is_78() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f.yaml");
    let run = || tidegate(directory.path(), &["run", "--config", file.to_str().unwrap()]);
    let (code, out, error) = run();
    assert_eq!((code, out.as_str()), (Some(78), ""));
    assert!(error.contains("f.yaml"), "{error}");
    fs::write(&file, "version: 1\nservices: 7\n").unwrap();
    let (code, _, error) = run();
    assert_eq!(code, Some(78));
    assert!(error.contains("f.yaml:2:11"), "{error}");
    fs::write(&file, "version: 1\nservices:\n  web: {listen: 203.0.113.10:80, backends: [10.0.1.1]}\n").unwrap();
    let (code, _, error) = run();
    assert_eq!(code, Some(78));
    assert!(error.contains("--iface"), "{error}");
    let (code, out, _) = tidegate(directory.path(), &["check", file.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{out}");
}

#[test]
fn the_faults_of_a_file_are_told_before_anybody_is_asked_what_it_changes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f.yaml");
    let diff = |more: &[&str]| tidegate(directory.path(), &[&["diff", file.to_str().unwrap()], more].concat());
    assert_eq!(diff(&[]).0, Some(78));
    fs::write(&file, "version: 1\nservices: {web: {listen: 7, backends: [8]}}\n").unwrap();
    let (code, out, error) = diff(&[]);
    assert_eq!((code, out.as_str()), (Some(78), ""));
    assert!(error.contains("f.yaml:2:26") && error.contains("2 faults"), "{error}");
    let (code, out, error) = diff(&["--json"]);
    assert_eq!((code, error.as_str()), (Some(78), ""));
    assert!(out.contains("\"faults\":[{"), "{out}");
    fs::write(&file, "version: 1\nservices:\n  web: {listen: 203.0.113.10:80, backends: [10.0.1.1]}\n").unwrap();
    let (code, _, error) = diff(&[]);
    assert!(code == Some(69) && error.starts_with("tidegate: no balancer is running behind"), "{error}");
}

#[test]
fn a_wrong_command_line_is_2_and_help_is_0() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [&["status", "--jsno"][..], &["stats"], &["run", "--xdp", "fast"], &[]] {
        let (code, out, error) = tidegate(directory.path(), arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}: {error}");
    }
    let (code, out, _) = tidegate(directory.path(), &["--help"]);
    assert_eq!(code, Some(0));
    for command in ["run", "check", "reload", "status", "services", "backends", "events", "diff", "detach"] {
        assert!(out.contains(&format!("\n  {command} ")), "{command} is missing in\n{out}");
    }
}

#[test]
fn a_file_with_faults_is_named_where_its_socket_may_be_meant() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f.yaml");
    fs::write(&file, "version: 1\nadmin: {socket: /run/elsewhere.sock}\nservices: 7\n").unwrap();
    let asked = Command::new(env!("CARGO_BIN_EXE_tidegate")).arg("status").arg("--config").arg(&file).output().unwrap();
    let error = String::from_utf8(asked.stderr).unwrap();
    assert_eq!(asked.status.code(), Some(69), "{error}");
    assert!(error.contains("f.yaml has faults, so its admin.socket is not known"), "{error}");
}

#[test]
fn an_answer_that_cannot_be_written_is_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f.yaml");
    fs::write(&file, "version: 1\nservices:\n  web: {listen: 203.0.113.10:80, backends: [10.0.1.1]}\n").unwrap();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let checked = check.arg("check").arg(&file).stdout(full).output().unwrap();
    let error = String::from_utf8(checked.stderr).unwrap();
    assert_eq!(checked.status.code(), Some(1), "{error}");
    assert!(error.starts_with("tidegate: cannot write the answer: No space left"), "{error}");
}

#[test]
fn the_unit_is_started_again_for_ever_and_a_bad_file_is_not() {
    let unit = include_str!("../../deploy/tidegate.service");
    let has = |line: &str| unit.lines().any(|known| known == line);
    assert!(has("StartLimitIntervalSec=0") && has("RestartPreventExitStatus=2 77 78"), "{unit}");
    // Its exit code would be none of the main process, and would stop nothing.
    assert!(!unit.lines().any(|line| line.starts_with("ExecStartPre=")), "{unit}");
}
