//! The segments of one stream: opening, appending, changing, and catching up with another process.
//! Everything here blocks.

mod group;
mod opening;
mod replay;

use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use bytes::BytesMut;

use crate::error::StreamError;
use crate::frame::{
    ACKNOWLEDGED_OFFSET, Checkpoint, Producer, encode_acknowledged, encode_change, encode_continued,
};
use crate::index::Index;
use crate::number::SequenceNumber;
use crate::record::NewRecord;
use crate::segment::{FileError, Home, Segment};
use crate::shards::{ChangeContext, Description};
use group::{Group, Summary};

pub(crate) use opening::{OpenMode, damaged, io_error};

/// Size in bytes from which a segment is followed by another one.
pub(crate) const SEGMENT_BYTES: u64 = 64 << 20;

/// One append call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Append {
    /// The producer, if the append is exactly-once, with the number of the last record.
    pub(crate) producer: Option<Producer>,
    /// The records, at least one.
    pub(crate) records: Vec<NewRecord>,
    /// Numbers of the producer for each record, ascending. Empty if all records have the producer's
    /// number.
    pub(crate) numbers: Vec<u64>,
}

impl Append {
    /// Lowest number of the producer, of the records from `skipped` on.
    fn lowest_number(&self, skipped: usize) -> Option<u64> {
        let producer = self.producer.as_ref()?;
        Some(
            self.numbers
                .get(skipped)
                .copied()
                .unwrap_or(producer.number),
        )
    }
}

/// Result of one append call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// The records are durable and have these numbers.
    New(Vec<SequenceNumber>),
    /// The producer's number was applied before. Nothing was appended.
    Known,
}

/// Readers' view of a stream: its durable end, and its description there.
#[derive(Debug, Clone)]
pub(crate) struct Tip {
    /// The segments, in order. The last one is being written.
    pub(crate) segments: Arc<[Arc<Segment>]>,
    /// Durable end of the last segment.
    pub(crate) end: u64,
    /// Count of the next entry.
    pub(crate) next: u64,
    /// Shards and settings.
    pub(crate) description: Arc<Description>,
    /// True if the stream was deleted.
    pub(crate) deleted: bool,
}

/// The files of one stream, and their state in memory.
#[derive(Debug)]
pub(crate) struct Log {
    name: String,
    home: Home,
    segment_bytes: u64,
    segments: Arc<[Arc<Segment>]>,
    /// The last of `segments`.
    last: Arc<Segment>,
    /// Offset up to which the last segment is known to be valid and durable.
    end: u64,
    /// Count of the next entry.
    next: u64,
    /// Time of the last record.
    time_ms: u64,
    description: Description,
    /// The first hash key and the number of each open shard, in order.
    routes: Vec<(u128, u32)>,
    /// Highest applied number of each producer.
    producers: HashMap<String, u64>,
    /// Lowest failed number of each producer. No higher number is accepted before it is sent again.
    failed: HashMap<String, u64>,
    /// True if the last segment says that another one follows.
    continued: bool,
    /// Set when the content of the file is unknown. Nothing is appended any more.
    unsure: Option<String>,
    deleted: bool,
}

impl Log {
    /// Current view for readers.
    pub(crate) fn tip(&self) -> Tip {
        Tip {
            segments: Arc::clone(&self.segments),
            end: self.end,
            next: self.next,
            description: Arc::new(self.description.clone()),
            deleted: self.deleted,
        }
    }

