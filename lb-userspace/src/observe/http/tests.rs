//! What clients get over HTTP, well behaved or not.

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    sync::broadcast,
};

use super::*;
use crate::control::{Following, Question};

/// What the loop of a test answers to whether it is ready; `None` is a loop that is stuck.
type Pulse = Option<&'static str>;

/// A server over a loop that knows one service.
async fn server(pulse: Pulse) -> SocketAddr {
    let door = Door::open("127.0.0.1:0".parse().unwrap()).await;
    assert_eq!(door.fault(), None);
    let (send, mut events) = mpsc::channel(16);
    tokio::spawn(door.serve(send));
    let Some(Event::Http(Ok(address))) = events.recv().await else { panic!("it does not say where") };
    answer(events, pulse);
    address
}

/// The loop.
fn answer(mut events: mpsc::Receiver<Event>, pulse: Pulse) {
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Some(event) = events.recv().await {
            match (event, pulse) {
                (event, None) => kept.push(event),
                (Event::Ask(Question::Readiness, answer), Some(reason)) => {
                    drop(answer.send(Ok(json!({"ready": reason.is_empty(), "reason": reason}))));
                }
                (Event::Ask(Question::Backends(Some(name)), answer), _) if name == "large" => {
                    drop(answer.send(Ok(json!("x".repeat(8 << 20)))));
                }
                (Event::Ask(Question::Backends(Some(name)), answer), _) if name != "a b" => {
                    drop(answer.send(Err(format!("there is no service {name}; there is: a b"))));
                }
                (Event::Ask(Question::Services, answer), _) => drop(answer.send(Err("no memory".to_owned()))),
                (Event::Ask(question, answer), _) => drop(answer.send(Ok(json!({"asked": format!("{question:?}")})))),
                (Event::Measure(answer), _) => drop(answer.send(Err("no counters".to_owned()))),
                (Event::Follow(limit, following), _) => {
                    let next = broadcast::Sender::new(1).subscribe();
                    assert_eq!(limit, 7);
                    drop(following.send(Following { past: Vec::new(), next }));
                }
                _ => {}
            }
        }
    });
}

/// Sends a request as it stands and returns all that comes back until the server closes.
async fn say(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

/// The status and the body of a page.
async fn page(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let answer = say(address, &format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn every_path_has_its_answer() {
    let address = server(Some("")).await;
    for (path, status, body) in [
        ("/healthz", 200, "ok\n"),
        ("/readyz", 200, "ready\n"),
        ("/v1/status", 200, "{\"asked\":\"Status\"}\n"),
        ("/v1/backends", 200, "{\"asked\":\"Backends(None)\"}\n"),
        ("/v1/backends?service=a%20b", 200, "{\"asked\":\"Backends(Some(\\\"a b\\\"))\"}\n"),
        ("/v1/backends?service=c", 404, "{\"error\":\"there is no service c; there is: a b\"}\n"),
        ("/v1/backends?service=c&service=d", 400, "{\"error\":\"service is there twice\"}\n"),
        ("/v1/backends?servce=c", 400, "{\"error\":\"servce means nothing here; there is: service\"}\n"),
        ("/v1/status?x", 400, "{\"error\":\"x means nothing here: this page takes no keys\"}\n"),
        ("/v1/services", 500, "{\"error\":\"no memory\"}\n"),
        (
            "/v1/flows?client=192.0.2.7&all=true&limit=9",
            200,
            "{\"asked\":\"Flows(FlowsAsked { service: None, client: Some(192.0.2.7), all: true, limit: 9 })\"}\n",
        ),
        ("/v1/flows?client=web", 400, "{\"error\":\"client: web is not an IPv4 address\"}\n"),
        ("/v1/flows?all=1", 400, "{\"error\":\"all: 1 is neither true nor false\"}\n"),
        ("/v1/explain?client=192.0.2.7", 400, "{\"error\":\"vip is missing\"}\n"),
        ("/v1/events?limit=7", 200, ""),
        ("/v1/events?limit=-1", 400, "{\"error\":\"limit: -1 is not a number\"}\n"),
        ("/metrics", 500, "{\"error\":\"no counters\"}\n"),
    ] {
        assert_eq!(page(address, "GET", path).await, (status, body.to_owned()), "{path}");
    }
    let (status, body) = page(address, "GET", "/").await;
    assert_eq!(status, 404);
    assert!(body.starts_with("there is no /; there is:\n/metrics\n/healthz\n"), "{body}");
    assert_eq!(page(address, "POST", "/v1/status").await.0, 405);
    assert_eq!(page(address, "HEAD", "/healthz").await, (200, String::new()));
    assert!(say(address, "nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn not_ready_says_why_and_is_healthy() {
    let address = server(Some("ip_forward is 0")).await;
    assert_eq!(page(address, "GET", "/readyz").await, (503, "not ready: ip_forward is 0\n".to_owned()));
    assert_eq!(page(address, "GET", "/healthz").await, (200, "ok\n".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_is_stuck_is_not_healthy() {
    let address = server(None).await;
    for path in ["/healthz", "/readyz"] {
        let text = "the controller's loop gave no answer within 2 s\n".to_owned();
        assert_eq!(page(address, "GET", path).await, (503, text), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn clients_that_hold_connections_open_do_no_harm() {
    let address = server(Some("")).await;
    // More than there is room for: some say nothing, some not all, some have an answer and stay.
    let mut held = Vec::new();
    for text in ["", "GET /healthz HTTP/1.1\r\nHost:", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"] {
        for _ in 0..CONNECTIONS / 2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            held.push(stream);
        }
    }
    assert_eq!(page(address, "GET", "/healthz").await.0, 200);
    for mut stream in held {
        let mut answer = Vec::new();
        // All of them are closed by us.
        let _ = time::timeout(LIFE, stream.read_to_end(&mut answer)).await.expect("it is held open for ever");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_take_its_answer_is_left_when_its_time_is_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (send, events) = mpsc::channel(16);
    tokio::spawn(async move { take(&listener, 1, &send).await });
    answer(events, Some(""));
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stuck = socket.connect(address).await.unwrap();
    stuck.write_all(b"GET /v1/backends?service=large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let start = time::Instant::now();
    assert_eq!(page(address, "GET", "/healthz").await.0, 200);
    assert!(start.elapsed() >= LIFE, "it had its answer whole after {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_endless_client_is_closed_when_its_time_is_over() {
    let address = server(Some("")).await;
    let start = time::Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answer = vec![0; 4096];
    loop {
        if stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.is_err() {
            break;
        }
        if stream.read(&mut answer).await.unwrap_or(0) == 0 {
            break;
        }
        time::sleep(Duration::from_secs(1)).await;
    }
    assert!(start.elapsed() >= LIFE && start.elapsed() < 2 * LIFE, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_taken_is_named_and_taken_when_it_is_free() {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = other.local_addr().unwrap();
    let door = Door::open(address).await;
    let fault = door.fault().unwrap();
    assert!(fault.starts_with(&format!("cannot serve HTTP at {address}: somebody else listens there")), "{fault}");
    let (send, mut events) = mpsc::channel(1);
    tokio::spawn(door.serve(send));
    assert!(matches!(events.recv().await, Some(Event::Http(Err(_)))));
    assert!(time::timeout(AGAIN * 3, events.recv()).await.is_err(), "it is said once");
    drop(other);
    assert!(matches!(events.recv().await, Some(Event::Http(Ok(found))) if found == address));
}
