//! Exactly-once delivery to a stream that has neither fencing nor deduplication: the pure state
//! machine between a partition's outbox and such a stream.
//!
//! Before a record in doubt is put again, the stream is scanned for it, from a margin before the
//! doubt began, because a stream orders its records by arrival only coarsely. In doubt are the
//! records of a request whose answer was missing or unclear and, after a takeover, everything that
//! the outbox still holds.
//!
//! ```text
//!             records inherited from the former owner
//!  Gathering ──► Waiting ──► Scanning ──► found: acknowledged ──► Delivering
//!      │         until its requests                               ▲
//!      │         have landed or failed                            │
//!      └──── nothing inherited ───────────────────────────────────┘
//!
//!             one request, while delivering
//!  Ready ──► Putting ──answer──► (delivery)
//!    │          │ no answer, or an unclear one
//!    │          ▼
//!    │       Settling ──► Scanning ──► found: acknowledged; otherwise put again
//!    └─ while ownership is confirmed
//! ```
//!
//! **The bound.** A request begins only while ownership was confirmed less than
//! [`ExactlyOnceTiming::confirmation_ms`] ago. It is accepted within
//! [`ExactlyOnceTiming::request_timeout_ms`], or never. A new owner waits for both, and then for
//! [`ExactlyOnceTiming::settling_ms`] until everything that was put can be read. It relies on
//! durable marks ([`Positions`]): nothing is put before the first marks are durable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::input::EgressMark;

pub use self::messages::{
    ExactlyOnceInput, ExactlyOnceOutput, Now, PutOutcome, PutResult, ReconcileEvent, ScanResult,
    ScannedRecord, StreamRecord,
};
use crate::sink::delivery::{Delivery, Limits, Outcome, Record, Request, Settled};
use crate::sink::reconcile::{AckTime, Matcher, Positions};

mod messages;

/// Interval for checking ownership while it is not confirmed, in ms.
const OWNERSHIP_INTERVAL_MS: u64 = 50;

/// Delay after a failed scan, in ms.
const SCAN_RETRY_MS: u64 = 2_000;

/// Time bounds of exactly-once delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExactlyOnceTiming {
    /// Maximum age of the ownership confirmation when a request begins, in ms.
    pub confirmation_ms: u64,
    /// Time after which a request has landed or failed for good, in ms.
    pub request_timeout_ms: u64,
    /// Time after that until a reader certainly sees what the request put, in ms.
    pub settling_ms: u64,
    /// Time from the acknowledgement of a record after which whatever is put has the greater
    /// sequence number in its shard, in ms.
    pub ordering_ms: u64,
}

/// State machine of one exactly-once egress.
#[derive(Debug)]
pub struct ExactlyOnceSink {
    timing: ExactlyOnceTiming,
    positions: Positions,
    /// Numbers that the outbox held at the takeover.
    inherited: BTreeSet<u64>,
    taken_over_ms: u64,
    phase: Phase,
    /// Number of the last offered record.
    last_offered: u64,
    /// Records held back until the fate of the former owner's records is known.
    waiting: Vec<Record<StreamRecord>>,
    /// True if the marks needed before the first put are durable.
    marks_durable: bool,
    delivery: Delivery<StreamRecord>,
    requests: BTreeMap<u64, UnderWay>,
    scans: BTreeMap<u64, PendingScan>,
    next_scan: u64,
    outputs: VecDeque<ExactlyOnceOutput>,
    wake_requested_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Some inherited records have not been offered yet.
    Gathering,
    /// Requests of the former owner may still land.
    Waiting {
        until_ms: u64,
    },
    Scanning,
    Delivering,
}

/// A request returned by the delivery.
#[derive(Debug)]
struct UnderWay {
    request: Request<StreamRecord>,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Ready,
    Putting { until_ms: u64 },
    Settling { until_ms: u64, reason: String },
    Scanning { reason: String },
}

/// A scan for records in doubt.
#[derive(Debug)]
struct PendingScan {
    stream: Arc<str>,
    wanted: Arc<Matcher>,
    records: usize,
    /// Request of the records; none for inherited records.
    request: Option<u64>,
    /// Start time of the scan; none while it is in flight.
    at_ms: Option<u64>,
}

