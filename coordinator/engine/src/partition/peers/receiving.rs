//! Messages of other partitions: frames, answers and credit.

use super::super::commits::Release;
use super::super::{Partition, Stopping};
use crate::durable::Key;
use crate::link::{Answer, CREDIT_MAX, CloseCause, Frame, Intake, Number, Refusal};
use crate::message::PeerMessage;
use crate::output::Output;
use crate::story::Step;

impl Partition {
    /// The delta in which `number` was taken is durable: the message is acknowledged.
    pub(in crate::partition) fn acknowledge_taken(
        &mut self,
        delta: u64,
        peer: u32,
        number: Number,
    ) {
        let credit = self.peer_credit();
        let Some(peers) = &mut self.peers else { return };
        let time_ms = peers.time_of(delta).unwrap_or(self.delta_time_ms);
        let Some(link) = peers.links.get_mut(&peer) else {
            return;
        };
        if let Some(answer) = link.receiver.durable(number, time_ms, credit) {
            self.answer_peer(peer, answer);
        }
    }

    /// Sends an answer over every connection that brings frames of a partition. One of them leads
    /// to its present owner.
    pub(super) fn answer_peer(&mut self, peer: u32, answer: Answer) {
        let Some(peers) = &mut self.peers else { return };
        let Some(link) = peers.links.get_mut(&peer) else {
            return;
        };
        link.unanswered_bytes = 0;
        for (connection, starves) in &mut link.incoming {
            *starves = answer.credit == 0;
            self.outputs.push_back(Output::PeerAnswer {
                peer,
                connection: *connection,
                answer,
            });
        }
    }

    /// Sends an answer over one connection.
    pub(super) fn answer_over(&mut self, peer: u32, connection: u64, answer: Answer) {
        let peers = self.peers.as_mut();
        let link = peers.and_then(|peers| peers.links.get_mut(&peer));
        if let Some(starves) = link.and_then(|link| link.incoming.get_mut(&connection)) {
            *starves = answer.credit == 0;
            self.outputs.push_back(Output::PeerAnswer {
                peer,
                connection,
                answer,
            });
        }
    }

    /// Room for further messages of one partition, in bytes. Messages to other partitions and
    /// records of the outbox never count (rule 23).
    fn peer_credit(&self) -> u64 {
        let limit = self.config.pending_bytes_max;
        let elsewhere = self.outbox_bytes
            + self.tables.links.out_bytes()
            + self.deferred.bytes()
            + self.paused_ingresses.bytes();
        let mailboxes = self.pending_bytes.saturating_sub(elsewhere);
        if mailboxes >= limit {
            return 0;
        }
        // Messages that wait for a person do not shrink by themselves. Below the limit they must
        // not keep others waiting.
        let runnable = mailboxes.saturating_sub(self.tables.standing_bytes());
        let gate = (limit / 2).max(1);
        (gate.saturating_sub(runnable) as u64).min(CREDIT_MAX)
    }

    /// Greets the other end of a connection with what is known of its messages, and the credit that
    /// it waits for.
    pub(in crate::partition) fn peer_accepted(&mut self, peer: u32, connection: u64) {
        let credit = self.peer_credit();
        let Some(peers) = &mut self.peers else { return };
        let Some(link) = peers.links.get_mut(&peer) else {
            return;
        };
        peers.incoming.insert(connection, peer);
        link.incoming.insert(connection, false);
        let greeting = link.receiver.answer(credit);
        self.answer_over(peer, connection, greeting);
    }

