//! Endpoints: services that run the functions of an application, and the limits for invoking them.

use crate::address::FunctionType;
use crate::invocation::EndpointIndex;

/// Set of functions that an endpoint serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FunctionPattern {
    /// Exactly this function type, `namespace/name`.
    One(FunctionType),
    /// Every function of this namespace that no other endpoint names exactly, `namespace/*`.
    Namespace(String),
}

/// Properties of an endpoint that the engine needs. Only the adapter knows its location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Functions that the endpoint serves.
    pub functions: Vec<FunctionPattern>,
    /// Maximum number of messages in one batch.
    pub batch_messages_max: usize,
    /// Maximum number of batches in one request; 1 if the protocol has no bundles.
    pub bundle_batches_max: usize,
    /// Maximum size of one request in bytes, counted before base64 expands it.
    pub bundle_bytes_max: usize,
    /// Maximum number of concurrent requests.
    pub concurrency_max: usize,
    /// Time that batches gather while requests are in flight. Without meaning if a request holds
    /// only one batch.
    pub linger: Linger,
    /// Retry limits for a failing message.
    pub retries: Retries,
    /// Treatment of a message that failed for good.
    pub on_poison: OnPoison,
}

/// Maximum linger of an endpoint that does not set one, in ms.
pub const LINGER_MAX_MS: u64 = 10;

/// Maximum time that a batch waits for others, to share a request with them, while requests to its
/// endpoint are in flight. A batch leaves at once while none is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linger {
    /// As long as the endpoint takes to answer a request, at most [`LINGER_MAX_MS`], and only while
    /// batches come often enough for another one to be expected in that time.
    Measured,
    /// This time in ms; 0 for none.
    Fixed(u64),
}

/// Retry limits for a failing message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Maximum number of attempts of a message, at least 1. Only attempts with the message alone in
    /// its batch count.
    pub attempts_max: u32,
    /// Delay before the second attempt, in ms. The delay doubles with each further attempt.
    pub backoff_initial_ms: u64,
    /// Maximum delay between two attempts, in ms.
    pub backoff_max_ms: u64,
}

/// Treatment of a message that failed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPoison {
    /// The message becomes a dead letter and its address continues.
    DeadLetter,
    /// The address is suspended with the message at its head until an operator resumes it.
    Suspend,
}

/// Endpoints of an application, in the order of the module files.
#[derive(Debug, Clone, Default)]
pub struct Endpoints(Vec<Endpoint>);

impl Endpoints {
    /// Creates the list. The [`EndpointIndex`] of an endpoint is its index in `endpoints`.
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        Self(endpoints)
    }

    /// Returns the endpoint at `index`.
    pub fn get(&self, index: EndpointIndex) -> &Endpoint {
        &self.0[index.0 as usize]
    }

    /// Iterates over all endpoints in order.
    pub fn iter(&self) -> impl Iterator<Item = (EndpointIndex, &Endpoint)> {
        (0..).map(EndpointIndex).zip(&self.0)
    }

    /// Finds the endpoint that serves `function`. An endpoint that names the function exactly takes
    /// precedence over one that names its namespace.
    pub fn serving(&self, function: &FunctionType) -> Option<EndpointIndex> {
        let exactly = |pattern: &FunctionPattern| match pattern {
            FunctionPattern::One(one) => one == function,
            FunctionPattern::Namespace(_) => false,
        };
        let by_namespace = |pattern: &FunctionPattern| match pattern {
            FunctionPattern::One(_) => false,
            FunctionPattern::Namespace(namespace) => namespace == function.namespace(),
        };
        self.find(exactly).or_else(|| self.find(by_namespace))
    }

    fn find(&self, serves: impl Fn(&FunctionPattern) -> bool) -> Option<EndpointIndex> {
        self.iter()
            .find(|(_, endpoint)| endpoint.functions.iter().any(&serves))
            .map(|(index, _)| index)
    }
}