    /// Appends a group with one write and one sync. The results are in the order of `appends`. An
    /// error of the whole call means that nothing of the group is in the stream, except for
    /// [`StreamError::Unsure`].
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
                self.record_failure(append);
            }
        }
        outcome
    }

    /// Changes shards or settings. The change is durable when the call returns. If `change` returns
    /// an error, nothing changes.
    pub(crate) fn change<T>(
        &mut self,
        now_ms: u64,
        change: impl FnOnce(&mut Description, &mut ChangeContext) -> Result<T, StreamError>,
    ) -> Result<T, StreamError> {
        self.locked(|log| {
            log.catch_up()?;
            log.check_sure()?;
            log.make_room()?;
            let mut description = log.description.clone();
            let mut context = ChangeContext {
                now_ms: now_ms.max(log.time_ms),
                next: log.next,
            };
            description.forget_trimmed(context.now_ms);
            let changed = change(&mut description, &mut context)?;
            let mut bytes = BytesMut::new();
            encode_change(
                log.end,
                log.next,
                context.next,
                context.now_ms,
                &description,
                &mut bytes,
            );
            log.write_durably(&bytes)?;
            log.end += bytes.len() as u64;
            log.set_description(description, context.next, context.now_ms);
            log.mark_acknowledged();
            Ok(changed)
        })
    }

    /// Catches up with the appends of another process.
    pub(crate) fn refresh(&mut self) -> Result<(), StreamError> {
        if self.home.is_durable() && !self.deleted && self.is_behind()? {
            self.locked(Self::catch_up)?;
        }
        Ok(())
    }

    /// Deletes the stream with all its files.
    pub(crate) fn delete(&mut self) -> Result<(), StreamError> {
        self.locked(|log| {
            if let Home::Directory { path, .. } = &log.home {
                // This is no valid stream name, so a crash here leaves nothing that is taken for a
                // stream.
                let mut doomed = path.clone().into_os_string();
                doomed.push("~deleted");
                let doomed = PathBuf::from(doomed);
                let deleted = match std::fs::remove_dir_all(&doomed) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                    _ => std::fs::rename(path, &doomed)
                        .and_then(|()| std::fs::remove_dir_all(&doomed)),
                };
                deleted.map_err(|error| log.io("delete its directory", &error))?;
            }
            log.deleted = true;
            Ok(())
        })
    }

    /// Runs `work` while no other process appends.
    fn locked<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, StreamError>,
    ) -> Result<T, StreamError> {
        if let Home::Directory { lock, .. } = &self.home {
            lock.lock().map_err(|error| self.io("lock it", &error))?;
        }
        let outcome = match self.check_there() {
            Ok(()) => work(self),
            Err(error) => Err(error),
        };
        if let Home::Directory { lock, .. } = &self.home {
            lock.unlock()
                .map_err(|error| self.io("unlock it", &error))?;
        }
        outcome
    }

    fn check_there(&mut self) -> Result<(), StreamError> {
        let deleted = self.home.is_deleted();
        self.deleted |= deleted.map_err(|error| self.io("inspect its lock", &error))?;
        match self.deleted {
            true => Err(StreamError::Missing(self.name.clone())),
            false => Ok(()),
        }
    }

    fn check_sure(&self) -> Result<(), StreamError> {
        match &self.unsure {
            None => Ok(()),
            Some(message) => Err(StreamError::Unsure {
                stream: self.name.clone(),
                message: message.clone(),
            }),
        }
    }

    fn append_locked(
        &mut self,
        appends: &[Append],
    ) -> Result<Vec<Result<Appended, StreamError>>, StreamError> {
        self.check_sure()?;
        self.make_room()?;
        let mut group = Group::begin(self);
        let outcomes = appends
            .iter()
            .map(|append| group.add(self, append))
            .collect();
        let (bytes, summaries) = group.finish();
        if summaries.is_empty() {
            return Ok(outcomes);
        }
        self.write_durably(&bytes)?;
        for (end, summary) in summaries {
            self.apply_records(self.end, end, summary);
        }
        self.mark_acknowledged();
        Ok(outcomes)
    }

    /// Writes at the end of the last segment. An error means that nothing was written, except for
    /// [`StreamError::Unsure`].
    fn write_durably(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        if let Err(error) = self.last.file.write_all_at(bytes, self.end) {
            if let Err(error) = self.last.file.set_len(self.end) {
                self.unsure = Some(error.to_string());
            }
            return Err(self.io("write its file", &error));
        }
        if let Err(error) = self.sync() {
            // After a failed sync, the system may have dropped unwritten data. Only reading the
            // file anew shows what it holds.
            self.unsure = Some(error.to_string());
            return self.check_sure();
        }
        Ok(())
    }

    /// Starts a new segment if the last one is large enough.
    fn make_room(&mut self) -> Result<(), StreamError> {
        match self.end >= self.segment_bytes {
            true => self.begin_new_segment(),
            false => Ok(()),
        }
    }

    /// Starts a new segment, and deletes segments whose records are all past the retention.
    fn begin_new_segment(&mut self) -> Result<(), StreamError> {
        let mut description = self.description.clone();
        let horizon_ms = description.horizon_ms(self.time_ms);
        // A segment is deletable if all of its records arrived before the horizon. That is so if
        // the next segment started before it.
        let kept = self
            .segments
            .iter()
            .rposition(|segment| segment.start_ms < horizon_ms);
        let kept = kept.unwrap_or(0);
        for (index, last_before) in &self.segments[kept].last_before {
            if let Some(shard) = description.shard_mut(*index) {
                shard.trimmed = (*last_before).max(shard.trimmed);
            }
        }
        description.forget_trimmed(self.time_ms);
        let checkpoint = Checkpoint {
            segment: self.last.number + 1,
            first_segment: self.segments[kept].number,
            description,
            producers: self.producers.clone().into_iter().collect(),
        };
        let created = self.home.create(self.next, self.time_ms, &checkpoint);
        let (segment, end) = created.map_err(|error| self.io("create a new file", &error))?;
        let mut continued = BytesMut::new();
        encode_continued(self.end, self.next, &mut continued);
        // This frame only helps to detect the loss of the next file.
        if let Err(error) = self.last.file.write_all_at(&continued, self.end) {
            tracing::warn!(stream = self.name, %error, "continuation of a segment not marked");
        }
        for segment in &self.segments[..kept] {
            if self.home.is_durable()
                && let Err(error) = std::fs::remove_file(&segment.path)
            {
                tracing::warn!(stream = self.name, %error, "expired segment not deleted");
            }
        }
        self.begin_segment(segment, checkpoint)?;
        debug_assert_eq!(self.end, end);
        Ok(())
    }

    /// Appends a segment that follows the last one to the state in memory.
    fn begin_segment(
        &mut self,
        segment: Segment,
        checkpoint: Checkpoint,
    ) -> Result<(), StreamError> {
        if segment.first != self.next {
            let reason = format!(
                "the segment counts from {}, but the one before it ends at {}",
                segment.first, self.next
            );
            let path = segment.path;
            return Err(opening::damaged(&self.name, path, 0, reason));
        }
        let end = opening::end_of_checkpoint(&segment)
            .map_err(|error| opening::file_error(&self.name, &segment.path, error))?;
        let first = checkpoint.first_segment;
        let kept = self.segments.iter().filter(|kept| kept.number >= first);
        let segment = Arc::new(segment);
        self.segments = kept.cloned().chain([Arc::clone(&segment)]).collect();
        self.last = segment;
        self.end = end;
        self.continued = false;
        self.set_description(checkpoint.description, self.next, self.time_ms);
        Ok(())
    }

    /// Applies records that the last segment holds from `offset` to `end`.
    fn apply_records(&mut self, offset: u64, end: u64, summary: Summary) {
        let index = &mut *self
            .last
            .index
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let index = index.get_or_insert_with(Index::default);
        index.add(offset, self.next, summary.first_ms);
        for (shard, count, time_ms) in summary.shards {
            if let Some(shard) = self.description.shard_mut(shard) {
                (shard.last, shard.last_ms) = (count, time_ms);
            }
        }
        self.next = summary.next;
        self.time_ms = summary.last_ms;
        self.end = end;
        if let Some(producer) = summary.producer {
            if self.failed.get(&producer.id) <= Some(&producer.number) {
                self.failed.remove(&producer.id);
            }
            self.producers.insert(producer.id, producer.number);
        }
    }

    fn set_description(&mut self, description: Description, next: u64, time_ms: u64) {
        let open = description.open_shards();
        let routes = open
            .into_iter()
            .map(|shard| (shard.first_hash_key, shard.index));
        self.routes = routes.collect();
        self.description = description;
        self.next = next;
        self.time_ms = time_ms.max(self.time_ms);
    }

    /// Number of the open shard of a record.
    fn route(&self, record: &NewRecord) -> u32 {
        if let [(_, only)] = self.routes.as_slice() {
            return *only;
        }
        let hash_key = record.hash_key();
        let after = self.routes.partition_point(|(first, _)| *first <= hash_key);
        // The first range starts at hash key 0.
        self.routes
            .get(after.saturating_sub(1))
            .map_or(0, |(_, index)| *index)
    }

    fn record_failure(&mut self, append: &Append) {
        let Some(producer) = &append.producer else {
            return;
        };
        let applied = self.producers.get(&producer.id).copied();
        let known = append
            .numbers
            .partition_point(|number| Some(*number) <= applied);
        let Some(number) = append.lowest_number(known) else {
            return;
        };
        if applied >= Some(number) {
            return;
        }
        let lowest = self.failed.entry(producer.id.clone()).or_insert(number);
        *lowest = number.min(*lowest);
    }

    /// Writes the acknowledged end, so that the loss of an acknowledged record is detected. It need
    /// not be durable: a value that is too low is harmless.
    fn mark_acknowledged(&mut self) {
        if !self.home.is_durable() {
            return;
        }
        let acknowledged = encode_acknowledged(self.end);
        let file = &self.last.file;
        if let Err(error) = file.write_all_at(&acknowledged, ACKNOWLEDGED_OFFSET) {
            tracing::warn!(stream = self.name, %error, "acknowledged end of a stream not written");
        }
    }

    fn open_segment(&self, number: u64) -> Result<(Segment, Checkpoint), StreamError> {
        self.home.open(number).map_err(|error: FileError| {
            opening::file_error(&self.name, &self.home.path(number), error)
        })
    }

    fn length(&self) -> Result<u64, StreamError> {
        let metadata = self.last.file.metadata();
        let metadata = metadata.map_err(|error| self.io("inspect its file", &error))?;
        Ok(metadata.len())
    }

    fn sync(&self) -> std::io::Result<()> {
        if self.home.is_durable() {
            self.last.file.sync_data()?;
        }
        Ok(())
    }

    fn io(&self, action: &'static str, error: &std::io::Error) -> StreamError {
        opening::io_error(&self.name, action, error)
    }

    fn damaged(&self, offset: u64, reason: impl Into<String>) -> StreamError {
        opening::damaged(&self.name, self.last.path.clone(), offset, reason)
    }
}
