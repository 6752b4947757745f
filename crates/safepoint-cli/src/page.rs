//! Standard output, of which only results are written: buffered, and closed by its reader at any time.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use anstyle::Style;
use safepoint::Result;
use serde_json::{Map, Value};

use crate::context::stdout_error;
use crate::render::{safe, safe_json};

/// The number of the schema of what `--json` prints.
pub(crate) const SCHEMA: u32 = 1;

/// An object for `--json`: the schema's number, then these fields.
pub(crate) fn with_schema(fields: Value) -> Value {
    let mut object = Map::new();
    object.insert("schema".into(), SCHEMA.into());
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    Value::Object(object)
}

/// What a command prints.
pub(crate) struct Page {
    out: BufWriter<StdoutLock<'static>>,
    is_terminal: bool,
    has_colour: bool,
    failure: Option<io::Error>,
}

impl Page {
    pub(crate) fn new() -> Self {
        let out = io::stdout().lock();
        Self {
            is_terminal: out.is_terminal(),
            has_colour: anstream::AutoStream::choice(&out) != anstream::ColorChoice::Never,
            out: BufWriter::with_capacity(64 * 1024, out),
            failure: None,
        }
    }

    /// Whether a person sees it, so that it may be drawn over and must not be steered.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// `text` in a style, where there are colours.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        if self.has_colour {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }

    /// Writes bytes as they are. Says whether somebody still reads.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> bool {
        if self.failure.is_none()
            && let Err(error) = self.out.write_all(bytes)
        {
            self.failure = Some(error);
        }
        self.failure.is_none()
    }

    /// Writes a line of this program. Says whether somebody still reads.
    pub(crate) fn line(&mut self, line: &str) -> bool {
        self.bytes(line.as_bytes()) && self.bytes(b"\n")
    }

    /// Writes a text from elsewhere, made safe, each line of it behind `margin`.
    pub(crate) fn quote(&mut self, margin: &str, text: &str) -> bool {
        safe(text, true)
            .lines()
            .all(|line| self.line(&format!("{margin}{line}")))
    }

    /// Writes a JSON value as one line.
    pub(crate) fn json(&mut self, value: &Value) -> bool {
        self.line(&safe_json(&value.to_string()))
    }

    /// Writes a part of a JSON value, as it is but for what would steer a terminal. Says whether somebody still reads.
    pub(crate) fn piece(&mut self, json: &str) -> bool {
        self.bytes(safe_json(json).as_bytes())
    }

    /// Lets the reader see what was written.
    pub(crate) fn flush(&mut self) -> bool {
        if self.failure.is_none()
            && let Err(error) = self.out.flush()
        {
            self.failure = Some(error);
        }
        self.failure.is_none()
    }

    /// Ends it. A reader who went away is no error.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.flush();
        self.failure.map_or(Ok(()), stdout_error)
    }
}
