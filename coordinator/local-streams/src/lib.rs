//! Local streams: what Kinesis is in production, on this machine.
//!
//! A [`Stream`] is a directory of files. An append is acknowledged when it is durable; appends that come at the same time share one sync.
//! A producer that numbers its appends is exactly once. A stream has shards, ranges of hash keys, which are split and merged; records of
//! all shards lie in one file after the other in the order of the appends, so that an append and a change of the shards are whole or not
//! there, and reading the stream is reading its files.
//!
//! ```text
//!  append ─► queue ─► one write, one sync ─► acknowledged ─► readers of the stream, readers of a shard
//! ```
//!
//! Nothing that was acknowledged is ever lost in silence: an incomplete last record that a crash left is cut off, everything else that
//! does not match its checksum or is missing is refused by name. Two processes may use one directory: a lock makes their appends take
//! turns, and each takes in what the other wrote.
//!
//! [`kinesis`] serves the streams under the API of Kinesis, [`http`] under Satchel's own.

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
    DATA_MAX_BYTES, KEY_MAX_CHARS, NewRecord, ReadFrom, Record, hash_key, parse_hash_key,
};
pub use crate::shards::{Description, SHARDS_MAX, Shard};
pub use crate::stream::Stream;

use crate::log::{Log, Opening};

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
    /// Streams under `directory`, which is created with the first of them.
    pub fn durable(directory: PathBuf) -> Self {
        Self::new(Some(directory), None)
    }

    /// Streams that end with the process, however it ends. Their data is in unnamed temporary files.
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

    /// Streams under `directory` that begin a new file when one is larger than `segment_bytes`.
    #[cfg(test)]
    fn with_segment_bytes(directory: PathBuf, segment_bytes: u64) -> Self {
        Self::new(Some(directory), Some(segment_bytes))
    }

    /// The stream `name`, created with one shard if it is not there yet. Must be called inside a tokio runtime, on which the stream then
    /// works.
    ///
    /// # Errors
    /// A name that is not the name of a stream, damage, or what the file system says.
    pub async fn stream(&self, name: &str) -> Result<Stream, StreamError> {
        self.opened(name, Opening::Any).await
    }

    /// The stream `name` if it is there.
    ///
    /// # Errors
    /// [`StreamError::Missing`], else as for [`Streams::stream`].
    pub async fn existing(&self, name: &str) -> Result<Stream, StreamError> {
        self.opened(name, Opening::Existing).await
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
        self.opened(name, Opening::New { shards, on_demand }).await
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

    /// The names of all streams, in order.
    ///
    /// # Errors
    /// What the file system says.
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

    async fn opened(&self, name: &str, opening: Opening) -> Result<Stream, StreamError> {
        check_stream_name(name).map_err(StreamError::InvalidName)?;
        let cell = Arc::clone(self.lock().entry(name.to_owned()).or_default());
        let mut made = false;
        let stream = cell
            .get_or_try_init(|| {
                made = true;
                self.open(name.to_owned(), opening)
            })
            .await;
        let stream = match stream {
            Ok(stream) => stream.clone(),
            Err(error) => {
                let mut open = self.lock();
                // Whoever asks for names that are not there leaves nothing behind.
                if open.get(name).is_some_and(|known| !known.initialized()) {
                    open.remove(name);
                }
                return Err(error);
            }
        };
        if stream.is_gone() {
            // It was deleted, perhaps by another process.
            self.forget(name, &stream);
            return Box::pin(self.opened(name, opening)).await;
        }
        match opening {
            Opening::New { .. } if !made => Err(StreamError::Exists(name.to_owned())),
            _ => Ok(stream),
        }
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

    async fn open(&self, name: String, opening: Opening) -> Result<Stream, StreamError> {
        let directory = self.0.directory.as_ref().map(|parent| parent.join(&name));
        let segment_bytes = self.0.segment_bytes;
        let opening = tokio::task::spawn_blocking(move || {
            let mut log = match directory {
                Some(directory) => Log::open(&name, &directory, opening, now_ms()),
                None => Log::unnamed(&name, opening, now_ms()),
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

/// Checks a stream's name by the rule of Kinesis: 1 to 128 of `a-z A-Z 0-9 _ . -`. `.` and `..` are no names here, because streams are
/// directories.
///
/// # Errors
/// Says what a name looks like.
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
