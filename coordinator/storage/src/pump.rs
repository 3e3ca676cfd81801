//! Translation between a running partition and its log, without I/O.
//!
//! ```text
//!  Output::Commit ────────► Commit   ─┐                  ┌─ Durable ───► CommitDurable
//!  Output::Image ─────────► Keep      ├─► log at work ───┼─ WantImages ► ImagesWanted
//!  Output::SnapshotWanted ► Snapshot  │                  ├─ Snapshot ──► SnapshotTaken
//!  Output::LoadBucket ────► Load     ─┘                  └─ Loaded ────► DecodeJob ─► BucketLoaded
//! ```
//!
//! The log does not know load numbers and overlays, so the pump remembers them: it matches each
//! [`Notice::Loaded`] with the oldest unanswered load of that bucket. The pump also remembers when
//! each delta was sealed, for metrics.
//!
//! The pump reads no clock: `now` is the time since any fixed moment, by a clock that never goes
//! back. Decoding a bucket takes long, so the pump hands it out as a [`DecodeJob`], which may run
//! on any thread.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use satchel_engine::input::Input;
use satchel_engine::output::Output;
use satchel_engine::partition::{BucketProblem, Overlay};
use satchel_engine::placement::Placement;
use satchel_log::{Entries, Log, LogError, Notice, Snapshot, StoreFailure};

use crate::encode::{ChangeEncoder, decode_bucket, encode_delta, encode_image};

/// One request to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogCommand {
    /// Make this delta durable.
    Commit(satchel_log::Delta),
    /// Keep this image for the snapshot that is being taken.
    Keep(satchel_log::BucketImage),
    /// Load the image of this bucket.
    Load(u16),
    /// Begin a snapshot, however small the log is.
    Snapshot,
}

impl LogCommand {
    /// Hands the command to the log.
    pub fn send(self, log: &Log) {
        match self {
            Self::Commit(delta) => log.commit(delta),
            Self::Keep(image) => log.keep(image),
            Self::Load(bucket) => log.load(bucket),
            Self::Snapshot => log.want_snapshot(),
        }
    }
}

/// Consequence of a notice for the partition.
#[derive(Debug)]
pub enum Reaction {
    /// Hand this fact to the partition.
    Tell(Input),
    /// Run this job, and hand its result to the partition.
    Decode(DecodeJob),
    /// The partition has nothing to do.
    Nothing,
}

/// Fact for metrics and logs.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// Deltas became durable, oldest first.
    Committed(Vec<CommittedDelta>),
    /// A snapshot took effect.
    SnapshotTaken(Snapshot),
    /// The log deletes less than it could, because it cannot read an object.
    DeletionBlocked(LogError),
    /// A request to the store failed and is being retried.
    Retrying(StoreFailure),
}

/// One delta that became durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommittedDelta {
    /// Number of the delta within its ownership period.
    pub number: u64,
    /// Time from its seal to the notice.
    pub took: Duration,
    /// Size of its log object in bytes; 0 for a delta that a later one reported durable.
    pub stored_bytes: u64,
}

/// Connects one partition to its log for one ownership period.
#[derive(Debug)]
pub struct Pump {
    placement: Placement,
    encoder: ChangeEncoder,
    /// Deltas that are not durable: number and time of the seal, oldest first.
    sealed: VecDeque<(u64, Duration)>,
    /// Loads that the log has not answered, by bucket, oldest first.
    loads: BTreeMap<u16, VecDeque<Load>>,
}

/// One unanswered load.
#[derive(Debug)]
struct Load {
    number: u64,
    overlay: Arc<Overlay>,
}

impl Pump {
    /// Creates the pump of a partition whose addresses are placed so.
    #[must_use]
    pub fn new(placement: Placement) -> Self {
        Self {
            placement,
            encoder: ChangeEncoder::new(placement),
            sealed: VecDeque::new(),
            loads: BTreeMap::new(),
        }
    }

    /// Returns true if [`Pump::perform`] translates this output.
    #[must_use]
    pub fn performs(output: &Output) -> bool {
        matches!(
            output,
            Output::Commit(_)
                | Output::Image(_)
                | Output::LoadBucket { .. }
                | Output::SnapshotWanted
        )
    }

