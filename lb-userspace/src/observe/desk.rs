//! Where a question becomes an event, for every way in which it can be asked. Nothing is decided here.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot},
    time,
};

use super::{FAILED, Response};
use crate::control::{Event, Following, Question};

/// How long the loop may take to answer.
const ANSWERED: Duration = Duration::from_secs(60);

/// What the loop answers to a question.
pub(super) async fn ask(question: Question, events: &mpsc::Sender<Event>) -> Response {
    let (answer, answered) = oneshot::channel();
    match heard(events, Event::Ask(question, answer), answered).await {
        Ok(Ok(ok)) => Response::Ok { ok },
        Ok(Err(error)) => failed(error),
        Err(response) => response,
    }
}

/// The last so many state changes, and those that come.
pub(super) async fn follow(limit: usize, events: &mpsc::Sender<Event>) -> Result<Following, Response> {
    let (send, following) = oneshot::channel();
    heard(events, Event::Follow(limit, send), following).await
}

/// Sends an event and waits for what comes of it.
pub(super) async fn heard<T>(
    events: &mpsc::Sender<Event>,
    event: Event,
    answered: oneshot::Receiver<T>,
) -> Result<T, Response> {
    let answer = time::timeout(ANSWERED, async {
        events.send(event).await.ok()?;
        answered.await.ok()
    });
    match answer.await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(failed("the controller is stopping".to_owned())),
        Err(_) => Err(failed(format!("the controller gave no answer within {} s", ANSWERED.as_secs()))),
    }
}

pub(super) fn failed(error: String) -> Response {
    Response::Error { error, code: FAILED }
}
