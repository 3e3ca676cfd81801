//! Start of a node: the takeover, then the tasks around the partition.
//!
//! ```text
//!  take_over ─► committer ─► egresses ─► ingresses ─► loop of the partition
//! ```

use std::sync::Arc;

use satchel_clock::BootTime;
use satchel_engine::clock::PartitionClock;
use satchel_engine::durable::Hold;
use satchel_engine::input::Input;
use satchel_engine::output::Output;
use satchel_engine::partition::{Config, Partition};
use satchel_engine::placement::Placement;
use satchel_log::{Contender, Layout, Offload, Ownership, Retry};
#[cfg(feature = "aws")]
use satchel_storage::fork::read_ahead;
use satchel_storage::fork::{refuse_filling, take_over_from, take_over_with};
use satchel_storage::placement::identity_of;
use satchel_storage::recovery::{RecoveryFold, period};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::{Node, NodeParts, Origin, Recovered};
use crate::clock::{SystemClock, reading};
use crate::egress::ownership::EpochWatch;
use crate::egress::{Egress, EgressContext, Egresses, Inherited};
use crate::error::{Exit, Failure};
use crate::ingress::Ingress;
use crate::ingress::incarnations::Incarnations;
use crate::ingress::reading::Reading;
use crate::ingress::supervise::supervise;
use crate::metrics::Metrics;
use crate::random;
use crate::readiness::Readiness;
use crate::runtime::committer::Committer;
use crate::runtime::time::{STORE, check_calendar};
use crate::runtime::{PartitionLoop, Ports, READS_WAITING_MAX};
use crate::sources::Sources;
use crate::store::unfinished::refused;

/// Starts a node, as [`Node::start`].
pub(super) async fn start(mut parts: NodeParts) -> Result<Node, Failure> {
    let TakenOver {
        partition,
        clock,
        ownership,
        identity,
        held,
        recovered,
    } = Box::pin(take_partition_over(&mut parts)).await?;
    let (inputs, received) = parts.facts;
    let mut tasks = Tasks {
        number: parts.config.partition,
        inputs: inputs.clone(),
        metrics: parts.origin.metrics.clone(),
        committing: JoinSet::new(),
        others: JoinSet::new(),
    };
    // Before anything else can send an input.
    let held = parts.hold_policy.apply(held, &inputs);
    if let Some(hold) = &held {
        tracing::warn!(
            origin = %hold.origin,
            "fork held; ingresses, timers and outbox wait for a start with --resume-io"
        );
    }
    let (committer, tail) = tasks.commit(ownership, parts.config.placement, recovered.replayed);
    let ownership = tasks.watch_ownership(&parts.origin.state.store, identity.next_epoch.clone());
    let egresses = tasks.deliver(parts.egresses, &partition, &identity, &ownership);
    let (reading, records) =
        tasks.read(parts.ingresses, &parts.sources, (&identity, &parts.origin));
    let ports = Ports {
        partition: tasks.number,
        dispatch: parts.dispatch,
        committer: committer.clone(),
        egresses,
        reading,
        requests: parts.requests,
        observations: tasks.metrics.status().observe_partition(tasks.number),
        peers: parts.peers,
        board: parts.board.clone(),
        budget: parts.budget,
        stories: parts.stories,
        metrics: parts.origin.metrics,
    };
    // Before the loop runs, which refines it to the share that is loaded.
    parts.board.show_readiness(match held {
        Some(_) => Readiness::Held,
        None => Readiness::Serving,
    });
    let partition = (partition, clock);
    let partition = PartitionLoop::new(partition, (parts.inputs, records), received, ports);
    Ok(Node {
        inputs,
        partition: tokio::spawn(partition.run()),
        committer: committer.downgrade(),
        tail,
        committing: tasks.committing,
        others: tasks.others,
        recovered,
        held,
    })
}

/// Partition that was taken over and does not run yet.
struct TakenOver {
    partition: Partition,
    clock: PartitionClock,
    ownership: Ownership,
    identity: RootIdentity,
    held: Option<Hold>,
    recovered: Recovered,
}

/// Identity of this owner, to other systems.
struct RootIdentity {
    /// Name of the root, unique forever.
    incarnation: String,
    /// Key of the next owner's claim.
    next_epoch: String,
    /// Time at which the takeover was complete.
    taken_over: BootTime,
}