impl ExactlyOnceSink {
    /// Creates the egress of an owner that took over at `taken_over_ms` or earlier.
    ///
    /// It keeps to `limits`, except that a stream has only one request in flight. `inherited` are
    /// the numbers that the outbox held for it at the takeover. `seed` determines the jitter of
    /// back-offs, so that several processes do not retry together.
    pub fn new(
        timing: ExactlyOnceTiming,
        limits: Limits,
        mut positions: Positions,
        inherited: BTreeSet<u64>,
        taken_over_ms: u64,
        seed: u64,
    ) -> Self {
        positions.inherit(taken_over_ms);
        // With one request in flight, only the records of that request can be in doubt, and none
        // is when an acknowledgement moves the positions.
        let limits = Limits {
            requests_in_flight: 1,
            ..limits
        };
        Self {
            timing,
            positions,
            inherited,
            taken_over_ms,
            phase: Phase::Gathering,
            last_offered: 0,
            waiting: Vec::new(),
            marks_durable: false,
            delivery: Delivery::new(limits, seed),
            requests: BTreeMap::new(),
            scans: BTreeMap::new(),
            next_scan: 1,
            outputs: VecDeque::new(),
            wake_requested_ms: None,
        }
    }

    /// Handles one fact.
    pub fn handle_input(&mut self, now: Now, input: ExactlyOnceInput) {
        self.wake_requested_ms = self
            .wake_requested_ms
            .filter(|requested_ms| *requested_ms > now.ms);
        match input {
            ExactlyOnceInput::Offered(records) => {
                for (number, record) in records {
                    self.offered(number, record);
                }
            }
            ExactlyOnceInput::Answered { request, outcome } => self.answered(now, request, outcome),
            ExactlyOnceInput::Scanned { scan, result } => self.scanned(now, scan, result),
            ExactlyOnceInput::MarksDurable => self.marks_durable = true,
            ExactlyOnceInput::TimeReached => self.wake_requested_ms = None,
        }
        self.advance(now);
    }

    /// Returns the next imperative, or `None` until the next input.
    pub fn poll_output(&mut self) -> Option<ExactlyOnceOutput> {
        self.outputs.pop_front()
    }

    fn offered(&mut self, number: u64, record: Result<Record<StreamRecord>, String>) {
        self.last_offered = number;
        match record {
            Ok(record) if self.phase == Phase::Delivering => self.delivery.offer(record),
            Ok(record) => self.waiting.push(record),
            Err(reason) => self
                .outputs
                .push_back(ExactlyOnceOutput::Refuse { number, reason }),
        }
    }

    fn advance(&mut self, now: Now) {
        // Records are offered in the order of their numbers. Records dropped when a fork's hold was
        // lifted are never offered.
        if self.phase == Phase::Gathering
            && self
                .inherited
                .last()
                .is_none_or(|last| *last <= self.last_offered)
        {
            self.start(now);
        }
        if let Phase::Waiting { until_ms } = self.phase
            && until_ms <= now.ms
        {
            self.scan_for_inherited(now);
        }
        let scans_for_inherited = |scan: &PendingScan| scan.request.is_none();
        if self.phase == Phase::Scanning && !self.scans.values().any(scans_for_inherited) {
            self.start_delivering();
        }
        if self.may_put() {
            while let Some(request) = self.delivery.poll(now.ms) {
                let stage = Stage::Ready;
                self.requests
                    .insert(request.id, UnderWay { request, stage });
            }
        }
        let requests: Vec<u64> = self.requests.keys().copied().collect();
        for request in requests {
            self.advance_request(now, request);
        }
        self.start_scans(now);
        self.request_wake(now);
    }

