//! Pauses of a function by the administrator. Once confirmed, each owner must know them.

use std::collections::BTreeSet;

use satchel_engine::address::FunctionType;
use satchel_engine::input::Administration;
use satchel_engine::output::Answer;

use crate::functions::STEADY;
use crate::process::ProcessId;
use crate::world::World;

/// Function that is paused. No client calls it, since calls to a paused function are rejected.
const PAUSED: &str = "collector";

/// Pause or resumption that was requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PauseTurn {
    pauses: bool,
    number: u64,
}

/// State of the function, as the administrator knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// A resumption was confirmed last, or nothing was ever paused.
    #[default]
    Running,
    /// A pause was confirmed last.
    Paused,
    /// A request is in flight, or was never answered.
    Unknown,
}

/// The administrator's pauses.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    state: State,
    turns: u64,
    /// Requests that may still take effect.
    open: BTreeSet<u64>,
    /// Latest epoch that took over.
    epoch: u64,
}

impl Pauses {
    /// Creates the pauses of a fork, which begins with those of its origin.
    pub(crate) fn unknown() -> Self {
        Self {
            state: State::Unknown,
            ..Self::default()
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Running && self.open.is_empty()
    }

    fn request(&mut self, pauses: bool) -> PauseTurn {
        self.state = State::Unknown;
        self.turns += 1;
        self.open.insert(self.turns);
        PauseTurn {
            pauses,
            number: self.turns,
        }
    }

    /// Takes note that the process of a request has ended before it answered.
    pub(crate) fn unanswered(&mut self, turn: PauseTurn) {
        self.open.remove(&turn.number);
        self.state = State::Unknown;
    }

    /// Takes the answer of the owner of `epoch`.
    pub(crate) fn answered(&mut self, turn: PauseTurn, epoch: u64, answer: &Answer) {
        self.open.remove(&turn.number);
        if epoch < self.epoch && matches!(answer, Answer::NotFound(_)) {
            // A refusal changes nothing, so it waits for no commit: a former owner that has slept
            // refuses by what it knows.
            self.state = State::Unknown;
            return;
        }
        if turn.number != self.turns {
            // A process that slept was late, and the order of the requests is unknown.
            self.state = State::Unknown;
            return;
        }
        match answer {
            Answer::Done if turn.pauses => self.state = State::Paused,
            Answer::Done | Answer::NotFound(_) => self.state = State::Running,
            // The request may be repeated.
            _ => {}
        }
    }
}

impl World {
    /// Draws a pause or a resumption, if it is time for one.
    pub(crate) fn next_pause(&mut self) -> Option<(PauseTurn, Administration)> {
        let function = FunctionType::new(STEADY, PAUSED);
        if self.administrator.pauses.is_over() {
            let pauses = !self.faults_ended && self.random.chance(100);
            return pauses.then(|| {
                let turn = self.administrator.pauses.request(true);
                let reason = "a migration".into();
                (turn, Administration::PauseFunction { function, reason })
            });
        }
        let resumes = self.faults_ended || self.random.chance(500);
        resumes.then(|| {
            let turn = self.administrator.pauses.request(false);
            (turn, Administration::ResumeFunction(function))
        })
    }

    /// Checks that a new owner knows what was confirmed about the pause. One whose takeover ends
    /// after that of a later epoch need not.
    pub(crate) fn check_pause(&mut self, id: ProcessId) {
        let Some(serving) = self.serving(id) else {
            return;
        };
        let epoch = serving.epoch;
        let stoppages = serving.partition.stoppages();
        let paused = !stoppages.paused_functions.is_empty();
        if epoch < self.administrator.pauses.epoch {
            return;
        }
        self.administrator.pauses.epoch = epoch;
        let expected = match self.administrator.pauses.state {
            State::Running => false,
            State::Paused => true,
            State::Unknown => return,
        };
        if !self.administrator.pauses.open.is_empty() {
            return;
        }
        if paused != expected {
            let violation = format!(
                "process {id} takes over with {STEADY}/{PAUSED} paused: {paused}, not {expected}"
            );
            self.stage.violations.push(violation);
        }
    }
}
