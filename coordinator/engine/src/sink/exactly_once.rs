//! How a stream that can neither be told who owns the partition nor refuses a record that it has still holds each record once: the pure state
//! machine between a partition's outbox and such a stream.
//!
//! What is in doubt is looked for in the stream, from the last acknowledged position on, before it is put again: a request whose answer did not come or
//! was not understood, and after a takeover everything that the outbox still holds.
//!
//! ```text
//!              what is left of a former owner                      a request
//!  Gathering ──► Waiting ──► Looking ──┐              Ready ──► Put ──answer──► (the sequencer)
//!      │         until its    │        ▼                │        │ none, or not understood
//!      │         requests have└► found: acknowledged    │        ▼
//!      └──── nothing left ──────────► Delivering        │     Settling ──► Looking ──► found: acknowledged; else put again
//!                                                       └─ while ownership is confirmed
//! ```
//!
//! **The bound.** A request begins only while ownership was confirmed less than [`ExactlyOnceTiming::confirmation_ms`] ago, and is taken within
//! [`ExactlyOnceTiming::request_timeout_ms`] or never. Whoever takes over waits for both, and for [`ExactlyOnceTiming::settling_ms`] more, until what was put can be
//! read. It goes by notes that are durable ([`Positions`]): nothing is put before the first ones are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::input::EgressMark;

pub use self::messages::{
    ExactlyOnceInput, ExactlyOnceOutput, Now, Put, PutOutcome, PutResult, Remark, ScanResult,
    ScannedRecord,
};
use crate::sink::delivery::{Delivery, Limits, Outcome, Record, Request, Settled};
use crate::sink::reconcile::{Matcher, Positions};

mod messages;

/// How often it is asked whether ownership is confirmed, while it is not.
const OWNERSHIP_INTERVAL_MS: u64 = 50;

/// After a look that failed.
const LOOK_AGAIN_MS: u64 = 2_000;

/// How long what takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExactlyOnceTiming {
    /// How long ago ownership may have been confirmed when a request begins.
    pub confirmation_ms: u64,
    /// How long after it began a request has landed or died.
    pub request_timeout_ms: u64,
    /// How long after that what it put is surely seen by a reader.
    pub settling_ms: u64,
}

/// The state machine of one egress.
#[derive(Debug)]
pub struct ExactlyOnceSink {
    timing: ExactlyOnceTiming,
    positions: Positions,
    /// What the outbox held at the takeover.
    left: BTreeSet<u64>,
    taken_over_ms: u64,
    phase: Phase,
    /// The number of the last record that was offered.
    offered_to: u64,
    /// Records that are not put before it is known what a former owner's became.
    waiting: Vec<Record<Put>>,
    /// Whether what must be remembered before anything is put is durable.
    noted: bool,
    sequencer: Delivery<Put>,
    requests: BTreeMap<u64, UnderWay>,
    searches: BTreeMap<u64, Search>,
    next_search: u64,
    outputs: VecDeque<ExactlyOnceOutput>,
    asked_for_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not everything that was left has come from the outbox.
    Gathering,
    /// Requests of the former owner may still land.
    Waiting {
        until_ms: u64,
    },
    Looking,
    Delivering,
}

/// A request that the sequencer has given out.
#[derive(Debug)]
struct UnderWay {
    request: Request<Put>,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Ready,
    Putting { until_ms: u64 },
    Settling { until_ms: u64, reason: String },
    Looking { reason: String },
}

/// Records that are looked for.
#[derive(Debug)]
struct Search {
    stream: Arc<str>,
    wanted: Arc<Matcher>,
    records: usize,
    /// The request whose records they are; none for what a former owner left.
    request: Option<u64>,
    /// When it is begun; none while it is under way.
    at_ms: Option<u64>,
}

impl ExactlyOnceSink {
    /// An egress that puts at most `limits` at once, of which only one request is under way to a stream. `left` are the numbers that the outbox held for
    /// it at the takeover, which was at `taken_over_ms` or earlier; `seed` spreads the waits of several processes.
    pub fn new(
        timing: ExactlyOnceTiming,
        limits: Limits,
        positions: Positions,
        left: BTreeSet<u64>,
        taken_over_ms: u64,
        seed: u64,
    ) -> Self {
        // What the answer to one request says is all that may be there beyond the positions.
        let limits = Limits {
            requests_in_flight: 1,
            ..limits
        };
        Self {
            timing,
            positions,
            left,
            taken_over_ms,
            phase: Phase::Gathering,
            offered_to: 0,
            waiting: Vec::new(),
            noted: false,
            sequencer: Delivery::new(limits, seed),
            requests: BTreeMap::new(),
            searches: BTreeMap::new(),
            next_search: 1,
            outputs: VecDeque::new(),
            asked_for_ms: None,
        }
    }