    /// Starts after all inherited records were offered.
    fn start(&mut self, now: Now) {
        let own_ms = self.timing.request_timeout_ms;
        let former_ms = self.positions.request_timeout_ms();
        let first = self.positions.since_ms().is_none();
        let records = self.inherited.len();
        let mut marks = Vec::new();
        if own_ms > former_ms {
            marks.push(self.positions.set_request_timeout(own_ms));
        }
        if first || records == 0 {
            marks.push(self.positions.mark_settled(now.calendar_ms));
        }
        // Without the mark `since` a later owner would not scan at all; without the mark of the
        // request timeout it would scan too early.
        self.marks_durable = !first && own_ms <= former_ms;
        if !marks.is_empty() {
            self.acknowledge(Vec::new(), marks, !self.marks_durable);
        }
        if first || records == 0 {
            if records > 0 {
                self.report(ReconcileEvent::NotReconciled { records });
            }
            return self.start_delivering();
        }
        self.report(ReconcileEvent::WaitingForFormerOwner { records });
        let ExactlyOnceTiming {
            confirmation_ms,
            settling_ms,
            ..
        } = self.timing;
        let wait_ms = confirmation_ms + own_ms.max(former_ms) + settling_ms;
        let until_ms = self.taken_over_ms + wait_ms;
        self.phase = Phase::Waiting { until_ms };
    }

    fn scan_for_inherited(&mut self, now: Now) {
        self.phase = Phase::Scanning;
        let mut streams: BTreeMap<Arc<str>, Vec<&Record<StreamRecord>>> = BTreeMap::new();
        for record in &self.waiting {
            if self.inherited.contains(&record.number) {
                let stream = Arc::clone(&record.destination);
                streams.entry(stream).or_default().push(record);
            }
        }
        let scans: Vec<PendingScan> = streams
            .into_iter()
            .map(|(stream, records)| PendingScan {
                stream,
                wanted: Arc::new(matcher(records.iter().copied())),
                records: records.len(),
                request: None,
                at_ms: Some(now.ms),
            })
            .collect();
        scans.into_iter().for_each(|scan| self.add_scan(scan));
    }

    fn start_delivering(&mut self) {
        self.phase = Phase::Delivering;
        let own_ms = self.timing.request_timeout_ms;
        if own_ms < self.positions.request_timeout_ms() {
            // Nothing of the former owner is in doubt any more.
            let shorter = self.positions.set_request_timeout(own_ms);
            self.acknowledge(Vec::new(), vec![shorter], false);
        }
        for record in std::mem::take(&mut self.waiting) {
            self.delivery.offer(record);
        }
    }

    /// Returns whether records may be put.
    fn may_put(&self) -> bool {
        self.phase == Phase::Delivering && self.marks_durable
    }

    fn advance_request(&mut self, now: Now, id: u64) {
        let ExactlyOnceTiming {
            confirmation_ms,
            request_timeout_ms,
            ..
        } = self.timing;
        let Some(UnderWay { request, stage }) = self.requests.get_mut(&id) else {
            return;
        };
        match stage {
            Stage::Ready => {
                let confirmed = now
                    .confirmed_ms
                    .is_some_and(|at_ms| now.ms.saturating_sub(at_ms) < confirmation_ms);
                if confirmed {
                    let until_ms = now.ms + request_timeout_ms;
                    *stage = Stage::Putting { until_ms };
                    let request = request.clone();
                    self.outputs
                        .push_back(ExactlyOnceOutput::Put { request, until_ms });
                }
            }
            Stage::Putting { until_ms } if *until_ms <= now.ms => {
                let until_ms = *until_ms;
                self.mark_in_doubt(id, until_ms, "no answer in time".to_owned());
            }
            Stage::Settling { until_ms, reason } if *until_ms <= now.ms => {
                let reason = std::mem::take(reason);
                *stage = Stage::Scanning { reason };
                let records = request.records.iter().map(|record| &**record);
                let scan = PendingScan {
                    stream: Arc::clone(&request.destination),
                    wanted: Arc::new(matcher(records)),
                    records: request.records.len(),
                    request: Some(id),
                    at_ms: Some(now.ms),
                };
                self.add_scan(scan);
            }
            Stage::Putting { .. } | Stage::Settling { .. } | Stage::Scanning { .. } => {}
        }
    }

    /// Marks a request as in doubt. It has landed or failed at `until_ms`.
    fn mark_in_doubt(&mut self, id: u64, until_ms: u64, reason: String) {
        let settling_ms = self.timing.settling_ms;
        let Some(UnderWay { request, stage }) = self.requests.get_mut(&id) else {
            return;
        };
        *stage = Stage::Settling {
            until_ms: until_ms + settling_ms,
            reason: reason.clone(),
        };
        let report = ReconcileEvent::InDoubt {
            stream: Arc::clone(&request.destination),
            records: request.records.len(),
            reason,
        };
        self.report(report);
    }

