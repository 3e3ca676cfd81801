//! The partitions of an application in this process, and what they share. They are all partitions,
//! or some of them if several processes share the application.
//!
//! ```text
//!                   ┌─ node 0: partition, log, egresses, ingresses ─┐
//!  requests ─route──┤        │ frames, over memory (switch)         ├─ batches ─► dispatcher
//!                   └─ node 1: partition, log, egresses, ingresses ─┘
//! ```
//!
//! Each partition has a node: a loop, a log, egresses, and the ingresses whose home it is. The
//! partitions share the dispatcher with its connections, the limits of memory, of pending messages
//! and of commits (`budget`), and the ports of the process. A stream or queue has its home in the
//! partition of the MD5 of its name. The home of a Kinesis stream hands each shard to the partition
//! of its keys. Records for other partitions go over the links.

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
use super::budget::Budget;
use super::dispatch::{Destination, DispatchLoop};
use super::hold::HoldPolicy;
use super::inboxes::Inboxes;
use super::node::{Node, NodeParts, Origin, ReadAhead, Recovered};
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
use crate::stories::Stories;

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
    /// Stories of messages, if they are kept.
    pub(crate) stories: Option<Stories>,
    /// Metrics of the process.
    pub metrics: Metrics,
    /// Pending requests from outside.
    pub requests: Requests,
    /// Readiness of the process.
    pub readiness: watch::Sender<Readiness>,
    /// Functions and ingresses that stand still.
    pub stoppages: watch::Sender<Stoppages>,
}

/// Place of partitions: what those that run in this process share.
///
/// Dropping it ends the dispatcher, as a crash would.
pub struct Host {
    /// Parts of every node but for its number and its queues.
    template: ApplicationParts,
    division: Division,
    /// True once the store is known to create objects conditionally.
    is_store_checked: bool,
    inboxes: Inboxes,
    switch: Option<Switch>,
    /// Limits of the process, if the application has several partitions.
    budget: Option<Budget>,
    board: Arc<Board>,
    dispatch: mpsc::UnboundedSender<DispatcherInput>,
    /// Tasks that all partitions share. They end only on errors.
    shared: JoinSet<()>,
}

impl Host {
    /// Opens the store and runs the dispatcher. Nothing is taken over yet. `is_spread` says that
    /// other processes run some of the partitions.
    ///
    /// # Errors
    ///
    /// The root has another division than the one that was asked for, an egress needs one
    /// partition, or the store cannot be reached.
    pub(crate) async fn open(
        mut parts: ApplicationParts,
        is_spread: bool,
    ) -> Result<Self, Failure> {
        let (is_checked, division) = tokio::join!(
            parts.state.check_conditional_create(),
            parts.state.division(parts.placement),
        );
        // A store that refuses requests because of a wrong clock says so less clearly.
        check_calendar(STORE, parts.state.calendar_ahead_ms())?;
        let (is_store_checked, division) = (is_checked?, division?);
        let generation = division.generation();
        if generation.is_some() {
            refuse_several_writers(&parts.egresses)?;
        }
        complete(&mut parts, division, generation.as_ref());
        let count = usize::from(division.partitions);
        let inboxes = Inboxes::new(count);
        let switch = generation.is_some().then(|| Switch::new(inboxes.clone()));
        let budget = generation
            .is_some()
            .then(|| Budget::new(parts.config.limits(), count, inboxes.clone()));
        if generation.is_some() {
            parts.requests.divide(parts.config.clone());
        }
        let mut shared = JoinSet::new();
        let endpoints = parts.config.endpoints.clone();
        let destinations = std::mem::take(&mut parts.destinations);
        let dispatch = dispatch(
            &mut shared,
            (endpoints, destinations),
            inboxes.clone(),
            (parts.metrics.clone(), parts.stories.clone()),
        );
        let status = parts.metrics.status().clone();
        shared.spawn(report_suppressed(status));
        let shown = (parts.readiness.clone(), parts.stoppages.clone());
        let board = Board::new((count, is_spread), shown, parts.metrics.clone());
        Ok(Self {
            template: parts,
            division,
            is_store_checked,
            inboxes,
            switch,
            budget,
            board,
            dispatch,
            shared,
        })
    }

