//! The file of one stream: opening, appending, catching up with another process. All of it blocks.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BytesMut;

use crate::streams::error::StreamError;
use crate::streams::frame::{
    ACKNOWLEDGED_OFFSET, Frame, HEAD_BYTES, Producer, decode_head, encode_acknowledged,
    encode_frame, encode_head,
};
use crate::streams::index::Index;
use crate::streams::record::{NewRecord, SequenceNumber};
use crate::streams::scan::{Scan, Step, is_zero_from};

/// One append call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Append {
    /// Who appends, if it is to be exactly once.
    pub(crate) producer: Option<Producer>,
    /// At least one.
    pub(crate) records: Vec<NewRecord>,
}

/// What became of one append call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// The records are durable, with these numbers.
    New(Vec<SequenceNumber>),
    /// The producer's number was applied before; nothing was appended.
    Known,
}

/// The file of one stream and what is known of it.
#[derive(Debug)]
pub(crate) struct Log {
    name: String,
    path: PathBuf,
    file: Arc<File>,
    durable: bool,
    /// How far the file is known to be good and durable.
    end: u64,
    /// The number of the next record.
    next: SequenceNumber,
    /// The time of the last record.
    time_ms: u64,
    /// The highest number applied of each producer.
    producers: HashMap<String, u64>,
    /// The lowest number that failed of each producer: nothing later is taken before it comes again.
    failed: HashMap<String, u64>,
    index: Index,
    /// Set when it is unknown what the file holds: nothing is appended any more.
    unsure: Option<String>,
}

