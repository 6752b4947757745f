//! `--format html`: one page that needs nothing else, not even a script.
//!
//! Drawings are inline SVG with places in percent of the width and text in its own size, so that they fit a phone, a screen and paper.
//! Everything that came from outside goes through [`escape`].

mod escape;
mod header;
mod histogram;
mod scale;
mod spans;
mod tables;
mod time_line;

use safepoint::job::history::{History, Kind};

use self::escape::escaped;
use self::scale::{Scale, moment};

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
        header = header::section(history),
        sections = sections.concat(),
        footer = footer(history),
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
