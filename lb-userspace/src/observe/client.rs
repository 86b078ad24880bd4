//! The admin API's client: one question, one answer.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::Value;

use super::{FAILED, NOBODY, NOT_PERMITTED, Request, Response};

/// How long an answer may take: longer than the server waits for the loop.
const PATIENCE: Duration = Duration::from_secs(65);

/// Why there is no answer, and the exit code that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A sentence for the person who asked.
    pub text: String,
    /// The exit code.
    pub code: u8,
}

/// Asks the controller behind `socket`.
pub fn ask(socket: &Path, request: &Request) -> Result<Value, Refusal> {
    send(socket, request, &[])
}

/// Asks, with octets that follow the question.
pub fn send(socket: &Path, request: &Request, octets: &[u8]) -> Result<Value, Refusal> {
    let mut stream = UnixStream::connect(socket).map_err(|error| unreachable(socket, &error))?;
    let line = converse(&mut stream, request, octets)
        .map_err(|error| Refusal { text: no_answer(socket, &error), code: FAILED })?;
    document(socket, &line)
}

/// Asks, and hands over what comes line by line, until `take` has had enough or the controller goes.
pub fn follow(
    socket: &Path,
    request: &Request,
    mut take: impl FnMut(Value) -> Result<bool, Refusal>,
) -> Result<(), Refusal> {
    let gone = |error: &io::Error| Refusal { text: no_answer(socket, error), code: FAILED };
    let mut stream = UnixStream::connect(socket).map_err(|error| unreachable(socket, &error))?;
    say(&mut stream, request, &[]).map_err(|error| gone(&error))?;
    for line in BufReader::new(stream).lines() {
        if !take(document(socket, &line.map_err(|error| gone(&error))?)?)? {
            return Ok(());
        }
    }
    let text =
        format!("the balancer behind {} has stopped, or gave up on a reader that took nothing", socket.display());
    Err(Refusal { text, code: NOBODY })
}

fn document(socket: &Path, line: &str) -> Result<Value, Refusal> {
    match serde_json::from_str(line) {
        Ok(Response::Ok { ok }) => Ok(ok),
        Ok(Response::Error { error, code }) => Err(Refusal { text: error, code }),
        Err(_) => Err(Refusal {
            text: format!("whoever answers at {} is no tidegate, or one of another version", socket.display()),
            code: FAILED,
        }),
    }
}

fn converse(stream: &mut UnixStream, request: &Request, octets: &[u8]) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    say(stream, request, octets)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"));
    }
    Ok(answer)
}

fn say(stream: &mut UnixStream, request: &Request, octets: &[u8]) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    line.extend(octets);
    stream.write_all(&line)
}

fn no_answer(socket: &Path, error: &io::Error) -> String {
    let path = socket.display();
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("the balancer at {path} gave no answer within {} s", PATIENCE.as_secs())
        }
        _ => format!("the balancer at {path} gave no answer: {error}"),
    }
}

fn unreachable(socket: &Path, error: &io::Error) -> Refusal {
    let path = socket.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => Refusal {
            text: format!("not permitted to talk to {path}: run as root or in the socket's group"),
            code: NOT_PERMITTED,
        },
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Refusal {
            text: format!("no balancer is running behind {path}; start one with `tidegate run`, or name its --socket"),
            code: NOBODY,
        },
        _ => Refusal { text: format!("cannot talk to the balancer at {path}: {error}"), code: NOBODY },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_takes_too_long_is_called_that() {
        let text = no_answer(Path::new("/s"), &io::Error::from_raw_os_error(libc::EAGAIN));
        assert_eq!(text, "the balancer at /s gave no answer within 65 s");
    }
}
