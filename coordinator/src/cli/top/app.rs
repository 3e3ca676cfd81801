//! State of the screen: what was loaded, the view, and what keys do to it.

use serde_json::Value;
use termion::event::Key;

use super::history::History;
use super::sheets;
use super::source::{Answer, Loaded, News, Unloaded, Wanted};
use super::table::{Sort, Table};
use super::warnings::{Warning, warnings_of};
use crate::cli::output::is_printable;

/// Interval between two loads of the functions, in ms. A load visits all addresses in memory.
const FUNCTIONS_MS: u64 = 15_000;

/// Maximum length of a filter, in characters.
const FILTER_MAX: usize = 200;

/// Rows that a page key moves by.
const PAGE_ROWS: usize = 10;

/// Part of the application that fills the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// Warnings, rates, endpoints, ingresses and partitions.
    Overview,
    /// Functions.
    Functions,
    /// Ingresses and egresses.
    Connectors,
    /// Partitions and processes.
    Partitions,
    /// Oldest dead letters.
    DeadLetters,
}

impl View {
    /// All views, in the order of their keys.
    pub(super) const ALL: [Self; 5] = [
        Self::Overview,
        Self::Functions,
        Self::Connectors,
        Self::Partitions,
        Self::DeadLetters,
    ];

    /// Name of the view.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Functions => "Functions",
            Self::Connectors => "Ingresses, egresses",
            Self::Partitions => "Partitions",
            Self::DeadLetters => "Dead letters",
        }
    }

    /// Digit of its key.
    pub(super) fn digit(self) -> usize {
        self.index() + 1
    }

    fn index(self) -> usize {
        let mut views = Self::ALL.iter();
        views.position(|it| *it == self).unwrap_or(0)
    }
}

/// Choices within one view.
#[derive(Debug, Clone, Default)]
pub(super) struct Choices {
    /// Text that rows must contain.
    pub(super) filter: String,
    /// Order of the rows.
    pub(super) sort: Sort,
    /// Selected row, counted over all tables of the view.
    pub(super) selected: usize,
    /// Columns after the first one that are left out at the left.
    pub(super) skipped: usize,
}

/// Result of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// The screen is drawn again.
    Redraw,
    /// Everything is loaded again at once.
    Reload,
    /// The program ends.
    Quit,
}

/// State of the screen.
#[derive(Debug)]
pub(super) struct App {
    /// URL of the application.
    pub(super) url: String,
    /// Latest lists.
    pub(super) loaded: Loaded,
    /// Reason why the last load failed.
    pub(super) unloaded: Option<Unloaded>,
    /// Live figures.
    pub(super) history: History,
    /// True while samples come.
    pub(super) is_live: bool,
    /// View on the screen.
    pub(super) view: View,
    /// True while the keys are shown.
    pub(super) is_help: bool,
    /// True while a filter is typed.
    pub(super) is_typing: bool,
    choices: [Choices; View::ALL.len()],
    /// Time at which the functions were loaded last, in ms since 1970.
    functions_at_ms: u64,
}

