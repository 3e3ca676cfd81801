//! Egress to Kinesis that puts each record once, over crashes and takeovers too.
//!
//! Kinesis can neither be told who owns a partition nor refuses a record that it has. So what is in doubt is looked for in the stream, from the last
//! acknowledged position on, before it is put again: a request whose answer did not come or was not understood, and after a takeover
//! everything that the outbox still holds. Records are recognized by key, bytes and count, or by their ids if they have the [`super::envelope`].
//!
//! ```text
//!  c          ownership confirmed (lease renewed, or a commit counted)
//!  |<--------- confirmation ------->|            a request may begin in here
//!                                   |<-- request timeout -->|   and has landed or died here
//!      T      takeover by the next owner (after the last confirmation of the former one)
//!      |<------ confirmation + request timeout + settling ------>|   the next owner looks here
//! ```
//!
//! **The bound.** Within it each record is in the stream once. It holds if
//! a request is taken by Kinesis within its timeout or never: the process is not stopped for longer than the settling time between its look at the
//! clock and the write to the network, and the network holds nothing back for longer;
//! a record that is put after the answer to an earlier one has the greater sequence number in the same shard;
//! what was put can be read [`SETTLING`] later;
//! an owner whose envelope is another takes over only when nothing of the former one is in doubt (another `requestTimeout` is noted durably, and the
//! longer of both is waited for);
//! nobody else puts records with the same key and bytes into the stream (without the envelope),
//! which this egress itself may have done until five minutes before it was told to put each once;
//! and the stream keeps its records for longer than a takeover may take.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::SdkConfig;
use bytes::Bytes;
use satchel_engine::input::EgressMark;
use satchel_engine::output::Emission;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::doubt::{Matcher, Positions, UnknownMark, forget};
use super::look::{Look, look};
use super::{KinesisService, KinesisSettings, Put, Told, limits, prepare};
use crate::egress::sequencer::{Limits, Outcome, Record, Request};
use crate::egress::{Answer, Outlet, Service};

/// How long ago ownership may have been confirmed when a request begins.
pub const CONFIRMATION: Duration = Duration::from_secs(5);

/// How long after a request has landed or died what it put is surely seen by a reader.
pub const SETTLING: Duration = Duration::from_secs(2);

/// How often it is asked whether ownership is confirmed, while it is not.
const OWNERSHIP_INTERVAL: Duration = Duration::from_millis(50);

/// After a look that failed.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Who knows whether this process owns the partition.
pub trait Ownership: Send + Sync {
    /// How long ago, by a clock that also counts while the machine sleeps, it was sure that no other process had taken the partition over: the
    /// beginning of the last renewal of the lease or look at the log that confirmed it.
    fn confirmed_ago(&self) -> Duration;
}

/// What a former owner left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// The records of the egress in the outbox: what is in doubt.
    pub numbers: BTreeSet<u64>,
    /// What the egress noted.
    pub marks: Vec<(Arc<str>, Bytes)>,
}

/// Puts records once.
pub struct ExactlyOnce {
    service: KinesisService,
    ownership: Arc<dyn Ownership>,
    positions: Arc<Mutex<Positions>>,
}

impl ExactlyOnce {
    /// Asks the Kinesis of `config`.
    ///
    /// # Errors
    ///
    /// [`UnknownMark`] if what is durable is not understood.
    pub fn new(
        config: &SdkConfig,
        settings: KinesisSettings,
        ownership: Arc<dyn Ownership>,
        left: &Left,
    ) -> Result<Self, UnknownMark> {
        let marks = left.marks.iter();
        let positions = Positions::read(marks.map(|(name, mark)| (&**name, &**mark)))?;
        Ok(Self {
            service: KinesisService::new(config, settings),
            ownership,
            positions: Arc::new(Mutex::new(positions)),
        })
    }

    /// Finds out what the former owner's records became, and delivers until `emissions` end. `taken_over` is when this process took over.
    pub async fn run(
        self,
        outlet: Outlet,
        left: &BTreeSet<u64>,
        taken_over: Instant,
        mut emissions: mpsc::UnboundedReceiver<Emission>,
    ) {
        let mut waiting: Vec<Emission> = Vec::new();
        let mut missing = left.clone();
        while !missing.is_empty() {
            let Some(emission) = emissions.recv().await else {
                return;
            };
            // They come in the order of their numbers; what was dropped with a fork's hold never comes.
            missing.retain(|number| *number > emission.number);
            waiting.push(emission);
        }
        let own_ms = self.service.settings.request_timeout.as_millis() as u64;
        let former_ms = self.positions().request_timeout_ms();
        if own_ms > former_ms {
            let longer = self.positions().request_timeout(own_ms);
            outlet.arrived(Vec::new(), vec![longer]);
        }
        if self.positions().since_ms().is_none() {
            if !left.is_empty() {
                tracing::warn!(egress = %outlet.id, records = left.len(), "records of the time before exactly once are put without looking for them");
            }
            let begun = self.positions().settled(now_ms());
            outlet.arrived(Vec::new(), vec![begun]);
        } else if left.is_empty() {
            let begun = self.positions().settled(now_ms());
            outlet.arrived(Vec::new(), vec![begun]);
        } else {
            let timeout = Duration::from_millis(own_ms.max(former_ms));
            let wait = CONFIRMATION + timeout + SETTLING;
            tracing::info!(egress = %outlet.id, records = left.len(), "records may have been put by the last owner; they are looked for once its requests have landed or died");
            tokio::time::sleep_until(taken_over + wait).await;
            self.resolve(&outlet, left, &mut waiting).await;
        }
        if own_ms < former_ms {
            // Nothing of the former owner is in doubt any more.
            let shorter = self.positions().request_timeout(own_ms);
            outlet.arrived(Vec::new(), vec![shorter]);
        }
        outlet.run(self, waiting, emissions).await;
    }

