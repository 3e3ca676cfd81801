//! The loop around a partition: facts in, imperatives carried out.
//!
//! ```text
//!  HTTP ──bounded──► inputs ──────────┐                        ┌─► dispatch ──► invokers
//!  ingress ──bounded──► records ──────┼─► handle_input         ├─► committer ─► log
//!  dispatch, committer, egress ► facts┘      poll_output ──────┼─► egress
//!                                                              └─► answers, reading, wake-up
//! ```
//!
//! One task owns the partition. What comes from outside waits in bounded queues, a short one for what was read, because a read
//! may be large and a pause stops only the next one; what the partition asked for itself (answers,
//! acknowledgements, durable deltas) comes over an unbounded one, because it is bounded by what was asked for, and must never wait for
//! what is outside.

pub mod committer;
pub mod dispatch;
pub mod node;
pub mod ownership;
pub mod reading;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use satchel_aws::sqs::QueueWord;
use satchel_engine::dispatcher::DispatcherInput;
use satchel_engine::input::Input;
use satchel_engine::output::Output;
use satchel_engine::partition::{Counts, Gauges, Partition};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::egress::Egresses;
use crate::metrics::Metrics;
use crate::requests::{Readiness, Requests};

use reading::Reading;

/// How many facts are handed to the partition before its outputs are taken: so many share a delta where they come together.
const FACTS_PER_ROUND: usize = 256;

/// How many requests from outside may wait.
pub const INPUTS_WAITING_MAX: usize = 1024;

/// How many reads of shards may wait, and how many are handed to the partition before it is asked whether reading is to pause. Each is
/// about a mebibyte at most.
const READS_WAITING_MAX: usize = 16;

/// Where a partition's imperatives go.
pub struct Ports {
    /// Which partition it is, for the metrics.
    pub partition: u32,
    /// Batches.
    pub dispatch: mpsc::UnboundedSender<DispatcherInput>,
    /// Deltas, images, loads of buckets and wishes for snapshots.
    pub committer: mpsc::UnboundedSender<Output>,
    /// Records that leave.
    pub egresses: Egresses,
    /// Which shards are read, and whether.
    pub reading: Reading,
    /// Those who wait for answers.
    pub requests: Requests,
    /// Where it is told how much of the state is in memory.
    pub readiness: watch::Sender<Readiness>,
    /// What is counted.
    pub metrics: Metrics,
}

/// Owns a partition and runs it until it has stopped.
pub struct PartitionLoop {
    partition: Partition,
    inputs: mpsc::Receiver<Input>,
    records: mpsc::Receiver<Input>,
    facts: mpsc::UnboundedReceiver<Input>,
    ports: Ports,
    wake_at_ms: Option<u64>,
    counted: Counts,
    /// Whether it was told that everything is in memory that is to be.
    told_loaded: bool,
}

impl PartitionLoop {
    /// A loop that takes `inputs` and `records` from outside, and `facts` about what the partition asked for.
    pub fn new(
        partition: Partition,
        (inputs, records): (mpsc::Receiver<Input>, mpsc::Receiver<Input>),
        facts: mpsc::UnboundedReceiver<Input>,
        ports: Ports,
    ) -> Self {
        Self {
            partition,
            inputs,
            records,
            facts,
            ports,
            wake_at_ms: None,
            counted: Counts::default(),
            told_loaded: false,
        }
    }

    /// Runs until the partition has stopped; dropping the future stops it as a crash would.
    pub async fn run(mut self) {
        let mut round = Vec::with_capacity(FACTS_PER_ROUND);
        // The first round has no facts: it takes up what the last owner left.
        let mut stopped = self.carry_out(&mut round);
        while !stopped {
            let wake = wait_until(self.wake_at_ms);
            tokio::select! {
                fact = self.facts.recv() => round.extend(fact),
                input = self.inputs.recv() => round.extend(input),
                // Without an ingress nobody sends.
                Some(read) = self.records.recv() => round.push(read),
                () = wake => {
                    self.wake_at_ms = None;
                    round.push(Input::TimeReached);
                }
            }
            self.take_waiting(&mut round);
            stopped = self.carry_out(&mut round);
        }
    }

    /// Adds what else waits, up to a round's worth: first what the partition asked for.
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

