//! Egress records on their way out: the real delivery machines, and a stream that loses, delays and
//! obscures requests to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use satchel_engine::input::Input;
use satchel_engine::output::Emission;
use satchel_engine::partition::Partition;
use satchel_engine::sink::delivery::{Delivery, Limits, Outcome, Record, Request, Settled};
use satchel_engine::sink::exactly_once::{
    ExactlyOnceInput, ExactlyOnceOutput, ExactlyOnceSink, ExactlyOnceTiming, Now, PutOutcome,
    PutResult, ScanResult, StreamRecord,
};
use satchel_engine::sink::reconcile::{Matcher, Positions, Recognition, StreamPositions};

use crate::egress_sink::Arrival;
use crate::fault_plan::FaultPlan;
use crate::functions::STEADY;
use crate::mutants::Mutant;
use crate::process::ProcessId;
use crate::world::{Event, World};

const LIMITS: Limits = Limits {
    records_per_request: 4,
    bytes_per_request: 200,
    requests_in_flight: 3,
    records_in_flight: 8,
};

/// Age from which a confirmation of ownership is renewed on demand, in ms.
const FRESH_MS: u64 = 200;

/// Egress of one owner.
pub(crate) struct Egress {
    machine: Machine,
    /// Time at which a read began that found no later owner, in true time.
    confirmed_ms: Option<u64>,
    confirming: bool,
    wake_at_ms: Option<u64>,
}

enum Machine {
    /// Delivery machine, and the number of records of each request under way.
    AtLeastOnce(Delivery<StreamRecord>, BTreeMap<u64, usize>),
    ExactlyOnce(Box<ExactlyOnceSink>),
}

/// Event between an egress and its stream.
#[derive(Debug)]
pub(crate) enum EgressEvent {
    /// A request arrives at the stream.
    Lands(Arc<Request<StreamRecord>>, Fate),
    PutOutcome(u64, PutOutcome),
    /// A scan arrives at the stream.
    ScanArrives(u64, StreamPositions, Arc<Matcher>),
    Scanned(u64, Result<ScanResult, String>),
    /// A read of the next owner's claim arrives at the store; the time at which it began.
    ClaimRead(u64),
    /// The answer to that read; true if there was no claim.
    Confirmed(u64, bool),
    Wakes(u64),
}

/// Outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Answered,
    /// The request takes effect, and its answer is lost.
    AnswerLost,
    /// Some records are taken, and the answer leaves the others unclear.
    Partly,
    /// The stream throttles, and some records are certainly not taken.
    Throttled,
}

impl Default for Egress {
    /// Creates the egress of no owner.
    fn default() -> Self {
        Self::with(Machine::AtLeastOnce(
            Delivery::new(LIMITS, 0),
            BTreeMap::new(),
        ))
    }
}

impl Egress {
    /// Creates the egress of an owner that has just taken over.
    pub(crate) fn start(
        partition: &Partition,
        plan: &FaultPlan,
        timing: Option<ExactlyOnceTiming>,
        mutant: Option<Mutant>,
        now_ms: u64,
        seed: u64,
    ) -> Self {
        let machine = match timing {
            None => Machine::AtLeastOnce(Delivery::new(LIMITS, seed), BTreeMap::new()),
            Some(mut timing) => {
                let id = format!("{STEADY}/out");
                let marks = partition.egress_marks(&id);
                let marks = marks.iter().map(|(name, mark)| (&**name, &**mark));
                let forgets = mutant == Some(Mutant::ForgetAcknowledged);
                let marks = marks.filter(|(name, _)| !forgets || !name.starts_with("acked/"));
                let recognition = match plan.equal_records {
                    true => Recognition::Content,
                    false => Recognition::Id,
                };
                let positions = Positions::read(marks, recognition);
                let positions = positions.expect("this version wrote the marks");
                if mutant == Some(Mutant::LookAfterLast) {
                    timing.ordering_ms = 0;
                }
                let mut left = partition.outbox_of(&id);
                if matches!(mutant, Some(Mutant::SkipLook | Mutant::SkipReemission)) {
                    left.clear();
                }
                let taken_over_ms = match mutant {
                    Some(Mutant::LookEarly) => now_ms - 60_000,
                    _ => now_ms,
                };
                Machine::ExactlyOnce(Box::new(ExactlyOnceSink::new(
                    timing,
                    LIMITS,
                    positions,
                    left,
                    taken_over_ms,
                    seed,
                )))
            }
        };
        Self::with(machine)
    }

    fn with(machine: Machine) -> Self {
        Self {
            machine,
            confirmed_ms: None,
            confirming: false,
            wake_at_ms: None,
        }
    }
}

