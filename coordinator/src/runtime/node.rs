//! A running partition with everything around it: takes over, serves, stops.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use satchel_aws::egress::Outlet;
use satchel_aws::egress::destination::{AwsEgress, Owner};
use satchel_aws::egress::kinesis::exactly_once::Left;
use satchel_engine::dispatcher::Dispatcher;
use satchel_engine::durable::Hold;
use satchel_engine::input::Input;
use satchel_engine::output::Output;
use satchel_engine::partition::Config;
use satchel_log::{
    Contender, ErrorKind, Identity, Io, Layout, LogError, Options, Retry, StoreError,
};
use satchel_storage::fork::{refuse_filling, take_over};
use satchel_storage::recovery::{RecoveryFold, period};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::committer::Committer;
use super::dispatch::{Destination, DispatchLoop};
use super::ownership::EpochWatch;
use super::reading::Reading;
use super::{PartitionLoop, Ports, READS_WAITING_MAX, now_ms};
use crate::cli::{Exit, Failure};
use crate::egress::aws::egress_failure;
use crate::egress::local_stream::LocalStreamEgress;
use crate::egress::{Egresses, Heard};
use crate::ingress::Ingress;
use crate::metrics::Metrics;
use crate::requests::{Readiness, Requests};
use crate::store::unfinished::refused;
use crate::store::{Opened, SystemClock};
use crate::streams::{StreamError, Streams};

/// So many commits are replayed before anybody notices.
const REPLAY_WORTH_SHORTENING: u64 = 32;

/// What a node is made of.
pub struct NodeParts {
    /// The application's name.
    pub application: String,
    /// What the partition must know.
    pub config: Config,
    /// Where the durable truth lies.
    pub state: Opened,
    /// What happens to the hold, if it is a fork that is held.
    pub on_hold: OnHold,
    /// How its log behaves.
    pub log: Options,
    /// The endpoints, in the order of the configuration's.
    pub destinations: Vec<Destination>,
    /// What is read.
    pub ingresses: Vec<Ingress>,
    /// Where egresses write that are not to AWS.
    pub streams: Streams,
    /// The egresses to AWS, by id.
    pub aws_egresses: HashMap<Arc<str>, AwsEgress>,
    /// What is counted.
    pub metrics: Metrics,
    /// Those who ask.
    pub requests: Requests,
    /// What they ask.
    pub inputs: mpsc::Receiver<Input>,
    /// Where it is told how far the start has come.
    pub readiness: watch::Sender<Readiness>,
}

/// What happens to a fork that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnHold {
    /// It stays so.
    #[default]
    Stay,
    /// Its ingresses, timers and outbox go on.
    Resume,
    /// The same, and what the outbox holds is forgotten.
    ResumeWithoutOutbox,
}

/// A running partition.
pub struct Node {
    facts: mpsc::UnboundedSender<Input>,
    partition: JoinHandle<()>,
    /// Weak, because the log's side ends when nobody can ask it for anything any more.
    committer: mpsc::WeakUnboundedSender<Output>,
    /// About how many commits a takeover would replay.
    tail: watch::Receiver<u64>,
    /// The log's side; ends well only after the partition has stopped.
    committing: JoinSet<Result<(), Failure>>,
    /// Everything else; none of it ends by itself unless something is wrong.
    others: JoinSet<Result<(), Failure>>,
    /// What the takeover found, for a line on the screen.
    pub recovered: Recovered,
    /// The hold, if it is a fork that stays held.
    pub held: Option<Hold>,
}

/// What a takeover found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// The ownership period that begins.
    pub epoch: u64,
    /// Deltas replayed.
    pub replayed: u64,
    /// Bytes of images and deltas read.
    pub bytes: u64,
}

