//! The lease: the real machine of each process, over a table that loses, delays and forgets to answer.

use satchel_engine::lease::{
    Claimant, Condition, Lease, LeaseInput, LeaseItem, LeaseOutput, Timing, Write, WriteOutcome,
};

use crate::process::ProcessId;
use crate::world::{Event, World};

/// How long a process waits for the table, in ms.
const TIMEOUT_MS: u64 = 300;

/// A process's part in the lease.
pub(crate) struct Candidate {
    lease: Lease,
    /// It may take over.
    pub(crate) held: bool,
    wake_at_ms: Option<u64>,
    /// Names what it asks of the table, so that no late answer is taken for another.
    asked: u64,
}

/// What travels between a process and the table.
#[derive(Debug)]
pub(crate) enum Errand {
    /// A request arrives; what it is answered, if it is, travels back.
    Asks(u64, Option<Write>, Answered),
    Told(u64, LeaseInput),
    Wakes(u64),
}

/// Whether the table's answer arrives.
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
        };
        Self {
            lease: Lease::new(me, Timing::of(lease_ms)),
            held: false,
            wake_at_ms: None,
            asked: 0,
        }
    }
}

impl World {
    /// Whether a process has to wait before it takes over.
    pub(crate) fn waits_for_lease(&self, id: ProcessId) -> bool {
        let process = self.processes.get(&id);
        let candidate = process.and_then(|process| process.candidate.as_ref());
        candidate.is_some_and(|candidate| !candidate.held)
    }

    pub(crate) fn tell_lease(&mut self, id: ProcessId, input: LeaseInput) {
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
                LeaseOutput::Look => self.ask_table(id, None),
                LeaseOutput::Write(write) => self.ask_table(id, Some(write)),
                LeaseOutput::WakeAt(at_ms) => {
                    if let Some(candidate) = self.candidate(id) {
                        candidate.wake_at_ms = Some(at_ms);
                        let errand = Errand::Wakes(at_ms);
                        self.timeline.at(at_ms, Event::Lease(id, errand));
                    }
                }
                LeaseOutput::Acquired { epoch } => {
                    self.say(|| format!("process {id} has the lease, for the time {epoch}"));
                    self.report.leases += 1;
                    if let Some(candidate) = self.candidate(id) {
                        candidate.held = true;
                    }
                    self.pump(id);
                }
                LeaseOutput::Lost { to } => {
                    return self.crash(id, &format!("its lease is lost to {to}"));
                }
                LeaseOutput::Released => {}
            }
        }
    }

    /// A process that has stopped gives the lease back, which is the last that it does.
    pub(crate) fn release_lease(&mut self, id: ProcessId) {
        self.tell_lease(id, LeaseInput::ReleaseRequested);
    }

    pub(crate) fn runs_errand(&mut self, id: ProcessId, errand: Errand) {
        match errand {
            Errand::Asks(asked, write, answered) => {
                let told = match write {
                    None => LeaseInput::Found(self.table.clone()),
                    Some(write) => LeaseInput::Written(self.write_lease(write)),
                };
                if answered == Answered::Yes {
                    let delay_ms = 1 + self.random.below(20);
                    let told = Errand::Told(asked, told);
                    self.timeline.after(delay_ms, Event::Lease(id, told));
                }
            }
            Errand::Told(asked, told) => {
                let Some(candidate) = self.candidate(id) else {
                    return;
                };
                // What comes after the time for it was taken for lost.
                if candidate.asked == asked {
                    candidate.asked += 1;
                    self.tell_lease(id, told);
                }
            }
            Errand::Wakes(at_ms) => {
                let Some(candidate) = self.candidate(id) else {
                    return;
                };
                if candidate.wake_at_ms == Some(at_ms) {
                    candidate.wake_at_ms = None;
                    self.tell_lease(id, LeaseInput::TimeReached);
                }
            }
        }
    }

    fn candidate(&mut self, id: ProcessId) -> Option<&mut Candidate> {
        self.processes.get_mut(&id)?.candidate.as_mut()
    }

    fn ask_table(&mut self, id: ProcessId, write: Option<Write>) {
        let faults = self.weather.store;
        let Some(candidate) = self.candidate(id) else {
            return;
        };
        let asked = candidate.asked;
        let unanswered = match write {
            None => LeaseInput::NotFoundOut,
            Some(_) => LeaseInput::Written(WriteOutcome::Unknown),
        };
        let too_late = Errand::Told(asked, unanswered);
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
        let asks = Errand::Asks(asked, write, answered);
        self.timeline.after(delay_ms, Event::Lease(id, asks));
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

    /// The time of a holder has one holder, and time goes on.
    fn check_lease(&mut self, item: &LeaseItem) {
        if let Some(found) = &self.table {
            let goes_on = (item.epoch, item.counter) > (found.epoch, found.counter);
            let same = item.epoch != found.epoch || item.owner == found.owner;
            if !(goes_on && same) {
                let violation = format!("the lease {found:?} is followed by {item:?}");
                self.stage.violations.push(violation);
            }
        }
    }
}
