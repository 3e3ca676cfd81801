//! Opening a stream: only its last segment is read, because it begins with all that is known of the stream there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Log, SEGMENT_BYTES};
use crate::error::StreamError;
use crate::frame::{Beginning, HEAD_BYTES, VERSION_PLAIN, encode_head};
use crate::scan::Scan;
use crate::segment::{FileError, Home, PLAIN_SEGMENT, Segment, read_head};
use crate::shards::{Description, Moment};

/// What is to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// A stream that is there.
    Existing,
    /// The stream; with one shard if it is not there yet.
    Any,
    /// A stream that is not there yet, with so many shards.
    New {
        /// How many.
        shards: usize,
        /// Whether Kinesis would scale it by demand.
        on_demand: bool,
    },
}

impl Log {
    /// Opens or creates the stream in `directory`, cuts off what a crash left unfinished.
    pub(crate) fn open(
        name: &str,
        directory: &Path,
        opening: Opening,
        now_ms: u64,
    ) -> Result<Self, StreamError> {
        let found = crate::segment::segments_in(directory);
        let found = found.map_err(|error| io_error(name, "look into its directory", &error))?;
        if found.is_empty() && opening == Opening::Existing {
            return Err(StreamError::Missing(name.to_owned()));
        }
        let home = Home::directory(directory);
        let home = home.map_err(|error| io_error(name, "create its directory", &error))?;
        let Home::Directory { lock, .. } = &home else {
            return Err(StreamError::Stopped);
        };
        let held = lock.try_clone().and_then(|held| held.lock().map(|()| held));
        let held = held.map_err(|error| io_error(name, "lock it", &error))?;
        let opened = Self::open_locked(name, home, opening, now_ms);
        held.unlock()
            .map_err(|error| io_error(name, "unlock it", &error))?;
        opened
    }

    /// A stream in files that have no name and end with the process, however it ends.
    pub(crate) fn unnamed(name: &str, opening: Opening, now_ms: u64) -> Result<Self, StreamError> {
        match opening {
            Opening::Existing => Err(StreamError::Missing(name.to_owned())),
            _ => Self::create(name, Home::Unnamed, opening, now_ms),
        }
    }

    /// Begins a new segment when one is larger than this.
    pub(crate) fn set_segment_bytes(&mut self, bytes: u64) {
        self.segment_bytes = bytes;
    }

    fn open_locked(
        name: &str,
        home: Home,
        opening: Opening,
        now_ms: u64,
    ) -> Result<Self, StreamError> {
        let numbers = home.segments();
        let numbers = numbers.map_err(|error| io_error(name, "look into its directory", &error))?;
        let last = numbers.last().copied();
        match (last, opening) {
            (None, Opening::Existing) => Err(StreamError::Missing(name.to_owned())),
            (Some(_), Opening::New { .. }) => Err(StreamError::Exists(name.to_owned())),
            (None, _) => Self::create(name, home, opening, now_ms),
            (Some(PLAIN_SEGMENT), _) => match Self::open_plain(name, home, now_ms)? {
                Ok(log) => Ok(log),
                Err(home) => Self::create(name, home, opening, now_ms),
            },
            (Some(last), _) => Self::open_last(name, home, &numbers, last),
        }
    }

    fn create(name: &str, home: Home, opening: Opening, now_ms: u64) -> Result<Self, StreamError> {
        let (shards, on_demand) = match opening {
            Opening::New { shards, on_demand } => (shards, on_demand),
            Opening::Existing | Opening::Any => (1, false),
        };
        let mut moment = Moment { now_ms, next: 1 };
        let beginning = Beginning {
            segment: PLAIN_SEGMENT + 1,
            first_segment: PLAIN_SEGMENT + 1,
            description: Description::new(shards, on_demand, &mut moment),
            producers: Default::default(),
        };
        let created = home.create(moment.next, 0, &beginning);
        let (segment, end) = created.map_err(|error| io_error(name, "create its file", &error))?;
        Ok(Self::begun(
            name,
            home,
            vec![Arc::new(segment)],
            beginning,
            end,
        ))
    }

