//! The file as operators write it: what is read, and what is said about what cannot be.
//!
//! Beside this, `config/*.yaml` are files with faults and `*.faults` is what `check` says of each.
//! `UPDATE=1 cargo test -p lb-userspace --test config` writes them anew; read the difference.

use std::{
    fs, io,
    net::{SocketAddr, SocketAddrV4},
    num::NonZeroU32,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use lb_userspace::{
    commands::check::check,
    config::{self, Faults, MAX_FILE},
    model::{
        Access, AllDown, Backend, Drain, Health, Http, Limits, LiveFlows, LogConnections, Measure, Model, Rate, Retry,
        Service, Timeouts, XdpMode,
    },
};

const SMALLEST: &str = "version: 1\nservices:\n  web:\n    listen: 203.0.113.10:80\n    backends: [10.0.1.11:8080]\n";

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

#[track_caller]
fn model(text: &str) -> Model {
    match config::parse(text, "tidegate.yaml") {
        Ok((model, warnings)) if warnings.is_empty() => model,
        Ok((_, warnings)) => panic!("{}", warnings[0]),
        Err(faults) => panic!("{faults}"),
    }
}

#[track_caller]
fn faults(text: &str) -> Faults {
    config::parse(text, "tidegate.yaml").expect_err("a fault")
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(text: &str) -> SocketAddrV4 {
    text.parse().expect("an address and port")
}

#[test]
fn every_fault_is_said_as_expected() {
    let mut wrong = Vec::new();
    let mut files: Vec<PathBuf> =
        fs::read_dir(here()).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(!files.is_empty());
    for path in files {
        let name = path.file_name().expect("a name").to_str().expect("UTF-8");
        let octets = fs::read(&path).expect("readable");
        let said = match config::parse_octets(&octets, name) {
            Ok((_, warnings)) => warnings.iter().map(|warning| format!("{warning}\n")).collect(),
            Err(faults) => {
                let warnings: String = faults.warnings.iter().map(|warning| format!("{warning}\n")).collect();
                format!("{faults}\n{warnings}")
            }
        };
        let unhelped = said.matches(&format!("{name}:")).count() - said.matches("\n   help: ").count();
        assert_eq!(unhelped, 0, "every fault says what to do: {said}");
        let expected = path.with_extension("faults");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&expected, &said).expect("writable");
        } else if fs::read_to_string(&expected).unwrap_or_default() != said {
            let expected = fs::read_to_string(&expected).unwrap_or_default();
            let line = said.lines().zip(expected.lines()).take_while(|(a, b)| a == b).count();
            let line_of = |text: &str| text.lines().nth(line).unwrap_or("(the end)").to_owned();
            wrong.push(format!("{name}: expected {}\n{name}:      got {}", line_of(&expected), line_of(&said)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_that_is_promised_is_unknown() {
    let promised = fs::read_to_string(here().join("design-full-shape.yaml")).expect("readable");
    let faults = faults(&promised).faults;
    assert!(faults.iter().all(|fault| fault.message.contains("this version does not have ")), "{faults:?}");
    assert_eq!(faults.len(), 13);
}

#[test]
fn the_smallest_file_has_all_defaults() {
    let model = model(SMALLEST);
    assert_eq!((model.node.interfaces.len(), model.node.xdp, model.node.max_flows), (0, XdpMode::Auto, 1_000_000));
    assert!(model.node.announce_vips);
    assert_eq!((model.log_level, model.log_connections), (None, LogConnections::Off));
    assert_eq!((model.socket, model.http), (None, None));
    let web = Service {
        listen: vec![at("203.0.113.10:80")],
        slots: 4093,
        health: Some(Health {
            port: None,
            interval: seconds(2),
            timeout: seconds(1),
            rise: NonZeroU32::new(2).expect("two"),
            fall: NonZeroU32::new(3).expect("three"),
        }),
        timeouts: Timeouts { syn: seconds(60), established: seconds(7800), fin: seconds(30) },
        drain: Drain { time: seconds(300), then: LiveFlows::Keep },
        all_down: AllDown::Reject,
        on_down: LiveFlows::Keep,
        retry: Retry::None,
        measure: Measure::FirstByte,
        limits: Limits { rate: None, per_source: None },
        access: Access { allow: None, deny: [].into() },
        backends: vec![Backend { name: None, address: at("10.0.1.11:8080"), weight: 1 }],
    };
    assert_eq!(model.services.into_iter().collect::<Vec<_>>(), [("web".to_owned(), web)]);
}

#[test]
fn defaults_and_short_forms_mean_the_long_form() {
    let long = "
version: 1
node: {interfaces: [], xdp: auto, max_flows: 1_000_000, announce_vips: true}
log: {connections: off}
admin: {}
defaults:
  mode: nat
  algorithm: source-hash
  protocol: tcp
  slots: 4093
  timeouts: {syn: 60s, established: 2h10m, fin: 30s}
  drain: {for: 5m, then: keep}
  all_down: reject
  on_down: keep
  retry: none
  measure: first-byte
  limits: none
  allow: none
  deny: none
  health: {tcp: {}, interval: 2s, timeout: 1s, rise: 2, fall: 3}
services:
  web:
    listen: [\"203.0.113.10:80\"]
    protocol: tcp
    mode: nat
    algorithm: source-hash
    slots: 4093
    timeouts: {syn: 1m, established: 130m, fin: 30s}
    drain: 300s
    limits: {rate: none, per_source: none}
    health: {tcp: {}, interval: 2000ms, timeout: 1s, rise: 2, fall: 3}
    backends:
      - {address: '10.0.1.11:8080', weight: 1}
";
    assert_eq!(model(long), model(SMALLEST));
    let empty = format!("node:\nlog:\nadmin:\ndefaults:\n{SMALLEST}");
    assert_eq!(model(&empty), model(SMALLEST));
    assert_eq!(model(&format!("\u{feff}{}", SMALLEST.replace('\n', "\r\n"))), model(SMALLEST));
}

#[test]
fn defaults_merge_key_by_key() {
    let services = model(
        "
version: 1
defaults: {slots: 65537, drain: 1m, health: {tcp: {port: 9}, interval: 5s, fall: 7}}
services:
  as-default: {listen: 203.0.113.10:1, backends: [10.0.0.1]}
  own-time: {listen: 203.0.113.10:2, backends: [10.0.0.1], health: {interval: 3s}, slots: 4093}
  own-kind: {listen: 203.0.113.10:3, backends: [10.0.0.1], health: {tcp: }, drain: {for: 2m}}
  none: {listen: 203.0.113.10:4, backends: [10.0.0.1], health: none}
",
    )
    .services;
    let health = |name: &str| services[name].health.clone().map(|h| (h.port, h.interval.as_secs(), h.fall.get()));
    assert_eq!(health("as-default"), Some((Some(9), 5, 7)));
    assert_eq!(health("own-time"), Some((Some(9), 3, 7)));
    assert_eq!(health("own-kind"), Some((None, 5, 7)));
    assert_eq!(health("none"), None);
    let rest = |name: &str| (services[name].slots, services[name].drain.time.as_secs());
    assert_eq!((rest("as-default"), rest("own-time"), rest("own-kind")), ((65537, 60), (4093, 60), (65537, 120)));
}

#[test]
fn policy_merges_key_by_key_and_none_switches_off() {
    let services = model(
        "
version: 1
defaults:
  timeouts: {syn: 5s, established: 1h}
  drain: {for: 1m, then: reset}
  all_down: any
  on_down: reset
  retry: refused
  measure: handshake
  limits: {rate: 600/m, per_source: 200}
  allow: [192.0.2.0/24, 10.0.0.0/8, 10.0.0.0/8, \"::/0\"]
  deny: 10.1.2.3
services:
  as-default: {listen: 203.0.113.10:1, backends: [10.0.0.1]}
  own: {listen: 203.0.113.10:2, backends: [10.0.0.1], timeouts: {fin: 7s}, drain: 2m, limits: {per_source: 9},
        deny: [10.9.0.0/16], on_down: keep, all_down: drop, measure: none}
  off: {listen: 203.0.113.10:3, backends: [10.0.0.1], limits: none, allow: none, deny: none, retry: none,
        drain: {then: keep}}
  half: {listen: 203.0.113.10:4, backends: [10.0.0.1], limits: {rate: none}, deny: []}
",
    )
    .services;
    let times = |name: &str| {
        let Timeouts { syn, established, fin } = services[name].timeouts;
        (syn.as_secs(), established.as_secs(), fin.as_secs(), services[name].drain.time.as_secs())
    };
    assert_eq!((times("as-default"), times("own")), ((5, 3600, 30, 60), (5, 3600, 7, 120)));
    let ends = |name: &str| (services[name].drain.then, services[name].on_down, services[name].all_down);
    assert_eq!(ends("as-default"), (LiveFlows::Reset, LiveFlows::Reset, AllDown::Any));
    assert_eq!(ends("own"), (LiveFlows::Reset, LiveFlows::Keep, AllDown::Drop));
    assert_eq!(ends("off"), (LiveFlows::Keep, LiveFlows::Reset, AllDown::Any));
    let looks = |name: &str| (services[name].retry, services[name].measure);
    assert_eq!(looks("as-default"), (Retry::Refused, Measure::Handshake));
    assert_eq!((looks("own"), looks("off").0), ((Retry::Refused, Measure::None), Retry::None));
    let limits = |name: &str| (services[name].limits.rate, services[name].limits.per_source.map(NonZeroU32::get));
    let rate = NonZeroU32::new(600).map(|connections| Rate { connections, time: seconds(60) });
    assert_eq!((limits("as-default"), limits("own")), ((rate, Some(200)), (rate, Some(9))));
    assert_eq!((limits("off"), limits("half")), ((None, None), (None, Some(200))));
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a prefix")).collect::<Arc<[_]>>();
    let access = |name: &str| services[name].access.clone();
    let allow = Some(nets(&["10.0.0.0/8", "192.0.2.0/24"]));
    assert_eq!(access("as-default"), Access { allow: allow.clone(), deny: nets(&["10.1.2.3/32"]) });
    assert_eq!(access("own"), Access { allow: allow.clone(), deny: nets(&["10.9.0.0/16"]) });
    assert_eq!((access("off"), access("half")), (Access::default(), Access { allow, deny: [].into() }));
}

#[test]
fn node_admin_and_log_say_what_they_mean() {
    let model = |keys: &str| model(&format!("{keys}\n{SMALLEST}"));
    assert!(!model("node: {announce_vips: false}").node.announce_vips);
    assert_eq!(model("admin: {http: none}").http, Some(Http::Off));
    let http = |text: &str| text.parse::<SocketAddr>().ok().map(Http::At);
    assert_eq!(model("admin: {http: 192.0.2.1:80}").http, http("192.0.2.1:80"));
    assert_eq!(model("admin: {http: \"[::1]:9191\"}").http, http("[::1]:9191"));
    let logged = |word: &str| model(&format!("log: {{connections: {word}}}")).log_connections;
    assert_eq!((logged("errors"), logged("all")), (LogConnections::Errors, LogConnections::All));
    assert_eq!(NonZeroU32::new(100).map(LogConnections::OneIn), Some(logged("1/100")));
}

#[test]
fn anchors_and_merge_keys_work() {
    let services = model(
        "
version: 1
services:
  web: &web
    listen: 203.0.113.10:80
    drain: &short 10s
    backends: &hosts [10.0.0.1, {address: 10.0.0.2, weight: 5, name: b}]
  api: {<<: *web, listen: 203.0.113.10:81, drain: *short}
  app: {listen: 203.0.113.10:82, backends: *hosts}
",
    )
    .services;
    assert_eq!(services["api"].listen, [at("203.0.113.10:81")]);
    assert_eq!(services["api"].drain.time, seconds(10));
    assert_eq!(services["app"].backends[1], Backend { name: Some("b".into()), address: at("10.0.0.2:82"), weight: 5 });
}

#[test]
fn a_backend_without_a_port_gets_the_one_that_all_listens_have() {
    let text = "version: 1\nservices: {a: {listen: [203.0.113.1:80, 203.0.113.2:80], backends: [10.0.0.1]}}";
    assert_eq!(model(text).services["a"].backends[0].address, at("10.0.0.1:80"));
}

#[test]
fn words_that_other_yamls_take_for_truth_values_are_words() {
    let text = format!("log: {{level: off}}\nnode: {{interfaces: [no, on]}}\n{SMALLEST}");
    let model = model(&text.replace("web:", "yes:"));
    assert_eq!((model.log_level, model.node.interfaces), (Some(log::LevelFilter::Off), vec!["no".into(), "on".into()]));
    assert!(model.services.contains_key("yes"));
}

#[test]
fn the_example_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/tidegate.example.yaml");
    let checked = check(&path, false);
    assert_eq!((checked.stderr.as_str(), checked.code), ("", 0));
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault() -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let said = |path: &Path| {
        let checked = check(path, false);
        assert_eq!((checked.stdout.as_str(), checked.code), ("", 78));
        checked.stderr.replace(folder.path().to_str().expect("UTF-8"), "")
    };
    let missing = folder.path().join("missing.yaml");
    assert!(said(&missing).starts_with("/missing.yaml: there is no such file\n"));
    assert!(said(folder.path()).starts_with(": this is a directory\n"));
    let huge = folder.path().join("huge.yaml");
    fs::write(&huge, vec![b'#'; MAX_FILE + 1])?;
    assert!(said(&huge).starts_with("/huge.yaml: larger than 16 MiB\n"));
    assert!(said(Path::new("/dev/zero")).starts_with("/dev/zero: larger than 16 MiB\n"));
    let secret = folder.path().join("secret.yaml");
    fs::write(&secret, SMALLEST)?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000))?;
    // Root reads everything; so does whoever has CAP_DAC_OVERRIDE.
    if fs::read(&secret).is_err() {
        assert!(said(&secret).starts_with("/secret.yaml: not readable: permission denied\n"));
    } else {
        assert_eq!(check(&secret, false).code, 0);
    }
    assert!(said(&secret.join("x")).starts_with("/secret.yaml/x: not readable: Not a directory"));
    assert!(said(Path::new("/proc/self/mem")).starts_with("/proc/self/mem: not readable: Input/output error"));
    Ok(())
}

#[test]
fn check_counts_and_has_json() -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("tidegate.yaml");
    fs::write(&path, SMALLEST)?;
    let name = path.display();
    assert_eq!(check(&path, false).stdout, format!("{name}: ok: 1 service, 1 backend\n"));
    let json: serde_json::Value = serde_json::from_str(&check(&path, true).stdout).expect("JSON");
    assert_eq!(json, serde_json::json!({"file": name.to_string(), "ok": true, "faults": [], "warnings": []}));

    fs::write(&path, SMALLEST.replace(":80\n", ":70000\n").replace("8080]", "8080, 10.0.1.11:8080]"))?;
    let checked = check(&path, false);
    assert_eq!((checked.stdout.as_str(), checked.code), ("", 78));
    assert!(checked.stderr.ends_with(&format!("\n{name}: 2 faults\n")), "{}", checked.stderr);
    let json = check(&path, true);
    assert_eq!((json.stderr.as_str(), json.code), ("", 78));
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["ok"], false);
    let first = &json["faults"][0];
    assert_eq!(
        (&first["line"], &first["column"], &first["key"]),
        (&4.into(), &13.into(), &"services.web.listen".into())
    );
    assert_eq!(first["message"], "70000 is not a port (1 to 65535)");
    Ok(())
}

#[test]
fn a_summary_is_one_line() {
    let faults = faults("version: 2\nservices: {}\n");
    assert_eq!(faults.summary(), "tidegate.yaml:1:10: version: version 2 of the file is unknown here (and 1 more)");
}

#[test]
fn the_readmes_sample_of_a_fault_is_what_check_prints() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let faults = config::parse(&SMALLEST.replace(":80\n", ":70000\n"), "tidegate.yaml").unwrap_err().to_string();
    let lines: Vec<&str> = faults.lines().take(4).collect();
    assert!(faults.contains("70000 is not a port") && readme.contains(&lines.join("\n")), "{faults}");
}
