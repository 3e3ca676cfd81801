//! The SQS ingress against moto, with injected faults and a real partition.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod partition;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{QueueAttributeName, SendMessageBatchRequestEntry};
use satchel_aws::config::{AwsAccess, AwsCredentials, AwsRegion};
use satchel_aws::secret::Secret;
use satchel_aws::sqs::SqsOptions;
use satchel_testkit::{Fault, Moto, Proxy, until_true};

use partition::Durable;

const KEYS: usize = 8;

async fn config(endpoint: &str) -> SdkConfig {
    let access = AwsAccess {
        region: AwsRegion::CustomEndpoint {
            endpoint: endpoint.to_owned(),
            region: "us-east-1".to_owned(),
        },
        credentials: AwsCredentials::Basic {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: Secret::new("example"),
        },
    };
    access.load().await.unwrap()
}

/// A queue of moto, behind a proxy for its receivers.
struct Queue {
    _moto: Moto,
    proxy: Proxy,
    client: Client,
    url: String,
}

impl Queue {
    async fn start(name: &str) -> Self {
        let moto = Moto::start();
        let client = Client::new(&config(moto.endpoint()).await);
        let mut creating = client.create_queue().queue_name(name);
        if name.ends_with(".fifo") {
            creating = creating.attributes(QueueAttributeName::FifoQueue, "true");
        }
        let url = creating.send().await.unwrap().queue_url.unwrap();
        Self {
            proxy: Proxy::start(moto.endpoint()).await,
            _moto: moto,
            client,
            url,
        }
    }

    fn options(&self, visibility: u64) -> SqsOptions {
        // Moto breaks the order of a group where SQS keeps it. A request that waits checks only at
        // its start which groups have messages in flight. If several messages of a group become
        // visible again, moto hands out the last one first.
        let (wait, receivers, messages_per_request) = match self.url.ends_with(".fifo") {
            true => (0, 1, 1),
            false => (1, 3, 10),
        };
        SqsOptions {
            visibility: Duration::from_secs(visibility),
            wait: Duration::from_secs(wait),
            receivers,
            messages_per_request,
            ..SqsOptions::new("example/in", self.url.as_str())
        }
    }

    async fn config(&self) -> SdkConfig {
        config(&self.proxy.endpoint()).await
    }

    /// Sends one message for each key.
    async fn send(&self, round: usize) {
        let entries = (0..KEYS).map(|key| {
            let body = format!("key-{key} {round:04}");
            let mut entry = SendMessageBatchRequestEntry::builder()
                .id(key.to_string())
                .message_body(&body);
            if self.url.ends_with(".fifo") {
                entry = entry
                    .message_group_id(format!("key-{key}"))
                    .message_deduplication_id(body.replace(' ', "-"));
            }
            entry.build().unwrap()
        });
        let sending = self.client.send_message_batch().queue_url(&self.url);
        let sent = sending.set_entries(Some(entries.collect())).send().await;
        assert!(sent.unwrap().failed().is_empty());
    }

    /// Waits until the queue contains nothing, neither visible nor in flight.
    async fn until_empty(&self) {
        until_true("the queue is empty", async || {
            let asking = self.client.get_queue_attributes().queue_url(&self.url);
            let asking = asking.attribute_names(QueueAttributeName::All);
            let attributes = asking.send().await.unwrap().attributes.unwrap();
            let visible = &attributes[&QueueAttributeName::ApproximateNumberOfMessages];
            let hidden = &attributes[&QueueAttributeName::ApproximateNumberOfMessagesNotVisible];
            visible == "0" && hidden == "0"
        })
        .await;
    }
}

/// Lets every third request meet a fault, each fault in its turn.
fn faults() -> impl FnMut(satchel_testkit::ProxiedRequest<'_>) -> Option<Fault> + Send {
    let mut requests = 0;
    move |_| {
        requests += 1;
        let throttled = "{\"__type\":\"RequestThrottled\",\"message\":\"fault of the test\"}";
        match requests % 15 {
            3 => Some(Fault::LoseAnswer),
            6 => Some(Fault::CutAnswer),
            9 => Some(Fault::Answer(500, "{}".to_owned())),
            12 => Some(Fault::Answer(400, throttled.to_owned())),
            0 => Some(Fault::LoseRequest),
            _ => None,
        }
    }
}