    fn answered(&mut self, now: Now, id: u64, outcome: PutOutcome) {
        let Some(UnderWay { request, stage }) = self.requests.get(&id) else {
            return;
        };
        // A late answer adds nothing: the records are already being reconciled.
        let Stage::Putting { until_ms } = *stage else {
            return;
        };
        let records = request.records.len();
        match outcome {
            PutOutcome::Failed(outcomes) if outcomes.len() == records => {
                self.finish(now, id, outcomes, Vec::new());
            }
            PutOutcome::Each(results) if results.len() == records && is_certain(&results) => {
                let stream = Arc::clone(&request.destination);
                let arrived = results.iter().filter_map(|result| match result {
                    PutResult::Taken { shard, sequence } => Some((&**shard, &**sequence)),
                    PutResult::NotTaken(_) | PutResult::Unclear(_) => None,
                });
                let marks = self.positions.advance(&stream, arrived, self.ack_time(now));
                let outcomes = results.into_iter().map(|result| match result {
                    PutResult::Taken { .. } => Outcome::Delivered,
                    PutResult::NotTaken(outcome) => outcome,
                    PutResult::Unclear(reason) => Outcome::Retry(reason),
                });
                self.finish(now, id, outcomes.collect(), marks);
            }
            PutOutcome::Each(results) => {
                let unclear = results.into_iter().find_map(|result| match result {
                    PutResult::Unclear(reason) => Some(reason),
                    PutResult::Taken { .. } | PutResult::NotTaken(_) => None,
                });
                let reason = unclear.unwrap_or_else(|| "not one result for each record".to_owned());
                self.mark_in_doubt(id, until_ms, reason);
            }
            PutOutcome::Failed(_) => {
                self.mark_in_doubt(id, until_ms, "not one result for each record".to_owned());
            }
            PutOutcome::InDoubt(reason) => self.mark_in_doubt(id, until_ms, reason),
        }
    }

    fn scanned(&mut self, now: Now, id: u64, result: Result<ScanResult, String>) {
        let Some(scan) = self.scans.get_mut(&id) else {
            return;
        };
        if scan.at_ms.is_some() {
            return;
        }
        let stream = Arc::clone(&scan.stream);
        let result = match result {
            Ok(result) => result,
            Err(reason) => {
                scan.at_ms = Some(now.ms + SCAN_RETRY_MS);
                return self.report(ReconcileEvent::ScanFailed { stream, reason });
            }
        };
        let Some(scan) = self.scans.remove(&id) else {
            return;
        };
        let mut matcher = (*scan.wanted).clone();
        let mut arrived = Vec::new();
        let unacknowledged =
            self.positions
                .unacknowledged(&stream, &result.records, |record: &ScannedRecord| {
                    (&record.shard, &record.sequence)
                });
        for record in unacknowledged {
            if matcher.match_record(&record.key, &record.data) {
                arrived.push((&*record.shard, &*record.sequence));
            }
        }
        let at = self.ack_time(now);
        let mut marks = self.positions.advance(&stream, arrived, at);
        marks.extend(self.positions.retain_shards(&stream, &|shard| {
            result.shards.iter().any(|there| there == shard)
        }));
        let found = matcher.found();
        self.report(ReconcileEvent::Reconciled {
            stream,
            records: scan.records,
            found: found.len(),
        });
        match scan.request {
            None => {
                self.waiting
                    .retain(|record| !found.contains(&record.number));
                self.acknowledge(found, marks, false);
            }
            Some(id) => self.found(now, id, &found, marks),
        }
    }

    fn ack_time(&self, now: Now) -> AckTime {
        AckTime {
            ms: now.ms,
            calendar_ms: now.calendar_ms,
            ordering_ms: self.timing.ordering_ms,
        }
    }

