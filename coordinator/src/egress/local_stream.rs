//! Writes to local streams: what stands for Kinesis in `satchel dev`. Exactly once: a stream durably knows the highest number that it
//! took from each producer, in the same record as the data.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use prost::Message;
use satchel_engine::input::Input;
use satchel_engine::output::Emission;
use satchel_protocol::egress::{KINESIS_RECORD_TYPENAME, KinesisEgressRecord};
use tokio::sync::mpsc;

use crate::metrics::Metrics;
use crate::runtime::now_ms;
use crate::streams::{NewRecord, StreamError, Streams, parse_hash_key};

/// How many records are handed to the streams before their answers are awaited.
const RECORDS_PER_ROUND: usize = 1000;

const RETRY_DELAY_INITIAL: Duration = Duration::from_millis(50);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);

/// Serves one Kinesis egress with local streams.
pub struct LocalStreamEgress {
    /// The egress's id, `namespace/name`.
    pub id: Arc<str>,
    /// Names the producer for ever: the application's incarnation, the partition and the egress.
    pub producer: String,
    /// Where to write.
    pub streams: Streams,
    /// Where the partition is told.
    pub facts: mpsc::UnboundedSender<Input>,
    /// What is counted.
    pub metrics: Metrics,
}

impl LocalStreamEgress {
    /// Serves until `emissions` end.
    ///
    /// # Errors
    ///
    /// What no repetition mends: damage of a stream, or a stream of which it is unknown what is durable.
    pub async fn run(
        self,
        mut emissions: mpsc::UnboundedReceiver<Emission>,
    ) -> Result<(), StreamError> {
        let mut round = Vec::new();
        while emissions.recv_many(&mut round, RECORDS_PER_ROUND).await > 0 {
            let mut delay = RETRY_DELAY_INITIAL;
            while !round.is_empty() {
                round = self.deliver(round).await?;
                if !round.is_empty() {
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(RETRY_DELAY_MAX);
                }
            }
        }
        Ok(())
    }

    /// Appends what can be appended, tells the partition, and returns what is to be tried again, in order.
    async fn deliver(&self, round: Vec<Emission>) -> Result<Vec<Emission>, StreamError> {
        // Each append takes its place in its stream's queue in the order of the numbers; only the waiting is side by side.
        let mut appends = Vec::with_capacity(round.len());
        let mut shut = HashSet::new();
        for emission in &round {
            appends.push(self.append(emission, &mut shut).await);
        }
        let outcomes = join_all(appends.into_iter().map(async |append| match append {
            Ok(append) => append.await.map(drop).map_err(Trouble::Stream),
            Err(trouble) => Err(trouble),
        }));
        let mut acked = Vec::new();
        let mut again = Vec::new();
        for (emission, outcome) in round.into_iter().zip(outcomes.await) {
            match outcome {
                Ok(()) => acked.push(emission.number),
                Err(Trouble::Refused(reason)) => self.refuse(emission.number, reason),
                Err(Trouble::Stream(error)) if error.is_refusal() => {
                    self.refuse(emission.number, error.to_string());
                }
                Err(Trouble::Stream(error)) if error.is_damage() || error.needs_restart() => {
                    return Err(error);
                }
                Err(Trouble::Behind) => again.push(emission),
                Err(Trouble::Stream(error)) => {
                    if again.is_empty() {
                        tracing::warn!(egress = %self.id, %error, "a record was not delivered; it is tried again");
                    }
                    again.push(emission);
                }
            }
        }
        if !acked.is_empty() {
            self.metrics
                .observe_egress_acked(&self.id, acked.len() as u64);
            // A partition that has stopped sends what it did not hear of again, and the stream knows it then.
            let _ = self.facts.send(Input::EgressAcked { numbers: acked });
        }
        Ok(again)
    }

    /// Takes a place in the stream's queue; the future that is returned waits for the outcome.
    ///
    /// `shut` are the streams that could not be opened in this round: a record behind one that was not handed over must wait with it,
    /// because the stream would take the lower number for known when it comes after the higher one.
    async fn append(
        &self,
        emission: &Emission,
        shut: &mut HashSet<String>,
    ) -> Result<impl Future<Output = Result<crate::streams::Appended, StreamError>> + use<>, Trouble>
    {
        if emission.value.typename != KINESIS_RECORD_TYPENAME {
            return Err(Trouble::Refused(format!(
                "a Kinesis egress takes {KINESIS_RECORD_TYPENAME}, this is {}",
                emission.value.typename
            )));
        }
        let record = KinesisEgressRecord::decode(emission.value.value.clone())
            .map_err(|error| Trouble::Refused(format!("it is not a Kinesis record: {error}")))?;
        if shut.contains(&record.stream) {
            return Err(Trouble::Behind);
        }
        let stream = match self.streams.stream(&record.stream).await {
            Ok(stream) => stream,
            Err(error) => {
                if !error.is_refusal() {
                    shut.insert(record.stream);
                }
                return Err(Trouble::Stream(error));
            }
        };
        let explicit_hash_key = match record.explicit_hash_key.as_str() {
            "" => None,
            text => Some(parse_hash_key(text).map_err(Trouble::Refused)?),
        };
        let new = NewRecord {
            key: record.partition_key,
            explicit_hash_key,
            data: record.value_bytes,
            time_ms: now_ms(),
        };
        Ok(stream.append_from(&self.producer, emission.number, vec![new]))
    }

    fn refuse(&self, number: u64, reason: String) {
        self.metrics.observe_egress_refused(&self.id);
        let _ = self.facts.send(Input::EgressRefused { number, reason });
    }
}

enum Trouble {
    /// The record can never be delivered.
    Refused(String),
    /// The stream says so.
    Stream(StreamError),
    /// A record before it to the same stream was not handed over.
    Behind,
}
