//! `safepoint results`: what is done so far, in input order.

use safepoint::Result;
use safepoint::job;
use safepoint::queue::{ItemRow, State, ViewFilter};
use serde_json::{Map, Value};

use crate::args::{ResultsArgs, ResultsFormat};
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::{Page, with_schema};

/// Runs `safepoint results`.
pub(crate) fn command(context: &Context, args: &ResultsArgs) -> Result<Exit> {
    let path = context.job(args.job.job.as_deref())?;
    let view = job::view(&path)?;
    let mut page = Page::new();
    let is_csv = args.format == ResultsFormat::Csv && !context.is_json;
    if is_csv {
        page.line(&COLUMNS.join(","));
    }
    let filter = ViewFilter {
        state: (!args.all).then_some(State::Done),
        ..ViewFilter::default()
    };
    view.for_each(filter, |row| {
        if !matches!(row.state, State::Done | State::Dead) {
            return Ok(true);
        }
        let object = item_object(&row);
        Ok(if context.is_json {
            page.json(&with_schema(object))
        } else if is_csv {
            let line = csv_line(&object);
            if page.is_terminal() {
                page.quote("", &line)
            } else {
                page.line(&line)
            }
        } else {
            page.json(&object)
        })
    })?;
    page.finish()?;
    Ok(Exit::Code(exit::DONE))
}

/// The columns of `--format csv`.
const COLUMNS: [&str; 10] = [
    "index",
    "key",
    "state",
    "item",
    "result",
    "omitted",
    "exit_code",
    "duration_us",
    "attempts",
    "error",
];

/// A row as a JSON object.
pub(crate) fn item_object(row: &ItemRow) -> Value {
    result_line(
        row.index,
        row.key.as_deref(),
        row.state.name(),
        &row.content,
        row.result.as_deref(),
        row.omitted,
        row.exit_code,
        row.duration_us,
        row.attempts,
        row.error.as_deref(),
    )
}

/// One result as a JSON object.
#[expect(
    clippy::too_many_arguments,
    reason = "the fields of the object, from two sources that share no type"
)]
pub(crate) fn result_line(
    index: u64,
    key: Option<&str>,
    state: &str,
    content: &[u8],
    result: Option<&[u8]>,
    omitted: u64,
    exit_code: Option<i32>,
    duration_us: Option<u64>,
    attempts: u32,
    error: Option<&str>,
) -> Value {
    let mut object = Map::new();
    object.insert("index".into(), index.into());
    object.insert(
        "key".into(),
        key.map_or_else(|| index.to_string(), str::to_owned).into(),
    );
    object.insert("state".into(), state.into());
    object.insert(
        "item".into(),
        text_or_json(content, content.first() == Some(&b'{')),
    );
    object.insert(
        "result".into(),
        result.map_or(Value::Null, |result| text_or_json(result, true)),
    );
    if omitted > 0 {
        object.insert("omitted".into(), omitted.into());
    }
    object.insert("exit_code".into(), exit_code.into());
    object.insert("duration_us".into(), duration_us.into());
    object.insert("attempts".into(), attempts.into());
    if let Some(error) = error {
        object.insert("error".into(), error.into());
    }
    Value::Object(object)
}

/// JSON where it is meant to be and parses; else text, without the newline at its end.
fn text_or_json(bytes: &[u8], may_be_json: bool) -> Value {
    if may_be_json && let Ok(value) = serde_json::from_slice(bytes) {
        return value;
    }
    let text = String::from_utf8_lossy(bytes);
    Value::String(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

fn csv_line(object: &Value) -> String {
    let field = |name: &str| match &object[name] {
        Value::Null => String::new(),
        Value::String(text) => quoted(text),
        other => quoted(&other.to_string()),
    };
    COLUMNS.map(field).join(",")
}

/// A field as RFC 4180 wants it.
pub(crate) fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
