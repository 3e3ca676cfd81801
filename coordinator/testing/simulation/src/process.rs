//! One process: takes the partition over and runs the same loop around engine and log as the coordinator does, without threads.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use satchel_engine::address::Address;
use satchel_engine::dispatcher::Dispatcher;
use satchel_engine::durable::{Key, Value};
use satchel_engine::input::{Input, RequestId};
use satchel_engine::invocation::AttemptId;
use satchel_engine::output::BucketImage;
use satchel_engine::partition::{Config, Overlay, Ownership as Start, Partition};
use satchel_log::{Driver, Entries, Identity, Log, LogError, Notices, Options, Ownership, Place};
use satchel_protocol::reqreply::FromFunction;
use satchel_storage::{Refusal, refuse_filling, take_over};

use crate::egress::Egress;
use crate::ingress::Reading;
use crate::lease::Candidate;
use crate::mutants::Mutant;
use crate::queue::Receiving;
use crate::recovered::{Everything, Recovered};
use crate::store::{MachineClock, Mailbox};

/// Names a process over the whole run.
pub(crate) type ProcessId = u64;

type TakingOver = Pin<Box<dyn Future<Output = (Result<Ownership, Refusal>, Recovered)>>>;
pub(crate) type Driving = Pin<Box<dyn Future<Output = Result<(), LogError>>>>;

/// One process.
pub(crate) struct Process {
    /// The settings of the version that it runs.
    pub(crate) config: Config,
    pub(crate) mailbox: Mailbox,
    pub(crate) clock: MachineClock,
    /// It does not run before this true time.
    pub(crate) paused_until_ms: u64,
    pub(crate) life: Life,
    /// Its part in the lease, where there is one.
    pub(crate) candidate: Option<Candidate>,
}

/// How far it has come.
pub(crate) enum Life {
    TakingOver(TakingOver),
    Serving(Box<Serving>),
}

/// An owner at work.
pub(crate) struct Serving {
    pub(crate) epoch: u64,
    pub(crate) partition: Partition,
    pub(crate) dispatcher: Dispatcher,
    /// `None` once the partition has stopped.
    pub(crate) log: Option<Log>,
    pub(crate) notices: Notices,
    pub(crate) driver: Option<Driving>,
    /// Facts that the partition was not told yet.
    pub(crate) facts: Vec<Input>,
    pub(crate) stopped: bool,
    /// It was told to stop.
    pub(crate) stops: bool,
    /// How often it was told something.
    pub(crate) rounds: u64,
    pub(crate) reading: Reading,
    pub(crate) receiving: Receiving,
    /// Which operation waits for which request.
    pub(crate) waiting: BTreeMap<RequestId, Waiting>,
    pub(crate) egress: Egress,
    pub(crate) flights: BTreeMap<Address, AttemptId>,
    pub(crate) wake_at_ms: Option<u64>,
    /// When each value of `steady/expiring` that was recovered or sealed expires.
    pub(crate) expiries: BTreeMap<String, u64>,
    /// Loads that the log has not answered, by bucket.
    pub(crate) loads: BTreeMap<u16, VecDeque<(u64, Arc<Overlay>)>>,
    pub(crate) broken: Broken,
}

/// Who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// The caller with this number.
    Caller(usize),
    /// The administrator, and which correction he asked for, if it was one.
    Administrator { correction: Option<u64> },
}

/// What only mutants need.
#[derive(Default)]
pub(crate) struct Broken {
    /// Numbers below this one were recovered.
    pub(crate) first_number: u64,
    pub(crate) fenced: bool,
    pub(crate) sealed: u64,
    pub(crate) held_images: Vec<BucketImage>,
    pub(crate) first_loads: BTreeMap<u16, Entries>,
    pub(crate) last_answer: BTreeMap<Address, FromFunction>,
}

impl Process {
    pub(crate) fn start(
        id: ProcessId,
        root: String,
        config: &Config,
        log: Options,
        clock_error_ms: i64,
        mutant: Option<Mutant>,
        unread: (u64, u64),
    ) -> Self {
        let mut mailbox = Mailbox::default();
        mailbox.blind = mutant == Some(Mutant::CollectSavepoint);
        let clock = MachineClock::new(clock_error_ms, mailbox.clone());
        if mutant == Some(Mutant::FrozenClock) && id % 2 == 1 {
            clock.freeze();
        }
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&id.to_le_bytes());
        let place = Place {
            store: Arc::new(mailbox.clone()),
            root,
            identity: Identity {
                application: "simulated".to_owned(),
                partition: config.partition,
                partitions: 1,
                buckets: config.buckets,
            },
            nonce,
            clock: Arc::new(clock.clone()),
            options: log,
            on_trouble: Arc::new(|_| {}),
        };
        let mut served = config.clone();
        if mutant == Some(Mutant::Hoard) {
            served.memory_limit_bytes = None;
        }
        let mut recovered = Recovered::new(served, mutant, unread);
        let taking_over = async move {
            let ownership = take_over(place, &mut recovered).await;
            let whole = ownership.and_then(|ownership| {
                refuse_filling(recovered.hold())?;
                Ok(ownership)
            });
            (whole, recovered)
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
        recovered: Recovered,
        everything: &Everything,
        config: &Config,
        now_ms: u64,
    ) -> Self {
        let start = Start {
            epoch: ownership.owner.epoch,
            committed_at_ms: ownership.committed_at_ms,
            clean: ownership.clean,
        };
        let broken = Broken {
            first_number: everything.next_number(),
            ..Broken::default()
        };
        let expiries = everything
            .facts
            .iter()
            .filter_map(|(key, value)| expiry(key, value))
            .collect();
        let partition = recovered.finish(&everything.facts).start(start, now_ms);
        let (log, notices, driver): (Log, Notices, Driver) = ownership.start();
        Self {
            epoch: start.epoch,
            partition,
            dispatcher: Dispatcher::new(config.endpoints.clone(), start.epoch),
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
            loads: BTreeMap::new(),
            broken,
        }
    }
}

/// When a value of `steady/expiring` expires, if the fact is one.
pub(crate) fn expiry(key: &Key, value: &Value) -> Option<(String, u64)> {
    match (key, value) {
        (Key::State { name, .. }, Value::State(state)) if &**name == "written" => {
            let value = String::from_utf8_lossy(&state.value).into_owned();
            Some((value, state.expires_at_ms?))
        }
        _ => None,
    }
}
