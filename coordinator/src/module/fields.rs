//! Readers of the fields of a mapping, after its table.
//!
//! A problem is recorded and reading continues with a placeholder value, so that all problems of a
//! file are reported together. Values that were read are discarded if there is any problem.

mod tagged;

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::module::duration::{format_duration, parse_bytes, parse_duration};
use crate::module::problem::{Problems, Source, hint};
use crate::module::table::{Absence, Field, Form};
use crate::module::yaml::{Entry, Node, Value};

/// A file that is being read and its problems so far.
pub(crate) struct Reading {
    /// The module file, as the user named it.
    pub(crate) file: Arc<Path>,
    /// Problems so far.
    pub(crate) problems: Problems,
}

impl Reading {
    /// Position of `line` in this file.
    pub(crate) fn source(&self, line: usize) -> Source {
        Source {
            file: Arc::clone(&self.file),
            line,
        }
    }

    /// Records a problem.
    pub(crate) fn problem(&mut self, line: usize, message: impl Into<String>) {
        let source = self.source(line);
        self.problems.at(&source, message);
    }
}

/// The fields of one mapping.
///
/// Readers take the name of a field that the mapping's table declares, in the form that they read.
/// Anything else is a defect of the caller and panics. Tests read every field of every table.
pub(crate) struct Fields<'n, 'r> {
    reading: &'r mut Reading,
    what: String,
    line: usize,
    table: &'static [Field],
    /// Nothing if the mapping could not be read: then nothing in it counts as missing.
    entries: Option<&'n [Entry]>,
}

impl<'n, 'r> Fields<'n, 'r> {
    /// The fields of `node`, which messages call `what`. Records a problem for each field that
    /// `table` lacks.
    pub(crate) fn of(
        reading: &'r mut Reading,
        node: &'n Node,
        what: &str,
        table: &'static [Field],
    ) -> Self {
        let mut fields = Self::unchecked(reading, node, what, table);
        let known = table.iter().map(|field| field.name);
        fields.check_known(&known);
        fields
    }

    /// The fields of an element of the list `name`.
    pub(crate) fn element(
        &mut self,
        name: &str,
        node: &'n Node,
        table: &'static [Field],
    ) -> Fields<'n, '_> {
        Fields::of(self.reading, node, &format!("an element of {name}"), table)
    }

    /// Position of the mapping.
    pub(crate) fn source(&self) -> Source {
        self.reading.source(self.line)
    }

    /// Records a problem.
    pub(crate) fn problem(&mut self, line: usize, message: impl Into<String>) {
        self.reading.problem(line, message);
    }

    /// Records a problem with the field `name`, at its position.
    pub(crate) fn problem_with(&mut self, name: &str, message: impl AsRef<str>) {
        let line = self
            .entries
            .and_then(|entries| entries.iter().find(|entry| entry.key == name))
            .map_or(self.line, |entry| entry.line);
        let message = format!("'{name}' of {}: {}", self.what, message.as_ref());
        self.reading.problem(line, message);
    }

    /// Warns of the field `name`, at its position, if it is present. `why` says that it has no
    /// effect, and what has one.
    pub(crate) fn warn_of(&mut self, name: &str, why: &str) {
        self.declared(name);
        let present = self.entries.and_then(|entries| {
            let mut entries = entries.iter();
            entries.find(|entry| entry.key == name && entry.value.value != Value::Null)
        });
        if let Some(entry) = present {
            let message = format!("'{name}' of {} has no effect: {why}", self.what);
            self.warn(entry.line, message);
        }
    }

    /// Adds a warning.
    pub(crate) fn warn(&mut self, line: usize, message: impl Into<String>) {
        let source = self.reading.source(line);
        self.reading.problems.warn(&source, message);
    }

    /// Returns true if a field is present.
    pub(crate) fn is_present(&self, name: &str) -> bool {
        self.declared(name);
        self.find(name).is_some()
    }

