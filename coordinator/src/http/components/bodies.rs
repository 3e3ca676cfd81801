//! Entries of the lists as JSON.

use satchel_engine::address::{Address, FunctionType};
use satchel_engine::durable::StateSpec;
use satchel_engine::output::AddressSummary;
use satchel_engine::partition::FunctionFigures;
use serde::Serialize;

use crate::http::ingresses::StoppedIngress;
use crate::http::render::{Backlog, Failing};
use crate::module::format_rfc3339;
use crate::status::{EgressStopped, EgressView, EndpointView, IngressView, LastError, LastFailure};

#[derive(Serialize)]
pub(super) struct EndpointBody {
    name: String,
    kind: &'static str,
    functions: Vec<String>,
    state: &'static str,
    /// Beginning of the outage, while there is one.
    since: Option<String>,
    last_success: Option<String>,
    last_failure: Option<FailureBody>,
    requests_in_flight: usize,
    requests_max: usize,
    batches_waiting: usize,
}

impl EndpointBody {
    pub(super) fn of(view: EndpointView) -> Self {
        let (state, since) = state_of(&view);
        Self {
            name: view.name.to_string(),
            kind: view.kind,
            functions: view.functions,
            state,
            since,
            last_success: view.last_success_ms.map(format_rfc3339),
            last_failure: view.last_failure.map(FailureBody::of),
            requests_in_flight: view.health.in_flight,
            requests_max: view.concurrency_max,
            batches_waiting: view.health.waiting,
        }
    }
}

fn state_of(view: &EndpointView) -> (&'static str, Option<String>) {
    let since = view.down_since_ms.map(format_rfc3339);
    (if view.is_down() { "down" } else { "up" }, since)
}

/// Failure of an endpoint, with its time and kind.
#[derive(Serialize)]
struct FailureBody {
    at: String,
    kind: &'static str,
    message: String,
}

impl FailureBody {
    fn of(failure: LastFailure) -> Self {
        Self {
            at: format_rfc3339(failure.at_ms),
            kind: failure.kind,
            message: failure.message,
        }
    }
}

/// Endpoint that messages of an address wait for.
#[derive(Serialize)]
pub(in crate::http) struct FailingEndpoint {
    name: String,
    state: &'static str,
    since: Option<String>,
    last_failure: Option<FailureBody>,
}

impl FailingEndpoint {
    /// Describes an endpoint if its last request failed.
    pub(in crate::http) fn of(view: EndpointView) -> Option<Self> {
        let (state, since) = state_of(&view);
        view.is_failing().then(|| Self {
            name: view.name.to_string(),
            state,
            since,
            last_failure: view.last_failure.map(FailureBody::of),
        })
    }
}

#[derive(Serialize)]
pub(super) struct FunctionBody {
    pub(super) function: String,
    endpoint: Option<String>,
    endpoint_state: Option<&'static str>,
    addresses: usize,
    backlog: Backlog,
    in_flight: usize,
    backing_off: usize,
    suspended: usize,
    dead_letters: usize,
    states: Vec<DeclaredState>,
    /// Reason why the function stands still as a whole.
    stopped: Option<String>,
}

#[derive(Serialize)]
struct DeclaredState {
    name: String,
    typename: String,
}

impl FunctionBody {
    pub(super) fn of(
        function: &FunctionType,
        endpoint: Option<EndpointView>,
        figures: &FunctionFigures,
        states: &[StateSpec],
        stopped: Option<String>,
    ) -> Self {
        let state = endpoint.as_ref().map(|view| state_of(view).0);
        let states = states.iter().map(|state| DeclaredState {
            name: state.name.to_string(),
            typename: state.typename.to_string(),
        });
        Self {
            function: function.to_string(),
            endpoint: endpoint.map(|view| view.name.to_string()),
            endpoint_state: state,
            addresses: figures.addresses,
            backlog: Backlog {
                messages: figures.backlog_messages,
                bytes: figures.backlog_bytes,
            },
            in_flight: figures.in_flight,
            backing_off: figures.backing_off,
            suspended: figures.suspended,
            dead_letters: figures.dead_letters,
            states: states.collect(),
            stopped,
        }
    }
}

