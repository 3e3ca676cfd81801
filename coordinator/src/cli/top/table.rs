//! Tables that are sorted, filtered and fitted into a width.

use std::cmp::Ordering;

use serde::Deserialize;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Blanks between two columns.
pub(super) const GAP: usize = 2;

/// Width below which a column of texts is not narrowed, and above which one may be.
const NARROW: usize = 10;

/// Weight of a text: how much it needs a person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Tone {
    /// As most texts.
    #[default]
    Plain,
    /// All is well.
    Ok,
    /// Something to know.
    Warn,
    /// Something to mend.
    Bad,
    /// Less important than its surroundings.
    Dim,
}

/// Text of a table, and its place among others of its column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) tone: Tone,
    /// Value by which numbers and times are sorted; texts are sorted by themselves.
    order: Option<f64>,
}

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            tone: Tone::Plain,
            order: None,
        }
    }

    pub(super) fn number(text: impl Into<String>, order: f64) -> Self {
        Self {
            order: Some(order),
            ..Self::text(text)
        }
    }

    pub(super) fn toned(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self.order, other.order) {
            (Some(one), Some(two)) => one.total_cmp(&two),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => self.text.cmp(&other.text),
        }
    }
}

/// Heading of a column. Numbers are aligned at the right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) is_number: bool,
}

/// Row of a table, and what its selection shows below.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) cells: Vec<Cell>,
    pub(super) details: Vec<(&'static str, String)>,
}

/// Table with a title.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    pub(super) title: String,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
    /// Text below the rows: why there are none, or not all.
    pub(super) note: Option<(Tone, String)>,
}

/// Order of the rows of a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sort {
    /// Column; as the application lists them without one.
    pub(super) column: Option<usize>,
    /// Largest last.
    pub(super) ascending: bool,
}

impl Table {
    /// Keeps the rows of which a cell or a detail contains `filter`, in any case.
    pub(super) fn filter(&mut self, filter: &str) {
        let filter = filter.to_lowercase();
        if filter.is_empty() {
            return;
        }
        let has = |text: &str| text.to_lowercase().contains(&filter);
        let before = self.rows.len();
        self.rows.retain(|row| {
            row.cells.iter().any(|cell| has(&cell.text))
                || row.details.iter().any(|(_, text)| has(text))
        });
        if before > 0 && self.rows.is_empty() {
            self.note = Some((Tone::Dim, format!("None of {before} matches the filter.")));
        }
    }

    /// Sorts the rows. Those that are equal keep their order.
    pub(super) fn sort(&mut self, sort: Sort) {
        let Some(column) = sort.column.filter(|it| *it < self.columns.len()) else {
            return;
        };
        self.rows.sort_by(|one, two| {
            let order = one.cells[column].compare(&two.cells[column]);
            if sort.ascending {
                order
            } else {
                order.reverse()
            }
        });
    }

    /// Returns the columns that fit into `width`, beginning with the first one and, of the others,
    /// with number `skipped`, each with its width. Long texts are narrowed first; what does not fit
    /// even then is left out at the right.
    pub(super) fn fitted(&self, width: usize, skipped: usize, sort: Sort) -> Vec<(usize, usize)> {
        let columns = (0..self.columns.len()).filter(|it| *it == 0 || *it > skipped);
        let mut shown: Vec<(usize, usize)> = columns
            .map(|at| {
                let cells = self.rows.iter().map(|row| row.cells[at].text.width());
                let heading = self.heading(at, sort).width();
                (at, cells.max().unwrap_or(0).max(heading))
            })
            .collect();
        loop {
            let gaps = GAP * shown.len().saturating_sub(1);
            let over =
                (shown.iter().map(|(_, wide)| wide).sum::<usize>() + gaps).saturating_sub(width);
            if over == 0 {
                return shown;
            }
            let columns = shown.len();
            let texts = shown
                .iter_mut()
                .filter(|(at, _)| !self.columns[*at].is_number);
            match texts.max_by_key(|(_, wide)| *wide) {
                Some((_, wide)) if *wide > NARROW => *wide -= over.min(*wide - NARROW).min(8),
                _ if columns > 1 => drop(shown.pop()),
                _ => {
                    shown
                        .iter_mut()
                        .for_each(|(_, wide)| *wide = (*wide).min(width));
                    return shown;
                }
            }
        }
    }

