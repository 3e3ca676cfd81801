//! Clients of the application: callers with and without idempotency keys, and an administrator.

use satchel_engine::address::FunctionType;
use satchel_engine::input::{
    Administration, Call, CallId, DeadLetterChange, DeadLetterCursor, DeadLetterFilter, Input,
    RequestId, Verb,
};
use satchel_engine::message::MessageId;
use satchel_engine::output::{Answer, DeadLetterView};

use crate::functions::{
    FRAIL, MISUSED, OWN, STEADY, STIFF, address, text, text_of, trace_of, verdict_on,
};
use crate::pauses::Pauses;
use crate::process::{ProcessId, Waiting};
use crate::world::{Event, World};

/// Time after which a caller without an answer retries or gives up, in ms.
const PATIENCE_MS: u64 = 15_000;

/// Caller that performs one operation after the other.
#[derive(Debug)]
pub(crate) struct Caller {
    left: u64,
    current: Option<Operation>,
    /// Number of the attempt, so that time-outs of earlier attempts are ignored.
    turn: u64,
    pub(crate) finished: Vec<Operation>,
}

/// Operation that a caller wants done once.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) target: (&'static str, &'static str, String),
    pub(crate) argument: String,
    pub(crate) entry: String,
    pub(crate) verb: Verb,
    pub(crate) key: Option<String>,
    /// Answer to the caller; `None` if no answer arrived.
    pub(crate) outcome: Option<Answer>,
    /// True if a partition may have accepted any attempt.
    pub(crate) may_have_happened: bool,
    /// Answer that a repetition under the same key must get.
    expected: Option<Answer>,
    /// True if the repetition uses the same key with another body.
    misused: bool,
}

impl Caller {
    pub(crate) fn new(operations: u64) -> Self {
        Self {
            left: operations,
            current: None,
            turn: 0,
            finished: Vec::new(),
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.left == 0 && self.current.is_none()
    }

    /// Returns true if the caller asks an address that may stay suspended until everything is
    /// healed.
    pub(crate) fn waits_for_healing(&self) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|current| current.target.1 == "stubborn")
    }
}

/// Administrator of dead letters and suspended addresses.
#[derive(Debug, Default)]
pub(crate) struct Administrator {
    letters: Vec<DeadLetterView>,
    waits_turns: Option<u64>,
    /// True once the administrator retries everything that can be retried.
    pub(crate) retries_all: bool,
    /// Number of consecutive turns without anything to do.
    idle: u32,
    corrections: u64,
    /// Last correction that was confirmed.
    pub(crate) corrected: u64,
    /// All confirmed corrections, in the order of their confirmations.
    pub(crate) confirmed: Vec<u64>,
    /// Cursor of the next retry of many dead letters.
    cursor: Option<DeadLetterCursor>,
    /// Bucket of the next drop of a state that later versions declare.
    drop_bucket: u16,
    pub(crate) pauses: Pauses,
}

impl Administrator {
    pub(crate) fn is_done(&self) -> bool {
        (!self.retries_all || self.idle > 2) && self.pauses.is_over()
    }

    /// Makes the administrator retry everything that can be retried from now on.
    pub(crate) fn retry_all(&mut self) {
        self.retries_all = true;
        self.idle = 0;
        self.waits_turns = None;
    }

    /// Continues the numbering of corrections from the administrator of this fork's origin.
    pub(crate) fn continue_from(&mut self, other: &Self) {
        self.corrections = other.corrections;
        self.pauses = Pauses::unknown();
    }

    pub(crate) fn corrections(&self) -> u64 {
        self.corrections
    }
}

impl World {
    /// Delivers an answer to the client that waits for it.
    pub(crate) fn reply(&mut self, id: ProcessId, request: RequestId, answer: Answer) {
        let Some(serving) = self.serving(id) else {
            return;
        };
        let epoch = serving.epoch;
        match serving.waiting.remove(&request) {
            Some(Waiting::Caller(caller)) => self.caller_answered(caller, answer),
            Some(Waiting::Administrator { correction, pause }) => {
                if let Some(pause) = pause {
                    self.administrator.pauses.answered(pause, epoch, &answer);
                }
                self.administrator_answered(correction, answer);
            }
            // The client gave up, or has its answer from another request.
            None => {}
        }
    }