/// Error of an ingress or egress, with its time.
#[derive(Serialize)]
struct ErrorBody {
    at: String,
    message: String,
}

impl ErrorBody {
    fn of(error: LastError) -> Self {
        Self {
            at: format_rfc3339(error.at_ms),
            message: error.message,
        }
    }
}

#[derive(Serialize)]
pub(super) struct IngressBody {
    id: String,
    kind: &'static str,
    sources: Vec<String>,
    /// Cause of the pause, while it is paused.
    paused: Option<&'static str>,
    /// Streams and queues that cannot be read.
    stopped: Vec<StoppedIngress>,
    received: u64,
    lag_seconds: Option<f64>,
    backlog_messages: Option<u64>,
    /// Messages of a queue that were received and not deleted.
    in_flight_messages: Option<u64>,
    last_error: Option<ErrorBody>,
}

impl IngressBody {
    pub(super) fn of(
        view: IngressView,
        paused: Option<&'static str>,
        stopped: Vec<StoppedIngress>,
    ) -> Self {
        let lag_ms = view.lag_ms();
        Self {
            id: view.id,
            kind: view.kind,
            sources: view.sources,
            paused,
            stopped,
            received: view.received,
            lag_seconds: lag_ms.map(|lag_ms| lag_ms as f64 / 1_000.0),
            backlog_messages: view.backlog,
            in_flight_messages: view.backlog_in_flight,
            last_error: view.last_error.map(ErrorBody::of),
        }
    }
}

#[derive(Serialize)]
pub(super) struct EgressBody {
    id: String,
    waiting: usize,
    stopped: Option<StopBody>,
    delivered: u64,
    refused: u64,
    retried: u64,
    last_success: Option<String>,
    last_error: Option<ErrorBody>,
}

impl EgressBody {
    pub(super) fn of(view: EgressView, waiting: usize) -> Self {
        Self {
            id: view.id,
            waiting,
            stopped: view.stopped.map(StopBody::of),
            delivered: view.delivered,
            refused: view.refused,
            retried: view.retried,
            last_success: view.last_success_ms.map(format_rfc3339),
            last_error: view.last_error.map(ErrorBody::of),
        }
    }
}

/// Stop of an egress.
#[derive(Serialize)]
struct StopBody {
    problem: &'static str,
    since: String,
}

impl StopBody {
    fn of(stopped: EgressStopped) -> Self {
        Self {
            problem: stopped.problem,
            since: format_rfc3339(stopped.since_ms),
        }
    }
}

/// Stopped egress, as `/readyz` shows it to every client. The full reason is in the log.
#[derive(Serialize)]
pub(in crate::http) struct StoppedEgress {
    id: String,
    #[serde(flatten)]
    stop: StopBody,
}

impl StoppedEgress {
    /// Lists the stopped ones among these egresses.
    pub(in crate::http) fn list(egresses: Vec<EgressView>) -> Vec<Self> {
        let stopped = egresses.into_iter().filter_map(|view| {
            let stop = StopBody::of(view.stopped?);
            Some(Self { id: view.id, stop })
        });
        stopped.collect()
    }
}

#[derive(Serialize)]
pub(super) struct AddressEntry {
    /// `namespace/name/id`. The separate parts follow, because each may contain a `/`.
    address: String,
    namespace: String,
    name: String,
    id: String,
    states: usize,
    backlog: Backlog,
    in_flight: bool,
    suspended: Option<String>,
    failing: Option<Failing>,
}

impl AddressEntry {
    pub(super) fn of(summary: AddressSummary) -> Self {
        let Address { function, id } = &summary.address;
        Self {
            address: summary.address.to_string(),
            namespace: function.namespace().to_owned(),
            name: function.name().to_owned(),
            id: id.to_string(),
            states: summary.states,
            backlog: Backlog {
                messages: summary.backlog_messages,
                bytes: summary.backlog_bytes,
            },
            in_flight: summary.in_flight,
            suspended: summary.suspended,
            failing: summary
                .failing
                .map(|(attempts, reason)| Failing { attempts, reason }),
        }
    }
}
