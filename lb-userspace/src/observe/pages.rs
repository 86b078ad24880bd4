//! The pages of HTTP: which question a path asks, and how its answer is told. A document of the controller is one
//! line here; nothing can be changed by any of them.

use std::{collections::BTreeMap, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use serde_json::json;
use tokio::{
    sync::{mpsc, oneshot},
    time,
};

use super::{
    Response as Refusal,
    desk::{follow, heard},
    documents::Readiness,
    metrics,
};
use crate::control::{Event, FlowsAsked, Question};

/// How long the loop may take to show that it lives.
const PULSE: Duration = Duration::from_secs(2);
/// State changes where nobody says how many.
const EVENTS: usize = 100;

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";
const TEXT: &str = "text/plain; charset=utf-8";

/// What is behind a path.
enum Page {
    Metrics,
    Health,
    Ready,
    Events,
    /// The document that `--json` prints.
    Document(fn(&mut Query) -> Result<Question, String>),
}

/// Every path, with the keys that its query may have.
const PAGES: &[(&str, &[&str], Page)] = &[
    ("/metrics", &[], Page::Metrics),
    ("/healthz", &[], Page::Health),
    ("/readyz", &[], Page::Ready),
    ("/v1/status", &[], Page::Document(|_| Ok(Question::Status))),
    ("/v1/services", &[], Page::Document(|_| Ok(Question::Services))),
    ("/v1/backends", &["service"], Page::Document(|query| Ok(Question::Backends(query.take("service"))))),
    ("/v1/flows", &["service", "client", "limit", "all"], Page::Document(flows)),
    ("/v1/explain", &["client", "vip"], Page::Document(explain)),
    ("/v1/events", &["limit"], Page::Events),
];

/// Connections where nobody says how many.
const FLOWS: usize = 1000;

fn flows(query: &mut Query) -> Result<Question, String> {
    let limit = query.number("limit")?.unwrap_or(FLOWS);
    let all = match query.take("all").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => return Err(format!("all: {other} is neither true nor false")),
    };
    let client = query.take("client").map(|text| match text.parse() {
        Ok(client) => Ok(client),
        Err(_) => Err(format!("client: {text} is not an IPv4 address")),
    });
    Ok(Question::Flows(FlowsAsked { service: query.take("service"), client: client.transpose()?, all, limit }))
}

fn explain(query: &mut Query) -> Result<Question, String> {
    let mut end = |key: &str| query.take(key).ok_or_else(|| format!("{key} is missing"));
    Ok(Question::Explain(end("client")?.parse()?, end("vip")?.parse()?))
}

/// What a client gets.
pub(super) async fn answer<B>(request: &Request<B>, events: &mpsc::Sender<Event>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let Some((_, keys, page)) = PAGES.iter().find(|(known, ..)| *known == path) else {
        let paths: Vec<&str> = PAGES.iter().map(|(path, ..)| *path).collect();
        return tell(StatusCode::NOT_FOUND, TEXT, format!("there is no {path}; there is:\n{}\n", paths.join("\n")));
    };
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut refusal = tell(
            StatusCode::METHOD_NOT_ALLOWED,
            TEXT,
            "HTTP only reads; what changes something is a command of `tidegate`\n".to_owned(),
        );
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    let mut query = match Query::read(request.uri().query().unwrap_or_default(), keys) {
        Ok(query) => query,
        Err(error) => return failed(StatusCode::BAD_REQUEST, &error),
    };
    match page {
        Page::Metrics => measured(events).await,
        Page::Health => healthy(events).await,
        Page::Ready => ready(events).await,
        Page::Events => happened(&mut query, events).await,
        Page::Document(question) => match question(&mut query) {
            Ok(question) => document(question, events).await,
            Err(error) => failed(StatusCode::BAD_REQUEST, &error),
        },
    }
}

async fn document(question: Question, events: &mpsc::Sender<Event>) -> Response<Full<Bytes>> {
    // Only of a thing that has a name can it be said that it is not there.
    let names = match &question {
        Question::Backends(service) | Question::Flows(FlowsAsked { service, .. }) => service.is_some(),
        question => matches!(question, Question::Explain(..)),
    };
    let (answer, answered) = oneshot::channel();
    match heard(events, Event::Ask(question, answer), answered).await {
        Ok(Ok(document)) => tell(StatusCode::OK, JSON, format!("{document}\n")),
        Ok(Err(error)) if names => failed(StatusCode::NOT_FOUND, &error),
        Ok(Err(error)) => failed(StatusCode::INTERNAL_SERVER_ERROR, &error),
        Err(refusal) => unheard(&refusal),
    }
}

