//! The timeline over all runs: three panels above the same working time, and a line through them at each interruption.

use safepoint::job::history::{Bucket, Ending, History, Kind, PastRun};

use super::escape::{escaped, excerpt};
use super::scale::{Scale, mean, moment, ms, nice_above, percent, rate};
use crate::time::{show_count, show_number_of};

const RUNS_HEIGHT: u32 = 52;
const PANEL_HEIGHT: u32 = 96;

/// The colour of a run, by its end.
pub(super) fn colour(ending: Ending) -> &'static str {
    match ending {
        Ending::Running => "done",
        Ending::Completed => "good",
        Ending::Interrupted => "hold",
        Ending::Failed | Ending::Crashed => "fail",
    }
}

/// Why a run ended, as far as it is known, and safe.
pub(super) fn why(history: &History, run: &PastRun) -> String {
    let asked = history.stops.iter().find(|stop| stop.run == run.run);
    match (asked, &run.reason, run.ending) {
        (_, _, Ending::Completed | Ending::Running) => String::new(),
        (_, _, Ending::Crashed) => "killed or crashed".to_owned(),
        (Some(stop), _, _) if !stop.message.is_empty() => excerpt(&stop.message, 80),
        (_, Some(reason), _) => excerpt(reason, 80),
        _ => String::new(),
    }
}

pub(super) fn section(history: &History, scale: &Scale<'_>) -> String {
    let stopped = history.runs.iter().filter(|run| is_cut(run)).count();
    let mut lead = match stopped {
        0 => "No interruption.".to_owned(),
        1 => "One interruption.".to_owned(),
        more => format!("{} interruptions.", show_count(more as u64)),
    };
    if history.runs.len() > 1 {
        lead.push_str(" The time between runs is left out: it is in the table of runs.");
    }
    if scale.runs.len() < history.runs.len() {
        lead.push_str(&format!(
            " The last {} of {} runs are drawn.",
            scale.runs.len(),
            show_count(history.runs.len() as u64)
        ));
    }
    let mut panels = runs(history, scale);
    if history.kind == Kind::Items {
        let buckets = drawn(history, scale);
        panels.push_str(&concurrency(scale, &buckets));
        panels.push_str(&throughput(scale, &buckets));
    }
    format!(
        "<section class=\"card\" aria-labelledby=\"timeline\"><h2 id=\"timeline\">Timeline</h2><p class=\"muted\">{lead}</p>{panels}{axis}{legend}</section>\n",
        axis = axis(scale),
        legend = legend(history),
    )
}

/// Whether a run ended before its work did.
pub(super) fn is_cut(run: &PastRun) -> bool {
    !matches!(run.ending, Ending::Completed | Ending::Running)
}

fn drawn<'a>(history: &'a History, scale: &Scale<'_>) -> Vec<(usize, &'a Bucket)> {
    let buckets = history.over_time.buckets.iter();
    buckets
        .filter_map(|bucket| Some((scale.place(bucket.run)?, bucket)))
        .collect()
}

/// The runs as bars, with a number at each interruption.
fn runs(history: &History, scale: &Scale<'_>) -> String {
    let mut svg = String::new();
    for (place, run) in scale.runs.iter().enumerate() {
        let (from, to) = scale.of_run(place);
        let reason = why(history, run);
        svg.push_str(&format!(
            "<g><title>run {}: {} UTC, {}, {}{}{}</title><rect x=\"{}\" y=\"24\" width=\"{}\" height=\"24\" rx=\"3\" class=\"fill-{}\"/>",
            run.run,
            moment(run.started_at_ms),
            ms(run.lasted_ms()),
            run.ending.name(),
            if reason.is_empty() { "" } else { ": " },
            reason,
            percent(from),
            // A run that took no time is there, too.
            percent((to - from).max(0.25)),
            colour(run.ending),
        ));
        if to - from > 12.0 {
            svg.push_str(&format!(
                "<text class=\"on\" x=\"{}\" y=\"40\" dx=\"7\">run {}</text>",
                percent(from),
                run.run
            ));
        }
        svg.push_str("</g>");
    }
    for pause in &history.pauses {
        let Some(place) = scale.place(pause.run) else {
            continue;
        };
        let run = &scale.runs[place];
        let from = scale.at(place, run.working_ms(pause.from_ms));
        let to = scale.at(
            place,
            run.working_ms(pause.to_ms.unwrap_or(run.ended_at_ms)),
        );
        svg.push_str(&format!(
            "<rect class=\"pause\" x=\"{}\" y=\"24\" width=\"{}\" height=\"24\"><title>{} at {} UTC</title></rect>",
            percent(from),
            percent((to - from).max(0.1)),
            if pause.event == "suspended" { "suspended" } else { "paused: not now, said a command" },
            moment(pause.from_ms),
        ));
    }
    for mark in &history.marks {
        let Some(place) = scale.place(mark.run) else {
            continue;
        };
        let at = percent(scale.at(place, scale.runs[place].working_ms(mark.at_ms)));
        let fields = mark
            .fields
            .iter()
            .map(|(name, value)| format!(" {}={}", escaped(name), excerpt(value, 60)));
        svg.push_str(&format!(
            "<circle cx=\"{at}\" cy=\"36\" r=\"3\" fill=\"var(--card)\"><title>{}{} at {} UTC</title></circle>",
            escaped(&mark.event),
            fields.collect::<String>(),
            moment(mark.at_ms),
        ));
    }
    svg.push_str(&lines(scale, RUNS_HEIGHT, 20));
    svg.push_str(&bullets(scale));
    figure(
        "Runs",
        &show_number_of(history.runs.len() as u64, "run"),
        "runs",
        &format!(
            "Each run as a bar from its start to its end. {}",
            told(history, scale)
        ),
        RUNS_HEIGHT,
        &svg,
    )
}

