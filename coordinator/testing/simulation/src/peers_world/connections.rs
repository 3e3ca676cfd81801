//! Connections between owners. One delivers in order until it breaks. Frames on their way may then
//! still arrive, answers no longer.

use satchel_engine::input::Input;
use satchel_engine::link::{Answer, Frame};
use satchel_engine::message::{IdSource, Message, MessageId, PeerMessage};
use satchel_engine::placement::KeyGroup;

use super::functions::address;
use super::{Event, GENERATION, PeersWorld};
use crate::functions::text;
use crate::process::ProcessId;

/// Names a connection of a run.
pub(super) type ConnectionId = u64;

/// A connection that one owner made to another.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) from: ProcessId,
    pub(super) to: ProcessId,
    /// Partition that sends the frames.
    pub(super) sender: u32,
    /// Partition that takes them.
    pub(super) receiver: u32,
    is_broken: bool,
    /// True once an end knows that it is broken: that which made it, and the other one.
    noticed: [bool; 2],
    /// Time of the last frame's arrival, and of the last answer's, in ms.
    last_ms: [u64; 2],
}

const FRAMES: usize = 0;
const ANSWERS: usize = 1;

impl PeersWorld {
    /// Connects an owner to the owner of another partition, or at times to a former one.
    pub(super) fn connects(&mut self, id: ProcessId, receiver: u32) {
        let Some(owner) = self.owners.get_mut(&id) else {
            return;
        };
        owner.connecting.remove(&receiver);
        let sender = owner.partition;
        if owner.serving().is_none() {
            return;
        }
        let serving = self
            .owners
            .iter()
            .filter(|(_, other)| other.partition == receiver && other.is_serving());
        let mut serving: Vec<ProcessId> = serving.map(|(id, _)| *id).collect();
        serving.sort_by_key(|id| std::cmp::Reverse(self.owners[id].epoch()));
        let astray = self.random.chance(self.plan.astray);
        let found = match astray {
            true => serving.last(),
            false => serving.first(),
        };
        let Some(to) = found.copied() else {
            self.connect_later(id, receiver);
            return;
        };
        let connection = self.next_connection;
        self.next_connection += 1;
        self.record(|| {
            format!("connection {connection} from {id} ({sender}) to {to} ({receiver})")
        });
        self.report.peer_connections += 1;
        let now_ms = self.timeline.now_ms();
        self.connections.insert(
            connection,
            Connection {
                from: id,
                to,
                sender,
                receiver,
                is_broken: false,
                noticed: [false; 2],
                last_ms: [now_ms; 2],
            },
        );
        let there_ms = now_ms + 1 + self.random.below(self.plan.network_max_ms);
        let back_ms = there_ms + 1 + self.random.below(self.plan.network_max_ms);
        let accepted = Input::PeerAccepted {
            peer: sender,
            connection,
        };
        self.timeline.at(there_ms, Event::Notify(to, accepted));
        self.timeline.at(back_ms, Event::Connected(connection));
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.last_ms = [back_ms; 2];
        }
        if let Some(owner) = self.owners.get_mut(&id) {
            owner.outgoing.insert(receiver, connection);
        }
    }

    pub(super) fn connected(&mut self, connection: ConnectionId) {
        let Some(found) = self.connections.get(&connection) else {
            return;
        };
        if !found.is_broken {
            let (id, peer) = (found.from, found.receiver);
            self.notify(id, Input::PeerConnected { peer, connection });
        }
    }

    /// Connects an owner after a while.
    pub(super) fn connect_later(&mut self, id: ProcessId, receiver: u32) {
        let Some(owner) = self.owners.get_mut(&id) else {
            return;
        };
        if owner.connecting.insert(receiver) {
            let delay_ms = 20 + self.random.below(400);
            self.timeline.after(delay_ms, Event::Connects(id, receiver));
        }
    }

    /// A partition has a new owner, and those of the others find out.
    pub(super) fn announce_owner(&mut self, partition: u32) {
        let others = self.owners.iter();
        let others = others.filter(|(_, owner)| owner.partition != partition);
        let others: Vec<ProcessId> = others.map(|(id, _)| *id).collect();
        for id in others {
            self.connect_later(id, partition);
        }
    }

    /// Sends a frame: it arrives, is lost, or arrives twice.
    pub(super) fn send_frame(
        &mut self,
        connection: ConnectionId,
        generation: u64,
        frame: Frame<PeerMessage>,
    ) {
        if self.random.chance(self.plan.lost) {
            // What follows it may still arrive.
            let delay_ms = self.random.below(600);
            self.timeline.after(delay_ms, Event::Breaks(connection));
            return;
        }
        let Some(at_ms) = self.arrival(connection, FRAMES) else {
            return;
        };
        if self.random.chance(self.plan.doubled) {
            let again = Event::Frame(connection, generation, frame.clone());
            self.timeline.at(at_ms, again);
        }
        self.send_foreign(connection, at_ms, &frame);
        self.timeline
            .at(at_ms, Event::Frame(connection, generation, frame));
    }

    /// At times sends a frame that names another generation, of a process that woke up after a
    /// change of the map. Its messages were never sent in this one.
    fn send_foreign(&mut self, connection: ConnectionId, at_ms: u64, frame: &Frame<PeerMessage>) {
        if !self.random.chance(self.plan.foreign) {
            return;
        }
        let target = frame.messages[0].target.clone();
        let target = address("account", target.id);
        let argument = text("take 1000000");
        let id = MessageId::derive(IdSource::Request(&[7; 16]), &argument);
        let stray = PeerMessage {
            sender: KeyGroup(0),
            target,
            message: Message {
                id,
                caller: None,
                argument,
                correction: None,
                trace: None,
                headers: None,
            },
        };
        let stray = Frame {
            first: frame.first,
            messages: vec![stray],
            time_ms: frame.time_ms,
        };
        self.timeline
            .at(at_ms, Event::Frame(connection, GENERATION - 1, stray));
    }

    pub(super) fn send_answer(&mut self, connection: ConnectionId, answer: Answer) {
        if let Some(at_ms) = self.arrival(connection, ANSWERS) {
            self.timeline.at(at_ms, Event::Answer(connection, answer));
        }
    }

    /// Returns the time at which something sent now arrives, which is not before what was sent
    /// earlier.
    fn arrival(&mut self, connection: ConnectionId, direction: usize) -> Option<u64> {
        let latency_ms = 1 + self.random.below(self.plan.network_max_ms);
        let at_ms = self.timeline.now_ms() + latency_ms;
        let found = self.connections.get_mut(&connection)?;
        if found.is_broken {
            return None;
        }
        let last_ms = &mut found.last_ms[direction];
        *last_ms = at_ms.max(*last_ms);
        Some(*last_ms)
    }

    pub(super) fn frame_arrives(
        &mut self,
        connection: ConnectionId,
        generation: u64,
        frame: Frame<PeerMessage>,
    ) {
        let Some(found) = self.connections.get(&connection) else {
            return;
        };
        if found.noticed[1] {
            return;
        }
        let to = found.to;
        self.report.peer_messages += frame.messages.len() as u64;
        let (generation, frame) = self.mutate_frame(connection, generation, frame);
        let time_ms = frame.time_ms;
        let frame = Input::PeerFrame {
            connection,
            generation,
            frame,
        };
        self.notify(to, frame);
        self.mutate_after_frame(connection, time_ms);
    }

    pub(super) fn answer_arrives(&mut self, connection: ConnectionId, answer: Answer) {
        let Some(found) = self.connections.get(&connection) else {
            return;
        };
        if !found.is_broken {
            let from = found.from;
            let answer = self.mutate_answer(answer);
            self.notify(from, Input::PeerAnswered { connection, answer });
        }
    }

    /// Breaks a connection chosen at random.
    pub(super) fn break_one(&mut self) {
        let whole = self.connections.iter();
        let whole = whole.filter(|(_, connection)| !connection.is_broken);
        let whole: Vec<ConnectionId> = whole.map(|(id, _)| *id).collect();
        if !whole.is_empty() {
            let chosen = self.random.below(whole.len() as u64) as usize;
            self.breaks(whole[chosen]);
        }
    }

    /// Breaks a connection. Each end notices it in its own time.
    pub(super) fn breaks(&mut self, connection: ConnectionId) {
        let Some(found) = self.connections.get_mut(&connection) else {
            return;
        };
        if std::mem::replace(&mut found.is_broken, true) {
            return;
        }
        let (from, to) = (found.from, found.to);
        self.record(|| format!("connection {connection} breaks"));
        for id in [from, to] {
            let delay_ms = self.random.below(300);
            self.timeline
                .after(delay_ms, Event::Notices(connection, id));
        }
    }

    pub(super) fn notices_break(&mut self, connection: ConnectionId, id: ProcessId) {
        let Some(found) = self.connections.get_mut(&connection) else {
            return;
        };
        let (from, receiver) = (found.from, found.receiver);
        found.noticed[usize::from(id != from)] = true;
        self.notify(id, Input::PeerDisconnected { connection });
        let Some(owner) = self.owners.get_mut(&id) else {
            return;
        };
        if id == from && owner.outgoing.get(&receiver) == Some(&connection) {
            owner.outgoing.remove(&receiver);
            self.connect_later(id, receiver);
        }
    }

    /// Breaks all connections of an owner that has ended.
    pub(super) fn break_all_of(&mut self, id: ProcessId) {
        let own = self.connections.iter();
        let own = own.filter(|(_, connection)| connection.from == id || connection.to == id);
        let own: Vec<ConnectionId> = own.map(|(connection, _)| *connection).collect();
        for connection in own {
            self.breaks(connection);
        }
    }
}
