//! A process that takes over the partition and runs the loop around engine and log, without
//! threads.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use satchel_engine::address::Address;
use satchel_engine::dispatcher::Dispatcher;
use satchel_engine::durable::{Key, Value};
use satchel_engine::input::{Input, RequestId};
use satchel_engine::invocation::AttemptId;
use satchel_engine::partition::{Config, Partition, Recovery};
use satchel_log::{Contender, Driver, Identity, Log, LogError, Notices, Options, Ownership};
use satchel_protocol::reqreply::FromFunction;
use satchel_storage::fork::{Refusal, refuse_filling, take_over};
use satchel_storage::placement::identity;
use satchel_storage::pump::Pump;
use satchel_storage::recovery::period;

use crate::clocks::Clocks;
use crate::durable::DurableFacts;
use crate::egress::Egress;
use crate::ingress::Reading;
use crate::lease::Candidate;
use crate::mutants::Mutant;
use crate::mutants::storage::StorageMutants;
use crate::outages::Evidence;
use crate::pauses::PauseTurn;
use crate::queue::Receiving;
use crate::recovery::{SimulatedRecovery, Unread};
use crate::store::{MachineClock, Mailbox};

/// Number of a process, unique within a run.
pub(crate) type ProcessId = u64;

type TakingOver = Pin<Box<dyn Future<Output = Result<TakenOver, Refusal>>>>;
type TakenOver = (Ownership, SimulatedRecovery);
pub(crate) type Driving = Pin<Box<dyn Future<Output = Result<(), LogError>>>>;

/// A process that owns the partition, or wants to.
pub(crate) struct Process {
    /// Settings of the version that it runs.
    pub(crate) config: Config,
    pub(crate) mailbox: Mailbox,
    pub(crate) clock: MachineClock,
    /// True time until which the process is paused.
    pub(crate) paused_until_ms: u64,
    pub(crate) life: Life,
    /// Candidate for the lease, if there is one.
    pub(crate) candidate: Option<Candidate>,
}

/// Stage of an owner's life.
pub(crate) enum Life {
    TakingOver(TakingOver),
    Serving(Box<Serving>),
}

/// Owner at work.
pub(crate) struct Serving {
    pub(crate) epoch: u64,
    pub(crate) partition: Partition,
    pub(crate) pump: Pump,
    pub(crate) dispatcher: Dispatcher,
    /// Handle of the log; `None` once the partition has stopped.
    pub(crate) log: Option<Log>,
    pub(crate) notices: Notices,
    pub(crate) driver: Option<Driving>,
    /// Facts that the partition has not received yet.
    pub(crate) facts: Vec<Input>,
    pub(crate) stopped: bool,
    /// True once the process was asked to stop.
    pub(crate) stops: bool,
    /// Number of rounds.
    pub(crate) rounds: u64,
    pub(crate) reading: Reading,
    pub(crate) receiving: Receiving,
    /// Client that waits for each request.
    pub(crate) waiting: BTreeMap<RequestId, Waiting>,
    pub(crate) egress: Egress,
    pub(crate) flights: BTreeMap<Address, AttemptId>,
    pub(crate) wake_at_ms: Option<u64>,
    /// Expiry of each value of `steady/expiring` that was recovered or sealed.
    pub(crate) expiries: BTreeMap<String, u64>,
    pub(crate) mutants: MutantState,
    pub(crate) clocks: Clocks,
    /// Second opinion on the endpoints.
    pub(crate) evidence: Evidence,
}

/// Client that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Caller with this number.
    Caller(usize),
    /// Administrator.
    Administrator {
        /// Number of its correction, if it made one.
        correction: Option<u64>,
        /// Its pause or resumption of a function, if it is one.
        pause: Option<PauseTurn>,
    },
}

/// State that only mutants use.
#[derive(Default)]
pub(crate) struct MutantState {
    /// First number that was not recovered.
    pub(crate) first_number: u64,
    pub(crate) fenced: bool,
    pub(crate) sealed: u64,
    pub(crate) storage: StorageMutants,
    pub(crate) last_answer: BTreeMap<Address, FromFunction>,
}

