//! Records on their way out: the real machines that decide what is sent when, and a stream between which and them everything is lost, late or unclear.

use std::collections::BTreeMap;
use std::sync::Arc;

use satchel_engine::input::Input;
use satchel_engine::output::Emission;
use satchel_engine::partition::Partition;
use satchel_engine::sink::delivery::{Delivery, Limits, Outcome, Record, Request, Settled};
use satchel_engine::sink::exactly_once::{
    ExactlyOnceInput, ExactlyOnceOutput, ExactlyOnceSink, ExactlyOnceTiming, Now, Put, PutOutcome,
    PutResult, ScanResult,
};
use satchel_engine::sink::reconcile::{Matcher, Positions, StreamPositions};

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

/// How old the confirmation of ownership may be before it is renewed, when somebody asks.
const FRESH_MS: u64 = 200;

/// The machine of one owner's egress.
pub(crate) struct Egress {
    machine: Machine,
    /// When it was sure that nobody had taken over, in true time.
    confirmed_ms: Option<u64>,
    confirming: bool,
    wake_at_ms: Option<u64>,
}

enum Machine {
    /// With how many records each request under way has.
    AtLeastOnce(Delivery<Put>, BTreeMap<u64, usize>),
    ExactlyOnce(Box<ExactlyOnceSink>),
}

/// What travels between an egress and its stream.
#[derive(Debug)]
pub(crate) enum Travel {
    /// A request arrives; these of its records are taken, and this is said of it.
    Lands(Arc<Request<Put>>, Fate),
    PutOutcome(u64, PutOutcome),
    /// A reader asks.
    LookArrives(u64, StreamPositions, Arc<Matcher>),
    Looked(u64, Result<ScanResult, String>),
    /// A look at the next owner's claim, begun at this time, arrives at the store.
    ClaimLooked(u64),
    /// Whether there was none.
    Confirmed(u64, bool),
    Wakes(u64),
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Answered,
    /// It has its effect, and nobody hears of it.
    AnswerLost,
    /// Some of its records are taken, and what is said of the others is not clear.
    Partly,
    /// Too much at once: some are not taken, for certain.
    Throttled,
}

impl Default for Egress {
    /// Of nobody yet.
    fn default() -> Self {
        Self::with(Machine::AtLeastOnce(
            Delivery::new(LIMITS, 0),
            BTreeMap::new(),
        ))
    }
}

