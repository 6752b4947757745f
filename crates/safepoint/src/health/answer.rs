//! The questions, and what is answered.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{HeaderName, HeaderValue, ORIGIN};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};

use super::access::{Access, Peer};
use super::address::Address;
use super::body::Body;
use super::builder::Builder;
use super::check::{self, Check};
use super::events::{Events, Streams};
use super::exposition::Exposition;
use super::kept::Kept;
use super::page::{JSON, live_page, page, stream};
use super::refusal::Refusal;
use super::server::Server;
use super::wish::Wish;
use super::{own, stops};
use crate::error::Result;
use crate::shutdown::{ShutdownToken, Source};

/// The most bytes of a request's line and headers, and the most headers.
pub(super) const MAX_HEAD: usize = 16 * 1024;
pub(super) const MAX_HEADERS: usize = 32;
/// How long a status or metrics may take to be made.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

const TOO_LONG: Refusal = Refusal::new(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "a request may have 16 KiB and 32 headers",
);
const NOT_FOUND: Refusal = Refusal::new(
    StatusCode::NOT_FOUND,
    "there are /, /health, /ready, /status, /metrics, /events, and POST /shutdown",
);
const NO_STATUS: Refusal = busy("the status is not to be had now");
const NO_METRICS: Refusal = busy("the metrics are not to be had now");
const NO_STREAM: Refusal =
    busy("as many streams of events are open as may be; ask /status instead");

const fn busy(why: &'static str) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why)
}

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
        let answer = match self.find(&head.method, &head.uri, &head.headers, peer) {
            Ok(question) => {
                let reply = self.reply(question, &head.uri, &head.headers, peer, body);
                reply.await
            }
            Err(refusal) => Err(refusal),
        };
        let mut answer = answer.unwrap_or_else(Refusal::into_answer);
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
    ) -> std::result::Result<Question, Refusal> {
        if headers.len() > MAX_HEADERS || size(uri, headers) > MAX_HEAD {
            return Err(TOO_LONG);
        }
        let question = Question::of(uri.path());
        // These two reveal nothing, and load balancers ask them under any name.
        if !matches!(question, Some(Question::Health | Question::Ready)) {
            self.0.access.check_origin(peer, uri, headers)?;
        }
        let question = question.ok_or(NOT_FOUND)?;
        let (fits, allowed) = match question {
            Question::Shutdown => (method == Method::POST, "POST"),
            _ => (method == Method::GET || method == Method::HEAD, "GET, HEAD"),
        };
        if fits {
            Ok(question)
        } else {
            Err(Refusal::of_method(allowed))
        }
    }

    async fn reply<B: http_body::Body>(
        &self,
        question: Question,
        uri: &Uri,
        headers: &HeaderMap,
        peer: Peer,
        body: B,
    ) -> std::result::Result<Response<Body>, Refusal> {
        let inner = &*self.0;
        Ok(match question {
            Question::Health => page(StatusCode::OK, JSON, r#"{"status":"alive"}"#),
            Question::Ready => self.readiness().await,
            Question::Shutdown => {
                inner.access.check_stop(peer, uri, headers)?;
                let wish = Wish::receive(body).await?;
                // A page that a person looks at says where it is from; orchestrators and scripts do not.
                let source = if headers.contains_key(ORIGIN) {
                    Source::User
                } else {
                    Source::System
                };
                inner.token.request(wish.into_request(source));
                page(StatusCode::OK, JSON, r#"{"status":"shutdown_initiated"}"#)
            }
            Question::Status => {
                let status = inner.status.get(LOOK_LIMIT).await.ok_or(NO_STATUS)?;
                page(StatusCode::OK, JSON, status.as_bytes().to_vec())
            }
            Question::Metrics => {
                let text = inner.metrics.get(LOOK_LIMIT).await.ok_or(NO_METRICS)?;
                let kind = HeaderValue::from_static(Exposition::MEDIA_TYPE);
                page(StatusCode::OK, kind, text.as_bytes().to_vec())
            }
            Question::Events => {
                let seat = inner.streams.take().ok_or(NO_STREAM)?;
                stream(Events::new(inner.status.clone(), seat))
            }
            Question::Page => live_page(),
        })
    }

    async fn readiness(&self) -> Response<Body> {
        let inner = &*self.0;
        let holds = !inner.token.is_stopping()
            && inner.is_ready.load(Ordering::Relaxed)
            && (inner.checks.is_empty() || check::hold(&inner.checks, inner.check_limit).await);
        // A stop may have come while the checks ran.
        let (status, text) = if inner.token.is_stopping() {
            let text = r#"{"status":"shutting_down","accepting_traffic":false}"#;
            (StatusCode::SERVICE_UNAVAILABLE, text)
        } else if holds {
            let text = r#"{"status":"ready","accepting_traffic":true}"#;
            (StatusCode::OK, text)
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"not_ready"}"#)
        };
        page(status, JSON, text)
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

/// The bytes of a line and headers, near enough: what is between them counts four each.
fn size(uri: &Uri, headers: &HeaderMap) -> usize {
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let of = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    path + headers.iter().map(of).sum::<usize>()
}