impl World {
    /// Starts the egress of a new owner.
    pub(crate) fn start_egress(&mut self, id: ProcessId) {
        self.notify_exactly_once(id, ExactlyOnceInput::TimeReached);
    }

    /// Handles that the marks for which the egress waits are durable.
    pub(crate) fn egress_marks_durable(&mut self, id: ProcessId) {
        self.notify_exactly_once(id, ExactlyOnceInput::MarksDurable);
    }

    /// Takes records from the outbox.
    pub(crate) fn emit(&mut self, id: ProcessId, emissions: Vec<Emission>) {
        let mutant = self.mutant;
        let mut offered = Vec::new();
        for emission in emissions {
            let number = emission.number;
            match self.truth.outbox_entry(number) {
                Some(entry) if entry.id == emission.id && entry.value == emission.value => {}
                known => {
                    let violation =
                        format!("{emission:?} leaves before it is durable; {known:?} is");
                    self.stage.violations.push(violation);
                }
            }
            let record = match self.refuses(&emission) {
                true => Err("the egress does not take it".to_owned()),
                false => Ok(record_of(&emission, self.faults.equal_records)),
            };
            let text = String::from_utf8_lossy(&emission.value.value).into_owned();
            self.egress_sink.texts.insert(number, text);
            let Some(serving) = self.serving(id) else {
                return;
            };
            match mutant {
                Some(Mutant::SkipReemission) if number < serving.mutants.first_number => continue,
                Some(Mutant::AcknowledgeEarly) => {
                    let numbers = vec![number];
                    serving.facts.push(Input::EgressAcked { numbers });
                }
                _ => {}
            }
            match &mut serving.egress.machine {
                Machine::ExactlyOnce(_) => offered.push((number, record)),
                Machine::AtLeastOnce(delivery, _) => match record {
                    Ok(record) => delivery.offer(record),
                    Err(reason) => serving.facts.push(Input::EgressRefused { number, reason }),
                },
            }
        }
        if !offered.is_empty() {
            self.notify_exactly_once(id, ExactlyOnceInput::Offered(offered));
        }
        self.send_ready(id);
    }

    /// Handles an event at the stream or at the process.
    pub(crate) fn handle_egress_event(&mut self, id: ProcessId, event: EgressEvent) {
        match event {
            EgressEvent::Lands(request, fate) => self.lands(id, &request, fate),
            EgressEvent::ScanArrives(look, after, wanted) => {
                let now_ms = self.timeline.now_ms();
                let seen = match self.random.chance(self.faults.ack_lost) {
                    true => Err("it is not answered".to_owned()),
                    false => Ok(self.egress_sink.scan(&after, &wanted, now_ms)),
                };
                self.schedule_egress_event(id, EgressEvent::Scanned(look, seen));
            }
            EgressEvent::PutOutcome(request, outcome) => self.put_answered(id, request, outcome),
            EgressEvent::Scanned(look, seen) => {
                self.notify_exactly_once(
                    id,
                    ExactlyOnceInput::Scanned {
                        scan: look,
                        result: seen,
                    },
                );
            }
            EgressEvent::ClaimRead(begun_ms) => {
                let claimed = self.objects.claimed_epochs(&self.root);
                let lost = self.random.chance(self.faults.ack_lost);
                let epoch = self.serving(id).map_or(0, |serving| serving.epoch);
                let alone = !lost && claimed == epoch;
                self.schedule_egress_event(id, EgressEvent::Confirmed(begun_ms, alone));
            }
            EgressEvent::Confirmed(begun_ms, alone) => {
                if let Some(serving) = self.serving(id) {
                    serving.egress.confirming = false;
                    if alone {
                        serving.egress.confirmed_ms = Some(begun_ms);
                    }
                }
            }
            EgressEvent::Wakes(at_ms) => {
                let Some(serving) = self.serving(id) else {
                    return;
                };
                if serving.egress.wake_at_ms == Some(at_ms) {
                    serving.egress.wake_at_ms = None;
                    self.notify_exactly_once(id, ExactlyOnceInput::TimeReached);
                    self.send_ready(id);
                }
            }
        }
        self.advance(id);
    }

