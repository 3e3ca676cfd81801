//! Deliberate defects between partitions. Each leaves out one rule; the code under test stays the
//! same.

use satchel_engine::durable::{Key, Value};
use satchel_engine::input::Input;
use satchel_engine::link::{Answer, Frame};
use satchel_engine::message::PeerMessage;
use satchel_engine::output::Delta;
use satchel_engine::partition::Recovery;

use super::connections::ConnectionId;
use super::owners::Owner;
use super::{GENERATION, PeersWorld};
use crate::mutants::Mutant;
use crate::process::ProcessId;

impl PeersWorld {
    /// Mutates a frame that arrives.
    pub(super) fn mutate_frame(
        &mut self,
        connection: ConnectionId,
        generation: u64,
        mut frame: Frame<PeerMessage>,
    ) -> (u64, Frame<PeerMessage>) {
        match self.mutant {
            Some(Mutant::TakeOtherGeneration) => return (GENERATION, frame),
            Some(Mutant::TakeBeyond) if generation == GENERATION => {
                if let Some(taken) = self.taken_over(connection) {
                    frame.first = frame.first.min(taken + 1);
                }
            }
            Some(Mutant::IgnorePeerTime) => frame.time_ms = 0,
            _ => {}
        }
        (generation, frame)
    }

    /// Last number that the receiver at the end of a connection has taken from its sender.
    fn taken_over(&mut self, connection: ConnectionId) -> Option<u64> {
        let found = self.connections.get(&connection)?;
        let (to, sender) = (found.to, found.sender);
        let serving = self.owners.get_mut(&to).and_then(Owner::serving)?;
        Some(serving.partition.link_numbers(sender)?.taken)
    }

    /// Does what a mutated receiver does after a frame.
    pub(super) fn mutate_after_frame(&mut self, connection: ConnectionId, time_ms: u64) {
        let Some(to) = self.connections.get(&connection).map(|found| found.to) else {
            return;
        };
        match self.mutant {
            Some(Mutant::AcknowledgeTaken) => {
                let Some(taken) = self.taken_over(connection) else {
                    return;
                };
                let epoch = self.owners.get(&to).map_or(0, Owner::epoch);
                let answer = Answer {
                    epoch,
                    taken,
                    durable: taken,
                    time_ms: 0,
                    refused: None,
                    credit: 1_000,
                };
                self.send_answer(connection, answer);
            }
            Some(Mutant::PeersMoveTime) => {
                if let Some(owner) = self.owners.get_mut(&to) {
                    owner.moved_ms = owner.moved_ms.max(time_ms);
                }
            }
            _ => {}
        }
    }

    /// Mutates an answer that arrives.
    pub(super) fn mutate_answer(&mut self, mut answer: Answer) -> Answer {
        match self.mutant {
            // Every answer counts as that of the newest owner.
            Some(Mutant::IgnoreReceiverEpoch) => {
                self.mutated += 1;
                answer.epoch = self.mutated;
            }
            Some(Mutant::IgnorePeerTime) => answer.time_ms = 0,
            _ => {}
        }
        answer
    }

    /// Sends an answer, or with a mutant holds it back while messages for others fill the limit.
    pub(super) fn answer(&mut self, id: ProcessId, connection: ConnectionId, mut answer: Answer) {
        if self.mutant == Some(Mutant::CreditCountsOutbox)
            && answer.credit > 0
            && self.is_full(id)
            && let Some(owner) = self.owners.get_mut(&id)
        {
            owner.held.insert(connection, answer);
            answer.credit = 0;
        }
        self.send_answer(connection, answer);
    }

    fn is_full(&mut self, id: ProcessId) -> bool {
        let limit = self.plan.config.pending_bytes_max;
        let serving = self.owners.get_mut(&id).and_then(Owner::serving);
        serving.is_some_and(|serving| serving.partition.pending_bytes() >= limit)
    }

    /// Sends the answers that a mutant held back, once there is room.
    pub(super) fn release_held(&mut self, id: ProcessId) {
        if self.mutant != Some(Mutant::CreditCountsOutbox) || self.is_full(id) {
            return;
        }
        let Some(owner) = self.owners.get_mut(&id) else {
            return;
        };
        for (connection, answer) in std::mem::take(&mut owner.held) {
            self.send_answer(connection, answer);
        }
    }

    /// Mutates what the log says to a partition.
    pub(super) fn mutate_facts(&self, facts: &mut Vec<Input>) {
        if self.mutant == Some(Mutant::LeaveEarly) {
            facts.retain(|fact| !matches!(fact, Input::CommitDurable { .. }));
        }
    }

    /// Mutates a delta before the log takes it. `own_ms` is the partition's own time.
    pub(super) fn mutate_delta(&mut self, id: ProcessId, mut delta: Delta, own_ms: u64) -> Delta {
        match self.mutant {
            Some(Mutant::LeaveEarly) => {
                let number = delta.number;
                if let Some(serving) = self.owners.get_mut(&id).and_then(Owner::serving) {
                    serving.facts.push(Input::CommitDurable { number });
                }
            }
            Some(Mutant::IgnorePeerTime) => {
                delta.committed_at_ms = self.last_time_ms(id, own_ms);
            }
            Some(Mutant::ForgetTaken) => {
                let lost = |key: &Key| matches!(key, Key::Taken { .. });
                delta.changes.retain(|change| !lost(&change.key));
            }
            Some(Mutant::ForgetOut) => {
                let lost = |key: &Key| matches!(key, Key::Out { number, .. } if number % 5 == 0);
                delta.changes.retain(|change| !lost(&change.key));
            }
            Some(Mutant::ForgetReceiverEpoch) => {
                for change in &mut delta.changes {
                    if let Some(Value::Acknowledged(acknowledged)) = &mut change.value {
                        acknowledged.epoch = 0;
                    }
                }
            }
            _ => {}
        }
        delta
    }

    /// Own time of a partition at its last delta, from which the clock of its owner continues.
    pub(super) fn own_time_ms(&self, recovery: &Recovery, committed_at_ms: u64) -> u64 {
        match self.mutant {
            Some(Mutant::PeersMoveTime) => committed_at_ms,
            _ => recovery.own_time_ms(committed_at_ms),
        }
    }
}
