//! Egress to Kinesis that puts each record once, across crashes and takeovers. Performs what
//! [`satchel_engine::sink::exactly_once`] decides.
//!
//! Records are recognized by key, bytes and count, or by their ids if they have the
//! [`super::envelope`].
//!
//! ```text
//!  c      ownership confirmed (a check of the log that started then found no later owner)
//!  |<--------- confirmation ------->|            a request may start in here
//!                                   |<-- request timeout -->|   and has landed or died here
//!      T      takeover by the next owner (after the last confirmation of the former one)
//!      |<------ confirmation + request timeout + settling ------>|   the next owner scans here
//! ```
//!
//! **The bound.** Each record is in the stream once if all of the following hold:
//!
//! - Kinesis accepts a request within its timeout or never. The process is not stopped for longer
//!   than the settling time between its reading of the clock and the write to the network, and the
//!   network does not delay the request for longer.
//! - A record that is put [`ORDERING_MARGIN`] or more after the response to an earlier one has the
//!   greater sequence number in the same shard.
//! - A record can be read [`SETTLING`] after it was put.
//! - An owner with another envelope takes over only when no record of the former owner is in doubt.
//!   (Another `requestTimeout` is marked durably, and the longer one of both is waited for.)
//! - Without the envelope, no other producer puts records with the same key and bytes into the
//!   stream. This egress itself may have done so until five minutes before exactly-once delivery
//!   was configured.
//! - The stream keeps its records for longer than a takeover may take.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use satchel_clock::{BootTime, calendar_ms};
use satchel_engine::input::EgressMark;
use satchel_engine::output::Emission;
use satchel_engine::sink::exactly_once::{
    ExactlyOnceInput, ExactlyOnceOutput, ExactlyOnceSink, ExactlyOnceTiming, Now, PutOutcome,
    ReconcileEvent, ScanResult,
};
use satchel_engine::sink::reconcile::{
    Matcher, Positions, Recognition, StreamPositions, UnknownMark, forget,
};
use tokio::sync::{mpsc, watch};

use super::envelope::Envelope;
use super::scan::scan;
use super::service::{limits, prepare};
use super::{KinesisService, KinesisSettings, ORDERING_MARGIN, Ordering};
use crate::egress::{EgressHandle, RECORDS_PER_ROUND, RetryLog};

/// Maximum age of the confirmed ownership when a request starts.
pub const CONFIRMATION: Duration = Duration::from_secs(5);

/// Time after which a reader certainly sees what a request has put, counted from when it landed or
/// died.
pub const SETTLING: Duration = Duration::from_secs(2);

/// Ownership of the partition by this process.
pub trait Ownership: Send + Sync {
    /// Time since it was certain that no other process had taken the partition over, by a clock
    /// that also counts while the machine sleeps. It starts at the last renewal of the lease, or
    /// check of the log, that confirmed the ownership.
    fn confirmed_ago(&self) -> Duration;
}

/// State that a former owner left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inherited {
    /// Numbers of the egress's records in the outbox. These records are in doubt.
    pub numbers: BTreeSet<u64>,
    /// Marks of the egress.
    pub marks: Vec<(Arc<str>, Bytes)>,
}

/// Puts records once.
pub struct ExactlyOnce {
    service: KinesisService,
    ownership: Arc<dyn Ownership>,
    positions: Positions,
}

impl ExactlyOnce {
    /// Uses the Kinesis of `config`.
    ///
    /// # Errors
    ///
    /// [`UnknownMark`] if a durable mark cannot be decoded.
    pub fn new(
        config: &SdkConfig,
        settings: KinesisSettings,
        ownership: Arc<dyn Ownership>,
        inherited: &Inherited,
    ) -> Result<Self, UnknownMark> {
        let marks = inherited.marks.iter();
        let recognition = match settings.envelope {
            Envelope::None => Recognition::Content,
            Envelope::Json => Recognition::Id,
        };
        let marks = marks.map(|(name, mark)| (&**name, &**mark));
        let positions = Positions::read(marks, recognition)?;
        Ok(Self {
            service: KinesisService::new(config, settings),
            ownership,
            positions,
        })
    }

