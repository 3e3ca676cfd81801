//! Loop around a partition: it hands in inputs and performs outputs.
//!
//! ```text
//!  HTTP ──bounded──► inputs ──────────┐                        ┌─► dispatch ──► invokers
//!  ingress ──bounded──► records ──────┼─► handle_input         ├─► committer ─► log
//!  dispatch, committer, egress ► facts┘      poll_output ──────┼─► egress
//!                                                              └─► answers, reading, wake-up
//! ```
//!
//! One task owns the partition. Requests and reads from outside wait in bounded queues. The queue
//! of reads is short, because a read may be large and a pause stops only the next one. Results of
//! the partition's own outputs (answers, acknowledgements, durable deltas) come through an
//! unbounded queue: the outputs bound it, and it must never wait for the outside.

mod board;
mod budget;
pub mod committer;
pub mod dispatch;
pub mod hold;
mod inboxes;
pub mod node;
pub mod partitions;
mod stoppages;
#[cfg_attr(
    not(feature = "aws"),
    allow(dead_code, reason = "other processes need a lease table")
)]
pub(crate) mod switch;
pub(crate) mod time;

use std::time::Duration;

use satchel_aws::sqs::QueueCommand;
use satchel_engine::clock::PartitionClock;
use satchel_engine::dispatcher::DispatcherInput;
use satchel_engine::input::Input;
use satchel_engine::output::Output;
use satchel_engine::partition::{Counts, Gauges, Notice, Partition};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::egress::Egresses;
use crate::ingress::reading::Reading;
use crate::metrics::Metrics;
use crate::requests::Requests;
use crate::runtime::board::BoardPlace;
use crate::runtime::budget::BudgetShare;
use crate::runtime::switch::PeerPort;
use crate::runtime::time::TimeKeeper;
use crate::status::Observation;
use crate::stories::Stories;

/// Maximum number of inputs handed to the partition before its outputs are taken. Inputs of one
/// round can share a delta.
const FACTS_PER_ROUND: usize = 256;

/// Capacity of the queue of requests from outside.
pub const INPUTS_WAITING_MAX: usize = 1024;

/// Capacity of the queue of reads, and maximum number of reads handed to the partition before it
/// can pause reading. A read has at most about 1 MiB.
const READS_WAITING_MAX: usize = 16;

/// Minimum time between two showings of the gauges. A request for the metrics gets those of its
/// moment.
const GAUGES_INTERVAL: Duration = Duration::from_millis(100);

/// Receivers of a partition's outputs.
pub struct Ports {
    /// Number of the partition, for metrics.
    pub partition: u32,
    /// Dispatcher of batches.
    pub dispatch: mpsc::UnboundedSender<DispatcherInput>,
    /// Deltas, images, loads of buckets and wishes for snapshots.
    pub committer: mpsc::UnboundedSender<Output>,
    /// Egresses of the outbox.
    pub egresses: Egresses,
    /// Ingresses, which read on request and pause.
    pub reading: Reading,
    /// Requests that wait for answers.
    pub requests: Requests,
    /// Port to the other partitions, if there are any.
    pub(crate) peers: Option<PeerPort>,
    /// Place on the board of the process, which shows what people should see.
    pub(crate) board: BoardPlace,
    /// Share of the limits of the process, if it has several partitions.
    pub(crate) budget: Option<BudgetShare>,
    /// Stories of messages, if they are kept.
    pub(crate) stories: Option<Stories>,
    /// Metrics of the process.
    pub metrics: Metrics,
    /// Readings of the partition for people.
    pub(crate) observations: mpsc::Receiver<Observation>,
}

/// Owner of a partition, which runs it until it has stopped.
pub struct PartitionLoop {
    partition: Partition,
    time: TimeKeeper,
    inputs: mpsc::Receiver<Input>,
    records: mpsc::Receiver<Input>,
    facts: mpsc::UnboundedReceiver<Input>,
    ports: Ports,
    wake_at_ms: Option<u64>,
    counted: Counts,
    /// Number of the last reported change of stoppages.
    stoppage_changes: u64,
    /// True once the end of loading was reported.
    loading_reported: bool,
    /// Time at which the gauges were shown last.
    gauges_shown: Option<Instant>,
    /// True if the partition has changed since.
    gauges_outdated: bool,
}

