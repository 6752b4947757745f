//! `--format perfetto`: trace events in JSON, as ui.perfetto.dev opens them.
//!
//! Each run is a process of the trace, and each lane of it a thread; an attempt, step or child is a complete event (`X`) on its lane,
//! and a stop request an instant (`i`). Times are microseconds since the job's first start.
//!
//! Source: "Trace Event Format", the document that both viewers name as the description of the format.

use std::collections::HashMap;

use safepoint::Result;
use safepoint::job::history::{History, Kind, Span, SpanEnd};
use safepoint::queue::{AttemptOrder, View};
use serde_json::{Map, Value, json};

use super::lanes::Lanes;
use super::target::Target;

/// The thread of a run's own events; lanes come after it.
const RUN_THREAD: usize = 0;

struct Trace<'a> {
    target: &'a mut Target,
    origin_ms: i64,
    is_first: bool,
    lanes: HashMap<u32, Lanes>,
}

pub(super) fn write(target: &mut Target, view: &View, history: &History) -> Result<()> {
    let mut trace = Trace {
        target,
        origin_ms: history.runs.first().map_or(0, |run| run.started_at_ms),
        is_first: true,
        lanes: HashMap::new(),
    };
    trace
        .target
        .put("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n")?;
    trace.runs(history)?;
    if history.kind == Kind::Items {
        view.for_each_attempt(AttemptOrder::Start, |attempt| {
            let mut arguments = json!({"index": attempt.index, "attempt": attempt.attempt});
            if let (Value::Object(fields), Some(error)) = (&mut arguments, &attempt.error) {
                fields.insert("error".into(), error.as_str().into());
            }
            let span = Span {
                index: Some(attempt.index),
                name: attempt.key,
                attempt: attempt.attempt,
                run: attempt.run,
                started_at_ms: attempt.started_at_ms,
                duration_us: attempt.duration_us,
                end: if attempt.error.is_some() {
                    SpanEnd::Failed
                } else {
                    SpanEnd::Done
                },
            };
            trace.span(&span, &arguments)
        })?;
    } else {
        for span in &history.spans {
            trace.span(span, &json!({"start": span.attempt}))?;
        }
    }
    trace.target.put("\n]}\n")?;
    Ok(())
}

impl Trace<'_> {
    fn event(&mut self, event: &Value) -> Result<bool> {
        let between = if self.is_first { "" } else { ",\n" };
        self.is_first = false;
        self.target.put(&format!("{between}{event}"))
    }

    fn us(&self, at_ms: i64) -> i64 {
        at_ms.saturating_sub(self.origin_ms).saturating_mul(1000)
    }

    fn runs(&mut self, history: &History) -> Result<()> {
        for run in &history.runs {
            let number = run.run;
            let name = format!("{} run {number}", history.status.name);
            self.event(&json!({"ph": "M", "pid": number, "tid": RUN_THREAD, "name": "process_name", "args": {"name": name}}))?;
            self.event(&json!({"ph": "M", "pid": number, "tid": RUN_THREAD, "name": "process_sort_index", "args": {"sort_index": number}}))?;
            self.event(&json!({"ph": "M", "pid": number, "tid": RUN_THREAD, "name": "thread_name", "args": {"name": "run"}}))?;
            self.event(&json!({
                "ph": "X", "pid": number, "tid": RUN_THREAD, "cat": "run", "name": run.ending.name(),
                "ts": self.us(run.started_at_ms), "dur": run.lasted_ms().saturating_mul(1000),
                "args": {"pid": run.pid, "host": run.host, "reason": run.reason},
            }))?;
        }
        for stop in &history.stops {
            self.event(&json!({
                "ph": "i", "s": "p", "pid": stop.run, "tid": RUN_THREAD, "cat": "stop", "name": stop.message,
                "ts": self.us(stop.at_ms), "args": {"source": stop.source, "mode": stop.mode},
            }))?;
        }
        for mark in &history.marks {
            let fields = mark.fields.iter();
            let fields: Map<String, Value> = fields
                .map(|(name, value)| (name.clone(), value.as_str().into()))
                .collect();
            self.event(&json!({
                "ph": "i", "s": "p", "pid": mark.run, "tid": RUN_THREAD, "cat": "mark", "name": mark.event,
                "ts": self.us(mark.at_ms), "args": fields,
            }))?;
        }
        Ok(())
    }

    fn span(&mut self, span: &Span, arguments: &Value) -> Result<bool> {
        let from = self.us(span.started_at_ms);
        let lasted = i64::try_from(span.duration_us).unwrap_or(i64::MAX);
        let lanes = self.lanes.entry(span.run).or_default();
        let before = lanes.count();
        let to = from.saturating_add(lasted);
        let (lane, from) = lanes.take(from, to);
        let thread = lane + 1;
        if lane >= before {
            let name = format!("lane {thread}");
            self.event(&json!({"ph": "M", "pid": span.run, "tid": thread, "name": "thread_name", "args": {"name": name}}))?;
        }
        let name = match (&span.name, span.index) {
            (Some(name), _) => name.clone(),
            (None, Some(index)) => format!("item {index}"),
            (None, None) => format!("start {}", span.attempt),
        };
        self.event(&json!({
            "ph": "X", "pid": span.run, "tid": thread, "cat": span.end.name(), "name": name,
            "ts": from, "dur": to.saturating_sub(from).max(0), "args": arguments,
        }))
    }
}