    /// Settles a request in doubt: the `found` records are in the stream, the others are not.
    fn found(&mut self, now: Now, id: u64, found: &[u64], marks: Vec<EgressMark>) {
        let Some(UnderWay { request, stage }) = self.requests.get(&id) else {
            return;
        };
        let Stage::Scanning { reason } = stage else {
            return;
        };
        let outcome = |record: &Arc<Record<StreamRecord>>| match found.contains(&record.number) {
            true => Outcome::Delivered,
            false => Outcome::Retry(reason.clone()),
        };
        let outcomes = request.records.iter().map(outcome).collect();
        self.finish(now, id, outcomes, marks);
    }

    /// Settles a request whose result is known.
    fn finish(&mut self, now: Now, id: u64, outcomes: Vec<Outcome>, marks: Vec<EgressMark>) {
        self.requests.remove(&id);
        let mut reasons = outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Retry(reason)
            | Outcome::Throttled(reason)
            | Outcome::Missing(reason)
            | Outcome::Suspect(reason) => Some(reason.clone()),
            Outcome::Delivered | Outcome::Refused(_) => None,
        });
        if let Some(reason) = reasons.next() {
            let records = 1 + reasons.count();
            self.report(ReconcileEvent::Retried { records, reason });
        }
        let mut numbers = Vec::new();
        for settled in self.delivery.answered(now.ms, id, outcomes) {
            match settled {
                Settled::Delivered(number) => numbers.push(number),
                Settled::Refused { number, reason } => self
                    .outputs
                    .push_back(ExactlyOnceOutput::Refuse { number, reason }),
            }
        }
        if !(numbers.is_empty() && marks.is_empty()) {
            self.acknowledge(numbers, marks, false);
        }
    }

    fn add_scan(&mut self, scan: PendingScan) {
        self.scans.insert(self.next_scan, scan);
        self.next_scan += 1;
    }

    fn start_scans(&mut self, now: Now) {
        for (id, scan) in &mut self.scans {
            if scan.at_ms.is_some_and(|at_ms| at_ms <= now.ms) {
                scan.at_ms = None;
                self.outputs.push_back(ExactlyOnceOutput::Scan {
                    scan: *id,
                    stream: Arc::clone(&scan.stream),
                    after: self.positions.stream(&scan.stream),
                    wanted: Arc::clone(&scan.wanted),
                });
            }
        }
    }

    fn acknowledge(&mut self, numbers: Vec<u64>, marks: Vec<EgressMark>, confirm: bool) {
        self.outputs.push_back(ExactlyOnceOutput::Acknowledge {
            numbers,
            marks,
            confirm,
        });
    }

    fn report(&mut self, report: ReconcileEvent) {
        self.outputs.push_back(ExactlyOnceOutput::Report(report));
    }

    fn request_wake(&mut self, now: Now) {
        let waiting = match self.phase {
            Phase::Waiting { until_ms } => Some(until_ms),
            Phase::Gathering | Phase::Scanning | Phase::Delivering => None,
        };
        let requests = self.requests.values();
        let requests = requests.filter_map(|under_way| match under_way.stage {
            Stage::Ready => Some(now.ms + OWNERSHIP_INTERVAL_MS),
            Stage::Putting { until_ms } | Stage::Settling { until_ms, .. } => Some(until_ms),
            Stage::Scanning { .. } => None,
        });
        let scans = self.scans.values().filter_map(|scan| scan.at_ms);
        let delivery = match self.may_put() {
            true => self.delivery.wake_at_ms(now.ms),
            false => None,
        };
        let due = requests.chain(scans).chain(waiting).chain(delivery);
        if let Some(due_ms) = due.min()
            && self
                .wake_requested_ms
                .is_none_or(|requested_ms| requested_ms != due_ms)
        {
            self.wake_requested_ms = Some(due_ms);
            self.outputs.push_back(ExactlyOnceOutput::WakeAt(due_ms));
        }
    }
}

/// Returns whether each record is known to be at a place in the stream, or not to be in it.
fn is_certain(results: &[PutResult]) -> bool {
    let unclear = |result: &PutResult| matches!(result, PutResult::Unclear(_));
    !results.iter().any(unclear)
}

fn matcher<'a>(records: impl Iterator<Item = &'a Record<StreamRecord>>) -> Matcher {
    Matcher::new(records.map(|record| {
        let StreamRecord { key, data, .. } = &record.payload;
        (record.number, key.as_str(), data)
    }))
}

#[cfg(test)]
mod tests;
