//! What clients get, well behaved or not.

use std::{io::Write as _, os::unix::net::UnixListener as StdUnixListener};

use serde_json::json;
use tokio::sync::broadcast;

use super::*;
use crate::observe::{
    client::{Refusal, ask as ask_at, send},
    documents::Happening,
};

/// A server whose loop knows one service.
fn server(path: &Path) -> mpsc::Receiver<()> {
    following(path, broadcast::Sender::new(4))
}

/// The same, whose state changes come from the test.
fn following(path: &Path, happenings: broadcast::Sender<Arc<Happening>>) -> mpsc::Receiver<()> {
    let socket = Socket::bind(path).unwrap();
    let (send, mut events) = mpsc::channel(16);
    let (done, is_done) = mpsc::channel(1);
    tokio::spawn(socket.serve("/sys/fs/bpf/here".into(), send, done));
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            match event {
                Event::Ask(Question::Backends(Some(name)), answer) => {
                    drop(answer.send(Err(format!("no service {name}"))));
                }
                Event::Ask(Question::Diff(model), answer) => {
                    drop(answer.send(Ok(json!(model.services.keys().collect::<Vec<_>>()))));
                }
                Event::Ask(question, answer) => drop(answer.send(Ok(json!(format!("{question:?}"))))),
                Event::Follow(limit, send) => {
                    let past = vec![Arc::new(happening(&format!("the last {limit}")))];
                    drop(send.send(Following { past, next: happenings.subscribe() }));
                }
                Event::Detach(done) => {
                    drop(done.send(Ok(())));
                    return;
                }
                _ => {}
            }
        }
    });
    is_done
}

fn happening(reason: &str) -> Happening {
    let (time, kind) = ("2026-01-02T03:04:05.006Z".to_owned(), "ready".to_owned());
    Happening { time, kind, service: None, backend: None, from: None, to: None, reason: reason.to_owned() }
}

async fn asked(path: &Path, request: Request) -> Result<serde_json::Value, Refusal> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || ask_at(&path, &request)).await.unwrap()
}

#[tokio::test]
async fn answers_and_refuses() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/admin.sock");
    let nobody = asked(&path, Request::Status {}).await.unwrap_err();
    assert_eq!(nobody.code, 69);
    let _done = server(&path);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert_eq!(asked(&path, Request::Status {}).await.unwrap(), json!("Status"));
    let unknown = asked(&path, Request::Backends { service: Some("wep".into()) }).await.unwrap_err();
    assert_eq!(unknown, Refusal { text: "no service wep".into(), code: 1 });
    let elsewhere = asked(&path, Request::Detach { pin_dir: "/sys/fs/bpf/there".into() }).await.unwrap_err();
    assert_eq!(elsewhere.code, ELSEWHERE);
    assert!(asked(&path, Request::Detach { pin_dir: "/sys/fs/bpf/here".into() }).await.is_ok());
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    drop(StdUnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let _done = server(&path);
    let error = Socket::bind(&path).unwrap_err().to_string();
    assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
    assert_eq!(asked(&path, Request::Status {}).await.unwrap(), json!("Status"));
    let file = directory.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(Socket::bind(&file).unwrap_err().to_string().contains("is no socket"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "x");
}

#[tokio::test]
async fn bad_clients_do_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let _done = server(&path);
    let say = async |text: Vec<u8>| {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        let _ = stream.write_all(&text).await;
        let mut answer = String::new();
        let _ = BufReader::new(stream).read_line(&mut answer).await;
        answer
    };
    assert!(say(b"what?\n".to_vec()).await.contains("not a request"));
    assert!(say(b"{\"ask\":\"status\",\"x\":1}\n".to_vec()).await.contains("not a request"));
    assert!(say(vec![b'x'; LONGEST as usize + 1]).await.contains("64 KiB"));
    // More silent clients than there is room for: others are served when their patience ends.
    let silent: Vec<_> = (0..CLIENTS).map(|_| StdUnixStream::connect(&path).unwrap()).collect();
    let mut half = StdUnixStream::connect(&path).unwrap();
    half.write_all(b"{").unwrap();
    assert_eq!(asked(&path, Request::Status {}).await.unwrap(), json!("Status"));
    drop(silent);
}

