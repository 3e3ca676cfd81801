//! Violations of expectations.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Violations from all checks.
#[derive(Debug)]
pub(crate) struct Violations {
    environment: &'static str,
    begun: Instant,
    /// File into which functions write their violations.
    file: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    found: Vec<String>,
    /// Bytes of the file read so far.
    read_bytes: u64,
}

impl Violations {
    /// Creates the record of an environment whose functions write their violations into `file`.
    pub(crate) fn of(environment: &'static str, file: PathBuf) -> Self {
        Self {
            environment,
            begun: Instant::now(),
            file,
            seen: Mutex::default(),
        }
    }

    /// Records a violation.
    pub(crate) fn record(&self, what: impl Into<String>) {
        let (environment, seconds) = (self.environment, self.begun.elapsed().as_secs());
        let what = format!("{environment}, after {seconds} s: {}", what.into());
        eprintln!("soak: VIOLATION: {what}");
        self.lock().found.push(what);
    }

    /// Reads the violations that functions wrote.
    pub(crate) fn collect(&self) {
        let mut text = String::new();
        let mut seen = self.lock();
        let from = seen.read_bytes;
        let read = std::fs::File::open(&self.file).and_then(|mut file| {
            file.seek(SeekFrom::Start(from))?;
            file.read_to_string(&mut text)
        });
        // The file exists only after the first violation.
        if read.is_err() {
            return;
        }
        // A partially written line is read when it is complete.
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        seen.read_bytes += text.len() as u64;
        drop(seen);
        for line in text.lines() {
            self.record(format!("reported by a function: {line}"));
        }
    }

    /// True if there are violations.
    pub(crate) fn any(&self) -> bool {
        !self.lock().found.is_empty()
    }

    /// All violations.
    pub(crate) fn found(&self) -> Vec<String> {
        self.lock().found.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