impl Log {
    /// Opens or creates the stream's file `directory/records`, reads all of it, cuts off what a crash left unfinished.
    pub(crate) fn open(name: &str, directory: &Path) -> Result<Self, StreamError> {
        let path = directory.join("records");
        let io = |action| move |error: std::io::Error| io_error(name, action, &error);
        create_directory(directory).map_err(io("create its directory"))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io("open its file"))?;
        sync_directory(directory).map_err(io("make its directory durable"))?;
        let mut log = Self::new(name, path, file, true);
        log.locked(|log| log.read_or_create())?;
        Ok(log)
    }

    /// A stream in a file that has no name and ends with the process, however it ends.
    pub(crate) fn ephemeral(name: &str) -> Result<Self, StreamError> {
        let file =
            tempfile::tempfile().map_err(|error| io_error(name, "create its file", &error))?;
        let mut log = Self::new(name, PathBuf::from("(ephemeral)"), file, false);
        log.read_or_create()?;
        Ok(log)
    }

    fn new(name: &str, path: PathBuf, file: File, durable: bool) -> Self {
        Self {
            name: name.to_owned(),
            path,
            file: Arc::new(file),
            durable,
            end: HEAD_BYTES as u64,
            next: SequenceNumber::FIRST,
            time_ms: 0,
            producers: HashMap::new(),
            failed: HashMap::new(),
            index: Index::default(),
            unsure: None,
        }
    }

    /// The file, for readers.
    pub(crate) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// The file's path, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How far the file is durable.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The number of the next record.
    pub(crate) fn next(&self) -> SequenceNumber {
        self.next
    }

    /// Where to look for records by number and time.
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// Appends a group with one write and one sync. The answers are in the order of `appends`; an error of the whole means that nothing
    /// of the group is in the stream, except after [`StreamError::Unsure`].
    pub(crate) fn append(
        &mut self,
        appends: &[Append],
    ) -> Result<Vec<Result<Appended, StreamError>>, StreamError> {
        let outcome = self.locked(|log| {
            log.catch_up()?;
            log.append_locked(appends)
        });
        if outcome.is_err() {
            for append in appends {
                self.note_failure(append.producer.as_ref());
            }
        }
        outcome
    }

    /// Takes in what another process appended.
    pub(crate) fn refresh(&mut self) -> Result<(), StreamError> {
        if self.durable && self.length()? != self.end {
            self.locked(Self::catch_up)?;
        }
        Ok(())
    }

    /// Runs `work` while no other process appends.
    fn locked<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, StreamError>,
    ) -> Result<T, StreamError> {
        if !self.durable {
            return work(self);
        }
        self.file
            .lock()
            .map_err(|error| self.io("lock its file", &error))?;
        let outcome = work(self);
        self.file
            .unlock()
            .map_err(|error| self.io("unlock its file", &error))?;
        outcome
    }

    fn read_or_create(&mut self) -> Result<(), StreamError> {
        let length = self.length()?;
        let mut head = [0; HEAD_BYTES];
        let present = length.min(HEAD_BYTES as u64) as usize;
        self.file
            .read_exact_at(&mut head[..present], 0)
            .map_err(|error| self.io("read its file", &error))?;
        if present < HEAD_BYTES {
            // The head is made durable before the first record, so that nothing was acknowledged yet.
            if !encode_head().starts_with(&head[..present]) {
                return Err(self.damaged(0, "the file is not a stream"));
            }
            self.write(&encode_head(), 0)?;
            return self.sync();
        }
        let acknowledged = decode_head(&head).map_err(|reason| self.damaged(0, reason))?;
        self.read_on(length, acknowledged)?;
        // What is there may have been written by a process that died before it was durable.
        self.sync()?;
        self.note_acknowledged();
        Ok(())
    }

    fn catch_up(&mut self) -> Result<(), StreamError> {
        let length = self.length()?;
        if length == self.end {
            return Ok(());
        }
        if length < self.end {
            return Err(self.damaged(length, "the file is shorter than it was"));
        }
        self.read_on(length, self.end)?;
        self.sync()?;
        self.note_acknowledged();
        Ok(())
    }

    /// Takes in the frames from `self.end` to `length`, and cuts off an unfinished one at the end that was never acknowledged.
    fn read_on(&mut self, length: u64, acknowledged: u64) -> Result<(), StreamError> {
        let file = self.file();
        let mut scan = Scan::new(&file, self.end, length);
        let (offset, reason) = loop {
            match scan
                .step()
                .map_err(|error| self.io("read its file", &error))?
            {
                Step::Frame(offset, frame) => {
                    let first = frame.records[0].sequence_number;
                    if first != self.next {
                        let reason = format!("record {first} stands where {} should", self.next);
                        return Err(self.damaged(offset, reason));
                    }
                    self.take_in(offset, scan.offset(), &frame);
                }
                Step::End => break (self.end, None),
                Step::Unfinished(offset) => {
                    break (offset, Some("the last record is not complete"));
                }
                Step::Damaged(offset, reason) => {
                    // A crash of the machine may leave a file that was made longer but never filled.
                    let zero = is_zero_from(&file, offset, length);
                    if !zero.map_err(|error| self.io("read its file", &error))? {
                        return Err(self.damaged(offset, reason));
                    }
                    break (offset, Some("there is nothing but zeros"));
                }
            }
        };
        if offset < acknowledged {
            let reason = reason.unwrap_or("the file ends here");
            return Err(self.damaged(
                offset,
                format!("{reason}, but records up to byte {acknowledged} were acknowledged"),
            ));
        }
        if reason.is_some() {
            self.file
                .set_len(offset)
                .map_err(|error| self.io("cut off an unfinished record", &error))?;
        }
        Ok(())
    }

    fn append_locked(
        &mut self,
        appends: &[Append],
    ) -> Result<Vec<Result<Appended, StreamError>>, StreamError> {
        if let Some(message) = &self.unsure {
            return Err(StreamError::Unsure {
                stream: self.name.clone(),
                message: message.clone(),
            });
        }
        let mut group = Group::begin(self);
        let outcomes = appends
            .iter()
            .map(|append| group.add(self, append))
            .collect();
        let Group { bytes, frames, .. } = group;
        if frames.is_empty() {
            return Ok(outcomes);
        }
        if let Err(error) = self.write(&bytes, self.end) {
            if let Err(error) = self.file.set_len(self.end) {
                self.unsure = Some(error.to_string());
            }
            return Err(error);
        }
        if let Err(error) = self.sync() {
            // After a failed sync the system may have forgotten what it did not write: only reading it again tells.
            self.unsure = Some(error.to_string());
            return Err(StreamError::Unsure {
                stream: self.name.clone(),
                message: error.to_string(),
            });
        }
        for (frame, end) in frames {
            self.take_in(self.end, end, &frame);
        }
        self.note_acknowledged();
        Ok(outcomes)
    }

    /// Remembers a frame that is in the file from `offset` to `end`.
    fn take_in(&mut self, offset: u64, end: u64, frame: &Frame) {
        let (Some(first), Some(last)) = (frame.records.first(), frame.records.last()) else {
            return;
        };
        self.index.add(offset, first.sequence_number, first.time_ms);
        self.next = last.sequence_number.plus(1);
        self.time_ms = last.time_ms;
        self.end = end;
        if let Some(producer) = &frame.producer {
            self.producers.insert(producer.id.clone(), producer.number);
            if self.failed.get(&producer.id) <= Some(&producer.number) {
                self.failed.remove(&producer.id);
            }
        }
    }

    fn note_failure(&mut self, producer: Option<&Producer>) {
        let Some(producer) = producer else { return };
        if self.producers.get(&producer.id) >= Some(&producer.number) {
            return;
        }
        let lowest = self
            .failed
            .entry(producer.id.clone())
            .or_insert(producer.number);
        *lowest = producer.number.min(*lowest);
    }

    /// Writes how far records were acknowledged, so that the loss of one is noticed. It need not be durable: it may only be too low.
    fn note_acknowledged(&mut self) {
        if !self.durable {
            return;
        }
        let acknowledged = encode_acknowledged(self.end);
        if let Err(error) = self.file.write_all_at(&acknowledged, ACKNOWLEDGED_OFFSET) {
            tracing::warn!(stream = self.name, %error, "the acknowledged end of a stream was not noted");
        }
    }

    fn length(&self) -> Result<u64, StreamError> {
        let metadata = self.file.metadata();
        let metadata = metadata.map_err(|error| self.io("look at its file", &error))?;
        Ok(metadata.len())
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), StreamError> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|error| self.io("write its file", &error))
    }

    fn sync(&self) -> Result<(), StreamError> {
        if !self.durable {
            return Ok(());
        }
        self.file
            .sync_data()
            .map_err(|error| self.io("make its file durable", &error))
    }

    fn io(&self, action: &'static str, error: &std::io::Error) -> StreamError {
        io_error(&self.name, action, error)
    }

    fn damaged(&self, offset: u64, reason: impl Into<String>) -> StreamError {
        StreamError::Damaged {
            stream: self.name.clone(),
            path: self.path.clone(),
            offset,
            reason: reason.into(),
        }
    }
}

