//! The ingress: receives messages, passes them to the partition, and deletes them when they are
//! durable.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sqs::Client;
use satchel_clock::{Backoff, BootTime, calendar_ms, sleep_until};
use satchel_engine::input::Input;
use satchel_engine::queue::QueuedMessage;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::requests::{self, Received, RequestFailure};
use super::{QueueCommand, QueuePort, SqsObserver, SqsOptions, SqsRouter, UNCONFIRMED_KEEP};
use crate::egress::with_timeout;
use crate::kinesis::pace::Denials;
use satchel_engine::source::queue::{Receipt, ReceivedMessages};

/// Maximum duration of a request that does not wait for messages.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of delete and extend requests in flight.
const REQUESTS_MAX: usize = 16;

/// Maximum number of messages that are received and not deleted. Nothing more is received then,
/// because deletions do not keep up.
const HELD_MAX: usize = 10_000;

const HELD_INTERVAL: Duration = Duration::from_millis(50);

/// Interval at which the size of the queue is requested.
const BACKLOG_INTERVAL: Duration = Duration::from_secs(30);

/// Number of consecutive failures from which on failures are logged.
const FAILURES_LOGGED: u32 = 3;

/// Reason why a queue is not received from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SqsError {
    /// The queue does not exist.
    #[error(
        "ingress {ingress}: there is no queue {queue_url} in this account and region; \
        create it or correct its URL"
    )]
    NoQueue {
        /// The ingress's id.
        ingress: String,
        /// URL of the queue.
        queue_url: String,
    },
    /// SQS denies this process access to the queue.
    #[error("ingress {ingress}: SQS denies access to the queue {queue_url}: {reason}")]
    Refused {
        /// The ingress's id.
        ingress: String,
        /// URL of the queue.
        queue_url: String,
        /// Operation that SQS denied, and its reason.
        reason: String,
    },
}

/// Receives from one queue for one ingress.
pub struct SqsIngress {
    /// Client for requests that wait for messages.
    receive_client: Client,
    client: Client,
    options: SqsOptions,
    router: SqsRouter,
    observer: Arc<dyn SqsObserver>,
}

struct Shared {
    ingress: SqsIngress,
    inputs: mpsc::Sender<Input>,
    messages: Mutex<ReceivedMessages>,
    /// Denials of deletions and of extensions.
    denials: (Mutex<Denials>, Mutex<Denials>),
    /// Notified when messages were received.
    received: Notify,
    started: BootTime,
}

impl SqsIngress {
    /// Creates an ingress that uses this AWS configuration.
    pub fn new(
        config: &SdkConfig,
        options: SqsOptions,
        router: SqsRouter,
        observer: Arc<dyn SqsObserver>,
    ) -> Self {
        let receive_timeout = options.wait + ANSWER_TIMEOUT;
        Self {
            receive_client: Client::new(&with_timeout(config, receive_timeout)),
            client: Client::new(&with_timeout(config, ANSWER_TIMEOUT)),
            options,
            router,
            observer,
        }
    }

    /// Receives until the partition ends, that is, until the receiver of `inputs` is dropped.
    /// Messages that are not deleted by then are handed out again when they become visible.
    ///
    /// # Errors
    ///
    /// [`SqsError`]: the queue does not exist, or this process may not receive from it or delete
    /// its messages.
    pub async fn run(
        self,
        inputs: mpsc::Sender<Input>,
        port: Arc<dyn QueuePort>,
    ) -> Result<(), SqsError> {
        let closed = inputs.clone();
        tokio::select! {
            read = self.read(inputs, port) => read,
            () = closed.closed() => Ok(()),
        }
    }

    async fn read(
        self,
        inputs: mpsc::Sender<Input>,
        port: Arc<dyn QueuePort>,
    ) -> Result<(), SqsError> {
        self.check_queue().await?;
        let ingress = Arc::clone(&self.options.ingress);
        let mut commands = port.listen(Arc::clone(&ingress));
        if inputs.send(Input::QueueFound { ingress }).await.is_err() {
            return Ok(());
        }
        // A held fork waits here.
        loop {
            match commands.recv().await {
                Some(QueueCommand::Receive) => break,
                Some(QueueCommand::Deletable(_)) => {}
                None => return Ok(()),
            }
        }
        tracing::info!(
            ingress = %self.options.ingress,
            queue = %self.options.queue_url,
            "receiving from SQS queue"
        );
        let visibility_ms = self.options.visibility.as_millis() as u64;
        let receive_timeout_ms = (self.options.wait + ANSWER_TIMEOUT).as_millis() as u64;
        let shared = Arc::new(Shared {
            ingress: self,
            inputs,
            messages: Mutex::new(ReceivedMessages::new(visibility_ms, receive_timeout_ms)),
            denials: Default::default(),
            received: Notify::new(),
            started: BootTime::now(),
        });
        let mut tasks = JoinSet::new();
        for _ in 0..shared.ingress.options.receivers {
            tasks.spawn(receive(Arc::clone(&shared), Arc::clone(&port)));
        }
        tasks.spawn(watch_backlog(Arc::clone(&shared)));
        let outcome = tokio::select! {
            outcome = maintain(&shared, commands) => outcome,
            error = first_error(&mut tasks) => Err(error),
        };
        // No receiver outlives the others, so that the queue may be received from anew.
        tasks.shutdown().await;
        outcome
    }

