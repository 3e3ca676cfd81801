//! Local streams: what Kinesis is in production, on this machine.
//!
//! A [`Stream`] is a file of records under `<directory>/<name>/records`. An append is acknowledged when it is durable; appends that come
//! at the same time share one sync. A producer that numbers its appends is exactly once. Each stream has one shard, [`SHARD_ID`].
//!
//! ```text
//!  append ─► queue ─► one write, one sync ─► acknowledged ─► readers
//! ```
//!
//! Nothing that was acknowledged is ever lost in silence: an incomplete last record that a crash left is cut off, everything else that
//! does not match its checksum or is missing is refused by name. Two processes may use one directory: a lock on the file makes their
//! appends take turns, and each takes in what the other wrote.

mod error;
mod frame;
pub mod http;
mod index;
mod log;
mod reader;
mod record;
mod scan;
mod stream;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::OnceCell;

pub use crate::streams::error::StreamError;
pub use crate::streams::log::Appended;
pub use crate::streams::reader::Reader;
pub use crate::streams::record::{
    DATA_MAX_BYTES, InvalidSequenceNumber, KEY_MAX_CHARS, NewRecord, ReadFrom, Record,
    SequenceNumber,
};
pub use crate::streams::stream::Stream;

use crate::streams::log::Log;

/// The name of the one shard of every local stream.
pub const SHARD_ID: &str = "shardId-000000000000";

/// All local streams of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Streams(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// None if the streams end with the process.
    directory: Option<PathBuf>,
    open: Mutex<HashMap<String, Arc<OnceCell<Stream>>>>,
}

impl Streams {
    /// Streams under `directory`, which is created with the first of them.
    pub fn durable(directory: PathBuf) -> Self {
        Self::new(Some(directory))
    }

    /// Streams that end with the process, however it ends. Their data is in unnamed temporary files.
    pub fn ephemeral() -> Self {
        Self::new(None)
    }

    fn new(directory: Option<PathBuf>) -> Self {
        Self(Arc::new(Inner {
            directory,
            open: Mutex::default(),
        }))
    }

    /// The stream `name`, created if it is not there yet. Must be called inside a tokio runtime, on which the stream then works.
    ///
    /// # Errors
    /// A name that is not the name of a stream, damage, or what the file system says.
    pub async fn stream(&self, name: &str) -> Result<Stream, StreamError> {
        check_stream_name(name).map_err(StreamError::InvalidName)?;
        let cell = {
            let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(open.entry(name.to_owned()).or_default())
        };
        let stream = cell.get_or_try_init(|| self.open(name.to_owned())).await?;
        Ok(stream.clone())
    }

    async fn open(&self, name: String) -> Result<Stream, StreamError> {
        let directory = self.0.directory.as_ref().map(|parent| parent.join(&name));
        let opening = tokio::task::spawn_blocking(move || {
            let log = match directory {
                Some(directory) => Log::open(&name, &directory),
                None => Log::ephemeral(&name),
            };
            log.map(|log| (name, log))
        });
        let (name, log) = opening.await.unwrap_or(Err(StreamError::Stopped))?;
        Ok(Stream::new(&name, log, Handle::current()))
    }
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
