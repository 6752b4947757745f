//! How long things took: a histogram whose bars grow with the time, and the quantiles in it.

use safepoint::job::history::{Durations, History, Kind};

use super::scale::{number, percent, us};
use crate::time::show_count;

const HEIGHT: u32 = 150;
/// Room for the names of the quantiles above the bars, and for those of times below them.
const ABOVE: u32 = 34;
const BELOW: u32 = 20;
const BARS: usize = 48;

/// A bar: from, to, and how many were done and failed.
type Bar = (u64, u64, Vec<u64>);

struct Histogram<'a> {
    history: &'a History,
    bars: Vec<Bar>,
    /// Of a bar, in percent.
    width: f64,
}

/// The histogram of a job whose `of` took their time; nothing if there are none.
pub(super) fn section(history: &History, of: &str) -> String {
    // A few are better read in their table.
    if history.kind == Kind::Supervised && history.done.count + history.failed.count < 20 {
        return String::new();
    }
    let bars = Durations::bars_of(&[&history.done, &history.failed], BARS);
    if bars.is_empty() {
        return String::new();
    }
    let histogram = Histogram {
        history,
        width: 100.0 / number(bars.len() as u64),
        bars,
    };
    let facts = history.done.mean_us().map_or(String::new(), |mean| {
        let (shortest, longest) = (history.done.shortest_us, history.done.longest_us);
        format!(
            "From {} to {}, {} on average.",
            us(shortest),
            us(longest),
            us(mean)
        )
    });
    format!(
        "<section class=\"card\" aria-labelledby=\"durations\"><h2 id=\"durations\">How long {of} took</h2><p class=\"muted\">{facts}</p>\
         <figure class=\"panel\"><svg width=\"100%\" height=\"{HEIGHT}\" role=\"img\" aria-labelledby=\"durations-title durations-desc\">\
         <title id=\"durations-title\">How long {of} took</title><desc id=\"durations-desc\">A histogram over a logarithmic scale. {}</desc>{}{}{}</svg></figure>{}</section>\n",
        histogram.said(),
        histogram.columns(),
        histogram.axis(),
        histogram.lines(),
        histogram.legend(),
    )
}

impl Histogram<'_> {
    fn columns(&self) -> String {
        let sums = self.bars.iter().map(|(_, _, counts)| counts.iter().sum());
        let most = number(sums.max().unwrap_or(1).max(1));
        let height = f64::from(HEIGHT - ABOVE - BELOW);
        let mut svg = String::new();
        for (place, (from, to, counts)) in self.bars.iter().enumerate() {
            let mut bottom = f64::from(HEIGHT - BELOW);
            svg.push_str(&format!(
                "<g><title>{} to {}: {} done, {} failed</title>",
                us(*from),
                us(*to),
                show_count(counts[0]),
                show_count(counts[1])
            ));
            let coloured = counts.iter().zip(["done", "fail"]);
            for (count, colour) in coloured.filter(|(count, _)| **count > 0) {
                // One of a million is still to be seen.
                let tall = (number(*count) / most * height).max(1.5);
                bottom -= tall;
                svg.push_str(&format!(
                    "<rect class=\"fill-{colour}\" x=\"{}\" width=\"{}\" y=\"{bottom:.1}\" height=\"{tall:.1}\"/>",
                    percent((number(place as u64) + 0.06) * self.width),
                    percent(self.width * 0.88)
                ));
            }
            svg.push_str("</g>");
        }
        svg
    }

    /// Where a duration is, in percent.
    fn place(&self, duration: u64) -> f64 {
        let found = self.bars.iter().position(|(_, to, _)| duration < *to);
        let bar = found.unwrap_or(self.bars.len() - 1);
        let (from, to, _) = &self.bars[bar];
        let inside = number(duration.saturating_sub(*from)) / number((to - from).max(1));
        (number(bar as u64) + inside.min(1.0)) * self.width
    }

    fn axis(&self) -> String {
        let bottom = HEIGHT - BELOW;
        let mut svg =
            format!("<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"{bottom}\" y2=\"{bottom}\"/>");
        let (first, last) = (self.bars[0].0, self.bars[self.bars.len() - 1].1);
        for (duration, text) in ticks(first, last) {
            svg.push_str(&format!(
                "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{text}</text>",
                percent(self.place(duration)),
                HEIGHT - 5
            ));
        }
        svg
    }

    fn quantiles(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let named = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)].into_iter();
        named.filter_map(|(name, share)| Some((name, self.history.done.quantile_us(share)?)))
    }

    /// Each on a line of its own, as they may be close together.
    fn lines(&self) -> String {
        let mut svg = String::new();
        for ((name, duration), y) in self.quantiles().zip([10, 21, 32]) {
            let at = self.place(duration);
            let (anchor, shift) = if at > 80.0 { ("end", -4) } else { ("start", 4) };
            svg.push_str(&format!(
                "<line class=\"quantile\" x1=\"{0}\" x2=\"{0}\" y1=\"{1}\" y2=\"{2}\"/>\
                 <text class=\"ink\" x=\"{0}\" y=\"{y}\" dx=\"{shift}\" text-anchor=\"{anchor}\">{name} {3}</text>",
                percent(at),
                y - 9,
                HEIGHT - BELOW,
                us(duration)
            ));
        }
        svg
    }

    /// The quantiles in words.
    fn said(&self) -> String {
        let said = self.quantiles();
        said.map(|(name, duration)| format!("{name}: {}. ", us(duration)))
            .collect()
    }

    fn legend(&self) -> String {
        if self.history.failed.count == 0 {
            return String::new();
        }
        format!(
            "<ul class=\"legend\"><li><i class=\"fill-done\"></i>done: {}</li><li><i class=\"fill-fail\"></i>failed: {}</li></ul>",
            show_count(self.history.done.count),
            show_count(self.history.failed.count)
        )
    }
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