    /// Reconciles the former owner's records `inherited`, and delivers until `emissions` end.
    /// `taken_over` is the time at which this process took over. `marks_durable` becomes true when
    /// the marks that the egress waits for are durable.
    pub async fn run(
        self,
        handle: EgressHandle,
        inherited: BTreeSet<u64>,
        taken_over: BootTime,
        mut marks_durable: watch::Receiver<bool>,
        mut emissions: mpsc::UnboundedReceiver<Emission>,
    ) {
        wait_for_order(&self.service.settings, taken_over).await;
        let mut driver = Driver::new(self, handle, inherited, taken_over);
        driver.handle_input(ExactlyOnceInput::TimeReached);
        let mut waits = true;
        let mut round = Vec::new();
        loop {
            let wake = driver.wake_at.unwrap_or_else(BootTime::now);
            tokio::select! {
                taken = emissions.recv_many(&mut round, RECORDS_PER_ROUND) => {
                    if taken == 0 {
                        return;
                    }
                    let settings = &driver.service.settings;
                    let offered = round.drain(..).map(|emission| {
                        (emission.number, prepare(emission, settings))
                    });
                    let offered = offered.collect();
                    driver.handle_input(ExactlyOnceInput::Offered(offered));
                }
                durable = marks_durable.wait_for(|durable| *durable), if waits => {
                    waits = false;
                    if durable.is_ok() {
                        driver.handle_input(ExactlyOnceInput::MarksDurable);
                    }
                }
                Some(input) = driver.pending.next() => driver.handle_input(input),
                () = satchel_clock::sleep_until(wake), if driver.wake_at.is_some() => {
                    driver.wake_at = None;
                    driver.handle_input(ExactlyOnceInput::TimeReached);
                }
            }
        }
    }
}

/// Waits until whatever is put is ordered behind the records of the former owner, if the order is
/// strict.
pub(crate) async fn wait_for_order(settings: &KinesisSettings, taken_over: BootTime) {
    if settings.ordering == Ordering::Strict {
        satchel_clock::sleep_until(taken_over + ORDERING_MARGIN).await;
    }
}

/// The loop around the state machine.
struct Driver {
    sink: ExactlyOnceSink,
    service: Arc<KinesisService>,
    ownership: Arc<dyn Ownership>,
    handle: EgressHandle,
    /// Requests and scans in flight.
    pending: FuturesUnordered<BoxFuture<'static, ExactlyOnceInput>>,
    wake_at: Option<BootTime>,
    /// Start of the state machine's time.
    origin: BootTime,
    retry_log: RetryLog,
}

impl Driver {
    fn new(
        egress: ExactlyOnce,
        handle: EgressHandle,
        inherited: BTreeSet<u64>,
        taken_over: BootTime,
    ) -> Self {
        let settings = &egress.service.settings;
        let timing = ExactlyOnceTiming {
            confirmation_ms: CONFIRMATION.as_millis() as u64,
            request_timeout_ms: settings.request_timeout.as_millis() as u64,
            settling_ms: SETTLING.as_millis() as u64,
            ordering_ms: ORDERING_MARGIN.as_millis() as u64,
        };
        // Confirmations may be older than the takeover, and their times must not be negative.
        let origin = taken_over
            .checked_sub(2 * CONFIRMATION)
            .unwrap_or(taken_over);
        let taken_over_ms = taken_over.since(origin).as_millis() as u64;
        let limits = limits(settings, 1);
        Self {
            sink: ExactlyOnceSink::new(
                timing,
                limits,
                egress.positions,
                inherited,
                taken_over_ms,
                handle.seed,
            ),
            service: Arc::new(egress.service),
            ownership: egress.ownership,
            handle,
            pending: FuturesUnordered::new(),
            wake_at: None,
            origin,
            retry_log: RetryLog::default(),
        }
    }

    fn now(&self) -> Now {
        // In this order the confirmation can look older than it is, but never younger.
        let ms = self.origin.elapsed().as_millis() as u64;
        let confirmed_ago = self.ownership.confirmed_ago().as_millis();
        let ago_ms = u64::try_from(confirmed_ago).unwrap_or(u64::MAX);
        Now {
            ms,
            calendar_ms: calendar_ms(),
            confirmed_ms: ms.checked_sub(ago_ms),
        }
    }

