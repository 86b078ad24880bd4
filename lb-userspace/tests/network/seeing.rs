//! What an operator sees of changes: before they are made, by `diff`, and after, by `events`.

use serde_json::{Value, json};
use testkit::Process;

use crate::{
    file::{WEB, alt, file, web},
    stage::{PROGRAM, SOON, Stage, say},
};

#[test]
fn diff_tells_what_a_file_would_change_and_changes_nothing() {
    let stage = Stage::two_arms(3, &web(&[0, 1]).file());
    stage.until_state("backend-1", "up");
    stage.until_state("backend-2", "up");
    let connections: Vec<_> = (0..20).map(|index| stage.connect(index, WEB).unwrap()).collect();
    let stays = connections.iter().filter(|connection| connection.ask().unwrap().backend == "backend-2").count();
    stage.until_status("20 flows", |status| status["flows"]["live"] == 20);
    let gateway = &stage.topology.gateway;
    let diff = |yaml: &str, more: &str| {
        gateway.room.write("next.yaml", yaml).unwrap();
        say(gateway, &format!("diff /run/next.yaml --socket /run/admin.sock {more}"))
    };
    let same = diff(&web(&[0, 1]).file(), "");
    assert_eq!((same.code(), same.stdout.as_str()), (Some(0), "no changes\n"), "{same:?}");

    let next = file(&[web(&[0, 2]).weights(&[2, 1]), alt(&[1])]).replace("max_flows: 20000", "max_flows: 30000");
    let said = diff(&next, "");
    assert_eq!(said.code(), Some(0), "{said:?}");
    assert!(said.stderr.contains("warning: services.alt.health.timeout"), "as `check` would: {said:?}");
    for line in [
        "~ node.max_flows: 20000 -> 30000\n",
        "+ service alt\n    + listen: [203.0.113.10:81]\n    + backend backend-2 at 10.0.1.12:8080\n",
        "~ service web\n",
        "        ~ weight: 1 -> 2\n",
        "    + backend backend-3 at 10.0.1.13:8080\n",
        &format!("    - backend backend-2 at 10.0.1.12:8080, {stays} live flows\n"),
        &format!("    = {stays} of its 20 live flows stay with backends that go, until they end\n"),
        "`tidegate detach` and start again",
    ] {
        assert!(said.stdout.contains(line), "{line} is not in\n{}", said.stdout);
    }
    let said = diff(&next, "--json");
    let document: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((said.code(), &document["changed"]), (Some(0), &json!(true)));
    assert_eq!(document["services"][1]["draining"], stays);

    let bad = diff("version: 1\nservices: 7\nx: 1\n", "");
    assert_eq!((bad.code(), bad.stdout.as_str()), (Some(78), ""), "{bad:?}");
    assert!(bad.stderr.contains("next.yaml:2:11") && bad.stderr.contains("next.yaml:3:1"), "{bad:?}");
    assert_eq!(diff(&web(&[0, 1]).file(), "").stdout, "no changes\n", "nothing was changed by asking");
    stage.ask_some(WEB, 20).expect_no_failure();
}

/// Follows the events of a stage.
fn follow(stage: &Stage) -> Process {
    let arguments = ["events", "--follow", "--json", "--socket", "/run/admin.sock"];
    stage.topology.gateway.start(PROGRAM.as_ref(), arguments).unwrap()
}

#[test]
fn events_are_told_as_they_come_until_the_balancer_ends() {
    let mut stage = Stage::two_arms(2, &web(&[0, 1]).file());
    stage.until_state("backend-1", "up");
    stage.until_state("backend-2", "up");
    let mut follower = follow(&stage);
    assert!(follower.stdout.wait_for("\"kind\":\"ready\"", 0, SOON).is_some(), "the past comes first");
    stage.servers.remove(1);
    let (_, line) = follower.stdout.wait_for("{\"backend\":\"backend-2\",\"from\":\"up\"", 0, SOON).unwrap();
    let mut event: Value = serde_json::from_str(&line).unwrap();
    assert!(event["time"].take().as_str().unwrap().ends_with('Z'));
    let wanted = json!({
        "time": null, "kind": "backend", "service": "web", "backend": "backend-2",
        "from": "up", "to": "down", "reason": "connection refused"
    });
    assert_eq!(event, wanted);
    stage.tidegate.edit("version: 2").unwrap();
    assert!(follower.stdout.wait_for("\"to\":\"failed\"", 0, SOON).is_some());
    stage.tidegate.edit(&web(&[0]).file()).unwrap();
    assert!(follower.stdout.wait_for("\"to\":\"ok\"", 0, SOON).is_some());
    let table = stage.tidegate.command(&["events", "--limit", "1"]).unwrap().stdout;
    assert_eq!(table.lines().count(), 1, "{table}");
    stage.tidegate.process().kill();
    let ended = follower.wait(SOON).unwrap();
    assert_eq!(ended.code(), Some(69), "{ended:?}");
    assert!(ended.stderr.contains("the balancer behind /run/admin.sock has stopped"), "{ended:?}");
}