impl Egress {
    /// Of an owner that took over just now.
    pub(crate) fn start(
        partition: &Partition,
        once: Option<ExactlyOnceTiming>,
        mutant: Option<Mutant>,
        now_ms: u64,
        seed: u64,
    ) -> Self {
        let machine = match once {
            None => Machine::AtLeastOnce(Delivery::new(LIMITS, seed), BTreeMap::new()),
            Some(timing) => {
                let id = format!("{STEADY}/out");
                let marks = partition.egress_marks(&id);
                let marks = marks.iter().map(|(name, mark)| (&**name, &**mark));
                let positions = Positions::read(marks).expect("this version wrote the marks");
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
    /// The egress of a new owner begins.
    pub(crate) fn begins_to_emit(&mut self, id: ProcessId) {
        self.tell_once(id, ExactlyOnceInput::TimeReached);
    }

    /// What the egress waits for is durable.
    pub(crate) fn notes_are_durable(&mut self, id: ProcessId) {
        self.tell_once(id, ExactlyOnceInput::NotesDurable);
    }

    /// The outbox hands over records.
    pub(crate) fn emit(&mut self, id: ProcessId, emissions: Vec<Emission>) {
        let mutant = self.mutant;
        let mut offered = Vec::new();
        for emission in emissions {
            let number = emission.number;
            match self.truth.left_durably(number) {
                Some(entry) if entry.id == emission.id && entry.value == emission.value => {}
                known => {
                    let violation =
                        format!("{emission:?} leaves before it is durable; {known:?} is");
                    self.stage.violations.push(violation);
                }
            }
            let record = match self.refuses(&emission) {
                true => Err("the egress does not take it".to_owned()),
                false => Ok(record_of(&emission)),
            };
            let Some(serving) = self.serving(id) else {
                return;
            };
            match mutant {
                Some(Mutant::SkipReemission) if number < serving.broken.first_number => continue,
                Some(Mutant::AcknowledgeEarly) => {
                    let numbers = vec![number];
                    serving.facts.push(Input::EgressAcked { numbers });
                }
                _ => {}
            }
            match &mut serving.egress.machine {
                Machine::ExactlyOnce(_) => offered.push((number, record)),
                Machine::AtLeastOnce(sequencer, _) => match record {
                    Ok(record) => sequencer.offer(record),
                    Err(reason) => serving.facts.push(Input::EgressRefused { number, reason }),
                },
            }
        }
        if !offered.is_empty() {
            self.tell_once(id, ExactlyOnceInput::Offered(offered));
        }
        self.send_on(id);
    }

    /// Something arrives, at the stream or at the process.
    pub(crate) fn travels(&mut self, id: ProcessId, travel: Travel) {
        match travel {
            Travel::Lands(request, fate) => self.lands(id, &request, fate),
            Travel::LookArrives(look, after, wanted) => {
                let now_ms = self.timeline.now_ms();
                let seen = match self.random.chance(self.weather.ack_lost) {
                    true => Err("it is not answered".to_owned()),
                    false => Ok(self.sink.look(&after, &wanted, now_ms)),
                };
                self.travel(id, Travel::Looked(look, seen));
            }
            Travel::PutOutcome(request, told) => self.told(id, request, told),
            Travel::Looked(look, seen) => {
                self.tell_once(id, ExactlyOnceInput::Scanned { look, seen })
            }
            Travel::ClaimLooked(begun_ms) => {
                let claimed = self.objects.claimed_epochs(&self.root);
                let lost = self.random.chance(self.weather.ack_lost);
                let epoch = self.serving(id).map_or(0, |serving| serving.epoch);
                let alone = !lost && claimed == epoch;
                self.travel(id, Travel::Confirmed(begun_ms, alone));
            }
            Travel::Confirmed(begun_ms, alone) => {
                if let Some(serving) = self.serving(id) {
                    serving.egress.confirming = false;
                    if alone {
                        serving.egress.confirmed_ms = Some(begun_ms);
                    }
                }
            }
            Travel::Wakes(at_ms) => {
                let Some(serving) = self.serving(id) else {
                    return;
                };
                if serving.egress.wake_at_ms == Some(at_ms) {
                    serving.egress.wake_at_ms = None;
                    self.tell_once(id, ExactlyOnceInput::TimeReached);
                    self.send_on(id);
                }
            }
        }
        self.pump(id);
    }

    /// A request has arrived, whoever sent it, and whether he lives or not.
    fn lands(&mut self, id: ProcessId, request: &Arc<Request<Put>>, fate: Fate) {
        let mut results = Vec::new();
        for record in &request.records {
            let skipped = match fate {
                Fate::Partly | Fate::Throttled => self.random.chance(500),
                Fate::Answered | Fate::AnswerLost => false,
            };
            let said = || "simulated".to_owned();
            if skipped {
                results.push(match fate {
                    Fate::Throttled => PutResult::Throttled(said()),
                    _ => PutResult::Unclear(said()),
                });
                continue;
            }
            let settling_ms = self.weather.once.map_or(1, |timing| timing.settling_ms);
            let visible_at_ms = self.timeline.now_ms() + self.random.below(settling_ms / 2 + 1);
            match self.sink.land(record, visible_at_ms) {
                Ok(_) if fate == Fate::Partly && self.random.chance(300) => {
                    results.push(PutResult::Unclear(said()));
                }
                Ok(taken) => results.push(taken),
                Err(violation) => self.stage.violations.push(violation),
            }
        }
        if fate != Fate::AnswerLost && results.len() == request.records.len() {
            self.travel(
                id,
                Travel::PutOutcome(request.id, PutOutcome::Each(results)),
            );
        }
    }

    fn told(&mut self, id: ProcessId, request: u64, told: PutOutcome) {
        let now_ms = self.timeline.now_ms();
        let Some(serving) = self.serving(id) else {
            return;
        };
        let Machine::AtLeastOnce(sequencer, under_way) = &mut serving.egress.machine else {
            return self.tell_once(id, ExactlyOnceInput::Answered { request, told });
        };
        // What comes late, or twice, finds nobody who waits for it.
        let Some(count) = under_way.remove(&request) else {
            return;
        };
        let outcomes = match told {
            PutOutcome::Each(results) => results.into_iter().map(outcome).collect(),
            PutOutcome::Failed(outcomes) => outcomes,
            PutOutcome::InDoubt(reason) => vec![Outcome::Again(reason); count],
        };
        let mut numbers = Vec::new();
        for settled in sequencer.answered(now_ms, request, outcomes) {
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
        self.send_on(id);
    }

    /// Whether the egress refuses a record: for good, whoever sends it again.
    fn refuses(&mut self, emission: &Emission) -> bool {
        let number = emission.number;
        let dislikes = emission.value.value.starts_with(b"gathered ") && number.is_multiple_of(3);
        if dislikes && !self.stage.healed {
            self.sink.refused.insert(number);
        }
        self.sink.refused.contains(&number)
    }

    fn tell_once(&mut self, id: ProcessId, input: ExactlyOnceInput) {
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
        let Machine::ExactlyOnce(once) = &mut egress.machine else {
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
        once.handle_input(now, input);
        let outputs: Vec<ExactlyOnceOutput> = std::iter::from_fn(|| once.poll_output()).collect();
        let stale = egress
            .confirmed_ms
            .is_none_or(|at_ms| at_ms + FRESH_MS <= now_ms);
        if stale && !egress.confirming {
            egress.confirming = true;
            self.travel(id, Travel::ClaimLooked(now_ms));
        }
        for output in outputs {
            self.perform_once(id, output);
        }
    }

    fn perform_once(&mut self, id: ProcessId, output: ExactlyOnceOutput) {
        match output {
            ExactlyOnceOutput::Put { request, until_ms } => self.put(id, request, Some(until_ms)),
            ExactlyOnceOutput::Scan {
                look,
                after,
                wanted,
                ..
            } => self.travel(id, Travel::LookArrives(look, after, wanted)),
            ExactlyOnceOutput::Arrived {
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
            ExactlyOnceOutput::Refused { number, reason } => {
                if let Some(serving) = self.serving(id) {
                    serving.facts.push(Input::EgressRefused { number, reason });
                }
            }
            ExactlyOnceOutput::WakeAt(at_ms) => self.egress_wakes_at(id, at_ms),
            ExactlyOnceOutput::Remark(remark) => self.say(|| format!("process {id}: {remark:?}")),
        }
    }

    /// Sends what can be sent now, if records may come more than once.
    fn send_on(&mut self, id: ProcessId) {
        let now_ms = self.timeline.now_ms();
        loop {
            let Some(serving) = self.serving(id) else {
                return;
            };
            let Machine::AtLeastOnce(sequencer, under_way) = &mut serving.egress.machine else {
                return;
            };
            let Some(request) = sequencer.poll(now_ms) else {
                if let Some(at_ms) = sequencer.wake_at_ms(now_ms) {
                    self.egress_wakes_at(id, at_ms);
                }
                return;
            };
            under_way.insert(request.id, request.records.len());
            self.put(id, request, None);
        }
    }

    /// A request leaves. If it must be taken by `until_ms`, it is taken by then, or soon enough afterwards that whoever looks sees it.
    fn put(&mut self, id: ProcessId, request: Request<Put>, until_ms: Option<u64>) {
        let now_ms = self.timeline.now_ms();
        let (name, lost) = (request.id, self.random.chance(self.weather.ack_lost));
        let fate = match self.random.below(1_000) {
            draw if draw < self.weather.ack_lost / 2 => Fate::AnswerLost,
            draw if draw < self.weather.ack_lost * 2 / 3 => Fate::Partly,
            draw if draw < self.weather.ack_lost => Fate::Throttled,
            _ => Fate::Answered,
        };
        let settling_ms = self.weather.once.map_or(0, |timing| timing.settling_ms);
        let latest_ms = match until_ms {
            // The process may be held up between its look at the clock and the network.
            Some(until_ms) => until_ms - now_ms + settling_ms / 2,
            None => 20_000,
        };
        let late = self.random.chance(self.weather.ack_lost);
        let delay_ms = 1 + self
            .random
            .below(if late { latest_ms } else { latest_ms.min(30) });
        if !lost {
            let request = Arc::new(request);
            self.timeline
                .after(delay_ms, Event::Egress(id, Travel::Lands(request, fate)));
        }
        if until_ms.is_none() {
            // Whoever sends it waits for so long.
            let told = PutOutcome::InDoubt("no answer in time".to_owned());
            self.timeline
                .after(3_000, Event::Egress(id, Travel::PutOutcome(name, told)));
        }
    }

    fn travel(&mut self, id: ProcessId, travel: Travel) {
        let delay_ms = 1 + self.random.below(30);
        self.timeline.after(delay_ms, Event::Egress(id, travel));
    }

    fn egress_wakes_at(&mut self, id: ProcessId, at_ms: u64) {
        if let Some(serving) = self.serving(id)
            && serving.egress.wake_at_ms != Some(at_ms)
        {
            serving.egress.wake_at_ms = Some(at_ms);
            self.timeline
                .at(at_ms, Event::Egress(id, Travel::Wakes(at_ms)));
        }
    }
}

/// What is put for an entry of the outbox: its key is the one whose order counts.
fn record_of(emission: &Emission) -> Record<Put> {
    let text = String::from_utf8_lossy(&emission.value.value).into_owned();
    let key = match text.split(' ').collect::<Vec<_>>()[..] {
        ["item", sender, _] => sender.to_owned(),
        _ => "gathered".to_owned(),
    };
    Record {
        number: emission.number,
        destination: "out".into(),
        key: Some(key.as_str().into()),
        bytes: key.len() + text.len(),
        payload: Put {
            key,
            explicit_hash_key: None,
            data: text.into(),
        },
    }
}

fn outcome(result: PutResult) -> Outcome {
    match result {
        PutResult::Taken { .. } => Outcome::Delivered,
        PutResult::Throttled(reason) => Outcome::Throttled(reason),
        PutResult::Unclear(reason) => Outcome::Again(reason),
    }
}
