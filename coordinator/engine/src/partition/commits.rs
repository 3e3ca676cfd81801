//! Sealing of deltas, and release of what waits for them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use foldhash::fast::FixedState;
use indexmap::IndexSet;

use super::{Config, Partition, Stopping};
use crate::address::Address;
use crate::durable::{Change, Key};
use crate::output::{Answer, BucketImage, Delta, Emission, Output};
use crate::position::{ShardId, ShardPosition};
use crate::queue::QueuedId;
use crate::request::RequestId;
use crate::tables::Activity;

/// An effect that may happen only after the delta that holds its cause is durable.
///
/// All effects visible outside are releases, except answers that depend on no undurable state.
/// [`Partition::perform`] turns releases into outputs.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Release {
    /// Emit an entry of the outbox.
    Emit(u64),
    /// Notify an egress that its marks are durable.
    MarksDurable(Arc<str>),
    /// Answer a request.
    Reply { request: RequestId, answer: Answer },
    /// Read a shard, whose position is durable.
    Read(ShardId),
    /// Plan a stream with the durable positions of its shards.
    Plan { ingress: Arc<str>, stream: Arc<str> },
    /// Receive from the queue of an ingress.
    Receive(Arc<str>),
    /// Delete messages of a queue.
    Deletable {
        ingress: Arc<str>,
        ids: Vec<QueuedId>,
    },
    /// Try the message at the head of an address alone. It may have ended the process before; the
    /// attempt is durable.
    TryAlone(Address),
    /// Start a batch of an address whose messages are durable.
    StartBatch(Address),
    /// Send a message to another partition.
    Out { peer: u32, number: u64 },
    /// Acknowledge the messages of another partition up to this number.
    Taken { peer: u32, number: u64 },
}

/// Urgency of the delta that a release waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Urgency {
    /// As soon as the pace allows: something waits for an answer or to go on.
    Prompt,
    /// At the pace of egress: a record leaves, and many may share a commit.
    Egress,
    /// With the next delta, or at the commit interval: nothing is delayed by it.
    Lazy,
}

impl Release {
    fn urgency(&self) -> Urgency {
        match self {
            Self::Emit(_) => Urgency::Egress,
            Self::Deletable { .. } | Self::Taken { .. } => Urgency::Lazy,
            Self::MarksDurable(_)
            | Self::Reply { .. }
            | Self::Read(_)
            | Self::Plan { .. }
            | Self::Receive(_)
            | Self::TryAlone(_)
            | Self::StartBatch(_)
            | Self::Out { .. } => Urgency::Prompt,
        }
    }
}

/// The pace of a delta that holds nothing more urgent than egress, in multiples of the commit pace.
const EGRESS_PACES: u64 = 5;

/// A store that answers sooner gains nothing from a delta that waits for more changes.
const LINGER_FROM_LATENCY_MS: u64 = 4;

/// Maximum time for which a delta waits for more changes while another is on its way, in ms. A
/// store that hangs must not stretch it.
const LINGER_MAX_MS: u64 = 100;

/// The changed facts, the deltas on their way to the log, and the releases that wait for them.
#[derive(Default)]
pub(super) struct Commits {
    dirty: IndexSet<Key, FixedState>,
    /// Time of the oldest change in `dirty`.
    dirty_since_ms: u64,
    /// Numbers below this one were given out before the last seal.
    first_unsealed_number: u64,
    sealed: u64,
    /// Time of the last seal.
    sealed_at_ms: u64,
    durable: u64,
    /// Times of the seals of the deltas on their way to the log, oldest first.
    on_their_way: VecDeque<u64>,
    /// Moving average of the time from a seal until its delta is durable, in eighths of a ms.
    latency_eighths: u64,
    /// Releases that wait for a delta that is not sealed yet.
    waiting: Vec<Release>,
    /// True if one of them is prompt.
    prompt_waits: bool,
    /// True if one of them is a record of an egress.
    egress_waits: bool,
    /// Releases that wait for a sealed delta, in order of its number.
    releases: VecDeque<(u64, Release)>,
    wanted_images: BTreeSet<u16>,
    /// Wanted images whose buckets must be loaded first.
    unloaded_images: BTreeSet<u16>,
    /// True if images may be taken. A few are taken after each input, so that inputs need not wait
    /// for a whole snapshot.
    images_allowed: bool,
}

impl Commits {
    pub(super) fn new(next_number: u64) -> Self {
        Self {
            first_unsealed_number: next_number,
            ..Self::default()
        }
    }

    pub(super) fn sealed(&self) -> u64 {
        self.sealed
    }

    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// Returns whether every change is durable.
    pub(super) fn is_all_durable(&self) -> bool {
        self.dirty.is_empty() && self.sealed == self.durable
    }

