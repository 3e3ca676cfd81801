//! The partition: the pure state machine that owns a range of addresses.
//!
//! ```text
//!  RecordsRead CallReceived …        poll_output
//!        │                               ▲
//!        ▼                               │ Invoke, WakeAt: at once
//!   mailboxes ──batch──► in flight       │ Emit, Reply, Read: when their delta is durable
//!        ▲                   │           │
//!        └──── messages ── answer ──► dirty facts ──seal──► Commit(delta) … CommitDurable
//! ```
//!
//! The driver keeps one rule: after each input (or several), it takes outputs until there are none.
//! The partition has no clock: `now_ms` is an argument. Partition time, which derives from it,
//! never decreases, not even over restarts.
//!
//! ```
//! use satchel_engine::partition::{Config, Ownership, Recovery};
//! use satchel_engine::input::Input;
//!
//! let recovery = Recovery::new(Config::default());
//! let ownership = Ownership { epoch: 1, committed_at_ms: 0, clean: true };
//! let mut partition = recovery.start(ownership, 1_000);
//! partition.handle_input(1_000, Input::TimeReached);
//! while let Some(output) = partition.poll_output() {
//!     drop(output); // perform it
//! }
//! ```

mod administration;
mod answers;
mod arrivals;
mod audit;
mod batches;
mod bulk;
mod calls;
mod commits;
mod declarations;
mod deferred;
mod effects;
mod failures;
mod graph;
mod hold;
mod invariants;
mod letter_lists;
mod limits;
mod listing;
mod loading;
mod mailboxes;
mod memory;
mod notices;
mod observation;
mod pauses;
mod peers;
mod queues;
mod recovery;
mod rejections;
mod schedule;
mod shards;
mod state_drops;
mod stories;
mod suspension;
mod timers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::address::{Address, FunctionType};
use crate::durable::Key;
use crate::endpoint::Endpoints;
use crate::input::Input;
use crate::link::FRAME_BYTES;
use crate::map::Map;
use crate::output::Output;
use crate::placement::Placement;
use crate::story::Sampling;
use crate::tables::{Activity, Tables};

use calls::Calls;
use commits::{Commits, Release};
use deferred::Deferred;
use graph::Graph;
use letter_lists::LetterList;
use loading::Loading;
use notices::Notices;
use pauses::PausedIngresses;
use peers::Peers;
use schedule::Schedule;
use shards::Settling;
use state_drops::StateDrop;
use stories::Stories;
use suspension::FunctionTypes;

pub use crate::tables::{BucketProblem, LoadedBucket, Overlay};
pub use graph::{GraphEdge, GraphNode, GraphView, NodeKind};
pub use limits::Limits;
pub use notices::{Notice, PauseCause};
pub use observation::{FunctionFigures, LinkNumbers};
pub use peers::Generation;
pub use recovery::{Ownership, Recovery};

