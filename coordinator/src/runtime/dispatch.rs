//! Loop around the dispatcher: batches of all partitions of the process become requests to the
//! endpoints.

use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use satchel_engine::address::FunctionType;
use satchel_engine::clock::Reading;
use satchel_engine::dispatcher::{Dispatcher, DispatcherInput, DispatcherOutput};
use satchel_engine::input::Input;
use satchel_engine::invocation::{
    AttemptId, Batch, Bundle, BundleId, BundleOutcome, EndpointIndex, Failure, FailureKind,
};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::inboxes::Inboxes;
use super::{FACTS_PER_ROUND, wait_until};
use crate::clock::{boot_ms, reading};
use crate::invoker::Invoker;
use crate::metrics::{EndpointCounters, Metrics};
use crate::status::kind_name;
use crate::stories::Stories;

/// Endpoint of the dispatcher's loop.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Name in metrics.
    pub name: Arc<str>,
    /// Adapter that reaches it.
    pub invoker: Arc<Invoker>,
}

/// Owner of the dispatcher.
pub struct DispatchLoop {
    /// State machine.
    pub dispatcher: Dispatcher,
    /// Endpoints, in the order of the dispatcher's.
    pub destinations: Vec<Destination>,
    /// Queues of the partitions of this process.
    pub partitions: Inboxes,
    /// Stories of messages, if they are kept.
    pub(crate) stories: Option<Stories>,
    /// Metrics of the process.
    pub metrics: Metrics,
}

/// Request in flight.
struct Request {
    endpoint: EndpointIndex,
    batches: Vec<Arc<Batch>>,
    /// Handle that abandons the request.
    abort: AbortHandle,
}

impl DispatchLoop {
    /// Runs until it is dropped. `returned` is the sending side of `inputs`.
    pub async fn run(
        mut self,
        mut inputs: mpsc::UnboundedReceiver<DispatcherInput>,
        returned: mpsc::UnboundedSender<DispatcherInput>,
    ) {
        let mut wake_at_ms = None;
        let mut requests = HashMap::new();
        let names = self.destinations.iter().map(|it| &it.name);
        let counters: Vec<_> = names.map(|it| self.metrics.endpoint(it)).collect();
        let mut round = Vec::with_capacity(FACTS_PER_ROUND);
        loop {
            tokio::select! {
                _ = inputs.recv_many(&mut round, FACTS_PER_ROUND) => {}
                () = wait_until(wake_at_ms, boot_ms()) => wake_at_ms = None,
            }
            // Back-offs are durations, so the calendar must not stretch them.
            let now = reading();
            self.dispatcher
                .handle_input(now.boot_ms, DispatcherInput::TimeReached);
            for input in round.drain(..) {
                match input {
                    DispatcherInput::BundleReturned { bundle, outcome } => {
                        let request = requests.remove(&bundle);
                        self.returned(now, (bundle, request), outcome);
                    }
                    // Made by a loop that was ended a moment ago.
                    DispatcherInput::BatchReady { batch, .. }
                        if !self.partitions.has(batch.attempt.partition) => {}
                    input => self.dispatcher.handle_input(now.boot_ms, input),
                }
            }
            while let Some(output) = self.dispatcher.poll_output() {
                match output {
                    DispatcherOutput::Send(bundle) => {
                        if let Some(stories) = &self.stories {
                            stories.requested(&bundle);
                        }
                        let id = bundle.id;
                        let request = self.send(bundle, &counters, returned.clone());
                        requests.insert(id, request);
                    }
                    DispatcherOutput::Abandon(bundle) => abandon(&mut requests, bundle),
                    DispatcherOutput::Completed { attempt, answer } => {
                        self.notify(attempt, Input::InvocationCompleted { attempt, answer });
                    }
                    DispatcherOutput::Failed { attempt, failure } => {
                        self.notify(attempt, Input::InvocationFailed { attempt, failure });
                    }
                    DispatcherOutput::WakeAt(due_ms) => wake_at_ms = Some(due_ms),
                }
            }
            self.show_health(now);
        }
    }