    pub(super) fn mark_changed(&mut self, key: Key, now_ms: u64) {
        if self.dirty.is_empty() {
            self.dirty_since_ms = now_ms;
        }
        self.dirty.insert(key);
    }

    /// Marks the end of a numbered fact. If the fact began after the last seal, no delta needs to
    /// mention it.
    pub(super) fn mark_ended(&mut self, key: Key, number: u64, now_ms: u64) {
        if number >= self.first_unsealed_number {
            self.dirty.swap_remove(&key);
        } else {
            self.mark_changed(key, now_ms);
        }
    }

    pub(super) fn is_dirty(&self, key: &Key) -> bool {
        self.dirty.contains(key)
    }

    pub(super) fn has_changes(&self) -> bool {
        !self.dirty.is_empty()
    }

    pub(super) fn is_image_wanted(&self, bucket: u16) -> bool {
        self.wanted_images.contains(&bucket) || self.unloaded_images.contains(&bucket)
    }

    /// Makes a loaded bucket available for its image, if one is wanted.
    pub(super) fn image_loaded(&mut self, bucket: u16) {
        if self.unloaded_images.remove(&bucket) {
            self.wanted_images.insert(bucket);
        }
    }

    pub(super) fn want_images(&mut self, buckets: Vec<u16>) {
        self.wanted_images.extend(buckets);
    }

    /// Allows images again after an input.
    pub(super) fn allow_images(&mut self) {
        self.images_allowed = true;
    }

    /// Time at which the next delta should be sealed, or the next images taken, without another
    /// input. Images that no seal will trigger are due at once.
    pub(super) fn due_ms(&self, config: &Config) -> Option<u64> {
        if self.dirty.is_empty() && !self.wanted_images.is_empty() {
            return Some(0);
        }
        self.seal_due_ms(config)
    }

    /// Time at which the next delta should be sealed. `None` if nothing changed, or while the log
    /// has no room.
    ///
    /// A prompt release is sealed one pace after the last delta, egress alone after some paces, and
    /// what neither waits for at the commit interval. While a delta is on its way, the next one
    /// waits for part of the time that it takes, so that more changes share it.
    fn seal_due_ms(&self, config: &Config) -> Option<u64> {
        if self.dirty.is_empty() || !self.has_room(config) {
            return None;
        }
        let pace_ms = if self.prompt_waits {
            Some(config.commit_pace_ms)
        } else if self.egress_waits {
            Some(config.commit_pace_ms * EGRESS_PACES)
        } else {
            None
        };
        // Nothing is sealed faster than at the pace, however short the interval is.
        let interval_due = (self.dirty_since_ms + config.commit_interval_ms)
            .max(self.after_last_seal(config.commit_pace_ms));
        let Some(pace_ms) = pace_ms else {
            return Some(interval_due);
        };
        let linger_ms = if self.on_their_way.is_empty() {
            0
        } else {
            self.linger_ms()
        };
        let due = self.after_last_seal(pace_ms.max(linger_ms));
        Some(due.min(interval_due))
    }

    fn has_room(&self, config: &Config) -> bool {
        self.sealed - self.durable < config.commit_depth
    }

    fn after_last_seal(&self, ms: u64) -> u64 {
        if self.sealed == 0 {
            return 0;
        }
        self.sealed_at_ms + ms
    }

    /// Half of the usual time of a commit, so that about two are on their way under load.
    fn linger_ms(&self) -> u64 {
        let latency_ms = self.latency_eighths / 8;
        if latency_ms < LINGER_FROM_LATENCY_MS {
            return 0;
        }
        (latency_ms / 2).min(LINGER_MAX_MS)
    }

    /// Records that the oldest deltas on their way, through `number`, are durable.
    fn observe_durable(&mut self, number: u64, now_ms: u64) {
        let returned = usize::try_from(number - self.durable).expect("at most the depth");
        for sealed_at_ms in self.on_their_way.drain(..returned) {
            let took_ms = now_ms.saturating_sub(sealed_at_ms);
            self.latency_eighths = self.latency_eighths - self.latency_eighths / 8 + took_ms;
        }
        self.durable = number;
    }

    fn take_waiting(&mut self) -> Vec<Release> {
        self.prompt_waits = false;
        self.egress_waits = false;
        std::mem::take(&mut self.waiting)
    }
}

impl Partition {
    /// Performs `release` once everything that the partition knows now is durable.
    pub(super) fn release_when_durable(&mut self, release: Release) {
        match release.urgency() {
            Urgency::Prompt => self.commits.prompt_waits = true,
            Urgency::Egress => self.commits.egress_waits = true,
            Urgency::Lazy => {}
        }
        self.commits.waiting.push(release);
    }

    /// Answers a request once everything that the partition knows now is durable.
    pub(super) fn reply_when_durable(&mut self, request: RequestId, answer: Answer) {
        self.release_when_durable(Release::Reply { request, answer });
    }