/// Configuration of a partition.
#[derive(Debug, Clone)]
pub struct Config {
    /// Number of the partition.
    pub partition: u32,
    /// Choice of the bucket of an address; fixed when the application is created.
    pub placement: Placement,
    /// Generation of an application of several partitions. `None` if it has one.
    pub generation: Option<Generation>,
    /// Endpoints that serve its functions.
    pub endpoints: Endpoints,
    /// Egresses that functions may write to, `namespace/type`.
    pub egresses: BTreeSet<Arc<str>>,
    /// Ids of its ingresses, `namespace/name`.
    pub ingresses: BTreeSet<Arc<str>>,
    /// Interval at which a function that names no fingerprint of its states is asked for its
    /// declarations, in ms. `None` never asks.
    pub declarations_renewed_ms: Option<u64>,
    /// Maximum number of deltas on their way to the log.
    pub commit_depth: u64,
    /// Maximum time for which a change waits for its delta when nothing urgent waits for that
    /// delta, in ms.
    pub commit_interval_ms: u64,
    /// Minimum time between two deltas, in ms; five times of it between two that nothing but egress
    /// waits for. The first delta after a quiet time is sealed at once.
    pub commit_pace_ms: u64,
    /// Above this many pending bytes (mailboxes and outbox), ingress pauses and requests are
    /// rejected.
    pub pending_bytes_max: usize,
    /// Size of messages to other partitions, in bytes: if half of it waits to be acknowledged, all
    /// ingress of the application pauses. `None` for `pending_bytes_max`, which others may change.
    pub peer_bytes_max: Option<usize>,
    /// Above this many bytes of dead letters, ingress pauses and requests are rejected until an
    /// operator retries or drops some.
    pub dead_letter_bytes_max: usize,
    /// Time for which the outcome of a request with an idempotency key is kept, in ms.
    pub idempotency_ttl_ms: u64,
    /// Approximate size of the bucket images taken at one seal, in bytes.
    pub image_bytes_per_seal: usize,
    /// Above this many bytes of buckets in memory, the least recently used buckets that can be
    /// loaded again are evicted.
    pub memory_limit_bytes: Option<usize>,
    /// Maximum number of buckets being loaded at the same time; `None` for a 32nd of all buckets,
    /// and at least 8.
    pub loads_at_once: Option<usize>,
    /// Approximate size of a frame with several messages to another partition, in bytes.
    pub peer_frame_bytes: u64,
    /// Traces whose messages tell their stories ([`Partition::take_story_events`]). `None` passes
    /// trace contexts on unchanged.
    pub stories: Option<Sampling>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            partition: 0,
            placement: Placement::default(),
            generation: None,
            endpoints: Endpoints::default(),
            egresses: BTreeSet::new(),
            ingresses: BTreeSet::new(),
            declarations_renewed_ms: None,
            commit_depth: 4,
            commit_interval_ms: 100,
            commit_pace_ms: 0,
            pending_bytes_max: 256 << 20,
            peer_bytes_max: None,
            dead_letter_bytes_max: 256 << 20,
            idempotency_ttl_ms: 24 * 60 * 60 * 1000,
            image_bytes_per_seal: 1 << 20,
            memory_limit_bytes: None,
            loads_at_once: None,
            peer_frame_bytes: FRAME_BYTES,
            stories: None,
        }
    }
}

/// Counters of a partition since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers to attempts that were not in flight.
    pub stale_answers: u64,
    /// Replies to callers that no longer wait, or never did.
    pub stale_replies: u64,
    /// Records and queue messages that had been applied already.
    pub repeated_records: u64,
    /// Messages that became dead letters.
    pub dead_letters: u64,
    /// Messages that were rejected for good, and whose callers got the verdict.
    pub rejected: u64,
    /// Messages that were put into a mailbox.
    pub messages: u64,
    /// Messages that were processed.
    pub processed: u64,
    /// Timers that fired.
    pub timers_fired: u64,
    /// Values that expired.
    pub expired: u64,
    /// Messages to other partitions.
    pub sent_to_peers: u64,
    /// Messages taken from other partitions.
    pub taken_from_peers: u64,
    /// Records of the outbox that were dropped when a hold was lifted.
    pub dropped_records: u64,
    /// Buckets that were loaded.
    pub loads: u64,
    /// Loaded buckets whose load was not in flight.
    pub stale_loads: u64,
    /// Buckets that were evicted from memory.
    pub evictions: u64,
}

/// Gauges of a partition at present.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Pending bytes in mailboxes, outbox and deferred requests.
    pub pending_bytes: usize,
    /// True if ingress is paused.
    pub ingress_paused: bool,
    /// Batches in flight.
    pub in_flight: usize,
    /// Pending timers.
    pub timers: usize,
    /// Dead letters.
    pub dead_letters: usize,
    /// Size of the dead letters, in bytes.
    pub dead_letter_bytes: usize,
    /// Records in the outbox.
    pub outbox: usize,
    /// Size of the messages to other partitions that were not acknowledged, in bytes.
    pub peer_bytes: usize,
    /// Known ids of queue messages.
    pub received_ids: usize,
    /// True if ingress, timers and outbox are held, because this is a fork that no operator has
    /// released.
    pub held: bool,
    /// Deltas sealed by this owner.
    pub sealed: u64,
    /// Deltas of this owner that are durable.
    pub durable: u64,
    /// Buckets of addresses.
    pub buckets: usize,
    /// Buckets in memory.
    pub buckets_loaded: usize,
    /// Buckets still to be loaded because of the takeover. Other absent buckets are loaded when
    /// they are needed.
    pub buckets_awaited: usize,
    /// Buckets that were not in memory at the takeover.
    pub buckets_absent_at_start: usize,
    /// Approximate size of the buckets in memory, in bytes.
    pub state_bytes: usize,
    /// Size of the buckets that cannot be evicted as long as messages or open requests are in them,
    /// in bytes.
    pub pinned_bytes: usize,
}

