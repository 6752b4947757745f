//! The stop requests that were made, for those who ask.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::exposition::Exposition;
use crate::clock::rfc_3339;
use crate::shutdown::{Mode, Phase, ShutdownToken, Source};

/// The requests that reached `token`, oldest first, as a status has them: `source`, `mode`, `message`, `at`.
pub fn requests(token: &ShutdownToken) -> Value {
    let requests = token.requests();
    let one = |recorded: &crate::shutdown::Recorded| {
        json!({
            "source": recorded.request.source.name(),
            "mode": recorded.request.mode.name(),
            "message": recorded.request.message,
            "at": rfc_3339(recorded.at_ms),
        })
    };
    requests.iter().map(one).collect()
}

/// What a status says where nobody says more.
pub(super) fn status(token: &ShutdownToken) -> String {
    json!({"phase": token.phase().name(), "stop_requests": requests(token)}).to_string()
}

pub(super) fn metrics(token: &ShutdownToken, exposition: &mut Exposition) {
    let phase = token.phase();
    let mut family = exposition.state_set("safepoint_phase", "How far stopping has got.");
    for each in [
        Phase::Running,
        Phase::Draining,
        Phase::Terminating,
        Phase::Stopped,
    ] {
        family.state(each.name(), each == phase);
    }
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for recorded in token.requests() {
        let request = recorded.request;
        *counts
            .entry((word(request.source), mode(request.mode)))
            .or_default() += 1;
    }
    let mut family = exposition.counter(
        "safepoint_stop_requests",
        "Stop requests, by who asked and how.",
    );
    for ((source, mode), count) in counts {
        family.count(&[("source", source), ("mode", mode)], count);
    }
}

fn word(source: Source) -> &'static str {
    match source {
        Source::User => "user",
        Source::System => "system",
        Source::Programmatic => "programmatic",
        Source::Timeout => "timeout",
        Source::Budget => "budget",
        Source::Parent => "parent",
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Graceful => "graceful",
        Mode::Immediate => "immediate",
    }
}