/// A follower: its connection, and the reasons of what it has read.
struct Follower(BufReader<UnixStream>);

impl Follower {
    async fn at(path: &Path) -> Self {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(b"{\"ask\":\"events\",\"limit\":7,\"follow\":true}\n").await.unwrap();
        Self(BufReader::new(stream))
    }

    /// The reason in the next line, or the refusal; nothing where the server has closed.
    async fn next(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        let text = line["ok"]["reason"].as_str().or(line["error"].as_str());
        text.unwrap_or_default().to_owned()
    }
}

#[tokio::test]
async fn a_follower_hears_the_past_and_what_comes_and_how_much_it_missed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let happenings = broadcast::Sender::new(4);
    let _done = following(&path, happenings.clone());
    let past = asked(&path, Request::Events { limit: 3, follow: false }).await.unwrap();
    assert_eq!(past["events"][0]["reason"], "the last 3");
    let mut follower = Follower::at(&path).await;
    assert_eq!(follower.next().await, "the last 7");
    // In one go, so that none can be taken between them: a task runs on this thread only while we wait.
    for number in 0..6 {
        happenings.send(Arc::new(happening(&number.to_string()))).unwrap();
    }
    assert_eq!(follower.next().await, "2 state changes came faster than you took them");
    assert_eq!([follower.next().await, follower.next().await], ["2", "3"]);
    drop(follower);
    time::timeout(PATIENCE, async {
        while happenings.receiver_count() > 0 {
            time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("a follower that went is still followed by us");
}

#[tokio::test]
async fn followers_leave_room_for_others() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let _done = server(&path);
    let mut followers = Vec::new();
    for _ in 0..FOLLOWERS {
        let mut follower = Follower::at(&path).await;
        assert_eq!(follower.next().await, "the last 7");
        followers.push(follower);
    }
    let refused = Follower::at(&path).await.next().await;
    assert!(refused.starts_with("16 follow the events already"), "{refused}");
    assert_eq!(asked(&path, Request::Status {}).await.unwrap(), json!("Status"));
}

#[tokio::test]
async fn a_follower_that_takes_nothing_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let happenings = broadcast::Sender::new(4);
    let _done = following(&path, happenings.clone());
    let mut stuck = Follower::at(&path).await;
    assert_eq!(stuck.next().await, "the last 7");
    // Time stands still unless all wait for it: what follows is over at once.
    time::pause();
    let large = Arc::new(happening(&"x".repeat(1 << 16)));
    while happenings.receiver_count() > 0 {
        let _ = happenings.send(Arc::clone(&large));
        time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_file_that_follows_its_question_is_read_and_understood() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let _done = server(&path);
    let compared = async |octets: usize, text: String| {
        let (path, request) = (path.clone(), Request::Diff { file: "n.yaml".to_owned(), octets });
        tokio::task::spawn_blocking(move || send(&path, &request, text.as_bytes())).await.unwrap()
    };
    let good = "version: 1\nservices:\n  web: {listen: 203.0.113.10:80, backends: [10.0.1.1]}\n";
    // Larger than a line may be.
    let large = good.to_owned() + &"# words\n".repeat(100_000);
    assert_eq!(compared(large.len(), large).await.unwrap(), json!(["web"]));
    let bad = compared(10, "version: 2".to_owned()).await.unwrap_err();
    assert!(bad.code == 78 && bad.text.contains("n.yaml:1:1"), "{bad:?}");
    let vast = compared(usize::MAX, String::new()).await.unwrap_err();
    assert!(vast.code == 1 && vast.text.contains("at most 16777216"), "{vast:?}");
    assert_eq!(asked(&path, Request::Status {}).await.unwrap(), json!("Status"));
}
