//! The questions, and what is answered.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Buf;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    HeaderName, HeaderValue, REFERRER_POLICY, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use serde::Deserialize;
use serde_json::json;

use super::access::{Access, Peer};
use super::address::Address;
use super::body::Body;
use super::builder::Builder;
use super::check::{self, Check};
use super::events::{Events, Streams};
use super::exposition::Exposition;
use super::kept::Kept;
use super::server::Server;
use super::{own, stops};
use crate::error::Result;
use crate::shutdown::{ShutdownToken, Source, StopRequest};

/// The most bytes of a request's line and headers, and the most headers.
pub(super) const MAX_HEAD: usize = 16 * 1024;
pub(super) const MAX_HEADERS: usize = 32;
/// The most bytes of a request's body, and how long it may take to come.
const MAX_BODY: usize = 16 * 1024;
const BODY_LIMIT: Duration = Duration::from_secs(5);
/// How long a status or metrics may take to be made.
const LOOK_LIMIT: Duration = Duration::from_secs(2);
/// The most characters of a stop's message.
const MAX_MESSAGE: usize = 1000;

const PAGE: &str = include_str!("page.html");
/// The page has its style and script in it, and talks to where it came from; nothing else is loaded, and nobody frames it.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Answers what is asked of a program; see the [module](super). Clones are the same.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    token: ShutdownToken,
    is_ready: AtomicBool,
    checks: Vec<Check>,
    check_limit: Duration,
    access: Access,
    status: Kept<String>,
    metrics: Kept<String>,
    streams: Streams,
}

impl Health {
    /// Settings for a health of whoever `token` stops.
    pub fn builder(token: &ShutdownToken) -> Builder {
        Builder::new(token)
    }

    pub(super) fn new(builder: Builder) -> Self {
        let Builder {
            token,
            checks,
            check_limit,
            subject,
            access,
        } = builder;
        let (asked, of) = (token.clone(), subject.clone());
        let status = Kept::new("status", move || match &of {
            Some(subject) => subject.status(),
            None => stops::status(&asked),
        });
        // Of the whole, which is not made yet: through a reference that does not keep it alive.
        Self(Arc::new_cyclic(|this: &std::sync::Weak<Inner>| {
            let this = this.clone();
            let metrics = Kept::new("metrics", move || {
                let mut exposition = Exposition::new();
                if let Some(inner) = this.upgrade() {
                    inner.metrics(&mut exposition);
                }
                if let Some(subject) = &subject {
                    subject.metrics(&mut exposition);
                }
                exposition.finish()
            });
            Inner {
                token,
                is_ready: AtomicBool::new(false),
                checks,
                check_limit,
                access,
                status,
                metrics,
                streams: Streams::default(),
            }
        }))
    }

    /// Says whether the program has started up, and may be sent work: false at first. From the stop request on it is not ready, whatever is said here.
    pub fn set_ready(&self, ready: bool) {
        // Relaxed: a lone flag.
        self.0.is_ready.store(ready, Ordering::Relaxed);
    }

    /// Whether [`set_ready`](Self::set_ready) said so, and no stop was asked for; the checks are not looked at.
    pub fn is_ready(&self) -> bool {
        self.0.is_ready.load(Ordering::Relaxed) && !self.0.token.is_stopping()
    }

