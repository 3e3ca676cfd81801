//! Running partition with everything around it that is its own.

mod start;

use std::sync::Arc;
use std::time::Duration;

use satchel_engine::dispatcher::DispatcherInput;
use satchel_engine::durable::Hold;
use satchel_engine::input::Input;
use satchel_engine::output::Output;
use satchel_engine::partition::Config;
use satchel_log::Options;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::Instant;

pub(crate) use self::start::ReadAhead;
use super::board::BoardPlace;
use super::budget::BudgetShare;
use super::hold::HoldPolicy;
use super::switch::PeerPort;
use crate::egress::Egress;
use crate::error::{Exit, Failure};
use crate::ingress::Ingress;
use crate::metrics::Metrics;
use crate::requests::Requests;
use crate::sources::Sources;
use crate::store::StateStore;
use crate::stories::Stories;

/// Minimum number of commits since the last snapshot that makes another one worthwhile before a
/// planned stop. A takeover replays fewer commits in no noticeable time.
const REPLAY_WORTH_SHORTENING: u64 = 32;

/// Origin of the content of partitions: their root, and the way to read it.
#[derive(Clone)]
pub(crate) struct Origin {
    /// Name of the application.
    pub(super) application: String,
    /// Store of the durable state.
    pub(super) state: StateStore,
    /// Options of the log.
    pub(super) log: Options,
    /// Metrics of the process.
    pub(super) metrics: Metrics,
}

/// Parts of a node: one partition, and what it needs of the process.
pub(crate) struct NodeParts {
    /// Origin of its content.
    pub(super) origin: Origin,
    /// Configuration of the partition, complete with placement and generation.
    pub(super) config: Config,
    /// Content that was read while another process owned the partition.
    pub(super) ahead: Option<Box<ReadAhead>>,
    /// True if the store is known to create objects conditionally.
    pub(super) is_store_checked: bool,
    /// Treatment of the hold, if the application is a held fork.
    pub(super) hold_policy: HoldPolicy,
    /// Maximum jump of the calendar that the process follows while it runs, in ms.
    pub(super) clock_jump_max_ms: u64,
    /// Sender to the dispatcher.
    pub(super) dispatch: mpsc::UnboundedSender<DispatcherInput>,
    /// Results of the partition's own outputs: both ends of the queue.
    pub(super) facts: (mpsc::UnboundedSender<Input>, mpsc::UnboundedReceiver<Input>),
    /// Ingresses whose sources are read here.
    pub(super) ingresses: Vec<Ingress>,
    /// Egresses by id, `namespace/name`.
    pub(super) egresses: Vec<(Arc<str>, Egress)>,
    /// State of the ingresses' sources, which the node updates.
    pub(super) sources: Sources,
    /// Stories of messages, if they are kept.
    pub(super) stories: Option<Stories>,
    /// Pending requests from outside.
    pub(super) requests: Requests,
    /// Inputs that these requests make.
    pub(super) inputs: mpsc::Receiver<Input>,
    /// Port to the other partitions, if there are any.
    pub(super) peers: Option<PeerPort>,
    /// Place on the board of the process.
    pub(super) board: BoardPlace,
    /// Share of the limits of the process, if it has several partitions.
    pub(super) budget: Option<BudgetShare>,
}

impl NodeParts {
    /// Number of the partition.
    #[cfg(feature = "aws")]
    pub(crate) fn number(&self) -> u32 {
        self.config.partition
    }

    /// The same for a store that is known to create objects conditionally.
    pub(super) fn with_checked_store(self) -> Self {
        Self {
            is_store_checked: true,
            ..self
        }
    }
}

/// Running partition.
pub(crate) struct Node {
    inputs: mpsc::UnboundedSender<Input>,
    partition: JoinHandle<()>,
    /// Weak, because the log's driver ends when the last sender is gone.
    committer: mpsc::WeakUnboundedSender<Output>,
    /// Approximate number of commits that a takeover would replay.
    tail: watch::Receiver<u64>,
    /// Tasks of the log. They end without an error only after the partition has stopped.
    committing: JoinSet<Result<(), Failure>>,
    /// All other tasks. They end only on errors.
    others: JoinSet<Result<(), Failure>>,
    /// Facts about the takeover, to show to people.
    pub(crate) recovered: Recovered,
    /// Hold of a fork that stays held.
    pub(crate) held: Option<Hold>,
}