impl App {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            loaded: Loaded::default(),
            unloaded: None,
            history: History::default(),
            is_live: false,
            view: View::Overview,
            is_help: false,
            is_typing: false,
            choices: Default::default(),
            functions_at_ms: 0,
        }
    }

    /// Returns the lists that the next load should have.
    pub(super) fn wanted(&self, now_ms: u64) -> Wanted {
        let age_ms = now_ms.saturating_sub(self.functions_at_ms);
        Wanted {
            functions: self.view == View::Functions || age_ms >= FUNCTIONS_MS,
            dead_letters: self.view == View::DeadLetters,
        }
    }

    /// Takes news of the application.
    pub(super) fn take(&mut self, news: News) {
        match news {
            News::Sample(sample) => {
                self.is_live = true;
                self.history.add(sample);
            }
            News::Silent => self.is_live = false,
            News::Lists(lists) => match *lists {
                Ok(loaded) => self.replace(loaded),
                Err(reason) => self.unloaded = Some(reason),
            },
        }
    }

    /// Shows what was loaded, and of the lists that were not wanted what was loaded before.
    fn replace(&mut self, loaded: Loaded) {
        let before = std::mem::replace(&mut self.loaded, loaded);
        if self.loaded.functions == Answer::Absent {
            self.loaded.functions = before.functions;
        } else {
            self.functions_at_ms = self.loaded.at_ms;
        }
        if self.loaded.dead_letters == Answer::Absent {
            self.loaded.dead_letters = before.dead_letters;
        }
        self.unloaded = None;
    }

    /// Warnings about what was loaded.
    pub(super) fn warnings(&self) -> Vec<Warning> {
        warnings_of(&self.loaded)
    }

    /// Choices within the view on the screen.
    pub(super) fn choices(&self) -> &Choices {
        &self.choices[self.view.index()]
    }

    /// Tables of the view on the screen, sorted and filtered.
    pub(super) fn tables(&self, now_ms: u64) -> Vec<Table> {
        let mut tables = self.tables_of(self.view, now_ms);
        let choices = self.choices();
        for table in &mut tables {
            table.filter(&choices.filter);
            table.sort(choices.sort);
        }
        tables
    }

    /// Tables of a view, as the application lists them.
    pub(super) fn tables_of(&self, view: View, now_ms: u64) -> Vec<Table> {
        let loaded = &self.loaded;
        let kept = self
            .history
            .last()
            .and_then(|it| it["dead_letters"].as_f64());
        match view {
            View::Overview => {
                let mut tables = vec![
                    sheets::endpoints(loaded, now_ms),
                    sheets::ingresses(loaded, now_ms),
                    sheets::partitions(loaded),
                ];
                tables.extend(sheets::processes(loaded));
                tables
            }
            View::Functions => vec![sheets::functions(loaded)],
            View::Connectors => vec![
                sheets::ingresses(loaded, now_ms),
                sheets::egresses(loaded, now_ms),
            ],
            View::Partitions => {
                let mut tables = vec![sheets::partitions(loaded)];
                tables.extend(sheets::processes(loaded));
                tables
            }
            View::DeadLetters => vec![sheets::dead_letters(loaded, kept, now_ms)],
        }
    }

    /// Takes a key.
    pub(super) fn press(&mut self, key: Key, now_ms: u64) -> Effect {
        match key {
            Key::Ctrl('c') => return Effect::Quit,
            Key::Ctrl('l') => return Effect::Reload,
            _ => {}
        }
        if self.is_typing {
            return self.type_filter(key);
        }
        if self.is_help && key != Key::Char('q') {
            self.is_help = false;
            return Effect::Redraw;
        }
        let view = self.view;
        let index = view.index();
        match key {
            Key::Char('q') => return Effect::Quit,
            Key::Char('?') => self.is_help = true,
            Key::Char('/') => self.is_typing = true,
            Key::Char(digit @ '1'..='5') => {
                let number = digit.to_digit(10).map_or(1, |it| it as usize);
                self.view = View::ALL[number - 1];
            }
            Key::Char('\t') => self.view = View::ALL[(index + 1) % View::ALL.len()],
            Key::BackTab => {
                self.view = View::ALL[(index + View::ALL.len() - 1) % View::ALL.len()];
            }
            Key::F(5) => return Effect::Reload,
            key => self.choose(key, now_ms),
        }
        match self.view == view {
            true => Effect::Redraw,
            // What the view shows may be old, or not loaded yet.
            false => Effect::Reload,
        }
    }

    fn choose(&mut self, key: Key, now_ms: u64) {
        let tables = self.tables(now_ms);
        let rows: usize = tables.iter().map(|it| it.rows.len()).sum();
        let columns = tables.iter().map(|it| it.columns.len()).max().unwrap_or(0);
        let last = rows.saturating_sub(1);
        let is_number = |at: usize| {
            let columns = tables.first().map(|it| &it.columns);
            columns
                .and_then(|it| it.get(at))
                .is_some_and(|it| it.is_number)
        };
        let choices = &mut self.choices[self.view.index()];
        let at = choices.selected.min(last);
        match key {
            Key::Up | Key::Char('k') => choices.selected = at.saturating_sub(1),
            Key::Down | Key::Char('j') => choices.selected = (at + 1).min(last),
            Key::PageUp => choices.selected = at.saturating_sub(PAGE_ROWS),
            Key::PageDown => choices.selected = (at + PAGE_ROWS).min(last),
            Key::Home | Key::Char('g') => choices.selected = 0,
            Key::End | Key::Char('G') => choices.selected = last,
            Key::Left | Key::Char('h') => {
                choices.skipped = choices.skipped.saturating_sub(1);
            }
            Key::Right | Key::Char('l') => {
                choices.skipped = (choices.skipped + 1).min(columns.saturating_sub(2));
            }
            Key::Char('s') => {
                let next = choices.sort.column.map_or(0, |it| it + 1);
                choices.sort = match next < columns {
                    // Largest numbers first, texts from A to Z.
                    true => Sort {
                        column: Some(next),
                        ascending: !is_number(next),
                    },
                    false => Sort::default(),
                };
            }
            Key::Char('r') => choices.sort.ascending = !choices.sort.ascending,
            Key::Esc => choices.filter.clear(),
            _ => {}
        }
    }

    fn type_filter(&mut self, key: Key) -> Effect {
        let choices = &mut self.choices[self.view.index()];
        match key {
            Key::Char('\n') => self.is_typing = false,
            Key::Esc => {
                choices.filter.clear();
                self.is_typing = false;
            }
            Key::Backspace => drop(choices.filter.pop()),
            Key::Char(it) if is_printable(it) && choices.filter.chars().count() < FILTER_MAX => {
                choices.filter.push(it);
            }
            _ => {}
        }
        choices.selected = 0;
        Effect::Redraw
    }

    /// State of the process that answers.
    pub(super) fn state(&self) -> &str {
        if let Some(Unloaded::Lost(_)) = self.unloaded {
            return "unreachable";
        }
        let told = [&self.loaded.readiness, &self.loaded.process];
        let state = told.iter().find_map(|it| it.value()["state"].as_str());
        state.unwrap_or("–")
    }

    /// Field of the process that answers.
    pub(super) fn process(&self, field: &str) -> &Value {
        &self.loaded.process.value()[field]
    }
}
