//! Status of a process: the present health of its endpoints, ingresses and egresses, for people.
//!
//! ```text
//!  dispatch ─outcome──►┐                  ┌─► /api/endpoints, /api/ingresses, …
//!  ingress ──lag, error►├─ Status ────────┼─► /readyz, `satchel status`
//!  egress ───error────►┘   │              └─► log lines, rate-limited
//!                          └─ observe ──► the partition's loop, which shows its figures
//! ```
//!
//! A status is an observation. It may be ahead of what is durable, is lost with the process, and
//! nothing decides by it.

mod endpoints;
mod events;
mod ingresses;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use satchel_engine::address::FunctionType;
use satchel_engine::dispatcher::EndpointHealth;
use satchel_engine::endpoint::{Endpoint, Endpoints, FunctionPattern};
use satchel_engine::invocation::EndpointIndex;
use satchel_engine::partition::{Partition, PauseCause};
use tokio::sync::{mpsc, oneshot};

use crate::clock::{TIME_WARN_FROM_MS, now_ms};
use crate::log_limit::LogLimit;
use crate::module::{Application, EndpointAdapter, IngressAdapter};

pub(crate) use self::endpoints::{EndpointView, LastFailure, kind_name};
pub(crate) use self::events::report_suppressed;
pub(crate) use self::ingresses::IngressView;

/// Maximum length of an error that is kept, in characters.
const ERROR_CHARACTERS_MAX: usize = 1000;

/// Capacity of the queue of observations.
const OBSERVATIONS_WAITING_MAX: usize = 64;

/// Reading of a partition, run by the loop that owns it.
pub(crate) type Observation = Box<dyn FnOnce(&Partition) + Send>;

/// Status of a process. Cheap to clone; clones share the content.
#[derive(Clone)]
pub(crate) struct Status(Arc<Inner>);

struct Inner {
    components: Mutex<Components>,
    /// Queues of the partitions, by number.
    partitions: Mutex<BTreeMap<u32, mpsc::Sender<Observation>>>,
    limit: LogLimit,
    /// Difference of partition time from the calendar, in ms.
    ahead_ms: AtomicI64,
    /// Jump of the calendar that is not followed, in ms; 0 if there is none.
    jump_ms: AtomicI64,
}

#[derive(Default)]
struct Components {
    serving: Endpoints,
    /// Functions that endpoints and ingresses name.
    named: BTreeSet<FunctionType>,
    endpoints: Vec<EndpointView>,
    ingresses: Vec<IngressView>,
    egresses: Vec<EgressView>,
    /// Cause and beginning of a pause of all ingresses.
    pause: Option<(PauseCause, Instant)>,
}

/// Error that happened last, with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastError {
    /// Time, in ms since the epoch.
    pub(crate) at_ms: u64,
    /// Description, on one line.
    pub(crate) message: String,
}

/// Status of an egress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EgressView {
    /// Id, `namespace/name`.
    pub(crate) id: String,
    /// Records delivered by this process.
    pub(crate) delivered: u64,
    /// Records that can never be delivered.
    pub(crate) refused: u64,
    /// Records that were not accepted and are retried, each time.
    pub(crate) retried: u64,
    /// Last delivery, in ms since the epoch.
    pub(crate) last_success_ms: Option<u64>,
    /// Last failed delivery.
    pub(crate) last_error: Option<LastError>,
    /// Reason why it delivers nothing, if it is stopped.
    pub(crate) stopped: Option<EgressStopped>,
}

/// Reason why an egress is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EgressStopped {
    /// Kind of problem, as of a source.
    pub(crate) problem: &'static str,
    /// Time of the stop, in ms since the epoch.
    pub(crate) since_ms: u64,
}

impl LastError {
    fn now(message: &str) -> Self {
        Self {
            at_ms: now_ms(),
            message: one_line(message),
        }
    }
}

