//! An answer that something is not as it must be, in words.

use std::borrow::Cow;

use http::header::{ALLOW, CONNECTION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use serde_json::json;

use super::body::Body;
use super::page::{JSON, page};

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    why: Cow<'static, str>,
    /// With which methods it would not be.
    allowed: Option<&'static str>,
}

impl Refusal {
    pub(super) const fn new(status: StatusCode, why: &'static str) -> Self {
        Self {
            status,
            why: Cow::Borrowed(why),
            allowed: None,
        }
    }

    pub(super) fn of_body(why: String) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            why: Cow::Owned(why),
            allowed: None,
        }
    }

    pub(super) fn of_method(allowed: &'static str) -> Self {
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            why: Cow::Owned(format!("this can be asked with {allowed} only")),
            allowed: Some(allowed),
        }
    }

    /// The answer: `{"error":"why"}`, and the headers that belong to its status.
    pub(super) fn into_answer(self) -> Response<Body> {
        let text = json!({"error": self.why}).to_string();
        let mut answer = page(self.status, JSON, text);
        let headers = answer.headers_mut();
        if let Some(allowed) = self.allowed {
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        let (name, value) = match self.status {
            StatusCode::UNAUTHORIZED => (WWW_AUTHENTICATE, "Bearer"),
            StatusCode::SERVICE_UNAVAILABLE => (RETRY_AFTER, "1"),
            // What is still to come of the request is read by nobody.
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => (CONNECTION, "close"),
            _ => return answer,
        };
        headers.insert(name, HeaderValue::from_static(value));
        answer
    }
}
