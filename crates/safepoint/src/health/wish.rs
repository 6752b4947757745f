//! What whoever asks for a stop may add to that.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use bytes::Buf;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::refusal::Refusal;
use crate::shutdown::{Source, StopRequest};

/// The most bytes of a request's body, and how long it may take to come.
const MAX_BODY: usize = 16 * 1024;
const BODY_LIMIT: Duration = Duration::from_secs(5);
/// The most characters of a stop's message.
const MAX_MESSAGE: usize = 1000;

const TOO_LONG: Refusal = Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "a body may have 16 KiB");
const TOO_SLOW: Refusal = Refusal::new(
    StatusCode::REQUEST_TIMEOUT,
    "the body did not come whole within 5 s",
);
const BROKEN: Refusal = Refusal::new(StatusCode::BAD_REQUEST, "the body broke off");

/// The body of `POST /shutdown`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wish {
    mode: Mode,
    message: Option<String>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    #[serde(alias = "GRACEFUL")]
    Graceful,
    #[serde(alias = "IMMEDIATE")]
    Immediate,
}

impl Wish {
    /// Reads it from a body, which may be empty.
    pub(super) async fn receive<B: http_body::Body>(body: B) -> Result<Self, Refusal> {
        let bytes = tokio::time::timeout(BODY_LIMIT, gather(body))
            .await
            .map_err(|_| TOO_SLOW)??;
        if bytes.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        // By way of an object: a list would do for the fields in their order.
        let object: serde_json::Result<Map<String, Value>> = serde_json::from_slice(&bytes);
        let wish = object.and_then(|object| serde_json::from_value(object.into()));
        wish.map_err(|error| {
            Refusal::of_body(format!(
                "the body has to be empty or like {{\"mode\":\"immediate\",\"message\":\"why\"}}: {error}"
            ))
        })
    }

    /// The request that it is, of somebody of this kind.
    pub(super) fn into_request(self, source: Source) -> StopRequest {
        let message = self.message.unwrap_or_else(|| "POST /shutdown".to_owned());
        let message: String = message.chars().take(MAX_MESSAGE).collect();
        match self.mode {
            Mode::Graceful => StopRequest::graceful(source, message),
            Mode::Immediate => StopRequest::immediate(source, message),
        }
    }
}

/// The bytes of a body that is not too long.
async fn gather<B: http_body::Body>(body: B) -> Result<Vec<u8>, Refusal> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(TOO_LONG);
    }
    let mut body = pin!(body);
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let Ok(mut data) = frame.map_err(|_| BROKEN)?.into_data() else {
            continue;
        };
        while data.has_remaining() {
            let chunk = data.chunk();
            if bytes.len() + chunk.len() > MAX_BODY {
                return Err(TOO_LONG);
            }
            bytes.extend_from_slice(chunk);
            let length = chunk.len();
            data.advance(length);
        }
    }
    Ok(bytes)
}
