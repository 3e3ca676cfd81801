//! Opening a stream. Only its last segment is read, because it starts with a checkpoint of the
//! whole stream.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Log, SEGMENT_BYTES};
use crate::error::StreamError;
use crate::frame::{Checkpoint, HEAD_BYTES, VERSION_PLAIN, encode_head};
use crate::scan::Scan;
use crate::segment::{FileError, Home, PLAIN_SEGMENT, Segment, read_head};
use crate::shards::{ChangeContext, Description};

/// Expectation of a caller that opens a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenMode {
    /// The stream must exist.
    Existing,
    /// The stream is created with one shard if it does not exist.
    Any,
    /// The stream must not exist, and is created.
    New {
        /// Number of shards.
        shards: usize,
        /// True if Kinesis would scale it on demand.
        on_demand: bool,
    },
}

impl Log {
    /// Opens or creates the stream in `directory`, and cuts off what a crash left unfinished.
    pub(crate) fn open(
        name: &str,
        directory: &Path,
        mode: OpenMode,
        now_ms: u64,
    ) -> Result<Self, StreamError> {
        let found = crate::segment::segments_in(directory);
        let found = found.map_err(|error| io_error(name, "list its directory", &error))?;
        if found.is_empty() && mode == OpenMode::Existing {
            return Err(StreamError::Missing(name.to_owned()));
        }
        let home = Home::directory(directory);
        let home = home.map_err(|error| io_error(name, "create its directory", &error))?;
        let Home::Directory { lock, .. } = &home else {
            return Err(StreamError::Stopped);
        };
        let held = lock.try_clone().and_then(|held| held.lock().map(|()| held));
        let held = held.map_err(|error| io_error(name, "lock it", &error))?;
        let opened = Self::open_locked(name, home, mode, now_ms);
        held.unlock()
            .map_err(|error| io_error(name, "unlock it", &error))?;
        opened
    }

    /// Opens a stream in files without names, which end with the process, however the process ends.
    pub(crate) fn unnamed(name: &str, mode: OpenMode, now_ms: u64) -> Result<Self, StreamError> {
        match mode {
            OpenMode::Existing => Err(StreamError::Missing(name.to_owned())),
            _ => Self::create(name, Home::Unnamed, mode, now_ms),
        }
    }

    /// Sets the size from which a segment is followed by another one.
    pub(crate) fn set_segment_bytes(&mut self, bytes: u64) {
        self.segment_bytes = bytes;
    }

    fn open_locked(
        name: &str,
        home: Home,
        mode: OpenMode,
        now_ms: u64,
    ) -> Result<Self, StreamError> {
        let numbers = home.segments();
        let numbers = numbers.map_err(|error| io_error(name, "list its directory", &error))?;
        let last = numbers.last().copied();
        match (last, mode) {
            (None, OpenMode::Existing) => Err(StreamError::Missing(name.to_owned())),
            (Some(_), OpenMode::New { .. }) => Err(StreamError::Exists(name.to_owned())),
            (None, _) => Self::create(name, home, mode, now_ms),
            (Some(PLAIN_SEGMENT), _) => match Self::open_plain(name, home, now_ms)? {
                Ok(log) => Ok(log),
                Err(home) => Self::create(name, home, mode, now_ms),
            },
            (Some(last), _) => Self::open_last(name, home, &numbers, last),
        }
    }

    fn create(name: &str, home: Home, mode: OpenMode, now_ms: u64) -> Result<Self, StreamError> {
        let (shards, on_demand) = match mode {
            OpenMode::New { shards, on_demand } => (shards, on_demand),
            OpenMode::Existing | OpenMode::Any => (1, false),
        };
        let mut context = ChangeContext { now_ms, next: 1 };
        let checkpoint = Checkpoint {
            segment: PLAIN_SEGMENT + 1,
            first_segment: PLAIN_SEGMENT + 1,
            description: Description::new(shards, on_demand, &mut context),
            producers: Default::default(),
        };
        let created = home.create(context.next, 0, &checkpoint);
        let (segment, end) = created.map_err(|error| io_error(name, "create its file", &error))?;
        Ok(Self::from_checkpoint(
            name,
            home,
            vec![Arc::new(segment)],
            checkpoint,
            end,
        ))
    }

