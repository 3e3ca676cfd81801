//! Reading the fields of a mapping: each is asked for by name and type, and what nobody asked for is unknown.
//!
//! A problem is noted and reading goes on with a value of no meaning, so that all problems of a file are told at once. Nothing that was
//! read counts if there is any problem.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::module::duration::{format_duration, parse_bytes, parse_duration};
use crate::module::problem::{Problems, Source, hint};
use crate::module::yaml::{Entry, Node, Value};

/// The file that is being read, and what is wrong with it so far.
pub(crate) struct Reading {
    /// The module file, as the user named it.
    pub(crate) file: Arc<Path>,
    /// What is wrong so far.
    pub(crate) problems: Problems,
}

impl Reading {
    /// Where `line` is.
    pub(crate) fn source(&self, line: usize) -> Source {
        Source {
            file: Arc::clone(&self.file),
            line,
        }
    }

    /// Notes a problem.
    pub(crate) fn problem(&mut self, line: usize, message: impl Into<String>) {
        let source = self.source(line);
        self.problems.at(&source, message);
    }
}

/// The fields of one mapping.
pub(crate) struct Fields<'n, 'r> {
    reading: &'r mut Reading,
    what: String,
    line: usize,
    /// Nothing if the node is no mapping: then nothing in it is missing or unknown either.
    entries: Option<&'n [Entry]>,
    asked: Vec<&'static str>,
}

impl<'n, 'r> Fields<'n, 'r> {
    /// The fields of `node`, which is `what` to the reader of a message.
    pub(crate) fn of(reading: &'r mut Reading, node: &'n Node, what: &str) -> Self {
        let entries = match &node.value {
            Value::Map(entries) => Some(entries.as_slice()),
            _ => {
                let message = format!("{what} must be a mapping, this is {}", node.describe());
                reading.problem(node.line, message);
                None
            }
        };
        Self {
            reading,
            what: what.to_owned(),
            line: node.line,
            entries,
            asked: Vec::new(),
        }
    }

    /// The fields of a mapping inside.
    pub(crate) fn inside(&mut self, node: &'n Node, what: &str) -> Fields<'n, '_> {
        Fields::of(self.reading, node, what)
    }

    /// Where the mapping begins.
    pub(crate) fn source(&self) -> Source {
        self.reading.source(self.line)
    }

    /// Notes a problem.
    pub(crate) fn problem(&mut self, line: usize, message: impl Into<String>) {
        self.reading.problem(line, message);
    }

    /// Notes a problem with the field `name`, at its place.
    pub(crate) fn problem_with(&mut self, name: &str, message: impl AsRef<str>) {
        let line = self
            .entries
            .and_then(|entries| entries.iter().find(|entry| entry.key == name))
            .map_or(self.line, |entry| entry.line);
        let message = format!("'{name}' of {}: {}", self.what, message.as_ref());
        self.reading.problem(line, message);
    }

