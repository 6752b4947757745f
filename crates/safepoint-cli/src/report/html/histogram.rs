//! How long things took: a histogram whose bars grow with the time, and the quantiles in it.

use safepoint::job::history::{Durations, History, Kind};

use super::scale::{number, percent, us};
use crate::time::show_count;

const HEIGHT: u32 = 150;
/// Room for the names of the quantiles above the bars, and for those of times below them.
const ABOVE: u32 = 34;
const BELOW: u32 = 20;
const BARS: usize = 48;

pub(super) fn section(history: &History, of: &str) -> String {
    // A few are better read in their table.
    if history.kind == Kind::Supervised && history.done.count + history.failed.count < 5 {
        return String::new();
    }
    let all = [&history.done, &history.failed];
    let bars = Durations::bars_of(&all, BARS);
    let (Some((first, ..)), Some((_, last, _))) = (bars.first(), bars.last()) else {
        return String::new();
    };
    let most = bars
        .iter()
        .map(|(_, _, counts)| counts.iter().sum::<u64>())
        .max()
        .unwrap_or(1)
        .max(1);
    let width = 100.0 / number(bars.len() as u64);
    let height = f64::from(HEIGHT - ABOVE - BELOW);
    let mut svg = String::new();
    for (place, (from, to, counts)) in bars.iter().enumerate() {
        let mut bottom = f64::from(HEIGHT - BELOW);
        svg.push_str(&format!(
            "<g><title>{} to {}: {} done, {} failed</title>",
            us(*from),
            us(*to),
            show_count(counts[0]),
            show_count(counts[1])
        ));
        for (count, class) in counts.iter().zip(["fill-done", "fail-hatch fill-fail"]) {
            if *count > 0 {
                // One of a million is still to be seen.
                let tall = (number(*count) / number(most) * height).max(1.5);
                bottom -= tall;
                svg.push_str(&format!(
                    "<rect class=\"{class}\" x=\"{}\" width=\"{}\" y=\"{bottom:.1}\" height=\"{tall:.1}\"/>",
                    percent(number(place as u64) * width + width * 0.06),
                    percent(width * 0.88)
                ));
            }
        }
        svg.push_str("</g>");
    }
    svg.push_str(&format!(
        "<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"{0}\" y2=\"{0}\"/>",
        HEIGHT - BELOW
    ));
    let place = |duration: u64| -> f64 {
        let bar = bars
            .iter()
            .position(|(_, to, _)| duration < *to)
            .unwrap_or(bars.len() - 1);
        let (from, to, _) = &bars[bar];
        let inside = number(duration.saturating_sub(*from)) / number((to - from).max(1));
        (number(bar as u64) + inside.min(1.0)) * width
    };
    for (duration, text) in ticks(*first, *last) {
        let at = place(duration);
        svg.push_str(&format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{text}</text>",
            percent(at),
            HEIGHT - 5
        ));
    }
    let quantiles = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];
    let quantiles = quantiles.map(|(name, share)| (name, history.done.quantile_us(share)));
    for (row, (name, duration)) in quantiles.iter().enumerate() {
        let Some(duration) = duration else { continue };
        let at = place(*duration);
        let anchor = if at > 80.0 { "end" } else { "start" };
        let shift = if at > 80.0 { -4 } else { 4 };
        // Each on a line of its own, as they may be close together.
        let y = 10 + 11 * u32::try_from(row).unwrap_or(0);
        svg.push_str(&format!(
            "<line class=\"quantile\" x1=\"{0}\" x2=\"{0}\" y1=\"{1}\" y2=\"{2}\"/><text class=\"ink\" x=\"{0}\" y=\"{y}\" dx=\"{shift}\" text-anchor=\"{anchor}\">{name} {3}</text>",
            percent(at),
            y - 9,
            HEIGHT - BELOW,
            us(*duration)
        ));
    }
    let said = quantiles
        .iter()
        .filter_map(|(name, duration)| Some(format!("{name} {}", us((*duration)?))));
    let said = said.collect::<Vec<_>>().join(", ");
    let failed = if history.failed.count > 0 {
        format!(
            "<ul class=\"legend\"><li><i class=\"fill-done\"></i>done: {}</li><li><i class=\"fill-fail\"></i>failed: {}</li></ul>",
            show_count(history.done.count),
            show_count(history.failed.count)
        )
    } else {
        String::new()
    };
    let facts = history.done.mean_us().map_or(String::new(), |mean| {
        format!(
            "From {} to {}, {} on average.",
            us(history.done.shortest_us),
            us(history.done.longest_us),
            us(mean)
        )
    });
    format!(
        "<section class=\"card\" aria-labelledby=\"durations\"><h2 id=\"durations\">How long {of} took</h2><p class=\"muted\">{facts}</p>\
         <figure class=\"panel\"><svg width=\"100%\" height=\"{HEIGHT}\" role=\"img\" aria-labelledby=\"durations-title durations-desc\">\
         <title id=\"durations-title\">How long {of} took</title><desc id=\"durations-desc\">A histogram over a logarithmic scale. {said}.</desc>{svg}</svg></figure>{failed}</section>\n"
    )
}

/// Times to write under the bars: few, and ones that people count in.
fn ticks(first: u64, last: u64) -> Vec<(u64, String)> {
    const TIMES: [(u64, &str); 22] = [
        (1, "1 µs"),
        (10, "10 µs"),
        (100, "100 µs"),
        (1000, "1ms"),
        (2000, "2ms"),
        (5000, "5ms"),
        (10_000, "10ms"),
        (20_000, "20ms"),
        (50_000, "50ms"),
        (100_000, "0.1s"),
        (200_000, "0.2s"),
        (500_000, "0.5s"),
        (1_000_000, "1s"),
        (2_000_000, "2s"),
        (5_000_000, "5s"),
        (10_000_000, "10s"),
        (30_000_000, "30s"),
        (60_000_000, "1m"),
        (300_000_000, "5m"),
        (1_800_000_000, "30m"),
        (7_200_000_000, "2h"),
        (86_400_000_000, "1d"),
    ];
    let inside: Vec<_> = TIMES
        .iter()
        .filter(|(time, _)| *time > first && *time < last)
        .collect();
    let every = inside.len().div_ceil(6).max(1);
    let mut chosen: Vec<(u64, String)> = inside
        .into_iter()
        .step_by(every)
        .map(|(time, text)| (*time, (*text).to_owned()))
        .collect();
    if chosen.is_empty() {
        // All in one narrow stretch: its middle.
        let middle = u64::midpoint(first, last);
        chosen.push((middle, us(middle)));
    }
    chosen
}
