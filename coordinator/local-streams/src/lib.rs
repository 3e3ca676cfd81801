//! Local streams: durable streams on this machine that take the place of Kinesis.
//!
//! A [`Stream`] is a directory of files. An append is acknowledged when it is durable. Appends that
//! arrive at the same time share one sync. A producer that numbers its appends gets exactly-once
//! delivery.
//!
//! A stream has shards, which are ranges of hash keys that can be split and merged. Records of all
//! shards lie in the same files, in the order of the appends. An append, or a change of the shards,
//! is therefore stored either as a whole or not at all, and reading the stream is reading its
//! files.
//!
//! ```text
//!  append ─► queue ─► one write, one sync ─► acknowledged ─► readers of the stream or a shard
//! ```
//!
//! No acknowledged record is lost silently. An incomplete last record that a crash left is cut off.
//! Any other data that is missing or does not match its checksum is refused with an error that
//! names it. Two processes may use one directory: a lock makes their appends take turns, and each
//! process reads what the other one wrote.
//!
//! [`kinesis`] serves the streams through the Kinesis API, [`http`] through Satchel's own routes.

pub mod browsers;
mod error;
mod frame;
pub mod http;
mod index;
pub mod kinesis;
mod log;
mod number;
mod reader;
mod record;
mod scan;
mod segment;
pub mod shards;
mod stream;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;
use tokio::sync::OnceCell;

pub use crate::error::StreamError;
pub use crate::log::Appended;
pub use crate::number::{InvalidSequenceNumber, SequenceNumber};
pub use crate::reader::Reader;
pub use crate::record::{
    DATA_MAX_BYTES, KEY_MAX_BYTES, KEY_MAX_CHARS, NewRecord, ReadFrom, Record, hash_key,
    parse_hash_key,
};
pub use crate::shards::{Description, SHARDS_MAX, Shard};
pub use crate::stream::Stream;

use crate::log::{Log, OpenMode};

/// Maximum number of streams that a process opens. A name in a request creates a stream, with a
/// directory, an open file and a task.
pub const STREAMS_MAX: usize = 1_000;

/// All local streams of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Streams(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// None if the streams end with the process.
    directory: Option<PathBuf>,
    segment_bytes: Option<u64>,
    open: Mutex<HashMap<String, Arc<OnceCell<Stream>>>>,
}

impl Streams {
    /// Streams under `directory`. The directory is created together with the first stream.
    pub fn durable(directory: PathBuf) -> Self {
        Self::new(Some(directory), None)
    }

    /// Streams that end with the process, however the process ends. Their data is in unnamed
    /// temporary files.
    pub fn ephemeral() -> Self {
        Self::new(None, None)
    }

    fn new(directory: Option<PathBuf>, segment_bytes: Option<u64>) -> Self {
        Self(Arc::new(Inner {
            directory,
            segment_bytes,
            open: Mutex::default(),
        }))
    }

    /// Streams under `directory` that start a new file when the current one exceeds
    /// `segment_bytes`.
    #[cfg(test)]
    fn with_segment_bytes(directory: PathBuf, segment_bytes: u64) -> Self {
        Self::new(Some(directory), Some(segment_bytes))
    }

    /// Returns the stream `name`. A stream that does not exist is created with one shard. Must be
    /// called inside a tokio runtime; the stream then works on that runtime.
    ///
    /// # Errors
    /// An invalid stream name, damaged data, or an error of the file system.
    pub async fn stream(&self, name: &str) -> Result<Stream, StreamError> {
        self.open_or_reuse(name, OpenMode::Any).await
    }

    /// Returns the stream `name` if it exists.
    ///
    /// # Errors
    /// [`StreamError::Missing`], else as for [`Streams::stream`].
    pub async fn existing(&self, name: &str) -> Result<Stream, StreamError> {
        self.open_or_reuse(name, OpenMode::Existing).await
    }

    /// Creates the stream `name` with `shards` equal shards.
    ///
    /// # Errors
    /// [`StreamError::Exists`], [`StreamError::TooMany`], else as for [`Streams::stream`].
    pub async fn create(
        &self,
        name: &str,
        shards: usize,
        on_demand: bool,
    ) -> Result<Stream, StreamError> {
        if !(1..=SHARDS_MAX).contains(&shards) {
            return Err(StreamError::TooMany(format!(
                "a stream has 1 to {SHARDS_MAX} open shards; these would be {shards}"
            )));
        }
        self.open_or_reuse(name, OpenMode::New { shards, on_demand })
            .await
    }