    /// Hands in what has happened and does what is wanted then. Returns whether the partition has stopped.
    fn carry_out(&mut self, round: &mut Vec<Input>) -> bool {
        let now_ms = now_ms();
        for input in round.drain(..) {
            self.partition.handle_input(now_ms, input);
        }
        let mut stopped = false;
        while let Some(output) = self.partition.poll_output() {
            stopped |= output == Output::Stopped;
            self.perform(output);
        }
        self.count();
        stopped
    }

    fn perform(&mut self, output: Output) {
        let ports = &self.ports;
        // Where a receiver is gone the process is ending, and nothing that was asked for now will be missed.
        match output {
            Output::Invoke { endpoint, batch } => {
                let _ = ports
                    .dispatch
                    .send(DispatcherInput::BatchReady { endpoint, batch });
            }
            Output::Commit(delta) => {
                ports.metrics.observe_sealed(ports.partition, delta.number);
                let _ = ports.committer.send(Output::Commit(delta));
            }
            output @ (Output::Image(_) | Output::LoadBucket { .. } | Output::SnapshotWanted) => {
                let _ = ports.committer.send(output);
            }
            Output::Emit(emissions) => ports.egresses.emit(emissions),
            Output::MarksDurable { egress } => ports.egresses.noted(&egress),
            Output::Reply { request, answer } => ports.requests.answer(request, answer),
            Output::Read { shard, after } => ports.reading.start(&shard, after),
            Output::Plan {
                ingress,
                stream,
                applied,
            } => ports.reading.plan(ingress, stream, applied),
            Output::Receive { ingress } => ports.reading.queue(&ingress, QueueWord::Receive),
            Output::Deletable { ingress, ids } => {
                ports.reading.queue(&ingress, QueueWord::Deletable(ids));
            }
            Output::PauseIngress => ports.reading.pause(true),
            Output::ResumeIngress => ports.reading.pause(false),
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
        metrics.observe_bucket_loads(counts.loads - self.counted.loads);
        metrics.observe_buckets_dropped(counts.evictions - self.counted.evictions);
        self.counted.clone_from(counts);
        let gauges = self.partition.gauges();
        metrics.observe_dead_letters_present(gauges.dead_letters);
        metrics.observe_pending_bytes(gauges.pending_bytes);
        metrics.observe_ingress_paused(gauges.ingress_paused);
        metrics.observe_held(gauges.held);
        metrics.observe_timers_pending(gauges.timers);
        metrics.observe_received_ids(gauges.received_ids);
        metrics.observe_state(gauges.buckets, gauges.buckets_loaded, gauges.state_bytes);
        self.tell_loading(&gauges);
    }

    /// Tells how much of what was absent at the takeover is in memory, until all is that is to be.
    fn tell_loading(&mut self, gauges: &Gauges) {
        if self.told_loaded {
            return;
        }
        let absent = gauges.buckets_absent_at_start;
        self.told_loaded = gauges.buckets_awaited == 0;
        let recovered = if self.told_loaded {
            1.0
        } else {
            (absent - gauges.buckets_awaited.min(absent)) as f64 / absent as f64
        };
        self.ports.metrics.observe_recovered(recovered);
        self.ports.readiness.send_if_modified(|readiness| {
            let serving = matches!(readiness, Readiness::Serving | Readiness::Loading { .. });
            if serving {
                *readiness = if self.told_loaded {
                    Readiness::Serving
                } else {
                    Readiness::Loading { recovered }
                };
            }
            serving
        });
        if self.told_loaded && absent > 0 {
            tracing::info!(
                partition = self.ports.partition,
                buckets = gauges.buckets,
                in_memory = gauges.buckets_loaded,
                bytes = gauges.state_bytes,
                "the state is in memory, as far as it is to be"
            );
        }
    }
}

/// The calendar clock, in ms since the epoch.
pub fn now_ms() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// Timers farther off than this are looked at again in between: the calendar clock may be set meanwhile.
const WAIT_MAX: Duration = Duration::from_secs(60);

async fn wait_until(wake_at_ms: Option<u64>) {
    let Some(wake_at_ms) = wake_at_ms else {
        return std::future::pending().await;
    };
    let wait = Duration::from_millis(wake_at_ms.saturating_sub(now_ms()));
    tokio::time::sleep_until(Instant::now() + wait.min(WAIT_MAX)).await;
}
