//! Egress to Kinesis that puts each record once, over crashes and takeovers too: carries out what [`satchel_engine::sink::exactly_once`] decides.
//!
//! Records are recognized by key, bytes and count, or by their ids if they have the [`super::envelope`].
//!
//! ```text
//!  c          ownership confirmed (a look at the log that began then found no later owner)
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
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::SdkConfig;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use satchel_engine::input::EgressMark;
use satchel_engine::output::Emission;
use satchel_engine::sink::exactly_once::{
    ExactlyOnceInput, ExactlyOnceOutput, ExactlyOnceSink, ExactlyOnceTiming, Now, PutOutcome,
    Remark, ScanResult,
};
use satchel_engine::sink::reconcile::{Matcher, Positions, StreamPositions, UnknownMark, forget};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::scan::look;
use super::{KinesisService, KinesisSettings, limits, prepare};
use crate::egress::{Complaints, Outlet, RECORDS_PER_ROUND};

/// How long ago ownership may have been confirmed when a request begins.
pub const CONFIRMATION: Duration = Duration::from_secs(5);

/// How long after a request has landed or died what it put is surely seen by a reader.
pub const SETTLING: Duration = Duration::from_secs(2);

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
    positions: Positions,
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
            positions,
        })
    }

    /// Finds out what the former owner's records became, and delivers until `emissions` end. `taken_over` is when this process took over; `noted` tells
    /// when what the egress waits for is durable.
    pub async fn run(
        self,
        outlet: Outlet,
        left: BTreeSet<u64>,
        taken_over: Instant,
        mut noted: watch::Receiver<bool>,
        mut emissions: mpsc::UnboundedReceiver<Emission>,
    ) {
        let mut delivery = Delivery::new(self, outlet, left, taken_over);
        delivery.tell(ExactlyOnceInput::TimeReached);
        let mut waits = true;
        let mut round = Vec::new();
        loop {
            let wake = delivery.wake_at.unwrap_or_else(Instant::now);
            tokio::select! {
                taken = emissions.recv_many(&mut round, RECORDS_PER_ROUND) => {
                    if taken == 0 {
                        return;
                    }
                    let settings = &delivery.service.settings;
                    let offered = round.drain(..);
                    let offered = offered.map(|emission| (emission.number, prepare(emission, settings)));
                    let offered = offered.collect();
                    delivery.tell(ExactlyOnceInput::Offered(offered));
                }
                told = noted.wait_for(|noted| *noted), if waits => {
                    waits = false;
                    if told.is_ok() {
                        delivery.tell(ExactlyOnceInput::NotesDurable);
                    }
                }
                Some(input) = delivery.asked.next() => delivery.tell(input),
                () = tokio::time::sleep_until(wake), if delivery.wake_at.is_some() => {
                    delivery.wake_at = None;
                    delivery.tell(ExactlyOnceInput::TimeReached);
                }
            }
        }
    }
}

/// The loop around the machine.
struct Delivery {
    once: ExactlyOnceSink,
    service: Arc<KinesisService>,
    ownership: Arc<dyn Ownership>,
    outlet: Outlet,
    /// Requests and looks under way.
    asked: FuturesUnordered<BoxFuture<'static, ExactlyOnceInput>>,
    wake_at: Option<Instant>,
    /// The machine's time counts from here.
    origin: Instant,
    complaints: Complaints,
}

impl Delivery {
    fn new(egress: ExactlyOnce, outlet: Outlet, left: BTreeSet<u64>, taken_over: Instant) -> Self {
        let settings = &egress.service.settings;
        let timing = ExactlyOnceTiming {
            confirmation_ms: CONFIRMATION.as_millis() as u64,
            request_timeout_ms: settings.request_timeout.as_millis() as u64,
            settling_ms: SETTLING.as_millis() as u64,
        };
        // Confirmations may be older than the takeover: there must be numbers for them.
        let origin = taken_over
            .checked_sub(2 * CONFIRMATION)
            .unwrap_or(taken_over);
        let taken_over_ms = (taken_over - origin).as_millis() as u64;
        let limits = limits(settings, 1);
        Self {
            once: ExactlyOnceSink::new(
                timing,
                limits,
                egress.positions,
                left,
                taken_over_ms,
                outlet.seed,
            ),
            service: Arc::new(egress.service),
            ownership: egress.ownership,
            outlet,
            asked: FuturesUnordered::new(),
            wake_at: None,
            origin,
            complaints: Complaints::default(),
        }
    }

