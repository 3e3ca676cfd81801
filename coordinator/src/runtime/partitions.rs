//! The partitions of an application in this process, and what they share.
//!
//! ```text
//!                   ┌─ node 0: partition, log, egresses, ingresses ─┐
//!  requests ─route──┤        │ frames, over memory (switch)         ├─ batches ─► dispatcher
//!                   └─ node 1: partition, log, egresses, ingresses ─┘
//! ```
//!
//! Each partition has a node: a loop, a log, egresses, and the ingresses whose home it is. The
//! partitions share the dispatcher with its connections, the limits of memory and of pending
//! messages, and the ports of the process. A stream or queue has its home in the partition of the
//! MD5 of its name. Its records for other partitions go over the links.

use std::sync::Arc;
use std::time::Duration;

use satchel_engine::dispatcher::{Dispatcher, DispatcherInput};
use satchel_engine::durable::Hold;
use satchel_engine::endpoint::Endpoints;
use satchel_engine::input::Input;
use satchel_engine::output::Stoppages;
use satchel_engine::partition::{Config, Generation};
use satchel_log::Options;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::INPUTS_WAITING_MAX;
use super::board::Board;
use super::dispatch::{Destination, DispatchLoop};
use super::hold::HoldPolicy;
use super::node::{Node, NodeParts, Recovered};
use super::switch::Switch;
use super::time::{STORE, check_calendar};
use crate::egress::Egress;
use crate::error::{Exit, Failure};
use crate::ingress::Ingress;
use crate::metrics::Metrics;
use crate::random;
use crate::readiness::Readiness;
use crate::requests::Requests;
use crate::sources::Sources;
use crate::status::report_suppressed;
use crate::store::{AskedPlacement, Division, StateStore};

/// Parts of an application that is about to run.
pub struct ApplicationParts {
    /// Name of the application.
    pub application: String,
    /// Configuration of all partitions together. Numbers, placement, generation, egresses and
    /// ingresses are added to it.
    pub config: Config,
    /// Placement and number of partitions that a new root gets, and that an existing one must have
    /// as far as they are asked for.
    pub placement: AskedPlacement,
    /// Store of the durable state.
    pub state: StateStore,
    /// Treatment of the hold, if the application is a held fork.
    pub hold_policy: HoldPolicy,
    /// Options of the log.
    pub log: Options,
    /// Maximum jump of the calendar that the process follows while it runs, in ms.
    pub clock_jump_max_ms: u64,
    /// Endpoints, in the order of those in `config`.
    pub destinations: Vec<Destination>,
    /// Ingresses.
    pub ingresses: Vec<Ingress>,
    /// Egresses by id, `namespace/name`.
    pub egresses: Vec<(Arc<str>, Egress)>,
    /// State of the ingresses' sources.
    pub sources: Sources,
    /// Metrics of the process.
    pub metrics: Metrics,
    /// Pending requests from outside.
    pub requests: Requests,
    /// Inputs that these requests make for partition 0.
    pub inputs: mpsc::Receiver<Input>,
    /// Readiness of the process.
    pub readiness: watch::Sender<Readiness>,
    /// Functions and ingresses that stand still.
    pub stoppages: watch::Sender<Stoppages>,
}

/// Running partitions of an application.
pub struct Partitions {
    nodes: Vec<Node>,
    /// Tasks that all partitions share. They end only on errors.
    shared: JoinSet<()>,
    /// Facts about the takeover of all partitions, to show to people.
    pub recovered: Recovered,
    /// Hold of a fork that stays held.
    pub held: Option<Hold>,
}

/// Queue of the results of a partition's own outputs: both ends.
type Facts = (mpsc::UnboundedSender<Input>, mpsc::UnboundedReceiver<Input>);

impl Partitions {
    /// Takes all partitions over and serves them.
    ///
    /// # Errors
    ///
    /// The durable data is damaged or belongs to another application, another process takes over
    /// meanwhile, or the store cannot be reached.
    pub async fn start(mut parts: ApplicationParts) -> Result<Self, Failure> {
        let (is_checked, division) = tokio::join!(
            parts.state.check_conditional_create(),
            parts.state.division(parts.placement),
        );
        // A store that refuses requests because of a wrong clock says so less clearly.
        check_calendar(STORE, parts.state.calendar_ahead_ms())?;
        let (is_checked, division) = (is_checked?, division?);
        let generation = division.generation();
        if generation.is_some() {
            refuse_several_writers(&parts.egresses)?;
        }
        complete(&mut parts, division, generation.as_ref());
        let count = usize::from(division.partitions);
        let facts: Vec<Facts> = (0..count).map(|_| mpsc::unbounded_channel()).collect();
        let senders: Vec<_> = facts.iter().map(|(sender, _)| sender.clone()).collect();
        let switch = generation.map(|_| Switch::new(senders.clone()));
        let mut shared = JoinSet::new();
        let endpoints = parts.config.endpoints.clone();
        let destinations = std::mem::take(&mut parts.destinations);
        let dispatch = dispatch(
            &mut shared,
            (endpoints, destinations),
            (senders, parts.metrics.clone()),
        );
        let status = parts.metrics.status().clone();
        shared.spawn(report_suppressed(status));
        let all = split(parts, is_checked, &dispatch, (facts, switch.as_ref()));
        let nodes = start_all(all).await?;
        if let Some(switch) = switch {
            switch.connect_all();
        }
        let recovered = nodes.iter().map(|node| node.recovered);
        let recovered = recovered.reduce(Recovered::and).unwrap_or_default();
        let held = nodes.iter().find_map(|node| node.held.clone());
        Ok(Self {
            nodes,
            shared,
            recovered,
            held,
        })
    }