impl Node {
    /// Takes the partition over and serves it.
    ///
    /// # Errors
    ///
    /// What the durable data or the environment is refused for.
    pub async fn start(parts: NodeParts) -> Result<Self, Failure> {
        let partition = parts.config.partition;
        let buckets = parts.config.buckets;
        let (store, root) = (&parts.state.store, &parts.state.prefix);
        let layout = Layout::new(root, partition);
        let readiness = parts.readiness;
        let patience = Retry {
            give_up_ms: parts.log.takeover_give_up_ms,
            ..parts.log.retry
        };
        let checked = parts
            .state
            .check_conditional_create()
            .await
            .map_err(unfit)?;
        let mut fold = RecoveryFold::new(parts.config.clone(), |recovered| {
            readiness.send_replace(Readiness::Starting { recovered });
        });
        let ownership = take_over(
            Contender {
                store: Arc::clone(store),
                root: root.clone(),
                identity: Identity {
                    application: parts.application.clone(),
                    partition,
                    partitions: 1,
                    buckets,
                },
                nonce: random(),
                clock: Arc::new(SystemClock),
                options: parts.log,
                on_store_failure: Arc::new(|trouble| {
                    tracing::warn!(error = %trouble.error, "the store did not answer well; the request is repeated");
                }),
            },
            &mut fold,
        )
        .await
        .map_err(refused)?;
        let taken_over = Instant::now();
        if !checked {
            // The root is new: only now is there something to try it on.
            let checked = parts.state.check_conditional_create().await;
            checked.map_err(unfit)?;
        }
        let recovery = fold.finish().map_err(|problem| {
            Failure::new(Exit::Damaged, format!("partition {partition}: {problem}"))
        })?;
        let held = recovery.hold().cloned();
        refuse_filling(held.as_ref()).map_err(refused)?;
        let recovered = Recovered {
            epoch: ownership.owner.epoch,
            replayed: ownership.recovery.replayed,
            bytes: ownership.recovery.image_bytes + ownership.recovery.log_bytes,
        };
        let engine = recovery.start(period(&ownership), now_ms());
        let incarnation = incarnation(&parts.state.io(patience), &layout).await?;

        let (facts, facts_receiver) = mpsc::unbounded_channel();
        let held = lift(parts.on_hold, held, &facts);
        let (log, notices, driver) = ownership.start_with(Arc::new(|work| {
            // It is not waited for: what it makes comes back by itself.
            drop(tokio::task::spawn_blocking(work));
        }));
        let mut committing = JoinSet::new();
        committing.spawn(async move { driver.run().await.map_err(log_failure) });
        let (committer, outputs) = mpsc::unbounded_channel();
        let weak_committer = committer.downgrade();
        let tail = watch::Sender::new(recovered.replayed);
        let tail_length = tail.subscribe();
        let commits = Committer::new(
            (partition, buckets),
            notices,
            facts.clone(),
            parts.metrics.clone(),
            tail,
        );
        committing.spawn(commits.run(log, outputs));

        let mut others = JoinSet::new();
        let (dispatch, dispatch_commands) = mpsc::unbounded_channel();
        let dispatching = DispatchLoop {
            dispatcher: Dispatcher::new(
                parts.config.endpoints.clone(),
                u64::from_le_bytes(random()),
            ),
            destinations: parts.destinations,
            partitions: vec![facts.clone()],
            metrics: parts.metrics.clone(),
        };
        let returned = dispatch.clone();
        others.spawn(async move {
            dispatching.run(dispatch_commands, returned).await;
            Ok(())
        });

        let watch = Arc::new(EpochWatch::default());
        let looking = Arc::clone(&watch).run(Arc::clone(store), layout.epoch(recovered.epoch + 1));
        // It ends when the epoch does, which the log tells everybody.
        others.spawn(async move {
            looking.await;
            std::future::pending().await
        });
        let mut egresses = Egresses::new(facts.clone(), parts.metrics.clone());
        for id in &parts.config.egresses {
            let Heard { emissions, noted } = egresses.add(Arc::clone(id));
            if let Some(egress) = parts.aws_egresses.get(id) {
                let owner = Owner {
                    writer: format!("{incarnation}-{partition}-{id}"),
                    left: Left {
                        numbers: engine.outbox_of(id),
                        marks: engine.egress_marks(id),
                    },
                    taken_over,
                    ownership: Arc::clone(&watch) as Arc<_>,
                    noted,
                };
                let outlet = Outlet {
                    id: Arc::clone(id),
                    facts: facts.clone(),
                    observer: Arc::new(parts.metrics.clone()),
                    seed: u64::from_le_bytes(random()),
                };
                let running = egress.clone().run(outlet, owner, emissions);
                others.spawn(async move { running.await.map_err(egress_failure) });
                continue;
            }
            let egress = LocalStreamEgress {
                id: Arc::clone(id),
                producer: format!("{incarnation}-{partition}-{id}"),
                streams: parts.streams.clone(),
                facts: facts.clone(),
                metrics: parts.metrics.clone(),
            };
            others.spawn(async move { egress.run(emissions).await.map_err(stream_failure) });
        }
        let reading = Reading::new();
        let (read, records) = mpsc::channel(READS_WAITING_MAX);
        for ingress in parts.ingresses {
            let (read, reading) = (read.clone(), reading.clone());
            let incarnation = incarnation.clone();
            others.spawn(async move { ingress.run(read, reading, &incarnation).await });
        }
        drop(read);

        let ports = Ports {
            partition,
            dispatch,
            committer,
            egresses,
            reading,
            requests: parts.requests,
            readiness: readiness.clone(),
            metrics: parts.metrics,
        };
        let partition_loop =
            PartitionLoop::new(engine, (parts.inputs, records), facts_receiver, ports);
        // Before the loop runs, which tells how much is loaded.
        readiness.send_replace(if held.is_some() {
            Readiness::Held
        } else {
            Readiness::Serving
        });
        let partition = tokio::spawn(partition_loop.run());
        Ok(Self {
            facts,
            partition,
            committer: weak_committer,
            tail: tail_length,
            committing,
            others,
            recovered,
            held,
        })
    }

