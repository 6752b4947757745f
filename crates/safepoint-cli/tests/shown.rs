//! What a command did, as a whole: exit code, standard output and standard error, compared with what is written down.

use crate::support::{Place, Ran};

/// What differs from run to run, and what stands for it.
pub(crate) const FILTERS: &[(&str, &str)] = &[
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "[TIME]"),
    (r"process \d+", "process [PID]"),
    (r#"pid(":|=)\d+"#, "pid$1[PID]"),
    (r"on `[^`]+`", "on `[HOST]`"),
    (r#""host":"[^"]+""#, r#""host":"[HOST]""#),
    (r#""(duration_us|age_ms)":\d+"#, r#""$1":[N]"#),
    (
        r#""(items_per_second|eta_seconds)":[0-9.e-]+"#,
        r#""$1":[N]"#,
    ),
    (r#""(file_bytes|took_us|bytes)":\d+"#, r#""$1":[N]"#),
    (r"(?m),0,\d+,1,$", ",0,[N],1,"),
    (r"elapsed_seconds=[0-9.e-]+", "elapsed_seconds=[N]"),
    (r"\d+(\.\d+)? items/[sh]", "[RATE]"),
    (r"\d+\.\d [KM]iB", "[SIZE]"),
    (
        r"\b(after|in|took|about|up to|process \[PID\],)( +)\d+(\.\d+)?m?s\b",
        "$1$2[DURATION]",
    ),
    (r"(just now|\d+(\.\d+)?s ago|\d+h \d\dm ago)", "[AGO]"),
    (r"\b0\.\d+\.\d+\b", "[VERSION]"),
    (r" +\d+ms  ", "  [TOOK]  "),
    // Columns that are as wide as what stands for a time.
    (r"\b(SAVED|USED)  +", "$1  "),
    (r"\[AGO\]  +", "[AGO]  "),
];

/// Compares what a command did, as a whole.
macro_rules! shows {
    ($place:expr, $ran:expr, @$text:literal) => {
        insta::with_settings!({filters => $crate::shown::FILTERS.iter().copied()}, {
            insta::assert_snapshot!($crate::shown::shown(&$place, &$ran), @$text);
        });
    };
}

pub(crate) use shows;

pub(crate) fn shown(place: &Place, ran: &Ran) -> String {
    let end = match (ran.code, ran.signal) {
        (Some(code), _) => format!("exit {code}"),
        (None, signal) => format!("killed by {}", signal.unwrap_or(0)),
    };
    let text = format!(
        "{end}\n--- stdout\n{}--- stderr\n{}",
        ran.stdout, ran.stderr
    );
    let canonical = place.path().canonicalize().expect("it is there");
    text.replace(&*canonical.to_string_lossy(), "[DIR]")
        .replace(&*place.path().to_string_lossy(), "[DIR]")
}
