//! State machine of processes and requests: assigns requests, and decides how many processes run.
//! It has no sockets, processes or clock.
//!
//! ```text
//!            next            submit                finish
//! Starting ───────► Idle ──────────────► Busy ──────────────► Between ──next──► Idle
//!                                          │ deadline, stop   (to Busy at once if one waits)
//!                                          └──────► the pool answers the request, ends the process
//! ```

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Call, FunctionError, InvokeError, ProcessState, ProcessView};

mod tick;

/// Request with the receiver of its answer.
#[derive(Debug)]
pub(super) struct Invocation {
    pub(super) call: Call,
    pub(super) reply: Reply,
}

/// Sender of an answer.
pub(super) type Reply = oneshot::Sender<Result<Bytes, InvokeError>>;

/// Request for a process.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) call: Call,
    pub(super) deadline: Instant,
}

/// Id of a process, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProcessId(u64);

/// Instructions of the pool to the task of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Control {
    /// Deadline of the request that the process holds.
    pub(super) deadline: Option<Instant>,
    /// End of the process, if the pool wants it.
    pub(super) end: Option<End>,
}

/// Way to end a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// SIGTERM, and SIGKILL a little later.
    Gracefully,
    /// SIGKILL.
    AtOnce,
}

/// Result of a process's call for a request.
#[derive(Debug)]
pub(super) enum Next {
    /// The request.
    Deliver(Delivery),
    /// Receiver of a later request. If the sender is dropped, no request comes.
    Wait(oneshot::Receiver<Delivery>),
    /// No request: the process holds one that it has not answered.
    HoldsOne,
    /// No request: the process must end.
    Ending,
}

#[derive(Debug, Default)]
pub(super) struct Pool {
    slots: BTreeMap<ProcessId, Slot>,
    queue: VecDeque<Queued>,
    /// Time since which the queue has never been empty, or of the last start of a process if that
    /// is later.
    backlog_since: Option<Instant>,
    processes_max: usize,
    started: u64,
    foreign_answers: u64,
    failures: StartFailures,
    stopped: bool,
    /// True if a process may take any time until it asks for its first request.
    is_patient: bool,
}

#[derive(Debug)]
struct Slot {
    state: State,
    pid: Option<u32>,
    since: Instant,
    control: watch::Sender<Control>,
    /// True if the process takes no further request.
    retiring: bool,
    /// Initialization error that the process reported.
    init_error: Option<String>,
}

#[derive(Debug)]
enum State {
    Starting,
    Idle(oneshot::Sender<Delivery>),
    Busy {
        delivery: Delivery,
        reply: Reply,
        /// True once the process certainly received the request. Its connection may break before.
        received: bool,
    },
    Between,
}

#[derive(Debug)]
struct Queued {
    invocation: Invocation,
    since: Instant,
}

/// Recent failures of starting processes.
#[derive(Debug, Default)]
struct StartFailures {
    /// Reason why the last process ended before it asked for a request. None once a process asked.
    not_starting: Option<String>,
    /// Number of consecutive processes that ended early.
    early_ends: u32,
    /// Earliest time of the next start.
    retry_at: Option<Instant>,
}

impl Pool {
    pub(super) fn new(processes_max: usize) -> Self {
        Self {
            processes_max: processes_max.max(1),
            ..Self::default()
        }
    }

    /// Creates a pool of one process, which may take any time until it asks for its first request.
    pub(super) fn patient() -> Self {
        Self {
            is_patient: true,
            ..Self::new(1)
        }
    }

    /// Hands the request to the process that became idle last, or queues it.
    pub(super) fn submit(&mut self, invocation: Invocation, now: Instant) {
        if self.stopped {
            refuse(invocation.reply, "the handlers were stopped");
            return;
        }
        let mut invocation = invocation;
        while let Some(process) = self.last_idle() {
            match self.hand(process, invocation, now) {
                Ok(()) => return,
                Err(back) => invocation = back,
            }
        }
        self.queue.push_back(Queued {
            invocation,
            since: now,
        });
        self.backlog_since.get_or_insert(now);
    }

