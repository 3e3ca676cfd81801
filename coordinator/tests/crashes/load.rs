//! Clients that keep a greeter busy and remember what they were told, and the check that all of it is so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use satchel_testkit::{Client, Request, until_true};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// How many clients call; two share an address.
const CALLERS: usize = 16;
/// How many clients send.
const SENDERS: usize = 2;
/// How many clients put records.
const PUTTERS: usize = 2;

/// Clients at work.
pub(crate) struct Load {
    clients: JoinSet<()>,
    told: Arc<Told>,
}

/// What clients were told.
#[derive(Default)]
struct Told {
    stopping: AtomicBool,
    /// How many requests were answered.
    answers: AtomicUsize,
    calls: Mutex<Vec<Answered>>,
    /// Messages by id of their address.
    sent: Mutex<BTreeMap<String, usize>>,
    /// Records by key.
    put: Mutex<BTreeMap<String, usize>>,
}

/// A call that was answered.
#[derive(Clone)]
struct Answered {
    id: String,
    request: Request,
    body: Bytes,
}

impl Load {
    /// Clients begin to call, send and put.
    pub(crate) fn begin(client: &Client) -> Self {
        let told = Arc::new(Told::default());
        let mut clients = JoinSet::new();
        for caller in 0..CALLERS {
            clients.spawn(call(Arc::clone(&told), client.clone(), caller));
        }
        for sender in 0..SENDERS {
            clients.spawn(send(Arc::clone(&told), client.clone(), sender));
        }
        for putter in 0..PUTTERS {
            clients.spawn(put(Arc::clone(&told), client.clone(), putter));
        }
        Self { clients, told }
    }

    /// Waits until `count` more requests were answered.
    pub(crate) async fn answered(&mut self, count: usize) {
        let enough = self.told.answers.load(Ordering::Relaxed) + count;
        until_true("more requests are answered", async || {
            while let Some(client) = self.clients.try_join_next() {
                client.expect("clients go on");
            }
            self.told.answers.load(Ordering::Relaxed) >= enough
        })
        .await;
    }

    /// Everybody who was answered before asks again, as far as there is time for the last of each address, and is told the same.
    pub(crate) async fn last_answers_are_given_again(&self) {
        let calls = self.told.calls.lock().unwrap().clone();
        let last: BTreeMap<String, Answered> = calls
            .into_iter()
            .map(|call| (call.id.clone(), call))
            .collect();
        for call in last.into_values() {
            call.is_answered_again().await;
        }
    }

    /// Lets the clients finish what they began, and checks that everything that was taken was done, once.
    pub(crate) async fn everything_is_done_once(mut self, client: &Client) {
        self.told.stopping.store(true, Ordering::Relaxed);
        while let Some(finished) = self.clients.join_next().await {
            finished.expect("clients finish");
        }
        let calls = std::mem::take(&mut *self.told.calls.lock().unwrap());
        let sent = std::mem::take(&mut *self.told.sent.lock().unwrap());
        let put = std::mem::take(&mut *self.told.put.lock().unwrap());
        calls_are_counted_once(client, &calls).await;
        records_are_there(client, &put).await;
        records_and_messages_are_greeted_once(client, sent).await;
        assert_eq!(client.dead_letters().await, Vec::<Value>::new());

        let mut asking = JoinSet::new();
        for part in calls.chunks(calls.len().div_ceil(CALLERS)) {
            let part = part.to_vec();
            asking.spawn(async move {
                for call in part {
                    call.is_answered_again().await;
                }
            });
        }
        while let Some(asked) = asking.join_next().await {
            asked.unwrap();
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

impl Told {
    fn go_on(&self) -> bool {
        !self.stopping.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }
}

async fn call(told: Arc<Told>, client: Client, caller: usize) {
    let id = format!("called-{}", caller / 2);
    for number in 0.. {
        if !told.go_on() {
            return;
        }
        let request = client
            .to_call(&format!("example/greeter/{id}"))
            .json(&json!({"name": format!("{caller}")}))
            .key(format!("{caller}-{number}"));
        let reply = request.send_until_answered().await;
        assert_eq!(reply.status, 200, "{reply:?}");
        told.calls.lock().unwrap().push(Answered {
            id: id.clone(),
            request,
            body: reply.body,
        });
        told.count();
    }
}

async fn send(told: Arc<Told>, client: Client, sender: usize) {
    let id = format!("sent-{sender}");
    for number in 0.. {
        if !told.go_on() {
            return;
        }
        let request = client
            .to_send(&format!("example/greeter/{id}"))
            .json(&json!({"name": id}))
            .key(format!("{number}"));
        let reply = request.send_until_answered().await;
        assert_eq!((reply.status, reply.body), (202, Bytes::new()));
        *told.sent.lock().unwrap().entry(id.clone()).or_default() += 1;
        told.count();
    }
}

/// Records have no idempotency keys, so each is put once, and one whose answer was lost may be there or not.
async fn put(told: Arc<Told>, client: Client, putter: usize) {
    let id = format!("put-{putter}");
    while told.go_on() {
        let put = client.try_put("names", &id, json!({"name": id}).to_string());
        match put.await {
            Ok(reply) if reply.status == 200 => {
                *told.put.lock().unwrap().entry(id.clone()).or_default() += 1;
                told.count();
            }
            Ok(reply) => assert_eq!(reply.status, 503, "{reply:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Each address has counted as many calls as were answered, and has told no number twice.
async fn calls_are_counted_once(client: &Client, calls: &[Answered]) {
    let mut seen: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for call in calls {
        let greeting: Value = serde_json::from_slice(&call.body).unwrap();
        let told = seen.entry(&call.id).or_default();
        told.push(greeting["seen"].as_i64().unwrap());
    }
    assert_eq!(seen.len(), CALLERS / 2);
    for (id, mut seen) in seen {
        seen.sort_unstable();
        let count = seen.len() as i64;
        assert_eq!(seen, (1..=count).collect::<Vec<_>>(), "{id}");
        assert_eq!(seen_by(client, id).await, count, "{id}");
    }
}

/// Every record that was taken is there.
async fn records_are_there(client: &Client, put: &BTreeMap<String, usize>) {
    let there = count_by_key(client, "names").await;
    assert_eq!(put.len(), PUTTERS);
    for (key, taken) in put {
        let there = there.get(key).copied().unwrap_or_default();
        assert!(
            there >= *taken,
            "{taken} records of {key} were taken, {there} are there"
        );
    }
}

/// Every record of `names` and every message that was sent has become one greeting, and they were counted in order.
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
