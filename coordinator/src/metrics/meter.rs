//! Counts of what is paid for, for the bill of the running application.
//!
//! Counters grow since the start of the process. Samples of them, taken from time to time, let the
//! bill begin at midnight (UTC) or a few minutes ago.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::Metrics;
use crate::clock::now_ms;
use crate::cost::{CostSettings, Counted};
use crate::store::s3::S3Operation;

/// Interval between two samples.
pub(crate) const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);

/// Number of samples that are kept: those of five minutes.
const SAMPLES_MAX: usize = 31;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Counters of a process.
#[derive(Debug)]
pub(super) struct Meter {
    started_ms: u64,
    pub(super) s3_puts: AtomicU64,
    pub(super) s3_lists: AtomicU64,
    pub(super) s3_gets: AtomicU64,
    pub(super) table_writes: AtomicU64,
    pub(super) table_reads: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) request_micros: AtomicU64,
    pub(super) messages: AtomicU64,
    pub(super) commit_bytes: AtomicU64,
    pub(super) kinesis_bytes: AtomicU64,
    settings: OnceLock<CostSettings>,
    samples: Mutex<Samples>,
}

#[derive(Debug, Default)]
struct Samples {
    /// The first sample of this day (UTC), or of the process.
    of_day: Option<(u64, Counted)>,
    /// Samples of the last minutes, oldest first.
    recent: VecDeque<(u64, Counted)>,
}

/// Beginning of the counts of a bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    /// Midnight (UTC), or the start of the process if that is later.
    Today,
    /// Five minutes ago, or the start of the process.
    Recent,
}

/// Counts of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Metered {
    /// Start of the process, in ms since the epoch.
    pub(crate) started_ms: u64,
    /// Beginning of the counts, in ms since the epoch.
    pub(crate) since_ms: u64,
    /// Present time, in ms since the epoch.
    pub(crate) now_ms: u64,
    /// The counts.
    pub(crate) counted: Counted,
}