impl PartitionLoop {
    /// Creates a loop that takes `inputs` and `records` from outside, and `facts`: results of the
    /// partition's own outputs.
    pub fn new(
        (partition, clock): (Partition, PartitionClock),
        (inputs, records): (mpsc::Receiver<Input>, mpsc::Receiver<Input>),
        facts: mpsc::UnboundedReceiver<Input>,
        ports: Ports,
    ) -> Self {
        Self {
            partition,
            time: TimeKeeper::new(clock),
            inputs,
            records,
            facts,
            ports,
            wake_at_ms: None,
            counted: Counts::default(),
            stoppage_changes: 0,
            loading_reported: false,
            gauges_shown: None,
            gauges_outdated: false,
        }
    }

    /// Runs until the partition has stopped. Dropping the future has the effect of a crash.
    pub async fn run(mut self) {
        let mut round = Vec::with_capacity(FACTS_PER_ROUND);
        // The first round has no inputs. It resumes the work that the last owner left.
        let mut stopped = self.advance(&mut round);
        while !stopped {
            let wake = wait_until(self.wake_at_ms, self.time.now_ms(&self.ports.metrics));
            let show_gauges = reached(self.gauges_due());
            tokio::select! {
                fact = self.facts.recv() => round.extend(fact),
                input = self.inputs.recv() => round.extend(input),
                Some(read) = self.ports.observations.recv() => read(&self.partition),
                // Without ingresses, the channel is closed.
                Some(read) = self.records.recv() => round.push(read),
                () = show_gauges => {
                    self.show_gauges();
                    continue;
                }
                () = wake => {
                    self.wake_at_ms = None;
                    round.push(Input::TimeReached);
                }
            }
            self.take_waiting(&mut round);
            stopped = self.advance(&mut round);
        }
    }

    /// Adds waiting inputs up to the limit of a round, results of the partition's outputs first.
    fn take_waiting(&mut self, round: &mut Vec<Input>) {
        while round.len() < FACTS_PER_ROUND {
            let waiting = self
                .facts
                .try_recv()
                .ok()
                .or_else(|| self.inputs.try_recv().ok());
            match waiting {
                Some(input) => round.push(input),
                None => break,
            }
        }
        for _ in 1..READS_WAITING_MAX {
            match self.records.try_recv() {
                Ok(read) => round.push(read),
                Err(_) => return,
            }
        }
    }

    /// Hands in the inputs and performs the outputs. Returns true if the partition has stopped.
    fn advance(&mut self, round: &mut Vec<Input>) -> bool {
        let now_ms = self.time.now_ms(&self.ports.metrics);
        for input in round.drain(..) {
            self.partition.handle_input(now_ms, input);
        }
        let mut stopped = false;
        while let Some(output) = self.partition.poll_output() {
            stopped |= output == Output::Stopped;
            self.perform(output);
        }
        if let Some(stories) = &self.ports.stories {
            stories.told(self.ports.partition, self.partition.take_story_events());
        }
        self.count();
        stopped
    }

    fn perform(&mut self, output: Output) {
        let ports = &self.ports;
        // A missing receiver means that the process is ending, so the output is not needed.
        match output {
            Output::Invoke { endpoint, batch } => {
                let _ = ports
                    .dispatch
                    .send(DispatcherInput::BatchReady { endpoint, batch });
            }
            Output::Commit(delta) => {
                ports.metrics.observe_sealed(ports.partition, delta.number);
                if let Some(budget) = &ports.budget {
                    budget.committed();
                }
                let _ = ports.committer.send(Output::Commit(delta));
            }
            output @ (Output::Image(_) | Output::LoadBucket { .. } | Output::SnapshotWanted) => {
                let _ = ports.committer.send(output);
            }
            Output::Emit(emissions) => ports.egresses.emit(emissions),
            Output::MarksDurable { egress } => ports.egresses.marks_durable(&egress),
            Output::Reply { request, answer } => ports.requests.answer(request, answer),
            Output::Read { shard, after } => ports.reading.start(&shard, after),
            Output::Plan {
                ingress,
                stream,
                applied,
            } => ports.reading.plan(ingress, stream, applied),
            Output::Receive { ingress } => ports.reading.queue(&ingress, QueueCommand::Receive),
            Output::Deletable { ingress, ids } => {
                ports.reading.queue(&ingress, QueueCommand::Deletable(ids));
            }
            Output::PauseIngress => ports.reading.pause(true),
            Output::ResumeIngress => ports.reading.pause(false),
            Output::SetIngressPause { ingress, paused } => {
                ports.reading.pause_ingress(&ingress, paused);
            }
            output @ (Output::PeerFrame { .. }
            | Output::PeerAnswer { .. }
            | Output::PeerClose { .. }
            | Output::PeerDamaged { .. }
            | Output::Congested(_)) => match &ports.peers {
                Some(peers) => peers.perform(output),
                None => unreachable!("an application of one partition has no peers: {output:?}"),
            },
            Output::WakeAt(due_ms) => self.wake_at_ms = Some(due_ms),
            Output::Stopped => {}
        }
    }