    /// Handles a request that arrives at the stream, whether its sender still lives or not.
    fn lands(&mut self, id: ProcessId, request: &Arc<Request<StreamRecord>>, fate: Fate) {
        let mut results = Vec::new();
        for record in &request.records {
            let skipped = match fate {
                Fate::Partly | Fate::Throttled => self.random.chance(500),
                Fate::Answered | Fate::AnswerLost => false,
            };
            let reason = || "simulated".to_owned();
            if skipped {
                results.push(match fate {
                    Fate::Throttled => PutResult::NotTaken(Outcome::Throttled(reason())),
                    _ => PutResult::Unclear(reason()),
                });
                continue;
            }
            match self.egress_sink.land(record, self.arrival()) {
                Ok(_) if fate == Fate::Partly && self.random.chance(300) => {
                    results.push(PutResult::Unclear(reason()));
                }
                Ok(taken) => results.push(taken),
                Err(violation) => self.stage.violations.push(violation),
            }
        }
        if fate != Fate::AnswerLost && results.len() == request.records.len() {
            self.schedule_egress_event(
                id,
                EgressEvent::PutOutcome(request.id, PutOutcome::Each(results)),
            );
        }
    }

    /// Draws how a record that arrives now is ordered, and when it is visible.
    fn arrival(&self) -> Arrival {
        let timing = self.faults.exactly_once;
        let settling_ms = timing.map_or(1, |timing| timing.settling_ms);
        let ordering_ms = timing.map_or(1, |timing| timing.ordering_ms);
        let now_ms = self.timeline.now_ms();
        Arrival {
            ordered_ms: now_ms + self.random.below(ordering_ms),
            visible_ms: now_ms + self.random.below(settling_ms / 2 + 1),
        }
    }

    fn put_answered(&mut self, id: ProcessId, request: u64, outcome: PutOutcome) {
        let now_ms = self.timeline.now_ms();
        let Some(serving) = self.serving(id) else {
            return;
        };
        let Machine::AtLeastOnce(delivery, under_way) = &mut serving.egress.machine else {
            return self.notify_exactly_once(id, ExactlyOnceInput::Answered { request, outcome });
        };
        // A late or repeated answer finds no request.
        let Some(count) = under_way.remove(&request) else {
            return;
        };
        let outcomes = match outcome {
            PutOutcome::Each(results) => results.into_iter().map(outcome_of).collect(),
            PutOutcome::Failed(outcomes) => outcomes,
            PutOutcome::InDoubt(reason) => vec![Outcome::Retry(reason); count],
        };
        let mut numbers = Vec::new();
        for settled in delivery.answered(now_ms, request, outcomes) {
            match settled {
                Settled::Delivered(number) => numbers.push(number),
                Settled::Refused { number, reason } => {
                    serving.facts.push(Input::EgressRefused { number, reason });
                }
            }
        }
        if !numbers.is_empty() {
            serving.facts.push(Input::EgressAcked { numbers });
        }
        self.send_ready(id);
    }

    /// Returns true if the egress rejects a record. A rejection is permanent, whoever sends the
    /// record.
    fn refuses(&mut self, emission: &Emission) -> bool {
        let number = emission.number;
        let dislikes = emission.value.value.starts_with(b"gathered ") && number.is_multiple_of(3);
        if dislikes && !self.stage.healed {
            self.egress_sink.refused.insert(number);
        }
        self.egress_sink.refused.contains(&number)
    }

    fn notify_exactly_once(&mut self, id: ProcessId, input: ExactlyOnceInput) {
        let now_ms = self.timeline.now_ms();
        let unconfirmed = self.mutant == Some(Mutant::PutUnconfirmed);
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let calendar_ms = process.clock.wall_ms();
        let Some(serving) = process.serving() else {
            return;
        };
        let egress = &mut serving.egress;
        let Machine::ExactlyOnce(machine) = &mut egress.machine else {
            return;
        };
        let now = Now {
            ms: now_ms,
            calendar_ms,
            confirmed_ms: match unconfirmed {
                true => Some(now_ms),
                false => egress.confirmed_ms,
            },
        };
        machine.handle_input(now, input);
        let outputs: Vec<ExactlyOnceOutput> =
            std::iter::from_fn(|| machine.poll_output()).collect();
        let stale = egress
            .confirmed_ms
            .is_none_or(|at_ms| at_ms + FRESH_MS <= now_ms);
        if stale && !egress.confirming {
            egress.confirming = true;
            self.schedule_egress_event(id, EgressEvent::ClaimRead(now_ms));
        }
        for output in outputs {
            self.perform_exactly_once(id, output);
        }
    }