/// The interruptions in words, for who cannot see them.
fn told(history: &History, scale: &Scale<'_>) -> String {
    let cut = scale.runs.iter().filter(|run| is_cut(run)).take(20);
    cut.map(|run| {
        format!(
            "Run {} was {}: {}. ",
            run.run,
            run.ending.name(),
            why(history, run)
        )
    })
    .collect()
}

/// A line at each interruption.
fn lines(scale: &Scale<'_>, height: u32, from: u32) -> String {
    let mut svg = String::new();
    for (place, run) in scale.runs.iter().enumerate().filter(|(_, run)| is_cut(run)) {
        let at = percent(scale.behind(place));
        let class = if run.ending == Ending::Interrupted {
            "stop"
        } else {
            "crash"
        };
        svg.push_str(&format!(
            "<line class=\"{class}\" x1=\"{at}\" x2=\"{at}\" y1=\"{from}\" y2=\"{height}\"/>"
        ));
    }
    svg
}

/// The numbers of the runs that were interrupted, above their lines, where there is room.
fn bullets(scale: &Scale<'_>) -> String {
    let mut svg = String::new();
    let mut last = f64::MIN;
    for (place, run) in scale.runs.iter().enumerate().filter(|(_, run)| is_cut(run)) {
        let at = scale.behind(place);
        if at - last < 5.5 {
            continue;
        }
        last = at;
        let class = if run.ending == Ending::Interrupted {
            "bullet"
        } else {
            "bullet is-crash"
        };
        let at = percent(at);
        svg.push_str(&format!(
            "<circle class=\"{class}\" cx=\"{at}\" cy=\"10\" r=\"9\"/><text class=\"on\" x=\"{at}\" y=\"14\" text-anchor=\"middle\">{}</text>",
            run.run
        ));
    }
    svg
}

fn figure(title: &str, aside: &str, id: &str, description: &str, height: u32, svg: &str) -> String {
    format!(
        "<figure class=\"panel\"><figcaption>{title}<span>{aside}</span></figcaption>\
         <svg width=\"100%\" height=\"{height}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\
         <title id=\"{id}-title\">{title}</title><desc id=\"{id}-desc\">{description}</desc>{svg}</svg></figure>\n"
    )
}

/// A height for each bucket, as an area with an edge, run by run.
fn area(
    scale: &Scale<'_>,
    buckets: &[(usize, &Bucket)],
    top: f64,
    value: impl Fn(&Bucket) -> f64,
    title: impl Fn(&Bucket) -> String,
) -> String {
    let (mut fill, mut edge, mut hits) = (String::new(), String::new(), String::new());
    let mut run = None;
    for (at, (place, bucket)) in buckets.iter().enumerate() {
        let (from, to) = (
            scale.at(*place, bucket.from_ms) * 10.0,
            scale.at(*place, bucket.from_ms + bucket.lasts_ms) * 10.0,
        );
        let y = 100.0 - (value(bucket) / top * 100.0).min(100.0);
        if run != Some(bucket.run) {
            fill.push_str(&format!("M{from:.2} 100"));
            edge.push_str(&format!("M{from:.2} {y:.2}"));
            run = Some(bucket.run);
        }
        fill.push_str(&format!("L{from:.2} {y:.2}L{to:.2} {y:.2}"));
        edge.push_str(&format!("L{from:.2} {y:.2}L{to:.2} {y:.2}"));
        if buckets
            .get(at + 1)
            .is_none_or(|(_, next)| next.run != bucket.run)
        {
            fill.push_str(&format!("L{to:.2} 100Z"));
        }
        hits.push_str(&format!(
            "<rect class=\"hit\" x=\"{}\" width=\"{}\" y=\"0\" height=\"{PANEL_HEIGHT}\"><title>{}</title></rect>",
            percent(from / 10.0),
            percent((to - from) / 10.0),
            title(bucket)
        ));
    }
    format!(
        "<svg y=\"4\" width=\"100%\" height=\"{}\" viewBox=\"0 0 1000 100\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <path class=\"area fill-done\" d=\"{fill}\"/><path class=\"edge\" d=\"{edge}\"/></svg>{hits}",
        PANEL_HEIGHT - 4
    )
}

