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
use crate::sources::SourceProblem;
use crate::streams::{Appended, NewRecord, StreamError, Streams};

/// Maximum number of records handed to the streams before their answers are awaited.
const RECORDS_PER_ROUND: usize = 1000;

const RETRY_DELAY_INITIAL: Duration = Duration::from_millis(50);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);

/// Maximum size of keys and data in one append of several records, in bytes.
const GROUP_BYTES_MAX: usize = 1 << 20;

/// Pause before a stopped egress is tried again.
const RETRY_DELAY_STOPPED: Duration = Duration::from_secs(60);

/// Egress that writes to local streams.
#[derive(Debug, Clone)]
pub struct LocalStreamEgress {
    /// Streams of this machine.
    pub streams: Streams,
    /// Conversion of the records.
    pub form: RecordForm,
}

impl LocalStreamEgress {
    /// Delivers until `emissions` end. A stream that is damaged, or whose durable content is
    /// unknown after a failed write, stops this egress by name: its records wait, and are tried
    /// again once a minute.
    pub(super) async fn run(
        self,
        context: &EgressContext,
        mut emissions: mpsc::UnboundedReceiver<Emission>,
    ) {
        let writer = Writer {
            streams: self.streams,
            form: self.form,
            context,
        };
        let mut round = Vec::new();
        let mut stop = Stop::default();
        while emissions.recv_many(&mut round, RECORDS_PER_ROUND).await > 0 {
            let mut delay = RETRY_DELAY_INITIAL;
            while !round.is_empty() {
                let (rest, failed) = writer.deliver(round).await;
                round = rest;
                if let Some(error) = failed {
                    stop.stopped(context, &error);
                    tokio::time::sleep(RETRY_DELAY_STOPPED).await;
                    continue;
                }
                stop.ended(context);
                if !round.is_empty() {
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(RETRY_DELAY_MAX);
                }
            }
        }
    }
}

/// Stop of an egress, which is logged once for each reason.
#[derive(Default)]
struct Stop {
    reason: Option<String>,
}

impl Stop {
    fn stopped(&mut self, context: &EgressContext, error: &StreamError) {
        let reason = error.to_string();
        if self.reason.as_ref() == Some(&reason) {
            return;
        }
        let problem = if error.is_damage() {
            SourceProblem::Damaged
        } else {
            SourceProblem::Unreadable
        };
        let (egress, problem) = (&context.id, problem.as_str());
        tracing::error!(
            %egress,
            problem,
            error = reason,
            "egress stopped; its records wait until the stream is repaired, and a restart tries it \
             at once"
        );
        let metrics = &context.metrics;
        metrics.observe_egress_stopped(egress, problem, &reason);
        self.reason = Some(reason);
    }

    fn ended(&mut self, context: &EgressContext) {
        if self.reason.take().is_some() {
            let egress = &context.id;
            tracing::info!(%egress, "egress delivers again");
            context.metrics.observe_egress_resumed(egress);
        }
    }
}

struct Writer<'a> {
    streams: Streams,
    form: RecordForm,
    context: &'a EgressContext,
}

