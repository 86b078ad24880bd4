//! How fast backends answer, as operators see it.

use std::{
    io::{Read as _, Write as _},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    endings::{one, pair},
    http::{metric, page},
    stage::Stage,
};

/// How long the backend thinks about each answer.
const THOUGHT: Duration = Duration::from_millis(50);

/// Five requests, each on a connection of its own, and what is known of the backend then.
fn timed(keys: &str) -> (Stage, Value) {
    let (stage, listener) = one(keys);
    for _ in 0..5 {
        let [mut client, mut server] = pair(&stage, &listener);
        for _ in 0..2 {
            client.write_all(b"ask").unwrap();
            server.read_exact(&mut [0; 3]).unwrap();
            thread::sleep(THOUGHT);
            server.write_all(b"say").unwrap();
            client.read_exact(&mut [0; 3]).unwrap();
        }
    }
    let service = stage.tidegate.ask(&["backends"]).unwrap()["services"][0].clone();
    (stage, service)
}

#[test]
fn the_first_answer_of_each_connection_is_timed() {
    let (stage, service) = timed("measure: first-byte");
    let line = &service["backends"][0];
    let average = line["average_ms"].as_f64().unwrap();
    assert!((50.0..200.0).contains(&average), "{service:#}");
    assert_eq!((&service["measure"], &line["timed"]), (&"first-byte".into(), &5.into()), "{service:#}");
    let sum = line["timed_ms"].as_f64().unwrap();
    assert!((250.0..1000.0).contains(&sum), "{service:#}");
    let text = page(stage.gateway(), "127.0.0.1:9191", "/metrics").unwrap().1;
    let of = |name: &str| format!("tidegate_backend_{name}{{service=\"web\",backend=\"backend-1\"}}");
    assert_eq!(metric::<u64>(&text, &of("responses_timed_total")), 5);
    assert_eq!(metric::<f64>(&text, &of("response_seconds")), average / 1e3);
    let table = stage.tidegate.command(&["backends"]).unwrap().stdout;
    assert!(table.contains("ANSWERS") && table.contains(&format!("{average:.1} ms")), "{table}");
}

#[test]
fn handshakes_are_timed_where_the_file_says_so() {
    let (_stage, service) = timed("measure: handshake");
    let line = &service["backends"][0];
    assert_eq!((&service["measure"], &line["timed"]), (&"handshake".into(), &5.into()), "{service:#}");
    let average = line["average_ms"].as_f64().unwrap();
    assert!(average > 0.0 && average < 50.0, "{service:#}");
}

#[test]
fn nothing_is_timed_where_the_file_says_so() {
    let (_stage, service) = timed("measure: none");
    let line = &service["backends"][0];
    assert_eq!((&service["measure"], &line["timed"]), (&"none".into(), &0.into()), "{service:#}");
    assert!(line["average_ms"].is_null(), "{service:#}");
}
