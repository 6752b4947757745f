//! `--format html`: one page that needs nothing else, not even a script.
//!
//! Drawings are inline SVG with places in percent of the width and text in its own size, so that they fit a phone, a screen and paper.
//! Everything that came from outside goes through [`escape`].

mod escape;
mod histogram;
mod scale;
mod spans;
mod tables;
mod time_line;

use safepoint::job::Tally;
use safepoint::job::history::{History, Kind};

use self::escape::{escaped, excerpt};
use self::scale::{Scale, mean, moment, ms, number, percent, rate, us};
use crate::commands::status::counted_steps;
use crate::time::{show_count, show_number_of};

const STYLE: &str = include_str!("style.css");
/// Nothing may be loaded, nothing may run, nothing may be sent.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The page of a job.
pub(super) fn page(history: &History) -> String {
    let scale = Scale::over(&history.runs);
    let name = escaped(&history.status.name);
    let of = match history.kind {
        Kind::Items => "attempts",
        Kind::Steps => "steps",
        Kind::Supervised => "starts",
    };
    let sections = [
        time_line::section(history, &scale),
        spans::section(history, &scale),
        tables::runs(history),
        tables::stops(history),
        tables::children(history),
        tables::dead(history),
        histogram::section(history, of),
        if history.kind == Kind::Supervised {
            String::new()
        } else {
            tables::slowest(history)
        },
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"generator\" content=\"safepoint {version}\">\n<title>{name}: {status}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{header}{sections}{footer}</main>\n</body>\n</html>\n",
        version = env!("CARGO_PKG_VERSION"),
        status = escaped(&history.status.status),
        header = header(history),
        sections = sections.concat(),
        footer = footer(history),
    )
}

fn header(history: &History) -> String {
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
            excerpt(command, 600)
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
    let end = if last.ending.name() == "running" {
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

fn fact(title: &str, value: &str, aside: &str) -> String {
    let aside = if aside.is_empty() {
        String::new()
    } else {
        format!("<dd>{aside}</dd>")
    };
    format!("<div><dt>{title}</dt><dd>{value}</dd>{aside}</div>")
}

fn figures(history: &History) -> String {
    let status = &history.status;
    let tally = Tally::of(&status.progress);
    let counts = status.progress.counts;
    let mut facts = String::new();
    match history.kind {
        Kind::Items => {
            let of = tally.total.map_or_else(
                || "of an unknown number".to_owned(),
                |total| format!("of {}", show_number_of(total, "item")),
            );
            facts.push_str(&fact("Done", &show_count(counts.done), &of));
            let failed = format!("{} failed", show_number_of(history.failed.count, "attempt"));
            facts.push_str(&fact(
                "Dead",
                &show_count(counts.dead),
                if history.failed.count > 0 {
                    &failed
                } else {
                    ""
                },
            ));
        }
        Kind::Steps => facts.push_str(&fact(
            "Steps",
            &show_count(status.steps.complete),
            &escaped(&counted_steps(status)),
        )),
        Kind::Supervised => {
            let starts = history.children.len() as u64;
            let unfinished = history
                .children
                .iter()
                .filter(|child| child.ended_at_ms.is_some() && !child.is_finished)
                .count();
            facts.push_str(&fact(
                "Starts",
                &show_count(starts),
                &format!("{} ended unfinished", show_count(unfinished as u64)),
            ));
        }
    }
    let cut = history
        .runs
        .iter()
        .filter(|run| time_line::is_cut(run))
        .count() as u64;
    facts.push_str(&fact(
        "Runs",
        &show_count(history.runs.len() as u64),
        &if cut == 0 {
            "no interruption".to_owned()
        } else {
            show_number_of(cut, "interruption")
        },
    ));
    let together = match history.kind {
        Kind::Items if history.worked_ms > 0 && history.busy_us > 0 => format!(
            "{} in progress on average",
            mean(number(history.busy_us) / 1000.0 / number(history.worked_ms))
        ),
        _ => String::new(),
    };
    facts.push_str(&fact("Working time", &ms(history.worked_ms), &together));
    if history.kind == Kind::Items && counts.done > 0 && history.worked_ms > 0 {
        facts.push_str(&fact(
            "Rate",
            &rate(number(counts.done) * 1000.0 / number(history.worked_ms)),
            "items done, over working time",
        ));
    }
    if let Some(median) = history.done.quantile_us(0.5) {
        let slow = history.done.quantile_us(0.99).unwrap_or(median);
        facts.push_str(&fact("Median", &us(median), &format!("p99 {}", us(slow))));
    }
    let cost = status.progress.cost_micros;
    if cost > 0 {
        let each = if counts.done > 0 {
            format!(
                "{:.4} for each item done",
                number(cost) / 1e6 / number(counts.done)
            )
        } else {
            String::new()
        };
        facts.push_str(&fact("Cost", &format!("{:.2}", number(cost) / 1e6), &each));
    }
    format!("<dl class=\"figures\">{facts}</dl>\n")
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

fn footer(history: &History) -> String {
    format!(
        "<footer>Read {} UTC. All times are UTC. Made by safepoint {}; state made by {}.</footer>\n",
        moment(history.read_at_ms),
        env!("CARGO_PKG_VERSION"),
        escaped(&history.job.created_by)
    )
}
