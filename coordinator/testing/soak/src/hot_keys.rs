//! Few counters under concurrent calls through any process, one in each partition. Their histories
//! must be linearizable, and they show for how long a partition does not answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use satchel_engine::placement::{DEFAULT_KEY_GROUPS, PartitionMap, Placement};
use satchel_testkit::{Client, Lost, Reply};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clients::Clients;
use crate::functions::hot::{HotMessage, HotValue};
use crate::linearizability::{Counter, CounterInput, Operation, check};
use crate::random::Random;
use crate::retrying_client::TOTAL_TIMEOUT;
use crate::sabotage::Sabotage;

/// Number of clients of each counter.
const CLIENTS: u64 = 4;

/// Timeout of one attempt, after which a client turns to another process.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause before the next attempt of a client that got no answer.
const BACKOFF: Duration = Duration::from_millis(100);

/// Shares of increments without and with an idempotency key, in percent. The rest are reads.
const ADDS_PERCENT: u64 = 40;
const KEYED_PERCENT: u64 = 20;

/// Silence of a partition that is worth a line.
const LONG_SILENCE: Duration = Duration::from_secs(10);

/// The counters.
pub(crate) struct HotKeys {
    keys: Vec<Arc<HotKey>>,
    begun: Instant,
    /// Time of the last answer of any partition; `None` while silence is not measured.
    answered: Arc<Mutex<Option<Instant>>>,
    /// Number of the next client. Each round has its own.
    next: u64,
}

/// A counter.
struct HotKey {
    partition: u32,
    address: String,
    history: Mutex<Vec<Operation<CounterInput, u64>>>,
    /// Time of the last answer; `None` while silence is not measured.
    answered: Mutex<Option<Instant>>,
}

/// Result of one attempt.
enum Attempt {
    Answered(u64),
    /// The request had no effect.
    WithoutEffect,
    /// The request may have taken effect, or may take effect later.
    Unknown,
    /// An answer that must not occur.
    Wrong(String),
}

impl HotKeys {
    /// Chooses a counter in each partition.
    pub(crate) fn of(partitions: u16) -> Self {
        let placement = Placement::default();
        let map = PartitionMap::even(DEFAULT_KEY_GROUPS, partitions);
        let partition_of = |id: &String| map.partition_of(placement.key_group_of_id(id));
        let keys = (0..u32::from(partitions)).map(|partition| {
            let mut ids = (0_u64..).map(|number| format!("hot-{number}"));
            let id = ids.find(|id| partition_of(id) == partition);
            let id = id.expect("ids fall into every partition");
            Arc::new(HotKey {
                partition,
                address: format!("soak/hot/{id}"),
                history: Mutex::default(),
                answered: Mutex::default(),
            })
        });
        Self {
            keys: keys.collect(),
            begun: Instant::now(),
            answered: Arc::default(),
            next: 0,
        }
    }