impl Status {
    /// Creates a status without components.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            components: Mutex::default(),
            partitions: Mutex::default(),
            limit: LogLimit::new(events::WINDOW),
            ahead_ms: AtomicI64::new(0),
            jump_ms: AtomicI64::new(0),
        }))
    }

    /// Declares the components of an application, which replace those declared before.
    pub(crate) fn declare(&self, application: &Application) {
        let endpoints = application.endpoints.iter();
        let engine: Vec<Endpoint> = endpoints.clone().map(|it| it.engine.clone()).collect();
        let views = endpoints.map(|endpoint| {
            let (kind, name) = match &endpoint.adapter {
                EndpointAdapter::Lambda(lambda) => ("lambda", lambda.function_name.as_str()),
                EndpointAdapter::Http(http) => ("http", http.place()),
            };
            EndpointView {
                name: name.into(),
                kind,
                functions: endpoint.engine.functions.iter().map(pattern).collect(),
                concurrency_max: endpoint.engine.concurrency_max,
                health: EndpointHealth::default(),
                down_since_ms: None,
                last_failure: None,
                last_success_ms: None,
            }
        });
        let endpoints = views.collect();
        let ingresses = application.ingresses.iter().map(|ingress| {
            let (kind, sources) = match &ingress.adapter {
                IngressAdapter::Kafka(_) => ("topic", streams(&ingress.adapter)),
                IngressAdapter::Kinesis(_) => ("stream", streams(&ingress.adapter)),
                IngressAdapter::Playground(playground) => {
                    ("port", vec![playground.address.to_string()])
                }
                IngressAdapter::Sqs(sqs) => ("queue", vec![sqs.options.queue_url.to_string()]),
            };
            IngressView::new(ingress.id.to_string(), kind, sources)
        });
        let ingresses = ingresses.collect();
        let egresses = application.egresses.iter().map(|egress| EgressView {
            id: egress.id.to_string(),
            delivered: 0,
            refused: 0,
            retried: 0,
            last_success_ms: None,
            last_error: None,
            stopped: None,
        });
        let egresses = egresses.collect();
        *self.components() = Components {
            serving: Endpoints::new(engine),
            named: named(application),
            endpoints,
            ingresses,
            egresses,
            pause: None,
        };
    }

    /// Records the difference of partition time from the calendar, and the jump of the calendar
    /// that is not followed.
    pub(crate) fn observe_time(&self, ahead_ms: i64, jump_ms: Option<i64>) {
        self.0.ahead_ms.store(ahead_ms, Ordering::Relaxed);
        let jump_ms = jump_ms.unwrap_or(0);
        self.0.jump_ms.store(jump_ms, Ordering::Relaxed);
    }

    /// Returns the difference of partition time from the calendar, in ms, if it is worth a warning.
    pub(crate) fn time_ahead_ms(&self) -> Option<i64> {
        let ahead_ms = self.0.ahead_ms.load(Ordering::Relaxed);
        (ahead_ms.unsigned_abs() >= TIME_WARN_FROM_MS).then_some(ahead_ms)
    }

    /// Returns the jump of the calendar that is not followed, in ms, if there is one.
    pub(crate) fn clock_jump_ms(&self) -> Option<i64> {
        Some(self.0.jump_ms.load(Ordering::Relaxed)).filter(|jump_ms| *jump_ms != 0)
    }

    /// Returns the status of all endpoints, in the order of the module files.
    pub(crate) fn endpoints(&self) -> Vec<EndpointView> {
        self.components().endpoints.clone()
    }

    /// Returns the names of the endpoints that are down.
    pub(crate) fn unhealthy_endpoints(&self) -> Vec<Arc<str>> {
        let components = self.components();
        let down = components.endpoints.iter().filter(|it| it.is_down());
        down.map(|it| Arc::clone(&it.name)).collect()
    }

    /// Returns the index of the endpoint that serves a function, and its status.
    pub(crate) fn endpoint_of(&self, function: &FunctionType) -> Option<EndpointView> {
        let components = self.components();
        let EndpointIndex(index) = components.serving.serving(function)?;
        components.endpoints.get(index as usize).cloned()
    }

    /// Returns the functions that endpoints and ingresses name.
    pub(crate) fn named_functions(&self) -> BTreeSet<FunctionType> {
        self.components().named.clone()
    }

    /// Returns the status of all ingresses, in the order of the module files.
    pub(crate) fn ingresses(&self) -> Vec<IngressView> {
        self.components().ingresses.clone()
    }

    /// Returns the cause of the pause of all ingresses, if they are paused.
    pub(crate) fn pause(&self) -> Option<PauseCause> {
        self.components().pause.map(|(cause, _)| cause)
    }

    /// Returns the status of all egresses, in the order of the module files.
    pub(crate) fn egresses(&self) -> Vec<EgressView> {
        self.components().egresses.clone()
    }

    /// Records deliveries of an egress.
    pub(crate) fn egress_delivered(&self, egress: &str, records: u64) {
        self.egress(egress, |view| {
            view.delivered += records;
            view.last_success_ms = Some(now_ms());
        });
    }

    /// Records a record that an egress can never deliver.
    pub(crate) fn egress_refused(&self, egress: &str) {
        self.egress(egress, |view| view.refused += 1);
    }

    /// Records that an egress retries records, with the reason.
    pub(crate) fn egress_retried(&self, egress: &str, records: u64, reason: &str) {
        self.egress(egress, |view| {
            view.retried += records;
            view.last_error = Some(LastError::now(reason));
        });
    }

    /// Records that an egress is stopped.
    pub(crate) fn egress_stopped(&self, egress: &str, problem: &'static str, reason: &str) {
        self.egress(egress, |view| {
            view.last_error = Some(LastError::now(reason));
            view.stopped.get_or_insert(EgressStopped {
                problem,
                since_ms: now_ms(),
            });
        });
    }

    /// Records that a stopped egress delivers again.
    pub(crate) fn egress_resumed(&self, egress: &str) {
        self.egress(egress, |view| view.stopped = None);
    }

    fn egress(&self, id: &str, change: impl FnOnce(&mut EgressView)) {
        let mut components = self.components();
        if let Some(view) = components.egresses.iter_mut().find(|it| it.id == id) {
            change(view);
        }
    }

    /// Begins to observe a partition of a new owner. Its loop runs what it receives.
    pub(crate) fn observe_partition(&self, number: u32) -> mpsc::Receiver<Observation> {
        let (sender, receiver) = mpsc::channel(OBSERVATIONS_WAITING_MAX);
        self.partitions().insert(number, sender);
        receiver
    }

    /// Ends the observation of a partition that has left this process.
    #[cfg(feature = "aws")]
    pub(crate) fn forget_partition(&self, number: u32) {
        self.partitions().remove(&number);
    }

    /// Returns what `read` finds in each partition that runs in this process, with its number.
    pub(crate) async fn observe<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Partition) -> T + Clone + Send + 'static,
    ) -> Vec<(u32, T)> {
        let queues: Vec<_> = {
            let partitions = self.partitions();
            let queues = partitions.iter();
            queues
                .map(|(number, queue)| (*number, queue.clone()))
                .collect()
        };
        let observed = queues.iter().map(async |(number, queue)| {
            let found = observe(queue, read.clone()).await?;
            Some((*number, found))
        });
        let found = futures::future::join_all(observed).await;
        found.into_iter().flatten().collect()
    }

    /// Returns what `read` finds in one partition; none if it does not run in this process.
    pub(crate) async fn observe_one<T: Send + 'static>(
        &self,
        number: u32,
        read: impl FnOnce(&Partition) -> T + Send + 'static,
    ) -> Option<T> {
        let queue = self.partitions().get(&number).cloned()?;
        observe(&queue, read).await
    }

    fn partitions(&self) -> MutexGuard<'_, BTreeMap<u32, mpsc::Sender<Observation>>> {
        let partitions = self.0.partitions.lock();
        partitions.unwrap_or_else(PoisonError::into_inner)
    }

    fn components(&self) -> MutexGuard<'_, Components> {
        // No code panics between two changes that belong together.
        let components = self.0.components.lock();
        components.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a partition in its loop; none if the loop has ended.
