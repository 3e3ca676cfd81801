//! Endpoints: where the functions of an application are served, and how they are invoked.

use crate::address::FunctionType;
use crate::invocation::EndpointIndex;

/// Which functions an endpoint serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FunctionPattern {
    /// Exactly this function type, `namespace/name`.
    One(FunctionType),
    /// Every function of this namespace that no other endpoint names exactly, `namespace/*`.
    Namespace(String),
}

/// What the engine must know of an endpoint. How to reach it is the adapter's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The functions that it serves.
    pub functions: Vec<FunctionPattern>,
    /// The largest number of messages in one batch.
    pub batch_messages_max: usize,
    /// The largest number of batches in one request; 1 where the protocol knows no bundles.
    pub bundle_batches_max: usize,
    /// The largest size of one request in bytes, counted before base64 expands it.
    pub bundle_bytes_max: usize,
    /// The largest number of requests under way at once.
    pub concurrency_max: usize,
    /// When and how long a failed message is tried again.
    pub retries: Retries,
    /// What happens to a message that failed for good.
    pub on_poison: OnPoison,
}

/// When and how long a failed message is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// How many attempts a message is given, counted while it is alone in its batch. At least 1.
    pub attempts_max: u32,
    /// The delay before the second attempt; it doubles with each further one.
    pub backoff_initial_ms: u64,
    /// The delay grows no longer than this.
    pub backoff_max_ms: u64,
}

/// What happens to a message that failed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPoison {
    /// It becomes a dead letter and its address goes on.
    DeadLetter,
    /// Its address is suspended with the message at its head, until a person resumes it.
    Suspend,
}

/// The endpoints of an application, in the order of the module files.
#[derive(Debug, Clone, Default)]
pub struct Endpoints(Vec<Endpoint>);

impl Endpoints {
    /// The endpoints, whose [`EndpointIndex`] is their place in `endpoints`.
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        Self(endpoints)
    }

    /// The endpoint at `index`.
    pub fn get(&self, index: EndpointIndex) -> &Endpoint {
        &self.0[index.0 as usize]
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (EndpointIndex, &Endpoint)> {
        (0..).map(EndpointIndex).zip(&self.0)
    }

    /// The endpoint that serves `function`: one that names it exactly before one that names its namespace.
    pub fn serving(&self, function: &FunctionType) -> Option<EndpointIndex> {
        let exactly = |pattern: &FunctionPattern| matches!(pattern, FunctionPattern::One(one) if one == function);
        let by_namespace = |pattern: &FunctionPattern| matches!(pattern, FunctionPattern::Namespace(namespace) if namespace == function.namespace());
        self.find(exactly).or_else(|| self.find(by_namespace))
    }

    fn find(&self, serves: impl Fn(&FunctionPattern) -> bool) -> Option<EndpointIndex> {
        self.iter()
            .find(|(_, endpoint)| endpoint.functions.iter().any(&serves))
            .map(|(index, _)| index)
    }
}
