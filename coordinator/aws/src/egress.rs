//! Egress to AWS: how records of a partition's outbox reach a service.
//!
//! Each service is a thin adapter (a [`Service`]) that makes requests of records and reads what became of each; what is sent when is decided
//! by the pure [`satchel_engine::sink::delivery`]. The partition hands over only what is durable, in order, and keeps it until it hears
//! [`Input::EgressAcked`] or [`Input::EgressRefused`] (the record is a dead letter then). The SDK tries once; all trying again is here, and goes on
//! for ever, except for what can never be taken.

pub mod content;
pub mod destination;
pub mod dynamodb;
pub mod eventbridge;
pub mod failure;
pub mod kinesis;
pub mod lambda;
pub mod sns;
pub mod sqs;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use satchel_engine::input::{EgressMark, Input};
use satchel_engine::output::Emission;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use satchel_engine::sink::delivery::{Delivery, Limits, Outcome, Record, Request, Settled};

/// How many records are taken from the queue at once.
const RECORDS_PER_ROUND: usize = 1000;

/// How often at most a line is written about what keeps failing.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a request may take, unless its egress says so.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A service that takes records.
pub trait Service: Send + Sync + 'static {
    /// What it makes of a record.
    type Payload: Send + Sync + 'static;

    /// What it takes at once.
    fn limits(&self) -> Limits;

    /// Makes a record of what is to leave.
    ///
    /// # Errors
    ///
    /// Why it can never be taken.
    fn prepare(&self, emission: Emission) -> Result<Record<Self::Payload>, String>;

    /// Sends records once. Says what became of each, in their order.
    fn deliver(&self, request: &Request<Self::Payload>) -> impl Future<Output = Answer> + Send;
}

/// What became of the records of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// Of each record, in their order.
    pub outcomes: Vec<Outcome>,
    /// What the egress wants to know of them after a takeover; durable together with the acknowledgement.
    pub marks: Vec<EgressMark>,
}

impl Answer {
    /// Nothing is to be remembered.
    pub fn of(outcomes: Vec<Outcome>) -> Self {
        Self {
            outcomes,
            marks: Vec::new(),
        }
    }
}

/// Who counts what an egress does.
pub trait Observer: Send + Sync {
    /// Records arrived.
    fn delivered(&self, egress: &str, records: u64);
    /// A record became a dead letter.
    fn refused(&self, egress: &str);
    /// Records were not taken and are tried again.
    fn retried(&self, egress: &str, records: u64);
}

/// An egress and those who hear of it.
pub struct Outlet {
    /// The egress's id, `namespace/name`.
    pub id: Arc<str>,
    /// Where the partition is told.
    pub facts: mpsc::UnboundedSender<Input>,
    /// Who counts.
    pub observer: Arc<dyn Observer>,
    /// Spreads the waits of several processes.
    pub seed: u64,
}

impl Outlet {
    /// Delivers through `service` until `emissions` end.
    pub async fn run<S: Service>(
        self,
        service: S,
        mut emissions: mpsc::UnboundedReceiver<Emission>,
    ) {
        let mut delivery = Delivery::new(self, service);
        let mut round = Vec::new();
        loop {
            delivery.send();
            let wake = delivery.wake();
            tokio::select! {
                taken = emissions.recv_many(&mut round, RECORDS_PER_ROUND) => {
                    if taken == 0 {
                        return;
                    }
                    delivery.take(&mut round);
                }
                Some(answered) = delivery.under_way.join_next_with_id() => delivery.answered(answered),
                () = wake => {}
            }
        }
    }
}

impl Outlet {
    /// Tells the partition that records arrived, and what is to be remembered of them.
    fn arrived(&self, numbers: Vec<u64>, marks: Vec<EgressMark>) {
        self.noted(numbers, marks, false);
    }

    /// As [`Outlet::arrived`]; with `confirm` the partition answers once that is durable.
    fn noted(&self, numbers: Vec<u64>, marks: Vec<EgressMark>, confirm: bool) {
        if !numbers.is_empty() {
            self.observer.delivered(&self.id, numbers.len() as u64);
        }
        // A partition that is gone leaves what it did not hear of to its successor.
        if !marks.is_empty() {
            let egress = Arc::clone(&self.id);
            let _ = self.facts.send(Input::EgressMarked {
                egress,
                numbers,
                marks,
                confirm,
            });
        } else if !numbers.is_empty() {
            let _ = self.facts.send(Input::EgressAcked { numbers });
        }
    }

