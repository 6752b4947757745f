//! `safepoint results`: what is done so far, in input order.

use std::io::{BufWriter, Write};

use safepoint::Result;
use safepoint::queue::{State, View, ViewFilter};
use serde_json::{Map, Value};

use crate::args::{ResultsArgs, ResultsFormat};
use crate::context::{Context, stdout_error};
use crate::exit::{self, Exit};

/// Runs `safepoint results`.
pub(crate) fn command(context: &Context, args: &ResultsArgs) -> Result<Exit> {
    let path = context.job(args.job.job.as_deref())?;
    path.open()?;
    let view = View::open(&path.db())?;
    let mut out = BufWriter::with_capacity(64 * 1024, std::io::stdout().lock());
    let mut failure = None;
    let mut write = |out: &mut dyn Write, line: &str| {
        if failure.is_none()
            && let Err(error) = out.write_all(line.as_bytes())
        {
            failure = Some(error);
        }
        failure.is_none()
    };
    if args.format == ResultsFormat::Csv {
        write(
            &mut out,
            "index,key,state,item,result,omitted,exit_code,duration_us,attempts,error\n",
        );
    }
    let filter = ViewFilter {
        state: (!args.all).then_some(State::Done),
        ..ViewFilter::default()
    };
    view.for_each(filter, |row| {
        if matches!(row.state, State::Done | State::Dead) {
            let object = result_line(
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
            );
            let line = match args.format {
                ResultsFormat::Jsonl => format!("{object}\n"),
                ResultsFormat::Csv => csv_line(&object),
            };
            write(&mut out, &line);
        }
        Ok(())
    })?;
    if let Some(error) = failure.or_else(|| out.flush().err()) {
        stdout_error(error)?;
    }
    Ok(Exit::Code(exit::DONE))
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
    let names = [
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
    let mut line = names.map(field).join(",");
    line.push('\n');
    line
}

/// A field as RFC 4180 wants it.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
