//! The files of a stream.
//!
//! ```text
//! <directory>/lock                  held while a process appends
//! <directory>/records               a stream of format version 1; segment 0 once there are others
//! <directory>/segment-<20 digits>   each starts with a checkpoint of the whole stream
//! ```

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bytes::BytesMut;

use crate::frame::{
    Checkpoint, Content, HEAD_BYTES, VERSION, decode_head, encode_checkpoint, encode_head,
};
use crate::index::Index;
use crate::scan::{Scan, Step};

/// The number of the segment of format version 1.
pub(crate) const PLAIN_SEGMENT: u64 = 0;

/// Location of a stream's files.
#[derive(Debug)]
pub(crate) enum Home {
    /// Files in a directory, protected by a lock.
    Directory {
        /// The stream's directory.
        path: PathBuf,
        /// Locked while a process appends.
        lock: File,
    },
    /// Files without names, which end with the process, however the process ends.
    Unnamed,
}

/// One file of a stream.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Its number. Numbers have no gaps.
    pub(crate) number: u64,
    /// Format version of its frames.
    pub(crate) version: u32,
    /// The file.
    pub(crate) file: File,
    /// Its path, for messages.
    pub(crate) path: PathBuf,
    /// Count of the first entry in it.
    pub(crate) first: u64,
    /// Time of the last record before it.
    pub(crate) start_ms: u64,
    /// Highest count of a record before it, for each shard.
    pub(crate) last_before: Vec<(u32, u64)>,
    /// Index over its frames. None until the first use.
    pub(crate) index: Mutex<Option<Index>>,
}

/// Reason why a file cannot be read.
#[derive(Debug)]
pub(crate) enum FileError {
    /// Error of the system.
    Io(std::io::Error),
    /// Offset and description of the damage.
    Damaged(u64, String),
}

impl From<std::io::Error> for FileError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl Home {
    /// Opens a stream's directory, and creates it if it does not exist.
    pub(crate) fn directory(path: &Path) -> std::io::Result<Self> {
        create_directory(path)?;
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("lock"))?;
        Ok(Self::Directory {
            path: path.to_owned(),
            lock,
        })
    }

    /// True if its content survives the process.
    pub(crate) fn is_durable(&self) -> bool {
        matches!(self, Self::Directory { .. })
    }

    /// Numbers of the existing segments, in order.
    pub(crate) fn segments(&self) -> std::io::Result<Vec<u64>> {
        let Self::Directory { path, .. } = self else {
            return Ok(Vec::new());
        };
        segments_in(path)
    }

    /// True if another process deleted the stream.
    pub(crate) fn is_deleted(&self) -> std::io::Result<bool> {
        match self {
            Self::Directory { lock, .. } => Ok(lock.metadata()?.nlink() == 0),
            Self::Unnamed => Ok(false),
        }
    }

    /// The path of a segment.
    pub(crate) fn path(&self, number: u64) -> PathBuf {
        match self {
            Self::Directory { path, .. } => path.join(segment_name(number)),
            Self::Unnamed => PathBuf::from(format!("({})", segment_name(number))),
        }
    }

    /// True if the segment exists.
    pub(crate) fn has(&self, number: u64) -> std::io::Result<bool> {
        match self {
            Self::Directory { .. } => self.path(number).try_exists(),
            Self::Unnamed => Ok(false),
        }
    }

    /// Creates a segment, which becomes durable as a whole or not at all. Returns it with its end.
    pub(crate) fn create(
        &self,
        first: u64,
        time_ms: u64,
        checkpoint: &Checkpoint,
    ) -> std::io::Result<(Segment, u64)> {
        let mut bytes = BytesMut::from(&encode_head(VERSION)[..]);
        encode_checkpoint(first, time_ms, checkpoint, &mut bytes);
        let path = self.path(checkpoint.segment);
        let file = match self {
            Self::Unnamed => {
                let file = tempfile::tempfile()?;
                file.write_all_at(&bytes, 0)?;
                file
            }
            Self::Directory {
                path: directory, ..
            } => {
                let unfinished = directory.join("unfinished");
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .open(&unfinished)?;
                file.write_all_at(&bytes, 0)?;
                file.sync_all()?;
                std::fs::rename(&unfinished, &path)?;
                sync_directory(directory)?;
                file
            }
        };
        let segment = Segment::from_checkpoint(file, path, first, time_ms, checkpoint);
        Ok((segment, bytes.len() as u64))
    }

    /// Opens the segment of format version 1.
    pub(crate) fn open_plain(&self) -> std::io::Result<Segment> {
        let path = self.path(PLAIN_SEGMENT);
        Ok(Segment {
            number: PLAIN_SEGMENT,
            version: crate::frame::VERSION_PLAIN,
            file: open_file(&path)?,
            path,
            first: 1,
            start_ms: 0,
            last_before: Vec::new(),
            index: Mutex::default(),
        })
    }

    /// Opens a segment and reads its checkpoint.
    pub(crate) fn open(&self, number: u64) -> Result<(Segment, Checkpoint), FileError> {
        let path = self.path(number);
        let file = open_file(&path)?;
        let length = file.metadata()?.len();
        let (version, _) = read_head(&file, length)?;
        if version != VERSION {
            return Err(damaged(
                8,
                format!("a segment has format version {VERSION}, this is {version}"),
            ));
        }
        let frame = match Scan::new(&file, version, HEAD_BYTES as u64, length).step()? {
            Step::Frame(_, frame) => frame,
            Step::Damaged(offset, reason) => return Err(FileError::Damaged(offset, reason)),
            Step::End | Step::Unfinished(_) => {
                return Err(damaged(HEAD_BYTES as u64, "its checkpoint is incomplete"));
            }
        };
        let at_begin = |reason| FileError::Damaged(HEAD_BYTES as u64, reason);
        let (first, content) = frame.content().map_err(at_begin)?;
        let Content::Checkpoint {
            time_ms,
            checkpoint,
        } = content
        else {
            return Err(damaged(
                HEAD_BYTES as u64,
                "it does not start with a checkpoint",
            ));
        };
        if checkpoint.segment != number {
            let reason = format!("it is segment {}, not {number}", checkpoint.segment);
            return Err(FileError::Damaged(HEAD_BYTES as u64, reason));
        }
        let segment = Segment::from_checkpoint(file, path, first, time_ms, &checkpoint);
        Ok((segment, *checkpoint))
    }
}

