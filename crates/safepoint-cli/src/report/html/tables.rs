//! What is read rather than seen: runs, stops, the slowest, the dead.

use safepoint::job::history::{History, Kind, Span};
use safepoint::queue::ItemInBrief;

use super::escape::{escaped, excerpt};
use super::scale::{moment, ms, number, percent, rate, us};
use super::spans;
use super::time_line::{colour, why};
use crate::time::{show_count, show_number_of};

/// How many runs are listed, the last ones.
const RUNS: usize = 200;
/// How many stop requests and children are listed, the last ones.
const MOMENTS: usize = 200;

struct Column(&'static str, bool);

const fn text(title: &'static str) -> Column {
    Column(title, false)
}

const fn figure(title: &'static str) -> Column {
    Column(title, true)
}

fn table(id: &str, heading: &str, note: &str, columns: &[Column], rows: &str) -> String {
    let titles: String = columns
        .iter()
        .map(|Column(title, is_number)| {
            let class = if *is_number { " class=\"number\"" } else { "" };
            format!("<th scope=\"col\"{class}>{title}</th>")
        })
        .collect();
    format!(
        "<section class=\"card long\" aria-labelledby=\"{id}\"><h2 id=\"{id}\">{heading}</h2>{note}\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"{id}\"><table><thead><tr>{titles}</tr></thead><tbody>\n{rows}</tbody></table></div></section>\n"
    )
}

fn last<'a, T>(
    all: &'a [T],
    limit: usize,
    things: &str,
) -> (String, impl Iterator<Item = &'a T> + use<'a, T>) {
    let hidden = all.len().saturating_sub(limit);
    let note = if hidden > 0 {
        format!(
            "<p class=\"muted\">The last {limit} of {} {things}.</p>",
            show_count(all.len() as u64)
        )
    } else {
        String::new()
    };
    (note, all.iter().skip(hidden))
}

/// What a run did, also one that could not say: the next one found it.
fn done_in(history: &History, place: usize) -> Option<u64> {
    let run = &history.runs[place];
    let next = history.runs.get(place + 1);
    let after = run.done_after.or_else(|| next.map(|next| next.done_before));
    Some(after?.saturating_sub(run.done_before))
}

pub(super) fn runs(history: &History) -> String {
    let (note, listed) = last(&history.runs, RUNS, "runs");
    let first = history.runs.len().saturating_sub(RUNS);
    let has_work = history.kind != Kind::Supervised;
    let mut rows = String::new();
    let mut before: Option<i64> = None;
    for (place, run) in listed.enumerate() {
        let lasted = run.lasted_ms();
        let done = done_in(history, first + place);
        let pause = before.map_or(String::new(), |before| {
            let idle = u64::try_from(run.started_at_ms - before).unwrap_or(0);
            format!("<small>{} after the one before</small>", ms(idle))
        });
        before = Some(run.ended_at_ms);
        let speed = done.filter(|done| *done > 0 && lasted > 0);
        let speed = speed.map_or(String::new(), |done| {
            rate(number(done) * 1000.0 / number(lasted))
        });
        let did = if has_work {
            let done = done.map_or(String::new(), show_count);
            format!("<td class=\"number\">{done}</td><td class=\"number\">{speed}</td>")
        } else {
            String::new()
        };
        rows.push_str(&format!(
            "<tr><td class=\"number\">{}</td><td class=\"time\">{}{pause}</td>\
             <td><span class=\"badge {}\">{}</span><small>{}</small></td>\
             <td class=\"number\">{}{}</td>{did}\
             <td class=\"text\"><bdi>{}</bdi><small>process {}</small></td></tr>\n",
            run.run,
            moment(run.started_at_ms),
            colour(run.ending),
            run.ending.name(),
            why(history, run),
            if run.is_end_told { "" } else { "≥ " },
            ms(lasted),
            excerpt(&run.host, 60),
            run.pid,
        ));
    }
    let mut columns = vec![
        figure("run"),
        text("began (UTC)"),
        text("end"),
        figure("took"),
    ];
    if has_work {
        columns.extend([figure("done in it"), figure("rate")]);
    }
    columns.push(text("where"));
    table("runs-list", "Runs", &note, &columns, &rows)
}

