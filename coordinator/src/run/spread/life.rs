//! Life of one partition in this process: takeover, serving, and an orderly stop on request.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use satchel_engine::forwarding::Owner;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::error::{Exit, Failure};
use crate::metrics::Metrics;
use crate::peer::Gate;
use crate::run::DRAIN_MIN;
use crate::runtime::node::{Node, NodeParts, ReadAhead, Recovered};

/// Time for the last commits of a stop, beyond the time for what is in flight.
const COMMIT_MAX: Duration = Duration::from_secs(5);

/// Longer than anything is awaited here.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// Reports of the tasks of a process about its partitions.
pub(super) enum Report {
    /// The partition serves.
    Serves {
        /// Facts about the takeover.
        recovered: Recovered,
        /// True for a fork that is held.
        held: bool,
    },
    /// The partition has ended: stopped as requested, or with a failure. It does not run any more.
    Ended(Result<(), Failure>),
    /// The partition was read as far as it is durable: this process is ready to take it over.
    Ready(Box<ReadAhead>),
    /// The partition cannot be read at present.
    Unready(String),
}

/// Report, with the number of its partition and that of its life.
pub(super) type NumberedReport = (u32, u64, Report);

/// Sender of reports.
pub(super) type Reports = mpsc::UnboundedSender<NumberedReport>;

/// Request to stop a partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop {
    /// Time for a snapshot that shortens the next takeover, while the partition serves; none if the
    /// next owner has read the partition.
    pub(super) shorten: Option<Duration>,
    /// Time for requests and work in flight, after the snapshot.
    pub(super) drain: Duration,
    /// Time at which work in flight ends in any case.
    pub(super) until: Instant,
}

/// Stage of a partition in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is being taken over.
    Arriving,
    /// It serves.
    Serving,
    /// It was asked to stop.
    Leaving,
}

/// Parts of the process that a life needs.
pub(super) struct Surroundings {
    pub(super) gate: Gate,
    pub(super) metrics: Metrics,
    /// Time after which a loop that does not turn counts as hanging.
    pub(super) patience: Duration,
    pub(super) reports: Reports,
}

/// Partition in this process. Dropping it ends the partition, as a crash would.
pub(super) struct Life {
    /// Number of this life, to tell reports of former ones apart.
    pub(super) number: u64,
    pub(super) stage: Stage,
    task: AbortHandle,
    stop: watch::Sender<Option<Stop>>,
    /// Streams to partitions of other processes.
    pub(super) streams: Option<JoinSet<()>>,
}

impl Life {
    /// Begins to take a partition over, then serves it.
    pub(super) fn begin(number: u64, parts: NodeParts, surroundings: Surroundings) -> Self {
        let (stop, stopped) = watch::channel(None);
        let partition = parts.number();
        let task = tokio::spawn(async move {
            let report = |report| drop(surroundings.reports.send((partition, number, report)));
            let living = live(parts, &surroundings, stopped, report);
            // A panic ends the partition, and the process knows it.
            let ended = AssertUnwindSafe(living).catch_unwind().await;
            let ended = ended.unwrap_or_else(|panic| Err(panicked(partition, &*panic)));
            report(Report::Ended(ended));
        });
        Self {
            number,
            stage: Stage::Arriving,
            task: task.abort_handle(),
            stop,
            streams: None,
        }
    }

    /// Asks the partition to stop in an orderly way. A later request can only hasten it.
    pub(super) fn stop(&mut self, stop: Stop) {
        self.stage = Stage::Leaving;
        self.stop.send_if_modified(|known| match known {
            Some(known) if known.until <= stop.until => false,
            _ => {
                *known = Some(stop);
                true
            }
        });
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn panicked(partition: u32, panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("a panic without a text");
    let message = format!("partition {partition} failed inside: {text}: this is a bug of Satchel");
    Failure::new(Exit::Environment, message)
}

async fn live(
    parts: NodeParts,
    surroundings: &Surroundings,
    mut stop: watch::Receiver<Option<Stop>>,
    report: impl Fn(Report),
) -> Result<(), Failure> {
    let partition = parts.number();
    let gate = &surroundings.gate;
    let mut node = Box::pin(Node::start(parts)).await?;
    report(Report::Serves {
        recovered: node.recovered,
        held: node.held.is_some(),
    });
    let stopped = async {
        let is_asked = stop.wait_for(Option::is_some).await.is_ok();
        if !is_asked {
            // The process ends as by a crash.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        failure = node.failed() => return Err(failure),
        failure = hangs(partition, surroundings) => return Err(failure),
        () = stopped => {}
    }
    let Some(asked) = *stop.borrow() else {
        return Ok(());
    };
    if let Some(limit) = asked.shorten {
        node.shorten_replay(limit).await;
    }
    gate.set(partition, Owner::Unknown);
    let requests = gate.served(partition);
    let begun = Instant::now();
    let answered = tokio::select! {
        answered = gate.quiet(partition, LONG) => answered,
        () = forced(stop.clone(), begun) => false,
    };
    tracing::info!(
        partition,
        requests,
        answered,
        took_ms = begun.elapsed().as_millis(),
        "requests wait for the next owner; those in progress were awaited"
    );
    let forced = async {
        forced(stop.clone(), begun).await;
        if !answered {
            // The requests took all of the time, and messages may be in flight.
            sleep(DRAIN_MIN).await;
        }
    };
    // Its end is bounded by the store, as that of a process.
    let stopping = node.stop_until(forced);
    let limit = asked.drain + DRAIN_MIN + COMMIT_MAX;
    let stopped = timeout(limit, stopping).await;
    stopped.unwrap_or_else(|_| {
        let text = format!("partition {partition} did not become durable within {limit:?}");
        Err(Failure::new(Exit::Environment, text))
    })
}

/// Waits until work in flight ends in any case. A later request can hasten that.
async fn forced(mut stop: watch::Receiver<Option<Stop>>, begun: Instant) {
    loop {
        let asked = *stop.borrow_and_update();
        let Some(asked) = asked else {
            return;
        };
        let until = asked.until.min(begun + asked.drain);
        tokio::select! {
            () = sleep_until(until) => return,
            changed = stop.changed() => if changed.is_err() {
                return;
            }
        }
    }
}

/// Waits until the loop of the partition does not turn any more.
async fn hangs(partition: u32, surroundings: &Surroundings) -> Failure {
    let status = surroundings.metrics.status();
    let patience = surroundings.patience;
    loop {
        sleep(patience / 3).await;
        let turned = status.observe_one(partition, |_| ());
        if timeout(patience, turned).await.is_err() {
            let text = format!("the loop of partition {partition} did not turn for {patience:?}");
            return Failure::new(Exit::Environment, text);
        }
    }
}
