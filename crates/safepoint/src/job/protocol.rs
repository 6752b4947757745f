//! The lines that a persistent worker and we exchange, and the objects that a one-shot command may write to its control descriptor.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The longest line that a worker may answer with, in bytes.
pub const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// One line from a worker, or one object from a command's control descriptor.
#[derive(Debug, Deserialize)]
pub(super) struct Answer<'a> {
    /// The request that it answers; a command has only one and need not say.
    pub(super) id: Option<u64>,
    /// Done, with this result (which may be `null`).
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) result: Option<&'a RawValue>,
    /// The attempt failed.
    #[serde(borrow, default)]
    pub(super) error: Option<Cow<'a, str>>,
    /// Whether it may be attempted again; yes unless told otherwise.
    pub(super) retry: Option<bool>,
    /// Seconds to wait at least before it is attempted again.
    pub(super) retry_after: Option<f64>,
    /// How far the attempt is.
    #[serde(borrow, default)]
    pub(super) progress: Option<&'a RawValue>,
    /// What it cost, in whole units of the caller's money.
    pub(super) cost: Option<f64>,
}

/// A field that is there, even if it is null.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<'a> Answer<'a> {
    /// Reads a line. The error says what is wrong with it.
    pub(super) fn parse(line: &'a [u8]) -> Result<Self, String> {
        let answer: Self = serde_json::from_slice(line).map_err(|error| {
            format!(
                "wrote a line that is not an answer ({error}): `{}`",
                shorten(line)
            )
        })?;
        for (name, value) in [("retry_after", answer.retry_after), ("cost", answer.cost)] {
            if value.is_some_and(|value| {
                !value.is_finite() || value < 0.0 || (name == "cost" && value > 1e9)
            }) {
                return Err(format!(
                    "gave a `{name}` that is not a number from 0 on: `{}`",
                    shorten(line)
                ));
            }
        }
        Ok(answer)
    }

    /// Whether it ends the attempt.
    pub(super) fn is_final(&self) -> bool {
        self.result.is_some() || self.error.is_some()
    }

    /// The wait that it asks for, at most some thirty years: what is longer is as good as never and would overflow.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.retry_after
            .map(|seconds| Duration::from_secs_f64(seconds.min(1e9)))
    }

    /// Its cost in millionths, rounded.
    pub(super) fn cost_micros(&self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be finite and not negative; a float saturates"
        )]
        let micros = self.cost.map_or(0, |cost| (cost * 1e6).round() as u64);
        micros
    }
}

/// The beginning of a line, for an error, without control characters.
pub(super) fn shorten(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(400)]);
    let mut short: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        short.push('…');
    }
    short
}

/// Appends a request line: `{"id":7,"index":7,"key":"7","attempt":1,"item":…}`. `content` is JSON or text in UTF-8.
pub(super) fn write_request(
    out: &mut Vec<u8>,
    id: u64,
    index: u64,
    key: &str,
    attempt: u32,
    content: &[u8],
    is_json: bool,
) {
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(b"{\"id\":");
    out.extend_from_slice(number.format(id).as_bytes());
    out.extend_from_slice(b",\"index\":");
    out.extend_from_slice(number.format(index).as_bytes());
    out.extend_from_slice(b",\"key\":");
    write_string(out, key);
    out.extend_from_slice(b",\"attempt\":");
    out.extend_from_slice(number.format(attempt).as_bytes());
    out.extend_from_slice(b",\"item\":");
    if is_json {
        out.extend_from_slice(content);
    } else {
        // The reader has refused items that are not UTF-8, so nothing is replaced here.
        write_string(out, &String::from_utf8_lossy(content));
    }
    out.extend_from_slice(b"}\n");
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    // Writing to memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_null_result_is_a_result() {
        let answer = Answer::parse(br#"{"id":3,"result":null}"#).expect("parses");
        assert!(answer.is_final());
        assert_eq!(answer.result.map(RawValue::get), Some("null"));
        assert!(
            !Answer::parse(br#"{"id":3,"progress":0.5}"#)
                .expect("parses")
                .is_final()
        );
    }

    #[test]
    fn nonsense_is_named() {
        assert!(Answer::parse(b"hello").is_err_and(|fault| fault.contains("`hello`")));
        assert!(Answer::parse(br#"{"id":1,"error":"x","retry_after":-1}"#).is_err());
        assert!(Answer::parse(br#"{"id":-1,"result":1}"#).is_err());
        let longest = Answer::parse(br#"{"error":"x","retry_after":1e300}"#).expect("parses");
        assert_eq!(
            longest.retry_after(),
            Some(Duration::from_secs(1_000_000_000))
        );
    }

    #[test]
    fn money_is_counted_exactly() {
        let cost = |text: &str| {
            Answer::parse(text.as_bytes())
                .expect("parses")
                .cost_micros()
        };
        assert_eq!(
            (0..10).map(|_| cost(r#"{"id":1,"cost":0.1}"#)).sum::<u64>(),
            1_000_000
        );
    }

    proptest! {
        #[test]
        fn any_text_arrives_whole_on_one_line(content in ".{0,50}", key in ".{0,10}") {
            let mut line = Vec::new();
            write_request(&mut line, 1, 2, &key, 3, content.as_bytes(), false);
            prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            let parsed: serde_json::Value = serde_json::from_slice(&line).expect("valid JSON");
            prop_assert_eq!(parsed["item"].as_str(), Some(content.as_str()));
            prop_assert_eq!(parsed["key"].as_str(), Some(key.as_str()));
        }

        #[test]
        fn no_line_makes_the_parser_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Answer::parse(&line);
        }
    }
}
