//! Requests to the store in flight: lost, late, repeated, answered or not.

use satchel_log::StoreError;
use satchel_log_simulation::Random;

use crate::process::ProcessId;
use crate::store::{Objects, Request, StoreFaults, StoreOp, StoreReply};
use crate::world::{Event, Fate, World};

/// Step of a request on its way.
pub(crate) enum Step {
    /// The request takes effect without an answer.
    Effect(StoreOp),
    /// The request reaches the store.
    Arrives(Request, Fate),
    /// The request fails, as its process sees it.
    Fails(Request, StoreError),
}

/// Answer on its way to a process.
pub(crate) type Answered = (Request, Result<StoreReply, StoreError>);

/// Draws the steps of a request that leaves its process, with the delay of each in ms.
pub(crate) fn depart(random: &Random, faults: StoreFaults, request: Request) -> Vec<(u64, Step)> {
    let there_ms = 1 + random.below(faults.latency_max_ms);
    let back_ms = there_ms + 1 + random.below(faults.latency_max_ms);
    let creates = matches!(request.op, StoreOp::Create(..));
    if random.chance(faults.lost) {
        let error = request.lost();
        vec![(back_ms, Step::Fails(request, error))]
    } else if creates && random.chance(faults.conflict) {
        let error = request.conflict();
        vec![(back_ms, Step::Fails(request, error))]
    } else if creates && random.chance(faults.delayed) {
        let late_ms = back_ms + random.below(20_000);
        let effect = Step::Effect(request.op.clone());
        let error = request.lost();
        vec![(late_ms, effect), (back_ms, Step::Fails(request, error))]
    } else {
        let mut steps = Vec::new();
        if creates && random.chance(faults.repeated) {
            let late_ms = back_ms + random.below(20_000);
            steps.push((late_ms, Step::Effect(request.op.clone())));
        }
        let lost = random.chance(faults.answer_lost);
        let fate = if lost {
            Fate::AnswerLost
        } else {
            Fate::Answered
        };
        steps.push((there_ms, Step::Arrives(request, fate)));
        steps
    }
}

/// Performs a request that reached the store. Returns the delay of its answer in ms, and the answer
/// as its process sees it.
pub(crate) fn arrive(
    random: &Random,
    faults: StoreFaults,
    objects: &mut Objects,
    request: Request,
    fate: Fate,
) -> (u64, Answered) {
    let reply = objects.perform(&request.op);
    let back_ms = 1 + random.below(faults.latency_max_ms);
    let answer = match fate {
        Fate::Answered => Ok(reply),
        Fate::AnswerLost => Err(request.lost()),
    };
    (back_ms, (request, answer))
}

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
            self.check_operator_writes(id, &request.op);
            self.report.requests += 1;
            for (delay_ms, step) in depart(&self.random, self.faults.store, request) {
                let event = match step {
                    Step::Effect(op) => Event::Effect(op),
                    Step::Arrives(request, fate) => Event::Arrives(id, request, fate),
                    Step::Fails(request, error) => Event::Answered(id, request, Err(error)),
                };
                self.timeline.after(delay_ms, event);
            }
        }
    }

    pub(crate) fn request_arrives(&mut self, id: ProcessId, request: Request, fate: Fate) {
        let faults = self.faults.store;
        let (back_ms, (request, answer)) =
            arrive(&self.random, faults, &mut self.objects, request, fate);
        self.timeline
            .after(back_ms, Event::Answered(id, request, answer));
    }
}
