//! Answers and the headers that all of them have.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};

use super::body::Body;
use super::events::Events;

const LIVE_PAGE: &str = include_str!("page.html");
/// The page has its style and script in it, known by their hashes, and talks to where it came from; nothing else is loaded or run, and nobody
/// frames it.
const POLICY: &str = "default-src 'none'; style-src 'sha256-oLpKDDaSqMAScv+kec+XlmaVr7pZVxWLFdsUESaSigU='; script-src 'sha256-IzBahoguasTuVK/5P7igxSzbReBuwM28+zJbPaqfTyI='; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer that is whole.
pub(super) fn page(
    status: StatusCode,
    kind: HeaderValue,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let body = body.into();
    let length = HeaderValue::from(body.len());
    let mut answer = with_headers(status, kind, Body::whole(body));
    answer.headers_mut().insert(CONTENT_LENGTH, length);
    answer
}

/// The live page.
pub(super) fn live_page() -> Response<Body> {
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    let mut answer = page(StatusCode::OK, kind, LIVE_PAGE);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

/// A stream of events.
pub(super) fn stream(events: Events) -> Response<Body> {
    let kind = HeaderValue::from_static("text/event-stream");
    let mut answer = with_headers(StatusCode::OK, kind, Body::events(events));
    // nginx would gather events until it has a page of them.
    let name = HeaderName::from_static("x-accel-buffering");
    let headers = answer.headers_mut();
    headers.insert(name, HeaderValue::from_static("no"));
    answer
}

/// What is true now is not for later, and is what it says it is.
fn with_headers(status: StatusCode, kind: HeaderValue, body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