/// What a group of append calls will write.
struct Group {
    bytes: BytesMut,
    /// Each with where it ends in the file.
    frames: Vec<(Frame, u64)>,
    next: SequenceNumber,
    time_ms: u64,
    /// Highest numbers of producers inside the group.
    producers: HashMap<String, u64>,
}

impl Group {
    fn begin(log: &Log) -> Self {
        Self {
            bytes: BytesMut::new(),
            frames: Vec::new(),
            next: log.next,
            time_ms: log.time_ms,
            producers: HashMap::new(),
        }
    }

    fn add(&mut self, log: &Log, append: &Append) -> Result<Appended, StreamError> {
        if let Some(Producer { id, number }) = &append.producer {
            let applied = self.producers.get(id).or_else(|| log.producers.get(id));
            if applied >= Some(number) {
                return Ok(Appended::Known);
            }
            if let Some(failed) = log.failed.get(id).filter(|failed| *failed < number)
                && applied < Some(failed)
            {
                return Err(StreamError::OutOfOrder {
                    stream: log.name.clone(),
                    producer: id.clone(),
                    number: *number,
                    failed: *failed,
                });
            }
            self.producers.insert(id.clone(), *number);
        }
        let offset = log.end + self.bytes.len() as u64;
        encode_frame(
            offset,
            self.next,
            append.producer.as_ref(),
            &append.records,
            self.time_ms,
            &mut self.bytes,
        );
        Ok(self.remember(log, append))
    }

    fn remember(&mut self, log: &Log, append: &Append) -> Appended {
        let mut records = Vec::with_capacity(append.records.len());
        for record in &append.records {
            self.time_ms = self.time_ms.max(record.time_ms);
            records.push(crate::streams::record::Record {
                sequence_number: self.next,
                key: record.key.clone(),
                data: record.data.clone(),
                time_ms: self.time_ms,
            });
            self.next = self.next.plus(1);
        }
        let numbers = records
            .iter()
            .map(|record| record.sequence_number)
            .collect();
        let frame = Frame {
            producer: append.producer.clone(),
            records,
        };
        self.frames.push((frame, log.end + self.bytes.len() as u64));
        Appended::New(numbers)
    }
}

fn io_error(stream: &str, action: &'static str, error: &std::io::Error) -> StreamError {
    StreamError::Io {
        stream: stream.to_owned(),
        action,
        message: error.to_string(),
    }
}

/// Creates a directory and makes its name durable, and that of every parent that was missing.
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

fn sync_directory(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}
