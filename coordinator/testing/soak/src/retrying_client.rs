//! Client that repeats a request under one idempotency key, against one process after the other,
//! until one answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Method;
use satchel_testkit::{Client, Lost, Reply, Request};
use serde::Serialize;
use serde_json::Value;

use crate::metrics::Metrics;
use crate::sabotage::Sabotage;

/// Timeout of one attempt, after which the client turns to another process. The abandoned
/// request may still take effect; the idempotency key covers that case.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// Timeout over all attempts. Longer than any disruption, even if several overlap.
pub(crate) const TOTAL_TIMEOUT: Duration = Duration::from_secs(180);

const BACKOFF: Duration = Duration::from_millis(200);

/// The processes of an application from a client's perspective.
#[derive(Debug)]
pub(crate) struct RetryingClient {
    processes: Vec<Client>,
    token: Option<String>,
    /// Repeated requests keep their key, as they must.
    keeps_keys: bool,
    /// Each request turns to the next process, as behind a load balancer.
    in_turn: bool,
    /// Index of the process that answered last, or of the next one in turn.
    preferred: AtomicUsize,
    /// Time of the last answer; `None` while silence is not measured.
    answered: Mutex<Option<Instant>>,
}

/// A request.
#[derive(Debug)]
pub(crate) enum ClientRequest {
    /// Call of a function under a key.
    Call(KeyedMessage),
    /// Message to a function under a key.
    Send(KeyedMessage),
    /// Request to the administration port: method and path.
    Administer(Method, String),
}

/// A message with its address and idempotency key.
#[derive(Debug)]
pub(crate) struct KeyedMessage {
    address: String,
    body: Value,
    key: String,
}

impl KeyedMessage {
    /// Creates a message to this address under this key.
    pub(crate) fn new(address: &str, body: &impl Serialize, key: &str) -> Self {
        Self {
            address: address.to_owned(),
            body: serde_json::to_value(body).expect("messages are structs with text keys"),
            key: key.to_owned(),
        }
    }
}

impl ClientRequest {
    /// Sends the request once, with a key for this attempt alone if one is given.
    async fn attempt(
        &self,
        client: &Client,
        token: Option<&str>,
        key_of: Option<u32>,
    ) -> Result<Reply, Lost> {
        let keyed = |request: Request, message: &KeyedMessage| {
            let key = match key_of {
                Some(attempt) => format!("{}-{attempt}", message.key),
                None => message.key.clone(),
            };
            request.json(&message.body).key(key)
        };
        match self {
            Self::Call(message) => {
                keyed(client.to_call(&message.address), message)
                    .send()
                    .await
            }
            Self::Send(message) => {
                keyed(client.to_send(&message.address), message)
                    .send()
                    .await
            }
            Self::Administer(method, path) => client.try_admin(method.clone(), path, token).await,
        }
    }
}

/// No process answered within [`TOTAL_TIMEOUT`].
#[derive(Debug)]
pub(crate) struct Unanswered(pub(crate) String);

impl RetryingClient {
    /// Creates a client of these processes that uses this administration token.
    pub(crate) fn of(
        processes: Vec<Client>,
        token: Option<String>,
        sabotage: Option<Sabotage>,
    ) -> Self {
        Self {
            processes,
            token,
            keeps_keys: sabotage != Some(Sabotage::WithoutKeys),
            in_turn: false,
            preferred: AtomicUsize::new(0),
            answered: Mutex::new(None),
        }
    }

    /// Turns to the next process with each request.
    pub(crate) fn in_turn(self) -> Self {
        Self {
            in_turn: true,
            ..self
        }
    }

    /// Clients of all processes.
    pub(crate) fn processes(&self) -> &[Client] {
        &self.processes
    }

    /// Repeats the request until an answer says whether it took effect. Without a key it may have
    /// taken effect more than once.
    ///
    /// # Errors
    ///
    /// When no process answers within [`TOTAL_TIMEOUT`].
    pub(crate) async fn send(
        &self,
        request: &ClientRequest,
        metrics: &Metrics,
    ) -> Result<Reply, Unanswered> {
        let begun = Instant::now();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let key_of = (!self.keeps_keys).then_some(attempt);
            let preferred = match self.in_turn {
                true => self.preferred.fetch_add(1, Ordering::Relaxed),
                false => self.preferred.load(Ordering::Relaxed),
            };
            let client = &self.processes[preferred % self.processes.len()];
            let attempted = request.attempt(client, self.token.as_deref(), key_of);
            let outcome = match tokio::time::timeout(ATTEMPT_TIMEOUT, attempted).await {
                Ok(Ok(reply)) if ![503, 504].contains(&reply.status) => {
                    self.record_answer(metrics);
                    return Ok(reply);
                }
                Ok(Ok(reply)) => format!("{reply:?}"),
                Ok(Err(lost)) => lost.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            metrics.count("repeated requests");
            if begun.elapsed() > TOTAL_TIMEOUT {
                return Err(Unanswered(format!(
                    "no answer to {request:?} within {TOTAL_TIMEOUT:?}; last: {outcome}"
                )));
            }
            // Unless another task has turned away from it already.
            let _ = self.preferred.compare_exchange(
                preferred,
                preferred.wrapping_add(1),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            tokio::time::sleep(BACKOFF).await;
        }
    }

    /// Client of the process that answered last.
    pub(crate) fn client(&self) -> &Client {
        &self.processes[self.preferred.load(Ordering::Relaxed) % self.processes.len()]
    }

    /// Starts or stops measuring the time without any answer.
    pub(crate) fn measure_silence(&self, measure: bool) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        *answered = measure.then(Instant::now);
    }

    fn record_answer(&self, metrics: &Metrics) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = answered.as_mut() {
            metrics.observe("silence", last.elapsed());
            *last = Instant::now();
        }
    }
}
