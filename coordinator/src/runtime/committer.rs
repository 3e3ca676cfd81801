//! Between the partition and its log: encodes deltas and images away from the partition's core, and tells it what has become durable.

use std::collections::VecDeque;
use std::time::Instant;

use satchel_engine::durable::Change;
use satchel_engine::input::Input;
use satchel_engine::output::{BucketImage, Delta};
use satchel_log::{Entries, EntriesBuilder, Log, Notice, Notices};
use tokio::sync::mpsc;

use crate::metrics::Metrics;

/// What the partition wants of its log.
#[derive(Debug)]
pub enum CommitCommand {
    /// Make this durable.
    Commit(Box<Delta>),
    /// Keep this image for a snapshot.
    Keep(Box<BucketImage>),
}

/// Carries deltas to the log and notices back.
pub struct Committer {
    /// Which partition.
    pub partition: u32,
    /// Into how many buckets its addresses are divided.
    pub buckets: u16,
    /// Its log; dropped when the commands end, so that the log's driver ends too.
    pub log: Log,
    /// What became of what the log was given.
    pub notices: Notices,
    /// Where the partition is told.
    pub facts: mpsc::UnboundedSender<Input>,
    /// What is counted.
    pub metrics: Metrics,
}

impl Committer {
    /// Runs until `commands` end and the log has told all that became of them.
    pub async fn run(self, mut commands: mpsc::UnboundedReceiver<CommitCommand>) {
        let Self {
            partition,
            buckets,
            log,
            mut notices,
            facts,
            metrics,
        } = self;
        let mut log = Some(log);
        let mut sealed: VecDeque<(u64, Instant)> = VecDeque::new();
        loop {
            tokio::select! {
                command = commands.recv(), if log.is_some() => match (command, &log) {
                    (Some(CommitCommand::Commit(delta)), Some(log)) => {
                        sealed.push_back((delta.number, Instant::now()));
                        log.commit(encode_delta(buckets, &delta));
                    }
                    (Some(CommitCommand::Keep(image)), Some(log)) => {
                        log.keep(encode_image(buckets, &image));
                    }
                    _ => log = None,
                },
                notice = futures::StreamExt::next(&mut notices) => match notice {
                    Some(Notice::Durable { sequence, stored_bytes, .. }) => {
                        while let Some((number, since)) = sealed.front().copied().filter(|(number, _)| *number <= sequence) {
                            sealed.pop_front();
                            let bytes = if number == sequence { stored_bytes as usize } else { 0 };
                            metrics.observe_commit(partition, number, bytes, since.elapsed());
                        }
                        // A partition that has stopped waits for nothing.
                        let _ = facts.send(Input::CommitDurable { number: sequence });
                    }
                    Some(Notice::WantImages(buckets)) => {
                        let _ = facts.send(Input::ImagesWanted(buckets));
                    }
                    Some(Notice::Snapshot(snapshot)) => {
                        tracing::debug!(partition, ?snapshot, "a snapshot is in effect");
                    }
                    // Nothing was left unread at the takeover.
                    Some(Notice::Loaded { .. }) => {}
                    Some(Notice::NothingDeleted(error)) => {
                        tracing::error!(
                            partition,
                            %error,
                            "nothing is deleted while a savepoint can not be read"
                        );
                    }
                    Some(Notice::Trouble(trouble)) => {
                        tracing::warn!(
                            partition,
                            error = %trouble.error,
                            attempts = trouble.attempts,
                            again_in_ms = trouble.wait_ms,
                            "the store did not answer well; the request is repeated"
                        );
                    }
                    None => return,
                },
            }
        }
    }
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
        earliest_due_ms: image.earliest_due_ms,
        pending: image.pending,
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
