//! Delivery loop of an egress, and the interface of its service.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use satchel_clock::BootTime;
use satchel_engine::input::{EgressMark, Input};
use satchel_engine::output::Emission;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use satchel_engine::sink::delivery::{Delivery, Limits, Outcome, Record, Request, Settled};

/// Maximum number of records taken from the queue at once.
pub(super) const RECORDS_PER_ROUND: usize = 1000;

/// Minimum interval between log messages about failing records.
const RETRY_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Maximum time to establish a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum duration of a request, unless its egress configures another one.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A service that accepts records.
pub trait Service: Send + Sync + 'static {
    /// A record in the form of the service.
    type Payload: Send + Sync + 'static;

    /// Limits of a request.
    fn limits(&self) -> Limits;

    /// Converts a record of the outbox.
    ///
    /// # Errors
    ///
    /// The reason why the service can never accept it.
    fn prepare(&self, emission: Emission) -> Result<Record<Self::Payload>, String>;

    /// Sends records once. Returns the outcome of each, in their order.
    fn deliver(&self, request: &Request<Self::Payload>) -> impl Future<Output = Answer> + Send;
}

/// Result of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// Outcome of each record, in their order.
    pub outcomes: Vec<Outcome>,
    /// Marks that the egress needs after a takeover. They become durable together with the
    /// acknowledgement.
    pub marks: Vec<EgressMark>,
}

impl Answer {
    /// A result without marks.
    pub fn of(outcomes: Vec<Outcome>) -> Self {
        Self {
            outcomes,
            marks: Vec::new(),
        }
    }
}

/// Receives metrics events of egresses.
pub trait Observer: Send + Sync {
    /// Records were delivered.
    fn delivered(&self, egress: &str, records: u64);
    /// A record became a dead letter.
    fn refused(&self, egress: &str);
    /// Records were not accepted for `reason` and are retried.
    fn retried(&self, egress: &str, records: u64, reason: &str);
}

/// Connection of an egress to its partition and its metrics.
pub struct EgressHandle {
    /// The egress's id, `namespace/name`.
    pub id: Arc<str>,
    /// Channel for facts to the partition.
    pub facts: mpsc::UnboundedSender<Input>,
    /// Receiver of metrics events.
    pub observer: Arc<dyn Observer>,
    /// Seed that spreads the waits of several processes.
    pub seed: u64,
}

impl EgressHandle {
    /// Delivers through `service` until `emissions` end.
    pub async fn run<S: Service>(
        self,
        service: S,
        mut emissions: mpsc::UnboundedReceiver<Emission>,
    ) {
        let mut delivery = DeliveryLoop::new(self, service);
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
                Some(answered) = delivery.in_flight.join_next_with_id() => {
                    delivery.answered(answered);
                }
                () = wake => {}
            }
        }
    }
}

impl EgressHandle {
    /// Acknowledges delivered records to the partition, with the marks to keep.
    pub(super) fn acknowledge(&self, numbers: Vec<u64>, marks: Vec<EgressMark>) {
        self.mark(numbers, marks, false);
    }

    /// Same as [`EgressHandle::acknowledge`]. With `confirm`, the partition confirms when the marks
    /// are durable.
    pub(super) fn mark(&self, numbers: Vec<u64>, marks: Vec<EgressMark>, confirm: bool) {
        if !numbers.is_empty() {
            self.observer.delivered(&self.id, numbers.len() as u64);
        }
        // If the partition has ended, its successor finds out what was delivered.
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

    /// Reports a record that can never be delivered to the partition.
    pub(super) fn refuse(&self, number: u64, reason: String) {
        let egress = &*self.id;
        self.observer.refused(egress);
        tracing::warn!(egress, number, %reason, "record refused; it becomes a dead letter");
        let _ = self.facts.send(Input::EgressRefused { number, reason });
    }
}

/// The loop that delivers the records of one egress.
struct DeliveryLoop<S: Service> {
    handle: EgressHandle,
    service: Arc<S>,
    delivery: Delivery<S::Payload>,
    in_flight: JoinSet<Answer>,
    /// Request and number of records of each task.
    requests: HashMap<tokio::task::Id, (u64, usize)>,
    started: BootTime,
    retry_log: RetryLog,
}

impl<S: Service> DeliveryLoop<S> {
    fn new(handle: EgressHandle, service: S) -> Self {
        Self {
            delivery: Delivery::new(service.limits(), handle.seed),
            handle,
            service: Arc::new(service),
            in_flight: JoinSet::new(),
            requests: HashMap::new(),
            started: BootTime::now(),
            retry_log: RetryLog::default(),
        }
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn take(&mut self, round: &mut Vec<Emission>) {
        for emission in round.drain(..) {
            let number = emission.number;
            match self.service.prepare(emission) {
                Ok(record) => self.delivery.offer(record),
                Err(reason) => self.handle.refuse(number, reason),
            }
        }
    }

    fn send(&mut self) {
        let now_ms = self.now_ms();
        while let Some(request) = self.delivery.poll(now_ms) {
            let service = Arc::clone(&self.service);
            let count = (request.id, request.records.len());
            let task = self
                .in_flight
                .spawn(async move { service.deliver(&request).await });
            self.requests.insert(task.id(), count);
        }
    }

    /// Waits until a failed record may be retried.
    fn wake(&self) -> impl Future<Output = ()> + use<S> {
        let due_ms = self.delivery.wake_at_ms(self.now_ms());
        let due = due_ms.map(|due_ms| self.started + Duration::from_millis(due_ms));
        async move {
            match due {
                Some(due) => satchel_clock::sleep_until(due).await,
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
            answer.unwrap_or_else(|error| Answer::of(vec![Outcome::Retry(error); records]));
        self.report_retries(&answer.outcomes);
        let now_ms = self.now_ms();
        let mut numbers = Vec::new();
        for settled in self.delivery.answered(now_ms, request, answer.outcomes) {
            match settled {
                Settled::Delivered(number) => numbers.push(number),
                Settled::Refused { number, reason } => self.handle.refuse(number, reason),
            }
        }
        self.handle.acknowledge(numbers, answer.marks);
    }

    /// Counts and logs records that were not accepted.
    fn report_retries(&mut self, outcomes: &[Outcome]) {
        let mut reasons = outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Retry(reason)
            | Outcome::Throttled(reason)
            | Outcome::Missing(reason)
            | Outcome::Suspect(reason) => Some(reason),
            Outcome::Delivered | Outcome::Refused(_) => None,
        });
        if let Some(reason) = reasons.next() {
            let records = 1 + reasons.count() as u64;
            self.retry_log.retried(&self.handle, records, reason);
        }
    }
}

/// Rate-limited log of retries.
#[derive(Debug, Default)]
pub(super) struct RetryLog {
    last: Option<BootTime>,
}

impl RetryLog {
    /// Counts records that were not accepted, and logs them if nothing was logged recently.
    pub(super) fn retried(&mut self, handle: &EgressHandle, records: u64, reason: &str) {
        let egress = &*handle.id;
        handle.observer.retried(egress, records, reason);
        let is_recent = |at: BootTime| at.elapsed() < RETRY_LOG_INTERVAL;
        if !self.last.is_some_and(is_recent) {
            self.last = Some(BootTime::now());
            tracing::warn!(egress, records, %reason, "records not accepted; retrying");
        }
    }
}

/// Configuration of a client whose requests end within `timeout`, with or without a response.
pub fn with_timeout(config: &SdkConfig, timeout: Duration) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        .operation_timeout(timeout)
        .build();
    config.to_builder().timeout_config(timeouts).build()
}