impl Writer<'_> {
    /// Appends the records that can be appended, reports them to the partition, and returns the
    /// records to retry, in order, with the failure that no retry solves, if there is one.
    async fn deliver(&self, round: Vec<Emission>) -> (Vec<Emission>, Option<StreamError>) {
        let groups = self.append_in_groups(&round).await;
        let outcomes = join_all(groups.into_iter().map(async |group| match group.append {
            Ok(append) => (
                group.records,
                append.await.map(drop).map_err(Undelivered::Stream),
            ),
            Err(undelivered) => (group.records, Err(undelivered)),
        }));
        let outcomes = outcomes.await;
        let mut by_record: Vec<Option<&Result<(), Undelivered>>> = vec![None; round.len()];
        for (records, outcome) in &outcomes {
            for record in records {
                by_record[*record] = Some(outcome);
            }
        }
        let mut acked = Vec::with_capacity(round.len());
        let mut again = Vec::new();
        let mut failed = None;
        for (emission, outcome) in round.into_iter().zip(by_record) {
            match outcome.expect("every record is in a group") {
                Ok(()) => acked.push(emission.number),
                Err(Undelivered::Refused(reason)) => self.refuse(emission.number, reason.clone()),
                Err(Undelivered::Stream(error)) if error.is_refusal() => {
                    self.refuse(emission.number, error.to_string());
                }
                Err(Undelivered::Stream(error)) if error.is_damage() || error.needs_restart() => {
                    failed = Some(error.clone());
                    again.push(emission);
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
        (again, failed)
    }

    /// Enters the records of a round into the queues of their streams, in the order of their
    /// numbers: what goes to one stream in a row is one append. The returned futures wait for the
    /// outcomes.
    async fn append_in_groups(
        &self,
        round: &[Emission],
    ) -> Vec<Group<impl Future<Output = Result<Appended, StreamError>> + use<>>> {
        let mut groups = Vec::new();
        let mut shut = HashSet::new();
        let mut open: Option<OpenGroup> = None;
        for (index, emission) in round.iter().enumerate() {
            let converted = self.form.convert(emission, &self.context.writer);
            let checked = converted.and_then(|(name, record)| match record.check() {
                Ok(()) => Ok((name, record)),
                Err(error) => Err(error.to_string()),
            });
            let (name, record) = match checked {
                Ok(converted) => converted,
                Err(reason) => {
                    groups.push(Group::failed(vec![index], Undelivered::Refused(reason)));
                    continue;
                }
            };
            let bytes = record.key.len() + record.data.len();
            let number = emission.number;
            if let Some(ended) = open.take_if(|open| !open.takes(&name, number, bytes)) {
                groups.push(self.append(ended, &mut shut).await);
            }
            let group = open.get_or_insert_with(|| OpenGroup::of(name));
            group.bytes += bytes;
            group.indices.push(index);
            group.records.push((number, record));
        }
        if let Some(ended) = open {
            groups.push(self.append(ended, &mut shut).await);
        }
        groups
    }

    /// Enters a group into its stream's queue.
    ///
    /// `shut` holds the streams that could not be opened in this round. A record behind one that
    /// was not handed over must wait with it: the stream would drop the lower number as known if
    /// it came after the higher one.
    async fn append(
        &self,
        group: OpenGroup,
        shut: &mut HashSet<String>,
    ) -> Group<impl Future<Output = Result<Appended, StreamError>> + use<>> {
        let OpenGroup {
            name,
            indices,
            records,
            ..
        } = group;
        if shut.contains(&name) {
            return Group::failed(indices, Undelivered::Behind);
        }
        match self.streams.stream(&name).await {
            Ok(stream) => Group {
                records: indices,
                append: Ok(stream.append_numbered(&self.context.writer, records)),
            },
            Err(error) => {
                if !error.is_refusal() {
                    shut.insert(name);
                }
                Group::failed(indices, Undelivered::Stream(error))
            }
        }
    }

    fn refuse(&self, number: u64, reason: String) {
        let context = self.context;
        context.metrics.observe_egress_refused(&context.id);
        let _ = context.inputs.send(Input::EgressRefused { number, reason });
    }
}

/// Consecutive records of a round for one stream, until they are appended.
struct OpenGroup {
    name: String,
    bytes: usize,
    /// Places of the records in the round.
    indices: Vec<usize>,
    records: Vec<(u64, NewRecord)>,
}

impl OpenGroup {
    fn of(name: String) -> Self {
        Self {
            name,
            bytes: 0,
            indices: Vec::new(),
            records: Vec::new(),
        }
    }

    /// Returns whether a record for the stream `name`, with this number and size, may join.
    fn takes(&self, name: &str, number: u64, bytes: usize) -> bool {
        let ascends = self.records.last().is_none_or(|(last, _)| *last < number);
        self.name == name && ascends && self.bytes + bytes <= GROUP_BYTES_MAX
    }
}

/// Records of a round that have one outcome.
struct Group<F> {
    /// Their places in the round.
    records: Vec<usize>,
    append: Result<F, Undelivered>,
}

impl<F> Group<F> {
    fn failed(records: Vec<usize>, reason: Undelivered) -> Self {
        Self {
            records,
            append: Err(reason),
        }
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