    /// Hands the outcome of a request to the dispatcher, and shows both. The request is unknown if
    /// it was abandoned as its outcome came.
    fn returned(
        &mut self,
        now: Reading,
        (bundle, request): (BundleId, Option<Request>),
        outcome: BundleOutcome,
    ) {
        let dispatcher = &mut self.dispatcher;
        let handle = |dispatcher: &mut Dispatcher, outcome| {
            let returned = DispatcherInput::BundleReturned { bundle, outcome };
            dispatcher.handle_input(now.boot_ms, returned);
        };
        let Some(Request {
            endpoint, batches, ..
        }) = request
        else {
            return handle(dispatcher, outcome);
        };
        let judge = |outcome| {
            handle(dispatcher, outcome);
            dispatcher.endpoint_health(endpoint)
        };
        let name = &self.destinations[endpoint.0 as usize].name;
        let status = self.metrics.status();
        status.request_ended(now, (endpoint, name), &batches, outcome, judge);
    }

    /// Shows the health and the load of each endpoint.
    fn show_health(&self, now: Reading) {
        let status = self.metrics.status();
        for (index, destination) in (0..).map(EndpointIndex).zip(&self.destinations) {
            let health = self.dispatcher.endpoint_health(index);
            status.endpoint_judged(now, (index, &destination.name), health);
        }
    }

    fn notify(&self, attempt: AttemptId, input: Input) {
        self.partitions.send(attempt.partition, input);
    }

    /// Sends a request in a task of its own, which reports the outcome unless the request is
    /// abandoned.
    fn send(
        &self,
        bundle: Bundle,
        counters: &[EndpointCounters],
        returned: mpsc::UnboundedSender<DispatcherInput>,
    ) -> Request {
        let endpoint = bundle.endpoint;
        let destination = self.destinations[endpoint.0 as usize].clone();
        let metrics = self.metrics.clone();
        let counters = counters[endpoint.0 as usize].clone();
        let id = bundle.id;
        let batches = bundle.batches.clone();
        let messages = batches.iter().map(|batch| batch.messages.len()).sum();
        let begun = Instant::now();
        let invoker = Arc::clone(&destination.invoker);
        let sent = batches.clone();
        let task = tokio::spawn(async move {
            // A panic of the adapter is an outcome too.
            let invoked = AssertUnwindSafe(invoker.invoke(bundle)).catch_unwind();
            let outcome = invoked.await.unwrap_or_else(|panic| failed_inside(&*panic));
            let took = begun.elapsed();
            counters.observe(sent.len(), messages, took);
            observe_batches(&metrics, &destination.name, (&sent, &outcome), took);
            let _ = returned.send(DispatcherInput::BundleReturned {
                bundle: id,
                outcome,
            });
        });
        Request {
            endpoint,
            batches,
            abort: task.abort_handle(),
        }
    }
}

/// Outcome of a request whose adapter panicked.
fn failed_inside(panic: &(dyn Any + Send)) -> BundleOutcome {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("a panic without a text");
    tracing::error!(panic = text, "panic in a request: this is a bug of Satchel");
    let message = format!("the request failed inside the coordinator: {text}");
    BundleOutcome::Failed(Failure::new(FailureKind::Ambiguous, message))
}

/// Abandons a request: its connection is closed.
fn abandon(requests: &mut HashMap<BundleId, Request>, bundle: BundleId) {
    if let Some(request) = requests.remove(&bundle) {
        request.abort.abort();
    }
}

/// Counts the outcome of a request, by endpoint and by function.
fn observe_batches(
    metrics: &Metrics,
    endpoint: &str,
    (batches, outcome): (&[Arc<Batch>], &BundleOutcome),
    took: Duration,
) {
    let results = match outcome {
        BundleOutcome::Failed(failure) => {
            metrics.observe_invocation_failure(endpoint, failure.kind);
            if let [batch] = batches {
                let function = batch.target.function.to_string();
                metrics.observe_function_failure(&function, kind_name(failure.kind));
            }
            return;
        }
        BundleOutcome::Answered(results) => results,
    };
    let by_attempt: HashMap<AttemptId, &Arc<Batch>> =
        batches.iter().map(|batch| (batch.attempt, batch)).collect();
    // A request often holds many batches of few functions.
    let mut answered: HashMap<&FunctionType, usize> = HashMap::new();
    for (attempt, result) in results {
        let batch = by_attempt.get(attempt);
        match (result, batch) {
            (Ok(_), Some(batch)) => {
                *answered.entry(&batch.target.function).or_default() += batch.messages.len();
            }
            (Ok(_), None) => {}
            (Err(failure), batch) => {
                metrics.observe_invocation_failure(endpoint, failure.kind);
                if let Some(batch) = batch {
                    let function = batch.target.function.to_string();
                    metrics.observe_function_failure(&function, kind_name(failure.kind));
                }
            }
        }
    }
    for (function, messages) in answered {
        metrics.observe_function(&function.to_string(), messages, took);
    }
}