    /// Handles a client whose process ended before it answered.
    pub(crate) fn unanswered(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Caller(caller) => self.caller_unanswered(caller),
            Waiting::Administrator { pause, .. } => {
                self.administrator.waits_turns = None;
                if let Some(pause) = pause {
                    self.administrator.pauses.unanswered(pause);
                }
            }
        }
    }

    pub(crate) fn caller_acts(&mut self, number: usize, turn: u64) {
        if self.callers[number].turn != turn {
            return;
        }
        if self.callers[number].current.is_none() {
            if self.callers[number].left == 0 {
                return;
            }
            self.callers[number].left -= 1;
            let operation = self.draw_operation();
            self.callers[number].current = Some(operation);
        }
        let Some(id) = self.any_serving() else {
            self.schedule_caller(number, 200);
            return;
        };
        let twice = self.random.chance(self.faults.send_twice);
        self.call(number, id);
        if twice && let Some(other) = self.any_serving() {
            let keyed = self.callers[number]
                .current
                .as_ref()
                .is_some_and(|now| now.key.is_some());
            if keyed {
                self.call(number, other);
            }
        }
    }

    fn call(&mut self, number: usize, id: ProcessId) {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        let mut random = [0; 16];
        random[..8].copy_from_slice(&self.random.next().to_le_bytes());
        random[8..].copy_from_slice(&self.random.next().to_le_bytes());
        let Some(operation) = &mut self.callers[number].current else {
            return;
        };
        operation.may_have_happened |= !operation.misused;
        let (namespace, name, instance) = operation.target.clone();
        let argument = if operation.misused {
            format!("{} {MISUSED}", operation.argument)
        } else {
            operation.argument.clone()
        };
        let call = Call {
            request,
            id: CallId(random),
            verb: operation.verb,
            target: address(namespace, name, instance),
            trace: Some(trace_of(&argument)),
            argument: text(argument),
            idempotency_key: operation.key.as_deref().map(Into::into),
        };
        self.callers[number].turn += 1;
        let turn = self.callers[number].turn;
        if let Some(serving) = self.serving(id) {
            serving.waiting.insert(request, Waiting::Caller(number));
        }
        let delay_ms = 1 + self.random.below(20);
        self.timeline
            .after(delay_ms, Event::Notify(id, Input::CallReceived(call)));
        let patience_ms = if self.random.chance(self.faults.abandon) {
            1 + self.random.below(200)
        } else {
            PATIENCE_MS
        };
        self.timeline
            .after(patience_ms, Event::CallerGivesUp(number, turn));
    }

    /// Ends the wait of a caller whose time-out expired.
    pub(crate) fn caller_gives_up(&mut self, number: usize, turn: u64) {
        if self.callers[number].turn != turn || self.callers[number].current.is_none() {
            return;
        }
        self.abandon_requests(number);
        self.caller_unanswered(number);
    }

    fn abandon_requests(&mut self, number: usize) {
        let ids: Vec<ProcessId> = self.processes.keys().copied().collect();
        for id in ids {
            let Some(serving) = self.serving(id) else {
                continue;
            };
            let mine = serving
                .waiting
                .iter()
                .filter(|(_, waiting)| **waiting == Waiting::Caller(number));
            let mine: Vec<RequestId> = mine.map(|(request, _)| *request).collect();
            for request in mine {
                if let Some(serving) = self.serving(id) {
                    serving.waiting.remove(&request);
                }
                self.timeline
                    .after(20, Event::Notify(id, Input::RequestAbandoned(request)));
            }
        }
    }

    /// Handles a request that will get no answer: a caller with a key retries, a caller without one
    /// must not.
    fn caller_unanswered(&mut self, number: usize) {
        self.callers[number].turn += 1;
        let Some(operation) = &self.callers[number].current else {
            return;
        };
        if operation.key.is_some() {
            let delay_ms = 50 + self.random.below(1_000);
            self.schedule_caller(number, delay_ms);
        } else {
            self.finish(number, None);
        }
    }

    fn caller_answered(&mut self, number: usize, answer: Answer) {
        let Some(operation) = &self.callers[number].current else {
            return;
        };
        // The endpoint of the function may be missing for a while.
        let refused = matches!(answer, Answer::Overloaded | Answer::UnknownFunction(_));
        if refused && operation.key.is_none() {
            // Nothing was accepted, so a retry doubles nothing.
            if let Some(operation) = &mut self.callers[number].current {
                operation.may_have_happened = false;
            }
        }
        match answer {
            Answer::Overloaded | Answer::NotTaken | Answer::UnknownFunction(_) => {
                self.callers[number].turn += 1;
                let delay_ms = 50 + self.random.below(500);
                self.schedule_caller(number, delay_ms);
            }
            Answer::Stopping => self.caller_unanswered(number),
            answer => {
                self.abandon_requests(number);
                self.finish(number, Some(answer));
            }
        }
    }

    fn finish(&mut self, number: usize, outcome: Option<Answer>) {
        let Some(mut operation) = self.callers[number].current.take() else {
            return;
        };
        self.callers[number].turn += 1;
        self.record_finished(&operation, outcome.as_ref());
        if let Some(problem) = check_repetition(&operation, outcome.as_ref()) {
            self.stage.violations.push(problem);
        }
        let repeats = operation.key.is_some() && self.random.chance(250);
        if operation.expected.is_none() && !operation.misused {
            operation.outcome = outcome.clone();
            self.callers[number].finished.push(operation.clone());
            self.report.operations += 1;
            if repeats {
                // The caller repeats the operation, or sends another body under the same key.
                operation.misused = self.random.chance(300);
                operation.expected = outcome;
                self.callers[number].current = Some(operation);
            }
        }
        let delay_ms = 1 + self.random.below(1_000);
        self.schedule_caller(number, delay_ms);
    }

    fn record_finished(&mut self, operation: &Operation, outcome: Option<&Answer>) {
        if self.trace.is_some() {
            let line = format!(
                "caller: {} {:?} ends with {outcome:?}",
                operation.argument, operation.key
            );
            self.record(|| line);
        }
    }

    fn schedule_caller(&mut self, number: usize, delay_ms: u64) {
        let turn = self.callers[number].turn;
        self.timeline
            .after(delay_ms, Event::CallerActs(number, turn));
    }

    fn any_serving(&self) -> Option<ProcessId> {
        let serving: Vec<ProcessId> = self
            .processes
            .iter()
            .filter(|(_, process)| process.is_serving())
            .map(|(id, _)| *id)
            .collect();
        if serving.is_empty() {
            return None;
        }
        Some(serving[self.random.below(serving.len() as u64) as usize])
    }

    fn draw_operation(&mut self) -> Operation {
        let n = self.next_operation;
        self.next_operation += 1;
        let entry = format!("h{n}");
        let draw = self.random.below(100);
        let mut instance = format!("{}", self.random.below(3));
        let (target, argument) = match draw {
            0..35 => ((STEADY, "counter"), format!("add {entry}")),
            35..40 => ((STEADY, "answerer"), format!("question {n}")),
            40..50 => ((STEADY, "asker"), format!("ask {n}")),
            50..62 => ((FRAIL, "poison"), format!("bad {entry}")),
            62..66 => ((FRAIL, "poison"), format!("good {entry}")),
            66..70 => ((FRAIL, "judge"), format!("good {entry}")),
            70..74 => ((FRAIL, "judge"), format!("wrong {entry}")),
            74..80 => ((STIFF, "stubborn"), format!("good {entry}")),
            80..84 => ((FRAIL, "killer"), format!("live {entry}")),
            84..88 => ((STEADY, "register"), format!("note {entry}")),
            88..95 => ((STEADY, "expiring"), format!("write {n}")),
            _ => ((STEADY, "expiring"), "look".to_owned()),
        };
        let (target, argument) = if self.faults.kills > 0 && draw.is_multiple_of(5) {
            self.faults.kills -= 1;
            ((FRAIL, "killer"), format!("kill {entry}"))
        } else {
            (target, argument)
        };
        // One address, so that right and wrong messages meet in one batch.
        if matches!(target.1, "register" | "judge") {
            instance = "0".to_owned();
        }
        // All other functions reply to their callers.
        let replies = !matches!(target.1, "expiring" | "register");
        let key = self.random.chance(600).then(|| format!("key{n}"));
        Operation {
            target: (target.0, target.1, instance),
            entry: if matches!(target.1, "asker" | "answerer") {
                n.to_string()
            } else {
                entry
            },
            argument,
            verb: if replies && self.random.chance(600) {
                Verb::Call
            } else {
                Verb::Send
            },
            key,
            outcome: None,
            may_have_happened: false,
            expected: None,
            misused: false,
        }
    }
}