    /// Waits for a failure: the end of an epoch, the panic of a task, an egress that cannot run.
    pub async fn failed(&mut self) -> Failure {
        let failures = self.nodes.iter_mut().map(|node| Box::pin(node.failed()));
        tokio::select! {
            (failure, _, _) = futures::future::select_all(failures) => failure,
            Some(ended) = self.shared.join_next() => {
                let context = "a task of the coordinator failed";
                match ended {
                    Ok(()) => Failure::new(Exit::Environment, context),
                    Err(error) => Failure::caused(Exit::Environment, context, error),
                }
            }
        }
    }

    /// Takes snapshots before a planned stop, where the next owner would otherwise have much to
    /// replay. The partitions serve meanwhile. Waits at most `limit`.
    pub async fn shorten_replay(&self, limit: Duration) {
        let nodes = self.nodes.iter().map(|node| node.shorten_replay(limit));
        futures::future::join_all(nodes).await;
    }

    /// Stops cleanly: work in flight has `limit` to finish, then everything is made durable.
    ///
    /// # Errors
    ///
    /// The reason why a partition could not be made durable.
    pub async fn stop(self, limit: Duration) -> Result<(), Failure> {
        let stopping = self.nodes.into_iter().map(|node| node.stop(limit));
        let stopped = futures::future::join_all(stopping).await;
        stopped.into_iter().collect()
    }
}

/// Adds to the configuration what the root and the adapters say, and divides the limits of the
/// process among the partitions.
fn complete(parts: &mut ApplicationParts, division: Division, generation: Option<&Generation>) {
    let ids = parts.egresses.iter().map(|(id, _)| Arc::clone(id));
    parts.config.egresses = ids.collect();
    let ids = parts.ingresses.iter().map(|ingress| ingress.id());
    parts.config.ingresses = ids.map(Arc::from).collect();
    parts.config.placement = division.placement;
    parts.config.generation = generation.cloned();
    let share = |limit: usize| (limit / usize::from(division.partitions)).max(1);
    let config = &mut parts.config;
    config.pending_bytes_max = share(config.pending_bytes_max);
    config.dead_letter_bytes_max = share(config.dead_letter_bytes_max);
    config.memory_limit_bytes = config.memory_limit_bytes.map(share);
}

/// Refuses egresses that find their own records again by key and content, which two partitions may
/// share.
fn refuse_several_writers(egresses: &[(Arc<str>, Egress)]) -> Result<(), Failure> {
    match egresses
        .iter()
        .find(|(_, egress)| egress.needs_one_writer())
    {
        Some((id, _)) => Err(Failure::usage(format!(
            "the egress {id} delivers exactly once to Kinesis and finds its records by their \
             content, for which the application must have one partition: use `envelope: json`, \
             `delivery: at-least-once`, or a root of one partition"
        ))),
        None => Ok(()),
    }
}

/// Runs the dispatcher for the partitions that receive from `senders`.
fn dispatch(
    tasks: &mut JoinSet<()>,
    (endpoints, destinations): (Endpoints, Vec<Destination>),
    (partitions, metrics): (Vec<mpsc::UnboundedSender<Input>>, Metrics),
) -> mpsc::UnboundedSender<DispatcherInput> {
    let (dispatch, commands) = mpsc::unbounded_channel();
    let seed = u64::from_le_bytes(random::bytes());
    let dispatching = DispatchLoop {
        dispatcher: Dispatcher::new(endpoints, seed),
        destinations,
        partitions,
        metrics,
    };
    tasks.spawn(dispatching.run(commands, dispatch.clone()));
    dispatch
}