/// Facts about a takeover.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Epoch that the takeover began; of several partitions, the latest one.
    pub epoch: u64,
    /// Number of replayed deltas.
    pub replayed: u64,
    /// Bytes of images and deltas read.
    pub bytes: u64,
}

impl Recovered {
    /// Facts about the takeovers of several partitions.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            epoch: self.epoch.max(other.epoch),
            replayed: self.replayed + other.replayed,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl Node {
    /// Takes the partition over and serves it.
    ///
    /// # Errors
    ///
    /// The durable data is damaged or belongs to another application, another process takes over
    /// meanwhile, or the store cannot be reached.
    pub(crate) async fn start(parts: NodeParts) -> Result<Self, Failure> {
        start::start(parts).await
    }

    /// Waits for a failure: the end of the epoch, the panic of a task, an egress that cannot run.
    pub(crate) async fn failed(&mut self) -> Failure {
        loop {
            let ended = tokio::select! {
                Some(ended) = self.committing.join_next() => ended,
                Some(ended) = self.others.join_next() => ended,
                ended = &mut self.partition => {
                    return match ended {
                        Err(error) => loop_failed(error),
                        Ok(()) => Failure::new(
                            Exit::Environment,
                            "the partition's loop stopped without a request to stop",
                        ),
                    };
                }
            };
            match ended {
                // An ingress ends when the partition is gone, which the branch above reports.
                Ok(Ok(())) => {}
                Ok(Err(failure)) => return failure,
                Err(error) => {
                    let context = "a task of the coordinator failed";
                    return Failure::caused(Exit::Environment, context, error);
                }
            }
        }
    }

    /// Takes a snapshot before a planned stop, if the next owner would otherwise have much to
    /// replay. The node serves meanwhile. Waits at most `limit` for the snapshot.
    pub(crate) async fn shorten_replay(&self, limit: Duration) {
        let mut tail = self.tail.clone();
        let before = *tail.borrow_and_update();
        if before < REPLAY_WORTH_SHORTENING {
            return;
        }
        let Some(committer) = self.committer.upgrade() else {
            return;
        };
        let _ = committer.send(Output::SnapshotWanted);
        drop(committer);
        let begun = Instant::now();
        let shortened = tail.wait_for(|commits| *commits < before);
        let shortened = matches!(tokio::time::timeout(limit, shortened).await, Ok(Ok(_)));
        tracing::info!(
            commits = before,
            shortened,
            took_ms = begun.elapsed().as_millis(),
            "snapshot before the stop, to shorten the next takeover"
        );
    }

    /// Stops cleanly: work in flight has `limit` to finish, then everything is made durable.
    ///
    /// # Errors
    ///
    /// The reason why it could not be made durable.
    pub(crate) async fn stop(self, limit: Duration) -> Result<(), Failure> {
        self.stop_until(tokio::time::sleep(limit)).await
    }

    /// As [`Self::stop`]: work in flight has the time until `forced`.
    pub(crate) async fn stop_until(
        mut self,
        forced: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        // The loop ends only on request, so it receives this one.
        let _ = self.inputs.send(Input::StopRequested);
        let mut forced = std::pin::pin!(forced);
        let mut is_forced = false;
        let mut stopped = false;
        while !stopped || !self.committing.is_empty() {
            tokio::select! {
                () = &mut forced, if !is_forced => {
                    is_forced = true;
                    let _ = self.inputs.send(Input::StopForced);
                }
                ended = &mut self.partition, if !stopped => {
                    stopped = true;
                    is_forced = true;
                    ended.map_err(loop_failed)?;
                }
                Some(ended) = self.committing.join_next() => match ended {
                    Ok(outcome) => outcome?,
                    Err(error) => {
                        return Err(Failure::caused(Exit::Environment, "the log failed", error));
                    }
                },
            }
        }
        Ok(())
    }
}

impl Drop for Node {
    /// Ends everything at once, as a crash would.
    fn drop(&mut self) {
        self.partition.abort();
    }
}

fn loop_failed(error: JoinError) -> Failure {
    Failure::caused(Exit::Environment, "the partition's loop failed", error)
}