/// Returns a violation if a repetition got the wrong answer.
fn check_repetition(operation: &Operation, outcome: Option<&Answer>) -> Option<String> {
    let outcome = outcome?;
    if operation.misused {
        let refused = matches!(outcome, Answer::KeyReused);
        return (!refused).then(|| {
            format!(
                "another body under the key {:?} is answered with {outcome:?}",
                operation.key
            )
        });
    }
    match operation.expected.as_ref()? {
        // The dead letter may have been retried meanwhile.
        Answer::Failed { .. } => None,
        expected if expected == outcome => None,
        expected => Some(format!(
            "{} is answered with {expected:?} first, and with {outcome:?} when repeated",
            operation.argument
        )),
    }
}

impl World {
    /// Performs the next action of the administrator.
    pub(crate) fn administrator_acts(&mut self) {
        let delay_ms = if self.administrator.retries_all {
            200
        } else {
            300 + self.random.below(2_000)
        };
        self.timeline.after(delay_ms, Event::AdministratorActs);
        let rests = self.faults_ended && !self.administrator.retries_all;
        if rests && self.administrator.pauses.is_over() {
            return;
        }
        if self.administrator.waits_turns.is_some_and(|turn| turn > 0) {
            // The administrator waits for an answer, but only for some turns.
            self.administrator.waits_turns = self.administrator.waits_turns.map(|turn| turn - 1);
            return;
        }
        let Some(id) = self.any_serving() else {
            return;
        };
        let pause = self.next_pause();
        let (correction, administration) = match &pause {
            Some((_, administration)) => (None, administration.clone()),
            None => self.next_administration(),
        };
        let pause = pause.map(|(pause, _)| pause);
        self.administrator.waits_turns = Some(20);
        let request = RequestId(self.next_request);
        self.next_request += 1;
        if let Some(serving) = self.serving(id) {
            serving
                .waiting
                .insert(request, Waiting::Administrator { correction, pause });
        }
        let input = Input::Administered {
            request,
            administration,
        };
        let delay_ms = 1 + self.random.below(20);
        self.timeline.after(delay_ms, Event::Notify(id, input));
    }