    /// Answers on `address` from a thread of its own, until the server is dropped. For programs that have no runtime, or that want `/health` to
    /// answer while their runtime hangs.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot listen there, for a port in use among others, or there is no thread to be had;
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy) when a live process listens on the socket; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when its path
    /// is something else than a socket.
    pub fn serve(&self, address: &Address) -> Result<Server> {
        Server::start(self.clone(), address)
    }

    /// Answers a request that `peer` sent. The future needs tokio's timer, as axum and hyper have it.
    ///
    /// The limits of the head are looked at here, and those of a body that is needed; the time-outs of a connection and how many there may be are
    /// up to the caller's server.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the request; a stop that it asked for stays asked for.
    pub async fn answer<B: http_body::Body>(
        &self,
        request: Request<B>,
        peer: Peer,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let is_head = head.method == Method::HEAD;
        let mut answer = match self.find(&head.method, &head.uri, &head.headers, peer) {
            Ok(question) => {
                self.reply(question, &head.uri, &head.headers, peer, body)
                    .await
            }
            Err(refusal) => refusal,
        };
        if is_head {
            // The length stays that of the whole.
            *answer.body_mut() = Body::whole("");
        }
        answer
    }

    /// What is asked, if it may be.
    fn find(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        peer: Peer,
    ) -> std::result::Result<Question, Response<Body>> {
        let question = Question::of(uri.path());
        // First the one that has to be quick.
        let is_open = matches!(question, Some(Question::Health | Question::Ready));
        if headers.len() > MAX_HEADERS || size(uri, headers) > MAX_HEAD {
            return Err(failure(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "at most 16 KiB and 32 headers",
            ));
        }
        if !is_open {
            self.0
                .access
                .check_origin(peer, uri, headers)
                .map_err(|refusal| failure(refusal.status, refusal.why))?;
        }
        let Some(question) = question else {
            return Err(failure(
                StatusCode::NOT_FOUND,
                "there are /, /health, /ready, /status, /metrics, /events, and POST /shutdown",
            ));
        };
        let (fits, allowed) = match question {
            Question::Shutdown => (method == Method::POST, "POST"),
            _ => (method == Method::GET || method == Method::HEAD, "GET, HEAD"),
        };
        if fits {
            return Ok(question);
        }
        let mut refusal = failure(
            StatusCode::METHOD_NOT_ALLOWED,
            &format!("this can be asked with {allowed} only"),
        );
        refusal
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(allowed));
        Err(refusal)
    }

    async fn reply<B: http_body::Body>(
        &self,
        question: Question,
        uri: &Uri,
        headers: &HeaderMap,
        peer: Peer,
        body: B,
    ) -> Response<Body> {
        let inner = &*self.0;
        match question {
            Question::Health => page(StatusCode::OK, JSON, r#"{"status":"alive"}"#),
            Question::Ready => self.readiness().await,
            Question::Shutdown => match inner.access.check_stop(peer, uri, headers) {
                Ok(()) => self.stop(headers, body).await,
                Err(refusal) => {
                    let mut answer = failure(refusal.status, refusal.why);
                    if refusal.status == StatusCode::UNAUTHORIZED {
                        let bearer = HeaderValue::from_static("Bearer");
                        answer.headers_mut().insert(WWW_AUTHENTICATE, bearer);
                    }
                    answer
                }
            },
            Question::Status => match inner.status.get(LOOK_LIMIT).await {
                Some(status) => page(StatusCode::OK, JSON, status.as_bytes().to_vec()),
                None => late("the status is not to be had now"),
            },
            Question::Metrics => match inner.metrics.get(LOOK_LIMIT).await {
                Some(text) => {
                    let kind = HeaderValue::from_static(Exposition::MEDIA_TYPE);
                    page(StatusCode::OK, kind, text.as_bytes().to_vec())
                }
                None => late("the metrics are not to be had now"),
            },
            Question::Events => match inner.streams.take() {
                Some(seat) => {
                    let events = Body::events(Events::new(inner.status.clone(), seat));
                    let kind = HeaderValue::from_static("text/event-stream");
                    let mut answer = with_headers(StatusCode::OK, kind, events);
                    // nginx would gather events until it has a page of them.
                    let name = HeaderName::from_static("x-accel-buffering");
                    answer
                        .headers_mut()
                        .insert(name, HeaderValue::from_static("no"));
                    answer
                }
                None => late("as many streams of events are open as may be; ask /status instead"),
            },
            Question::Page => {
                let kind = HeaderValue::from_static("text/html; charset=utf-8");
                let mut answer = page(StatusCode::OK, kind, PAGE);
                let headers = answer.headers_mut();
                headers.insert(
                    CONTENT_SECURITY_POLICY,
                    HeaderValue::from_static(PAGE_POLICY),
                );
                headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
                answer
            }
        }
    }

    async fn readiness(&self) -> Response<Body> {
        let inner = &*self.0;
        let shutting_down = || {
            page(
                StatusCode::SERVICE_UNAVAILABLE,
                JSON,
                r#"{"status":"shutting_down","accepting_traffic":false}"#,
            )
        };
        if inner.token.is_stopping() {
            return shutting_down();
        }
        let holds = inner.is_ready.load(Ordering::Relaxed)
            && (inner.checks.is_empty() || check::hold(&inner.checks, inner.check_limit).await);
        // A stop may have come while the checks ran.
        if inner.token.is_stopping() {
            shutting_down()
        } else if holds {
            let text = r#"{"status":"ready","accepting_traffic":true}"#;
            page(StatusCode::OK, JSON, text)
        } else {
            let text = r#"{"status":"not_ready"}"#;
            page(StatusCode::SERVICE_UNAVAILABLE, JSON, text)
        }
    }

    async fn stop<B: http_body::Body>(&self, headers: &HeaderMap, body: B) -> Response<Body> {
        let wish = match read(body).await {
            Ok(bytes) => Wish::read(&bytes),
            Err(refusal) => return refusal,
        };
        let wish = match wish {
            Ok(wish) => wish,
            Err(why) => return failure(StatusCode::BAD_REQUEST, &why),
        };
        // A page that a person looks at says where it is from; orchestrators and scripts do not.
        let source = if headers.contains_key(http::header::ORIGIN) {
            Source::User
        } else {
            Source::System
        };
        let message = wish.message.unwrap_or_else(|| "POST /shutdown".to_owned());
        let message = message.chars().take(MAX_MESSAGE).collect::<String>();
        self.0.token.request(match wish.mode {
            WishedMode::Graceful => StopRequest::graceful(source, message),
            WishedMode::Immediate => StopRequest::immediate(source, message),
        });
        page(StatusCode::OK, JSON, r#"{"status":"shutdown_initiated"}"#)
    }
}

impl Inner {
    /// What every program has.
    fn metrics(&self, exposition: &mut Exposition) {
        let mut build = exposition.info("safepoint_build", "The version of safepoint.");
        build.text(&[("version", env!("CARGO_PKG_VERSION"))]);
        let is_ready = self.is_ready.load(Ordering::Relaxed) && !self.token.is_stopping();
        let mut ready = exposition.gauge(
            "safepoint_ready",
            "Whether the program has started up and is not stopping; checks left out.",
        );
        ready.value(&[], if is_ready { 1.0 } else { 0.0 });
        if !self.checks.is_empty() {
            check::metrics(&self.checks, exposition);
        }
        stops::metrics(&self.token, exposition);
        own::metrics(exposition);
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("token", &self.0.token)
            .field("is_ready", &self.is_ready())
            .field("checks", &self.0.checks)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Page,
    Health,
    Ready,
    Shutdown,
    Status,
    Metrics,
    Events,
}

impl Question {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Page,
            "/health" => Self::Health,
            "/ready" => Self::Ready,
            "/shutdown" => Self::Shutdown,
            "/status" => Self::Status,
            "/metrics" => Self::Metrics,
            "/events" => Self::Events,
            _ => return None,
        })
    }
}

