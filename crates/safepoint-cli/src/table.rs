//! Tables that people read: columns as wide as what stands in them, and none that is empty.

use anstyle::Style;

use crate::page::Page;
use crate::render::safe;

/// On which side what stands in a column ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// A text, and how it looks on a terminal.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// Makes the text safe for a terminal.
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self {
            text: safe(text.as_ref(), false),
            style: Style::new(),
        }
    }

    pub(crate) fn styled(mut self, style: Style) -> Self {
        self.style = style;
        self
    }
}

/// Rows under titles.
#[derive(Debug)]
pub(crate) struct Table<const COLUMNS: usize> {
    titles: [(&'static str, Side); COLUMNS],
    rows: Vec<[Cell; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(crate) fn new(titles: [(&'static str, Side); COLUMNS]) -> Self {
        Self {
            titles,
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: [Cell; COLUMNS]) {
        self.rows.push(cells);
    }

    /// Prints it; `below` may print lines under the row of a number. Says whether somebody still reads.
    pub(crate) fn print(
        &self,
        page: &mut Page,
        margin: &str,
        below: impl Fn(&mut Page, usize) -> bool,
    ) -> bool {
        let width = |column: usize| {
            let texts = self.rows.iter().map(|row| row[column].text.chars().count());
            let widest = texts.max().unwrap_or(0);
            (widest > 0).then(|| widest.max(self.titles[column].0.len()))
        };
        let widths: [Option<usize>; COLUMNS] = std::array::from_fn(width);
        let titles = self.titles.map(|(title, _)| Cell::new(title));
        let mut goes_on = self.line(page, margin, &titles, widths);
        for (number, row) in self.rows.iter().enumerate() {
            goes_on = goes_on && self.line(page, margin, row, widths) && below(page, number);
        }
        goes_on
    }

    fn line(
        &self,
        page: &mut Page,
        margin: &str,
        cells: &[Cell; COLUMNS],
        widths: [Option<usize>; COLUMNS],
    ) -> bool {
        let mut line = margin.to_owned();
        // Spaces before a cell are written with it, so that no line ends with some.
        let mut spaces = 0;
        for (column, cell) in cells.iter().enumerate() {
            let Some(width) = widths[column] else {
                continue;
            };
            let room = width - cell.text.chars().count().min(width);
            let (before, after) = match self.titles[column].1 {
                Side::Left => (0, room),
                Side::Right => (room, 0),
            };
            spaces += before;
            if !cell.text.is_empty() {
                line.extend(std::iter::repeat_n(' ', spaces));
                line.push_str(&page.paint(cell.style, &cell.text));
                spaces = 0;
            }
            spaces += after
                + 2
                + if cell.text.is_empty() {
                    width - room
                } else {
                    0
                };
        }
        page.line(&line)
    }
}
