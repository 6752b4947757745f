//! `--format json`: the whole history as one object. The book's page `guides/report` has every field.

use safepoint::clock::rfc_3339;
use safepoint::job::Tally;
use safepoint::job::history::{Durations, History, Span};
use safepoint::queue::ItemInBrief;
use serde_json::{Map, Value, json};

use crate::page::with_schema;

/// How many bars a histogram has at most.
const BARS: usize = 64;

pub(super) fn object(history: &History) -> Value {
    let status = &history.status;
    let counts = status.progress.counts;
    let tally = Tally::of(&status.progress);
    let definition: Map<String, Value> = history
        .definition
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().into()))
        .collect();
    with_schema(json!({
        "job": status.name,
        "uuid": history.job.uuid,
        "kind": history.kind.name(),
        "status": status.status,
        "definition": definition,
        "read_at": rfc_3339(history.read_at_ms),
        "worked_ms": history.worked_ms,
        "busy_us": history.busy_us,
        "done": counts.done,
        "dead": counts.dead,
        "waiting": counts.waiting,
        "duplicate": counts.duplicate,
        "total": tally.total,
        "left": tally.left,
        "cost_micros": status.progress.cost_micros,
        "steps": steps(history),
        "runs": runs(history),
        "stops": stops(history),
        "pauses": list(&history.pauses, |pause| json!({
            "run": pause.run,
            "event": pause.event,
            "from": rfc_3339(pause.from_ms),
            "to": pause.to_ms.map(rfc_3339),
        })),
        "child": status.child.as_ref().map(safepoint::job::ChildView::object),
        "children": list(&history.children, |child| json!({
            "run": child.run,
            "pid": child.pid,
            "restart": child.restart,
            "started_at": rfc_3339(child.started_at_ms),
            "ended_at": child.ended_at_ms.map(rfc_3339),
            "exit": child.exit,
            "code": child.code,
            "signal": child.signal,
            "finished": child.is_finished,
        })),
        "marks": list(&history.marks, |mark| {
            let fields = mark.fields.iter();
            let fields: Map<String, Value> = fields.map(|(name, value)| (name.clone(), value.as_str().into())).collect();
            json!({"run": mark.run, "at": rfc_3339(mark.at_ms), "event": mark.event, "fields": fields})
        }),
        "durations": {"done": durations(&history.done), "failed": durations(&history.failed)},
        "over_time": {
            "width_ms": history.over_time.width_ms,
            "buckets": list(&history.over_time.buckets, |bucket| json!({
                "run": bucket.run,
                "from_ms": bucket.from_ms,
                "lasts_ms": bucket.lasts_ms,
                "done": bucket.done,
                "failed": bucket.failed,
                "busy_us": bucket.busy_us,
            })),
        },
        "slowest": list(&history.slowest, |(slow, item)| {
            let mut object = span(slow);
            object["item"] = item.as_ref().map(|item| text(&item.content)).into();
            object
        }),
        "spans": list(&history.spans, span),
        "total_spans": history.total_spans,
        "dead_items": list(&history.dead, dead),
        "dead_by_error": list(&history.dead_by_error, |(error, count)| json!({"error": error, "count": count})),
    }))
}

fn list<T>(all: &[T], one: impl Fn(&T) -> Value) -> Value {
    all.iter().map(one).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn steps(history: &History) -> Value {
    let steps = history.status.steps;
    json!({
        "complete": steps.complete,
        "running": steps.running,
        "failed": steps.failed,
        "effects": steps.effects,
        "held": steps.held,
    })
}

fn runs(history: &History) -> Value {
    list(&history.runs, |run| {
        json!({
            "run": run.run,
            "pid": run.pid,
            "host": run.host,
            "version": run.version,
            "started_at": rfc_3339(run.started_at_ms),
            "ended_at": rfc_3339(run.ended_at_ms),
            "end_told": run.is_end_told,
            "outcome": run.ending.name(),
            "reason": run.reason,
            "done_before": run.done_before,
            "done_after": run.done_after,
            "from_ms": run.from_ms,
            "lasted_ms": run.lasted_ms(),
        })
    })
}

fn stops(history: &History) -> Value {
    list(&history.stops, |stop| {
        json!({
            "run": stop.run,
            "at": rfc_3339(stop.at_ms),
            "source": stop.source,
            "mode": stop.mode,
            "message": stop.message,
            "completed_at": stop.completed_at_ms.map(rfc_3339),
            "given_up": stop.given_up,
        })
    })
}

fn durations(durations: &Durations) -> Value {
    json!({
        "count": durations.count,
        "sum_us": durations.sum_us,
        "shortest_us": durations.shortest_us,
        "longest_us": durations.longest_us,
        "mean_us": durations.mean_us(),
        "p50_us": durations.quantile_us(0.5),
        "p90_us": durations.quantile_us(0.9),
        "p99_us": durations.quantile_us(0.99),
        "bars": list(&durations.bars(BARS), |bar| json!({"from_us": bar.from_us, "to_us": bar.to_us, "count": bar.count})),
    })
}

fn span(span: &Span) -> Value {
    json!({
        "index": span.index,
        "name": span.name,
        "attempt": span.attempt,
        "run": span.run,
        "started_at": rfc_3339(span.started_at_ms),
        "duration_us": span.duration_us,
        "end": span.end.name(),
    })
}

fn dead(item: &ItemInBrief) -> Value {
    json!({
        "index": item.index,
        "key": item.key,
        "attempts": item.attempts,
        "crashes": item.crashes,
        "run": item.run,
        "item": text(&item.content),
        "error": item.error,
        "stderr": text(&item.stderr),
    })
}