    /// Adds a process that is being started.
    pub(super) fn add(&mut self, now: Instant) -> (ProcessId, watch::Receiver<Control>) {
        self.started += 1;
        self.backlog_since = self.backlog_since.map(|_| now);
        let process = ProcessId(self.started);
        let (control, wanted) = watch::channel(Control::default());
        self.slots.insert(
            process,
            Slot {
                state: State::Starting,
                pid: None,
                since: now,
                control,
                retiring: false,
                init_error: None,
            },
        );
        (process, wanted)
    }

    pub(super) fn set_pid(&mut self, process: ProcessId, pid: Option<u32>) {
        if let Some(slot) = self.slots.get_mut(&process) {
            slot.pid = pid;
        }
    }

    /// Handles a process's call for a request.
    pub(super) fn next(&mut self, process: ProcessId, now: Instant) -> Next {
        let Some(slot) = self.slots.get_mut(&process) else {
            return Next::Ending;
        };
        self.failures.not_starting = None;
        match &slot.state {
            State::Busy { received: true, .. } => return Next::HoldsOne,
            State::Busy { delivery, .. } => return Next::Deliver(delivery.clone()),
            _ if slot.is_ending() => return Next::Ending,
            State::Starting | State::Idle(_) | State::Between => {}
        }
        slot.since = now;
        let (hand, delivery) = oneshot::channel();
        slot.state = State::Idle(hand);
        while let Some(queued) = self.queue.pop_front() {
            if queued.invocation.reply.is_closed() {
                continue;
            }
            match self.hand(process, queued.invocation, now) {
                Ok(()) => break,
                Err(_) => unreachable!("the receiver is alive"),
            }
        }
        self.note_backlog();
        Next::Wait(delivery)
    }

    /// Records that the process received the request that it was handed.
    pub(super) fn received(&mut self, process: ProcessId, request: Uuid) {
        if let Some(State::Busy {
            delivery, received, ..
        }) = self.slots.get_mut(&process).map(|slot| &mut slot.state)
            && delivery.call.request == request
        {
            *received = true;
        }
    }

    /// Handles a process's answer to `request`. Returns false if the process does not hold that
    /// request; the answer is then dropped and counted.
    pub(super) fn finish(
        &mut self,
        process: ProcessId,
        request: Uuid,
        answer: Result<Bytes, FunctionError>,
    ) -> bool {
        let holder = self
            .slots
            .get_mut(&process)
            .filter(|slot| slot.holds(request));
        let Some(slot) = holder else {
            self.foreign_answers += 1;
            return false;
        };
        self.failures.early_ends = 0;
        slot.answer(answer.map_err(InvokeError::Function));
        if slot.retiring {
            slot.end(End::Gracefully);
        }
        true
    }

    /// Counts an answer that names no request.
    pub(super) fn foreign_answer(&mut self) {
        self.foreign_answers += 1;
    }

    /// Records an initialization error of the process.
    pub(super) fn init_failed(&mut self, process: ProcessId, why: String) {
        if let Some(slot) = self.slots.get_mut(&process) {
            slot.init_error = Some(why);
        }
    }

    /// Answers the request and ends the process if the deadline has passed.
    pub(super) fn expire(&mut self, process: ProcessId, now: Instant) {
        if let Some(slot) = self.slots.get_mut(&process)
            && let State::Busy { delivery, .. } = &slot.state
            && delivery.deadline <= now
        {
            let message = format!("timed out after {:?}", delivery.call.timeout);
            slot.end(End::AtOnce);
            slot.answer(Err(InvokeError::Function(FunctionError::new(
                "Sandbox.Timedout",
                &message,
            ))));
        }
    }

    /// Removes a process that ended or did not start. `how` describes that.
    pub(super) fn exited(&mut self, process: ProcessId, how: &str, now: Instant) {
        let Some(mut slot) = self.slots.remove(&process) else {
            return;
        };
        let ending = slot.is_ending() && slot.init_error.is_none();
        match slot.state {
            State::Busy { .. } => slot.answer(Err(InvokeError::Function(FunctionError::new(
                "Runtime.ExitError",
                &format!("the handler process ended while it held the request: {how}"),
            )))),
            _ if ending => {}
            State::Starting => {
                let why = match slot.init_error {
                    Some(why) => format!("the handler does not start: {why}"),
                    None => format!("the handler ended before it asked for a request: {how}"),
                };
                self.failures.not_starting = Some(why);
                self.failures.ended_early(now);
            }
            State::Idle(_) | State::Between if now < slot.since + tick::EARLY => {
                self.failures.ended_early(now);
            }
            State::Idle(_) | State::Between => {}
        }
    }

