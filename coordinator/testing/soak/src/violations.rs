//! What must not be, and was.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Violations, from everybody who checks.
#[derive(Debug)]
pub(crate) struct Violations {
    arena: &'static str,
    begun: Instant,
    /// Where functions write theirs.
    file: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    found: Vec<String>,
    /// How much of the file was read.
    read_bytes: u64,
}

impl Violations {
    /// Those of an arena, whose functions write theirs into `file`.
    pub(crate) fn of(arena: &'static str, file: PathBuf) -> Self {
        Self {
            arena,
            begun: Instant::now(),
            file,
            seen: Mutex::default(),
        }
    }

    /// There is one.
    pub(crate) fn note(&self, what: impl Into<String>) {
        let (arena, seconds) = (self.arena, self.begun.elapsed().as_secs());
        let what = format!("{arena}, after {seconds} s: {}", what.into());
        eprintln!("soak: VIOLATION: {what}");
        self.lock().found.push(what);
    }

    /// Takes in what functions wrote.
    pub(crate) fn look(&self) {
        let mut text = String::new();
        let mut seen = self.lock();
        let from = seen.read_bytes;
        let read = std::fs::File::open(&self.file).and_then(|mut file| {
            file.seek(SeekFrom::Start(from))?;
            file.read_to_string(&mut text)
        });
        // There is no file as long as nobody wrote one.
        if read.is_err() {
            return;
        }
        // A line that is being written is read when it is whole.
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        seen.read_bytes += text.len() as u64;
        drop(seen);
        for line in text.lines() {
            self.note(format!("a function saw: {line}"));
        }
    }

    /// Whether there are any.
    pub(crate) fn any(&self) -> bool {
        !self.lock().found.is_empty()
    }

    /// All of them.
    pub(crate) fn found(&self) -> Vec<String> {
        self.lock().found.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