    /// The value of a field as it was written. Records a problem if it is required and absent.
    pub(crate) fn raw(&mut self, name: &str) -> Option<&'n Node> {
        let field = self.declared(name);
        let node = self.find(name);
        if node.is_none() && self.entries.is_some() && matches!(field.absence, Absence::Required) {
            let message = format!("{} needs the field '{name}'", self.what);
            self.reading.problem(self.line, message);
        }
        node
    }

    /// The value of a field as text: written, by default, or empty with a problem.
    pub(crate) fn text(&mut self, name: &str) -> String {
        self.optional_text(name).unwrap_or_default()
    }

    /// The value of a field as text: written or by default.
    pub(crate) fn optional_text(&mut self, name: &str) -> Option<String> {
        self.parsed(name, |text| Ok(text.to_owned()))
    }

    /// The value of a field, written or by default, as `parse` reads it.
    pub(crate) fn parsed<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let node = self.raw(name);
        match (node, self.declared(name).absence) {
            (None, Absence::Default(default)) => Some(by_default(name, default, parse)),
            _ => self.parse_of(name, node, parse),
        }
    }

    /// A whole number within the range of its field.
    pub(crate) fn whole(&mut self, name: &str) -> u64 {
        let Form::Whole(low, high) = self.declared(name).form else {
            panic!("'{name}' is not declared as a whole number");
        };
        self.within(name, low..=high, |text| {
            text.parse()
                .map_err(|_| format!("`{text}` is not a whole number"))
        })
    }

    /// A whole number within the range of its field, or `None` for the word in its place.
    pub(crate) fn whole_or(&mut self, name: &str) -> Option<u64> {
        let Form::WholeOr(low, high, word) = self.declared(name).form else {
            panic!("'{name}' is not declared as a whole number or a word");
        };
        // The word stands for the number after the last one.
        let found = self.within(name, low..=high + 1, |text| match text.parse() {
            Ok(number) if number <= high => Ok(number),
            Ok(_) => Err(format!(
                "`{text}` is over {high}; write `{word}` for no limit"
            )),
            Err(_) if text == word => Ok(high + 1),
            Err(_) => Err(format!("`{text}` is neither a whole number nor `{word}`")),
        });
        Some(found).filter(|found| *found <= high)
    }

    /// A number of bytes within the range of its field.
    pub(crate) fn bytes(&mut self, name: &str) -> u64 {
        let Form::Bytes(low, high) = self.declared(name).form else {
            panic!("'{name}' is not declared as a size");
        };
        self.within(name, low..=high, parse_bytes)
    }

    /// A duration within the range of its field, written or by default.
    pub(crate) fn duration(&mut self, name: &str) -> Duration {
        let written = self.written_duration(name);
        written.unwrap_or_else(|| self.default_duration(name))
    }

    /// The duration that a field has by default.
    pub(crate) fn default_duration(&self, name: &str) -> Duration {
        match self.declared(name).absence {
            Absence::Default(default) => by_default(name, default, parse_duration),
            _ => panic!("'{name}' is not declared with a default"),
        }
    }

    /// A duration within the range of its field, if it is present.
    pub(crate) fn written_duration(&mut self, name: &str) -> Option<Duration> {
        let Form::Duration(low, high) = self.declared(name).form else {
            panic!("'{name}' is not declared as a duration");
        };
        let node = self.raw(name);
        let duration = self.parse_of(name, node, parse_duration)?;
        if !(low..=high).contains(&duration) {
            let [written, low, high] = [duration, low, high].map(format_duration);
            self.problem_with(name, format!("{written} is not between {low} and {high}"));
        }
        Some(duration)
    }

    /// One of the words of a field, written or by default.
    pub(crate) fn choice(&mut self, name: &str) -> &'static str {
        let Form::Choice(words) = self.declared(name).form else {
            panic!("'{name}' is not declared as a choice");
        };
        let word = self.parsed(name, |text| {
            known_word(text, words.iter().map(|word| word.word))
        });
        word.unwrap_or(words[0].word)
    }

    /// The fields of a mapping. An absent mapping reads as an empty one.
    pub(crate) fn mapping(&mut self, name: &str) -> Fields<'n, '_> {
        let Form::Mapping(table) = self.declared(name).form else {
            panic!("'{name}' is not declared as a mapping");
        };
        match self.raw(name) {
            Some(node) => Fields::of(self.reading, node, name, table),
            None => self.absent(name, table),
        }
    }

    /// The fields of an empty mapping, each of which reads as its default.
    pub(crate) fn empty(&mut self, table: &'static [Field]) -> Fields<'n, '_> {
        Fields {
            what: self.what.clone(),
            line: self.line,
            table,
            entries: Some(&[]),
            reading: self.reading,
        }
    }

    /// The elements of a list.
    pub(crate) fn list(&mut self, name: &str) -> &'n [Node] {
        let len_min = match self.declared(name).form {
            Form::List(_, len_min) => len_min,
            Form::OneOrMore(_) => 1,
            Form::Pairs(_) => 0,
            _ => panic!("'{name}' is not declared as a list"),
        };
        let Some(node) = self.raw(name) else {
            return &[];
        };
        match &node.value {
            Value::List(items) => {
                if items.len() < len_min {
                    self.problem_with(name, "the list is empty");
                }
                items
            }
            _ => {
                self.mistyped(name, node, "a list");
                &[]
            }
        }
    }

    /// One value, or the elements of a list that is not empty.
    pub(crate) fn one_or_more(&mut self, name: &str) -> Vec<&'n Node> {
        match self.raw(name) {
            Some(node) if matches!(node.value, Value::List(_)) => self.list(name).iter().collect(),
            node => node.into_iter().collect(),
        }
    }

    /// Records a problem if a field is absent that other fields make necessary.
    pub(crate) fn require(&mut self, name: &str, message: &str) {
        if self.entries.is_some() && !self.is_present(name) {
            self.problem_with(name, message);
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

    /// Reads `node`, an element of the field `name`, as a text that `parse` accepts.
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

    fn unchecked(
        reading: &'r mut Reading,
        node: &'n Node,
        what: &str,
        table: &'static [Field],
    ) -> Self {
        let entries = match &node.value {
            Value::Map(entries) => Some(entries.as_slice()),
            _ => {
                let message = format!("{what} must be a mapping, not {}", node.describe());
                reading.problem(node.line, message);
                None
            }
        };
        Self {
            reading,
            what: what.to_owned(),
            line: node.line,
            table,
            entries,
        }
    }

    /// A mapping that is absent. If it is required, that is reported already, and nothing in it
    /// counts as missing.
    fn absent(&mut self, name: &str, table: &'static [Field]) -> Fields<'n, '_> {
        let is_required = matches!(self.declared(name).absence, Absence::Required);
        Fields {
            what: name.to_owned(),
            line: self.line,
            table,
            entries: (!is_required).then_some(&[]),
            reading: self.reading,
        }
    }

    fn check_known(&mut self, known: &(impl Iterator<Item = &'static str> + Clone)) {
        for entry in self.entries.unwrap_or_default() {
            if known.clone().any(|name| name == entry.key) {
                continue;
            }
            let mut message = format!("unknown field '{}' in {}", entry.key, self.what);
            match hint(&entry.key, known.clone()) {
                hint if hint.is_empty() => {
                    let known: Vec<&str> = known.clone().collect();
                    message.push_str(&format!("; known fields: {}", known.join(", ")));
                }
                hint => message.push_str(&hint),
            }
            self.reading.problem(entry.line, message);
        }
    }

    fn declared(&self, name: &str) -> &'static Field {
        let field = self.table.iter().find(|field| field.name == name);
        field.unwrap_or_else(|| panic!("no table of {} declares '{name}'", self.what))
    }

    /// The value of a field; `null` counts as absent.
    fn find(&self, name: &str) -> Option<&'n Node> {
        self.entries?
            .iter()
            .find(|entry| entry.key == name)
            .map(|entry| &entry.value)
            .filter(|node| node.value != Value::Null)
    }

    fn within(
        &mut self,
        name: &str,
        range: RangeInclusive<u64>,
        parse: impl FnOnce(&str) -> Result<u64, String>,
    ) -> u64 {
        let Some(number) = self.parsed(name, parse) else {
            return *range.start();
        };
        if !range.contains(&number) {
            let (low, high) = range.into_inner();
            self.problem_with(name, format!("{number} is not between {low} and {high}"));
        }
        number
    }

    fn mistyped(&mut self, name: &str, node: &Node, wanted: &str) {
        let message = format!(
            "'{name}' of {} must be {wanted}, not {}",
            self.what,
            node.describe()
        );
        self.problem(node.line, message);
    }
}

/// Reads the text of a default. A test reads every default of every table.
fn by_default<T>(name: &str, default: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> T {
    parse(default).unwrap_or_else(|error| panic!("the default of '{name}': {error}"))
}

fn known_word(
    text: &str,
    words: impl Iterator<Item = &'static str> + Clone,
) -> Result<&'static str, String> {
    let known = words.clone().find(|word| *word == text);
    known.ok_or_else(|| {
        let hint = hint(text, words.clone());
        let words: Vec<&str> = words.collect();
        format!("`{text}` is not one of {}{hint}", words.join(", "))
    })
}
