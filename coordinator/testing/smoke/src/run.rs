//! A run: the commands are fed, the coordinator is killed, and the result is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::Method;
use satchel_testkit::{Client, Dev, LONG, Lost, Record, until_true};
use serde_json::Value;

use crate::language::{Form, Language};
use crate::plan::{Expected, Plan, Source};

/// Records that are put at once.
const PUTS: usize = 32;

/// Interval between two looks at the progress.
const EVERY: Duration = Duration::from_millis(20);

/// Size of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Seed of the commands.
    pub seed: u64,
    /// Number of messages from outside.
    pub messages: usize,
    /// Number of kills.
    pub kills: usize,
}

impl Size {
    /// The size that the variables `SATCHEL_SMOKE_SEED`, `SATCHEL_SMOKE_MESSAGES` and
    /// `SATCHEL_SMOKE_KILLS` name, or a short one.
    ///
    /// # Panics
    ///
    /// When a variable is not a number.
    pub fn from_environment() -> Self {
        let number = |name: &str, default: u64| {
            std::env::var(name).map_or(default, |text| {
                let parsed = text.parse();
                parsed.unwrap_or_else(|_| panic!("{name} is a number, and not `{text}`"))
            })
        };
        let size = |name, default| {
            usize::try_from(number(name, default)).expect("the number fits into memory")
        };
        Self {
            seed: number("SATCHEL_SMOKE_SEED", 1),
            messages: size("SATCHEL_SMOKE_MESSAGES", 2_000),
            kills: size("SATCHEL_SMOKE_KILLS", 3),
        }
    }
}

/// Figures of a run whose result was right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Number of messages, from outside and between instances.
    pub messages: u64,
    /// Number of records.
    pub records: usize,
    /// Number of kills.
    pub kills: usize,
    /// Time from the first message to the last, with all restarts.
    pub took: Duration,
}

/// Runs the functions of a language, and compares their result with that of the commands.
///
/// # Panics
///
/// When the result differs, or does not come in time.
pub async fn run(language: Language, form: Form, size: Size) -> Report {
    let plan = Plan::new(size.seed, size.messages);
    let functions = language.start(form);
    let mut dev = functions.setup().start().await;
    let ingress = "/api/ingresses/smoke/commands";
    // All commands are there before the first is read, so that no kill loses or repeats a put.
    post(&dev.client, &format!("{ingress}/pause?reason=feeding")).await;
    feed(&dev.client, &plan.sources).await;
    post(&dev.client, &format!("{ingress}/resume")).await;

    let begun = Instant::now();
    let mut progress = Progress::default();
    for kill in 1..=size.kills {
        let records = plan.records.len() * kill / (size.kills + 1);
        progress.until(&dev.client, records).await;
        dev.kill9().await;
        dev.restart().await;
    }
    progress.until(&dev.client, plan.records.len()).await;
    until_the_states_are(&dev.client, &plan.expected).await;
    let took = begun.elapsed();
    nothing_is_left(&dev).await;
    // What is done once more would be seen now.
    until_the_states_are(&dev.client, &plan.expected).await;
    progress
        .look(&dev.client)
        .await
        .expect("the coordinator lives");
    assert_eq!(progress.ids, plan.records);
    Report {
        messages: plan.messages(),
        records: plan.records.len(),
        kills: size.kills,
        took,
    }
}

async fn post(client: &Client, path: &str) {
    let reply = client.admin(Method::POST, path).await;
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
}

/// Puts the commands into the local stream. Those of one instance stay in order.
async fn feed(client: &Client, sources: &[Source]) {
    let mut by_target: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
    for source in sources {
        by_target.entry(&source.target).or_default().push(source);
    }
    let feeding = by_target.into_values().map(|sources| async move {
        for source in sources {
            let commands = serde_json::to_vec(&source.commands).expect("commands are JSON");
            client.put("commands", &source.target, commands).await;
        }
    });
    stream::iter(feeding)
        .buffer_unordered(PUTS)
        .collect::<()>()
        .await;
}

/// The records that were seen.
#[derive(Debug, Default)]
struct Progress {
    ids: BTreeSet<String>,
    /// Sequence number of the last record.
    last: Option<String>,
}

impl Progress {
    /// Waits until there are `count` records.
    async fn until(&mut self, client: &Client, count: usize) {
        let mut moved = Instant::now();
        loop {
            let before = self.ids.len();
            self.look(client).await.expect("the coordinator lives");
            if self.ids.len() >= count {
                return;
            }
            if self.ids.len() > before {
                moved = Instant::now();
            }
            assert!(
                moved.elapsed() < LONG,
                "no record in {LONG:?}; there are {} of {count}",
                self.ids.len()
            );
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Reads the records since the last look.
    async fn look(&mut self, client: &Client) -> Result<(), Lost> {
        for record in client.try_records("records", self.last.as_deref()).await? {
            if self.last.as_ref() == Some(&record.sequence_number) {
                continue;
            }
            let id = id_of(&record);
            assert!(self.ids.insert(id.clone()), "{id} was emitted twice");
            self.last = Some(record.sequence_number);
        }
        Ok(())
    }
}

fn id_of(record: &Record) -> String {
    let id = record.json()["id"].as_str().map(str::to_owned);
    let id = id.unwrap_or_else(|| panic!("a record without an id: {record:?}"));
    assert_eq!(record.key, id);
    id
}

/// Waits until every instance has the expected state.
async fn until_the_states_are(client: &Client, expected: &BTreeMap<String, Expected>) {
    let begun = Instant::now();
    loop {
        let states: Vec<_> = stream::iter(expected.keys())
            .map(async |id| Ok::<_, Lost>((id.clone(), state(client, id).await)))
            .buffered(16)
            .try_collect()
            .await
            .expect("the coordinator lives");
        let states: BTreeMap<_, _> = states.into_iter().collect();
        let reached = |id: &String| states[id].seen.cmp(&expected[id].seen);
        if states == *expected {
            return;
        }
        let late = expected.keys().any(|id| reached(id).is_lt());
        if !late || begun.elapsed() > LONG {
            assert_eq!(states, *expected);
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn state(client: &Client, id: &str) -> Expected {
    let shown = client.address(&format!("smoke/command/{id}")).await;
    if shown.status == 404 {
        return Expected::default();
    }
    let shown = shown.json();
    let states = shown["state"].as_array().cloned().unwrap_or_default();
    let value = |name: &str| {
        let state = states.iter().find(|state| state["name"] == name);
        let value = state.and_then(|state| state["value"].as_i64()).unwrap_or(0);
        i32::try_from(value).expect("an int")
    };
    Expected {
        total: value("total"),
        seen: value("seen"),
    }
}

/// Nothing is pending: no message, no timer, no dead letter.
async fn nothing_is_left(dev: &Dev) {
    let client = &dev.client;
    until_true("no message is pending", async || {
        let functions = client.admin(Method::GET, "/api/functions").await.json();
        functions["functions"].as_array().is_some_and(|functions| {
            functions
                .iter()
                .all(|function| function["backlog"]["messages"] == 0 && function["in_flight"] == 0)
        })
    })
    .await;
    let timers = client.admin(Method::GET, "/api/timers").await.json();
    assert_eq!(timers["timers"], Value::Array(Vec::new()));
    assert_eq!(client.dead_letters().await, [Value::Null; 0]);
}