/// Sends rounds while owners crash, with faults in every kind of request. Returns the received
/// texts.
async fn received_despite_faults(name: &str, rounds: usize) -> BTreeMap<String, Vec<String>> {
    let queue = Queue::start(name).await;
    queue.proxy.decide_with(faults());
    let config = queue.config().await;
    let durable = Durable::default();
    let mut running = durable.start(&config, queue.options(2));
    for round in 0..rounds {
        queue.send(round).await;
        if round % 5 == 4 {
            let count = || -> usize {
                let texts = durable.received_texts.lock().unwrap();
                texts.values().map(Vec::len).sum()
            };
            let some = count() + KEYS / 2;
            until_true("some more is received", async || {
                count() >= some.min((round + 1) * KEYS)
            })
            .await;
            running.crash().await;
            running = durable.start(&config, queue.options(2));
        }
    }
    queue.until_empty().await;
    running.crash().await;
    assert_eq!(durable.ids(), rounds * KEYS);
    durable.received_texts.lock().unwrap().clone()
}

fn expected(rounds: usize) -> BTreeMap<String, Vec<String>> {
    let texts: Vec<String> = (0..rounds).map(|round| format!("{round:04}")).collect();
    (0..KEYS)
        .map(|key| (format!("key-{key}"), texts.clone()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_takes_effect_once_despite_faults_and_crashes() {
    let mut received = received_despite_faults("tasks", 20).await;
    // A queue that is not a FIFO queue has no order.
    received
        .values_mut()
        .for_each(|texts| texts.sort_unstable());
    assert_eq!(received, expected(20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_messages_of_a_group_take_effect_in_their_order_despite_faults_and_crashes() {
    let received = received_despite_faults("tasks.fifo", 20).await;
    assert_eq!(received, expected(20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_message_that_was_not_deleted_is_deleted_by_the_next_owner_and_not_applied() {
    let queue = Queue::start("tasks").await;
    let is_deletion = |target: &str| target.ends_with(".DeleteMessageBatch");
    let lost = move |asked: satchel_testkit::ProxiedRequest<'_>| {
        is_deletion(asked.target).then_some(Fault::LoseRequest)
    };
    queue.proxy.decide_with(lost);
    let config = queue.config().await;
    let durable = Durable::default();
    let running = durable.start(&config, queue.options(2));
    queue.send(0).await;
    until_true("all messages are durable", async || durable.ids() == KEYS).await;
    running.crash().await;
    queue.proxy.decide_with(|_| None);
    let running = durable.start(&config, queue.options(2));
    queue.until_empty().await;
    running.crash().await;
    assert_eq!(*durable.received_texts.lock().unwrap(), expected(1));
    assert!(durable.received.load(Ordering::SeqCst) >= 2 * KEYS as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_stays_hidden_in_the_queue_until_its_commit_is_durable() {
    let queue = Queue::start("tasks").await;
    let config = queue.config().await;
    let durable = Durable::default();
    durable.stuck.send_replace(true);
    let running = durable.start(&config, queue.options(6));
    queue.send(0).await;
    until_true("all messages are received", async || {
        durable.received.load(Ordering::SeqCst) == KEYS as u64
    })
    .await;
    // More than twice the visibility timeout.
    tokio::time::sleep(Duration::from_secs(14)).await;
    assert_eq!(durable.received.load(Ordering::SeqCst), KEYS as u64);
    assert_eq!(*durable.received_texts.lock().unwrap(), BTreeMap::new());
    durable.stuck.send_replace(false);
    queue.until_empty().await;
    running.crash().await;
    assert_eq!(*durable.received_texts.lock().unwrap(), expected(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_received_while_receiving_is_paused() {
    let queue = Queue::start("tasks").await;
    let config = queue.config().await;
    let durable = Durable::default();
    let running = durable.start(&config, queue.options(30));
    queue.send(0).await;
    queue.until_empty().await;
    running.pause(true);
    // Requests that were waiting for messages have ended by then.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let before = durable.received.load(Ordering::SeqCst);
    queue.send(1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(durable.received.load(Ordering::SeqCst), before);
    running.pause(false);
    queue.until_empty().await;
    running.crash().await;
    assert_eq!(*durable.received_texts.lock().unwrap(), expected(2));
}