async fn measured(events: &mpsc::Sender<Event>) -> Response<Full<Bytes>> {
    let (send, measures) = oneshot::channel();
    match heard(events, Event::Measure(send), measures).await {
        Ok(Ok(measures)) => tell(StatusCode::OK, metrics::MEDIA_TYPE, metrics::page(&measures)),
        Ok(Err(error)) => failed(StatusCode::INTERNAL_SERVER_ERROR, &error),
        Err(refusal) => unheard(&refusal),
    }
}

async fn happened(query: &mut Query, events: &mpsc::Sender<Event>) -> Response<Full<Bytes>> {
    let limit = match query.number("limit") {
        Ok(limit) => limit.unwrap_or(EVENTS),
        Err(error) => return failed(StatusCode::BAD_REQUEST, &error),
    };
    match follow(limit, events).await {
        Ok(following) => {
            let lines = following.past.iter().filter_map(|happening| serde_json::to_value(&**happening).ok());
            tell(StatusCode::OK, LINES, lines.map(|line| format!("{line}\n")).collect())
        }
        Err(refusal) => unheard(&refusal),
    }
}

/// Whether the loop turns: whoever restarts us by this shall not wait as long as one who asks.
async fn healthy(events: &mpsc::Sender<Event>) -> Response<Full<Bytes>> {
    match readiness(events).await {
        Some(_) => tell(StatusCode::OK, TEXT, "ok\n".to_owned()),
        None => stuck(),
    }
}

async fn ready(events: &mpsc::Sender<Event>) -> Response<Full<Bytes>> {
    match readiness(events).await {
        Some(Readiness { ready: true, .. }) => tell(StatusCode::OK, TEXT, "ready\n".to_owned()),
        Some(Readiness { reason, .. }) => tell(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {reason}\n")),
        None => stuck(),
    }
}

async fn readiness(events: &mpsc::Sender<Event>) -> Option<Readiness> {
    let (answer, answered) = oneshot::channel();
    let heard = heard(events, Event::Ask(Question::Readiness, answer), answered);
    let document = time::timeout(PULSE, heard).await.ok()?.ok()?.ok()?;
    serde_json::from_value(document).ok()
}

fn stuck() -> Response<Full<Bytes>> {
    let text = format!("the controller's loop gave no answer within {} s\n", PULSE.as_secs());
    tell(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
}

fn unheard(refusal: &Refusal) -> Response<Full<Bytes>> {
    let error = match refusal {
        Refusal::Error { error, .. } => error,
        Refusal::Ok { .. } => "the controller gave no answer",
    };
    failed(StatusCode::SERVICE_UNAVAILABLE, error)
}

fn failed(status: StatusCode, error: &str) -> Response<Full<Bytes>> {
    tell(status, JSON, format!("{}\n", json!({"error": error})))
}

fn tell(status: StatusCode, media_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What stands after the `?`: known keys, each once.
struct Query(BTreeMap<String, String>);

impl Query {
    fn read(text: &str, keys: &[&str]) -> Result<Self, String> {
        let mut values = BTreeMap::new();
        for (key, value) in form_urlencoded::parse(text.as_bytes()) {
            if !keys.contains(&key.as_ref()) {
                return Err(match keys {
                    [] => format!("{key} means nothing here: this page takes no keys"),
                    keys => format!("{key} means nothing here; there is: {}", keys.join(", ")),
                });
            }
            if values.insert(key.clone().into_owned(), value.into_owned()).is_some() {
                return Err(format!("{key} is there twice"));
            }
        }
        Ok(Self(values))
    }

    /// A value, where there is one.
    fn take(&mut self, key: &str) -> Option<String> {
        self.0.remove(key)
    }

    /// A value that is a number.
    fn number(&mut self, key: &str) -> Result<Option<usize>, String> {
        let Some(text) = self.take(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("{key}: {text} is not a number"))
    }
}