    /// Takes one fact.
    pub fn handle_input(&mut self, now: Now, input: ExactlyOnceInput) {
        self.asked_for_ms = self.asked_for_ms.filter(|asked_ms| *asked_ms > now.ms);
        match input {
            ExactlyOnceInput::Offered(records) => {
                for (number, record) in records {
                    self.offered(number, record);
                }
            }
            ExactlyOnceInput::Answered { request, told } => self.answered(now, request, told),
            ExactlyOnceInput::Scanned { look, seen } => self.looked(now, look, seen),
            ExactlyOnceInput::NotesDurable => self.noted = true,
            ExactlyOnceInput::TimeReached => self.asked_for_ms = None,
        }
        self.go_on(now);
    }

    /// The next thing to do, or `None` until the next input.
    pub fn poll_output(&mut self) -> Option<ExactlyOnceOutput> {
        self.outputs.pop_front()
    }

    fn offered(&mut self, number: u64, record: Result<Record<Put>, String>) {
        self.offered_to = number;
        match record {
            Ok(record) if self.phase == Phase::Delivering => self.sequencer.offer(record),
            Ok(record) => self.waiting.push(record),
            Err(reason) => self
                .outputs
                .push_back(ExactlyOnceOutput::Refused { number, reason }),
        }
    }

    fn go_on(&mut self, now: Now) {
        // They come in the order of their numbers; what was dropped with a fork's hold never comes.
        if self.phase == Phase::Gathering
            && self.left.last().is_none_or(|last| *last <= self.offered_to)
        {
            self.begin(now);
        }
        if let Phase::Waiting { until_ms } = self.phase
            && until_ms <= now.ms
        {
            self.look_for_left(now);
        }
        let looks_for_left = |search: &Search| search.request.is_none();
        if self.phase == Phase::Looking && !self.searches.values().any(looks_for_left) {
            self.deliver();
        }
        if self.puts() {
            while let Some(request) = self.sequencer.poll(now.ms) {
                let stage = Stage::Ready;
                self.requests
                    .insert(request.id, UnderWay { request, stage });
            }
        }
        let requests: Vec<u64> = self.requests.keys().copied().collect();
        for request in requests {
            self.go_on_with(now, request);
        }
        self.begin_searches(now);
        self.wake(now);
    }

    /// Everything that was left is here.
    fn begin(&mut self, now: Now) {
        let own_ms = self.timing.request_timeout_ms;
        let former_ms = self.positions.request_timeout_ms();
        let first = self.positions.since_ms().is_none();
        let records = self.left.len();
        let mut marks = Vec::new();
        if own_ms > former_ms {
            marks.push(self.positions.request_timeout(own_ms));
        }
        if first || records == 0 {
            marks.push(self.positions.settled(now.calendar_ms));
        }
        // Without the first note a later owner would not look at all, and without the second too early.
        self.noted = !first && own_ms <= former_ms;
        if !marks.is_empty() {
            self.arrived(Vec::new(), marks, !self.noted);
        }
        if first || records == 0 {
            if records > 0 {
                self.remark(Remark::NotReconciled { records });
            }
            return self.deliver();
        }
        self.remark(Remark::Waits { records });
        let ExactlyOnceTiming {
            confirmation_ms,
            settling_ms,
            ..
        } = self.timing;
        let wait_ms = confirmation_ms + own_ms.max(former_ms) + settling_ms;
        let until_ms = self.taken_over_ms + wait_ms;
        self.phase = Phase::Waiting { until_ms };
    }

    fn look_for_left(&mut self, now: Now) {
        self.phase = Phase::Looking;
        let mut streams: BTreeMap<Arc<str>, Vec<&Record<Put>>> = BTreeMap::new();
        for record in &self.waiting {
            if self.left.contains(&record.number) {
                let stream = Arc::clone(&record.destination);
                streams.entry(stream).or_default().push(record);
            }
        }
        let searches: Vec<Search> = streams
            .into_iter()
            .map(|(stream, records)| Search {
                stream,
                wanted: Arc::new(matcher(records.iter().copied())),
                records: records.len(),
                request: None,
                at_ms: Some(now.ms),
            })
            .collect();
        searches.into_iter().for_each(|search| self.search(search));
    }

    fn deliver(&mut self) {
        self.phase = Phase::Delivering;
        let own_ms = self.timing.request_timeout_ms;
        if own_ms < self.positions.request_timeout_ms() {
            // Nothing of the former owner is in doubt any more.
            let shorter = self.positions.request_timeout(own_ms);
            self.arrived(Vec::new(), vec![shorter], false);
        }
        for record in std::mem::take(&mut self.waiting) {
            self.sequencer.offer(record);
        }
    }