    /// Waits for something to go wrong: the epoch to end, a stream to be damaged, a task to panic.
    pub async fn failed(&mut self) -> Failure {
        loop {
            let ended = tokio::select! {
                Some(ended) = self.committing.join_next() => ended,
                Some(ended) = self.others.join_next() => ended,
                ended = &mut self.partition => {
                    let how = ended.err().map_or("it stopped by itself".to_owned(), |error| error.to_string());
                    return Failure::new(Exit::Environment, format!("the partition's loop ended: {how}"));
                }
            };
            match ended {
                // An ingress ends well when the partition is gone, which the branch above tells.
                Ok(Ok(())) => {}
                Ok(Err(failure)) => return failure,
                Err(error) => {
                    return Failure::new(
                        Exit::Environment,
                        format!("a task of the coordinator ended: {error}"),
                    );
                }
            }
        }
    }

    /// Before a planned stop, while everything is still served: sees to it that the next owner has little to replay, for `limit` at the longest.
    pub async fn shorten_replay(&self, limit: Duration) {
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
            "a snapshot was taken, so that the next owner has less to replay"
        );
    }

    /// Stops in an orderly way: what is in flight may finish within `limit`, then everything is made durable.
    ///
    /// # Errors
    ///
    /// Why it could not be made durable.
    pub async fn stop(mut self, limit: Duration) -> Result<(), Failure> {
        // The loop ends only when told, so it hears this.
        let _ = self.facts.send(Input::StopRequested);
        let facts = self.facts.clone();
        let forcing = tokio::spawn(async move {
            tokio::time::sleep(limit).await;
            let _ = facts.send(Input::StopForced);
        });
        let mut stopped = false;
        while !stopped || !self.committing.is_empty() {
            tokio::select! {
                ended = &mut self.partition, if !stopped => {
                    stopped = true;
                    forcing.abort();
                    if let Err(error) = ended {
                        return Err(Failure::new(Exit::Environment, format!("the partition's loop ended: {error}")));
                    }
                }
                Some(ended) = self.committing.join_next() => match ended {
                    Ok(outcome) => outcome?,
                    Err(error) => return Err(Failure::new(Exit::Environment, format!("the log ended: {error}"))),
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

/// The first fact that the partition is told, if its hold is to be lifted. Returns the hold that stays.
fn lift(on_hold: OnHold, held: Option<Hold>, facts: &mpsc::UnboundedSender<Input>) -> Option<Hold> {
    let drop_outbox = match on_hold {
        OnHold::Stay => return held,
        OnHold::Resume => false,
        OnHold::ResumeWithoutOutbox => true,
    };
    if let Some(hold) = held {
        tracing::info!(origin = %hold.origin, drop_outbox, "this fork goes on by itself from now on: its hold is lifted");
        // The loop that receives it begins below.
        let _ = facts.send(Input::HoldLifted { drop_outbox });
    }
    None
}

/// Names this root for ever, so that what one root sent is never taken for what another one sends: its first epoch's record, which holds
/// random bytes, is written once and never deleted.
async fn incarnation(io: &Io, layout: &Layout) -> Result<String, Failure> {
    let key = layout.epoch(1);
    match io.get(&key).await.map_err(unfit)? {
        Some(bytes) => Ok(format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&bytes))),
        None => Err(Failure::new(
            Exit::Damaged,
            format!("{key} is missing: it is never deleted"),
        )),
    }
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .expect("an operating system without random bytes can not fence a former owner");
    bytes
}

fn unfit(error: StoreError) -> Failure {
    log_failure(error.into())
}

/// How a process ends for the sake of the durable state.
#[allow(clippy::needless_pass_by_value, reason = "what `map_err` takes")]
pub(crate) fn log_failure(error: LogError) -> Failure {
    let exit = match error.kind() {
        ErrorKind::Fenced => Exit::Fenced,
        ErrorKind::Refused => Exit::Damaged,
        ErrorKind::Environment => Exit::Environment,
        ErrorKind::Bug => Exit::Environment,
    };
    let message = match exit {
        Exit::Fenced => {
            format!("another process took this application over, so this one stops: {error}")
        }
        _ => format!("the durable state: {error}"),
    };
    Failure::new(exit, message)
}

/// How a process ends for the sake of a stream.
#[allow(clippy::needless_pass_by_value, reason = "what `map_err` takes")]
pub(crate) fn stream_failure(error: StreamError) -> Failure {
    let exit = if error.is_damage() || error.is_refusal() {
        Exit::Damaged
    } else {
        Exit::Environment
    };
    Failure::new(exit, error.to_string())
}
