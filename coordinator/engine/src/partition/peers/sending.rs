//! Messages to other partitions: from the delta that makes them to their acknowledgement.

use super::super::Partition;
use super::super::commits::Release;
use crate::address::Address;
use crate::durable::{Acknowledged, DeadLetter, Key};
use crate::invocation::BATCH_OVERHEAD_BYTES;
use crate::link::{Answer, CloseCause, Frame, LinkDamage, MESSAGE_BYTES_MAX, Number, Reaction};
use crate::message::{Message, PeerMessage};
use crate::output::Output;
use crate::placement::KeyGroup;
use crate::story::Step;

impl Partition {
    /// Sends a message to another partition: from now on it is part of the next delta. `origin`
    /// names the stream or queue of a message that has no sender.
    pub(in crate::partition) fn send_to_peer(
        &mut self,
        peer: u32,
        origin: Option<&str>,
        target: &Address,
        message: Message,
    ) {
        let caller = message.caller.as_ref();
        let sender = caller.and_then(|caller| self.config.sender_key_group(caller));
        let sender = sender.unwrap_or_else(|| match origin {
            Some(origin) => self.config.placement.key_group_of_id(origin),
            None => self.config.placement.key_group(target),
        });
        self.tell_fact((message.id, message.trace), false, || Step::Forwarded {
            target: target.clone(),
            partition: peer,
        });
        if let Some(reason) = self.is_unsendable(target, &message) {
            self.give_up_sending((sender, target), message, reason);
            return;
        }
        let sent = PeerMessage {
            sender,
            target: target.clone(),
            message,
        };
        self.counts.sent_to_peers += 1;
        self.pending_bytes += sent.bytes();
        let number = self.tables.links.get_or_new(peer).assign(sent);
        self.mark_changed(Key::Out { peer, number });
        self.mark_changed(Key::Assigned { peer });
        self.release_when_durable(Release::Out { peer, number });
    }

    /// Returns the reason for which no receiver could take a message, if there is one. All
    /// partitions have the same endpoints. A function that none serves is the receiver's to judge.
    fn is_unsendable(&self, target: &Address, message: &Message) -> Option<String> {
        let bytes = message.bytes();
        if bytes > MESSAGE_BYTES_MAX {
            return Some(format!(
                "the message takes {bytes} bytes; at most {MESSAGE_BYTES_MAX} pass between \
                 partitions"
            ));
        }
        let endpoint = self.config.endpoints.serving(&target.function)?;
        let bytes_max = self.config.endpoints.get(endpoint).bundle_bytes_max;
        let bytes = bytes + 2 * BATCH_OVERHEAD_BYTES;
        (bytes > bytes_max)
            .then(|| format!("the message takes {bytes} bytes, the endpoint takes {bytes_max}"))
    }

    /// Makes a dead letter of a message whose target belongs to another partition. It belongs to no
    /// address here.
    pub(super) fn give_up_sending(
        &mut self,
        (sender, target): (KeyGroup, &Address),
        message: Message,
        reason: String,
    ) {
        let source = match &message.caller {
            Some(caller) => format!("{caller} to {target}"),
            None => format!("outside to {target}"),
        };
        let letter = DeadLetter {
            id: message.id,
            source,
            caller: message.caller,
            argument: message.argument,
            attempts: 0,
            reason,
            failed_at_ms: self.now_ms,
            egress: None,
            key_group: Some(sender),
            trace: message.trace,
        };
        self.add_dead_letter(None, letter);
    }

    /// The delta that made a message is durable: the message may leave.
    pub(in crate::partition) fn release_message(&mut self, delta: u64, peer: u32, number: Number) {
        let Some(peers) = &mut self.peers else { return };
        let time_ms = peers.time_of(delta).unwrap_or(self.delta_time_ms);
        let facts = self.tables.links.get(peer);
        let message = facts.and_then(|facts| facts.message(number));
        if let (Some(link), Some(message)) = (peers.links.get_mut(&peer), message) {
            link.sender
                .release(number, (), message.bytes() as u64, time_ms);
            link.may_send = true;
        }
    }

