//! The ingress: receives, tells the partition, and deletes what the partition has made durable.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::SdkConfig;
use aws_sdk_sqs::Client;
use satchel_engine::input::Input;
use satchel_engine::queue::QueuedMessage;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::requests::{self, Received, Trouble};
use super::{QueuePort, QueueWord, SqsObserver, SqsRouter, UNCONFIRMED_KEEP};
use crate::egress::with_timeout;
use crate::kinesis::backoff::Backoff;
use satchel_engine::source::queue::{Handed, ReceivedMessages};

/// How long an answer may take that waits for nothing.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How many requests that delete or extend may be under way.
const REQUESTS_MAX: usize = 16;

/// With so many messages received and not deleted, nothing more is received: deletions do not keep up.
const HELD_MAX: usize = 10_000;

const HELD_INTERVAL: Duration = Duration::from_millis(50);

/// How often a queue is asked how many messages it has.
const BACKLOG_INTERVAL: Duration = Duration::from_secs(30);

/// After how many failures in a row a line is written.
const FAILURES_TOLD: u32 = 3;

/// What is received, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqsOptions {
    /// The ingress's id, `namespace/name`.
    pub ingress: Arc<str>,
    /// The queue.
    pub queue_url: String,
    /// For so long a received message is kept from others, again and again while it is pending. Whole seconds.
    pub visibility: Duration,
    /// How long an empty queue is waited at in one request, up to 20 whole seconds.
    pub wait: Duration,
    /// How long the id of a message is kept after the queue has confirmed that it is deleted.
    pub window: Duration,
    /// How many requests wait for messages at once.
    pub receivers: usize,
    /// At most so many messages are asked for with one request, up to 10.
    pub messages_per_request: i32,
}

impl SqsOptions {
    /// Receives for `ingress` from the queue at `queue_url`.
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

/// Why a queue is not received from at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SqsError {
    /// The queue does not exist.
    #[error("ingress {ingress}: there is no queue {queue_url} in this account and region")]
    NoQueue {
        /// The ingress's id.
        ingress: String,
        /// The queue.
        queue_url: String,
    },
    /// SQS refuses to show the queue to this process.
    #[error(
        "ingress {ingress}: SQS refuses to tell the attributes of the queue {queue_url}: {reason}"
    )]
    Refused {
        /// The ingress's id.
        ingress: String,
        /// The queue.
        queue_url: String,
        /// What SQS says.
        reason: String,
    },
}

/// Receives from one queue for one ingress.
pub struct SqsIngress {
    /// For requests that wait for messages.
    patient: Client,
    client: Client,
    options: SqsOptions,
    router: SqsRouter,
    observer: Arc<dyn SqsObserver>,
}

struct Shared {
    ingress: SqsIngress,
    inputs: mpsc::Sender<Input>,
    inbox: Mutex<ReceivedMessages>,
    /// Something was received.
    received: Notify,
    begun: Instant,
}

impl SqsIngress {
    /// Receives with this AWS configuration.
    pub fn new(
        config: &SdkConfig,
        options: SqsOptions,
        router: SqsRouter,
        observer: Arc<dyn SqsObserver>,
    ) -> Self {
        let patience = options.wait + ANSWER_TIMEOUT;
        Self {
            patient: Client::new(&with_timeout(config, patience)),
            client: Client::new(&with_timeout(config, ANSWER_TIMEOUT)),
            options,
            router,
            observer,
        }
    }

    /// Receives until the partition is gone, which is when nobody takes `inputs` any more. What is not deleted by then is handed out again when it
    /// becomes visible.
    ///
    /// # Errors
    ///
    /// [`SqsError`], by the first look at the queue only.
    pub async fn run(
        self,
        inputs: mpsc::Sender<Input>,
        port: Arc<dyn QueuePort>,
    ) -> Result<(), SqsError> {
        let gone = inputs.clone();
        tokio::select! {
            read = self.read(inputs, port) => read,
            () = gone.closed() => Ok(()),
        }
    }