    /// Retires every current process: it finishes its request and ends. New ones replace it.
    pub(super) fn retire_all(&mut self) {
        self.failures = StartFailures::default();
        for slot in self.slots.values_mut() {
            slot.retire();
        }
    }

    /// Ends every process. Current, queued and later requests fail.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        for queued in self.queue.drain(..) {
            refuse(queued.invocation.reply, "the handlers were stopped");
        }
        for slot in self.slots.values_mut() {
            slot.end(End::Gracefully);
            slot.answer(Err(InvokeError::Unreachable(
                "the handler was stopped while it held the request".to_owned(),
            )));
        }
    }

    /// Returns true if the pool was stopped and the last process has ended.
    pub(super) fn is_over(&self) -> bool {
        self.stopped && self.slots.is_empty()
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn started(&self) -> u64 {
        self.started
    }

    pub(super) fn foreign_answers(&self) -> u64 {
        self.foreign_answers
    }

    pub(super) fn processes(&self) -> Vec<ProcessView> {
        let view = |slot: &Slot| ProcessView {
            pid: slot.pid,
            state: match slot.state {
                State::Busy { .. } => ProcessState::Busy,
                _ if slot.is_ending() => ProcessState::Other,
                State::Starting => ProcessState::Starting,
                State::Idle(_) => ProcessState::Idle,
                State::Between => ProcessState::Other,
            },
        };
        self.slots.values().map(view).collect()
    }

    fn note_backlog(&mut self) {
        if self.queue.is_empty() {
            self.backlog_since = None;
        }
    }

    fn last_idle(&self) -> Option<ProcessId> {
        self.slots
            .iter()
            .filter(|(_, slot)| slot.is_idle())
            .max_by_key(|(_, slot)| slot.since)
            .map(|(process, _)| *process)
    }

    /// Hands the invocation to an idle process. Returns it if the process no longer listens.
    fn hand(
        &mut self,
        process: ProcessId,
        invocation: Invocation,
        now: Instant,
    ) -> Result<(), Invocation> {
        let Some(slot) = self.slots.get_mut(&process) else {
            return Err(invocation);
        };
        let State::Idle(hand) = std::mem::replace(&mut slot.state, State::Between) else {
            return Err(invocation);
        };
        let delivery = Delivery {
            deadline: now + invocation.call.timeout,
            call: invocation.call,
        };
        match hand.send(delivery.clone()) {
            Ok(()) => {
                let deadline = Some(delivery.deadline);
                slot.control
                    .send_modify(|control| control.deadline = deadline);
                slot.state = State::Busy {
                    delivery,
                    reply: invocation.reply,
                    received: false,
                };
                Ok(())
            }
            Err(delivery) => Err(Invocation {
                call: delivery.call,
                ..invocation
            }),
        }
    }
}

impl Slot {
    fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle(_))
    }

    fn holds(&self, request: Uuid) -> bool {
        match &self.state {
            State::Busy { delivery, .. } => delivery.call.request == request,
            State::Starting | State::Idle(_) | State::Between => false,
        }
    }

    /// Returns true if the process takes no further request.
    fn is_ending(&self) -> bool {
        self.retiring || self.control.borrow().end.is_some()
    }

    fn end(&mut self, how: End) {
        self.retiring = true;
        self.control.send_modify(|control| {
            control.deadline = None;
            control.end = Some(how);
        });
        if self.is_idle() {
            self.state = State::Between;
        }
    }

    fn retire(&mut self) {
        self.retiring = true;
        if !matches!(self.state, State::Busy { .. }) {
            self.end(End::Gracefully);
        }
    }

    /// Answers the request that the process holds, if there is one.
    fn answer(&mut self, answer: Result<Bytes, InvokeError>) {
        if matches!(self.state, State::Busy { .. })
            && let State::Busy { reply, .. } = std::mem::replace(&mut self.state, State::Between)
        {
            self.control.send_modify(|control| control.deadline = None);
            // The caller may have abandoned the request.
            let _ = reply.send(answer);
        }
    }
}

fn refuse(reply: Reply, why: &str) {
    let _ = reply.send(Err(InvokeError::Unreachable(why.to_owned())));
}

#[cfg(test)]
mod tests;