    pub(super) fn commit_durable(&mut self, number: u64) {
        let commits = &mut self.commits;
        assert!(
            commits.durable <= number && number <= commits.sealed,
            "delta {number} became durable after {} durable and {} sealed deltas",
            commits.durable,
            commits.sealed
        );
        commits.observe_durable(number, self.now_ms);
        let releases = &mut self.commits.releases;
        let due = releases.partition_point(|(delta, _)| *delta <= number);
        let due: Vec<_> = releases.drain(..due).collect();
        self.commit_stories(number);
        self.perform(due);
        if let Some(peers) = &mut self.peers {
            peers.deltas_durable(number);
        }
    }

    /// Seals a delta if it is due.
    pub(super) fn seal_if_due(&mut self) {
        let commits = &mut self.commits;
        if commits.dirty.is_empty() {
            self.release_after_last_seal();
            self.take_images();
            return;
        }
        let due = match self.stopping {
            // The next owner waits for the last delta.
            Stopping::Sealed => commits.has_room(&self.config).then_some(self.now_ms),
            _ => commits.seal_due_ms(&self.config),
        };
        if due.is_some_and(|due_ms| due_ms <= self.now_ms) {
            // Acknowledgements may still come after the last delta of an orderly stop. The delta
            // that holds them is then the last one.
            self.seal(self.stopping == Stopping::Sealed);
        }
    }

    /// Lets the waiting releases wait for the last seal, because nothing changed since.
    fn release_after_last_seal(&mut self) {
        let sealed = self.commits.sealed;
        self.seal_stories(sealed);
        let waiting = self.commits.take_waiting();
        let waiting = waiting.into_iter().map(|release| (sealed, release));
        if self.commits.durable == sealed {
            self.perform(waiting.collect());
        } else {
            self.commits.releases.extend(waiting);
        }
    }

    fn seal(&mut self, clean: bool) {
        let commits = &mut self.commits;
        assert!(
            commits.sealed - commits.durable < self.config.commit_depth
                && self.stopping != Stopping::Stopped,
            "delta {} is sealed after {} durable deltas, while stopping is {:?}",
            commits.sealed + 1,
            commits.durable,
            self.stopping
        );
        assert!(
            commits.sealed_at_ms <= self.now_ms,
            "partition time never goes back"
        );
        commits.sealed_at_ms = self.now_ms;
        commits.on_their_way.push_back(self.now_ms);
        self.commits.dirty.insert(Key::Counter);
        // Only messages of other partitions make the time of a delta later than that of this one.
        self.delta_time_ms = self.delta_time_ms.max(self.now_ms);
        let lead_ms = self.delta_time_ms - self.now_ms;
        if lead_ms != self.tables.links.lead_ms {
            self.tables.links.lead_ms = lead_ms;
            self.commits.dirty.insert(Key::Lead);
        }
        let dirty = std::mem::take(&mut self.commits.dirty);
        let number = self.commits.sealed + 1;
        let changes = dirty
            .into_iter()
            .map(|key| {
                if let Some(address) = key.address()
                    && !matches!(key, Key::State { .. })
                {
                    self.tables.recount(address);
                }
                self.record_seal(&key, number);
                let value = self.tables.value(&key);
                Change { key, value }
            })
            .collect();
        if let Some(peers) = &mut self.peers {
            peers.delta_sealed(number, self.delta_time_ms);
        }
        self.commits.sealed = number;
        self.seal_stories(number);
        self.commits.first_unsealed_number = self.tables.next_number;
        let waiting = self.commits.take_waiting();
        let waiting = waiting.into_iter().map(|release| (number, release));
        self.commits.releases.extend(waiting);
        self.outputs.push_back(Output::Commit(Box::new(Delta {
            number,
            committed_at_ms: self.delta_time_ms,
            clean,
            changes,
        })));
        self.take_images();
    }

    /// Takes images of some wanted buckets. Called only when nothing is dirty, so that an image
    /// equals the fold through the last seal.
    fn take_images(&mut self) {
        debug_assert!(self.commits.dirty.is_empty());
        if !std::mem::take(&mut self.commits.images_allowed) {
            return;
        }
        let mut bytes = 0;
        while bytes < self.config.image_bytes_per_seal
            && let Some(bucket) = self.commits.wanted_images.pop_first()
        {
            if self.is_absent(bucket) {
                // The image follows once the bucket is loaded. Other images need not wait for it.
                self.request_load(bucket);
                self.commits.unloaded_images.insert(bucket);
                continue;
            }
            let content = self
                .tables
                .content(bucket, self.commits.first_unsealed_number);
            bytes += content.iter().map(change_bytes).sum::<usize>();
            let summary = self.tables.bucket_summary(bucket);
            if bucket < self.tables.buckets() {
                self.tables.bucket_slot_mut(bucket).summary = summary;
            }
            self.outputs.push_back(Output::Image(Box::new(BucketImage {
                bucket,
                delta: self.commits.sealed,
                summary,
                content,
            })));
        }
    }