    /// Number of partitions of the application.
    pub(crate) fn partitions(&self) -> u32 {
        self.division.partitions.into()
    }

    /// Switch of the partitions, if there are several.
    #[cfg(feature = "aws")]
    pub(crate) fn switch(&self) -> Option<&Switch> {
        self.switch.as_ref()
    }

    /// Notes that this process answers requests, also about partitions of other processes.
    #[cfg(feature = "aws")]
    pub(crate) fn show_member(&self) {
        self.board.show_member();
    }

    /// Notes that this number of partitions runs in this process: the others use the rest of the
    /// concurrency of endpoints.
    #[cfg(feature = "aws")]
    pub(crate) fn share(&self, owned: usize) {
        let owned = u32::try_from(owned).unwrap_or(u32::MAX);
        let of = self.partitions();
        let _ = self
            .dispatch
            .send(DispatcherInput::ShareChanged { owned, of });
    }

    /// Makes the parts of a partition, and sends inputs and requests for it to them. `ahead` is
    /// what was read of it before.
    pub(crate) fn prepare(&self, number: u32, ahead: Option<Box<ReadAhead>>) -> NodeParts {
        let parts = &self.template;
        let facts: Facts = mpsc::unbounded_channel();
        self.inboxes.put(number, facts.0.clone());
        let mut config = self.config(number);
        if let Some(budget) = &self.budget {
            let limits = budget.join(number);
            config.limit(limits);
        }
        let (sender, inputs) = mpsc::channel(INPUTS_WAITING_MAX);
        parts.requests.attach(number, sender);
        NodeParts {
            origin: self.origin(),
            config,
            ahead,
            is_store_checked: self.is_store_checked,
            hold_policy: parts.hold_policy,
            clock_jump_max_ms: parts.clock_jump_max_ms,
            dispatch: self.dispatch.clone(),
            facts,
            ingresses: self.ingresses_of(number).collect(),
            egresses: parts.egresses.clone(),
            sources: parts.sources.clone(),
            stories: parts.stories.clone(),
            requests: parts.requests.clone(),
            inputs,
            peers: self.switch.as_ref().map(|switch| switch.port(number)),
            board: self.board.place(number as usize),
            budget: self.budget.as_ref().map(|budget| budget.of(number)),
        }
    }

    /// Reads a partition, which another process owns, as far as it is durable.
    #[cfg(feature = "aws")]
    pub(crate) fn read_ahead(
        &self,
        number: u32,
    ) -> impl Future<Output = Result<ReadAhead, Failure>> + Send + 'static {
        ReadAhead::read(self.origin(), self.config(number))
    }

    fn origin(&self) -> Origin {
        let parts = &self.template;
        Origin {
            application: parts.application.clone(),
            state: parts.state.clone(),
            log: parts.log,
            metrics: parts.metrics.clone(),
        }
    }

    fn config(&self, number: u32) -> Config {
        Config {
            partition: number,
            ..self.template.config.clone()
        }
    }

    /// Connects a partition of this process, which serves, with the others.
    pub(crate) fn arrive(&self, number: u32) {
        if let Some(switch) = &self.switch {
            switch.arrive(number);
        }
    }

    /// Forgets a partition that has left this process, or could not start.
    #[cfg(feature = "aws")]
    pub(crate) fn leave(&self, number: u32) {
        if let Some(switch) = &self.switch {
            switch.leave(number);
        }
        let parts = &self.template;
        parts.requests.detach(number);
        self.inboxes.remove(number);
        // A dispatcher that has ended reports that itself.
        let _ = self.dispatch.send(DispatcherInput::PartitionLeft(number));
        parts.metrics.status().forget_partition(number);
        for ingress in self.ingresses_of(number) {
            parts.sources.remove(&ingress.source());
        }
        self.board.leave(number as usize);
        if let Some(budget) = &self.budget {
            budget.leave(number);
        }
    }

    /// Ingresses of a partition: those whose home it is, and those that may hand shards to it.
    fn ingresses_of(&self, number: u32) -> impl Iterator<Item = Ingress> {
        let parts = &self.template;
        let ingresses = parts.ingresses.iter();
        ingresses.filter_map(move |it| {
            let home = parts.config.home_of(&it.source().name);
            match home == number {
                true => Some(it.clone()),
                false => it.handed_to(number, home),
            }
        })
    }

    /// Waits for the end of a task that all partitions share: a failure.
    pub(crate) async fn failed(&mut self) -> Failure {
        let Some(ended) = self.shared.join_next().await else {
            return std::future::pending().await;
        };
        let context = "a task of the coordinator failed";
        match ended {
            Ok(()) => Failure::new(Exit::Environment, context),
            Err(error) => Failure::caused(Exit::Environment, context, error),
        }
    }
}