/// The pure state machine that owns a range of addresses.
///
/// A partition begins with a [`Recovery`]: the caller applies the durable images and deltas to it,
/// then calls [`Recovery::start`]. From then on the driver uses three families of methods.
///
/// # Facts in
///
/// [`handle_input`](Partition::handle_input) is the only method that changes a partition from
/// outside. Inputs may come in any order, with two exceptions. `CommitDurable` must follow the
/// order of the deltas. Answers to outputs (`InvocationCompleted`, `EgressAcked`, `BucketLoaded`,
/// …) may come late or repeatedly: those that match nothing in flight are ignored, and counted
/// where [`Counts`] has a counter for them.
///
/// # Imperatives out
///
/// [`poll_output`](Partition::poll_output) must be called after each input (or several) until it
/// returns `None`. It also starts batches, seals deltas, requests loads and regulates memory, so a
/// partition that is not polled makes no progress. Outputs must be performed in the order in which
/// they are returned.
///
/// - `Commit` and `Image` go to the log;
/// - `Invoke` goes to the dispatcher;
/// - `Emit`, `Reply` and the other released outputs go to egresses, requests and ingresses. They
///   are returned only after the delta that holds their cause is durable. Only a `Reply` that
///   depends on no undurable state comes at once;
/// - `WakeAt` asks for a `TimeReached`; it is the only timer that the driver keeps for a partition;
/// - `Stopped` is the last output after `StopRequested` or `StopForced`.
///
/// # Observation
///
/// [`counts`](Partition::counts), [`gauges`](Partition::gauges), [`held`](Partition::held),
/// [`egress_marks`](Partition::egress_marks) and [`outbox_of`](Partition::outbox_of) read the
/// present state. They may be called at any time and change nothing. The last two are needed once,
/// when an egress starts after a takeover. [`function_figures`](Partition::function_figures),
/// [`declared_states`](Partition::declared_states), [`graph`](Partition::graph),
/// [`shard_positions`](Partition::shard_positions) and [`outbox_sizes`](Partition::outbox_sizes)
/// are figures for people. [`take_notices`](Partition::take_notices) takes what the log of the
/// process tells, [`take_story_events`](Partition::take_story_events) stories of messages.
/// [`audit`](Partition::audit) compares all counters with the content; it is meant for tests and
/// simulations.
pub struct Partition {
    config: Config,
    epoch: u64,
    /// Partition time: the maximum of every `now_ms` seen and of the time of the last owner's last
    /// delta. It is the partition's own time, which no other partition moves.
    now_ms: u64,
    /// Earliest time of the next delta: that of the last one, and of the deltas of other partitions
    /// that made what the next delta takes.
    delta_time_ms: u64,
    /// Links to the other partitions, if there are any.
    peers: Option<Box<Peers>>,
    /// Until this time, messages are tried only once they are durable, because the last owner
    /// crashed.
    crash_guard_until_ms: u64,
    tables: Tables,
    schedule: Schedule,
    calls: Calls,
    commits: Commits,
    /// Addresses that wait for their turn.
    ready: VecDeque<Address>,
    /// Attempts in flight, by number.
    flights: Map<u64, Address>,
    next_attempt: u64,
    pending_bytes: usize,
    /// Part of it: the size of the outbox, in bytes.
    outbox_bytes: usize,
    ingress_paused: bool,
    /// Reads that wait until the hold is lifted.
    held_reads: Vec<Release>,
    settling: Settling,
    paused_ingresses: PausedIngresses,
    function_types: FunctionTypes,
    stopping: Stopping,
    outputs: VecDeque<Output>,
    counts: Counts,
    graph: Graph,
    loading: Loading,
    deferred: Deferred,
    /// Lists of dead letters in progress.
    letter_lists: Vec<LetterList>,
    /// Drops of states in progress.
    state_drops: BTreeMap<(FunctionType, Arc<str>), StateDrop>,
    /// True if a snapshot was requested to free memory, and none was taken since.
    snapshot_wanted: bool,
    /// True if a snapshot took effect in this period. Buckets that it left out had not changed.
    snapshot_taken: bool,
    /// True if memory exceeds the limit and much of it will become evictable by a snapshot or by
    /// processing messages. Ingress is paused meanwhile.
    memory_is_short: bool,
    /// Notices for the log of the process.
    notices: Notices,
    /// Stories of messages, if they are recorded.
    stories: Option<Box<Stories>>,
    /// Messages with numbers below this one were pending when the last owner crashed; 0 after an
    /// orderly stop.
    crash_suspects_below: u64,
}