async fn take_partition_over(parts: &mut NodeParts) -> Result<TakenOver, Failure> {
    let partition = parts.config.partition;
    let contender = contender(&parts.origin, &parts.config);
    let (ownership, fold, known) = match parts.ahead.take() {
        Some(ahead) => {
            let ReadAhead {
                mut fold,
                content,
                incarnation,
            } = *ahead;
            let taken_over = take_over_from(content, contender, &mut fold, offload()).await;
            (taken_over, fold, Some(incarnation))
        }
        None => {
            let board = parts.board.clone();
            let progress: Progress = Box::new(move |recovered| {
                board.show_readiness(Readiness::Starting { recovered });
            });
            let mut fold = RecoveryFold::new(parts.config.clone(), progress);
            let taken_over = take_over_with(contender, &mut fold, offload()).await;
            (taken_over, fold, None)
        }
    };
    let ownership = ownership.map_err(refused)?;
    let taken_over = BootTime::now();
    let state = &parts.origin.state;
    if !parts.is_store_checked {
        // The root is new. The check needs an object that exists, and there is one only now.
        state.check_conditional_create().await?;
    }
    check_calendar(STORE, state.calendar_ahead_ms())?;
    let recovery = fold.finish().map_err(|problem| {
        Failure::caused(Exit::Damaged, format!("partition {partition}"), problem)
    })?;
    let held = recovery.hold().cloned();
    refuse_filling(held.as_ref()).map_err(refused)?;
    let layout = Layout::new(&state.prefix, partition);
    let identity = RootIdentity {
        incarnation: match known {
            Some(incarnation) => incarnation,
            None => incarnation(&parts.origin, &layout).await?,
        },
        next_epoch: layout.epoch(ownership.owner.epoch + 1),
        taken_over,
    };
    let period = period(&ownership);
    let own_ms = recovery.own_time_ms(period.committed_at_ms);
    let mut clock = PartitionClock::start(reading(), own_ms, parts.clock_jump_max_ms);
    let now_ms = clock.read(reading());
    Ok(TakenOver {
        partition: recovery.start(period, now_ms),
        clock,
        identity,
        held,
        recovered: Recovered {
            epoch: ownership.owner.epoch,
            replayed: ownership.recovery.replayed,
            bytes: ownership.recovery.image_bytes + ownership.recovery.log_bytes,
        },
        ownership,
    })
}

/// Receiver of the share of bytes that a takeover has read.
type Progress = Box<dyn FnMut(f64) + Send>;

/// Content of a partition that was read while another process owned it.
pub(crate) struct ReadAhead {
    fold: RecoveryFold<Progress>,
    content: satchel_log::ReadAhead,
    incarnation: String,
}

impl ReadAhead {
    /// Reads a partition, which another process may own. Writes nothing.
    ///
    /// # Errors
    ///
    /// The partition cannot be read, or is being made by another process.
    #[cfg(feature = "aws")]
    pub(crate) async fn read(origin: Origin, config: Config) -> Result<Self, Failure> {
        let ignored: Progress = Box::new(|_| {});
        let mut fold = RecoveryFold::new(config.clone(), ignored);
        let contender = contender(&origin, &config);
        let content = read_ahead(&contender, &mut fold, offload());
        let content = content.await.map_err(refused)?;
        refuse_filling(fold.hold()).map_err(refused)?;
        let layout = Layout::new(&origin.state.prefix, config.partition);
        Ok(Self {
            incarnation: incarnation(&origin, &layout).await?,
            fold,
            content,
        })
    }

    /// Number of log records that were read.
    #[cfg(feature = "aws")]
    pub(crate) fn replayed(&self) -> u64 {
        self.content.replayed()
    }
}

fn contender(origin: &Origin, config: &Config) -> Contender {
    let generation = config.generation.as_ref();
    let partitions = generation.map_or(1, |generation| generation.partitions.partitions().count());
    Contender {
        store: Arc::clone(&origin.state.store),
        root: origin.state.prefix.clone(),
        identity: identity_of(
            &origin.application,
            config.placement,
            (config.partition, partitions as u32),
        ),
        nonce: random::bytes(),
        clock: Arc::new(SystemClock),
        options: origin.log,
        on_store_failure: {
            let metrics = origin.metrics.clone();
            Arc::new(move |trouble| metrics.status().store_failed(&trouble))
        },
    }
}