    /// Tells the partition that a record never can be delivered.
    fn refuse(&self, number: u64, reason: String) {
        let egress = &*self.id;
        self.observer.refused(egress);
        tracing::warn!(egress, number, %reason, "a record was refused; it is a dead letter now");
        let _ = self.facts.send(Input::EgressRefused { number, reason });
    }
}

/// The state of one egress.
struct Delivery<S: Service> {
    outlet: Outlet,
    service: Arc<S>,
    sequencer: Delivery<S::Payload>,
    under_way: JoinSet<Answer>,
    /// Which request each task delivers, and how many records that has.
    requests: HashMap<tokio::task::Id, (u64, usize)>,
    begun: Instant,
    complaints: Complaints,
}

impl<S: Service> Delivery<S> {
    fn new(outlet: Outlet, service: S) -> Self {
        Self {
            sequencer: Delivery::new(service.limits(), outlet.seed),
            outlet,
            service: Arc::new(service),
            under_way: JoinSet::new(),
            requests: HashMap::new(),
            begun: Instant::now(),
            complaints: Complaints::default(),
        }
    }

    fn now_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    fn take(&mut self, round: &mut Vec<Emission>) {
        for emission in round.drain(..) {
            let number = emission.number;
            match self.service.prepare(emission) {
                Ok(record) => self.sequencer.offer(record),
                Err(reason) => self.outlet.refuse(number, reason),
            }
        }
    }

    fn send(&mut self) {
        let now_ms = self.now_ms();
        while let Some(request) = self.sequencer.poll(now_ms) {
            let service = Arc::clone(&self.service);
            let count = (request.id, request.records.len());
            let task = self
                .under_way
                .spawn(async move { service.deliver(&request).await });
            self.requests.insert(task.id(), count);
        }
    }

    /// Waits until something that failed may be tried again.
    fn wake(&self) -> impl Future<Output = ()> + use<S> {
        let due_ms = self.sequencer.wake_at_ms(self.now_ms());
        let due = due_ms.map(|due_ms| self.begun + Duration::from_millis(due_ms));
        async move {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        }
    }

    fn answered(&mut self, answered: Result<(tokio::task::Id, Answer), tokio::task::JoinError>) {
        let (task, answer) = match answered {
            Ok((task, answer)) => (task, Ok(answer)),
            Err(error) => (error.id(), Err(error.to_string())),
        };
        let Some((request, records)) = self.requests.remove(&task) else {
            return;
        };
        let answer =
            answer.unwrap_or_else(|error| Answer::of(vec![Outcome::Again(error); records]));
        self.complain(&answer.outcomes);
        let now_ms = self.now_ms();
        let mut numbers = Vec::new();
        for settled in self.sequencer.answered(now_ms, request, answer.outcomes) {
            match settled {
                Settled::Delivered(number) => numbers.push(number),
                Settled::Refused { number, reason } => self.outlet.refuse(number, reason),
            }
        }
        self.outlet.arrived(numbers, answer.marks);
    }

    /// Counts what was not taken, and writes a line now and then.
    fn complain(&mut self, outcomes: &[Outcome]) {
        let mut reasons = outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Again(reason)
            | Outcome::Throttled(reason)
            | Outcome::Missing(reason)
            | Outcome::Suspect(reason) => Some(reason),
            Outcome::Delivered | Outcome::Refused(_) => None,
        });
        if let Some(reason) = reasons.next() {
            let records = 1 + reasons.count() as u64;
            self.complaints.retried(&self.outlet, records, reason);
        }
    }
}

/// Says now and then that something keeps failing.
#[derive(Debug, Default)]
struct Complaints {
    last: Option<Instant>,
}

impl Complaints {
    /// Counts records that were not taken, and writes a line if there was none lately.
    fn retried(&mut self, outlet: &Outlet, records: u64, reason: &str) {
        let egress = &*outlet.id;
        outlet.observer.retried(egress, records);
        let lately = |at: Instant| at.elapsed() < COMPLAINT_INTERVAL;
        if !self.last.is_some_and(lately) {
            self.last = Some(Instant::now());
            tracing::warn!(egress, records, %reason, "records were not taken; they are tried again");
        }
    }
}

/// The configuration of a client whose requests end within `timeout`, with an answer or without.
pub fn with_timeout(config: &SdkConfig, timeout: Duration) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        .operation_timeout(timeout)
        .build();
    config.to_builder().timeout_config(timeouts).build()
}
