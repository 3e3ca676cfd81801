//! The screen, in a window of any size.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier, Style};
use ratatui_core::widgets::Widget as _;
use ratatui_widgets::sparkline::Sparkline;
use unicode_width::UnicodeWidthStr as _;

use super::app::{App, View};
use super::format::{bytes, clock, count, duration, short};
use super::table::{Cell, GAP, Sort, Table, Tone, cut, wrap};

/// Plots of the overview: name, field of a sample, and form.
pub(super) const PLOTS: [Plot; 8] = [
    Plot::rate("Messages", "processed"),
    Plot::rate("Calls", "calls"),
    Plot::rate("Sends", "sends"),
    Plot::rate("Commits", "commits"),
    Plot::rate("Requests", "requests"),
    Plot::rate("Timers fired", "timers_fired"),
    Plot::rate("Dead letters", "dead_letters_made"),
    Plot {
        name: "Ingress lag",
        field: "lag_seconds",
        is_rate: false,
    },
];

/// Least width of a plot, and greatest number of plots beside each other.
const PLOT_WIDTH_MIN: u16 = 19;
const PLOT_COLUMNS_MAX: u16 = 8;

/// Greatest height of a plot with its label.
const PLOT_HEIGHT_MAX: u16 = 4;

/// Height of a window from which on there is a line with the views, and with details.
const TABS_HEIGHT_MIN: u16 = 8;
const DETAILS_HEIGHT_MIN: u16 = 14;

const KEYS: [(&str, &str); 12] = [
    (
        "1 – 5, Tab",
        "overview, functions, connectors, partitions, dead letters",
    ),
    ("↑ ↓, k j", "select a row"),
    ("PgUp PgDn", "ten rows"),
    ("Home End, g G", "first, last row"),
    ("← →, h l", "columns to the left, to the right"),
    ("s", "sort by the next column"),
    ("r", "reverse the order"),
    ("/", "filter: only rows with a text"),
    ("Esc", "no filter"),
    ("F5, Ctrl-L", "load again"),
    ("?", "this help; any key leaves it"),
    ("q, Ctrl-C", "end"),
];

/// Figure of the samples that is plotted.
#[derive(Debug)]
pub(super) struct Plot {
    pub(super) name: &'static str,
    field: &'static str,
    is_rate: bool,
}

impl Plot {
    const fn rate(name: &'static str, field: &'static str) -> Self {
        Self {
            name,
            field,
            is_rate: true,
        }
    }

    /// Values, one for each second.
    fn values(&self, app: &App) -> Vec<Option<f64>> {
        match self.is_rate {
            true => app.history.rates(self.field),
            false => app.history.levels(self.field),
        }
    }

    /// The last value as text.
    pub(super) fn last(&self, app: &App) -> String {
        let last = self.values(app).last().copied().flatten();
        match (last, self.is_rate) {
            (None, _) => "–".to_owned(),
            (Some(rate), true) => format!("{} /s", short(rate)),
            (Some(seconds), false) => duration(seconds),
        }
    }
}

/// Styles of texts, with or without colours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Theme {
    /// False if the terminal should get no colours.
    pub(super) has_colours: bool,
}

impl Theme {
    /// The theme that the environment asks for: any value of `NO_COLOR` means none.
    pub(super) fn of_environment() -> Self {
        let none = std::env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
        Self { has_colours: !none }
    }

    fn tone(self, tone: Tone) -> Style {
        let style = Style::new();
        match (tone, self.has_colours) {
            (Tone::Plain, _) | (Tone::Ok, false) => style,
            (Tone::Ok, true) => style.fg(Color::Green),
            (Tone::Warn, true) => style.fg(Color::Yellow),
            (Tone::Bad, true) => style.fg(Color::Red).add_modifier(Modifier::BOLD),
            (Tone::Warn | Tone::Bad, false) => style.add_modifier(Modifier::BOLD),
            (Tone::Dim, _) => style.add_modifier(Modifier::DIM),
        }
    }

    fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

/// Sign of a weight, for those who see no colours.
pub(super) fn sign(tone: Tone) -> &'static str {
    match tone {
        Tone::Bad => "!!",
        Tone::Warn => "! ",
        Tone::Plain | Tone::Ok | Tone::Dim => "  ",
    }
}

/// Draws the whole screen.
pub(super) fn draw(app: &App, theme: Theme, now_ms: u64, screen: &mut Buffer) {
    let area = screen.area;
    if area.width == 0 || area.height == 0 {
        return;
    }
    let mut pen = Pen { theme, screen };
    let (top, rest) = split(area, 1);
    pen.head(app, top);
    let has_tabs = area.height >= TABS_HEIGHT_MIN;
    let (tabs, rest) = split(rest, u16::from(has_tabs));
    pen.tabs(app, tabs);
    let foot_height = u16::from(rest.height > 1);
    let (body, foot) = split(rest, rest.height - foot_height);
    if app.is_help {
        pen.help(body);
    } else if app.view == View::Overview {
        pen.overview(app, now_ms, body);
    } else {
        pen.tables(app, &app.tables(now_ms), body);
    }
    pen.foot(app, now_ms, foot);
}

/// Splits off `height` rows at the top.
fn split(area: Rect, height: u16) -> (Rect, Rect) {
    let height = height.min(area.height);
    let top = Rect { height, ..area };
    let rest = Rect {
        y: area.y + height,
        height: area.height - height,
        ..area
    };
    (top, rest)
}

/// A buffer and the styles for it.
struct Pen<'a> {
    theme: Theme,
    screen: &'a mut Buffer,
}