/// What whoever asks for a stop may add.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wish {
    mode: WishedMode,
    message: Option<String>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WishedMode {
    #[default]
    #[serde(alias = "GRACEFUL")]
    Graceful,
    #[serde(alias = "IMMEDIATE")]
    Immediate,
}

impl Wish {
    fn read(bytes: &[u8]) -> std::result::Result<Self, String> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(bytes).map_err(|error| {
            format!("the body has to be empty or like {{\"mode\":\"immediate\",\"message\":\"why\"}}: {error}")
        })
    }
}

/// The bytes of a line and headers, near enough: what is between them counts four each.
fn size(uri: &Uri, headers: &HeaderMap) -> usize {
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let of = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    path + headers.iter().map(of).sum::<usize>()
}

/// A body that is not too long and does not take too long.
async fn read<B: http_body::Body>(body: B) -> std::result::Result<Vec<u8>, Response<Body>> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_long());
    }
    let mut body = pin!(body);
    let all = async {
        let mut bytes = Vec::new();
        while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
            let frame =
                frame.map_err(|_| failure(StatusCode::BAD_REQUEST, "the body broke off"))?;
            let Ok(mut data) = frame.into_data() else {
                continue;
            };
            while data.has_remaining() {
                let chunk = data.chunk();
                if bytes.len() + chunk.len() > MAX_BODY {
                    return Err(too_long());
                }
                bytes.extend_from_slice(chunk);
                let length = chunk.len();
                data.advance(length);
            }
        }
        Ok(bytes)
    };
    match tokio::time::timeout(BODY_LIMIT, all).await {
        Ok(read) => read,
        Err(_) => Err(closing(failure(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not come within 5 s",
        ))),
    }
}

fn too_long() -> Response<Body> {
    closing(failure(
        StatusCode::PAYLOAD_TOO_LARGE,
        "a body may have 16 KiB",
    ))
}

/// Ends the connection after this: what is still to come of the request is read by nobody.
fn closing(mut answer: Response<Body>) -> Response<Body> {
    let close = HeaderValue::from_static("close");
    answer.headers_mut().insert(CONNECTION, close);
    answer
}

/// Something that is to be had again in a while.
fn late(what: &str) -> Response<Body> {
    let mut answer = failure(StatusCode::SERVICE_UNAVAILABLE, what);
    let headers = answer.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

/// What is not as it must be, in words.
pub(super) fn failure(status: StatusCode, why: &str) -> Response<Body> {
    page(status, JSON, json!({"error": why}).to_string())
}

fn page(status: StatusCode, kind: HeaderValue, body: impl Into<bytes::Bytes>) -> Response<Body> {
    let body = body.into();
    let length = HeaderValue::from(body.len());
    let mut answer = with_headers(status, kind, Body::whole(body));
    answer.headers_mut().insert(CONTENT_LENGTH, length);
    answer
}

/// The headers that all answers have: what is true now is not for later, and is what it says it is.
fn with_headers(status: StatusCode, kind: HeaderValue, body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