    /// Passes an input to the state machine, and performs its outputs.
    fn handle_input(&mut self, input: ExactlyOnceInput) {
        self.sink.handle_input(self.now(), input);
        while let Some(output) = self.sink.poll_output() {
            match output {
                ExactlyOnceOutput::Put { request, until_ms } => {
                    let service = Arc::clone(&self.service);
                    let until = self.origin + Duration::from_millis(until_ms);
                    self.pending.push(Box::pin(async move {
                        // A request that times out here is never sent later, because it is dropped
                        // with its future.
                        let put = satchel_clock::timeout_at(until, service.put(&request)).await;
                        let told = put
                            .unwrap_or_else(|| PutOutcome::InDoubt("no answer in time".to_owned()));
                        ExactlyOnceInput::Answered {
                            request: request.id,
                            outcome: told,
                        }
                    }));
                }
                ExactlyOnceOutput::Scan {
                    scan: look,
                    stream,
                    after,
                    wanted,
                } => {
                    let service = Arc::clone(&self.service);
                    self.pending.push(Box::pin(async move {
                        let seen = scan_if_present(&service, &stream, &after, &wanted).await;
                        ExactlyOnceInput::Scanned {
                            scan: look,
                            result: seen,
                        }
                    }));
                }
                ExactlyOnceOutput::Acknowledge {
                    numbers,
                    marks,
                    confirm,
                } => self.handle.mark(numbers, marks, confirm),
                ExactlyOnceOutput::Refuse { number, reason } => self.handle.refuse(number, reason),
                ExactlyOnceOutput::WakeAt(at_ms) => {
                    self.wake_at = Some(self.origin + Duration::from_millis(at_ms));
                }
                ExactlyOnceOutput::Report(remark) => self.log(&remark),
            }
        }
    }

    fn log(&mut self, remark: &ReconcileEvent) {
        let egress = &*self.handle.id;
        match remark {
            ReconcileEvent::WaitingForFormerOwner { records } => {
                tracing::info!(
                    egress,
                    records,
                    "records may have been put by the last owner; scanning once its requests ended"
                );
            }
            ReconcileEvent::NotReconciled { records } => {
                tracing::warn!(
                    egress,
                    records,
                    "records from before exactly-once delivery are put without a scan"
                );
            }
            ReconcileEvent::InDoubt {
                stream,
                records,
                reason,
            } => {
                tracing::warn!(
                    egress,
                    %stream,
                    records,
                    %reason,
                    "request in doubt; scanning for its records"
                );
            }
            ReconcileEvent::Reconciled {
                stream,
                records,
                found,
            } => {
                tracing::info!(egress, %stream, records, found, "scanned for records in doubt");
            }
            ReconcileEvent::ScanFailed { stream, reason } => {
                tracing::warn!(
                    egress,
                    %stream,
                    %reason,
                    "scan for records in doubt failed; retrying"
                );
            }
            ReconcileEvent::Retried { records, reason } => {
                self.retry_log
                    .retried(&self.handle, *records as u64, reason);
            }
        }
    }
}

/// Scans the stream behind the positions. A stream that does not exist contains nothing.
async fn scan_if_present(
    service: &KinesisService,
    stream: &str,
    after: &StreamPositions,
    wanted: &Matcher,
) -> Result<ScanResult, String> {
    let wanted = |key: &str, data: &[u8]| wanted.wants(key, data);
    match scan(&service.client, stream, after, &wanted).await {
        Err(error) if error.is_missing => Ok(ScanResult::default()),
        Err(error) => Err(error.reason),
        Ok(seen) => {
            for record in &seen.records {
                service.note(stream, &record.key, &record.sequence);
            }
            Ok(seen)
        }
    }
}

/// Marks that remove the positions of an egress that delivers at least once from now on. The
/// positions would be wrong later.
pub fn forget_all(inherited: &Inherited) -> Vec<EgressMark> {
    let names = inherited.marks.iter().map(|(name, _)| Arc::clone(name));
    names.map(forget).collect()
}