pub(super) fn stops(history: &History) -> String {
    if history.stops.is_empty() {
        return String::new();
    }
    let (note, listed) = last(&history.stops, MOMENTS, "stop requests");
    let mut rows = String::new();
    for stop in listed {
        let took = stop
            .completed_at_ms
            .map(|end| u64::try_from(end - stop.at_ms).unwrap_or(0));
        rows.push_str(&format!(
            "<tr><td class=\"number\">{}</td><td class=\"time\">{}</td><td class=\"text\"><bdi>{}</bdi></td><td>{}</td><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td></tr>\n",
            stop.run,
            moment(stop.at_ms),
            excerpt(&stop.message, 200),
            escaped(&stop.source.to_lowercase()),
            escaped(&stop.mode.to_lowercase()),
            took.map_or_else(|| "not known".to_owned(), ms),
            stop.given_up.map_or(String::new(), show_count),
        ));
    }
    let columns = [
        figure("run"),
        text("asked for (UTC)"),
        text("message"),
        text("source"),
        text("mode"),
        figure("stopped after"),
        figure("given up"),
    ];
    table("stops", "Stop requests", &note, &columns, &rows)
}

pub(super) fn children(history: &History) -> String {
    if history.children.is_empty() {
        return String::new();
    }
    let (note, listed) = last(&history.children, MOMENTS, "starts");
    let mut rows = String::new();
    for child in listed {
        let took = child
            .ended_at_ms
            .map(|end| u64::try_from(end - child.started_at_ms).unwrap_or(0));
        rows.push_str(&format!(
            "<tr><td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"time\">{}</td><td class=\"number\">{}</td><td class=\"text\">{}{}</td><td class=\"number\">{}</td></tr>\n",
            child.run,
            child.restart.saturating_add(1),
            moment(child.started_at_ms),
            took.map_or(String::new(), ms),
            child.exit.as_deref().map_or_else(|| "not seen".to_owned(), |exit| excerpt(exit, 80)),
            if child.is_finished { " (finished)" } else { "" },
            child.pid,
        ));
    }
    let columns = [
        figure("run"),
        figure("start"),
        text("began (UTC)"),
        figure("took"),
        text("end"),
        figure("process"),
    ];
    table("children", "Starts of the command", &note, &columns, &rows)
}

/// What the input says of an item, on one line.
fn content(item: Option<&ItemInBrief>) -> String {
    let Some(item) = item else {
        return String::new();
    };
    let text = String::from_utf8_lossy(&item.content);
    format!("<small><bdi>{}</bdi></small>", excerpt(&text, 120))
}

pub(super) fn slowest(history: &History) -> String {
    let Some((longest, _)) = history.slowest.first() else {
        return String::new();
    };
    let whole = number(longest.duration_us.max(1));
    let mut rows = String::new();
    for (span, item) in &history.slowest {
        let attempt = if history.kind == Kind::Items {
            span.attempt.to_string()
        } else {
            String::new()
        };
        rows.push_str(&format!(
            "<tr><td class=\"number\">{}</td><td><span class=\"bar\"><span class=\"fill-{}\" style=\"width:{}\"></span></span></td><td class=\"text\"><bdi>{}</bdi>{}</td><td class=\"number\">{attempt}</td><td class=\"number\">{}</td><td class=\"time\">{}</td><td>{}</td></tr>\n",
            us(span.duration_us),
            spans::colour(span.end),
            percent(number(span.duration_us) / whole * 100.0),
            spans::name(span),
            content(item.as_ref()),
            span.run,
            moment(span.started_at_ms),
            ended(span),
        ));
    }
    let columns = [
        figure("took"),
        text(""),
        text(if history.kind == Kind::Steps {
            "step"
        } else {
            "item"
        }),
        figure(if history.kind == Kind::Items {
            "attempt"
        } else {
            ""
        }),
        figure("run"),
        text("began (UTC)"),
        text("end"),
    ];
    table("slowest", "The slowest", "", &columns, &rows)
}