    fn now(&self) -> Now {
        // In this order the confirmation can look older than it is, and never younger.
        let ms = self.origin.elapsed().as_millis() as u64;
        let confirmed_ago = self.ownership.confirmed_ago().as_millis();
        let ago_ms = u64::try_from(confirmed_ago).unwrap_or(u64::MAX);
        Now {
            ms,
            calendar_ms: calendar_ms(),
            confirmed_ms: ms.checked_sub(ago_ms),
        }
    }

    /// Tells the machine, and does what it wants.
    fn tell(&mut self, input: ExactlyOnceInput) {
        self.once.handle_input(self.now(), input);
        while let Some(output) = self.once.poll_output() {
            match output {
                ExactlyOnceOutput::Put { request, until_ms } => {
                    let service = Arc::clone(&self.service);
                    let until = self.origin + Duration::from_millis(until_ms);
                    self.asked.push(Box::pin(async move {
                        // What is given up on here is never sent later: the request is gone with its future.
                        let put = tokio::time::timeout_at(until, service.put(&request)).await;
                        let told = put.unwrap_or_else(|_| {
                            PutOutcome::InDoubt("no answer in time".to_owned())
                        });
                        ExactlyOnceInput::Answered {
                            request: request.id,
                            told,
                        }
                    }));
                }
                ExactlyOnceOutput::Scan {
                    look,
                    stream,
                    after,
                    wanted,
                } => {
                    let service = Arc::clone(&self.service);
                    self.asked.push(Box::pin(async move {
                        let seen = find(&service, &stream, &after, &wanted).await;
                        ExactlyOnceInput::Scanned { look, seen }
                    }));
                }
                ExactlyOnceOutput::Arrived {
                    numbers,
                    marks,
                    confirm,
                } => self.outlet.noted(numbers, marks, confirm),
                ExactlyOnceOutput::Refused { number, reason } => self.outlet.refuse(number, reason),
                ExactlyOnceOutput::WakeAt(at_ms) => {
                    self.wake_at = Some(self.origin + Duration::from_millis(at_ms));
                }
                ExactlyOnceOutput::Remark(remark) => self.remark(&remark),
            }
        }
    }

    fn remark(&mut self, remark: &Remark) {
        let egress = &*self.outlet.id;
        match remark {
            Remark::Waits { records } => {
                tracing::info!(
                    egress,
                    records,
                    "records may have been put by the last owner; they are looked for once its requests have landed or died"
                );
            }
            Remark::NotReconciled { records } => {
                tracing::warn!(
                    egress,
                    records,
                    "records of the time before exactly once are put without looking for them"
                );
            }
            Remark::InDoubt {
                stream,
                records,
                reason,
            } => {
                tracing::warn!(egress, %stream, records, %reason, "a request is in doubt; its records are looked for");
            }
            Remark::Reconciled {
                stream,
                records,
                found,
            } => {
                tracing::info!(egress, %stream, records, found, "looked for records in doubt");
            }
            Remark::ScanFailed { stream, reason } => {
                tracing::warn!(egress, %stream, %reason, "records in doubt could not be looked for; it is tried again");
            }
            Remark::Retried { records, reason } => {
                self.complaints
                    .retried(&self.outlet, *records as u64, reason);
            }
        }
    }
}

/// Reads what lies beyond the positions. A stream that is not there holds nothing.
async fn find(
    service: &KinesisService,
    stream: &str,
    after: &StreamPositions,
    wanted: &Matcher,
) -> Result<ScanResult, String> {
    let wanted = |key: &str, data: &[u8]| wanted.wants(key, data);
    match look(&service.client, stream, after, &wanted).await {
        Err(error) if error.starts_with("ResourceNotFoundException") => Ok(ScanResult::default()),
        seen => seen,
    }
}

/// What makes the egress forget its positions, when it delivers at least once from now on: they would be wrong later.
pub fn forget_all(left: &Left) -> Vec<EgressMark> {
    let names = left.marks.iter().map(|(name, _)| Arc::clone(name));
    names.map(forget).collect()
}

fn calendar_ms() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
