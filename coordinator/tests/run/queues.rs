//! Messages of SQS queues: received by the real binary, counted by a real handler, deleted from the
//! queue.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{MessageAttributeValue, QueueAttributeName, SendMessageBatchRequestEntry};
use satchel_testkit::{Dev, until, until_true};
use serde_json::json;

use super::sources::{resume, stopped_ingresses};
use super::*;

const FUNCTIONS: &str = "
kind: satchel.endpoints.v1/lambda
spec: {functions: example/*, functionName: greeter}
---
kind: io.statefun.kinesis.v1/egress
spec: {id: example/greetings, awsRegion: {type: default}}
";

/// A queue of moto, and its URL.
struct Queue {
    client: Client,
    url: String,
}

impl Queue {
    async fn create(moto: &Moto, name: &str) -> Self {
        let client = Client::new(&sdk(moto.endpoint()));
        let mut creating = client.create_queue().queue_name(name);
        if name.ends_with(".fifo") {
            creating = creating.attributes(QueueAttributeName::FifoQueue, "true");
        }
        let url = creating.send().await.unwrap().queue_url.unwrap();
        Self { client, url }
    }

    /// A module document of an ingress for this queue.
    fn module(&self, id: &str, rest: &str) -> String {
        let url = &self.url;
        format!(
            "---
kind: satchel.sqs.v1/ingress
spec:
  id: {id}
  queueUrl: {url}
  valueType: example/name
  visibilityTimeout: 5s
{rest}"
        )
    }

    /// Sends bodies, each with the attribute `customer`, and with a group if it is a FIFO queue.
    async fn send(&self, messages: impl IntoIterator<Item = (String, String)>) {
        let mut entries = Vec::new();
        for (place, (customer, body)) in messages.into_iter().enumerate() {
            let attribute = MessageAttributeValue::builder()
                .data_type("String")
                .string_value(&customer);
            let mut entry = SendMessageBatchRequestEntry::builder()
                .id(place.to_string())
                .message_body(&body)
                .message_attributes("customer", attribute.build().unwrap());
            if self.url.ends_with(".fifo") {
                entry = entry
                    .message_group_id(&customer)
                    .message_deduplication_id(format!("{customer}-{body}"));
            }
            entries.push(entry.build().unwrap());
        }
        for batch in entries.chunks(10) {
            let sending = self.client.send_message_batch().queue_url(&self.url);
            let sent = sending.set_entries(Some(batch.to_vec())).send().await;
            assert!(sent.unwrap().failed().is_empty());
        }
    }

    /// True if the queue has neither visible nor received messages.
    async fn is_empty(&self) -> bool {
        let attributes = self
            .client
            .get_queue_attributes()
            .queue_url(&self.url)
            .attribute_names(QueueAttributeName::All)
            .send()
            .await
            .unwrap();
        let attributes = attributes.attributes.unwrap();
        [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ]
        .iter()
        .all(|name| attributes[name] == "0")
    }
}

fn name(customer: &str, number: usize) -> (String, String) {
    let body = json!({"name": customer, "number": number}).to_string();
    (customer.to_owned(), body)
}

/// Count of each customer, once the sum is at least `total`.
async fn counted(app: &Dev, customers: &[&str], total: i64) -> BTreeMap<String, i64> {
    until("every message is counted", async || {
        let mut counts = BTreeMap::new();
        for customer in customers {
            let view = app
                .client
                .address(&format!("example/greeter/{customer}"))
                .await;
            if view.status != 200 {
                return None;
            }
            let seen = view.json()["state"][0]["value"].as_i64()?;
            counts.insert((*customer).to_owned(), seen);
        }
        (counts.values().sum::<i64>() >= total).then_some(counts)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_stopped_owners_count_every_message_once_and_delete_it() {
    let aws = Aws::with_greeter().await;
    let plain = Queue::create(&aws.moto, "tasks").await;
    // A separate process: while a message of a group is in flight and others wait, a waiting
    // receive request keeps moto busy, and with it the state and the leases.
    let queues = Moto::start();
    let fifo = Queue::create(&queues, "tasks.fifo").await;
    let targets = "  targets: [example/greeter]\n";
    let elsewhere = format!(
        "{targets}  receivers: 1\n  \
         awsRegion: {{type: custom-endpoint, endpoint: \"{}\", id: us-east-1}}\n",
        queues.endpoint()
    );
    let module = [
        FUNCTIONS.to_owned(),
        plain.module(
            "example/plain",
            &format!("{targets}  targetId: $attribute:customer\n"),
        ),
        fifo.module("example/fifo", &elsewhere),
    ];
    std::fs::write(aws.dir.path().join("module.yaml"), module.concat()).unwrap();
    let setup = aws.setup("2s");
    let mut owner = setup.start().await;
    let customers = ["ann", "bob", "cy", "dee"];
    let mut sent = 0;
    for takeover in 0..4 {
        for round in 0..10 {
            let names = |number| customers.map(|customer| name(customer, number));
            plain.send(names(sent)).await;
            sent += 1;
            if round < 2 {
                fifo.send(names(sent)).await;
                sent += 1;
            }
        }
        let mut standby = setup.start_standby().await;
        if takeover % 2 == 0 {
            owner.kill9().await;
        } else {
            let ended = owner.terminate().await;
            assert_eq!(ended.code, Some(0), "{}", ended.printed);
        }
        standby.is_ready().await;
        owner = standby;
    }
    let each = sent as i64;
    let counts = counted(&owner, &customers, each * customers.len() as i64).await;
    let expected = customers.map(|customer| (customer.to_owned(), each));
    until_true("both queues are empty", async || {
        plain.is_empty().await && fifo.is_empty().await
    })
    .await;
    assert_eq!(counts, BTreeMap::from(expected));
    let kept = owner.client.metric("satchel_sqs_ids_kept").await.unwrap();
    assert_eq!(kept, each as f64 * customers.len() as f64);
    drop(owner);
    aws.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unroutable_messages_become_dead_letters_and_leave_the_queue() {
    let aws = Aws::with_greeter().await;
    let queue = Queue::create(&aws.moto, "tasks").await;
    let rest = "  targets: [example/greeter]\n  targetId: /name\n";
    let module = queue.module("example/tasks", rest);
    let path = aws.dir.path().join("queue.module.yaml");
    std::fs::write(&path, module.trim_start_matches("---\n")).unwrap();
    // With `--aws`, `satchel dev` uses the queues that the module names, too.
    let setup = Setup::of(example("greeter")).module(path).arg("--aws");
    let environment = aws.environment().into_iter();
    let setup = environment.fold(setup, |setup, (name, value)| setup.env(name, value));
    let app = setup.start().await;
    queue
        .send([
            name("ann", 1),
            ("x".to_owned(), "garbage".to_owned()),
            ("x".to_owned(), "{\"number\": 2}".to_owned()),
        ])
        .await;
    let letters = until("both are dead letters", async || {
        let letters = app.client.dead_letters().await;
        (letters.len() == 2).then_some(letters)
    })
    .await;
    let reasons: BTreeSet<String> = letters
        .iter()
        .map(|letter| letter["reason"].as_str().unwrap().to_owned())
        .collect();
    let mut reasons = reasons.iter();
    assert!(reasons.next().unwrap().contains("the record has no /name"));
    assert!(reasons.next().unwrap().contains("the record is not JSON"));
    for letter in &letters {
        let source = letter["source"].as_str().unwrap();
        assert!(source.starts_with("example/tasks "), "{source}");
    }
    let expected = BTreeMap::from([("ann".to_owned(), 1)]);
    assert_eq!(counted(&app, &["ann"], 1).await, expected);
    until_true("the queue is empty", async || queue.is_empty().await).await;
    let received = "satchel_sqs_received_messages_total{ingress=\"example/tasks\"}";
    assert_eq!(app.client.metric(received).await, Some(3.0));
    drop(app);
    aws.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_queue_is_reported_by_validate_and_stops_only_its_own_ingress() {
    let aws = Aws::with_greeter().await;
    let there = Queue::create(&aws.moto, "tasks").await;
    let missing = Queue {
        client: there.client.clone(),
        url: there.url.replace("tasks", "nothing-like-it"),
    };
    let rest = "  targets: [example/greeter]\n  targetId: $messageId\n";
    let module = [
        FUNCTIONS.to_owned(),
        there.module("example/there", rest),
        missing.module("example/missing", rest),
    ];
    let path = aws.dir.path().join("module.yaml");
    std::fs::write(&path, module.concat()).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_satchel"));
    command.arg("validate").arg(&path).arg("--check-aws");
    command.envs(aws.environment());
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (good, wrong) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(5), "{wrong}");
    let ok = good.lines().find(|line| line.ends_with("/tasks")).unwrap();
    assert!(ok.starts_with("ok: ") && ok.contains("queue"), "{good}");
    assert!(wrong.contains("nothing-like-it"), "{wrong}");

    let app = aws
        .setup("10s")
        .env(ADMIN_TOKEN.0, aws.token())
        .start()
        .await;
    let stopped = stopped_ingresses(&app, 1).await;
    assert_eq!(stopped[0]["id"], "example/missing");
    assert_eq!(stopped[0]["problem"], "missing");
    let source = stopped[0]["source"].as_str().unwrap();
    assert_eq!(source, format!("queue {}", missing.url));
    let named = "ingress example/missing: there is no queue";
    assert!(app.printed().contains(named), "{}", app.printed());
    let id = send_one(&there).await;
    let one = counted(&app, &[&id], 1).await;
    assert_eq!(one, BTreeMap::from([(id, 1)]));

    // The queue is created, and the ingress resumed.
    let made = Queue::create(&aws.moto, "nothing-like-it").await;
    assert_eq!(made.url, missing.url);
    assert_eq!(resume(&app, "example/missing").await, 1);
    let id = send_one(&made).await;
    let one = counted(&app, &[&id], 1).await;
    assert_eq!(one, BTreeMap::from([(id, 1)]));
    stopped_ingresses(&app, 0).await;
    drop(app);
    aws.stop().await;
}

/// Sends one message, whose id is the id of its address.
async fn send_one(queue: &Queue) -> String {
    let sending = queue.client.send_message().queue_url(&queue.url);
    let body = json!({"name": "Ann"}).to_string();
    let sent = sending.message_body(body).send().await.unwrap();
    sent.message_id.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_deleted_stops_only_its_own_ingress() {
    let aws = Aws::with_greeter().await;
    let kept = Queue::create(&aws.moto, "kept").await;
    let deleted = Queue::create(&aws.moto, "deleted").await;
    let rest = "  targets: [example/greeter]\n  targetId: $messageId\n";
    let module = [
        FUNCTIONS.to_owned(),
        kept.module("example/kept", rest),
        deleted.module("example/deleted", rest),
    ];
    std::fs::write(aws.dir.path().join("module.yaml"), module.concat()).unwrap();
    let mut app = aws.setup("10s").start().await;
    for queue in [&kept, &deleted] {
        let id = send_one(queue).await;
        counted(&app, &[&id], 1).await;
    }
    let deleting = deleted.client.delete_queue().queue_url(&deleted.url);
    deleting.send().await.unwrap();
    let stopped = stopped_ingresses(&app, 1).await;
    assert_eq!(stopped[0]["id"], "example/deleted");
    let sample = format!(
        "satchel_ingress_stopped{{ingress=\"example/deleted\",source=\"queue {}\"}}",
        deleted.url
    );
    assert_eq!(app.client.metric(&sample).await, Some(1.0));
    let id = send_one(&kept).await;
    counted(&app, &[&id], 1).await;
    let ended = app.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
    aws.stop().await;
}