fn ended(span: &Span) -> &'static str {
    match span.end {
        safepoint::job::history::SpanEnd::Done => "done",
        safepoint::job::history::SpanEnd::Failed => "failed",
        safepoint::job::history::SpanEnd::CutOff => "cut off",
    }
}

pub(super) fn dead(history: &History) -> String {
    if history.dead.is_empty() {
        return String::new();
    }
    let total = history.status.progress.counts.dead;
    let mut body = String::new();
    body.push_str(&by_error(history));
    let is_open = if history.dead.len() <= 5 { " open" } else { "" };
    for item in &history.dead {
        let key = item.key.as_deref().map_or(String::new(), |key| {
            format!(" <bdi>{}</bdi>", excerpt(key, 80))
        });
        let crashes = if item.crashes > 0 {
            format!(
                ", {} of the runner",
                show_number_of(u64::from(item.crashes), "crash")
            )
        } else {
            String::new()
        };
        body.push_str(&format!(
            "<details{is_open}><summary><b>item {}{key}</b>, {}{crashes}: <span><bdi>{}</bdi></span></summary><h3>The item</h3><pre>{}</pre>",
            item.index,
            show_number_of(u64::from(item.attempts), "attempt"),
            excerpt(or_none(item.error.as_deref().unwrap_or_default()), 200),
            block(&item.content),
        ));
        if let Some(error) = item
            .error
            .as_deref()
            .filter(|error| error.lines().count() > 1 || error.chars().count() > 200)
        {
            body.push_str(&format!("<h3>The error</h3><pre>{}</pre>", escaped(error)));
        }
        if !item.stderr.is_empty() {
            body.push_str(&format!(
                "<h3>The end of its standard error</h3><pre>{}</pre>",
                block(&item.stderr)
            ));
        }
        body.push_str("</details>\n");
    }
    let more = total.saturating_sub(history.dead.len() as u64);
    if more > 0 {
        body.push_str(&format!("<p class=\"muted\">And {} more: <code>safepoint results {} --all</code> has all of them.</p>", show_count(more), escaped(&history.status.name)));
    }
    format!(
        "<section class=\"card long\" aria-labelledby=\"dead\"><h2 id=\"dead\">Dead items</h2><p class=\"muted\">{} will not be attempted again unless somebody says so: <code>safepoint retry {}</code>.</p>{body}</section>\n",
        show_number_of(total, "item"),
        escaped(&history.status.name)
    )
}

/// The errors that several items died of.
fn by_error(history: &History) -> String {
    let common = history.dead_by_error.iter();
    let common: Vec<_> = common.filter(|(_, count)| *count > 1).collect();
    if common.is_empty() || history.dead.len() < 4 {
        return String::new();
    }
    let rows: String = common
        .iter()
        .map(|(error, count)| {
            format!(
                "<tr><td class=\"number\">{}</td><td class=\"text\"><bdi>{}</bdi></td></tr>\n",
                show_count(*count),
                excerpt(or_none(error), 300)
            )
        })
        .collect();
    format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Errors that several items died of\">\
         <table><thead><tr><th scope=\"col\" class=\"number\">items</th><th scope=\"col\">died of</th></tr></thead><tbody>\n{rows}</tbody></table></div>"
    )
}

fn or_none(error: &str) -> &str {
    if error.is_empty() {
        "no error was kept"
    } else {
        error
    }
}

fn block(bytes: &[u8]) -> String {
    escaped(String::from_utf8_lossy(bytes).trim_end())
}