    /// Checks the queue once, so that a missing or inaccessible queue is reported at once.
    async fn check_queue(&self) -> Result<(), SqsError> {
        let mut backoff = Backoff::default();
        loop {
            let asked = requests::backlog(&self.client, &self.options.queue_url).await;
            let Err(failure) = asked else {
                return Ok(());
            };
            if let Some(error) = self.inaccessible(&failure) {
                return Err(error);
            }
            self.report_retry("GetQueueAttributes", &failure, backoff.failures());
            backoff.wait().await;
        }
    }

    /// Error of a queue that is missing or forbidden, if that is why a request failed.
    fn inaccessible(&self, failure: &RequestFailure) -> Option<SqsError> {
        let ingress = self.options.ingress.to_string();
        let queue_url = self.options.queue_url.clone();
        if failure.missing {
            return Some(SqsError::NoQueue { ingress, queue_url });
        }
        failure.denied.then(|| SqsError::Refused {
            ingress,
            queue_url,
            reason: failure.reason.clone(),
        })
    }

    /// Notes the outcome of a request.
    ///
    /// # Errors
    /// The queue has been missing or forbidden to every such request for a while.
    fn note_denial(
        &self,
        denials: &mut Denials,
        failure: Option<&RequestFailure>,
    ) -> Result<(), SqsError> {
        let error = failure.and_then(|failure| self.inaccessible(failure));
        match (denials.note(error.is_some()), error) {
            (true, Some(error)) => Err(error),
            _ => Ok(()),
        }
    }

    fn report_retry(&self, operation: &'static str, failure: &RequestFailure, failures: u32) {
        self.observer.retried(operation, failure.throttled);
        let error = format!("{operation}: {}", failure.reason);
        self.observer.failed(&self.options.ingress, &error);
        if failures >= FAILURES_LOGGED {
            let (ingress, reason) = (&self.options.ingress, &failure.reason);
            tracing::warn!(%ingress, operation, %reason, "SQS request failed; retrying");
        }
    }
}

impl Shared {
    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn messages(&self) -> std::sync::MutexGuard<'_, ReceivedMessages> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes received messages to the partition. Returns false if the partition has ended.
    async fn deliver(&self, received: Vec<Received>) -> bool {
        let SqsIngress {
            options,
            router,
            observer,
            ..
        } = &self.ingress;
        let sent_ms = received.iter().filter_map(|it| it.sent_ms).min();
        let behind_ms = sent_ms.map_or(0, |sent_ms| calendar_ms().saturating_sub(sent_ms));
        observer.lag(&options.ingress, behind_ms);
        if received.is_empty() {
            return true;
        }
        let bytes = received.iter().map(|it| it.message.body.len() as u64);
        observer.received(&options.ingress, received.len() as u64, bytes.sum());
        let mut queued = Vec::with_capacity(received.len());
        {
            let (mut messages, now_ms) = (self.messages(), self.now_ms());
            for Received {
                message, handle, ..
            } in received
            {
                let id = message.queued_id();
                messages.received(now_ms, id, handle);
                queued.push(QueuedMessage {
                    id,
                    name: message.id.as_str().into(),
                    routed: router(&message),
                    trace: message.trace(),
                });
            }
        }
        self.received.notify_one();
        let sent = self.inputs.send(Input::MessagesReceived {
            ingress: Arc::clone(&options.ingress),
            messages: queued,
            keep_ms: UNCONFIRMED_KEEP.as_millis() as u64,
        });
        sent.await.is_ok()
    }

    async fn delete(self: Arc<Self>, handed: Vec<Receipt>) -> Result<(), SqsError> {
        let SqsIngress {
            client,
            options,
            observer,
            ..
        } = &self.ingress;
        let (fates, failure) = requests::delete(client, &options.queue_url, handed).await;
        if let Some(failure) = &failure {
            self.ingress
                .report_retry("DeleteMessageBatch", failure, FAILURES_LOGGED);
        }
        let denial = self.note_denial(&self.denials.0, failure.as_ref());
        let ids = self.messages().deleted(self.now_ms(), fates);
        if ids.is_empty() {
            return denial;
        }
        observer.deleted(&options.ingress, ids.len() as u64);
        // If the partition has ended, its successor keeps these ids for longer than needed.
        let _ = self
            .inputs
            .send(Input::MessagesDeleted {
                ingress: Arc::clone(&options.ingress),
                ids,
                keep_ms: options.window.as_millis() as u64,
            })
            .await;
        denial
    }

