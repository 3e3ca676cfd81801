//! Life of one partition in this process: takeover, serving, and an orderly stop on request.

use std::time::Duration;

use satchel_engine::forwarding::Owner;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use crate::error::{Exit, Failure};
use crate::peer::Gate;
use crate::runtime::node::{Node, NodeParts, Recovered};

/// Reports of the tasks of a process about its partitions.
#[derive(Debug)]
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
    /// The root can be read: this process is ready to take the partition over.
    Ready,
    /// The root cannot be read at present.
    Unready(String),
}

/// Sender of reports, each with the number of its partition and that of its life.
pub(super) type Reports = mpsc::UnboundedSender<(u32, u64, Report)>;

/// Request to stop a partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop {
    /// Time for a snapshot that shortens the next takeover, while the partition serves.
    pub(super) shorten: Duration,
    /// Time for requests and work in flight.
    pub(super) drain: Duration,
    /// Time for all of the stop after the snapshot.
    pub(super) limit: Duration,
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

/// Partition in this process. Dropping it ends the partition, as a crash would.
pub(super) struct Life {
    /// Number of this life, to tell reports of former ones apart.
    pub(super) number: u64,
    pub(super) stage: Stage,
    task: AbortHandle,
    stop: Option<oneshot::Sender<Stop>>,
    /// Streams to partitions of other processes.
    pub(super) streams: Option<JoinSet<()>>,
}

impl Life {
    /// Begins to take a partition over, then serves it.
    pub(super) fn begin(number: u64, parts: NodeParts, gate: Gate, reports: Reports) -> Self {
        let (stop, stopped) = oneshot::channel();
        let partition = parts.number();
        let task = tokio::spawn(async move {
            let report = |report| drop(reports.send((partition, number, report)));
            let ended = live(parts, (&gate, partition), stopped, report).await;
            report(Report::Ended(ended));
        });
        Self {
            number,
            stage: Stage::Arriving,
            task: task.abort_handle(),
            stop: Some(stop),
            streams: None,
        }
    }

    /// Asks the partition to stop in an orderly way. The first request counts.
    pub(super) fn stop(&mut self, stop: Stop) {
        if let Some(sender) = self.stop.take() {
            self.stage = Stage::Leaving;
            // A partition that has ended reports that.
            let _ = sender.send(stop);
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn live(
    parts: NodeParts,
    (gate, partition): (&Gate, u32),
    mut stopped: oneshot::Receiver<Stop>,
    report: impl Fn(Report),
) -> Result<(), Failure> {
    let mut node = Box::pin(Node::start(parts)).await?;
    report(Report::Serves {
        recovered: node.recovered,
        held: node.held.is_some(),
    });
    let stop = tokio::select! {
        failure = node.failed() => return Err(failure),
        stop = &mut stopped => stop,
    };
    let Ok(stop) = stop else {
        // The process ends as by a crash.
        return std::future::pending().await;
    };
    node.shorten_replay(stop.shorten).await;
    let stopping = async {
        gate.set(partition, Owner::Unknown);
        let requests = gate.served(partition);
        let answered = gate.quiet(partition, stop.drain).await;
        tracing::info!(
            partition,
            requests,
            answered,
            "requests wait for the next owner; those in progress were awaited"
        );
        node.stop(stop.drain).await
    };
    let stopped = tokio::time::timeout(stop.limit, stopping).await;
    stopped.unwrap_or_else(|_| {
        let limit = stop.limit;
        let text = format!("partition {partition}: the stop took longer than {limit:?}");
        Err(Failure::new(Exit::Environment, text))
    })
}