impl Process {
    pub(crate) fn start(
        id: ProcessId,
        (root, in_table): (String, bool),
        config: &Config,
        log: Options,
        clock_error_ms: i64,
        mutant: Option<Mutant>,
        unread: Unread,
    ) -> Self {
        let mut mailbox = Mailbox::default();
        mailbox.blind = mutant == Some(Mutant::CollectSavepoint);
        let clock = MachineClock::new(clock_error_ms, mailbox.clone());
        if mutant == Some(Mutant::FrozenClock) && id % 2 == 1 {
            clock.freeze();
        }
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&id.to_le_bytes());
        let place = Contender {
            store: match in_table {
                true => crate::store::in_table(Arc::new(mailbox.clone()), &root),
                false => Arc::new(mailbox.clone()),
            },
            root,
            identity: Identity {
                partition: config.partition,
                partitions: config.generation.as_ref().map_or(1, |generation| {
                    generation.partitions.partitions().count() as u32
                }),
                ..identity("simulated", config.placement)
            },
            nonce,
            clock: Arc::new(clock.clone()),
            options: log,
            on_store_failure: Arc::new(|_| {}),
        };
        let mut served = config.clone();
        if mutant == Some(Mutant::IgnoreMemoryLimit) {
            served.memory_limit_bytes = None;
        }
        let mut recovery = SimulatedRecovery::new(served, mutant, unread);
        let taking_over = async move {
            let ownership = take_over(place, &mut recovery).await?;
            refuse_filling(recovery.hold())?;
            Ok((ownership, recovery))
        };
        Self {
            config: config.clone(),
            mailbox,
            clock,
            paused_until_ms: 0,
            life: Life::TakingOver(Box::pin(taking_over)),
            candidate: None,
        }
    }

    pub(crate) fn serving(&mut self) -> Option<&mut Serving> {
        match &mut self.life {
            Life::Serving(serving) => Some(serving),
            Life::TakingOver(_) => None,
        }
    }

    pub(crate) fn is_serving(&self) -> bool {
        matches!(&self.life, Life::Serving(serving) if !serving.stopped)
    }
}

impl Serving {
    pub(crate) fn start(
        ownership: Ownership,
        recovery: Recovery,
        durable: &DurableFacts,
        config: &Config,
        clocks: Clocks,
        now_ms: u64,
    ) -> Self {
        let period = period(&ownership);
        let mutants = MutantState {
            first_number: durable.next_number(),
            ..MutantState::default()
        };
        let expiries = durable
            .facts
            .iter()
            .filter_map(|(key, value)| expiry(key, value))
            .collect();
        let partition = recovery.start(period, now_ms);
        let (log, notices, driver): (Log, Notices, Driver) = ownership.start();
        Self {
            epoch: period.epoch,
            partition,
            pump: Pump::new(config.placement),
            dispatcher: Dispatcher::new(config.endpoints.clone(), period.epoch),
            log: Some(log),
            notices,
            driver: Some(Box::pin(driver.run())),
            facts: Vec::new(),
            stopped: false,
            stops: false,
            rounds: 0,
            reading: Reading::default(),
            receiving: Receiving::new(0),
            waiting: BTreeMap::new(),
            egress: Egress::default(),
            flights: BTreeMap::new(),
            wake_at_ms: None,
            expiries,
            mutants,
            evidence: Evidence::default(),
            clocks,
        }
    }
}

/// Returns a value of `steady/expiring` and its expiry, if the fact is one.
pub(crate) fn expiry(key: &Key, value: &Value) -> Option<(String, u64)> {
    match (key, value) {
        (Key::State { name, .. }, Value::State(state)) if &**name == "written" => {
            let value = String::from_utf8_lossy(&state.value).into_owned();
            Some((value, state.expires_at_ms?))
        }
        _ => None,
    }
}
