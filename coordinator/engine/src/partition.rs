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
//! The law of use: hand in one input (or several), then take outputs until there are none. The partition has no clock: `now_ms` is an
//! argument, and what it makes of it (partition time) never goes back, not over restarts either.
//!
//! ```
//! use satchel_engine::partition::{Config, Ownership, Recovery};
//! use satchel_engine::input::Input;
//!
//! let recovery = Recovery::new(Config::default());
//! let mut partition = recovery.start(Ownership { epoch: 1, committed_at_ms: 0, clean: true }, 1_000);
//! partition.handle_input(1_000, Input::TimeReached);
//! while let Some(output) = partition.poll_output() {
//!     drop(output); // carry it out
//! }
//! ```

mod administration;
mod agenda;
mod answers;
mod arrivals;
mod audit;
mod batches;
mod calls;
mod commits;
mod failures;
mod hold;
mod laws;
mod loading;
mod memory;
mod parked;
mod queues;
mod recovery;
mod timers;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::address::Address;
use crate::durable::Key;
use crate::endpoint::Endpoints;
use crate::input::Input;
use crate::map::Map;
use crate::output::Output;
use crate::tables::{Activity, Tables};

use agenda::Agenda;
use calls::Calls;
use commits::{Commits, Release};
use loading::Loading;
use parked::Parked;

pub use crate::tables::{BucketProblem, LoadedBucket, Overlay};
pub use recovery::{Ownership, Recovery};

/// What a partition must know before it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which partition it is.
    pub partition: u32,
    /// Into how many buckets its addresses are divided; fixed when the application is created.
    pub buckets: u16,
    /// Where its functions are served.
    pub endpoints: Endpoints,
    /// The egresses that functions may write to, `namespace/type`.
    pub egresses: BTreeSet<Arc<str>>,
    /// How many deltas may be on their way to the log at once.
    pub commit_depth: u64,
    /// How long a change may wait for its delta when nothing waits to leave.
    pub commit_interval_ms: u64,
    /// Over so many pending bytes (mailboxes and outbox) ingress pauses and requests are refused.
    pub pending_bytes_max: usize,
    /// How long the outcome of a request with an idempotency key is kept.
    pub idempotency_ttl_ms: u64,
    /// About how many bytes of bucket images are taken at one seal.
    pub image_bytes_per_seal: usize,
    /// Over so many bytes of buckets in memory, those are dropped that were not used for longest and can be loaded again.
    pub memory_limit_bytes: Option<usize>,
    /// How many buckets may be on their way into memory at once.
    pub loads_at_once: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            partition: 0,
            buckets: 256,
            endpoints: Endpoints::default(),
            egresses: BTreeSet::new(),
            commit_depth: 4,
            commit_interval_ms: 100,
            pending_bytes_max: 256 << 20,
            idempotency_ttl_ms: 24 * 60 * 60 * 1000,
            image_bytes_per_seal: 1 << 20,
            memory_limit_bytes: None,
            loads_at_once: 8,
        }
    }
}

/// What a partition has counted since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers that did not answer an attempt in flight.
    pub stale_answers: u64,
    /// Replies to callers that do not wait any more, or never did.
    pub stale_replies: u64,
    /// Records that had been applied already.
    pub repeated_records: u64,
    /// Messages that became dead letters.
    pub dead_letters: u64,
    /// Messages that were taken into a mailbox.
    pub messages: u64,
    /// Messages that were processed.
    pub processed: u64,
    /// Timers that fired.
    pub timers_fired: u64,
    /// Values that expired.
    pub expired: u64,
    /// Records of the outbox that were dropped when a hold was lifted.
    pub dropped_records: u64,
    /// Buckets that were loaded.
    pub loads: u64,
    /// Loaded buckets that nobody had asked for, or that were asked for in vain.
    pub stale_loads: u64,
    /// Buckets that were dropped from memory.
    pub evictions: u64,
}

/// What a partition holds at the moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Bytes in mailboxes and outbox.
    pub pending_bytes: usize,
    /// Whether ingress is paused.
    pub ingress_paused: bool,
    /// Batches in flight.
    pub in_flight: usize,
    /// Timers that are pending.
    pub timers: usize,
    /// Dead letters that are kept.
    pub dead_letters: usize,
    /// Records in the outbox.
    pub outbox: usize,
    /// Ids of messages of queues that are kept.
    pub received_ids: usize,
    /// Whether ingress, timers and outbox are held, because this is a fork that nobody has let go on.
    pub held: bool,
    /// Deltas sealed by this owner.
    pub sealed: u64,
    /// Deltas of this owner that are durable.
    pub durable: u64,
    /// Buckets of addresses.
    pub buckets: usize,
    /// Those that are in memory.
    pub buckets_loaded: usize,
    /// Those that are still to be loaded because the partition was taken over; the others are loaded when something needs them.
    pub buckets_awaited: usize,
    /// Those that were not in memory when the partition was taken over.
    pub buckets_absent_at_start: usize,
    /// About how many bytes the buckets take in memory.
    pub state_bytes: usize,
    /// Those of buckets that can not be dropped as long as messages, open requests or dead letters are in them.
    pub pinned_bytes: usize,
}

