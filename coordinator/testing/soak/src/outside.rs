//! Everything that workloads reach.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use satchel_testkit::{Client, Cloud, Follower, Record, Reply};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::door::{Door, Letter, Question, Unanswered};
use crate::functions::OUT;
use crate::left::SeenToLeave;
use crate::random::Random;
use crate::sabotage::Sabotage;
use crate::tally::Tally;
use crate::violations::Violations;

/// The stream of items.
pub(crate) const ITEMS: &str = "items";

/// How long somebody waits before a record is put again.
const BETWEEN: Duration = Duration::from_millis(200);

/// The application from outside, and where is written down what is found out about it.
pub(crate) struct Outside {
    pub(crate) seed: u64,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) door: Door,
    pub(crate) streams: Streams,
    pub(crate) violations: Violations,
    pub(crate) tally: Tally,
}

/// Where streams are.
pub(crate) enum Streams {
    /// In Kinesis.
    Cloud(Arc<Cloud>),
    /// In the process.
    Machine,
}

/// Reads a stream, on and on.
pub(crate) enum Reader {
    Cloud(Follower),
    Machine { stream: &'static str, read: usize },
}

impl Outside {
    /// Calls until it is answered; `None` if that does not happen, which is told.
    pub(crate) async fn call(
        &self,
        address: &str,
        message: &impl Serialize,
        key: &str,
    ) -> Option<Reply> {
        let call = Question::Call(Letter::new(address, message, key));
        self.told(self.door.ask(&call, &self.tally).await)
    }

    /// Sends until it is taken; `false` if that does not happen, which is told.
    pub(crate) async fn send(&self, address: &str, message: &impl Serialize, key: &str) -> bool {
        let send = Question::Send(Letter::new(address, message, key));
        let Some(reply) = self.told(self.door.ask(&send, &self.tally).await) else {
            return false;
        };
        if reply.status != 202 {
            self.violations.note(format!(
                "a message to {address} under {key} is answered {reply:?}"
            ));
        }
        reply.status == 202
    }

    /// Administers until it is answered; `None` if that does not happen, which is told.
    pub(crate) async fn administer(&self, method: Method, path: &str) -> Option<Reply> {
        let administer = Question::Administer(method, path.to_owned());
        self.told(self.door.ask(&administer, &self.tally).await)
    }

    /// The state of an address whose function has one; the default if it has none yet.
    pub(crate) async fn state<T: DeserializeOwned + Default>(&self, address: &str) -> Option<T> {
        let path = format!("/api/addresses/{address}");
        let reply = self.administer(Method::GET, &path).await?;
        let state = reply.json()["state"][0]["value"].clone();
        if state == Value::Null {
            return Some(T::default());
        }
        match serde_json::from_value(state) {
            Ok(state) => Some(state),
            Err(error) => {
                self.violations.note(format!(
                    "{address} has a state that no function wrote: {error}: {reply:?}"
                ));
                None
            }
        }
    }

    /// Dead letters, those of a function or all of them.
    pub(crate) async fn dead_letters(&self, function: Option<&str>) -> Option<Vec<Value>> {
        let function = function.map_or(String::new(), |name| format!("&function={name}"));
        let path = format!("/api/dead-letters?limit=1000{function}");
        let reply = self.administer(Method::GET, &path).await?;
        reply.json()["dead_letters"].as_array().cloned()
    }

    /// Puts a record until it is known to be there. `make` is told whether it may be there already.
    pub(crate) async fn put(&self, stream: &str, key: &str, make: impl Fn(bool) -> Vec<u8>) {
        if self.is_sabotaged(Sabotage::LostRecords, "records that were never put") {
            return;
        }
        match &self.streams {
            Streams::Cloud(cloud) => cloud.put(stream, key, make(false)).await,
            Streams::Machine => {
                let mut again = false;
                // Without a time limit: a record that was given up on could come after the next one.
                while !self.try_put(stream, key, make(again)).await {
                    again = true;
                    tokio::time::sleep(BETWEEN).await;
                }
            }
        }
    }

    async fn try_put(&self, stream: &str, key: &str, data: Vec<u8>) -> bool {
        let client: &Client = self.door.client();
        match client.try_put(stream, key, data).await {
            Ok(reply) if reply.status == 200 => true,
            Ok(reply) if reply.status == 503 => {
                self.tally.count("records that were refused for now");
                false
            }
            Ok(reply) => {
                self.violations
                    .note(format!("a record of {key} is answered {reply:?}"));
                true
            }
            Err(_) => {
                self.tally.count("records that were put again");
                false
            }
        }
    }

    /// Begins to read a stream.
    pub(crate) fn reader(&self, stream: &'static str) -> Reader {
        match &self.streams {
            Streams::Cloud(cloud) => Reader::Cloud(cloud.follow(stream)),
            Streams::Machine => Reader::Machine { stream, read: 0 },
        }
    }

    /// What came into a stream since the last time. While nobody is killed: a process that serves a stream must live for it.
    pub(crate) async fn read_on(&self, reader: &mut Reader) -> Vec<Record> {
        match reader {
            Reader::Cloud(follower) => follower.read_on().await,
            Reader::Machine { stream, read } => {
                let records = self.door.client().records(stream).await;
                let new = records.into_iter().skip(*read).collect::<Vec<_>>();
                *read += new.len();
                new
            }
        }
    }

    /// Takes in what left since the last time.
    pub(crate) async fn see_what_left(&self, reader: &mut Reader, seen: &mut SeenToLeave) {
        for record in self.read_on(reader).await {
            if self.is_sabotaged(Sabotage::LostEgress, "records that were not seen") {
                continue;
            }
            if let Err(wrong) = seen.take(&record) {
                self.violations.note(wrong);
            }
        }
    }

    /// Reads what leaves.
    pub(crate) fn out(&self) -> Reader {
        self.reader(OUT)
    }

    /// Whether this defect shows now, of this many that are counted: in three of a hundred cases.
    fn is_sabotaged(&self, by: Sabotage, counted: &str) -> bool {
        let shows = self.sabotage == Some(by) && {
            self.tally.count(format!("chances of {by}"));
            let chances = self.tally.counted(&format!("chances of {by}"));
            Random::of(self.seed, chances).percent(3)
        };
        if shows {
            self.tally.count(counted);
        }
        shows
    }

    fn told(&self, outcome: Result<Reply, Unanswered>) -> Option<Reply> {
        match outcome {
            Ok(reply) => Some(reply),
            Err(Unanswered(what)) => {
                self.violations.note(what);
                None
            }
        }
    }
}