    async fn read(
        self,
        inputs: mpsc::Sender<Input>,
        port: Arc<dyn QueuePort>,
    ) -> Result<(), SqsError> {
        self.first_look().await?;
        let ingress = Arc::clone(&self.options.ingress);
        let mut words = port.listen(Arc::clone(&ingress));
        if inputs.send(Input::QueueFound { ingress }).await.is_err() {
            return Ok(());
        }
        // A fork that is held waits here.
        loop {
            match words.recv().await {
                Some(QueueWord::Receive) => break,
                Some(QueueWord::Deletable(_)) => {}
                None => return Ok(()),
            }
        }
        tracing::info!(ingress = %self.options.ingress, queue = %self.options.queue_url, "receiving from a queue");
        let visibility_ms = self.options.visibility.as_millis() as u64;
        let patience_ms = (self.options.wait + ANSWER_TIMEOUT).as_millis() as u64;
        let shared = Arc::new(Shared {
            ingress: self,
            inputs,
            inbox: Mutex::new(ReceivedMessages::new(visibility_ms, patience_ms)),
            received: Notify::new(),
            begun: Instant::now(),
        });
        let mut tasks = JoinSet::new();
        for _ in 0..shared.ingress.options.receivers {
            tasks.spawn(receive(Arc::clone(&shared), Arc::clone(&port)));
        }
        tasks.spawn(watch_backlog(Arc::clone(&shared)));
        keep(&shared, words).await;
        Ok(())
    }

    /// A queue that is missing or not to be used is told at once, and not by silence.
    async fn first_look(&self) -> Result<(), SqsError> {
        let (ingress, queue_url) = (
            self.options.ingress.to_string(),
            self.options.queue_url.clone(),
        );
        let mut backoff = Backoff::default();
        loop {
            let Err(trouble) = requests::backlog(&self.client, &queue_url).await else {
                return Ok(());
            };
            if trouble.missing {
                return Err(SqsError::NoQueue { ingress, queue_url });
            }
            if trouble.denied {
                let reason = trouble.reason;
                return Err(SqsError::Refused {
                    ingress,
                    queue_url,
                    reason,
                });
            }
            self.repeated("GetQueueAttributes", &trouble, backoff.failures());
            backoff.wait().await;
        }
    }

    fn repeated(&self, operation: &'static str, trouble: &Trouble, failures: u32) {
        self.observer.repeated(operation, trouble.throttled);
        if failures >= FAILURES_TOLD {
            let (ingress, reason) = (&self.options.ingress, &trouble.reason);
            tracing::warn!(%ingress, operation, %reason, "SQS does not answer well; the request is repeated");
        }
    }
}

impl Shared {
    fn now_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    fn inbox(&self) -> std::sync::MutexGuard<'_, ReceivedMessages> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands to the partition what was received. Returns whether it is there.
    async fn hand_in(&self, received: Vec<Received>) -> bool {
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
        let mut messages = Vec::with_capacity(received.len());
        {
            let (mut inbox, now_ms) = (self.inbox(), self.now_ms());
            for Received {
                message, handle, ..
            } in received
            {
                let id = message.queued_id();
                inbox.received(now_ms, id, handle);
                messages.push(QueuedMessage {
                    id,
                    name: message.id.as_str().into(),
                    routed: router(&message),
                });
            }
        }
        self.received.notify_one();
        let told = self.inputs.send(Input::MessagesReceived {
            ingress: Arc::clone(&options.ingress),
            messages,
            keep_ms: UNCONFIRMED_KEEP.as_millis() as u64,
        });
        told.await.is_ok()
    }

    async fn delete(self: Arc<Self>, handed: Vec<Handed>) {
        let SqsIngress {
            client,
            options,
            observer,
            ..
        } = &self.ingress;
        let (fates, trouble) = requests::delete(client, &options.queue_url, handed).await;
        if let Some(trouble) = trouble {
            self.ingress
                .repeated("DeleteMessageBatch", &trouble, FAILURES_TOLD);
        }
        let ids = self.inbox().deleted(self.now_ms(), fates);
        if ids.is_empty() {
            return;
        }
        observer.deleted(&options.ingress, ids.len() as u64);
        // A partition that is gone has a successor that knows these ids for longer than it must.
        let _ = self
            .inputs
            .send(Input::MessagesDeleted {
                ingress: Arc::clone(&options.ingress),
                ids,
                keep_ms: options.window.as_millis() as u64,
            })
            .await;
    }