    /// Opens a stream whose last segment is `last`, and reads that segment.
    fn open_last(name: &str, home: Home, numbers: &[u64], last: u64) -> Result<Self, StreamError> {
        let of = |number| {
            let path = home.path(number);
            move |error| file_error(name, &path, error)
        };
        let (segment, checkpoint) = home.open(last).map_err(of(last))?;
        let mut segments = Vec::new();
        for number in numbers
            .iter()
            .copied()
            .filter(|number| *number < checkpoint.first_segment)
        {
            // A crash came before this segment was deleted.
            let removed = std::fs::remove_file(home.path(number));
            removed.map_err(|error| io_error(name, "delete an old file", &error))?;
        }
        for number in checkpoint.first_segment..last {
            if numbers.binary_search(&number).is_err() {
                return Err(damaged(name, home.path(number), 0, "the file is missing"));
            }
            let opened = match number {
                PLAIN_SEGMENT => home.open_plain().map_err(FileError::Io),
                _ => home.open(number).map(|(segment, _)| segment),
            };
            segments.push(Arc::new(opened.map_err(of(number))?));
        }
        let end = end_of_checkpoint(&segment).map_err(of(last))?;
        segments.push(Arc::new(segment));
        let mut log = Self::from_checkpoint(name, home, segments, checkpoint, end);
        log.read_last()?;
        if log.continued {
            let next = log.home.path(last + 1);
            return Err(damaged(name, next, 0, "the file is missing"));
        }
        Ok(log)
    }

    /// Opens a stream in the format of streams with one shard, and continues it in a new segment.
    /// Returns the home if no record was ever acknowledged there.
    fn open_plain(name: &str, home: Home, now_ms: u64) -> Result<Result<Self, Home>, StreamError> {
        let path = home.path(PLAIN_SEGMENT);
        let io = |action| move |error: std::io::Error| io_error(name, action, &error);
        let head = std::fs::metadata(&path)
            .map_err(io("inspect its file"))?
            .len();
        if head < HEAD_BYTES as u64 {
            let head_start = std::fs::read(&path).map_err(io("read its file"))?;
            // The head is made durable before the first record, so nothing was acknowledged yet.
            if !encode_head(VERSION_PLAIN).starts_with(&head_start) {
                return Err(damaged(name, path, 0, "the file is not a stream"));
            }
            std::fs::remove_file(&path).map_err(io("delete an unfinished file"))?;
            return Ok(Err(home));
        }
        let segment = home.open_plain().map_err(io("open its file"))?;
        let mut context = ChangeContext { now_ms, next: 1 };
        let checkpoint = Checkpoint {
            segment: PLAIN_SEGMENT,
            first_segment: PLAIN_SEGMENT,
            description: Description::of_plain(&mut context),
            producers: Default::default(),
        };
        let end = HEAD_BYTES as u64;
        let mut log = Self::from_checkpoint(name, home, vec![Arc::new(segment)], checkpoint, end);
        log.read_last()?;
        // The old format has no room for the numbers of new records.
        log.begin_new_segment()?;
        Ok(Ok(log))
    }

    /// Reads the whole last segment.
    fn read_last(&mut self) -> Result<(), StreamError> {
        let length = self.length()?;
        let head = read_head(&self.last.file, length);
        let (version, acknowledged) =
            head.map_err(|error| file_error(&self.name, &self.last.path, error))?;
        if version != self.last.version {
            return Err(self.damaged(8, format!("format version {version} does not belong here")));
        }
        self.read_frames(length, acknowledged)?;
        // A process that died may have written these frames without making them durable.
        self.sync()
            .map_err(|error| self.io("sync its file", &error))?;
        self.mark_acknowledged();
        Ok(())
    }

    fn from_checkpoint(
        name: &str,
        home: Home,
        segments: Vec<Arc<Segment>>,
        checkpoint: Checkpoint,
        end: u64,
    ) -> Self {
        let last = Arc::clone(&segments[segments.len() - 1]);
        let (next, time_ms) = (last.first, last.start_ms);
        let mut log = Self {
            name: name.to_owned(),
            home,
            segment_bytes: SEGMENT_BYTES,
            segments: segments.into(),
            last,
            end,
            next,
            time_ms,
            description: checkpoint.description.clone(),
            routes: Vec::new(),
            producers: HashMap::from_iter(checkpoint.producers),
            failed: HashMap::new(),
            continued: false,
            unsure: None,
            deleted: false,
        };
        log.set_description(checkpoint.description, next, time_ms);
        log
    }
}

/// Offset behind the first frame of a segment.
pub(super) fn end_of_checkpoint(segment: &Segment) -> Result<u64, FileError> {
    let length = segment.file.metadata()?.len();
    let mut scan = Scan::new(&segment.file, segment.version, HEAD_BYTES as u64, length);
    scan.step()?;
    Ok(scan.offset())
}

pub(crate) fn file_error(stream: &str, path: &Path, error: FileError) -> StreamError {
    match error {
        FileError::Io(error) => io_error(stream, "read its file", &error),
        FileError::Damaged(offset, reason) => damaged(stream, path.to_owned(), offset, reason),
    }
}

pub(crate) fn io_error(stream: &str, action: &'static str, error: &std::io::Error) -> StreamError {
    StreamError::Io {
        stream: stream.to_owned(),
        action,
        message: error.to_string(),
    }
}

pub(crate) fn damaged(
    stream: &str,
    path: PathBuf,
    offset: u64,
    reason: impl Into<String>,
) -> StreamError {
    StreamError::Damaged {
        stream: stream.to_owned(),
        path,
        offset,
        reason: reason.into(),
    }
}
