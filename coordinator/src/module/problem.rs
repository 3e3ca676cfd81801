//! Problems of module files, each with its position.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::module::redaction::Redactions;

/// Position in a module file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The module file, as the user named it.
    pub file: Arc<Path>,
    /// Line, from 1.
    pub line: usize,
}

impl Source {
    /// Directory of the module file, where handlers are built.
    pub fn directory(&self) -> PathBuf {
        match self.file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// One problem and its position.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Position; a file that cannot be read has no line.
    pub place: Place,
    /// Description for the author of the file.
    pub message: String,
}

/// Position of a [`Problem`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A path that was named on the command line.
    Path(PathBuf),
    /// A line of a module file.
    Line(Source),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Path(path) => write!(f, "{}: {}", path.display(), self.message),
            Place::Line(source) => write!(f, "{source}: {}", self.message),
        }
    }
}

/// All problems of an application's module files, ordered by position.
///
/// `Display` writes one line for each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    redactions: Redactions,
}

impl Problems {
    /// A single problem with a path as a whole.
    pub fn with_path(path: &Path, message: impl Into<String>) -> Self {
        let mut problems = Self::default();
        problems.push(Place::Path(path.to_owned()), message);
        problems
    }

    /// Adds a problem.
    pub(crate) fn push(&mut self, place: Place, message: impl Into<String>) {
        self.problems.push(Problem {
            place,
            message: message.into(),
        });
    }

    /// Shows `written` in the place of `resolved`, the value that the environment gives it.
    pub(crate) fn redact(&mut self, resolved: &str, written: &str) {
        self.redactions.add(resolved, written);
    }

    /// Adds a problem at a line.
    pub(crate) fn at(&mut self, source: &Source, message: impl Into<String>) {
        self.push(Place::Line(source.clone()), message);
    }

    /// Adds a warning at a line: something that is accepted and has no effect.
    pub(crate) fn warn(&mut self, source: &Source, message: impl Into<String>) {
        self.warnings.push(Problem {
            place: Place::Line(source.clone()),
            message: message.into(),
        });
    }

    /// Takes the warnings out, ordered by position. None shows the value of a placeholder.
    pub(crate) fn take_warnings(&mut self) -> Vec<Problem> {
        let mut warnings = std::mem::take(&mut self.warnings);
        for warning in &mut warnings {
            warning.message = self.redactions.apply(std::mem::take(&mut warning.message));
        }
        warnings.sort();
        warnings
    }

    /// Number of problems.
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    /// Returns true if there is no problem.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Iterates over the problems.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }

    /// Returns `value` if there is no problem. Otherwise no problem shows the value of a
    /// placeholder.
    pub(crate) fn or<T>(mut self, value: T) -> Result<T, Self> {
        if self.problems.is_empty() {
            return Ok(value);
        }
        for problem in &mut self.problems {
            problem.message = self.redactions.apply(std::mem::take(&mut problem.message));
        }
        self.problems.sort();
        Err(self)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Returns `, did you mean …?` for the name of `known` that is most similar to `written`.
///
/// Returns an empty text if no name is similar enough to be the intended one.
pub(crate) fn hint<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let nearest = known
        .into_iter()
        .map(|name| (distance(written, name), name))
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((distance, name)) if distance <= name.chars().count().div_ceil(3).min(3) => {
            format!(", did you mean '{name}'?")
        }
        _ => String::new(),
    }
}

/// Number of letters to add, remove or change to turn `a` into `b`, ignoring case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    // No longer text is similar to a known name; the bound keeps the row of costs small.
    let a: Vec<char> = a.to_lowercase().chars().take(128).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_hinted_and_a_far_one_is_not() {
        let known = ["functions", "functionName", "qualifier"];
        assert_eq!(hint("funtions", known), ", did you mean 'functions'?");
        assert_eq!(
            hint("functionname", known),
            ", did you mean 'functionName'?"
        );
        assert_eq!(hint("colour", known), "");
    }
}