    /// The value of a field that may be absent; `null` counts as absent.
    pub(crate) fn optional(&mut self, name: &'static str) -> Option<&'n Node> {
        self.asked.push(name);
        self.entries?
            .iter()
            .find(|entry| entry.key == name)
            .map(|entry| &entry.value)
            .filter(|node| node.value != Value::Null)
    }

    /// The value of a field that must be there.
    pub(crate) fn required(&mut self, name: &'static str) -> Option<&'n Node> {
        let node = self.optional(name);
        if node.is_none() && self.entries.is_some() {
            let message = format!("{} needs the field '{name}'", self.what);
            self.reading.problem(self.line, message);
        }
        node
    }

    /// A text that must be there and is not empty.
    pub(crate) fn text(&mut self, name: &'static str) -> String {
        let node = self.required(name);
        self.text_of(name, node).unwrap_or_default()
    }

    /// A text that may be absent but is not empty.
    pub(crate) fn optional_text(&mut self, name: &'static str) -> Option<String> {
        let node = self.optional(name);
        self.text_of(name, node)
    }

    /// A text that must be there and that `parse` understands.
    pub(crate) fn parsed<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let node = self.required(name);
        self.parse_of(name, node, parse)
    }

    /// A whole number within `range`.
    pub(crate) fn whole(
        &mut self,
        name: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        self.within(name, default, range, |text| {
            text.parse()
                .map_err(|_| format!("`{text}` is not a whole number"))
        })
    }

    /// A number of bytes within `range`.
    pub(crate) fn bytes(
        &mut self,
        name: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        self.within(name, default, range, parse_bytes)
    }

    /// A duration within `range`, if it is written.
    pub(crate) fn optional_duration(
        &mut self,
        name: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let node = self.optional(name);
        let duration = self.parse_of(name, node, parse_duration)?;
        if !range.contains(&duration) {
            let (low, high) = (
                format_duration(*range.start()),
                format_duration(*range.end()),
            );
            let written = format_duration(duration);
            self.problem_with(name, format!("{written} is not between {low} and {high}"));
        }
        Some(duration)
    }

    /// The elements of a list that must be there and is not empty.
    pub(crate) fn list(&mut self, name: &'static str) -> &'n [Node] {
        let node = self.required(name);
        let items = self.list_of(name, node);
        if node.is_some_and(|node| node.value == Value::List(Vec::new())) {
            self.problem_with(name, "the list is empty");
        }
        items
    }

    /// The elements of a list that may be absent.
    pub(crate) fn optional_list(&mut self, name: &'static str) -> &'n [Node] {
        let node = self.optional(name);
        self.list_of(name, node)
    }

    /// Notes every field that nobody asked for.
    pub(crate) fn finish(self) {
        for entry in self.entries.unwrap_or_default() {
            if !self.asked.contains(&entry.key.as_str()) {
                let hint = hint(&entry.key, self.asked.iter().copied());
                let message = format!("unknown field '{}' in {}{hint}", entry.key, self.what);
                self.reading.problem(entry.line, message);
            }
        }
    }

    /// Reads `node`, an element of the field `name`, as a text that is not empty.
    pub(crate) fn text_of(&mut self, name: &str, node: Option<&Node>) -> Option<String> {
        let node = node?;
        match &node.value {
            Value::Text(text) if text.is_empty() => {
                let message = format!("'{name}' of {}: the text is empty", self.what);
                self.problem(node.line, message);
                None
            }
            Value::Text(text) => Some(text.clone()),
            Value::Unresolved => None,
            _ => {
                self.mistyped(name, node, "a text");
                None
            }
        }
    }

    /// Reads `node`, an element of the field `name`, as a text that `parse` understands.
    pub(crate) fn parse_of<T>(
        &mut self,
        name: &str,
        node: Option<&Node>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text_of(name, node)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(message) => {
                let line = node.map_or(self.line, |node| node.line);
                let message = format!("'{name}' of {}: {message}", self.what);
                self.problem(line, message);
                None
            }
        }
    }

    fn within(
        &mut self,
        name: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        parse: impl FnOnce(&str) -> Result<u64, String>,
    ) -> u64 {
        let node = self.optional(name);
        let Some(number) = self.parse_of(name, node, parse) else {
            return default;
        };
        if !range.contains(&number) {
            let (low, high) = range.into_inner();
            self.problem_with(name, format!("{number} is not between {low} and {high}"));
        }
        number
    }

    fn list_of(&mut self, name: &str, node: Option<&'n Node>) -> &'n [Node] {
        match node {
            None => &[],
            Some(node) => match &node.value {
                Value::List(items) => items,
                _ => {
                    self.mistyped(name, node, "a list");
                    &[]
                }
            },
        }
    }

    fn mistyped(&mut self, name: &str, node: &Node, wanted: &str) {
        let message = format!(
            "'{name}' of {} must be {wanted}, this is {}",
            self.what,
            node.describe()
        );
        self.problem(node.line, message);
    }
}
