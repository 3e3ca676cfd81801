//! The lease: the real machine of each process, over a table that loses and delays requests and
//! answers.

use satchel_engine::lease::{
    Claimant, Condition, Lease, LeaseInput, LeaseItem, LeaseOutput, Timing, Write, WriteOutcome,
};

use crate::process::ProcessId;
use crate::world::{Event, World};

/// Time that a process waits for the table, in ms.
const TIMEOUT_MS: u64 = 300;

/// Candidate for the lease.
pub(crate) struct Candidate {
    lease: Lease,
    /// True if the process may take over.
    pub(crate) held: bool,
    wake_at_ms: Option<u64>,
    /// Number of the request, so that late answers are ignored.
    request: u64,
}

/// Message between a process and the table.
#[derive(Debug)]
pub(crate) enum LeaseMessage {
    /// A request arrives at the table.
    Request(u64, Option<Write>, Answered),
    Reply(u64, LeaseInput),
    Wakes(u64),
}

/// Fate of the table's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    Yes,
    No,
}

impl Candidate {
    pub(crate) fn new(id: ProcessId, lease_ms: u64) -> Self {
        let me = Claimant {
            id: id.to_string(),
            address: None,
            peer: None,
        };
        Self {
            lease: Lease::new(me, Timing::of(lease_ms)),
            held: false,
            wake_at_ms: None,
            request: 0,
        }
    }
}

impl World {
    /// Returns true if a process must wait before it takes over.
    pub(crate) fn waits_for_lease(&self, id: ProcessId) -> bool {
        let process = self.processes.get(&id);
        let candidate = process.and_then(|process| process.candidate.as_ref());
        candidate.is_some_and(|candidate| !candidate.held)
    }

    pub(crate) fn notify_lease(&mut self, id: ProcessId, input: LeaseInput) {
        let now_ms = self.timeline.now_ms();
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let Some(candidate) = &mut process.candidate else {
            return;
        };
        candidate.lease.handle_input(now_ms, input);
        while let Some(output) = self
            .processes
            .get_mut(&id)
            .and_then(|process| process.candidate.as_mut()?.lease.poll_output())
        {
            match output {
                LeaseOutput::Read => self.ask_table(id, None),
                LeaseOutput::Write(write) => self.ask_table(id, Some(write)),
                LeaseOutput::WakeAt(at_ms) => {
                    if let Some(candidate) = self.candidate(id) {
                        candidate.wake_at_ms = Some(at_ms);
                        let message = LeaseMessage::Wakes(at_ms);
                        self.timeline.at(at_ms, Event::Lease(id, message));
                    }
                }
                LeaseOutput::Acquired { epoch } => {
                    self.record(|| format!("process {id} acquires the lease, epoch {epoch}"));
                    self.report.leases += 1;
                    if let Some(candidate) = self.candidate(id) {
                        candidate.held = true;
                    }
                    self.advance(id);
                }
                LeaseOutput::Lost { to } => {
                    return self.crash(id, &format!("it lost its lease to {to}"));
                }
                LeaseOutput::Released => {}
            }
        }
    }

    /// Releases the lease of a process that has stopped, as its last action.
    pub(crate) fn release_lease(&mut self, id: ProcessId) {
        self.notify_lease(id, LeaseInput::ReleaseRequested);
    }

    pub(crate) fn handle_lease_message(&mut self, id: ProcessId, message: LeaseMessage) {
        match message {
            LeaseMessage::Request(request, write, answered) => {
                let reply = match write {
                    None => LeaseInput::ItemRead(self.table.clone()),
                    Some(write) => LeaseInput::Written(self.write_lease(write)),
                };
                if answered == Answered::Yes {
                    let delay_ms = 1 + self.random.below(20);
                    let reply = LeaseMessage::Reply(request, reply);
                    self.timeline.after(delay_ms, Event::Lease(id, reply));
                }
            }
            LeaseMessage::Reply(request, reply) => {
                let Some(candidate) = self.candidate(id) else {
                    return;
                };
                // An answer after the time-out counts as lost.
                if candidate.request == request {
                    candidate.request += 1;
                    self.notify_lease(id, reply);
                }
            }
            LeaseMessage::Wakes(at_ms) => {
                let Some(candidate) = self.candidate(id) else {
                    return;
                };
                if candidate.wake_at_ms == Some(at_ms) {
                    candidate.wake_at_ms = None;
                    self.notify_lease(id, LeaseInput::TimeReached);
                }
            }
        }
    }

    fn candidate(&mut self, id: ProcessId) -> Option<&mut Candidate> {
        self.processes.get_mut(&id)?.candidate.as_mut()
    }

    fn ask_table(&mut self, id: ProcessId, write: Option<Write>) {
        let faults = self.faults.store;
        let Some(candidate) = self.candidate(id) else {
            return;
        };
        let request = candidate.request;
        let unanswered = match write {
            None => LeaseInput::ReadFailed,
            Some(_) => LeaseInput::Written(WriteOutcome::Unknown),
        };
        let too_late = LeaseMessage::Reply(request, unanswered);
        self.timeline.after(TIMEOUT_MS, Event::Lease(id, too_late));
        if self.random.chance(faults.lost) {
            return;
        }
        let late = write.is_some() && self.random.chance(faults.delayed);
        let delay_ms = 1 + self.random.below(if late { 5_000 } else { 20 });
        let answered = match self.random.chance(faults.answer_lost) {
            true => Answered::No,
            false => Answered::Yes,
        };
        let message = LeaseMessage::Request(request, write, answered);
        self.timeline.after(delay_ms, Event::Lease(id, message));
    }

    fn write_lease(&mut self, write: Write) -> WriteOutcome {
        let stands = match (&write.condition, &self.table) {
            (Condition::Absent, found) => found.is_none(),
            (
                Condition::Unmoved {
                    owner,
                    epoch,
                    counter,
                },
                Some(found),
            ) => (&found.owner, found.epoch, found.counter) == (owner, *epoch, *counter),
            (Condition::Mine { owner, epoch }, Some(found)) => {
                (&found.owner, found.epoch) == (owner, *epoch) && found.counter < write.item.counter
            }
            (_, None) => false,
        };
        if !stands {
            return WriteOutcome::Refused;
        }
        self.check_lease(&write.item);
        self.table = Some(write.item);
        WriteOutcome::Done
    }

    /// Checks that an epoch of the lease has one holder, and that epoch and counter only grow.
    fn check_lease(&mut self, item: &LeaseItem) {
        if let Some(found) = &self.table {
            let grows = (item.epoch, item.counter) > (found.epoch, found.counter);
            let same = item.epoch != found.epoch || item.owner == found.owner;
            if !(grows && same) {
                let violation = format!("the lease {found:?} is followed by {item:?}");
                self.stage.violations.push(violation);
            }
        }
    }
}
