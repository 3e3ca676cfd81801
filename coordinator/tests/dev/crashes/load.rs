//! Clients that keep a greeter busy and record their answers, and the check of all these answers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use satchel_testkit::{Client, Request, until_true};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Number of clients that call; two share an address.
const CALLERS: usize = 16;
/// Number of clients that send messages.
const SENDERS: usize = 2;
/// Number of clients that put records.
const PUTTERS: usize = 2;

/// Running clients.
pub(crate) struct Load {
    clients: JoinSet<()>,
    answers: Arc<Answers>,
}

/// Answers that clients received.
#[derive(Default)]
struct Answers {
    stopping: AtomicBool,
    /// Number of answered requests.
    count: AtomicUsize,
    calls: Mutex<Vec<Answered>>,
    /// Number of messages by id of their address.
    sent: Mutex<BTreeMap<String, usize>>,
    /// Number of records by key.
    put: Mutex<BTreeMap<String, usize>>,
}

/// An answered call.
#[derive(Clone)]
struct Answered {
    id: String,
    request: Request,
    body: Bytes,
}

impl Load {
    /// Starts clients that call, send and put.
    pub(crate) fn begin(client: &Client) -> Self {
        let answers = Arc::new(Answers::default());
        let mut clients = JoinSet::new();
        for caller in 0..CALLERS {
            clients.spawn(call(Arc::clone(&answers), client.clone(), caller));
        }
        for sender in 0..SENDERS {
            clients.spawn(send(Arc::clone(&answers), client.clone(), sender));
        }
        for putter in 0..PUTTERS {
            clients.spawn(put(Arc::clone(&answers), client.clone(), putter));
        }
        Self { clients, answers }
    }

    /// Waits until `count` more requests are answered.
    pub(crate) async fn answered(&mut self, count: usize) {
        let enough = self.answers.count.load(Ordering::Relaxed) + count;
        until_true("more requests are answered", async || {
            while let Some(client) = self.clients.try_join_next() {
                client.expect("clients keep running");
            }
            self.answers.count.load(Ordering::Relaxed) >= enough
        })
        .await;
    }

    /// Repeats the last answered call of each address, and checks that the answer is the same.
    pub(crate) async fn last_answers_are_given_again(&self) {
        let calls = self.answers.calls.lock().unwrap().clone();
        let last: BTreeMap<String, Answered> = calls
            .into_iter()
            .map(|call| (call.id.clone(), call))
            .collect();
        for call in last.into_values() {
            call.is_answered_again().await;
        }
    }

    /// Lets the clients finish their requests, and checks that every accepted request took effect
    /// once.
    pub(crate) async fn everything_is_done_once(mut self, client: &Client) {
        self.answers.stopping.store(true, Ordering::Relaxed);
        while let Some(finished) = self.clients.join_next().await {
            finished.expect("clients finish");
        }
        let calls = std::mem::take(&mut *self.answers.calls.lock().unwrap());
        let sent = std::mem::take(&mut *self.answers.sent.lock().unwrap());
        let put = std::mem::take(&mut *self.answers.put.lock().unwrap());
        calls_are_counted_once(client, &calls).await;
        records_are_stored(client, &put).await;
        records_and_messages_are_greeted_once(client, sent).await;
        assert_eq!(client.dead_letters().await, Vec::<Value>::new());

        let mut repeating = JoinSet::new();
        for part in calls.chunks(calls.len().div_ceil(CALLERS)) {
            let part = part.to_vec();
            repeating.spawn(async move {
                for call in part {
                    call.is_answered_again().await;
                }
            });
        }
        while let Some(repeated) = repeating.join_next().await {
            repeated.unwrap();
        }
        calls_are_counted_once(client, &calls).await;
    }
}

impl Answered {
    async fn is_answered_again(&self) {
        let again = self.request.send_until_answered().await;
        assert_eq!((again.status, again.body), (200, self.body.clone()));
    }
}

impl Answers {
    fn continues(&self) -> bool {
        !self.stopping.load(Ordering::Relaxed)
    }