/// The pure state machine that owns a range of addresses.
pub struct Partition {
    config: Config,
    epoch: u64,
    /// Partition time: the latest of every `now_ms` seen and of the last owner's last delta.
    now_ms: u64,
    /// Until then messages are tried only once they are durable, the last owner having died.
    cautious_until_ms: u64,
    tables: Tables,
    agenda: Agenda,
    calls: Calls,
    commits: Commits,
    /// Addresses whose turn it is.
    ready: VecDeque<Address>,
    /// Attempts in flight, by number.
    flights: Map<u64, Address>,
    next_attempt: u64,
    pending_bytes: usize,
    ingress_paused: bool,
    /// What is to be read when the hold is lifted.
    held_reading: Vec<Release>,
    stopping: Stopping,
    outputs: VecDeque<Output>,
    counts: Counts,
    loading: Loading,
    parked: Parked,
    /// Whether a snapshot was asked for to make room, and none was taken since.
    snapshot_wanted: bool,
    /// Whether a snapshot took effect in this period: what it did not image had not changed.
    snapshot_taken: bool,
    /// Whether more is in memory than may be, and much of it changed and waits for a snapshot: then shards are not read.
    memory_is_short: bool,
    /// Messages with numbers below this one were pending when the last owner died; 0 if it stopped in an orderly way.
    deaths_below: u64,
}

/// How far an orderly stop has come.
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
    /// Takes one fact. `now_ms` is the present, in ms since the epoch.
    pub fn handle_input(&mut self, now_ms: u64, input: Input) {
        self.advance(now_ms);
        self.commits.give_image_turn();
        match input {
            Input::ShardFound { shard, start } => self.shard_found(shard, start),
            Input::StreamFound { ingress, stream } => self.stream_found(ingress, stream),
            Input::ShardsFound(shards) => {
                for (shard, start) in shards {
                    self.shard_found(shard, start);
                }
            }
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
                self.abandon_parked(request);
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
                    self.release_when_durable(Release::Marked(egress));
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
            Input::TimeReached => self.agenda.woken(),
            Input::StopRequested => self.stop_requested(),
            Input::StopForced => self.stop_forced(),
        }
    }

    /// The next thing to do, or `None` until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.start_batches();
            self.regulate_ingress();
            self.seal_if_due();
            // What had waited for a delta that is durable by now may have got its turn.
            self.start_batches();
            self.regulate_memory();
            self.regulate_ingress();
            self.ask_for_loads();
            self.finish_stop();
            self.wake_if_due();
        }
        self.outputs.pop_front()
    }

    /// What the egress `egress` has noted: names and values.
    pub fn egress_marks(&self, egress: &str) -> Vec<(Arc<str>, Bytes)> {
        let marks = self.tables.egress_marks.iter();
        marks
            .filter(|((of, _), _)| &**of == egress)
            .map(|((_, name), mark)| (name.clone(), mark.clone()))
            .collect()
    }

    /// The numbers of the records that are to leave through the egress `egress` and have not been acknowledged.
    pub fn outbox_of(&self, egress: &str) -> BTreeSet<u64> {
        let outbox = self.tables.outbox.iter();
        outbox
            .filter(|(_, entry)| &*entry.egress == egress)
            .map(|(number, _)| *number)
            .collect()
    }

    /// What it has counted since it started.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What it holds at the moment.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            pending_bytes: self.pending_bytes,
            ingress_paused: self.ingress_paused,
            in_flight: self.flights.len(),
            timers: self.agenda.timers(),
            dead_letters: self.tables.letters.len(),
            outbox: self.tables.outbox.len(),
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

    /// Moves partition time on and does what has become due.
    fn advance(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        self.tables.turn += 1;
        self.agenda.reached(self.now_ms);
        if self.stopping == Stopping::No {
            self.handle_due();
        }
    }

    /// Remembers that a fact changed, so that the next delta holds its value.
    fn mark(&mut self, key: Key) {
        self.note_change(&key);
        self.commits.mark(key, self.now_ms);
    }

    /// Remembers the end of something numbered.
    fn mark_end(&mut self, key: Key, number: u64) {
        self.note_change(&key);
        self.commits.mark_end(key, number, self.now_ms);
    }

    /// Gives `address` its turn, unless it has one already or something else must happen first.
    fn make_ready(&mut self, address: &Address) {
        if let Some(live) = self.tables.live_mut(address)
            && live.activity == Activity::Idle
            && live.suspension.is_none()
            && !live.mailbox.is_empty()
        {
            live.activity = Activity::Ready;
            self.ready.push_back(address.clone());
        }
    }

    /// Stops reading shards when too much is pending, or in memory and not to be dropped, and reads on when it has become clearly less.
    fn regulate_ingress(&mut self) {
        if self.stopping != Stopping::No {
            // It was paused for good when the stop began.
            return;
        }
        let limit = self.config.pending_bytes_max;
        if !self.ingress_paused && (self.pending_bytes > limit || self.memory_is_short) {
            self.ingress_paused = true;
            self.outputs.push_back(Output::PauseIngress);
        } else if self.ingress_paused
            && self.pending_bytes <= limit / 4 * 3
            && !self.memory_is_short
        {
            self.ingress_paused = false;
            self.outputs.push_back(Output::ResumeIngress);
        }
    }

    fn wake_if_due(&mut self) {
        let seal_due_ms = self.commits.due_ms(&self.config);
        let agenda_too = self.stopping == Stopping::No;
        if let Some(due_ms) = self.agenda.wake_at(seal_due_ms, agenda_too) {
            self.outputs.push_back(Output::WakeAt(due_ms));
        }
    }
}

#[cfg(test)]
mod tests;
