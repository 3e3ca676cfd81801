//! Options of the ingress.

use std::sync::Arc;
use std::time::Duration;

/// Options of an ingress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqsOptions {
    /// The ingress's id, `namespace/name`.
    pub ingress: Arc<str>,
    /// URL of the queue.
    pub queue_url: String,
    /// Time for which a received message is hidden from other receivers. It is extended while the
    /// message is pending. Whole seconds.
    pub visibility: Duration,
    /// Maximum time that one request waits at an empty queue, up to 20 whole seconds.
    pub wait: Duration,
    /// Time for which the id of a message is kept after the queue has confirmed its deletion.
    pub window: Duration,
    /// Number of requests that wait for messages at once.
    pub receivers: usize,
    /// Maximum number of messages per request, up to 10.
    pub messages_per_request: i32,
}

impl SqsOptions {
    /// Options to receive for `ingress` from the queue at `queue_url`.
    pub fn new(ingress: impl Into<Arc<str>>, queue_url: impl Into<String>) -> Self {
        Self {
            ingress: ingress.into(),
            queue_url: queue_url.into(),
            visibility: Duration::from_secs(30),
            wait: Duration::from_secs(20),
            window: Duration::from_secs(600),
            receivers: 2,
            messages_per_request: 10,
        }
    }
}