/// Lines at the whole and the half of the height, with what they stand for.
fn grid(top: f64, show: impl Fn(f64) -> String) -> String {
    let bottom = PANEL_HEIGHT;
    let half = 4 + (PANEL_HEIGHT - 4) / 2;
    format!(
        "<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
         <line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"{half}\" y2=\"{half}\"/>\
         <line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"4\" y2=\"4\"/>\
         <text x=\"2\" y=\"16\">{}</text><text x=\"2\" y=\"{}\">{}</text>",
        show(top),
        half + 12,
        show(top / 2.0)
    )
}

fn when(scale: &Scale<'_>, bucket: &Bucket) -> String {
    let run = scale.place(bucket.run).map(|place| &scale.runs[place]);
    let start = run.map_or(0, |run| {
        run.started_at_ms + (bucket.from_ms - run.from_ms).cast_signed()
    });
    format!(
        "run {}, {} UTC, {}",
        bucket.run,
        moment(start),
        ms(bucket.lasts_ms)
    )
}

fn concurrency(scale: &Scale<'_>, buckets: &[(usize, &Bucket)]) -> String {
    let most = buckets
        .iter()
        .map(|(_, bucket)| bucket.concurrency())
        .fold(0.0, f64::max);
    let top = nice_above(most);
    let title = |bucket: &Bucket| {
        format!(
            "{}: {} in progress",
            when(scale, bucket),
            mean(bucket.concurrency())
        )
    };
    let svg = format!(
        "{}{}{}",
        area(scale, buckets, top, Bucket::concurrency, title),
        grid(top, mean),
        lines(scale, PANEL_HEIGHT, 0)
    );
    let description = format!(
        "Attempts in progress at a time over working time, at most {} on average in one stretch.",
        mean(most)
    );
    figure(
        "In progress",
        &format!("at most {}", mean(most)),
        "concurrency",
        &description,
        PANEL_HEIGHT,
        &svg,
    )
}

fn throughput(scale: &Scale<'_>, buckets: &[(usize, &Bucket)]) -> String {
    let most = buckets
        .iter()
        .map(|(_, bucket)| bucket.done_per_second())
        .fold(0.0, f64::max);
    let top = nice_above(most);
    let title = |bucket: &Bucket| {
        format!(
            "{}: {} done, {} failed, {}",
            when(scale, bucket),
            bucket.done,
            bucket.failed,
            rate(bucket.done_per_second())
        )
    };
    let mut svg = format!(
        "{}{}",
        area(scale, buckets, top, Bucket::done_per_second, title),
        grid(top, rate)
    );
    for (place, bucket) in buckets.iter().filter(|(_, bucket)| bucket.failed > 0) {
        let from = scale.at(*place, bucket.from_ms);
        let to = scale.at(*place, bucket.from_ms + bucket.lasts_ms);
        svg.push_str(&format!(
            "<rect class=\"fill-fail\" x=\"{}\" width=\"{}\" y=\"{}\" height=\"5\"><title>{}</title></rect>",
            percent(from),
            percent((to - from).max(0.3)),
            PANEL_HEIGHT - 5,
            title(bucket)
        ));
    }
    svg.push_str(&lines(scale, PANEL_HEIGHT, 0));
    let description = format!(
        "Items done in a second over working time, at most {}. Stretches in which attempts failed are marked at the bottom.",
        rate(most)
    );
    figure(
        "Done",
        &format!("at most {}", rate(most)),
        "throughput",
        &description,
        PANEL_HEIGHT,
        &svg,
    )
}

fn axis(scale: &Scale<'_>) -> String {
    let mut svg = String::new();
    for (at, text) in scale.ticks() {
        let anchor = match at {
            at if at < 3.0 => "start",
            at if at > 94.0 => "end",
            _ => "middle",
        };
        svg.push_str(&format!(
            "<text x=\"{}\" y=\"14\" text-anchor=\"{anchor}\">{text}</text>",
            percent(at)
        ));
    }
    format!(
        "<svg width=\"100%\" height=\"20\" aria-hidden=\"true\">{svg}</svg><p class=\"muted\"><small>Working time: the runs one behind the other.</small></p>"
    )
}

fn legend(history: &History) -> String {
    let mut entries = String::new();
    for ending in [
        Ending::Completed,
        Ending::Interrupted,
        Ending::Failed,
        Ending::Crashed,
        Ending::Running,
    ] {
        if history.runs.iter().any(|run| run.ending == ending) {
            entries.push_str(&format!(
                "<li><i class=\"fill-{}\"></i>run {}</li>",
                colour(ending),
                ending.name()
            ));
        }
    }
    let has = |crashed: bool| {
        history
            .runs
            .iter()
            .any(|run| is_cut(run) && (run.ending != Ending::Interrupted) == crashed)
    };
    if has(false) {
        entries.push_str("<li><i class=\"stroke dashed\"></i>stopped, to go on later</li>");
    }
    if has(true) {
        entries.push_str(
            "<li><i class=\"stroke\" style=\"border-color:var(--fail)\"></i>crashed or failed</li>",
        );
    }
    if history.kind == Kind::Items
        && history
            .over_time
            .buckets
            .iter()
            .any(|bucket| bucket.failed > 0)
    {
        entries.push_str("<li><i class=\"fill-fail\"></i>attempts failed</li>");
    }
    format!("<ul class=\"legend\">{entries}</ul>")
}