    /// Translates an output into a command for the log. The order of the outputs must be kept.
    ///
    /// # Errors
    /// Hands back an output that is not for the log.
    pub fn perform(&mut self, now: Duration, output: Output) -> Result<LogCommand, Output> {
        match output {
            Output::Commit(delta) => {
                self.sealed.push_back((delta.number, now));
                Ok(LogCommand::Commit(encode_delta(&mut self.encoder, &delta)))
            }
            Output::Image(image) => {
                let image = encode_image(&mut self.encoder, &image);
                Ok(LogCommand::Keep(image))
            }
            Output::LoadBucket {
                bucket,
                load: number,
                replayed: overlay,
            } => {
                let load = Load { number, overlay };
                self.loads.entry(bucket).or_default().push_back(load);
                Ok(LogCommand::Load(bucket))
            }
            Output::SnapshotWanted => Ok(LogCommand::Snapshot),
            output => Err(output),
        }
    }

    /// Takes a notice of the log, in order. Returns what follows for the partition, and what there
    /// is to observe.
    pub fn on_notice(&mut self, now: Duration, notice: Notice) -> (Reaction, Option<Observation>) {
        match notice {
            Notice::Durable {
                sequence,
                stored_bytes,
                ..
            } => {
                let committed = self.committed(now, sequence, stored_bytes);
                let input = Input::CommitDurable { number: sequence };
                (
                    Reaction::Tell(input),
                    Some(Observation::Committed(committed)),
                )
            }
            Notice::WantImages(buckets) => (Reaction::Tell(Input::ImagesWanted(buckets)), None),
            Notice::Snapshot(snapshot) => {
                let input = Input::SnapshotTaken(snapshot.images.clone());
                (
                    Reaction::Tell(input),
                    Some(Observation::SnapshotTaken(snapshot)),
                )
            }
            Notice::Loaded {
                bucket, entries, ..
            } => {
                let job = self.loaded(bucket, entries);
                (job.map_or(Reaction::Nothing, Reaction::Decode), None)
            }
            Notice::NothingDeleted(error) => {
                (Reaction::Nothing, Some(Observation::DeletionBlocked(error)))
            }
            Notice::StoreFailure(trouble) => {
                (Reaction::Nothing, Some(Observation::Retrying(trouble)))
            }
        }
    }

    /// Returns the oldest delta that is not durable, and the time of its seal.
    #[must_use]
    pub fn oldest_commit(&self) -> Option<(u64, Duration)> {
        self.sealed.front().copied()
    }

    /// Removes the deltas through `sequence` from those that are not durable.
    fn committed(
        &mut self,
        now: Duration,
        sequence: u64,
        stored_bytes: u64,
    ) -> Vec<CommittedDelta> {
        let durable = self
            .sealed
            .iter()
            .take_while(|(number, _)| *number <= sequence)
            .count();
        let durable = self.sealed.drain(..durable);
        let durable = durable.map(|(number, sealed_at)| CommittedDelta {
            number,
            took: now.saturating_sub(sealed_at),
            stored_bytes: if number == sequence { stored_bytes } else { 0 },
        });
        durable.collect()
    }

    /// Matches an image with the oldest unanswered load of its bucket. An image that answers no
    /// load is dropped.
    fn loaded(&mut self, bucket: u16, image: Entries) -> Option<DecodeJob> {
        let loads = self.loads.get_mut(&bucket)?;
        let load = loads.pop_front()?;
        if loads.is_empty() {
            self.loads.remove(&bucket);
        }
        Some(DecodeJob {
            placement: self.placement,
            bucket,
            load: load.number,
            image,
            overlay: load.overlay,
        })
    }
}

/// Decoding of one loaded bucket: a pure function of its fields.
#[derive(Clone, Debug)]
pub struct DecodeJob {
    /// Choice of the bucket of an address.
    pub placement: Placement,
    /// The bucket.
    pub bucket: u16,
    /// Number of the load that the result answers.
    pub load: u64,
    /// Image of the bucket.
    pub image: Entries,
    /// Entries of the log that apply over the image.
    pub overlay: Arc<Overlay>,
}

impl DecodeJob {
    /// Decodes the bucket. Returns the fact that the partition waits for.
    ///
    /// # Errors
    /// [`BucketProblem`] names the first entry that the bucket cannot hold.
    pub fn run(&self) -> Result<Input, BucketProblem> {
        let content = decode_bucket(self.bucket, self.placement, &self.image, &self.overlay)?;
        Ok(Input::BucketLoaded {
            bucket: self.bucket,
            load: self.load,
            content: Box::new(content),
        })
    }
}

#[cfg(test)]
mod tests;
