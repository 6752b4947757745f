//! Each attempt or child as a bar on a lane, where there are few enough; steps as a waterfall.

use safepoint::job::history::{History, Kind, Span, SpanEnd};

use super::escape::excerpt;
use super::scale::{Scale, moment, percent, us};
use crate::report::lanes::Lanes;
use crate::time::show_count;

/// More lanes would be a page of their own.
const MAX_LANES: usize = 64;
/// How many steps are drawn, each on a line.
const MAX_STEPS: usize = 300;
const LANE: usize = 11;

pub(super) fn colour(end: SpanEnd) -> &'static str {
    match end {
        SpanEnd::Done => "done",
        SpanEnd::Failed => "fail",
        SpanEnd::CutOff => "hold",
    }
}

pub(super) fn section(history: &History, scale: &Scale<'_>) -> String {
    // Of more attempts than were kept only the longest are known, and they alone would draw a false picture.
    let is_whole = history.total_spans == history.spans.len() as u64;
    match history.kind {
        _ if history.spans.is_empty() => String::new(),
        Kind::Steps => waterfall(history, scale),
        Kind::Items if !is_whole => String::new(),
        Kind::Items => lanes(history, scale, "Attempts"),
        Kind::Supervised => lanes(history, scale, "The command"),
    }
}

/// Where a span is, if its run is drawn.
fn place(scale: &Scale<'_>, span: &Span) -> Option<(f64, f64)> {
    let place = scale.place(span.run)?;
    let run = &scale.runs[place];
    let ended = span
        .started_at_ms
        .saturating_add_unsigned(span.duration_us / 1000);
    let from = scale.at(place, run.working_ms(span.started_at_ms));
    let to = scale.at(place, run.working_ms(ended));
    Some((from, (to - from).max(0.15)))
}

pub(super) fn name(span: &Span) -> String {
    match (&span.name, span.index) {
        (Some(name), Some(index)) => format!("{} (item {index})", excerpt(name, 80)),
        (Some(name), None) => excerpt(name, 120),
        (None, Some(index)) => format!("item {index}"),
        (None, None) => format!("start {}", span.attempt),
    }
}

fn title(span: &Span) -> String {
    let attempt = if span.index.is_some() && span.attempt > 1 {
        format!(", attempt {}", span.attempt)
    } else {
        String::new()
    };
    let end = match span.end {
        SpanEnd::Done => "done",
        SpanEnd::Failed => "failed",
        SpanEnd::CutOff => "cut off or in progress",
    };
    format!(
        "{}{attempt}: {end} after {}, began {} UTC in run {}",
        name(span),
        us(span.duration_us),
        moment(span.started_at_ms),
        span.run
    )
}

fn lanes(history: &History, scale: &Scale<'_>, heading: &str) -> String {
    let mut lanes = Lanes::default();
    let (mut svg, mut drawn) = (String::new(), 0_u64);
    for span in &history.spans {
        let Some((from, width)) = place(scale, span) else {
            continue;
        };
        let from_us = span.started_at_ms.saturating_mul(1000);
        let (lane, _) = lanes.take(from_us, from_us.saturating_add_unsigned(span.duration_us));
        if lane >= MAX_LANES {
            continue;
        }
        drawn += 1;
        svg.push_str(&format!(
            "<rect class=\"fill-{}\" x=\"{}\" width=\"{}\" y=\"{}\" height=\"{}\" rx=\"1.5\"><title>{}</title></rect>",
            colour(span.end),
            percent(from),
            percent(width),
            lane * LANE,
            LANE - 2,
            title(span)
        ));
    }
    if drawn == 0 {
        return String::new();
    }
    let height = lanes.count().min(MAX_LANES) * LANE;
    let about = format!(
        "{} of {}, each from its beginning to its end.",
        show_count(drawn),
        show_count(history.total_spans)
    );
    let note = if history.kind == Kind::Items {
        " What a stop or a kill ended left no trace; it ran again."
    } else {
        ""
    };
    format!(
        "<section class=\"card\" aria-labelledby=\"spans\"><h2 id=\"spans\">{heading}</h2><p class=\"muted\">{about}{note}</p>\
         <figure class=\"panel\"><svg width=\"100%\" height=\"{height}\" role=\"img\" aria-labelledby=\"spans-title spans-desc\">\
         <title id=\"spans-title\">{heading}</title><desc id=\"spans-desc\">{about}</desc>{svg}</svg></figure>{}</section>\n",
        legend(history)
    )
}

fn waterfall(history: &History, scale: &Scale<'_>) -> String {
    let mut rows = String::new();
    for span in history.spans.iter().take(MAX_STEPS) {
        let whole = span.name.as_deref().unwrap_or_default();
        let (above, last) = whole
            .rsplit_once('/')
            .map_or(("", whole), |(above, last)| (above, last));
        let above = if above.is_empty() {
            String::new()
        } else {
            format!("<span class=\"muted\">{}/</span>", excerpt(above, 80))
        };
        let bar = place(scale, span).map_or(String::new(), |(from, width)| {
            format!(
                "<svg width=\"100%\" height=\"12\" aria-hidden=\"true\"><rect class=\"back\" width=\"100%\" y=\"3\" height=\"8\" rx=\"2\"/>\
                 <rect class=\"fill-{}\" x=\"{}\" width=\"{}\" y=\"3\" height=\"8\" rx=\"1.5\"><title>{}</title></rect></svg>",
                colour(span.end),
                percent(from),
                percent(width.max(0.4)),
                title(span)
            )
        });
        let took = if span.end == SpanEnd::CutOff {
            "cut off".to_owned()
        } else {
            us(span.duration_us)
        };
        rows.push_str(&format!(
            "<tr><td><bdi>{above}{}</bdi></td><td>{bar}</td><td class=\"number\">{took}</td></tr>\n",
            excerpt(last, 80)
        ));
    }
    let shown = history.spans.len().min(MAX_STEPS);
    let note = if shown as u64 == history.total_spans {
        "In the order in which they began.".to_owned()
    } else {
        format!(
            "{} of {}, the longest ones among them.",
            show_count(shown as u64),
            show_count(history.total_spans)
        )
    };
    format!(
        "<section class=\"card long\" aria-labelledby=\"spans\"><h2 id=\"spans\">Steps</h2><p class=\"muted\">{note}</p>\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"spans\"><table class=\"fall\"><thead><tr><th>step</th><th>over working time</th><th class=\"number\">took</th></tr></thead><tbody>\n{rows}</tbody></table></div>{}</section>\n",
        legend(history)
    )
}

fn legend(history: &History) -> String {
    let mut entries = String::new();
    for (end, words) in [
        (SpanEnd::Done, "done"),
        (
            SpanEnd::Failed,
            if history.kind == Kind::Supervised {
                "ended unfinished"
            } else {
                "failed"
            },
        ),
        (SpanEnd::CutOff, "cut off, or in progress"),
    ] {
        if history.spans.iter().any(|span| span.end == end) {
            entries.push_str(&format!(
                "<li><i class=\"fill-{}\"></i>{words}</li>",
                colour(end)
            ));
        }
    }
    format!("<ul class=\"legend\">{entries}</ul>")
}