    /// Heading of a column, with a sign if the table is sorted by it.
    pub(super) fn heading(&self, at: usize, sort: Sort) -> String {
        let name = self.columns[at].name;
        match (sort.column == Some(at), sort.ascending) {
            (false, _) => name.to_owned(),
            (true, true) => format!("{name} ▲"),
            (true, false) => format!("{name} ▼"),
        }
    }
}

/// Shortens a text to a number of cells of the terminal.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = 0;
    for it in text.chars() {
        used += it.width().unwrap_or(0);
        if used + 1 > width {
            break;
        }
        cut.push(it);
    }
    if width > 0 {
        cut.push('…');
    }
    cut
}

/// Breaks a text into lines of at most `width` cells, at blanks where there are any.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            if line.width() + 1 + word.width() <= width {
                line.push(' ');
            } else {
                lines.push(std::mem::take(&mut line));
            }
        }
        let mut used = line.width();
        for it in word.chars() {
            let wide = it.width().unwrap_or(0);
            if used + wide > width && used > 0 {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(it);
            used += wide;
        }
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(&str, f64)]) -> Table {
        Table {
            title: "Functions".to_owned(),
            columns: vec![
                Column {
                    name: "Function",
                    is_number: false,
                },
                Column {
                    name: "Backlog",
                    is_number: true,
                },
            ],
            rows: rows
                .iter()
                .map(|(name, backlog)| Row {
                    cells: vec![
                        Cell::text(*name),
                        Cell::number(backlog.to_string(), *backlog),
                    ],
                    details: Vec::new(),
                })
                .collect(),
            note: None,
        }
    }

    fn names(table: &Table) -> Vec<&str> {
        let rows = table.rows.iter();
        rows.map(|row| row.cells[0].text.as_str()).collect()
    }

    #[test]
    fn rows_are_sorted_by_value_and_filtered_by_any_text() {
        let mut sorted = table(&[("shop/a", 9.0), ("shop/b", 100.0), ("bank/c", 9.0)]);
        let by = |column, ascending| Sort {
            column: Some(column),
            ascending,
        };
        sorted.sort(by(1, false));
        assert_eq!(names(&sorted), ["shop/b", "shop/a", "bank/c"]);
        sorted.sort(by(0, true));
        assert_eq!(names(&sorted), ["bank/c", "shop/a", "shop/b"]);
        sorted.sort(by(7, true));
        sorted.sort(Sort::default());
        assert_eq!(names(&sorted), ["bank/c", "shop/a", "shop/b"]);
        sorted.filter("SHOP/");
        assert_eq!(names(&sorted), ["shop/a", "shop/b"]);
        sorted.filter("");
        assert_eq!(names(&sorted), ["shop/a", "shop/b"]);
        sorted.filter("nothing");
        assert_eq!(names(&sorted), [""; 0]);
        assert_eq!(sorted.note.unwrap().1, "None of 2 matches the filter.");
    }

    #[test]
    fn long_texts_are_narrowed_before_columns_are_left_out() {
        let wide = table(&[("a-namespace/a-function-with-a-long-name", 5.0)]);
        let none = Sort::default();
        assert_eq!(wide.fitted(80, 0, none), [(0, 39), (1, 7)]);
        assert_eq!(wide.fitted(30, 0, none), [(0, 21), (1, 7)]);
        assert_eq!(wide.fitted(12, 0, none), [(0, 10)]);
        assert_eq!(wide.fitted(4, 0, none), [(0, 4)]);
        assert_eq!(wide.fitted(80, 1, none), [(0, 39)]);
    }

    #[test]
    fn texts_are_measured_in_cells_of_the_terminal() {
        assert_eq!(cut("日本日本", 8), "日本日本");
        assert_eq!(cut("日本日本", 6), "日本…");
        assert_eq!(cut("日本日本", 4), "日…");
        assert_eq!(cut("abc", 1), "…");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("日本日本 x", 4), ["日本", "日本", "x"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("wide", 0), ["w", "i", "d", "e"]);
    }
}