/// Returns the name of a root, unique forever, so that output of one root is never taken for that
/// of another. It is the hash of the record of the first epoch, which holds random bytes, is
/// written once and never deleted.
async fn incarnation(origin: &Origin, layout: &Layout) -> Result<String, Failure> {
    let io = origin.state.io(Retry {
        give_up_ms: origin.log.takeover_give_up_ms,
        ..origin.log.retry
    });
    let key = layout.epoch(1);
    match io.get(&key).await? {
        Some(bytes) => Ok(format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&bytes))),
        None => Err(Failure::new(
            Exit::Damaged,
            format!("{key} is missing; it is never deleted, so the root is damaged"),
        )),
    }
}

/// Returns the runner of long computations of the log.
fn offload() -> Offload {
    Arc::new(|work| {
        // Detached: the work delivers its result itself.
        drop(tokio::task::spawn_blocking(work));
    })
}

/// Tasks around a partition.
struct Tasks {
    /// Number of the partition.
    number: u32,
    inputs: mpsc::UnboundedSender<Input>,
    metrics: Metrics,
    committing: JoinSet<Result<(), Failure>>,
    others: JoinSet<Result<(), Failure>>,
}

impl Tasks {
    /// Runs the log. Returns the sender to it, and the approximate number of commits that a
    /// takeover would replay.
    fn commit(
        &mut self,
        ownership: Ownership,
        placement: Placement,
        replayed: u64,
    ) -> (mpsc::UnboundedSender<Output>, watch::Receiver<u64>) {
        let (log, notices, driver) = ownership.start_with(offload());
        self.committing
            .spawn(async move { Ok(driver.run().await?) });
        let (committer, outputs) = mpsc::unbounded_channel();
        let (tail, tail_length) = watch::channel(replayed);
        let commits = Committer::new(
            (self.number, placement),
            notices,
            self.inputs.clone(),
            self.metrics.clone(),
            tail,
        );
        self.committing.spawn(commits.run(log, outputs));
        (committer, tail_length)
    }

    /// Runs the watch that confirms the ownership to egresses.
    fn watch_ownership(
        &mut self,
        store: &Arc<dyn satchel_log::ObjectStore>,
        next_epoch: String,
    ) -> Arc<EpochWatch> {
        let watch = Arc::new(EpochWatch::default());
        let watching = Arc::clone(&watch).run(Arc::clone(store), next_epoch);
        self.others.spawn(async move {
            watching.await;
            // The log reports the end of the epoch.
            std::future::pending().await
        });
        watch
    }

    /// Runs the egresses.
    fn deliver(
        &mut self,
        egresses: Vec<(Arc<str>, Egress)>,
        partition: &Partition,
        identity: &RootIdentity,
        ownership: &Arc<EpochWatch>,
    ) -> Egresses {
        let mut queues = Egresses::new(self.inputs.clone(), self.metrics.clone());
        for (id, egress) in egresses {
            let inbox = queues.add(Arc::clone(&id));
            let context = EgressContext {
                writer: format!("{}-{}-{id}", identity.incarnation, self.number),
                inputs: self.inputs.clone(),
                metrics: self.metrics.clone(),
                inherited: Inherited {
                    outbox: partition.outbox_of(&id),
                    marks: partition.egress_marks(&id),
                },
                taken_over: identity.taken_over,
                ownership: Arc::clone(ownership),
                id,
            };
            self.others.spawn(egress.run(context, inbox));
        }
        queues
    }

    /// Runs the ingresses, each by itself. Returns their port to the partition, and what they read.
    fn read(
        &mut self,
        ingresses: Vec<Ingress>,
        sources: &Sources,
        (identity, origin): (&RootIdentity, &Origin),
    ) -> (Reading, mpsc::Receiver<Input>) {
        let reading = Reading::new();
        let (read, records) = mpsc::channel(READS_WAITING_MAX);
        let origin = origin.clone();
        let names = Incarnations::new(identity.incarnation.as_str(), move |partition| {
            let origin = origin.clone();
            Box::pin(async move {
                let layout = Layout::new(&origin.state.prefix, partition);
                incarnation(&origin, &layout).await
            })
        });
        for ingress in ingresses {
            let state = sources.add(ingress.source());
            let (read, reading) = (read.clone(), reading.of(ingress.id()));
            let reads = supervise(ingress, read, reading, names.clone(), state);
            self.others.spawn(Box::pin(async move {
                reads.await;
                Ok(())
            }));
        }
        (reading, records)
    }
}
