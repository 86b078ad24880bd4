//! What clients get, well behaved or not.

use std::{io::Write as _, os::unix::net::UnixListener as StdUnixListener};

use serde_json::json;

use super::*;
use crate::observe::client::{Refusal, ask as ask_at};

/// A server whose loop knows one service.
fn server(path: &Path) -> mpsc::Receiver<()> {
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
                Event::Ask(question, answer) => drop(answer.send(Ok(json!(format!("{question:?}"))))),
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