impl Meter {
    pub(super) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            started_ms: now_ms(),
            s3_puts: zero(),
            s3_lists: zero(),
            s3_gets: zero(),
            table_writes: zero(),
            table_reads: zero(),
            requests: zero(),
            request_micros: zero(),
            messages: zero(),
            commit_bytes: zero(),
            kinesis_bytes: zero(),
            settings: OnceLock::new(),
            samples: Mutex::default(),
        }
    }

    /// Counts a request to S3.
    pub(super) fn s3_requested(&self, operation: S3Operation) {
        let counter = match operation {
            S3Operation::GetObject => &self.s3_gets,
            S3Operation::ListObjectsV2 => &self.s3_lists,
            paid if paid.price_nanodollars() > 0 => &self.s3_puts,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request to an endpoint that returned.
    pub(super) fn requested(&self, messages: usize, took: Duration) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.request_micros.fetch_add(micros, Ordering::Relaxed);
        self.messages.fetch_add(messages as u64, Ordering::Relaxed);
    }

    fn samples(&self) -> MutexGuard<'_, Samples> {
        // No code panics between two changes that belong together.
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Samples {
    fn add(&mut self, at_ms: u64, counted: Counted) {
        let is_of_today = |(of_day, _): &(u64, Counted)| of_day / DAY_MS == at_ms / DAY_MS;
        if !self.of_day.as_ref().is_some_and(is_of_today) {
            self.of_day = Some((at_ms, counted));
        }
        self.recent.push_back((at_ms, counted));
        if self.recent.len() > SAMPLES_MAX {
            self.recent.pop_front();
        }
    }

    fn first(&self, span: Span) -> Option<(u64, Counted)> {
        match span {
            Span::Today => self.of_day,
            Span::Recent => self.recent.front().copied(),
        }
    }
}

impl Metrics {
    /// Sets the settings of the process that determine its bill.
    pub(crate) fn declare_cost_settings(&self, settings: CostSettings) {
        // `dev` starts an application again with the same flags.
        let _ = self.0.meter.settings.set(settings);
    }

    /// Returns these settings, once the state is open.
    pub(crate) fn cost_settings(&self) -> Option<CostSettings> {
        self.0.meter.settings.get().cloned()
    }

    /// Takes a sample, to be called each [`SAMPLE_INTERVAL`].
    pub(crate) fn sample_costs(&self) {
        let counted = self.counted();
        self.0.meter.samples().add(now_ms(), counted);
    }

    /// Returns the counts of a span.
    pub(crate) fn metered(&self, span: Span) -> Metered {
        let (meter, now) = (&self.0.meter, now_ms());
        let beginning = meter.samples().first(span);
        let beginning = beginning.filter(|(at_ms, _)| match span {
            // The sample of a former day is of no use until the next one is taken.
            Span::Today => at_ms / DAY_MS == now / DAY_MS,
            Span::Recent => true,
        });
        let (since_ms, before) = beginning.unwrap_or((meter.started_ms, Counted::default()));
        Metered {
            started_ms: meter.started_ms,
            since_ms,
            now_ms: now,
            counted: self.counted().since(&before),
        }
    }

    /// Counts since the start of the process.
    fn counted(&self) -> Counted {
        let families = &self.0;
        let meter = &families.meter;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let endpoints = families.status.endpoints();
        let lambda = endpoints.iter().filter(|it| it.kind == "lambda");
        let lambda = lambda.map(|it| self.endpoint(&it.name).bundles.get());
        let ingresses = families.status.ingresses();
        let streams = ingresses.iter().filter(|it| it.kind == "stream");
        let egresses = families.status.egresses();
        let totals = self.totals();
        Counted {
            calls: totals.calls + totals.sends,
            records_in: streams.map(|it| it.received).sum(),
            kinesis_bytes_in: of(&meter.kinesis_bytes),
            records_out: egresses.iter().map(|it| it.delivered).sum(),
            s3_puts: of(&meter.s3_puts),
            s3_lists: of(&meter.s3_lists),
            s3_gets: of(&meter.s3_gets),
            files: families.store.files_written(),
            table_writes: of(&meter.table_writes),
            table_reads: of(&meter.table_reads),
            requests: of(&meter.requests),
            lambda_requests: lambda.sum(),
            request_ms: of(&meter.request_micros) / 1000,
            messages: of(&meter.messages),
            commit_bytes: of(&meter.commit_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn puts(s3_puts: u64) -> Counted {
        Counted {
            s3_puts,
            ..Counted::default()
        }
    }

    #[test]
    fn a_day_begins_at_midnight_and_the_last_minutes_move_on() {
        let mut samples = Samples::default();
        assert_eq!(samples.first(Span::Today), None);
        let midnight = 20_000 * DAY_MS;
        samples.add(midnight - 20_000, puts(1));
        samples.add(midnight - 10_000, puts(2));
        assert_eq!(
            samples.first(Span::Today),
            Some((midnight - 20_000, puts(1)))
        );
        samples.add(midnight, puts(3));
        samples.add(midnight + 10_000, puts(4));
        assert_eq!(samples.first(Span::Today), Some((midnight, puts(3))));
        assert_eq!(
            samples.first(Span::Recent),
            Some((midnight - 20_000, puts(1)))
        );
        for step in 2..=31 {
            samples.add(midnight + step * 10_000, puts(step));
        }
        let five_minutes = midnight + 31 * 10_000 - 300_000;
        assert_eq!(
            samples.first(Span::Recent).map(|it| it.0),
            Some(five_minutes)
        );
        assert_eq!(samples.first(Span::Today), Some((midnight, puts(3))));
    }

    #[test]
    fn what_is_paid_for_is_counted_by_its_price() {
        let meter = Meter::new();
        for operation in [
            S3Operation::PutObject,
            S3Operation::UploadPart,
            S3Operation::GetObject,
            S3Operation::ListObjectsV2,
            S3Operation::DeleteObject,
        ] {
            meter.s3_requested(operation);
        }
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counted = (of(&meter.s3_puts), of(&meter.s3_gets), of(&meter.s3_lists));
        assert_eq!(counted, (2, 1, 1));
    }
}