/// Running partitions of an application, all in this process.
pub struct Partitions {
    nodes: Vec<Node>,
    host: Host,
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
    pub async fn start(parts: ApplicationParts) -> Result<Self, Failure> {
        let mut host = Host::open(parts, false).await?;
        let all = (0..host.partitions()).map(|number| host.prepare(number, None));
        let mut all: std::vec::IntoIter<NodeParts> = all.collect::<Vec<_>>().into_iter();
        let mut nodes = Vec::new();
        // The first one makes a new root.
        if let Some(first) = all.next() {
            nodes.push(Node::start(first).await?);
            host.is_store_checked = true;
        }
        let others = all.map(|parts| Box::pin(Node::start(parts.with_checked_store())));
        nodes.extend(futures::future::try_join_all(others).await?);
        (0..host.partitions()).for_each(|number| host.arrive(number));
        let recovered = nodes.iter().map(|node| node.recovered);
        let recovered = recovered.reduce(Recovered::and).unwrap_or_default();
        let held = nodes.iter().find_map(|node| node.held.clone());
        Ok(Self {
            nodes,
            host,
            recovered,
            held,
        })
    }

    /// Waits for a failure: the end of an epoch, the panic of a task, an egress that cannot run.
    pub async fn failed(&mut self) -> Failure {
        let failures = self.nodes.iter_mut().map(|node| Box::pin(node.failed()));
        tokio::select! {
            (failure, _, _) = futures::future::select_all(failures) => failure,
            failure = self.host.failed() => failure,
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

/// Adds to the configuration what the root and the adapters say, and divides the limits of dead
/// letters and of messages to other partitions among the partitions. Those that are shared by need
/// come from the budget. A partition that has little of them must not pause all others.
fn complete(parts: &mut ApplicationParts, division: Division, generation: Option<&Generation>) {
    let ids = parts.egresses.iter().map(|(id, _)| Arc::clone(id));
    parts.config.egresses = ids.collect();
    let ids = parts.ingresses.iter().map(|ingress| ingress.id());
    parts.config.ingresses = ids.map(Arc::from).collect();
    parts.config.placement = division.placement;
    parts.config.generation = generation.cloned();
    let config = &mut parts.config;
    let share = config.dead_letter_bytes_max / usize::from(division.partitions);
    config.dead_letter_bytes_max = share.max(1);
    let share = config.pending_bytes_max / usize::from(division.partitions);
    config.peer_bytes_max = generation.map(|_| share.max(1));
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

/// Runs the dispatcher for the partitions that receive from these queues.
fn dispatch(
    tasks: &mut JoinSet<()>,
    (endpoints, destinations): (Endpoints, Vec<Destination>),
    partitions: Inboxes,
    (metrics, stories): (Metrics, Option<Stories>),
) -> mpsc::UnboundedSender<DispatcherInput> {
    let (dispatch, commands) = mpsc::unbounded_channel();
    let seed = u64::from_le_bytes(random::bytes());
    let dispatching = DispatchLoop {
        dispatcher: Dispatcher::new(endpoints, seed),
        destinations,
        partitions,
        stories,
        metrics,
    };
    tasks.spawn(dispatching.run(commands, dispatch.clone()));
    dispatch
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
        let homes: BTreeSet<u32> = names.map(|name| config.home_of(&name)).collect();
        assert_eq!(homes, (0..4).collect());
        assert_eq!(Config::default().home_of("stream-1"), 0);
    }
}