    pub(in crate::partition) fn peer_connected(&mut self, peer: u32, connection: u64) {
        let Some(peers) = &mut self.peers else { return };
        let Some(link) = peers.links.get_mut(&peer).filter(|link| !link.is_damaged) else {
            return;
        };
        peers.outgoing.retain(|_, other| *other != peer);
        peers.outgoing.insert(connection, peer);
        link.sender.connected(connection);
        link.may_send = true;
    }

    pub(in crate::partition) fn peer_answered(&mut self, connection: u64, answer: &Answer) {
        let now_ms = self.now_ms;
        let Some(peers) = &mut self.peers else { return };
        let Some(peer) = peers.outgoing.get(&connection).copied() else {
            return;
        };
        let Some(link) = peers.links.get_mut(&peer).filter(|link| !link.is_damaged) else {
            return;
        };
        let reaction = link.sender.answered(connection, answer, now_ms);
        link.may_send = true;
        let closed = link.sender.connection().is_none();
        let cause = match reaction {
            Reaction::Proceed | Reaction::ClocksDiffer => CloseCause::ClocksDiffer,
            Reaction::FormerOwner => CloseCause::FormerOwner,
            Reaction::Acknowledged {
                upto,
                epoch,
                time_ms,
            } => {
                self.acknowledged(peer, Acknowledged { upto, epoch }, time_ms);
                CloseCause::ClocksDiffer
            }
            Reaction::Unmade { taken } => return self.damaged(peer, LinkDamage::Unmade { taken }),
            Reaction::Lost { number } => return self.damaged(peer, LinkDamage::Lost { number }),
        };
        if closed {
            self.outputs.push_back(Output::PeerClose {
                peer,
                connection,
                cause,
            });
            self.peer_disconnected(connection);
        }
    }

    /// Removes the messages that are durable at their receiver.
    fn acknowledged(&mut self, peer: u32, acknowledged: Acknowledged, time_ms: u64) {
        let link = self.tables.links.get_or_new(peer);
        let removed_bytes = link.acknowledge(acknowledged);
        self.subtract_pending(removed_bytes);
        self.mark_changed(Key::Acknowledged { peer });
        self.delta_time_ms = self.delta_time_ms.max(time_ms);
        self.shards_settle();
    }

    /// Stops a link whose sides contradict each other.
    fn damaged(&mut self, peer: u32, damage: LinkDamage) {
        if let Some(peers) = &mut self.peers
            && let Some(link) = peers.links.get_mut(&peer)
        {
            link.is_damaged = true;
        }
        self.outputs.push_back(Output::PeerDamaged { peer, damage });
    }

    pub(super) fn send_frames(&mut self) {
        let (Some(peers), Some(generation)) = (&mut self.peers, &self.config.generation) else {
            return;
        };
        let frame_bytes = self.config.peer_frame_bytes;
        for (peer, link) in &mut peers.links {
            if !std::mem::take(&mut link.may_send) || link.is_damaged {
                continue;
            }
            let Some(facts) = self.tables.links.get(*peer) else {
                continue;
            };
            while let Some(connection) = link.sender.connection()
                && let Some(frame) = link.sender.poll(frame_bytes)
            {
                let messages = (frame.first..=frame.last()).map(|number| {
                    let message = facts.message(number);
                    message
                        .expect("a message stays until it is acknowledged")
                        .clone()
                });
                let frame = Frame {
                    first: frame.first,
                    messages: messages.collect(),
                    time_ms: frame.time_ms,
                };
                self.outputs.push_back(Output::PeerFrame {
                    peer: *peer,
                    connection,
                    generation: generation.number,
                    frame,
                });
            }
        }
    }

    /// Says when the messages to other partitions exceed half of their limit, and when they no
    /// longer do. All ingress of the application waits meanwhile (rule 41).
    pub(super) fn regulate_congestion(&mut self) {
        let bytes = self.tables.links.out_bytes();
        let config = &self.config;
        let limit = config.peer_bytes_max.unwrap_or(config.pending_bytes_max);
        let Some(peers) = &mut self.peers else { return };
        let congested = if peers.is_congested {
            bytes > limit / 8 * 3
        } else {
            bytes > limit / 2
        };
        if congested != peers.is_congested {
            peers.is_congested = congested;
            self.outputs.push_back(Output::Congested(congested));
        }
    }
}