    /// Looks for the records in doubt, stream by stream, and takes those that are there out of what waits.
    async fn resolve(&self, outlet: &Outlet, left: &BTreeSet<u64>, waiting: &mut Vec<Emission>) {
        let in_doubt = waiting
            .iter()
            .filter(|emission| left.contains(&emission.number));
        // What can not be made a record was never put.
        let records: Vec<Record<Put>> = in_doubt
            .filter_map(|emission| prepare(emission.clone(), &self.service.settings).ok())
            .collect();
        let streams: BTreeSet<Arc<str>> = records
            .iter()
            .map(|record| Arc::clone(&record.destination))
            .collect();
        let mut there = BTreeSet::new();
        for stream in streams {
            let records: Vec<&Record<Put>> = records
                .iter()
                .filter(|record| record.destination == stream)
                .collect();
            let (found, marks) = self.find(&stream, &records).await;
            tracing::info!(egress = %outlet.id, %stream, records = records.len(), found = found.len(), "looked for records in doubt");
            there.extend(found.iter().copied());
            outlet.arrived(found, marks);
        }
        waiting.retain(|emission| !there.contains(&emission.number));
    }

    /// Looks until it is known which of the records are in the stream, and notes that everything up to them is acknowledged.
    async fn find(&self, stream: &str, records: &[&Record<Put>]) -> (Vec<u64>, Vec<EgressMark>) {
        let after = self.positions().stream(stream);
        let matcher = Matcher::new(records.iter().map(|record| {
            let Put { key, data, .. } = &record.payload;
            (record.number, key.as_str(), data)
        }));
        let client = &self.service.client;
        let seen = loop {
            let wanted = |key: &str, data: &[u8]| matcher.wants(key, data);
            match look(client, stream, &after, &wanted).await {
                Ok(seen) => break seen,
                Err(error) if error.starts_with("ResourceNotFoundException") => {
                    break Look::default();
                }
                Err(error) => {
                    tracing::warn!(stream, %error, "records in doubt could not be looked for; it is tried again");
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        };
        let mut matcher = matcher;
        let mut arrived = Vec::new();
        for seen in &seen.seen {
            if matcher.see(&seen.key, &seen.data) {
                arrived.push((&*seen.shard, &*seen.sequence));
            }
        }
        let mut positions = self.positions();
        let mut marks = positions.advance(stream, arrived, now_ms());
        marks.extend(positions.keep_shards(stream, &|shard| {
            seen.shards.iter().any(|there| there == shard)
        }));
        (matcher.found(), marks)
    }

    /// Waits until this process is known to own the partition.
    async fn confirmed(&self) {
        while self.ownership.confirmed_ago() >= CONFIRMATION {
            tokio::time::sleep(OWNERSHIP_INTERVAL).await;
        }
    }

    fn positions(&self) -> std::sync::MutexGuard<'_, Positions> {
        self.positions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service for ExactlyOnce {
    type Payload = Put;

    fn limits(&self) -> Limits {
        // One request at a time: what its answer says is all that may be there beyond the positions.
        limits(&self.service.settings, 1)
    }

    fn prepare(&self, emission: Emission) -> Result<Record<Put>, String> {
        prepare(emission, &self.service.settings)
    }

    async fn deliver(&self, request: &Request<Put>) -> Answer {
        self.confirmed().await;
        let landed_or_died = Instant::now() + self.service.settings.request_timeout;
        let put = tokio::time::timeout_at(landed_or_died, self.service.put(request)).await;
        let told = put.unwrap_or_else(|_| Told::InDoubt("no answer in time".to_owned()));
        let in_doubt = match told {
            Told::Failed(outcomes) => return Answer::of(outcomes),
            Told::Each(results) if results.iter().all(is_certain) => {
                let arrived = results
                    .iter()
                    .filter_map(|result| Some((result.shard_id()?, result.sequence_number()?)));
                let marks = self
                    .positions()
                    .advance(&request.destination, arrived, now_ms());
                return Answer {
                    outcomes: results.iter().map(super::outcome).collect(),
                    marks,
                };
            }
            Told::Each(_) => "the fate of a record is not known".to_owned(),
            Told::InDoubt(reason) => reason,
        };
        tracing::warn!(stream = %request.destination, reason = %in_doubt, records = request.records.len(), "a request is in doubt; its records are looked for");
        tokio::time::sleep_until(landed_or_died + SETTLING).await;
        let records: Vec<&Record<Put>> = request.records.iter().map(|record| &**record).collect();
        let (found, marks) = self.find(&request.destination, &records).await;
        let outcome = |record: &Arc<Record<Put>>| match found.contains(&record.number) {
            true => Outcome::Delivered,
            false => Outcome::Again(in_doubt.clone()),
        };
        Answer {
            outcomes: request.records.iter().map(outcome).collect(),
            marks,
        }
    }
}

/// Whether a record's result says for certain that it is in the stream and where, or that it is not.
fn is_certain(result: &aws_sdk_kinesis::types::PutRecordsResultEntry) -> bool {
    match result.error_code() {
        None => result.shard_id().is_some() && result.sequence_number().is_some(),
        Some(code) => code == "ProvisionedThroughputExceededException",
    }
}

/// What makes the egress forget its positions, when it delivers at least once from now on: they would be wrong later.
pub fn forget_all(left: &Left) -> Vec<EgressMark> {
    let names = left.marks.iter().map(|(name, _)| Arc::clone(name));
    names.map(forget).collect()
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
