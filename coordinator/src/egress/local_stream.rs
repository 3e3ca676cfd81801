//! Egress to local streams, in the place of a service in `satchel dev`.
//!
//! Delivery is exactly once: a stream durably keeps the highest number that it took from each
//! producer, in the same record as the data.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use satchel_engine::input::Input;
use satchel_engine::output::Emission;
use tokio::sync::mpsc;

use super::EgressContext;
use super::local_record::RecordForm;
use crate::streams::{Appended, StreamError, Streams};

/// Maximum number of records handed to the streams before their answers are awaited.
const RECORDS_PER_ROUND: usize = 1000;

const RETRY_DELAY_INITIAL: Duration = Duration::from_millis(50);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);

/// Egress that writes to local streams.
#[derive(Debug)]
pub struct LocalStreamEgress {
    /// Streams of this machine.
    pub streams: Streams,
    /// Conversion of the records.
    pub form: RecordForm,
}

impl LocalStreamEgress {
    /// Delivers until `emissions` end.
    ///
    /// # Errors
    ///
    /// A problem that retries cannot solve: damage of a stream, or a stream whose durable content
    /// is unknown after a failed write.
    pub(super) async fn run(
        self,
        context: &EgressContext,
        mut emissions: mpsc::UnboundedReceiver<Emission>,
    ) -> Result<(), StreamError> {
        let writer = Writer {
            streams: self.streams,
            form: self.form,
            context,
        };
        let mut round = Vec::new();
        while emissions.recv_many(&mut round, RECORDS_PER_ROUND).await > 0 {
            let mut delay = RETRY_DELAY_INITIAL;
            while !round.is_empty() {
                round = writer.deliver(round).await?;
                if !round.is_empty() {
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(RETRY_DELAY_MAX);
                }
            }
        }
        Ok(())
    }
}

struct Writer<'a> {
    streams: Streams,
    form: RecordForm,
    context: &'a EgressContext,
}

impl Writer<'_> {
    /// Appends the records that can be appended, reports them to the partition, and returns the
    /// records to retry, in order.
    async fn deliver(&self, round: Vec<Emission>) -> Result<Vec<Emission>, StreamError> {
        // Appends enter the queues of their streams in the order of the numbers. Only the waits
        // are concurrent.
        let mut appends = Vec::with_capacity(round.len());
        let mut shut = HashSet::new();
        for emission in &round {
            appends.push(self.append(emission, &mut shut).await);
        }
        let outcomes = join_all(appends.into_iter().map(async |append| match append {
            Ok(append) => append.await.map(drop).map_err(Undelivered::Stream),
            Err(undelivered) => Err(undelivered),
        }));
        let mut acked = Vec::new();
        let mut again = Vec::new();
        for (emission, outcome) in round.into_iter().zip(outcomes.await) {
            match outcome {
                Ok(()) => acked.push(emission.number),
                Err(Undelivered::Refused(reason)) => self.refuse(emission.number, reason),
                Err(Undelivered::Stream(error)) if error.is_refusal() => {
                    self.refuse(emission.number, error.to_string());
                }
                Err(Undelivered::Stream(error)) if error.is_damage() || error.needs_restart() => {
                    return Err(error);
                }
                Err(Undelivered::Behind) => again.push(emission),
                Err(Undelivered::Stream(error)) => {
                    if again.is_empty() {
                        let egress = &self.context.id;
                        tracing::warn!(%egress, %error, "delivery failed; retrying");
                        let reason = error.to_string();
                        let metrics = &self.context.metrics;
                        metrics.observe_egress_retried(egress, 1, &reason);
                    }
                    again.push(emission);
                }
            }
        }
        if !acked.is_empty() {
            let context = self.context;
            context
                .metrics
                .observe_egress_acked(&context.id, acked.len() as u64);
            // After a stop, the next owner sends the records again, and the stream drops them.
            let _ = context.inputs.send(Input::EgressAcked { numbers: acked });
        }
        Ok(again)
    }

    /// Enters the stream's queue. The returned future waits for the outcome.
    ///
    /// `shut` holds the streams that could not be opened in this round. A record behind one that
    /// was not handed over must wait with it: the stream would drop the lower number as known if
    /// it came after the higher one.
    async fn append(
        &self,
        emission: &Emission,
        shut: &mut HashSet<String>,
    ) -> Result<impl Future<Output = Result<Appended, StreamError>> + use<>, Undelivered> {
        let (name, record) = self
            .form
            .convert(emission, &self.context.writer)
            .map_err(Undelivered::Refused)?;
        if shut.contains(&name) {
            return Err(Undelivered::Behind);
        }
        let stream = match self.streams.stream(&name).await {
            Ok(stream) => stream,
            Err(error) => {
                if !error.is_refusal() {
                    shut.insert(name);
                }
                return Err(Undelivered::Stream(error));
            }
        };
        Ok(stream.append_from(&self.context.writer, emission.number, vec![record]))
    }

    fn refuse(&self, number: u64, reason: String) {
        let context = self.context;
        context.metrics.observe_egress_refused(&context.id);
        let _ = context.inputs.send(Input::EgressRefused { number, reason });
    }
}

/// Reason why a record was not delivered.
enum Undelivered {
    /// The record is invalid and can never be delivered.
    Refused(String),
    /// The stream failed.
    Stream(StreamError),
    /// An earlier record to the same stream was not handed over.
    Behind,
}
