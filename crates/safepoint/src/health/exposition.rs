//! Metrics as text.

use std::fmt::Write;

/// Metrics in the `OpenMetrics` text format, written one family after the other.
///
/// # Examples
///
/// ```
/// use safepoint::health::Exposition;
///
/// let mut exposition = Exposition::new();
/// exposition.counter("pages", "Pages that were fetched.").count(&[("site", "a \"b\"")], 3);
/// exposition.gauge("queue_length", "Pages that wait.").value(&[], 0.5);
/// let text = exposition.finish();
/// let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
/// assert_eq!(samples, [r#"pages_total{site="a \"b\""} 3"#, "queue_length 0.5"]);
/// assert!(text.ends_with("# EOF\n"));
/// ```
///
/// # Sources
///
/// `OpenMetrics` 1.0: names of families, suffixes of samples, escapes, the end.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

/// A family of an [`Exposition`], to which samples are added.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
}

/// A label's name and value.
type Label<'a> = (&'a str, &'a str);

impl Exposition {
    /// The media type, for `Content-Type`.
    pub const MEDIA_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// One without any family.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a family of numbers that go up and down.
    pub fn gauge<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "gauge", help)
    }

    /// Begins a family of numbers that only go up; `name` without its `_total`.
    pub fn counter<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "counter", help)
    }

    /// Begins a family of texts; `name` without its `_info`.
    pub fn info<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "info", help)
    }

    /// Begins a family of states of which some hold.
    pub fn state_set<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "stateset", help)
    }

    /// Begins a family of distributions.
    pub fn histogram<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "histogram", help)
    }

    /// Everything, with its end.
    pub fn finish(mut self) -> String {
        self.text.push_str("# EOF\n");
        self.text
    }

    fn family<'a>(&'a mut self, name: &'a str, kind: &str, help: &str) -> Family<'a> {
        let text = &mut self.text;
        let _ = write!(text, "# TYPE {name} {kind}\n# HELP {name} ");
        escape(text, help);
        text.push('\n');
        Family { text, name }
    }
}

impl Family<'_> {
    /// Adds a sample of a gauge.
    pub fn value(&mut self, labels: &[Label<'_>], value: f64) -> &mut Self {
        self.sample("", labels, value)
    }

    /// Adds a sample of a counter.
    pub fn count(&mut self, labels: &[Label<'_>], count: u64) -> &mut Self {
        self.begin("_total", labels);
        let _ = writeln!(self.text, " {count}");
        self
    }

    /// Adds a sample of a counter that is not whole.
    pub fn amount(&mut self, labels: &[Label<'_>], amount: f64) -> &mut Self {
        self.sample("_total", labels, amount)
    }

    /// Adds a text.
    pub fn text(&mut self, labels: &[Label<'_>]) -> &mut Self {
        self.sample("_info", labels, 1.0)
    }

    /// Adds a state, and whether it holds. The label that the format asks for has the family's name.
    pub fn state(&mut self, state: &str, holds: bool) -> &mut Self {
        let name = self.name;
        self.sample("", &[(name, state)], if holds { 1.0 } else { 0.0 })
    }

    /// Adds a distribution: for each bound, in order, how many observations were at most that; then all of them, and their sum.
    pub fn distribution(&mut self, at_most: &[(f64, u64)], all: u64, sum: f64) -> &mut Self {
        for (bound, count) in at_most {
            // The format wants bounds with a decimal point.
            let bound = format!("{bound:?}");
            self.begin("_bucket", &[("le", &bound)]);
            let _ = writeln!(self.text, " {count}");
        }
        self.begin("_bucket", &[("le", "+Inf")]);
        let _ = writeln!(self.text, " {all}");
        self.begin("_count", &[]);
        let _ = writeln!(self.text, " {all}");
        self.sample("_sum", &[], sum)
    }

    fn sample(&mut self, suffix: &str, labels: &[Label<'_>], value: f64) -> &mut Self {
        self.begin(suffix, labels);
        let _ = writeln!(self.text, " {}", number(value));
        self
    }

    fn begin(&mut self, suffix: &str, labels: &[Label<'_>]) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        for (place, (name, value)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{name}=\"", if place == 0 { '{' } else { ',' });
            escape(self.text, value);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
    }
}

fn escape(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            // The format has no escape for them, and no reader wants them.
            other if other.is_control() => text.push('\u{FFFD}'),
            other => text.push(other),
        }
    }
}

/// Rust's names of what is no number are those of no standard.
fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}
