//! Loop around the [`Pump`] between a partition and its log.
//!
//! The loop runs on its own task, and decodes loaded buckets on other threads, so that neither
//! encoding nor decoding delays the partition.

use std::time::{Duration, Instant};

use futures::StreamExt;
use satchel_engine::input::Input;
use satchel_engine::output::Output;
use satchel_engine::partition::BucketProblem;
use satchel_engine::placement::Placement;
use satchel_log::{Log, Notice, Notices};
use satchel_storage::pump::{DecodeJob, Observation, Pump, Reaction};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};

use crate::error::{Exit, Failure};
use crate::metrics::Metrics;

/// Loaded buckets that are being decoded, each on a thread of its own.
type Decoding = JoinSet<Result<Input, BucketProblem>>;

/// Time after which a commit that is not durable is reported while it hangs.
const HANGS_AFTER: Duration = Duration::from_secs(5);

/// Interval at which the same hanging commit is reported again.
const HANGS_AGAIN: Duration = Duration::from_secs(30);

/// Carries outputs of a partition to its log, and notices of the log back.
pub struct Committer {
    partition: u32,
    pump: Pump,
    notices: Notices,
    inputs: mpsc::UnboundedSender<Input>,
    metrics: Metrics,
    tail: watch::Sender<u64>,
    /// Zero of the pump's time.
    begun: Instant,
    /// Hanging commit that was reported last, and when.
    reported: Option<(u64, Duration)>,
    decoding: Decoding,
}

impl Committer {
    /// Creates the committer of a partition whose addresses are placed so.
    ///
    /// `inputs` leads to the partition. `tail` holds about how many commits a takeover would
    /// replay; the caller initializes it with the number that this takeover replayed.
    pub fn new(
        (partition, placement): (u32, Placement),
        notices: Notices,
        inputs: mpsc::UnboundedSender<Input>,
        metrics: Metrics,
        tail: watch::Sender<u64>,
    ) -> Self {
        Self {
            partition,
            pump: Pump::new(placement),
            notices,
            inputs,
            metrics,
            tail,
            begun: Instant::now(),
            reported: None,
            decoding: Decoding::new(),
        }
    }

    /// Runs until the log's driver has ended. Drops `log` when `outputs` end, and the driver ends
    /// once everything handed to the log is durable. `outputs` carries only outputs that
    /// [`Pump::performs`].
    ///
    /// # Errors
    ///
    /// A loaded bucket holds an entry that this software cannot read.
    pub async fn run(
        mut self,
        log: Log,
        mut outputs: mpsc::UnboundedReceiver<Output>,
    ) -> Result<(), Failure> {
        let mut log = Some(log);
        loop {
            let hangs_in = self.hangs_in();
            tokio::select! {
                output = outputs.recv(), if log.is_some() => match (output, &log) {
                    (Some(output), Some(log)) => self.perform(log, output),
                    _ => log = None,
                },
                notice = self.notices.next() => match notice {
                    Some(notice) => self.take(notice),
                    None => return Ok(()),
                },
                Some(decoded) = self.decoding.join_next() => self.decoded(decoded)?,
                () = wait(hangs_in) => self.report_hanging(),
            }
        }
    }

    /// Time until the oldest commit is reported as hanging, if it is not durable by then.
    fn hangs_in(&self) -> Option<Duration> {
        let (number, sealed) = self.pump.oldest_commit()?;
        let due = match self.reported {
            Some((reported, at)) if reported == number => at + HANGS_AGAIN,
            _ => sealed + HANGS_AFTER,
        };
        Some(due.saturating_sub(self.begun.elapsed()))
    }

    fn report_hanging(&mut self) {
        let now = self.begun.elapsed();
        if let Some((number, sealed)) = self.pump.oldest_commit() {
            self.reported = Some((number, now));
            let waited = now.saturating_sub(sealed);
            let status = self.metrics.status();
            status.commit_hangs(self.partition, number, waited);
        }
    }

    fn perform(&mut self, log: &Log, output: Output) {
        match self.pump.perform(self.begun.elapsed(), output) {
            Ok(command) => command.send(log),
            Err(output) => unreachable!("the log does not perform {output:?}"),
        }
    }

    fn take(&mut self, notice: Notice) {
        let (reaction, observed) = self.pump.on_notice(self.begun.elapsed(), notice);
        if let Some(observed) = observed {
            self.observe(observed);
        }
        match reaction {
            Reaction::Tell(input) => self.tell(input),
            Reaction::Decode(job) => self.decode(job),
            Reaction::Nothing => {}
        }
    }

    fn tell(&self, input: Input) {
        // A partition that has stopped expects no more inputs.
        let _ = self.inputs.send(input);
    }

    fn decode(&mut self, job: DecodeJob) {
        self.decoding.spawn_blocking(move || job.run());
    }

    fn decoded(
        &self,
        decoded: Result<Result<Input, BucketProblem>, JoinError>,
    ) -> Result<(), Failure> {
        let decoded = decoded.map_err(|error| {
            Failure::new(
                Exit::Environment,
                format!("decoding a bucket failed: {error}"),
            )
        })?;
        let input = decoded.map_err(|problem| {
            Failure::new(
                Exit::Damaged,
                format!("partition {}: {problem}", self.partition),
            )
        })?;
        self.tell(input);
        Ok(())
    }

    fn observe(&self, observed: Observation) {
        let partition = self.partition;
        match observed {
            Observation::Committed(deltas) => {
                for delta in deltas {
                    let bytes = usize::try_from(delta.stored_bytes).unwrap_or(usize::MAX);
                    self.metrics
                        .observe_commit(partition, delta.number, bytes, delta.took);
                    self.metrics.status().committed(
                        partition,
                        delta.number,
                        delta.stored_bytes,
                        delta.took,
                    );
                }
                self.tail.send_modify(|commits| *commits += 1);
            }
            Observation::SnapshotTaken(snapshot) => {
                tracing::debug!(partition, ?snapshot, "snapshot in effect");
                self.tail.send_replace(0);
            }
            Observation::DeletionBlocked(error) => {
                tracing::error!(
                    partition,
                    %error,
                    "object unreadable; nothing that it may need is deleted"
                );
            }
            // The log has told `on_store_failure` too, as during the takeover.
            Observation::Retrying(_) => {}
        }
    }
}

async fn wait(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