    async fn extend(self: Arc<Self>, handed: Vec<Handed>) {
        let SqsIngress {
            client, options, ..
        } = &self.ingress;
        let (url, visibility) = (&options.queue_url, options.visibility);
        let (fates, trouble) = requests::extend(client, url, handed, visibility).await;
        if let Some(trouble) = trouble {
            self.ingress
                .repeated("ChangeMessageVisibilityBatch", &trouble, FAILURES_TOLD);
        }
        self.inbox().extended(self.now_ms(), fates);
    }
}

/// Receives, as long as the partition takes it.
async fn receive(shared: Arc<Shared>, port: Arc<dyn QueuePort>) {
    let SqsIngress {
        patient, options, ..
    } = &shared.ingress;
    let mut paused = port.paused();
    let mut backoff = Backoff::default();
    loop {
        if paused.wait_for(|paused| !paused).await.is_err() {
            return;
        }
        if shared.inbox().len() >= HELD_MAX {
            tokio::time::sleep(HELD_INTERVAL).await;
            continue;
        }
        let asked_ms = shared.now_ms();
        match requests::receive(patient, options).await {
            Ok(_) if !shared.inbox().is_fresh(asked_ms, shared.now_ms()) => {
                tracing::warn!(ingress = %options.ingress, "an answer of SQS is not taken because it is too old; its messages come again");
            }
            Ok(received) => {
                backoff.reset();
                if !shared.hand_in(received).await {
                    return;
                }
            }
            Err(trouble) => {
                shared
                    .ingress
                    .repeated("ReceiveMessage", &trouble, backoff.failures());
                backoff.wait().await;
            }
        }
    }
}

/// Deletes what may be deleted, and keeps from others what may not be yet, until the partition is gone.
async fn keep(shared: &Arc<Shared>, mut words: mpsc::UnboundedReceiver<QueueWord>) {
    let mut requests = JoinSet::new();
    let mut heard = Vec::new();
    loop {
        while requests.len() < REQUESTS_MAX {
            let now_ms = shared.now_ms();
            let deletions = shared.inbox().poll_deletions(now_ms);
            if !deletions.is_empty() {
                requests.spawn(Arc::clone(shared).delete(deletions));
                continue;
            }
            let extensions = shared.inbox().poll_extensions(now_ms);
            if extensions.is_empty() {
                break;
            }
            requests.spawn(Arc::clone(shared).extend(extensions));
        }
        let has_room = requests.len() < REQUESTS_MAX;
        let due_ms = shared.inbox().wake_at_ms().filter(|_| has_room);
        let due = due_ms.map(|due_ms| shared.begun + Duration::from_millis(due_ms));
        tokio::select! {
            count = words.recv_many(&mut heard, 1_000) => {
                if count == 0 {
                    return;
                }
                let now_ms = shared.now_ms();
                for word in heard.drain(..) {
                    if let QueueWord::Deletable(ids) = word {
                        shared.inbox().taken(now_ms, &ids);
                    }
                }
            }
            Some(_) = requests.join_next() => {}
            () = shared.received.notified() => {}
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }
}

/// Asks now and then how many messages there are.
async fn watch_backlog(shared: Arc<Shared>) {
    let SqsIngress {
        client,
        options,
        observer,
        ..
    } = &shared.ingress;
    loop {
        match requests::backlog(client, &options.queue_url).await {
            Ok(backlog) => observer.backlog(&options.ingress, backlog.visible, backlog.in_flight),
            Err(trouble) => shared
                .ingress
                .repeated("GetQueueAttributes", &trouble, FAILURES_TOLD),
        }
        tokio::time::sleep(BACKLOG_INTERVAL).await;
    }
}

fn calendar_ms() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