    fn count(&mut self) {
        let metrics = &self.ports.metrics;
        let counts = self.partition.counts();
        for _ in self.counted.stale_answers..counts.stale_answers {
            metrics.observe_stale_answer();
        }
        metrics.observe_dead_letters_made(counts.dead_letters - self.counted.dead_letters);
        metrics.observe_rejected(counts.rejected - self.counted.rejected);
        metrics.observe_bucket_loads(counts.loads - self.counted.loads);
        metrics.observe_buckets_dropped(counts.evictions - self.counted.evictions);
        metrics.observe_peer_messages(
            self.ports.partition,
            counts.sent_to_peers - self.counted.sent_to_peers,
            counts.taken_from_peers - self.counted.taken_from_peers,
        );
        self.counted.clone_from(counts);
        self.report_notices(self.partition.pending_bytes());
        self.report_stoppages();
        let since = self.gauges_shown.map(|shown| shown.elapsed());
        if !self.loading_reported || since.is_none_or(|since| since >= GAUGES_INTERVAL) {
            self.show_gauges();
        } else {
            self.gauges_outdated = true;
        }
    }

    /// Shows the gauges, whose cost is that of visiting every bucket.
    fn show_gauges(&mut self) {
        self.gauges_shown = Some(Instant::now());
        self.gauges_outdated = false;
        let gauges = self.partition.gauges();
        self.ports.board.show_gauges(&gauges);
        if let Some(budget) = &self.ports.budget {
            budget.used(&gauges);
        }
        self.report_loading(&gauges);
    }

    /// Time at which outdated gauges are shown again.
    fn gauges_due(&self) -> Option<Instant> {
        let shown = self.gauges_shown.filter(|_| self.gauges_outdated)?;
        Some(shown + GAUGES_INTERVAL)
    }

    /// Logs and shows functions and ingresses that stand still, when they change.
    fn report_stoppages(&mut self) {
        let changes = self.partition.stoppage_changes();
        if changes != self.stoppage_changes {
            self.stoppage_changes = changes;
            self.ports.board.show_stoppages(self.partition.stoppages());
        }
    }

    /// Writes what the partition noticed to the log, and counts it.
    fn report_notices(&mut self, pending_bytes: usize) {
        let (notices, missed) = self.partition.take_notices();
        let metrics = &self.ports.metrics;
        for notice in &notices {
            match notice {
                Notice::DeadLetter {
                    function: Some(function),
                    ..
                } => metrics.observe_function_dead_letter(&function.to_string()),
                Notice::AnswerRejected { function, .. } => {
                    metrics.observe_function_failure(&function.to_string(), "answer_rejected");
                }
                _ => {}
            }
            metrics.status().noticed(notice, pending_bytes);
        }
        if missed > 0 {
            metrics.observe_other_dead_letters(missed);
            metrics.status().missed_notices(missed);
        }
    }

    /// Reports the share of buckets absent at the takeover that are in memory, until loading is
    /// complete.
    fn report_loading(&mut self, gauges: &Gauges) {
        if self.loading_reported {
            return;
        }
        let absent = gauges.buckets_absent_at_start;
        self.loading_reported = gauges.buckets_awaited == 0;
        let recovered = if self.loading_reported {
            1.0
        } else {
            (absent - gauges.buckets_awaited.min(absent)) as f64 / absent as f64
        };
        self.ports
            .board
            .show_loaded(recovered, self.loading_reported);
        if self.loading_reported && absent > 0 {
            tracing::info!(
                partition = self.ports.partition,
                buckets = gauges.buckets,
                in_memory = gauges.buckets_loaded,
                bytes = gauges.state_bytes,
                "state loading complete"
            );
        }
    }
}

/// Maximum sleep. The calendar clock may be set meanwhile, and the machine may be suspended, so a
/// later wake-up is computed again.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Waits until `time`, if there is one.
async fn reached(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Waits until `wake_at_ms` on the clock that shows `now_ms`.
async fn wait_until(wake_at_ms: Option<u64>, now_ms: u64) {
    let Some(wake_at_ms) = wake_at_ms else {
        return std::future::pending().await;
    };
    let wait = Duration::from_millis(wake_at_ms.saturating_sub(now_ms));
    tokio::time::sleep_until(Instant::now() + wait.min(WAIT_MAX)).await;
}