    /// Opens a stream whose last segment is `last`, and reads that.
    fn open_last(name: &str, home: Home, numbers: &[u64], last: u64) -> Result<Self, StreamError> {
        let of = |number| {
            let path = home.path(number);
            move |error| file_error(name, &path, error)
        };
        let (segment, beginning) = home.open(last).map_err(of(last))?;
        let mut segments = Vec::new();
        for number in numbers
            .iter()
            .copied()
            .filter(|number| *number < beginning.first_segment)
        {
            // A crash came before it was deleted.
            let removed = std::fs::remove_file(home.path(number));
            removed.map_err(|error| io_error(name, "delete an old file", &error))?;
        }
        for number in beginning.first_segment..last {
            if numbers.binary_search(&number).is_err() {
                return Err(damaged(name, home.path(number), 0, "the file is missing"));
            }
            let opened = match number {
                PLAIN_SEGMENT => home.open_plain().map_err(FileError::Io),
                _ => home.open(number).map(|(segment, _)| segment),
            };
            segments.push(Arc::new(opened.map_err(of(number))?));
        }
        let end = end_of_beginning(&segment).map_err(of(last))?;
        segments.push(Arc::new(segment));
        let mut log = Self::begun(name, home, segments, beginning, end);
        log.read_last()?;
        if log.continued {
            let next = log.home.path(last + 1);
            return Err(damaged(name, next, 0, "the file is missing"));
        }
        Ok(log)
    }

    /// Opens a stream in the format of streams with one shard, and goes on in a new segment. The home comes back if nothing was ever
    /// acknowledged there.
    fn open_plain(name: &str, home: Home, now_ms: u64) -> Result<Result<Self, Home>, StreamError> {
        let path = home.path(PLAIN_SEGMENT);
        let io = |action| move |error: std::io::Error| io_error(name, action, &error);
        let head = std::fs::metadata(&path)
            .map_err(io("look at its file"))?
            .len();
        if head < HEAD_BYTES as u64 {
            let begun = std::fs::read(&path).map_err(io("read its file"))?;
            // The head was made durable before the first record, so that nothing was acknowledged yet.
            if !encode_head(VERSION_PLAIN).starts_with(&begun) {
                return Err(damaged(name, path, 0, "the file is not a stream"));
            }
            std::fs::remove_file(&path).map_err(io("delete an unfinished file"))?;
            return Ok(Err(home));
        }
        let segment = home.open_plain().map_err(io("open its file"))?;
        let mut moment = Moment { now_ms, next: 1 };
        let beginning = Beginning {
            segment: PLAIN_SEGMENT,
            first_segment: PLAIN_SEGMENT,
            description: Description::of_plain(&mut moment),
            producers: Default::default(),
        };
        let end = HEAD_BYTES as u64;
        let mut log = Self::begun(name, home, vec![Arc::new(segment)], beginning, end);
        log.read_last()?;
        // New records get numbers that the old format has no room for.
        log.begin_new_segment()?;
        Ok(Ok(log))
    }

    /// Reads all of the last segment.
    fn read_last(&mut self) -> Result<(), StreamError> {
        let length = self.length()?;
        let head = read_head(&self.last.file, length);
        let (version, acknowledged) =
            head.map_err(|error| file_error(&self.name, &self.last.path, error))?;
        if version != self.last.version {
            return Err(self.damaged(8, format!("format version {version} does not belong here")));
        }
        self.read_on(length, acknowledged)?;
        // What is there may have been written by a process that died before it was durable.
        self.sync()
            .map_err(|error| self.io("make its file durable", &error))?;
        self.note_acknowledged();
        Ok(())
    }

    fn begun(
        name: &str,
        home: Home,
        segments: Vec<Arc<Segment>>,
        beginning: Beginning,
        end: u64,
    ) -> Self {
        let last = Arc::clone(&segments[segments.len() - 1]);
        let (next, time_ms) = (last.first, last.begun_ms);
        let mut log = Self {
            name: name.to_owned(),
            home,
            segment_bytes: SEGMENT_BYTES,
            segments: segments.into(),
            last,
            end,
            next,
            time_ms,
            description: beginning.description.clone(),
            routes: Vec::new(),
            producers: HashMap::from_iter(beginning.producers),
            failed: HashMap::new(),
            continued: false,
            unsure: None,
            gone: false,
        };
        log.set_description(beginning.description, next, time_ms);
        log
    }
}

/// Where the first frame of a segment ends.
pub(super) fn end_of_beginning(segment: &Segment) -> Result<u64, FileError> {
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
