//! Taking turns, medians, ratios and the table.

use std::fmt;

/// One tool in one row: its column, and how to take one figure.
#[expect(
    missing_debug_implementations,
    reason = "it holds a closure, and nobody prints it"
)]
pub struct Contender<'a, R> {
    column: &'static str,
    take: Box<dyn FnMut() -> R + 'a>,
}

impl<'a, R> Contender<'a, R> {
    /// `take` is called once in each round.
    pub fn new(column: &'static str, take: impl FnMut() -> R + 'a) -> Self {
        Self {
            column,
            take: Box::new(take),
        }
    }
}

/// What one tool did in all rounds.
#[derive(Debug)]
pub struct Taken<R> {
    /// The tool's column.
    pub column: &'static str,
    /// One figure of each round.
    pub figures: Vec<R>,
}

/// Lets every contender take one figure in each round. Who begins changes with the round, so that nobody always follows the same one.
pub fn in_turns<R>(rounds: usize, mut contenders: Vec<Contender<'_, R>>) -> Vec<Taken<R>> {
    let mut taken: Vec<_> = contenders
        .iter()
        .map(|contender| Taken {
            column: contender.column,
            figures: Vec::with_capacity(rounds),
        })
        .collect();
    let count = contenders.len();
    for round in 0..rounds {
        for turn in 0..count {
            let place = (round + turn) % count;
            taken[place].figures.push((contenders[place].take)());
        }
    }
    taken
}

/// One line of the table: times in nanoseconds by column.
#[derive(Debug)]
pub struct Row {
    what: String,
    cells: Vec<Taken<f64>>,
}

impl Row {
    /// A row of what was taken, seen through `figure`.
    pub fn new<R>(what: impl Into<String>, taken: &[Taken<R>], figure: impl Fn(&R) -> f64) -> Self {
        let cells = taken.iter().map(|taken| Taken {
            column: taken.column,
            figures: taken.figures.iter().map(&figure).collect(),
        });
        Self {
            what: what.into(),
            cells: cells.collect(),
        }
    }

    fn cell(&self, column: &str) -> Option<&[f64]> {
        let cell = self.cells.iter().find(|cell| cell.column == column)?;
        Some(&cell.figures)
    }
}

/// Rows below the same columns.
#[derive(Debug)]
pub struct Table {
    /// The tool that is compared with the others.
    pub ours: &'static str,
    /// Those it is compared with.
    pub peers: Vec<&'static str>,
    /// What is no tool, and only shows what is possible.
    pub floor: &'static str,
    /// The lines.
    pub rows: Vec<Row>,
}

impl Table {
    /// The peer with the least median in this row, and the median of the rounds' ratios of our time to that peer's.
    fn best_peer(&self, row: &Row) -> Option<(&'static str, f64)> {
        let ours = row.cell(self.ours)?;
        let by_median = |peer: &&'static str| Some((*peer, median(row.cell(peer)?)));
        let medians = self.peers.iter().filter_map(by_median);
        let (best, _) = medians.min_by(|one, other| one.1.total_cmp(&other.1))?;
        let ratios: Vec<f64> = ours
            .iter()
            .zip(row.cell(best)?)
            .map(|(ours, peer)| ours / peer)
            .collect();
        Some((best, median(&ratios)))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<&str> = std::iter::once(self.ours)
            .chain(self.peers.iter().copied())
            .chain([self.floor])
            .collect();
        writeln!(f, "| | {} | against the best peer |", columns.join(" | "))?;
        writeln!(f, "|---|{}---|", "---|".repeat(columns.len()))?;
        for row in &self.rows {
            write!(f, "| {} |", row.what)?;
            for column in &columns {
                match row.cell(column) {
                    None => write!(f, " |")?,
                    Some(figures) => {
                        let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
                        write!(f, " {} ({}) |", Time(median(figures)), Time(least))?;
                    }
                }
            }
            match self.best_peer(row) {
                None => writeln!(f, " |")?,
                Some((peer, ratio)) => {
                    let digits = if ratio < 0.1 { 4 } else { 2 };
                    writeln!(f, " {ratio:.digits$} x {peer} |")?;
                }
            }
        }
        Ok(())
    }
}

/// The middle one of the figures, or the mean of the middle two.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Nanoseconds with as many digits as mean something.
struct Time(f64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = match self.0 {
            ns if ns < 1e3 => (ns, "ns"),
            ns if ns < 1e6 => (ns / 1e3, "µs"),
            ns => (ns / 1e6, "ms"),
        };
        let digits = match value {
            value if value < 10.0 => 2,
            value if value < 100.0 => 1,
            _ => 0,
        };
        write!(f, "{value:.digits$} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: Vec<Row>) -> String {
        Table {
            ours: "we",
            peers: vec!["a", "b"],
            floor: "floor",
            rows,
        }
        .to_string()
    }

    #[test]
    fn a_ratio_is_taken_within_rounds_and_against_the_best_median() {
        let taken = [
            ("we", [1.0, 30.0, 5000.0]),
            ("a", [2.0, 60.0, 10_000.0]),
            ("b", [9.0, 90.0, 90.0]),
        ];
        let taken = taken.map(|(column, figures)| Taken {
            column,
            figures: figures.to_vec(),
        });
        let head = "| | we | a | b | floor | against the best peer |\n|---|---|---|---|---|---|\n";
        let row =
            "| x | 30.0 ns (1.00 ns) | 60.0 ns (2.00 ns) | 90.0 ns (9.00 ns) | | 0.50 x a |\n";
        assert_eq!(
            table(vec![Row::new("x", &taken, |ns| *ns)]),
            format!("{head}{row}")
        );
    }

    #[test]
    fn what_nobody_else_has_is_compared_with_nobody() {
        let taken = [Taken {
            column: "we",
            figures: vec![1_500_000.0, 2_500_000.0],
        }];
        let table = table(vec![Row::new("x", &taken, |ns| *ns)]);
        assert!(
            table.ends_with("| x | 2.00 ms (1.50 ms) | | | | |\n"),
            "{table}"
        );
    }

    #[test]
    fn everybody_takes_a_figure_in_each_round_and_begins_in_turn() {
        let order = std::cell::RefCell::new(String::new());
        let contender = |column: &'static str| {
            let order = &order;
            Contender::new(column, move || order.borrow_mut().push_str(column))
        };
        let taken = in_turns(3, vec![contender("a"), contender("b")]);
        assert!(taken.iter().all(|taken| taken.figures.len() == 3));
        assert_eq!(*order.borrow(), "abbaab");
    }
}