/// Gives each partition its parts, and lets requests find them all.
fn split(
    parts: ApplicationParts,
    is_store_checked: bool,
    dispatch: &mpsc::UnboundedSender<DispatcherInput>,
    (facts, switch): (Vec<Facts>, Option<&Switch>),
) -> Vec<NodeParts> {
    let shown = (parts.readiness, parts.stoppages);
    let board = Board::new(facts.len(), shown, parts.metrics.clone());
    let mut inputs = vec![parts.inputs];
    let mut others = Vec::new();
    for _ in 1..facts.len() {
        let (sender, receiver) = mpsc::channel(INPUTS_WAITING_MAX);
        others.push(sender);
        inputs.push(receiver);
    }
    if !others.is_empty() {
        parts.requests.divide(parts.config.clone(), others);
    }
    let mut ingresses: Vec<Vec<Ingress>> = facts.iter().map(|_| Vec::new()).collect();
    for ingress in parts.ingresses {
        let home = home_of(&parts.config, &ingress.source().name);
        ingresses[home as usize].push(ingress);
    }
    let queues = facts.into_iter().zip(inputs).zip(ingresses);
    let nodes = (0..).zip(queues);
    nodes
        .map(|(number, ((facts, inputs), ingresses))| NodeParts {
            application: parts.application.clone(),
            config: Config {
                partition: number,
                ..parts.config.clone()
            },
            state: parts.state.clone(),
            is_store_checked: is_store_checked || number > 0,
            hold_policy: parts.hold_policy,
            log: parts.log,
            clock_jump_max_ms: parts.clock_jump_max_ms,
            dispatch: dispatch.clone(),
            facts,
            ingresses,
            egresses: parts.egresses.clone(),
            sources: parts.sources.clone(),
            metrics: parts.metrics.clone(),
            requests: parts.requests.clone(),
            inputs,
            peers: switch.map(|switch| switch.port(number)),
            board: board.place(number as usize),
        })
        .collect()
}

/// Partition that reads a source.
fn home_of(config: &Config, source: &str) -> u32 {
    let key_group = config.placement.key_group_of_id(source);
    let generation = config.generation.as_ref();
    generation.map_or(0, |generation| {
        generation.partitions.partition_of(key_group)
    })
}

/// Starts all nodes: the first one, which makes a new root, then the others at once.
async fn start_all(all: Vec<NodeParts>) -> Result<Vec<Node>, Failure> {
    let mut all = all.into_iter();
    let mut nodes = Vec::new();
    if let Some(first) = all.next() {
        nodes.push(Node::start(first).await?);
    }
    let others = all.map(|parts| Box::pin(Node::start(parts)));
    nodes.extend(futures::future::try_join_all(others).await?);
    Ok(nodes)
}

#[cfg(all(test, feature = "aws"))]
mod tests {
    use std::collections::BTreeSet;

    use satchel_aws::config::AwsAccess;
    use satchel_aws::egress::destination::{AwsEgress, Delivery, Destination};
    use satchel_aws::egress::kinesis::KinesisSettings;
    use satchel_aws::egress::kinesis::envelope::Envelope;
    use satchel_engine::placement::PartitionMap;

    use super::*;
    use crate::egress::local_record::RecordForm;
    use crate::egress::local_stream::LocalStreamEgress;
    use satchel_local_streams::Streams;

    fn kinesis(delivery: Delivery, envelope: Envelope) -> (Arc<str>, Egress) {
        let settings = KinesisSettings {
            envelope,
            ..KinesisSettings::default()
        };
        let egress = AwsEgress {
            access: AwsAccess::default(),
            destination: Destination::Kinesis(settings, delivery),
        };
        ("example/out".into(), Egress::Aws(Box::new(egress)))
    }

    #[test]
    fn an_egress_that_finds_its_records_by_content_needs_one_partition() {
        let local = Egress::LocalStream(LocalStreamEgress {
            streams: Streams::ephemeral(),
            form: RecordForm::Kinesis,
        });
        let local: (Arc<str>, Egress) = ("example/local".into(), local);
        let others = [
            local.clone(),
            kinesis(Delivery::AtLeastOnce, Envelope::None),
            kinesis(Delivery::ExactlyOnce, Envelope::Json),
        ];
        assert!(refuse_several_writers(&others).is_ok());
        let by_content = kinesis(Delivery::ExactlyOnce, Envelope::None);
        let refused = refuse_several_writers(&[local, by_content]);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("the egress example/out"), "{refused}");
        assert!(refused.contains("one partition"), "{refused}");
    }

    #[test]
    fn a_source_has_the_partition_of_its_name() {
        let config = Config {
            generation: Some(Generation {
                number: 1,
                partitions: PartitionMap::even(1_024, 4),
            }),
            ..Config::default()
        };
        let names = (0..64).map(|number| format!("stream-{number}"));
        let homes: BTreeSet<u32> = names.map(|name| home_of(&config, &name)).collect();
        assert_eq!(homes, (0..4).collect());
        assert_eq!(home_of(&Config::default(), "stream-1"), 0);
    }
}