    fn count_one(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

async fn call(answers: Arc<Answers>, client: Client, caller: usize) {
    let id = format!("called-{}", caller / 2);
    for number in 0.. {
        if !answers.continues() {
            return;
        }
        let request = client
            .to_call(&format!("example/greeter/{id}"))
            .json(&json!({"name": format!("{caller}")}))
            .key(format!("{caller}-{number}"));
        let reply = request.send_until_answered().await;
        assert_eq!(reply.status, 200, "{reply:?}");
        answers.calls.lock().unwrap().push(Answered {
            id: id.clone(),
            request,
            body: reply.body,
        });
        answers.count_one();
    }
}

async fn send(answers: Arc<Answers>, client: Client, sender: usize) {
    let id = format!("sent-{sender}");
    for number in 0.. {
        if !answers.continues() {
            return;
        }
        let request = client
            .to_send(&format!("example/greeter/{id}"))
            .json(&json!({"name": id}))
            .key(format!("{number}"));
        let reply = request.send_until_answered().await;
        assert_eq!((reply.status, reply.body), (202, Bytes::new()));
        *answers.sent.lock().unwrap().entry(id.clone()).or_default() += 1;
        answers.count_one();
    }
}

/// Records have no idempotency keys, so each is put once. A record whose answer was lost may or may
/// not be stored.
async fn put(answers: Arc<Answers>, client: Client, putter: usize) {
    let id = format!("put-{putter}");
    while answers.continues() {
        let put = client.try_put("names", &id, json!({"name": id}).to_string());
        match put.await {
            Ok(reply) if reply.status == 200 => {
                *answers.put.lock().unwrap().entry(id.clone()).or_default() += 1;
                answers.count_one();
            }
            Ok(reply) => assert_eq!(reply.status, 503, "{reply:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// A number from the environment, for longer runs.
pub(crate) fn number(variable: &str, default: u64) -> u64 {
    let set = std::env::var(variable).ok().filter(|set| !set.is_empty());
    set.map_or(default, |set| {
        set.parse()
            .unwrap_or_else(|error| panic!("{variable}={set}: {error}"))
    })
}

/// Each address counted as many calls as were answered, and returned no number twice.
async fn calls_are_counted_once(client: &Client, calls: &[Answered]) {
    let mut seen: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for call in calls {
        let greeting: Value = serde_json::from_slice(&call.body).unwrap();
        let numbers = seen.entry(&call.id).or_default();
        numbers.push(greeting["seen"].as_i64().unwrap());
    }
    assert_eq!(seen.len(), CALLERS / 2);
    for (id, mut seen) in seen {
        seen.sort_unstable();
        let count = seen.len() as i64;
        assert_eq!(seen, (1..=count).collect::<Vec<_>>(), "{id}");
        assert_eq!(seen_by(client, id).await, count, "{id}");
    }
}

/// Every accepted record is stored.
async fn records_are_stored(client: &Client, put: &BTreeMap<String, usize>) {
    let stored = count_by_key(client, "names").await;
    assert_eq!(put.len(), PUTTERS);
    for (key, accepted) in put {
        let stored = stored.get(key).copied().unwrap_or_default();
        assert!(
            stored >= *accepted,
            "{accepted} records of {key} were accepted, {stored} are stored"
        );
    }
}

/// Every record of `names` and every accepted message became one greeting, and they were counted in
/// order.
async fn records_and_messages_are_greeted_once(client: &Client, sent: BTreeMap<String, usize>) {
    let mut expected = count_by_key(client, "names").await;
    assert_eq!((expected.len(), sent.len()), (PUTTERS, SENDERS));
    expected.extend(sent);
    let total = expected.values().sum();
    let mut greeted: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for greeting in client.records_when("greetings", total).await {
        let seen = greeting.json()["seen"].as_i64().unwrap();
        greeted.entry(greeting.key).or_default().push(seen);
    }
    for (id, count) in &expected {
        assert_eq!(greeted[id], (1..=*count as i64).collect::<Vec<_>>(), "{id}");
        assert_eq!(seen_by(client, id).await, *count as i64, "{id}");
    }
    assert_eq!(greeted.len(), expected.len());
}

async fn count_by_key(client: &Client, stream: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in client.records(stream).await {
        *counts.entry(record.key).or_default() += 1;
    }
    counts
}

async fn seen_by(client: &Client, id: &str) -> i64 {
    let address = client.address(&format!("example/greeter/{id}")).await;
    let view = address.json();
    assert_eq!(view["backlog"]["messages"], 0, "{view}");
    let seen = view["state"][0]["value"].as_i64();
    seen.unwrap_or_else(|| panic!("{view}"))
}