impl Pen<'_> {
    /// Writes a text into a row of an area, `at` cells from its left. Returns the cells used.
    fn write(&mut self, area: Rect, at: usize, text: &str, style: Style) -> usize {
        let left = usize::from(area.width).saturating_sub(at);
        if left == 0 || area.height == 0 {
            return 0;
        }
        let text = cut(text, left);
        let x = area.x + u16::try_from(at).unwrap_or(u16::MAX);
        self.screen.set_stringn(x, area.y, &text, left, style);
        text.width()
    }

    /// Writes texts below each other, and returns what is left of the area.
    fn lines(&mut self, area: Rect, lines: &[(String, Style)]) -> Rect {
        let mut rest = area;
        for (text, style) in lines {
            let (row, below) = split(rest, 1);
            self.write(row, 0, text, *style);
            rest = below;
        }
        rest
    }

    fn head(&mut self, app: &App, row: Rect) {
        let name = app.process("application").as_str().unwrap_or("satchel");
        let mut at = self.write(row, 0, name, self.theme.strong());
        let state = app.state();
        let tone = if state == "serving" {
            Tone::Ok
        } else {
            Tone::Warn
        };
        at += self.write(row, at, &format!(" {state}"), self.theme.tone(tone));
        let mut facts = String::new();
        if row.height > 0 && self.screen.area.height < TABS_HEIGHT_MIN {
            facts.push_str(&format!(" · {}", app.view.name()));
        }
        if let Some(version) = app.process("version").as_str() {
            facts.push_str(&format!(" · satchel {version}"));
        }
        if let Some(seconds) = app.process("uptime_seconds").as_f64() {
            facts.push_str(&format!(" · up {}", duration(seconds)));
        }
        if let Some(partitions) = app.process("partitions").as_f64() {
            let noun = if partitions == 1.0 {
                "partition"
            } else {
                "partitions"
            };
            facts.push_str(&format!(" · {} {noun}", count(partitions)));
        }
        facts.push_str(&format!(" · {}", app.url));
        self.write(row, at, &facts, self.theme.tone(Tone::Dim));
    }

    fn tabs(&mut self, app: &App, row: Rect) {
        let mut at = 0;
        for view in View::ALL {
            let style = match view == app.view {
                true => self.theme.selected(),
                false => Style::new(),
            };
            let tab = format!(" {} {} ", view.digit(), view.name());
            at += self.write(row, at, &tab, style);
        }
    }

    fn foot(&mut self, app: &App, now_ms: u64, row: Rect) {
        let choices = app.choices();
        if app.is_typing {
            let at = self.write(row, 0, "filter: ", self.theme.strong());
            // The end of the text is where it is typed.
            let room = usize::from(row.width).saturating_sub(at + 1);
            let over = choices.filter.chars().count().saturating_sub(room);
            let shown: String = choices.filter.chars().skip(over).collect();
            let at = at + self.write(row, at, &shown, Style::new());
            self.write(row, at, "█", Style::new());
            return;
        }
        if let Some(unloaded) = &app.unloaded {
            let text = format!("!! {} Trying again.", sentence(unloaded.reason()));
            self.write(row, 0, &text, self.theme.tone(Tone::Bad));
            return;
        }
        let mut text = String::new();
        if !choices.filter.is_empty() {
            text.push_str(&format!("filter: {} · ", choices.filter));
        }
        text.push_str("? help · / filter · s sort · q end");
        if app.loaded.at_ms > 0 {
            let age_ms = now_ms.saturating_sub(app.loaded.at_ms);
            text.push_str(&format!(" · loaded {}", clock(app.loaded.at_ms)));
            if age_ms >= 20_000 {
                text.push_str(&format!(", {} ago", duration(age_ms as f64 / 1_000.0)));
            }
        }
        if !app.is_live {
            text.push_str(" · no live figures");
        }
        self.write(row, 0, &text, self.theme.tone(Tone::Dim));
    }

    fn help(&mut self, area: Rect) {
        let wide = KEYS.iter().map(|(key, _)| key.width()).max().unwrap_or(0);
        let lines: Vec<_> = KEYS
            .iter()
            .map(|(key, meaning)| {
                let blanks = " ".repeat(wide - key.width());
                (format!("{key}{blanks}  {meaning}"), Style::new())
            })
            .collect();
        self.lines(area, &lines);
    }

    fn overview(&mut self, app: &App, now_ms: u64, area: Rect) {
        let warnings = self.warnings(app, area);
        let rest = self.lines(area, &warnings);
        let rest = self.plots(app, rest);
        let (levels, rest) = split(rest, u16::from(rest.height > 4));
        self.write(levels, 0, &now_text(app), self.theme.tone(Tone::Dim));
        self.tables(app, &app.tables(now_ms), rest);
    }

    /// Lines of the warnings, of which the heaviest come first. They take at most a third of the
    /// area, and a line at least.
    fn warnings(&self, app: &App, area: Rect) -> Vec<(String, Style)> {
        let mut warnings = app.warnings();
        if warnings.is_empty() {
            if app.loaded.at_ms == 0 {
                return vec![("Loading…".to_owned(), self.theme.tone(Tone::Dim))];
            }
            let text = "Nothing needs a person.".to_owned();
            return vec![(text, self.theme.tone(Tone::Ok))];
        }
        warnings.sort_by_key(|it| match it.tone {
            Tone::Bad => 0,
            Tone::Warn => 1,
            Tone::Plain | Tone::Ok | Tone::Dim => 2,
        });
        let rows_max = usize::from(area.height / 3).max(1);
        let width = usize::from(area.width).saturating_sub(3);
        let mut lines = Vec::new();
        for (at, warning) in warnings.iter().enumerate() {
            let page = warning.view.map(|view| format!(" ({})", view.digit()));
            let page = page.unwrap_or_default();
            let text = format!("{} {}{page}", warning.text, warning.todo);
            let wrapped = wrap(&text, width);
            let more = warnings.len() - at - 1;
            let room = rows_max - lines.len();
            if room == 0 {
                break;
            }
            // A line stays free to say that there are more.
            let fits = wrapped.len() + usize::from(more > 0) <= room;
            if !fits && !lines.is_empty() {
                let text = format!("   and {} more", more + 1);
                lines.push((text, self.theme.tone(warning.tone)));
                break;
            }
            let rows = match fits {
                true => wrapped.len(),
                false => room.saturating_sub(usize::from(more > 0)).max(1),
            };
            for (row, text) in wrapped.into_iter().take(rows).enumerate() {
                let sign = if row == 0 { sign(warning.tone) } else { "  " };
                lines.push((format!("{sign} {text}"), self.theme.tone(warning.tone)));
            }
        }
        lines
    }

    /// Plots, in at most half of the area. Returns what is left of it.
    fn plots(&mut self, app: &App, area: Rect) -> Rect {
        let columns = (area.width / PLOT_WIDTH_MIN).clamp(1, PLOT_COLUMNS_MAX);
        let plots = u16::try_from(PLOTS.len()).unwrap_or(u16::MAX);
        let rows = plots.div_ceil(columns);
        let height = (area.height / 2 / rows).min(PLOT_HEIGHT_MAX);
        if height == 0 {
            return area;
        }
        let width = area.width / columns;
        for (plot, at) in PLOTS.iter().zip(0..) {
            let place = Rect {
                x: area.x + at % columns * width,
                y: area.y + at / columns * height,
                width: width.saturating_sub(2),
                height,
            };
            self.plot(app, plot, place.intersection(area));
        }
        split(area, rows * height).1
    }

    fn plot(&mut self, app: &App, plot: &Plot, area: Rect) {
        let (label, chart) = split(area, 1);
        let at = self.write(label, 0, plot.name, self.theme.tone(Tone::Dim));
        self.write(
            label,
            at,
            &format!(" {}", plot.last(app)),
            self.theme.strong(),
        );
        let values = plot.values(app);
        let width = usize::from(chart.width);
        // The newest value is at the right.
        let blanks = width.saturating_sub(values.len());
        let shown = values.iter().skip(values.len().saturating_sub(width));
        // A sparkline takes whole numbers.
        let scaled = shown.map(|it| it.map(|value| (value * 1_000.0) as u64));
        let data: Vec<Option<u64>> = std::iter::repeat_n(None, blanks).chain(scaled).collect();
        let style = match plot.field {
            "dead_letters_made" => self.theme.tone(Tone::Bad),
            _ if self.theme.has_colours => Style::new().fg(Color::Cyan),
            _ => Style::new(),
        };
        let sparkline = Sparkline::default().data(data).absent_value_symbol(" ");
        sparkline.style(style).render(chart, self.screen);
    }

    /// Tables below each other, scrolled so that the selected row is visible, with the details of
    /// that row below where there is room.
    fn tables(&mut self, app: &App, tables: &[Table], area: Rect) {
        let choices = app.choices();
        let rows: usize = tables.iter().map(|it| it.rows.len()).sum();
        let selected = choices.selected.min(rows.saturating_sub(1));
        let details = match app.view != View::Overview && area.height >= DETAILS_HEIGHT_MIN {
            true => details_of(tables, selected, area.width),
            false => Vec::new(),
        };
        let room = usize::from(area.height / 2);
        let hidden = details.len().saturating_sub(room);
        let details_height = u16::try_from(details.len() - hidden).unwrap_or(0);
        let (area, below) = split(area, area.height - details_height);
        let lines = lines_of(tables);
        let mut at_lines = lines.iter();
        let is_selected = |number: usize| number == selected;
        let at = at_lines
            .position(|it| matches!(it, Line::Row { number, .. } if is_selected(*number)))
            .unwrap_or(0);
        let height = usize::from(area.height);
        // Half of the window stays in front of the selected row, so that its title is seen.
        let first = match at < height.saturating_sub(1) {
            true => 0,
            false => (at - height / 2).min(lines.len().saturating_sub(height)),
        };
        let fitted: Vec<_> = tables
            .iter()
            .map(|it| it.fitted(usize::from(area.width), choices.skipped, choices.sort))
            .collect();
        let mut rest = area;
        for line in lines.iter().skip(first).take(height) {
            let (row, under) = split(rest, 1);
            rest = under;
            match line {
                Line::Blank => {}
                Line::Title(table) => {
                    let count = match table.rows.len() {
                        0 | 1 => String::new(),
                        rows => format!(" ({rows})"),
                    };
                    let title = format!("{}{count}", table.title);
                    self.write(row, 0, &title, self.theme.strong());
                }
                Line::Headings(at) => self.headings(row, &tables[*at], &fitted[*at], choices.sort),
                Line::Row {
                    table,
                    cells,
                    number,
                } => {
                    self.row(row, &tables[*table], cells, &fitted[*table]);
                    if *number == selected {
                        self.screen.set_style(row, self.theme.selected());
                    }
                }
                Line::Note(tone, text) => {
                    self.write(row, 0, text, self.theme.tone(*tone));
                }
            }
        }
        self.lines(below, &details);
    }

    fn headings(&mut self, row: Rect, table: &Table, fitted: &[(usize, usize)], sort: Sort) {
        let mut at = 0;
        for &(column, wide) in fitted {
            let text = cut(&table.heading(column, sort), wide);
            let shift = match table.columns[column].is_number {
                true => wide - text.width(),
                false => 0,
            };
            self.write(row, at + shift, &text, self.theme.tone(Tone::Dim));
            at += wide + GAP;
        }
    }

    fn row(&mut self, row: Rect, table: &Table, cells: &[Cell], fitted: &[(usize, usize)]) {
        let mut at = 0;
        for &(column, wide) in fitted {
            let cell = &cells[column];
            let text = cut(&cell.text, wide);
            let shift = match table.columns[column].is_number {
                true => wide.saturating_sub(text.width()),
                false => 0,
            };
            self.write(row, at + shift, &text, self.theme.tone(cell.tone));
            at += wide + GAP;
        }
    }
}