    /// Turns releases whose deltas are durable into outputs. Each release comes with the number of
    /// its delta.
    fn perform(&mut self, releases: Vec<(u64, Release)>) {
        let mut emissions = Vec::new();
        for (delta, release) in releases {
            self.assert_durable(delta);
            match release {
                Release::Emit(number) => {
                    self.assert_in_a_delta(number);
                    let entry = self.tables.outbox.get(&number);
                    emissions.extend(entry.map(|entry| Emission {
                        number,
                        id: entry.id,
                        egress: entry.egress.clone(),
                        value: entry.value.clone(),
                        trace: entry.trace,
                    }));
                }
                Release::MarksDurable(egress) => {
                    self.outputs.push_back(Output::MarksDurable { egress });
                }
                Release::Reply { request, answer } => {
                    self.outputs.push_back(Output::Reply { request, answer });
                }
                Release::Read(shard) => {
                    // A shard without a position was read to its end for another partition.
                    let after = self.tables.shards.get(&shard).cloned();
                    let after = after.unwrap_or(ShardPosition::End);
                    self.outputs.push_back(Output::Read { shard, after });
                }
                Release::Plan { ingress, stream } => {
                    let applied = self.tables.shards_of(&ingress, &stream);
                    self.outputs.push_back(Output::Plan {
                        ingress,
                        stream,
                        applied,
                    });
                }
                Release::Receive(ingress) => self.outputs.push_back(Output::Receive { ingress }),
                Release::Deletable { ingress, ids } => {
                    self.outputs.push_back(Output::Deletable { ingress, ids });
                }
                Release::StartBatch(address) => {
                    if let Some(active) = self.tables.active_mut(&address)
                        && active.activity == Activity::GuardingMessages
                    {
                        active.activity = Activity::MessagesDurable;
                        self.ready.push_back(address);
                    }
                }
                Release::Out { peer, number } => self.release_message(delta, peer, number),
                Release::Taken { peer, number } => self.acknowledge_taken(delta, peer, number),
                Release::TryAlone(address) => {
                    if let Some(active) = self.tables.active_mut(&address)
                        && active.activity == Activity::GuardingAttempt
                    {
                        active.activity = Activity::AttemptDurable;
                        self.ready.push_back(address);
                    }
                }
            }
        }
        if !emissions.is_empty() {
            self.outputs.push_back(Output::Emit(emissions));
        }
    }

    pub(super) fn stop_requested(&mut self) {
        if self.stopping == Stopping::No {
            self.stopping = Stopping::Draining;
            self.outputs.push_back(Output::PauseIngress);
            self.reject_deferred();
        }
    }

    pub(super) fn stop_forced(&mut self) {
        self.stop_requested();
        // Messages in flight stay in their mailboxes. The next owner tries them again.
        self.flights.clear();
    }

    /// Seals the last delta when nothing is in flight, and reports `Stopped` when it is durable.
    pub(super) fn finish_stop(&mut self) {
        let room = self.commits.has_room(&self.config);
        if self.stopping == Stopping::Draining && self.flights.is_empty() && room {
            // Without pending messages, the next owner need not know whether this stop was orderly.
            let pending = self.pending_bytes > 0 || self.loading.has_pending_buckets();
            if !self.commits.dirty.is_empty() || pending {
                self.seal(true);
            }
            self.stopping = Stopping::Sealed;
        }
        let durable = self.commits.durable == self.commits.sealed;
        if self.stopping == Stopping::Sealed && durable && self.commits.dirty.is_empty() {
            self.stopping = Stopping::Stopped;
            for request in self.calls.take_waiting() {
                self.outputs.push_back(Output::Reply {
                    request,
                    answer: Answer::Stopping,
                });
            }
            self.outputs.push_back(Output::Stopped);
        }
    }
}

/// Approximate size of a change, in bytes.
fn change_bytes(change: &Change) -> usize {
    use crate::durable::Value;
    const OVERHEAD_BYTES: usize = 64;
    let id_bytes = change.key.address().map_or(0, |address| address.id.len());
    OVERHEAD_BYTES
        + id_bytes
        + match &change.value {
            Some(Value::State(state)) => state.value.len(),
            Some(Value::Message(message)) => message.bytes(),
            Some(Value::Timer(timer)) => timer.message.bytes(),
            Some(Value::DeadLetter(letter)) => letter.argument.value.len(),
            Some(Value::Outbox(entry)) => entry.value.value.len(),
            _ => 0,
        }
}