async fn observe<T: Send + 'static>(
    queue: &mpsc::Sender<Observation>,
    read: impl FnOnce(&Partition) -> T + Send + 'static,
) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    let observation: Observation = Box::new(move |partition| {
        // The client may have gone.
        let _ = reply.send(read(partition));
    });
    queue.send(observation).await.ok()?;
    answer.await.ok()
}

impl Default for Status {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Status")
    }
}

/// Returns the functions that the endpoints and ingresses of an application name.
fn named(application: &Application) -> BTreeSet<FunctionType> {
    let endpoints = application.endpoints.iter();
    let patterns = endpoints.flat_map(|endpoint| &endpoint.engine.functions);
    let exact = patterns.filter_map(|pattern| match pattern {
        FunctionPattern::One(function) => Some(function.clone()),
        FunctionPattern::Namespace(_) => None,
    });
    let ingresses = application.ingresses.iter();
    let targets = ingresses.flat_map(|ingress| match &ingress.adapter {
        IngressAdapter::Sqs(sqs) => sqs.targets.clone(),
        adapter => {
            let streams = adapter.streams().iter();
            streams.flat_map(|it| it.targets.clone()).collect()
        }
    });
    exact.chain(targets).collect()
}

/// Names of the streams or topics of an ingress.
fn streams(adapter: &IngressAdapter) -> Vec<String> {
    let streams = adapter.streams().iter();
    streams.map(|stream| stream.stream.clone()).collect()
}

fn pattern(pattern: &FunctionPattern) -> String {
    match pattern {
        FunctionPattern::One(function) => function.to_string(),
        FunctionPattern::Namespace(namespace) => format!("{namespace}/*"),
    }
}

/// Returns an error text on one line, shortened. Control characters, which could forge a log line
/// or colour a terminal, become blanks.
pub(crate) fn one_line(text: &str) -> String {
    let mut line: String = text
        .chars()
        .take(ERROR_CHARACTERS_MAX)
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect();
    if text.chars().nth(ERROR_CHARACTERS_MAX).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
