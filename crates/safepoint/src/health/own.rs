//! What this process uses, under the names that every Prometheus client gives it.

use super::exposition::Exposition;
use crate::process::OwnUse;

#[expect(
    clippy::cast_precision_loss,
    reason = "a metric is a float; sizes and counts are exact up to 2^53"
)]
pub(super) fn metrics(exposition: &mut Exposition) {
    let used = OwnUse::read();
    if let Some(seconds) = used.cpu_seconds {
        let help = "Processor time used, of user and system.";
        exposition
            .counter("process_cpu_seconds", help)
            .amount(&[], seconds);
    }
    let gauges = [
        (
            "process_resident_memory_bytes",
            "Memory that is resident.",
            used.resident_bytes.map(|bytes| bytes as f64),
        ),
        (
            "process_open_fds",
            "Descriptors that are open.",
            used.open_descriptors.map(|count| count as f64),
        ),
        (
            "process_max_fds",
            "Descriptors that may be open.",
            used.most_descriptors.map(|count| count as f64),
        ),
        (
            "process_start_time_seconds",
            "When the process began, in seconds since 1970.",
            used.began_at_seconds,
        ),
    ];
    for (name, help, value) in gauges {
        if let Some(value) = value {
            exposition.gauge(name, help).value(&[], value);
        }
    }
}
