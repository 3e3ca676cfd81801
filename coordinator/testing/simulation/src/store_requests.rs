//! Requests to the store in flight: lost, late, repeated, answered or not.

use crate::process::ProcessId;
use crate::store::{Request, StoreOp};
use crate::world::{Event, Fate, World};

impl World {
    /// Schedules the requests and sleeps that a process has issued.
    pub(crate) fn dispatch_outgoing(&mut self, id: ProcessId) {
        let process = self.processes.get(&id).map(|process| &process.mailbox);
        let Some(mailbox) = process.or_else(|| self.operators.mailbox(id)) else {
            return;
        };
        let outgoing = mailbox.take();
        for (ms, slot) in outgoing.sleeps {
            self.timeline.after(ms, Event::SleepOver(id, slot));
        }
        for request in outgoing.requests {
            self.request_leaves(id, request);
        }
    }

    fn request_leaves(&mut self, id: ProcessId, request: Request) {
        self.check_operator_writes(id, &request.op);
        self.report.requests += 1;
        let faults = self.faults.store;
        let there_ms = 1 + self.random.below(faults.latency_max_ms);
        let back_ms = there_ms + 1 + self.random.below(faults.latency_max_ms);
        let creates = matches!(request.op, StoreOp::Create(..));
        if self.random.chance(faults.lost) {
            request_lost(self, id, request, back_ms);
        } else if creates && self.random.chance(faults.conflict) {
            let error = request.conflict();
            self.timeline
                .after(back_ms, Event::Answered(id, request, Err(error)));
        } else if creates && self.random.chance(faults.delayed) {
            let late_ms = back_ms + self.random.below(20_000);
            self.timeline
                .after(late_ms, Event::Effect(request.op.clone()));
            request_lost(self, id, request, back_ms);
        } else {
            if creates && self.random.chance(faults.repeated) {
                let late_ms = back_ms + self.random.below(20_000);
                self.timeline
                    .after(late_ms, Event::Effect(request.op.clone()));
            }
            let lost = self.random.chance(faults.answer_lost);
            let fate = if lost {
                Fate::AnswerLost
            } else {
                Fate::Answered
            };
            self.timeline
                .after(there_ms, Event::Arrives(id, request, fate));
        }
    }

    pub(crate) fn request_arrives(&mut self, id: ProcessId, request: Request, fate: Fate) {
        let reply = self.objects.perform(&request.op);
        let back_ms = 1 + self.random.below(self.faults.store.latency_max_ms);
        match fate {
            Fate::Answered => {
                self.timeline
                    .after(back_ms, Event::Answered(id, request, Ok(reply)));
            }
            Fate::AnswerLost => request_lost(self, id, request, back_ms),
        }
    }
}

fn request_lost(world: &mut World, id: ProcessId, request: Request, back_ms: u64) {
    let error = request.lost();
    world
        .timeline
        .after(back_ms, Event::Answered(id, request, Err(error)));
}