    async fn extend(self: Arc<Self>, handed: Vec<Receipt>) -> Result<(), SqsError> {
        let SqsIngress {
            client, options, ..
        } = &self.ingress;
        let (url, visibility) = (&options.queue_url, options.visibility);
        let (fates, failure) = requests::extend(client, url, handed, visibility).await;
        if let Some(failure) = &failure {
            self.ingress
                .report_retry("ChangeMessageVisibilityBatch", failure, FAILURES_LOGGED);
        }
        let denial = self.note_denial(&self.denials.1, failure.as_ref());
        self.messages().extended(self.now_ms(), fates);
        denial
    }

    fn note_denial(
        &self,
        denials: &Mutex<Denials>,
        failure: Option<&RequestFailure>,
    ) -> Result<(), SqsError> {
        let mut denials = denials.lock().unwrap_or_else(PoisonError::into_inner);
        self.ingress.note_denial(&mut denials, failure)
    }
}

/// Waits for an error of a task. Tasks that end without one leave the rest to the others.
async fn first_error(tasks: &mut JoinSet<Result<(), SqsError>>) -> SqsError {
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
    std::future::pending().await
}

/// Receives messages until the partition has ended.
async fn receive(shared: Arc<Shared>, port: Arc<dyn QueuePort>) -> Result<(), SqsError> {
    let SqsIngress {
        receive_client,
        options,
        ..
    } = &shared.ingress;
    let mut paused = port.paused();
    let mut backoff = Backoff::default();
    let mut denials = Denials::default();
    loop {
        if paused.wait_for(|paused| !paused).await.is_err() {
            return Ok(());
        }
        if shared.messages().len() >= HELD_MAX {
            tokio::time::sleep(HELD_INTERVAL).await;
            continue;
        }
        let asked_ms = shared.now_ms();
        match requests::receive(receive_client, options).await {
            Ok(_) if !shared.messages().is_fresh(asked_ms, shared.now_ms()) => {
                tracing::warn!(
                    ingress = %options.ingress,
                    "SQS response too old; dropping it, its messages are received again"
                );
            }
            Ok(received) => {
                backoff.reset();
                denials.note(false);
                if !shared.deliver(received).await {
                    return Ok(());
                }
            }
            Err(failure) => {
                let ingress = &shared.ingress;
                ingress.report_retry("ReceiveMessage", &failure, backoff.failures());
                ingress.note_denial(&mut denials, Some(&failure))?;
                backoff.wait().await;
            }
        }
    }
}

/// Deletes the deletable messages and extends the visibility timeout of the others, until the
/// partition has ended.
///
/// # Errors
/// The queue is missing, or this process may not delete or extend.
async fn maintain(
    shared: &Arc<Shared>,
    mut commands: mpsc::UnboundedReceiver<QueueCommand>,
) -> Result<(), SqsError> {
    let mut requests = JoinSet::new();
    let mut batch = Vec::new();
    loop {
        while requests.len() < REQUESTS_MAX {
            let now_ms = shared.now_ms();
            let deletions = shared.messages().poll_deletions(now_ms);
            if !deletions.is_empty() {
                requests.spawn(Arc::clone(shared).delete(deletions));
                continue;
            }
            let extensions = shared.messages().poll_extensions(now_ms);
            if extensions.is_empty() {
                break;
            }
            requests.spawn(Arc::clone(shared).extend(extensions));
        }
        let has_room = requests.len() < REQUESTS_MAX;
        let due_ms = shared.messages().wake_at_ms().filter(|_| has_room);
        let due = due_ms.map(|due_ms| shared.started + Duration::from_millis(due_ms));
        tokio::select! {
            count = commands.recv_many(&mut batch, 1_000) => {
                if count == 0 {
                    return Ok(());
                }
                let now_ms = shared.now_ms();
                for command in batch.drain(..) {
                    if let QueueCommand::Deletable(ids) = command {
                        shared.messages().mark_deletable(now_ms, &ids);
                    }
                }
            }
            Some(done) = requests.join_next() => match done {
                Ok(outcome) => outcome?,
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            },
            () = shared.received.notified() => {}
            () = sleep_until(due.unwrap_or_else(BootTime::now)), if due.is_some() => {}
        }
    }
}

/// Reports the size of the queue at an interval.
async fn watch_backlog(shared: Arc<Shared>) -> Result<(), SqsError> {
    let SqsIngress {
        client,
        options,
        observer,
        ..
    } = &shared.ingress;
    loop {
        match requests::backlog(client, &options.queue_url).await {
            Ok(backlog) => observer.backlog(&options.ingress, backlog.visible, backlog.in_flight),
            Err(failure) => {
                shared
                    .ingress
                    .report_retry("GetQueueAttributes", &failure, FAILURES_LOGGED);
            }
        }
        tokio::time::sleep(BACKLOG_INTERVAL).await;
    }
}
