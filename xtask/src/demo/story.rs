//! The story that the demo tells, in the order it happens.

use std::{
    net::SocketAddrV4,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::{Load, Pings, Report, Server, Tidegate, Topology, VIP, Wire};

use super::{
    announced,
    config::{self, BACKEND_PORT, FALL, INTERVAL, PORT, TIMEOUT},
    summary::Summary,
};

/// Where clients ask.
const TARGET: SocketAddrV4 = SocketAddrV4::new(VIP, PORT);
/// How long traffic flows before and after what happens under it.
const CALM: Duration = Duration::from_millis(700);
/// How long the controller may take to see something.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections that stay open over edits and restarts.
const LONG_CONNECTIONS: usize = 24;

/// The stage: everything goes with it.
struct Stage {
    // First, so that the controller ends before its network does.
    tidegate: Tidegate,
    servers: Vec<Server>,
    topology: Topology,
    /// What reaches the client's NIC, from before the balancer's start on.
    wire: Option<Wire>,
}

/// Plays the whole story with this binary, and fails if a promise does not hold.
pub(super) fn play(program: &Path) -> Result<()> {
    let began = Instant::now();
    eprintln!("1. a client with {} addresses, a gateway and backends", Topology::sources().len());
    let mut stage = set(program)?;
    let mut summary = Summary::default();
    let told = tell(&mut stage, &mut summary);
    if told.is_err() {
        eprintln!("\nThe balancer said:\n{}", stage.tidegate.log().text());
    }
    let closed = summary.close();
    told?;
    closed?;
    eprintln!("\nEverything held, in {:.0?}. Nothing is left behind.", began.elapsed());
    Ok(())
}

fn set(program: &Path) -> Result<Stage> {
    // The fourth backend is added later.
    let topology = Topology::two_arms(4)?;
    let servers = (0..)
        .zip(&topology.backends)
        .map(|(index, host)| Server::start(host, SocketAddrV4::new(Topology::backend_address(index), BACKEND_PORT)))
        .collect::<Result<Vec<_>>>()?;
    let file = config::file(&[(0, 1), (1, 1), (2, 1)]);
    eprintln!("2. the balancer, with this file:\n\n{}", indented(&file));
    let wire = Wire::open(&topology.client, "eth0")?;
    let began = Instant::now();
    let tidegate = Tidegate::on(&topology.gateway, program).config(&file).start()?;
    eprintln!("   ready after {:.0?}", began.elapsed());
    Ok(Stage { tidegate, servers, topology, wire: Some(wire) })
}

fn tell(stage: &mut Stage, summary: &mut Summary) -> Result<()> {
    wait_for_up(&stage.tidegate, &["backend-1", "backend-2", "backend-3"])?;
    eprintln!("3. the virtual addresses, which nobody has put on the gateway and no route leads to");
    let wire = stage.wire.take().context("the wire was tapped at the start")?;
    announced::heard(&stage.topology, wire, summary)?;
    eprintln!("4. one request from each of the client's addresses");
    spread(stage, summary)?;
    eprintln!("5. backend-2 is killed under traffic");
    backend_killed(stage, summary)?;
    eprintln!("6. backend-2 returns");
    backend_returned(stage, summary)?;
    eprintln!(
        "7. the file is edited under traffic: backend-1 removed, backend-4 added, backend-3 has three times the weight"
    );
    file_edited(stage, summary)?;
    eprintln!("8. the controller is stopped, started, killed (-9) and started under traffic");
    controller_restarted(stage, summary)?;
    eprintln!("9. detach");
    detached(stage, summary)
}

fn spread(stage: &Stage, summary: &mut Summary) -> Result<()> {
    let report = load().once(&stage.topology.client);
    let spread = report.spread();
    let fewest = spread.values().min().copied().unwrap_or(0);
    // Three equal weights: each backend should have a third; half of that is no accident any more.
    let even = spread.len() == 3 && fewest * 6 >= report.samples.len();
    let failed = report.failures().count();
    summary.add(
        "every request is answered, and the backend sees the client's address",
        failed == 0,
        format!("{} requests from as many addresses, {failed} failed{}", report.samples.len(), reasons(&report)),
    );
    summary.add("requests are spread over the backends", even, shares(&report));
    Ok(())
}

fn backend_killed(stage: &mut Stage, summary: &mut Summary) -> Result<()> {
    let before = load().once(&stage.topology.client).by_source();
    let traffic = load().start(&stage.topology.client);
    sleep(CALM);
    let killed = Instant::now();
    server(stage, 1)?.kill();
    stage.tidegate.wait_until("backend-2 is down", PATIENCE, |answer| state(answer, "backend-2") == "down")?;
    sleep(CALM);
    let report = traffic.stop();
    let (disturbed, failed) = (report.disturbed_for(killed), report.failures().count());
    // Probes see it after FALL intervals, jitter and the time a probe takes included; then one write.
    let most = (INTERVAL + INTERVAL / 5) * FALL + TIMEOUT + Duration::from_millis(400);
    let early = report.failures().filter(|sample| sample.began < killed - Duration::from_millis(50)).count();
    summary.add(
        "a killed backend is taken out",
        disturbed < most && early == 0,
        format!(
            "all requests succeed again {} ms after it was killed (probes every {INTERVAL:?}, {FALL} failures); {failed} \
             of {} failed meanwhile",
            disturbed.as_millis(),
            report.samples.len()
        ),
    );
    let after = load().once(&stage.topology.client);
    let others = before.iter().filter(|(_, backend)| ***backend != [std::sync::Arc::from("backend-2")]);
    let (stayed, moved): (Vec<_>, Vec<_>) =
        others.partition(|(source, backend)| after.by_source().get(source) == Some(backend));
    let orderly = after.failures().next().is_none() && !after.spread().contains_key("backend-2");
    summary.add(
        "clients of the other backends stay where they are",
        orderly && moved.len() * 10 <= stayed.len(),
        format!("{} stayed, {} moved; {}", stayed.len(), moved.len(), shares(&after)),
    );
    Ok(())
}

fn backend_returned(stage: &mut Stage, summary: &mut Summary) -> Result<()> {
    let traffic = load().start(&stage.topology.client);
    sleep(CALM);
    let returned = Instant::now();
    server(stage, 1)?.restart()?;
    wait_for_up(&stage.tidegate, &["backend-2"])?;
    sleep(CALM);
    let report = traffic.stop();
    let first =
        report.samples.iter().find(|sample| sample.outcome.as_deref().is_ok_and(|backend| backend == "backend-2"));
    let serves = first.map(|sample| sample.ended.saturating_duration_since(returned));
    let failed = report.failures().count();
    summary.add(
        "a returned backend serves again, and no request fails",
        serves.is_some() && failed == 0,
        match serves {
            Some(after) => format!(
                "it answers {} ms after it returned; {failed} of {} failed{}",
                after.as_millis(),
                report.samples.len(),
                reasons(&report)
            ),
            None => format!("it never answered; {report}"),
        },
    );
    Ok(())
}

fn file_edited(stage: &mut Stage, summary: &mut Summary) -> Result<()> {
    let client = &stage.topology.client;
    let pings = pings(stage)?;
    let traffic = load().start(client);
    sleep(CALM);
    let edited = Instant::now();
    stage.tidegate.edit(&config::file(&[(1, 1), (2, 3), (3, 1)]))?;
    wait_for_up(&stage.tidegate, &["backend-4"])?;
    // The file is followed 100 ms after its last change; a new backend is then probed before it gets clients.
    sleep(CALM);
    let (report, pinged, after) = (traffic.stop(), pings.stop(), load().once(client));
    let first =
        report.samples.iter().find(|sample| sample.outcome.as_deref().is_ok_and(|backend| backend == "backend-4"));
    let followed = first.map_or(PATIENCE, |sample| sample.ended.saturating_duration_since(edited));
    let failed = report.failures().count() + pinged.failures().count() + after.failures().count();
    summary.add(
        "the file is followed, and no request or long connection fails",
        failed == 0,
        format!(
            "in force after {} ms; {} requests and {} questions on {LONG_CONNECTIONS} long connections, {failed} failed{}{}",
            followed.as_millis(),
            report.samples.len(),
            pinged.samples.len(),
            reasons(&report),
            reasons(&pinged)
        ),
    );
    let spread = after.spread();
    let share = |name: &str| spread.get(name).copied().unwrap_or(0);
    let meant = share("backend-1") == 0
        && share("backend-4") > 0
        && share("backend-3") > share("backend-2").max(share("backend-4")) * 3 / 2;
    summary.add("the new backends and weights are in force", meant, shares(&after));
    Ok(())
}

fn controller_restarted(stage: &mut Stage, summary: &mut Summary) -> Result<()> {
    let client = stage.topology.client.clone();
    let (pings, traffic) = (pings(stage)?, load().start(&client));
    sleep(CALM);
    let launch = stage.tidegate.launch();
    stage.tidegate.process().signal(Signal::SIGTERM)?;
    let stopped = stage.tidegate.process().wait(PATIENCE)?;
    ensure!(stopped.code() == Some(0), "the controller ended with {} after TERM:\n{}", stopped.status, stopped.stderr);
    sleep(CALM);
    stage.tidegate = launch.clone().start().context("it did not start again after TERM")?;
    sleep(CALM);
    stage.tidegate.process().kill();
    sleep(CALM);
    stage.tidegate = launch.start().context("it did not start again after kill -9")?;
    sleep(CALM);
    let (report, pinged) = (traffic.stop(), pings.stop());
    let failed = report.failures().count() + pinged.failures().count();
    summary.add(
        "the controller restarts, and no request or long connection fails",
        failed == 0,
        format!(
            "{} requests and {} questions on {LONG_CONNECTIONS} long connections, {failed} failed{}{}",
            report.samples.len(),
            pinged.samples.len(),
            reasons(&report),
            reasons(&pinged)
        ),
    );
    Ok(())
}

fn detached(stage: &mut Stage, summary: &mut Summary) -> Result<()> {
    let detach = stage.tidegate.command(&["detach"])?;
    let ended = stage.tidegate.process().wait(PATIENCE)?;
    let refused = Load { sources: Topology::sources()[..1].to_vec(), ..load() }.once(&stage.topology.client);
    summary.add(
        "detach takes everything away",
        detach.code() == Some(0) && ended.code() == Some(0) && refused.failures().count() == 1,
        format!("detach ended with {}, the controller with {}; nobody balances any more", detach.status, ended.status),
    );
    announced::gone(&stage.topology, summary)
}

fn load() -> Load {
    Load::new(Topology::sources(), TARGET)
}

fn pings(stage: &Stage) -> Result<Pings> {
    let sources = Topology::sources();
    Pings::start(&stage.topology.client, &sources[..LONG_CONNECTIONS], TARGET, Duration::from_millis(20))
}

fn server(stage: &mut Stage, index: usize) -> Result<&mut Server> {
    stage.servers.get_mut(index).context("there is no such backend")
}

fn wait_for_up(tidegate: &Tidegate, names: &[&str]) -> Result<()> {
    let what = format!("{} up", names.join(", "));
    tidegate.wait_until(&what, PATIENCE, |answer| names.iter().all(|name| state(answer, name) == "up"))?;
    Ok(())
}

/// A backend's state in what `backends --json` says; empty where it is not there.
fn state<'a>(answer: &'a Value, name: &str) -> &'a str {
    let services = answer["services"].as_array().into_iter().flatten();
    let mut backends = services.flat_map(|service| service["backends"].as_array().into_iter().flatten());
    backends.find(|backend| backend["name"] == name).and_then(|backend| backend["state"].as_str()).unwrap_or_default()
}

fn shares(report: &Report) -> String {
    let spread: Vec<_> = report.spread().iter().map(|(backend, answers)| format!("{backend}: {answers}")).collect();
    if spread.is_empty() { "nobody answered".to_owned() } else { spread.join(", ") }
}

/// The failures of a report, on lines of their own.
fn reasons(report: &Report) -> String {
    if report.failures().next().is_none() { String::new() } else { format!("\n   {report}") }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("       {line}\n")).collect()
}
