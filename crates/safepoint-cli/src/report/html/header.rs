//! The top of the page: who the job is, and its figures.

use safepoint::job::Tally;
use safepoint::job::history::{Ending, History, Kind};

use super::escape::{beginning, escaped, excerpt};
use super::scale::{mean, moment, ms, number, percent, rate, us};
use super::time_line;
use crate::commands::status::counted_steps;
use crate::time::{show_count, show_number_of};

pub(super) fn section(history: &History) -> String {
    let status = &history.status.status;
    let colour = match status.as_str() {
        "completed" => "good",
        "running" => "done",
        "failed" => "fail",
        _ => "hold",
    };
    let command = history
        .definition
        .iter()
        .find(|(name, _)| name == "command");
    let command = command.map_or(String::new(), |(_, command)| {
        format!(
            "<code class=\"command\"><bdi>{}</bdi></code>",
            beginning(command, 1000)
        )
    });
    format!(
        "<header>\n<p class=\"eyebrow\">{}</p>\n<div class=\"title\"><h1>{}</h1><span class=\"badge {colour}\">{}</span></div>\n{command}\n<p class=\"lead\">{}</p>\n</header>\n{}{}",
        match history.kind {
            Kind::Items => "Report of a job",
            Kind::Steps => "Report of a job of steps",
            Kind::Supervised => "Report of a supervised command",
        },
        escaped(&history.status.name),
        escaped(&status.replace('_', " ")),
        span_of_time(history),
        figures(history),
        share(history),
    )
}

fn span_of_time(history: &History) -> String {
    let (Some(first), Some(last)) = (history.runs.first(), history.runs.last()) else {
        return "It has not run yet.".to_owned();
    };
    let wall = u64::try_from(last.ended_at_ms - first.started_at_ms).unwrap_or(0);
    let end = if last.ending == Ending::Running {
        "it still runs".to_owned()
    } else {
        format!("last end {} UTC", moment(last.ended_at_ms))
    };
    format!(
        "First start {} UTC, {end}: <b>{}</b> of work within {}.",
        moment(first.started_at_ms),
        ms(history.worked_ms),
        ms(wall)
    )
}

/// Facts with their titles.
#[derive(Default)]
struct Facts(String);

impl Facts {
    fn add(&mut self, title: &str, value: &str, aside: &str) {
        self.0
            .push_str(&format!("<div><dt>{title}</dt><dd>{value}</dd>"));
        if !aside.is_empty() {
            self.0.push_str(&format!("<dd>{aside}</dd>"));
        }
        self.0.push_str("</div>");
    }
}

fn figures(history: &History) -> String {
    let mut facts = Facts::default();
    match history.kind {
        Kind::Items => items(history, &mut facts),
        Kind::Steps => facts.add(
            "Steps",
            &show_count(history.status.steps.complete),
            &counted_steps(&history.status),
        ),
        Kind::Supervised => starts(history, &mut facts),
    }
    let cut = history.runs.iter().filter(|run| time_line::is_cut(run));
    let interruptions = match cut.count() as u64 {
        0 => "no interruption".to_owned(),
        cut => show_number_of(cut, "interruption"),
    };
    let runs = history.runs.len() as u64;
    facts.add("Runs", &show_count(runs), &interruptions);
    work(history, &mut facts);
    cost(history, &mut facts);
    format!("<dl class=\"figures\">{}</dl>\n", facts.0)
}

fn items(history: &History, facts: &mut Facts) {
    let tally = Tally::of(&history.status.progress);
    let of = tally.total.map_or_else(
        || "of an unknown number".to_owned(),
        |total| format!("of {}", show_number_of(total, "item")),
    );
    facts.add("Done", &show_count(tally.done), &of);
    let failed = match history.failed.count {
        0 => String::new(),
        failed => format!("{} failed", show_number_of(failed, "attempt")),
    };
    let dead = history.status.progress.counts.dead;
    facts.add("Dead", &show_count(dead), &failed);
}

fn starts(history: &History, facts: &mut Facts) {
    let ended = history
        .children
        .iter()
        .filter(|child| child.ended_at_ms.is_some());
    let unfinished = ended.filter(|child| !child.is_finished).count() as u64;
    facts.add(
        "Starts",
        &show_count(history.children.len() as u64),
        &format!("{} ended unfinished", show_count(unfinished)),
    );
    let child = history.status.child.as_ref();
    if let Some(checkpoint) = child.and_then(|child| child.checkpoint.as_deref()) {
        facts.add("Last checkpoint", &excerpt(checkpoint, 40), "");
    }
}

fn work(history: &History, facts: &mut Facts) {
    let worked = number(history.worked_ms.max(1));
    let is_items = history.kind == Kind::Items;
    let together = if is_items && history.busy_us > 0 {
        format!(
            "{} in progress on average",
            mean(number(history.busy_us) / 1000.0 / worked)
        )
    } else {
        String::new()
    };
    facts.add("Working time", &ms(history.worked_ms), &together);
    let done = history.status.progress.counts.done;
    if is_items && done > 0 {
        facts.add(
            "Rate",
            &rate(number(done) * 1000.0 / worked),
            "items done, over working time",
        );
    }
    let quantile = |share| history.done.quantile_us(share);
    if let (Some(median), Some(slow)) = (quantile(0.5), quantile(0.99))
        && history.kind != Kind::Supervised
    {
        facts.add("Median", &us(median), &format!("p99 {}", us(slow)));
    }
}

fn cost(history: &History, facts: &mut Facts) {
    let status = &history.status;
    let done = status.progress.counts.done;
    let (cost, aside) = if let Some(child) = &status.child {
        (child.cost_micros, "in the last run".to_owned())
    } else {
        let cost = status.progress.cost_micros;
        let each = number(cost) / 1e6 / number(done.max(1));
        (cost, format!("{each:.4} for each item done"))
    };
    if cost > 0 {
        facts.add("Cost", &format!("{:.2}", number(cost) / 1e6), &aside);
    }
}

/// How much is done, as a bar.
fn share(history: &History) -> String {
    let tally = Tally::of(&history.status.progress);
    let counts = history.status.progress.counts;
    let Some(total) = tally
        .total
        .filter(|total| *total > 0 && history.kind == Kind::Items)
    else {
        return String::new();
    };
    let left = total.saturating_sub(counts.done + counts.dead + counts.waiting);
    let parts = [
        ("done", "fill-done", counts.done),
        ("dead", "fill-fail", counts.dead),
        ("waiting for another attempt", "fill-hold", counts.waiting),
        ("left", "fill-rest", left),
    ];
    let there = || parts.iter().filter(|(_, _, count)| *count > 0);
    let bar: String = there()
        .map(|(_, class, count)| {
            format!(
                "<span class=\"{class}\" style=\"width:{}\"></span>",
                percent(number(*count) / number(total) * 100.0)
            )
        })
        .collect();
    let legend: String = there()
        .map(|(name, class, count)| {
            format!(
                "<li><i class=\"{class}\"></i>{} {name}</li>",
                show_count(*count)
            )
        })
        .collect();
    format!(
        "<div class=\"share\" role=\"img\" aria-label=\"{} of {} items done\">{bar}</div><ul class=\"legend\">{legend}</ul>\n",
        show_count(counts.done),
        show_count(total)
    )
}