/// Line of tables below each other.
enum Line<'a> {
    Blank,
    Title(&'a Table),
    /// Of a table, by its number.
    Headings(usize),
    Row {
        table: usize,
        cells: &'a [Cell],
        /// Number of the row over all tables.
        number: usize,
    },
    Note(Tone, &'a str),
}

fn lines_of(tables: &[Table]) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    let mut number = 0;
    for (at, table) in tables.iter().enumerate() {
        if at > 0 {
            lines.push(Line::Blank);
        }
        lines.push(Line::Title(table));
        if !table.rows.is_empty() {
            lines.push(Line::Headings(at));
        }
        for row in &table.rows {
            lines.push(Line::Row {
                table: at,
                cells: &row.cells,
                number,
            });
            number += 1;
        }
        if let Some((tone, text)) = &table.note {
            lines.push(Line::Note(*tone, text));
        }
    }
    lines
}

/// Details of the selected row, below a blank line.
fn details_of(tables: &[Table], selected: usize, width: u16) -> Vec<(String, Style)> {
    let mut rows = tables.iter().flat_map(|it| &it.rows);
    let Some(row) = rows.nth(selected) else {
        return Vec::new();
    };
    let told = row
        .details
        .iter()
        .filter(|(_, text)| !text.is_empty() && text != "–");
    let wide = told
        .clone()
        .map(|(name, _)| name.width())
        .max()
        .unwrap_or(0);
    let mut lines = Vec::new();
    for (name, text) in told {
        let room = usize::from(width).saturating_sub(wide + GAP);
        for (at, line) in wrap(text, room).into_iter().enumerate() {
            let name = if at == 0 { *name } else { "" };
            let blanks = " ".repeat(wide - name.width() + GAP);
            lines.push((format!("{name}{blanks}{line}"), Style::new()));
        }
    }
    if !lines.is_empty() {
        lines.insert(0, (String::new(), Style::new()));
    }
    lines
}

/// Present levels in one line.
pub(super) fn now_text(app: &App) -> String {
    let Some(sample) = app.history.last() else {
        return String::new();
    };
    let level =
        |name: &str, form: fn(f64) -> String| sample[name].as_f64().map_or("–".to_owned(), form);
    let scope = match app.process("spread") == true {
        true => "this process: ",
        false => "",
    };
    format!(
        "{scope}in flight {} · waiting {} · outbox {} · timers {} · dead letters {} · state {}",
        level("in_flight", count),
        level("pending_bytes", bytes),
        level("outbox", count),
        level("timers", count),
        level("dead_letters", count),
        level("state_bytes", bytes),
    )
}

/// Ends a text with a full stop.
fn sentence(text: &str) -> String {
    match text.ends_with(['.', '?', '!']) {
        true => text.to_owned(),
        false => format!("{text}."),
    }
}