    /// Takes the new messages of a frame, or answers why it takes none.
    pub(in crate::partition) fn peer_frame(
        &mut self,
        connection: u64,
        generation: u64,
        frame: Frame<PeerMessage>,
    ) {
        // What is not taken is sent again to the next owner.
        if self.stopping != Stopping::No || frame.messages.is_empty() || frame.first == 0 {
            return;
        }
        let own = self.config.generation.as_ref().map(|own| own.number);
        let Some(peers) = &mut self.peers else { return };
        let Some(peer) = peers.incoming.get(&connection).copied() else {
            return;
        };
        if own != Some(generation) {
            // Its numbers are of another map of the partitions (rule 18).
            self.outputs.push_back(Output::PeerClose {
                peer,
                connection,
                cause: CloseCause::OtherGeneration,
            });
            self.peer_disconnected(connection);
            return;
        }
        // A reply must find the record of its call, which may be in a bucket still to be loaded.
        let mut targets = frame.messages.iter().map(|sent| &sent.target);
        let awaits_buckets = targets.any(|target| self.awaits_pending_call(target));
        let credit = self.peer_credit();
        let now_ms = self.now_ms;
        let peers = self.peers.as_mut();
        let Some(link) = peers.and_then(|peers| peers.links.get_mut(&peer)) else {
            return;
        };
        link.awaits_buckets |= awaits_buckets;
        if link.is_damaged || link.awaits_buckets {
            return;
        }
        match link.receiver.frame(&frame, now_ms, credit) {
            Intake::Answer(answer) => self.answer_over(peer, connection, answer),
            Intake::Take(numbers) => {
                let known = numbers.start() - frame.first;
                let time_ms = frame.time_ms;
                let messages = frame.messages.into_iter().skip(known as usize);
                self.take_messages(peer, *numbers.end(), time_ms, messages);
            }
        }
    }

    /// Puts messages of another partition into their mailboxes, and the number of the last one into
    /// the same delta.
    fn take_messages(
        &mut self,
        peer: u32,
        last: Number,
        time_ms: u64,
        messages: impl Iterator<Item = PeerMessage>,
    ) {
        let mut bytes = 0;
        for sent in messages {
            let is_about_shard = sent.is_about_shard();
            let PeerMessage {
                sender,
                target,
                message,
            } = sent;
            bytes += message.pending_bytes(&target) as u64;
            self.counts.taken_from_peers += 1;
            self.tell(message.id, message.trace, || Step::Taken {
                partition: peer,
            });
            if is_about_shard {
                self.shard_told(&message.argument);
            } else if self.owner_elsewhere(&target).is_some() {
                let reason =
                    format!("partition {peer} sent it to one that does not own its target");
                self.give_up_sending((sender, &target), message, reason);
            } else {
                self.deliver_here(&target, message);
            }
        }
        self.tables.links.get_or_new(peer).taken = last;
        self.mark_changed(Key::Taken { peer });
        self.delta_time_ms = self.delta_time_ms.max(time_ms);
        self.release_when_durable(Release::Taken { peer, number: last });
        let credit = self.peer_credit();
        let peers = self.peers.as_mut();
        let Some(link) = peers.and_then(|peers| peers.links.get_mut(&peer)) else {
            return;
        };
        link.unanswered_bytes += bytes;
        if link.unanswered_bytes >= CREDIT_MAX / 4 {
            // The sender need not wait for the commit before it sends more.
            let answer = link.receiver.answer(credit);
            self.answer_peer(peer, answer);
        }
    }

    /// Answers partitions whose frames were ignored until now, or that had no credit.
    pub(super) fn renew_answers(&mut self) {
        let Some(peers) = &mut self.peers else { return };
        let loaded = !self.loading.has_pending_buckets();
        let wanting = peers.links.iter_mut().filter_map(|(peer, link)| {
            let ignored = loaded && std::mem::take(&mut link.awaits_buckets);
            let starves = link.incoming.values().any(|starves| *starves);
            (ignored || starves).then_some((*peer, ignored))
        });
        let wanting: Vec<(u32, bool)> = wanting.collect();
        if wanting.is_empty() {
            return;
        }
        let credit = self.peer_credit();
        for (peer, ignored) in wanting {
            if credit == 0 && !ignored {
                continue;
            }
            let Some(link) = self.peers.as_ref().and_then(|peers| peers.links.get(&peer)) else {
                continue;
            };
            let mut answer = link.receiver.answer(credit);
            if ignored {
                // The sender goes back to the first message that was not taken.
                answer.refused = Some(Refusal::Gap);
            }
            self.answer_peer(peer, answer);
        }
    }
}