    fn perform_exactly_once(&mut self, id: ProcessId, output: ExactlyOnceOutput) {
        match output {
            ExactlyOnceOutput::Put { request, until_ms } => self.put(id, request, Some(until_ms)),
            ExactlyOnceOutput::Scan {
                scan: look,
                after,
                wanted,
                ..
            } => self.schedule_egress_event(id, EgressEvent::ScanArrives(look, after, wanted)),
            ExactlyOnceOutput::Acknowledge {
                numbers,
                marks,
                confirm,
            } => {
                if let Some(serving) = self.serving(id) {
                    serving.facts.push(Input::EgressMarked {
                        egress: format!("{STEADY}/out").into(),
                        numbers,
                        marks,
                        confirm,
                    });
                }
            }
            ExactlyOnceOutput::Refuse { number, reason } => {
                if let Some(serving) = self.serving(id) {
                    serving.facts.push(Input::EgressRefused { number, reason });
                }
            }
            ExactlyOnceOutput::WakeAt(at_ms) => self.egress_wakes_at(id, at_ms),
            ExactlyOnceOutput::Report(remark) => {
                self.record(|| format!("process {id}: {remark:?}"));
            }
        }
    }

    /// Sends what can be sent now, if records may arrive more than once.
    fn send_ready(&mut self, id: ProcessId) {
        let now_ms = self.timeline.now_ms();
        loop {
            let Some(serving) = self.serving(id) else {
                return;
            };
            let Machine::AtLeastOnce(delivery, under_way) = &mut serving.egress.machine else {
                return;
            };
            let Some(request) = delivery.poll(now_ms) else {
                if let Some(at_ms) = delivery.wake_at_ms(now_ms) {
                    self.egress_wakes_at(id, at_ms);
                }
                return;
            };
            under_way.insert(request.id, request.records.len());
            self.put(id, request, None);
        }
    }

    /// Sends a request. If it must be taken by `until_ms`, it is taken by then, or soon enough
    /// afterwards that a scan sees it.
    fn put(&mut self, id: ProcessId, request: Request<StreamRecord>, until_ms: Option<u64>) {
        let now_ms = self.timeline.now_ms();
        let (name, lost) = (request.id, self.random.chance(self.faults.ack_lost));
        let fate = match self.random.below(1_000) {
            draw if draw < self.faults.ack_lost / 2 => Fate::AnswerLost,
            draw if draw < self.faults.ack_lost * 2 / 3 => Fate::Partly,
            draw if draw < self.faults.ack_lost => Fate::Throttled,
            _ => Fate::Answered,
        };
        let settling_ms = self
            .faults
            .exactly_once
            .map_or(0, |timing| timing.settling_ms);
        let latest_ms = match until_ms {
            // The process may be delayed between its reading of the clock and the network.
            Some(until_ms) => until_ms - now_ms + settling_ms / 2,
            None => 20_000,
        };
        let late = self.random.chance(self.faults.ack_lost);
        let delay_ms = 1 + self
            .random
            .below(if late { latest_ms } else { latest_ms.min(30) });
        if !lost {
            let request = Arc::new(request);
            self.timeline.after(
                delay_ms,
                Event::Egress(id, EgressEvent::Lands(request, fate)),
            );
        }
        if until_ms.is_none() {
            // The sender waits this long for an answer.
            let outcome = PutOutcome::InDoubt("no answer in time".to_owned());
            self.timeline.after(
                3_000,
                Event::Egress(id, EgressEvent::PutOutcome(name, outcome)),
            );
        }
    }

    fn schedule_egress_event(&mut self, id: ProcessId, event: EgressEvent) {
        let delay_ms = 1 + self.random.below(30);
        self.timeline.after(delay_ms, Event::Egress(id, event));
    }

    fn egress_wakes_at(&mut self, id: ProcessId, at_ms: u64) {
        if let Some(serving) = self.serving(id)
            && serving.egress.wake_at_ms != Some(at_ms)
        {
            serving.egress.wake_at_ms = Some(at_ms);
            self.timeline
                .at(at_ms, Event::Egress(id, EgressEvent::Wakes(at_ms)));
        }
    }
}

/// Returns the record to put for an entry of the outbox. Its key is the one whose order counts. If
/// records are equal, there are two different ones of each key.
fn record_of(emission: &Emission, are_equal: bool) -> Record<StreamRecord> {
    let text = String::from_utf8_lossy(&emission.value.value).into_owned();
    let key = match text.split(' ').collect::<Vec<_>>()[..] {
        ["item", sender, _] => sender.to_owned(),
        _ => "gathered".to_owned(),
    };
    let text = match are_equal {
        true => format!("{}", emission.number % 2),
        false => text,
    };
    Record {
        number: emission.number,
        destination: "out".into(),
        key: Some(key.as_str().into()),
        bytes: key.len() + text.len(),
        payload: StreamRecord {
            key,
            explicit_hash_key: None,
            data: text.into(),
        },
    }
}

fn outcome_of(result: PutResult) -> Outcome {
    match result {
        PutResult::Taken { .. } => Outcome::Delivered,
        PutResult::NotTaken(outcome) => outcome,
        PutResult::Unclear(reason) => Outcome::Retry(reason),
    }
}