    /// Whether records are put.
    fn puts(&self) -> bool {
        self.phase == Phase::Delivering && self.noted
    }

    fn go_on_with(&mut self, now: Now, id: u64) {
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
                self.doubt(id, until_ms, "no answer in time".to_owned());
            }
            Stage::Settling { until_ms, reason } if *until_ms <= now.ms => {
                let reason = std::mem::take(reason);
                *stage = Stage::Looking { reason };
                let records = request.records.iter().map(|record| &**record);
                let search = Search {
                    stream: Arc::clone(&request.destination),
                    wanted: Arc::new(matcher(records)),
                    records: request.records.len(),
                    request: Some(id),
                    at_ms: Some(now.ms),
                };
                self.search(search);
            }
            Stage::Putting { .. } | Stage::Settling { .. } | Stage::Looking { .. } => {}
        }
    }

    /// Nobody knows whether the request, which has landed or died at `until_ms`, was taken.
    fn doubt(&mut self, id: u64, until_ms: u64, reason: String) {
        let settling_ms = self.timing.settling_ms;
        let Some(UnderWay { request, stage }) = self.requests.get_mut(&id) else {
            return;
        };
        *stage = Stage::Settling {
            until_ms: until_ms + settling_ms,
            reason: reason.clone(),
        };
        let remark = Remark::InDoubt {
            stream: Arc::clone(&request.destination),
            records: request.records.len(),
            reason,
        };
        self.remark(remark);
    }

    fn answered(&mut self, now: Now, id: u64, told: PutOutcome) {
        let Some(UnderWay { request, stage }) = self.requests.get(&id) else {
            return;
        };
        // An answer that comes later than it may says nothing that is not looked for already.
        let Stage::Putting { until_ms } = *stage else {
            return;
        };
        let records = request.records.len();
        match told {
            PutOutcome::Failed(outcomes) if outcomes.len() == records => {
                self.finish(now, id, outcomes, Vec::new());
            }
            PutOutcome::Each(results) if results.len() == records && is_certain(&results) => {
                let stream = Arc::clone(&request.destination);
                let arrived = results.iter().filter_map(|result| match result {
                    PutResult::Taken { shard, sequence } => Some((&**shard, &**sequence)),
                    PutResult::Throttled(_) | PutResult::Unclear(_) => None,
                });
                let marks = self.positions.advance(&stream, arrived, now.calendar_ms);
                let outcomes = results.into_iter().map(|result| match result {
                    PutResult::Taken { .. } => Outcome::Delivered,
                    PutResult::Throttled(reason) => Outcome::Throttled(reason),
                    PutResult::Unclear(reason) => Outcome::Again(reason),
                });
                self.finish(now, id, outcomes.collect(), marks);
            }
            PutOutcome::Each(results) => {
                let unclear = results.into_iter().find_map(|result| match result {
                    PutResult::Unclear(reason) => Some(reason),
                    PutResult::Taken { .. } | PutResult::Throttled(_) => None,
                });
                let reason = unclear.unwrap_or_else(|| "not one result for each record".to_owned());
                self.doubt(id, until_ms, reason);
            }
            PutOutcome::Failed(_) => {
                self.doubt(id, until_ms, "not one result for each record".to_owned());
            }
            PutOutcome::InDoubt(reason) => self.doubt(id, until_ms, reason),
        }
    }

    fn looked(&mut self, now: Now, look: u64, seen: Result<ScanResult, String>) {
        let Some(search) = self.searches.get_mut(&look) else {
            return;
        };
        if search.at_ms.is_some() {
            return;
        }
        let stream = Arc::clone(&search.stream);
        let seen = match seen {
            Ok(seen) => seen,
            Err(reason) => {
                search.at_ms = Some(now.ms + LOOK_AGAIN_MS);
                return self.remark(Remark::ScanFailed { stream, reason });
            }
        };
        let Some(search) = self.searches.remove(&look) else {
            return;
        };
        let mut matcher = (*search.wanted).clone();
        let mut arrived = Vec::new();
        for seen in &seen.seen {
            if matcher.see(&seen.key, &seen.data) {
                arrived.push((&*seen.shard, &*seen.sequence));
            }
        }
        let mut marks = self.positions.advance(&stream, arrived, now.calendar_ms);
        marks.extend(self.positions.keep_shards(&stream, &|shard| {
            seen.shards.iter().any(|there| there == shard)
        }));
        let found = matcher.found();
        self.remark(Remark::Reconciled {
            stream,
            records: search.records,
            found: found.len(),
        });
        match search.request {
            None => {
                self.waiting
                    .retain(|record| !found.contains(&record.number));
                self.arrived(found, marks, false);
            }
            Some(id) => self.found(now, id, &found, marks),
        }
    }

    /// These records of a request that was in doubt are there, and the others are not.
    fn found(&mut self, now: Now, id: u64, found: &[u64], marks: Vec<EgressMark>) {
        let Some(UnderWay { request, stage }) = self.requests.get(&id) else {
            return;
        };
        let Stage::Looking { reason } = stage else {
            return;
        };
        let outcome = |record: &Arc<Record<Put>>| match found.contains(&record.number) {
            true => Outcome::Delivered,
            false => Outcome::Again(reason.clone()),
        };
        let outcomes = request.records.iter().map(outcome).collect();
        self.finish(now, id, outcomes, marks);
    }

    /// It is known what became of a request.
    fn finish(&mut self, now: Now, id: u64, outcomes: Vec<Outcome>, marks: Vec<EgressMark>) {
        self.requests.remove(&id);
        let mut reasons = outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Again(reason)
            | Outcome::Throttled(reason)
            | Outcome::Missing(reason)
            | Outcome::Suspect(reason) => Some(reason.clone()),
            Outcome::Delivered | Outcome::Refused(_) => None,
        });
        if let Some(reason) = reasons.next() {
            let records = 1 + reasons.count();
            self.remark(Remark::Retried { records, reason });
        }
        let mut numbers = Vec::new();
        for settled in self.sequencer.answered(now.ms, id, outcomes) {
            match settled {
                Settled::Delivered(number) => numbers.push(number),
                Settled::Refused { number, reason } => self
                    .outputs
                    .push_back(ExactlyOnceOutput::Refused { number, reason }),
            }
        }
        if !(numbers.is_empty() && marks.is_empty()) {
            self.arrived(numbers, marks, false);
        }
    }

    fn search(&mut self, search: Search) {
        self.searches.insert(self.next_search, search);
        self.next_search += 1;
    }

    fn begin_searches(&mut self, now: Now) {
        for (look, search) in &mut self.searches {
            if search.at_ms.is_some_and(|at_ms| at_ms <= now.ms) {
                search.at_ms = None;
                self.outputs.push_back(ExactlyOnceOutput::Scan {
                    look: *look,
                    stream: Arc::clone(&search.stream),
                    after: self.positions.stream(&search.stream),
                    wanted: Arc::clone(&search.wanted),
                });
            }
        }
    }

    fn arrived(&mut self, numbers: Vec<u64>, marks: Vec<EgressMark>, confirm: bool) {
        self.outputs.push_back(ExactlyOnceOutput::Arrived {
            numbers,
            marks,
            confirm,
        });
    }

    fn remark(&mut self, remark: Remark) {
        self.outputs.push_back(ExactlyOnceOutput::Remark(remark));
    }

    fn wake(&mut self, now: Now) {
        let waiting = match self.phase {
            Phase::Waiting { until_ms } => Some(until_ms),
            Phase::Gathering | Phase::Looking | Phase::Delivering => None,
        };
        let requests = self.requests.values();
        let requests = requests.filter_map(|under_way| match under_way.stage {
            Stage::Ready => Some(now.ms + OWNERSHIP_INTERVAL_MS),
            Stage::Putting { until_ms } | Stage::Settling { until_ms, .. } => Some(until_ms),
            Stage::Looking { .. } => None,
        });
        let searches = self.searches.values().filter_map(|search| search.at_ms);
        let sequencer = match self.puts() {
            true => self.sequencer.wake_at_ms(now.ms),
            false => None,
        };
        let due = requests.chain(searches).chain(waiting).chain(sequencer);
        if let Some(due_ms) = due.min()
            && self.asked_for_ms.is_none_or(|asked_ms| asked_ms != due_ms)
        {
            self.asked_for_ms = Some(due_ms);
            self.outputs.push_back(ExactlyOnceOutput::WakeAt(due_ms));
        }
    }
}

/// Whether it is known of each record that it is in the stream and where, or that it is not.
fn is_certain(results: &[PutResult]) -> bool {
    let unclear = |result: &PutResult| matches!(result, PutResult::Unclear(_));
    !results.iter().any(unclear)
}

fn matcher<'a>(records: impl Iterator<Item = &'a Record<Put>>) -> Matcher {
    Matcher::new(records.map(|record| {
        let Put { key, data, .. } = &record.payload;
        (record.number, key.as_str(), data)
    }))
}

#[cfg(test)]
mod tests;