    /// Deletes the stream `name` with all its records.
    ///
    /// # Errors
    /// [`StreamError::Missing`], else as for [`Streams::stream`].
    pub async fn delete(&self, name: &str) -> Result<(), StreamError> {
        let stream = self.existing(name).await?;
        stream.delete().await?;
        self.forget(name, &stream);
        Ok(())
    }

    /// Names of all streams, sorted.
    ///
    /// # Errors
    /// An error of the file system.
    pub async fn names(&self) -> Result<Vec<String>, StreamError> {
        let Some(directory) = self.0.directory.clone() else {
            let open = self.lock();
            let open = open.iter().filter(|(_, stream)| stream.initialized());
            let mut names: Vec<_> = open.map(|(name, _)| name.clone()).collect();
            names.sort_unstable();
            return Ok(names);
        };
        let listed = tokio::task::spawn_blocking(move || names_in(&directory)).await;
        let listed = listed.map_err(|_| StreamError::Stopped)?;
        listed.map_err(|error| StreamError::Io {
            stream: "(all)".to_owned(),
            action: "be listed",
            message: error.to_string(),
        })
    }

    async fn open_or_reuse(&self, name: &str, mode: OpenMode) -> Result<Stream, StreamError> {
        check_stream_name(name).map_err(StreamError::InvalidName)?;
        self.check_room(name)?;
        let cell = Arc::clone(self.lock().entry(name.to_owned()).or_default());
        let mut made = false;
        let stream = cell
            .get_or_try_init(|| {
                made = true;
                self.open(name.to_owned(), mode)
            })
            .await;
        let stream = match stream {
            Ok(stream) => stream.clone(),
            Err(error) => {
                let mut open = self.lock();
                // A request for a name that does not exist must leave nothing behind.
                if open.get(name).is_some_and(|known| !known.initialized()) {
                    open.remove(name);
                }
                return Err(error);
            }
        };
        if stream.is_deleted() {
            // The stream was deleted, possibly by another process.
            self.forget(name, &stream);
            return Box::pin(self.open_or_reuse(name, mode)).await;
        }
        match mode {
            OpenMode::New { .. } if !made => Err(StreamError::Exists(name.to_owned())),
            _ => Ok(stream),
        }
    }

    /// Rejects a further stream beyond [`STREAMS_MAX`].
    fn check_room(&self, name: &str) -> Result<(), StreamError> {
        let open = self.lock();
        if open.len() < STREAMS_MAX || open.contains_key(name) {
            return Ok(());
        }
        Err(StreamError::TooMany(format!(
            "{STREAMS_MAX} streams are open, which is the maximum of a process; delete some of \
             them, or use another process for `{name}`"
        )))
    }

    fn forget(&self, name: &str, stream: &Stream) {
        let mut open = self.lock();
        let known = open.get(name).and_then(|known| known.get());
        if known.is_some_and(|known| known.is(stream)) {
            open.remove(name);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<OnceCell<Stream>>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(&self, name: String, mode: OpenMode) -> Result<Stream, StreamError> {
        let directory = self.0.directory.as_ref().map(|parent| parent.join(&name));
        let segment_bytes = self.0.segment_bytes;
        let opening = tokio::task::spawn_blocking(move || {
            let mut log = match directory {
                Some(directory) => Log::open(&name, &directory, mode, now_ms()),
                None => Log::unnamed(&name, mode, now_ms()),
            }?;
            if let Some(bytes) = segment_bytes {
                log.set_segment_bytes(bytes);
            }
            Ok((name, log))
        });
        let (name, log) = opening.await.unwrap_or(Err(StreamError::Stopped))?;
        Ok(Stream::new(&name, log, Handle::current()))
    }
}

fn names_in(directory: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(names),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if check_stream_name(&name).is_ok() && !segment::segments_in(&entry.path())?.is_empty() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// Checks a stream's name by the rule of Kinesis: 1 to 128 of `a-z A-Z 0-9 _ . -`. `.` and `..` are
/// refused because streams are directories.
///
/// # Errors
/// A text that says which names are valid.
pub fn check_stream_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let valid = (1..=128).contains(&name.len()) && name.chars().all(allowed);
    if !valid || name == "." || name == ".." {
        return Err(format!(
            "`{name}` is not the name of a stream: write 1 to 128 letters, digits, `_`, `.` or `-`"
        ));
    }
    Ok(())
}