    /// Draws the next action of the administrator, and the number of the correction if it is one.
    fn next_administration(&mut self) -> (Option<u64>, Administration) {
        let mut correction = None;
        let all = self.administrator.retries_all;
        if let Some(letter) = self.administrator.letters.pop() {
            return (None, Administration::RetryDeadLetter(letter.id));
        }
        let administration = match self.random.below(if all { 2 } else { 8 }) {
            0 => {
                let instance = if self.random.chance(500) {
                    "r".to_owned()
                } else {
                    self.random.below(3).to_string()
                };
                Administration::Resume(address(STIFF, "stubborn", instance))
            }
            1 | 2 => Administration::ListDeadLetters {
                filter: DeadLetterFilter::default(),
                after: None,
                limit: 200,
            },
            3 => Administration::Inspect(address(STEADY, "counter", "1")),
            4 => Administration::DropDeadLetter(MessageId([7; 16])),
            7 => Administration::DropState {
                bucket: self.administrator.drop_bucket,
                function: FunctionType::new(STEADY, "account"),
                state: OWN[1].into(),
                limit: 1 + self.random.below(2) as usize,
            },
            5 => Administration::ChangeDeadLetters {
                change: DeadLetterChange::Retry,
                filter: DeadLetterFilter {
                    function: Some(format!("{FRAIL}/poison").into()),
                    ..DeadLetterFilter::default()
                },
                cursor: self.administrator.cursor,
                limit: 1 + self.random.below(3) as usize,
            },
            _ => {
                self.administrator.corrections += 1;
                let n = self.administrator.corrections;
                correction = Some(n);
                Administration::SetState {
                    address: address(STEADY, "register", "0"),
                    state: "log".into(),
                    value: text(format!("c{n}")),
                }
            }
        };
        (correction, administration)
    }

    /// Handles an answer to the administrator. After a long wait, it may have asked for something
    /// else since.
    fn administrator_answered(&mut self, correction: Option<u64>, answer: Answer) {
        self.administrator.waits_turns = None;
        let all = self.administrator.retries_all;
        match answer {
            Answer::DeadLetters(letters) => {
                let retried = letters.into_iter().filter(|letter| {
                    let void = letter
                        .address
                        .as_ref()
                        .is_some_and(|address| address.function.namespace() == "nowhere");
                    let unroutable =
                        letter.address.is_none() && !letter.source.starts_with("egress");
                    // Retrying a rejected message is useless.
                    let rejected = letter.reason == verdict_on(&text_of(&letter.message));
                    !void && !unroutable && !rejected
                });
                let mut retried: Vec<DeadLetterView> = retried.collect();
                if !all {
                    retried.truncate(self.random.below(3) as usize);
                }
                let idle = retried.is_empty() && self.truth.suspended() == 0;
                self.administrator.idle = if idle { self.administrator.idle + 1 } else { 0 };
                self.administrator.letters = retried;
            }
            Answer::Done => {
                let corrected = self.administrator.corrected;
                self.administrator.corrected = corrected.max(correction.unwrap_or(0));
                self.administrator.confirmed.extend(correction);
            }
            Answer::NotFound(_) => {}
            Answer::DeadLettersChanged(changed) => {
                self.administrator.cursor = changed.cursor;
                self.report.retried_in_bulk += changed.changed as u64;
            }
            Answer::StateDropped(step) => {
                self.administrator.drop_bucket = step.next.unwrap_or(0);
                self.report.dropped_values += step.dropped as u64;
            }
            // The deployed version may declare the state, or have done so a minute ago.
            Answer::Refused(reason) if reason.contains(" declares the state ") => {}
            // A slow process admits only a limited number of requests. A process that never admits
            // any keeps the world from settling, which is a violation of its own.
            Answer::Address(_) | Answer::Stopping | Answer::Overloaded => {}
            answer => {
                let violation = format!("the administrator is answered with {answer:?}");
                self.stage.violations.push(violation);
            }
        }
    }
}
