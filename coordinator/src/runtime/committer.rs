//! Between the partition and its log: encodes deltas and images and decodes loaded buckets away from the partition's core, and tells it what
//! has become durable.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use satchel_engine::durable::Change;
use satchel_engine::input::Input;
use satchel_engine::output::{BucketImage, Delta};
use satchel_engine::partition::{LoadedBucket, Overlay};
use satchel_log::{Entries, EntriesBuilder, Log, Notice, Notices};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::cli::{Exit, Failure};
use crate::metrics::Metrics;

/// What the partition wants of its log.
#[derive(Debug)]
pub enum CommitCommand {
    /// Make this durable.
    Commit(Box<Delta>),
    /// Keep this image for a snapshot.
    Keep(Box<BucketImage>),
    /// Load this bucket.
    Load {
        /// Which.
        bucket: u16,
        /// Names this load.
        load: u64,
        /// What the log says over its image.
        replayed: Arc<Overlay>,
    },
    /// Begin a snapshot, however small the log is.
    WantSnapshot,
}

/// Loads that the log has not answered, by bucket, oldest first: it answers each, and those of one bucket in their order.
type Loads = BTreeMap<u16, VecDeque<(u64, Arc<Overlay>)>>;

/// Loaded buckets that are being decoded, each on a thread of its own.
type Decoding = JoinSet<Result<Input, Failure>>;

/// Carries deltas to the log and notices back.
pub struct Committer {
    /// Which partition.
    pub partition: u32,
    /// Into how many buckets its addresses are divided.
    pub buckets: u16,
    /// Its log; dropped when the commands end, so that the log's driver ends too.
    pub log: Option<Log>,
    /// What became of what the log was given.
    pub notices: Notices,
    /// Where the partition is told.
    pub facts: mpsc::UnboundedSender<Input>,
    /// What is counted.
    pub metrics: Metrics,
    /// About how many commits a takeover would replay; holds what this one replayed when it begins.
    pub tail: watch::Sender<u64>,
}

impl Committer {
    /// Runs until `commands` end and the log has told all that became of them.
    ///
    /// # Errors
    ///
    /// A bucket that was loaded holds what this software can not read.
    pub async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<CommitCommand>,
    ) -> Result<(), Failure> {
        let mut log = self.log.take();
        let mut sealed: VecDeque<(u64, Instant)> = VecDeque::new();
        let mut loads = Loads::new();
        let mut decoding = Decoding::new();
        loop {
            tokio::select! {
                command = commands.recv(), if log.is_some() => match (command, &log) {
                    (Some(CommitCommand::Commit(delta)), Some(log)) => {
                        sealed.push_back((delta.number, Instant::now()));
                        log.commit(encode_delta(self.buckets, &delta));
                    }
                    (Some(CommitCommand::Keep(image)), Some(log)) => {
                        log.keep(encode_image(self.buckets, &image));
                    }
                    (Some(CommitCommand::Load { bucket, load, replayed }), Some(log)) => {
                        loads.entry(bucket).or_default().push_back((load, replayed));
                        log.load(bucket);
                    }
                    (Some(CommitCommand::WantSnapshot), Some(log)) => log.want_snapshot(),
                    _ => log = None,
                },
                notice = futures::StreamExt::next(&mut self.notices) => match notice {
                    Some(Notice::Durable { sequence, stored_bytes, .. }) => {
                        self.durable(&mut sealed, sequence, stored_bytes as usize);
                    }
                    Some(Notice::Loaded { bucket, entries, .. }) => {
                        let asked = loads.get_mut(&bucket).and_then(VecDeque::pop_front);
                        if let Some((load, replayed)) = asked {
                            let (buckets, partition) = (self.buckets, self.partition);
                            decoding.spawn_blocking(move || {
                                decode(partition, (bucket, buckets), load, &entries, &replayed)
                            });
                        }
                    }
                    Some(notice) => self.tell(notice),
                    None => return Ok(()),
                },
                Some(decoded) = decoding.join_next() => match decoded {
                    Ok(decoded) => {
                        // A partition that has stopped waits for nothing.
                        let _ = self.facts.send(decoded?);
                    }
                    Err(error) => {
                        return Err(Failure::new(Exit::Environment, format!("decoding a bucket ended: {error}")));
                    }
                },
            }
        }
    }

    fn durable(&self, sealed: &mut VecDeque<(u64, Instant)>, sequence: u64, stored_bytes: usize) {
        while let Some((number, since)) = sealed
            .front()
            .copied()
            .filter(|(number, _)| *number <= sequence)
        {
            sealed.pop_front();
            let bytes = if number == sequence { stored_bytes } else { 0 };
            self.metrics
                .observe_commit(self.partition, number, bytes, since.elapsed());
        }
        self.tail.send_modify(|commits| *commits += 1);
        let _ = self.facts.send(Input::CommitDurable { number: sequence });
    }

    fn tell(&self, notice: Notice) {
        let partition = self.partition;
        match notice {
            Notice::WantImages(buckets) => {
                let _ = self.facts.send(Input::ImagesWanted(buckets));
            }
            Notice::Snapshot(snapshot) => {
                tracing::debug!(partition, ?snapshot, "a snapshot is in effect");
                self.tail.send_replace(0);
                let _ = self.facts.send(Input::SnapshotTaken(snapshot.images));
            }
            Notice::NothingDeleted(error) => {
                tracing::error!(
                    partition,
                    %error,
                    "nothing is deleted while a savepoint can not be read"
                );
            }
            Notice::Trouble(trouble) => {
                tracing::warn!(
                    partition,
                    error = %trouble.error,
                    attempts = trouble.attempts,
                    again_in_ms = trouble.wait_ms,
                    "the store did not answer well; the request is repeated"
                );
            }
            Notice::Durable { .. } | Notice::Loaded { .. } => {}
        }
    }
}

fn decode(
    partition: u32,
    (bucket, buckets): (u16, u16),
    load: u64,
    entries: &Entries,
    replayed: &Overlay,
) -> Result<Input, Failure> {
    let image = entries.iter().map(|entry| (entry.key, entry.value));
    let expected = entries.iter().count();
    let content =
        LoadedBucket::decode(bucket, buckets, image, expected, replayed).map_err(|problem| {
            Failure::new(Exit::Damaged, format!("partition {partition}: {problem}"))
        })?;
    Ok(Input::BucketLoaded {
        bucket,
        load,
        content: Box::new(content),
    })
}

fn encode_delta(buckets: u16, delta: &Delta) -> satchel_log::Delta {
    satchel_log::Delta {
        sequence: delta.number,
        committed_at_ms: delta.committed_at_ms,
        clean: delta.clean,
        entries: encode(buckets, &delta.changes),
    }
}

fn encode_image(buckets: u16, image: &BucketImage) -> satchel_log::BucketImage {
    satchel_log::BucketImage {
        bucket: image.bucket,
        sequence: image.delta,
        earliest_due_ms: image.summary.earliest_due_ms,
        pending: image.summary.pending,
        entries: encode(buckets, &image.content),
    }
}

fn encode(buckets: u16, changes: &[Change]) -> Entries {
    let mut entries = EntriesBuilder::new();
    let (mut key, mut value) = (Vec::new(), Vec::new());
    for change in changes {
        key.clear();
        value.clear();
        change.encode_key(&mut key);
        let set = change.encode_value(&mut value);
        entries.push(change.key.bucket(buckets), &key, set.then_some(&value[..]));
    }
    entries.finish()
}