    /// Calls the counters at this total rate per second until `stop`; then waits for the calls in
    /// progress.
    pub(crate) async fn drive(
        &mut self,
        clients: &Arc<Clients>,
        rate: f64,
        stop: &watch::Receiver<bool>,
    ) {
        let mut running = JoinSet::new();
        let count = CLIENTS * self.keys.len() as u64;
        let pause = Duration::from_secs_f64(count as f64 / rate);
        *lock(&self.answered) = Some(Instant::now());
        for key in &self.keys {
            *lock(&key.answered) = Some(Instant::now());
            for _ in 0..CLIENTS {
                self.next += 1;
                let caller = Caller {
                    key: Arc::clone(key),
                    clients: Arc::clone(clients),
                    begun: self.begun,
                    answered: Arc::clone(&self.answered),
                    random: Random::of(!clients.seed, self.next),
                    number: self.next,
                };
                running.spawn(caller.call_until(stop.clone(), pause));
            }
        }
        let mut stopping = stop.clone();
        // Closed or true: either way it is over.
        let _ = stopping.wait_for(|stop| *stop).await;
        for key in &self.keys {
            key.observe_silence(clients);
            *lock(&key.answered) = None;
        }
        observe(&self.answered, clients, "silence of all partitions");
        *lock(&self.answered) = None;
        while let Some(ended) = running.join_next().await {
            if let Err(error) = ended {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }

    /// Checks the histories.
    pub(crate) fn check(&self, clients: &Clients) {
        for key in &self.keys {
            let history = lock(&key.history);
            let unknown = history.iter().filter(|it| it.returned.is_none()).count();
            clients
                .metrics
                .add("linearizability: operations", history.len() as u64);
            clients
                .metrics
                .add("linearizability: unknown outcomes", unknown as u64);
            clients.metrics.count("linearizability: keys");
            let begun = Instant::now();
            let Err(found) = check::<Counter>(&history) else {
                clients
                    .metrics
                    .observe("check of a history", begun.elapsed());
                continue;
            };
            let next = found.next.iter().map(|at| &history[*at]);
            clients.violations.record(format!(
                "the history of {} in partition {} is not linearizable: after {} of {} answered \
                 operations its value is {}, and none of these fits: {:?}; times are ns of the run",
                key.address,
                key.partition,
                found.ordered,
                history.len() - unknown,
                found.state,
                next.collect::<Vec<_>>()
            ));
        }
    }
}

impl HotKey {
    fn observe_silence(&self, clients: &Clients) {
        let silent = observe(&self.answered, clients, "silence of one partition");
        if silent > LONG_SILENCE {
            println!(
                "soak: partition {} was silent for {:.1} s",
                self.partition,
                silent.as_secs_f64()
            );
        }
    }
}

/// A client of one counter.
struct Caller {
    key: Arc<HotKey>,
    clients: Arc<Clients>,
    begun: Instant,
    answered: Arc<Mutex<Option<Instant>>>,
    random: Random,
    number: u64,
}

impl Caller {
    async fn call_until(mut self, mut stop: watch::Receiver<bool>, pause: Duration) {
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX).max(1);
        for call in 0_u64.. {
            let pause = Duration::from_millis(self.random.below(2 * pause_ms));
            let stopped = tokio::time::timeout(pause, stop.wait_for(|stop| *stop));
            if stopped.await.is_ok() || self.clients.violations.any() {
                return;
            }
            let kind = self.random.below(100);
            if kind < ADDS_PERCENT {
                self.once(HotMessage::Add).await;
            } else if kind < ADDS_PERCENT + KEYED_PERCENT {
                self.until_answered(call).await;
            } else {
                self.once(HotMessage::Read).await;
            }
        }
    }

    /// Calls once without a key.
    async fn once(&mut self, message: HotMessage) {
        let invoked = self.now();
        let attempt = self.attempt(message, None).await;
        let input = match message {
            HotMessage::Add => CounterInput::Add,
            HotMessage::Read => CounterInput::Read,
        };
        let returned = match attempt {
            Attempt::Answered(value) => Some((self.answered(message, value), self.now())),
            Attempt::WithoutEffect => {
                self.clients.metrics.count("hot calls without effect");
                return tokio::time::sleep(BACKOFF).await;
            }
            Attempt::Unknown => {
                self.clients.metrics.count("hot calls of unknown outcome");
                None
            }
            Attempt::Wrong(what) => return self.clients.violations.record(what),
        };
        // A read without an answer says nothing.
        if returned.is_some() || message == HotMessage::Add {
            self.record(input, invoked, returned);
        }
    }

    /// Increments under an idempotency key until an answer arrives.
    async fn until_answered(&mut self, call: u64) {
        let (invoked, begun) = (self.now(), Instant::now());
        let key = format!("hot-{}-{call}", self.number);
        loop {
            match self.attempt(HotMessage::Add, Some(&key)).await {
                Attempt::Answered(value) => {
                    let returned = Some((self.answered(HotMessage::Add, value), self.now()));
                    return self.record(CounterInput::Add, invoked, returned);
                }
                Attempt::WithoutEffect | Attempt::Unknown if begun.elapsed() < TOTAL_TIMEOUT => {
                    self.clients.metrics.count("hot calls repeated");
                    tokio::time::sleep(BACKOFF).await;
                }
                Attempt::Wrong(what) => return self.clients.violations.record(what),
                Attempt::WithoutEffect | Attempt::Unknown => {
                    let address = &self.key.address;
                    let what = format!("no answer of {address} to {key} in {TOTAL_TIMEOUT:?}");
                    return self.clients.violations.record(what);
                }
            }
        }
    }

    /// Calls any process once.
    async fn attempt(&mut self, message: HotMessage, key: Option<&str>) -> Attempt {
        let processes = self.clients.http.processes();
        let client: &Client = &processes[self.random.below(processes.len() as u64) as usize];
        let request = client.to_call(&self.key.address).json(&json!(message));
        let request = match key {
            Some(key) => request.key(key),
            None => request,
        };
        let sent = tokio::time::timeout(ATTEMPT_TIMEOUT, request.send()).await;
        match sent {
            Ok(outcome) => outcome_of(outcome),
            Err(_) => Attempt::Unknown,
        }
    }

    /// Notes an answer. Returns the value that it has for the check.
    fn answered(&self, message: HotMessage, value: u64) -> u64 {
        self.key.observe_silence(&self.clients);
        observe(&self.answered, &self.clients, "silence of all partitions");
        self.clients.metrics.count("hot calls answered");
        let is_stale = message == HotMessage::Read
            && value > 0
            && self
                .clients
                .is_sabotaged(Sabotage::StaleReads, "stale reads");
        value - u64::from(is_stale)
    }

    fn record(&self, input: CounterInput, invoked: u64, returned: Option<(u64, u64)>) {
        let operation = Operation {
            input,
            invoked,
            returned,
        };
        lock(&self.key.history).push(operation);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Outcome of an attempt, by the statuses that the HTTP API documents.
fn outcome_of(outcome: Result<Reply, Lost>) -> Attempt {
    let reply = match outcome {
        Ok(reply) => reply,
        Err(lost) if lost.is_refused() => return Attempt::WithoutEffect,
        Err(_) => return Attempt::Unknown,
    };
    match reply.status {
        200 => match serde_json::from_slice::<HotValue>(&reply.body) {
            Ok(answer) => Attempt::Answered(answer.value),
            Err(error) => Attempt::Wrong(format!("unreadable answer: {error}: {reply:?}")),
        },
        503 if reply.error_code() != "unknown" => Attempt::WithoutEffect,
        503 | 504 => Attempt::Unknown,
        _ => Attempt::Wrong(format!("unexpected answer of a hot counter: {reply:?}")),
    }
}

/// Observes the time since the last answer, and begins to measure the next.
fn observe(last: &Mutex<Option<Instant>>, clients: &Clients, name: &str) -> Duration {
    let mut last = lock(last);
    let Some(last) = last.as_mut() else {
        return Duration::ZERO;
    };
    let silent = last.elapsed();
    *last = Instant::now();
    clients.metrics.observe(name, silent);
    silent
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
