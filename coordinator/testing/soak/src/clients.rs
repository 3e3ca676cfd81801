//! Interfaces of the application that workloads use.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use satchel_testkit::{Client, Cloud, Follower, PricedCloud, PricedFollower, Record, Reply};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::egress::SeenEgress;
use crate::functions::OUT;
use crate::metrics::Metrics;
use crate::random::Random;
use crate::retrying_client::{ClientRequest, KeyedMessage, RetryingClient, Unanswered};
use crate::sabotage::Sabotage;
use crate::violations::Violations;

/// Stream of items.
pub(crate) const ITEMS: &str = "items";

/// Delay before a record is put again.
const BACKOFF: Duration = Duration::from_millis(200);

/// Clients of the application, with its streams and the record of violations and metrics.
pub(crate) struct Clients {
    pub(crate) seed: u64,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) http: RetryingClient,
    pub(crate) streams: Streams,
    pub(crate) violations: Violations,
    pub(crate) metrics: Metrics,
}

/// Location of the streams.
pub(crate) enum Streams {
    /// In Kinesis.
    Cloud(Arc<Cloud>),
    /// In Kinesis, emulated in this process.
    Priced(Arc<PricedCloud>),
    /// In the process under test.
    Machine,
}

/// Reader of a stream that returns new records with every call.
pub(crate) enum Reader {
    Cloud(Follower),
    Priced(PricedFollower),
    Machine { stream: &'static str, read: usize },
}

impl Clients {
    /// Calls until an answer arrives; `None` after a timeout, which is recorded as a violation.
    pub(crate) async fn call(
        &self,
        address: &str,
        message: &impl Serialize,
        key: &str,
    ) -> Option<Reply> {
        let call = ClientRequest::Call(KeyedMessage::new(address, message, key));
        self.answer_of(self.http.send(&call, &self.metrics).await)
    }

    /// Sends until the message is accepted; `false` after a timeout, which is recorded as a
    /// violation.
    pub(crate) async fn send(&self, address: &str, message: &impl Serialize, key: &str) -> bool {
        let send = ClientRequest::Send(KeyedMessage::new(address, message, key));
        let Some(reply) = self.answer_of(self.http.send(&send, &self.metrics).await) else {
            return false;
        };
        if reply.status != 202 {
            self.violations.record(format!(
                "unexpected answer to a message to {address} under {key}: {reply:?}"
            ));
        }
        reply.status == 202
    }

    /// Repeats an administrative request until an answer arrives; `None` after a timeout, which is
    /// recorded as a violation.
    pub(crate) async fn administer(&self, method: Method, path: &str) -> Option<Reply> {
        let administer = ClientRequest::Administer(method, path.to_owned());
        self.answer_of(self.http.send(&administer, &self.metrics).await)
    }

    /// State of an address; the default if there is none yet.
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
                self.violations
                    .record(format!("unreadable state of {address}: {error}: {reply:?}"));
                None
            }
        }
    }

    /// Dead letters of one function or of all functions.
    pub(crate) async fn dead_letters(&self, function: Option<&str>) -> Option<Vec<Value>> {
        let function = function.map_or(String::new(), |name| format!("&function={name}"));
        let path = format!("/api/dead-letters?limit=1000{function}");
        let reply = self.administer(Method::GET, &path).await?;
        reply.json()["dead_letters"].as_array().cloned()
    }

    /// Puts a record until it is known to be stored. `make` receives whether it may have been
    /// stored already.
    pub(crate) async fn put(&self, stream: &str, key: &str, make: impl Fn(bool) -> Vec<u8>) {
        if self.is_sabotaged(Sabotage::LostRecords, "records never put") {
            return;
        }
        match &self.streams {
            Streams::Cloud(cloud) => cloud.put(stream, key, make(false)).await,
            Streams::Priced(cloud) => {
                let record = (key.to_owned(), make(false));
                cloud.put_all(stream, vec![record]).await;
            }
            Streams::Machine => {
                let mut again = false;
                // No time limit: an abandoned record could arrive after the next one.
                while !self.try_put(stream, key, make(again)).await {
                    again = true;
                    tokio::time::sleep(BACKOFF).await;
                }
            }
        }
    }

    async fn try_put(&self, stream: &str, key: &str, data: Vec<u8>) -> bool {
        let client: &Client = self.http.client();
        match client.try_put(stream, key, data).await {
            Ok(reply) if reply.status == 200 => true,
            Ok(reply) if reply.status == 503 => {
                self.metrics.count("records rejected with 503");
                false
            }
            Ok(reply) => {
                self.violations
                    .record(format!("unexpected answer to a record of {key}: {reply:?}"));
                true
            }
            Err(_) => {
                self.metrics.count("records put again");
                false
            }
        }
    }

    /// Returns a reader that starts at the oldest record.
    pub(crate) async fn reader(&self, stream: &'static str) -> Reader {
        match &self.streams {
            Streams::Cloud(cloud) => Reader::Cloud(cloud.follow(stream)),
            Streams::Priced(cloud) => Reader::Priced(cloud.follow(stream).await),
            Streams::Machine => Reader::Machine { stream, read: 0 },
        }
    }

    /// Records that arrived since the last call. Call it only while no process is killed, because a
    /// process that serves a stream must be alive.
    pub(crate) async fn read_new(&self, reader: &mut Reader) -> Vec<Record> {
        match reader {
            Reader::Cloud(follower) => follower.read_new().await,
            Reader::Priced(follower) => follower.read_new().await,
            Reader::Machine { stream, read } => {
                let records = self.http.client().records(stream).await;
                let new = records.into_iter().skip(*read).collect::<Vec<_>>();
                *read += new.len();
                new
            }
        }
    }

    /// Reads new egress records and checks them.
    pub(crate) async fn observe_egress(&self, reader: &mut Reader, seen: &mut SeenEgress) {
        for record in self.read_new(reader).await {
            if self.is_sabotaged(Sabotage::LostEgress, "records hidden from the checks") {
                continue;
            }
            if let Err(wrong) = seen.observe(&record) {
                self.violations.record(wrong);
            }
        }
    }

    /// Reader of the egress stream.
    pub(crate) async fn egress_reader(&self) -> Reader {
        self.reader(OUT).await
    }

    /// Decides whether this defect strikes now, in 3 percent of the cases, and counts it.
    pub(crate) fn is_sabotaged(&self, defect: Sabotage, counted: &str) -> bool {
        let shows = self.sabotage == Some(defect) && {
            self.metrics.count(format!("chances of {defect}"));
            let chances = self.metrics.counted(&format!("chances of {defect}"));
            Random::of(self.seed, chances).percent(3)
        };
        if shows {
            self.metrics.count(counted);
        }
        shows
    }

    fn answer_of(&self, outcome: Result<Reply, Unanswered>) -> Option<Reply> {
        match outcome {
            Ok(reply) => Some(reply),
            Err(Unanswered(what)) => {
                self.violations.record(what);
                None
            }
        }
    }
}