impl Segment {
    fn from_checkpoint(
        file: File,
        path: PathBuf,
        first: u64,
        start_ms: u64,
        checkpoint: &Checkpoint,
    ) -> Self {
        let shards = checkpoint.description.shards.iter();
        Self {
            number: checkpoint.segment,
            version: VERSION,
            file,
            path,
            first,
            start_ms,
            last_before: shards.map(|shard| (shard.index, shard.last)).collect(),
            index: Mutex::default(),
        }
    }
}

/// Reads the head of a file of `length` bytes. Returns its version and the acknowledged end.
pub(crate) fn read_head(file: &File, length: u64) -> Result<(u32, u64), FileError> {
    let mut head = [0; HEAD_BYTES];
    if length < HEAD_BYTES as u64 {
        return Err(damaged(length, "the file is too short to be a stream"));
    }
    file.read_exact_at(&mut head, 0)?;
    decode_head(&head).map_err(|reason| FileError::Damaged(0, reason))
}

/// Numbers of the segments in a stream's directory, in order.
pub(crate) fn segments_in(directory: &Path) -> std::io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(numbers),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let digits = name.strip_prefix("segment-");
        let number = match name {
            "records" => Some(PLAIN_SEGMENT),
            _ => digits.and_then(|digits| digits.parse().ok()),
        };
        numbers.extend(number.filter(|number| segment_name(*number) == name));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn segment_name(number: u64) -> String {
    match number {
        PLAIN_SEGMENT => "records".to_owned(),
        number => format!("segment-{number:020}"),
    }
}

fn open_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

fn damaged(offset: u64, reason: impl Into<String>) -> FileError {
    FileError::Damaged(offset, reason.into())
}

/// Creates a directory with its missing parents, and makes their names durable.
fn create_directory(directory: &Path) -> std::io::Result<()> {
    match std::fs::create_dir(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let Some(parent) = directory.parent() else {
                return Err(error);
            };
            create_directory(parent)?;
            return create_directory(directory);
        }
        Err(error) => return Err(error),
    }
    match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => sync_directory(Path::new(".")),
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}