/// Progress of an orderly stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopping {
    No,
    /// Nothing new starts; what is in flight may finish.
    Draining,
    /// The last delta is sealed, or there was nothing to seal.
    Sealed,
    Stopped,
}

impl Partition {
    /// Handles one fact. `now_ms` is the present time, in ms since the epoch.
    pub fn handle_input(&mut self, now_ms: u64, input: Input) {
        self.advance_time(now_ms);
        self.commits.allow_images();
        let Some(input) = self.hold_paused(input) else {
            return;
        };
        match input {
            Input::ShardFound { shard, start } => self.shard_found(shard, start),
            Input::StreamFound { ingress, stream } => self.stream_found(ingress, stream),
            Input::ShardsFound(shards) => self.shards_found(shards),
            Input::ShardEnded { shard } => self.shard_ended(shard),
            Input::ShardQuiet { shard, until_ms } => self.shard_quiet(&shard, until_ms),
            Input::ShardForgotten { shard } => self.shard_forgotten(&shard),
            Input::RecordsRead { shard, records } => self.records_read(&shard, records),
            Input::QueueFound { ingress } => self.queue_found(ingress),
            Input::MessagesReceived {
                ingress,
                messages,
                keep_ms,
            } => self.messages_received(ingress, messages, keep_ms),
            Input::MessagesDeleted {
                ingress,
                ids,
                keep_ms,
            } => self.messages_deleted(&ingress, ids, keep_ms),
            Input::CallReceived(call) => self.call_received(call),
            Input::RequestAbandoned(request) => {
                self.abandon_deferred(request);
                self.calls.abandon(request);
            }
            Input::InvocationCompleted { attempt, answer } => {
                self.invocation_completed(attempt, answer);
            }
            Input::InvocationFailed { attempt, failure } => {
                self.invocation_failed(attempt, &failure);
            }
            Input::CommitDurable { number } => self.commit_durable(number),
            Input::EgressAcked { numbers } => self.egress_acked(&numbers),
            Input::EgressMarked {
                egress,
                numbers,
                marks,
                confirm,
            } => {
                self.egress_marked(&egress, &numbers, marks);
                if confirm {
                    self.release_when_durable(Release::MarksDurable(egress));
                }
            }
            Input::EgressRefused { number, reason } => self.egress_refused(number, reason),
            Input::Administered {
                request,
                administration,
            } => self.administered(request, administration),
            Input::ImagesWanted(buckets) => self.commits.want_images(buckets),
            Input::HoldLifted { drop_outbox } => self.hold_lifted(drop_outbox),
            Input::SnapshotTaken(images) => self.snapshot_taken(&images),
            Input::BucketLoaded {
                bucket,
                load,
                content,
            } => self.bucket_loaded(bucket, load, *content),
            Input::PeerConnected { peer, connection } => self.peer_connected(peer, connection),
            Input::PeerAccepted { peer, connection } => self.peer_accepted(peer, connection),
            Input::PeerDisconnected { connection } => self.peer_disconnected(connection),
            Input::PeerFrame {
                connection,
                generation,
                frame,
            } => self.peer_frame(connection, generation, frame),
            Input::PeerAnswered { connection, answer } => self.peer_answered(connection, &answer),
            Input::ApplicationCongested(congested) => self.application_congested(congested),
            Input::LimitsChanged(limits) => self.limits_changed(limits),
            Input::TimeReached => self.schedule.woken(),
            Input::StopRequested => self.stop_requested(),
            Input::StopForced => self.stop_forced(),
        }
    }

    /// Returns the next imperative, or `None` until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.start_batches();
            self.regulate_ingress();
            self.seal_if_due();
            // A release after the last seal may have made an address ready.
            self.start_batches();
            self.poll_peers();
            self.regulate_memory();
            self.regulate_ingress();
            self.start_loads();
            self.finish_stop();
            self.request_wake();
        }
        self.outputs.pop_front()
    }

    /// Returns the marks of an egress as pairs of name and value.
    pub fn egress_marks(&self, egress: &str) -> Vec<(Arc<str>, Bytes)> {
        let marks = self.tables.egress_marks.iter();
        marks
            .filter(|((of, _), _)| &**of == egress)
            .map(|((_, name), mark)| (name.clone(), mark.clone()))
            .collect()
    }

    /// Returns the numbers of the unacknowledged records in the outbox of an egress.
    pub fn outbox_of(&self, egress: &str) -> BTreeSet<u64> {
        let outbox = self.tables.outbox.iter();
        outbox
            .filter(|(_, entry)| &*entry.egress == egress)
            .map(|(number, _)| *number)
            .collect()
    }

    /// Returns the choice of the bucket of an address.
    pub fn placement(&self) -> Placement {
        self.config.placement
    }

    /// Returns the counters since the start.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Returns the gauges at present.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            pending_bytes: self.pending_bytes,
            ingress_paused: self.ingress_paused,
            in_flight: self.flights.len(),
            timers: self.schedule.timers(),
            dead_letters: self.tables.dead_letters.len(),
            dead_letter_bytes: self.tables.dead_letters.bytes(),
            outbox: self.tables.outbox.len(),
            peer_bytes: self.tables.links.out_bytes(),
            received_ids: self.tables.received.len(),
            held: self.is_held(),
            sealed: self.commits.sealed(),
            durable: self.commits.durable(),
            buckets: usize::from(self.tables.buckets()),
            buckets_loaded: usize::from(self.tables.buckets()) - self.absent_buckets(),
            buckets_awaited: self.loading.awaited(),
            buckets_absent_at_start: self.loading.absent_at_start(),
            state_bytes: self.tables.bytes(),
            pinned_bytes: self.tables.pinned_bytes(),
        }
    }

    /// Advances partition time and handles what has become due.
    fn advance_time(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        self.tables.turn += 1;
        self.schedule.reached(self.now_ms);
        if self.stopping == Stopping::No {
            self.handle_due();
        }
    }

    /// Marks a fact as changed, so that the next delta holds its value.
    fn mark_changed(&mut self, key: Key) {
        self.record_change(&key);
        self.commits.mark_changed(key, self.now_ms);
    }

    /// Marks the end of a numbered fact.
    fn mark_ended(&mut self, key: Key, number: u64) {
        self.record_change(&key);
        self.commits.mark_ended(key, number, self.now_ms);
    }

    /// Queues `address` for its turn, unless it is busy, suspended or without messages.
    fn make_ready(&mut self, address: &Address) {
        if let Some(active) = self.tables.active_mut(address)
            && active.activity == Activity::Idle
            && active.suspension.is_none()
            && !active.mailbox.is_empty()
        {
            active.activity = Activity::Ready;
            self.ready.push_back(address.clone());
        }
    }

    /// Returns whether the dead letters exceed their limit. Each is kept until an operator handles
    /// it, so nothing is accepted that could become another one.
    fn has_too_many_dead_letters(&self) -> bool {
        self.tables.dead_letters.bytes() > self.config.dead_letter_bytes_max
    }

    /// Pauses ingress when too much is pending, memory is short or dead letters are too many, and
    /// resumes it when pending bytes fall below three quarters of the limit.
    fn regulate_ingress(&mut self) {
        if self.stopping != Stopping::No {
            // The stop paused ingress for good.
            return;
        }
        let limit = self.config.pending_bytes_max;
        let is_congested = self.is_congested();
        let must_pause = self.memory_is_short || is_congested || self.has_too_many_dead_letters();
        if !self.ingress_paused && (self.pending_bytes > limit || must_pause) {
            self.ingress_paused = true;
            self.outputs.push_back(Output::PauseIngress);
            let cause = if self.pending_bytes > limit {
                PauseCause::PendingBytes
            } else if self.memory_is_short {
                PauseCause::Memory
            } else if is_congested {
                PauseCause::Congestion
            } else {
                PauseCause::DeadLetters
            };
            self.notice(Notice::IngressPaused { cause });
        } else if self.ingress_paused && self.pending_bytes <= limit / 4 * 3 && !must_pause {
            self.ingress_paused = false;
            self.outputs.push_back(Output::ResumeIngress);
            self.notice(Notice::IngressResumed);
        }
    }

    fn request_wake(&mut self) {
        let seal_due_ms = self.commits.due_ms(&self.config);
        let include_schedule = self.stopping == Stopping::No;
        if let Some(due_ms) = self.schedule.wake_at(seal_due_ms, include_schedule) {
            self.outputs.push_back(Output::WakeAt(due_ms));
        }
    }
}

#[cfg(test)]
mod tests;
