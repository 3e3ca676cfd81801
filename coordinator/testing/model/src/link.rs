//! Messages from partition s to partition r, each with a change of owner, over connections that
//! break.
//!
//! Two processes can own s, and two r. The second takes over at any time; the first is never told
//! and continues as a former owner, until a commit of its is refused. That includes its death: a
//! former owner that does nothing more. Connections deliver in order; when one breaks, frames on
//! their way may still arrive at the receiver, answers no longer at the sender.

use satchel_engine::link::{
    AHEAD_MAX_MS, Answer, Frame, Intake, Reaction, Receiver, Refusal, Sender,
};
use stateright::{Model, Property};

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Rule 19: a frame beyond the next number is taken, and what is missing is dropped when it
    /// comes.
    TakeBeyond,
    /// Rule 20: a message is acknowledged when it was taken, not when that is durable.
    AcknowledgeTaken,
    /// Rule 21: a message leaves before the delta that made it is durable.
    LeaveEarly,
    /// Rule 45: answers of former owners of the receiver count.
    IgnoreEpoch,
    /// Rule 45: the epoch that acknowledged is not durable with the acknowledgement.
    ForgetEpoch,
}

impl Mutant {
    /// All mutants.
    pub const ALL: [Self; 5] = [
        Self::TakeBeyond,
        Self::AcknowledgeTaken,
        Self::LeaveEarly,
        Self::IgnoreEpoch,
        Self::ForgetEpoch,
    ];
}

/// Size of the world.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// Number of messages.
    pub messages: usize,
    /// Number of connections that are made at most.
    pub connections: u64,
    /// Rule that is left out.
    pub mutant: Option<Mutant>,
}

/// The owner that made a message: its whole content, so that two messages of one number made by two
/// owners differ.
type Content = u8;

/// State of the world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// Durable content of s: the messages made, by number.
    made: Vec<Content>,
    /// Durable content of s: last number acknowledged, and the epoch that did.
    acknowledged: (u64, u64),
    /// Owners that s has had.
    senders: Vec<Option<SenderOwner>>,
    /// Durable content of r: the messages taken, by number.
    taken: Vec<Content>,
    /// Owners that r has had.
    receivers: Vec<Option<ReceiverOwner>>,
    connections: Vec<Connection>,
    /// A frame was refused because its time was ahead of the receiver's. That happens once.
    refused: bool,
    /// A partition said that the other one is damaged.
    damage: bool,
}

/// Owner of s; `None` in its place has noticed that it is a former one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SenderOwner {
    machine: Sender<Content>,
    /// Messages made since the last commit.
    uncommitted: usize,
    /// Acknowledgement since the last commit.
    acknowledged: Option<(u64, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ReceiverOwner {
    machine: Receiver,
    /// Messages taken since the last commit.
    uncommitted: Vec<Content>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Connection {
    from: usize,
    to: usize,
    phase: Phase,
    frames: Vec<Frame<Content>>,
    answers: Vec<Answer>,
}

/// Use of a connection by its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    /// The receiver accepted it; the sender does not know that yet, and uses another one.
    Accepted,
    /// The sender uses it.
    Open,
    /// The sender no longer uses it. Frames on their way may arrive.
    Closed,
}

/// One step. Owners and connections are given by their index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A function of s makes a message for r.
    Make(usize),
    /// An owner of s commits, or learns that it is a former one.
    CommitSender(usize),
    /// The second process takes s over.
    TakeSenderOver,
    /// An owner of r, which an owner of s believes in, accepts a connection and greets.
    Accept(usize, usize),
    /// The sender uses a connection from now on.
    Open(usize),
    /// A connection breaks.
    Break(usize),
    /// An owner of s sends the next frame.
    Send(usize),
    /// The next frame of a connection arrives.
    Frame(usize),
    /// The next frame of a connection arrives, and the receiver's clock is far behind.
    AheadFrame(usize),
    /// The next answer of a connection arrives.
    Answer(usize),
    /// An owner of r commits, or learns that it is a former one.
    CommitReceiver(usize),
    /// The second process takes r over.
    TakeReceiverOver,
}

const CREDIT: u64 = 10;

impl Link {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn commit_sender(&self, world: &mut World, owner: usize) {
        if owner + 1 != world.senders.len() {
            world.senders[owner] = None;
            return;
        }
        let Some(sender) = &mut world.senders[owner] else {
            return;
        };
        for _ in 0..std::mem::take(&mut sender.uncommitted) {
            world.made.push(owner as Content);
            if !self.is(Mutant::LeaveEarly) {
                let number = world.made.len() as u64;
                sender.machine.release(number, owner as Content, 1, 0);
            }
        }
        if let Some(acknowledged) = sender.acknowledged.take() {
            world.acknowledged = acknowledged;
        }
    }

    fn take_sender_over(&self, world: &mut World) {
        let (acknowledged, mut epoch) = world.acknowledged;
        if self.is(Mutant::ForgetEpoch) {
            epoch = 0;
        }
        let mut machine = Sender::start(acknowledged, epoch);
        for (index, content) in world.made.iter().enumerate().skip(acknowledged as usize) {
            machine.release(index as u64 + 1, *content, 1, 0);
        }
        world.senders.push(Some(SenderOwner {
            machine,
            uncommitted: 0,
            acknowledged: None,
        }));
    }

    fn frame(&self, world: &mut World, connection: usize, ahead: bool) {
        let connection = &mut world.connections[connection];
        let mut frame = connection.frames.remove(0);
        if ahead {
            frame.time_ms = AHEAD_MAX_MS + 1;
            world.refused = true;
        }
        let Some(receiver) = &mut world.receivers[connection.to] else {
            return;
        };
        let (first, last) = match receiver.machine.frame(&frame, 0, CREDIT) {
            Intake::Take(numbers) => (*numbers.start(), *numbers.end()),
            Intake::Answer(answer) => {
                let beyond = answer.refused == Some(Refusal::Gap);
                if !(beyond && self.is(Mutant::TakeBeyond)) {
                    if connection.phase != Phase::Closed {
                        connection.answers.push(answer);
                    }
                    return;
                }
                receiver.machine = Receiver::start(answer.epoch, frame.last(), 0);
                (frame.first, frame.last())
            }
        };
        let messages = frame.messages.iter();
        let new = messages.skip((first - frame.first) as usize);
        receiver.uncommitted.extend(new);
        if self.is(Mutant::AcknowledgeTaken) && connection.phase != Phase::Closed {
            let mut answer = receiver.machine.answer(CREDIT);
            answer.durable = last;
            connection.answers.push(answer);
        }
    }

    fn commit_receiver(world: &mut World, owner: usize) {
        if owner + 1 != world.receivers.len() {
            world.receivers[owner] = None;
            return;
        }
        let Some(receiver) = &mut world.receivers[owner] else {
            return;
        };
        world.taken.append(&mut receiver.uncommitted);
        let number = receiver.machine.taken();
        let Some(answer) = receiver.machine.durable(number, 0, CREDIT) else {
            return;
        };
        for connection in &mut world.connections {
            if connection.phase != Phase::Closed && connection.to == owner {
                connection.answers.push(answer);
            }
        }
    }

    fn answer(&self, world: &mut World, index: usize) {
        let connection = &mut world.connections[index];
        let mut answer = connection.answers.remove(0);
        let owner = connection.from;
        let current = owner + 1 == world.senders.len();
        let Some(sender) = &mut world.senders[owner] else {
            return;
        };
        if self.is(Mutant::IgnoreEpoch) {
            // The order of the two owners is lost: the former one looks like the newest.
            answer.epoch = 9 - answer.epoch;
        }
        match sender.machine.answered(index as u64, &answer, 0) {
            Reaction::Proceed => {}
            Reaction::Acknowledged { upto, epoch, .. } => {
                sender.acknowledged = Some((upto, epoch));
            }
            Reaction::FormerOwner | Reaction::ClocksDiffer => close(connection),
            // A former owner of the sender finds out that it is one.
            Reaction::Unmade { .. } if !current => world.senders[owner] = None,
            Reaction::Unmade { .. } => world.damage = true,
            // It asks its log before it says so.
            Reaction::Lost { .. } if !current => world.senders[owner] = None,
            Reaction::Lost { .. } => world.damage = true,
        }
    }
}

fn close(connection: &mut Connection) {
    connection.phase = Phase::Closed;
    connection.answers.clear();
}

impl Model for Link {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let sender = SenderOwner {
            machine: Sender::start(0, 0),
            uncommitted: 0,
            acknowledged: None,
        };
        let receiver = ReceiverOwner {
            machine: Receiver::start(1, 0, 0),
            uncommitted: Vec::new(),
        };
        vec![World {
            made: Vec::new(),
            acknowledged: (0, 0),
            senders: vec![Some(sender)],
            taken: Vec::new(),
            receivers: vec![Some(receiver)],
            connections: Vec::new(),
            refused: false,
            damage: false,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (owner, sender) in world.senders.iter().enumerate() {
            let Some(sender) = sender else { continue };
            let made = sender.machine.released() as usize
                + if self.is(Mutant::LeaveEarly) {
                    0
                } else {
                    sender.uncommitted
                };
            if made < self.messages {
                actions.push(Action::Make(owner));
            }
            if sender.uncommitted > 0 || sender.acknowledged.is_some() {
                actions.push(Action::CommitSender(owner));
            }
            if (world.connections.len() as u64) < self.connections {
                for to in 0..world.receivers.len() {
                    if world.receivers[to].is_some() {
                        actions.push(Action::Accept(owner, to));
                    }
                }
            }
            if sender.machine.clone().poll(1).is_some() {
                actions.push(Action::Send(owner));
            }
        }
        if world.senders.len() < 2 {
            actions.push(Action::TakeSenderOver);
        }
        for (index, connection) in world.connections.iter().enumerate() {
            match connection.phase {
                Phase::Accepted => actions.push(Action::Open(index)),
                Phase::Open => actions.push(Action::Break(index)),
                Phase::Closed => {}
            }
            if !connection.frames.is_empty() {
                actions.push(Action::Frame(index));
                if !world.refused {
                    actions.push(Action::AheadFrame(index));
                }
            }
            if connection.phase == Phase::Open && !connection.answers.is_empty() {
                actions.push(Action::Answer(index));
            }
        }
        for (owner, receiver) in world.receivers.iter().enumerate() {
            if receiver
                .as_ref()
                .is_some_and(|one| !one.uncommitted.is_empty())
            {
                actions.push(Action::CommitReceiver(owner));
            }
        }
        if world.receivers.len() < 2 {
            actions.push(Action::TakeReceiverOver);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut world = world.clone();
        match action {
            Action::Make(owner) => {
                let sender = world.senders[owner].as_mut()?;
                sender.uncommitted += 1;
                if self.is(Mutant::LeaveEarly) {
                    let number = sender.machine.released() + 1;
                    sender.machine.release(number, owner as Content, 1, 0);
                }
            }
            Action::CommitSender(owner) => self.commit_sender(&mut world, owner),
            Action::TakeSenderOver => self.take_sender_over(&mut world),
            Action::Accept(from, to) => {
                let greeting = world.receivers[to].as_ref()?.machine.answer(CREDIT);
                world.connections.push(Connection {
                    from,
                    to,
                    phase: Phase::Accepted,
                    frames: Vec::new(),
                    answers: vec![greeting],
                });
            }
            Action::Open(index) => {
                let from = world.connections[index].from;
                for connection in &mut world.connections {
                    if connection.from == from && connection.phase == Phase::Open {
                        close(connection);
                    }
                }
                world.connections[index].phase = Phase::Open;
                let sender = world.senders[from].as_mut()?;
                sender.machine.connected(index as u64);
            }
            Action::Break(index) => {
                let connection = &mut world.connections[index];
                close(connection);
                if let Some(sender) = &mut world.senders[connection.from] {
                    sender.machine.disconnected(index as u64);
                }
            }
            Action::Send(owner) => {
                let frame = world.senders[owner].as_mut()?.machine.poll(1)?;
                let mut connections = world.connections.iter_mut();
                let used = connections.find(|one| one.from == owner && one.phase == Phase::Open)?;
                used.frames.push(frame);
            }
            Action::Frame(index) => self.frame(&mut world, index, false),
            Action::AheadFrame(index) => self.frame(&mut world, index, true),
            Action::Answer(index) => self.answer(&mut world, index),
            Action::CommitReceiver(owner) => Self::commit_receiver(&mut world, owner),
            Action::TakeReceiverOver => {
                let epoch = world.receivers.len() as u64 + 1;
                let taken = world.taken.len() as u64;
                world.receivers.push(Some(ReceiverOwner {
                    machine: Receiver::start(epoch, taken, 0),
                    uncommitted: Vec::new(),
                }));
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "each message is taken once, in order",
                |_, world: &World| world.made.starts_with(&world.taken),
            ),
            Property::always("what was acknowledged is durable", |_, world: &World| {
                world.acknowledged.0 <= world.taken.len() as u64
            }),
            Property::always("nothing is called damaged", |_, world: &World| {
                !world.damage
            }),
            Property::sometimes(
                "all messages are acknowledged",
                |link: &Self, world: &World| world.acknowledged.0 as usize == link.messages,
            ),
            Property::sometimes(
                "all are, over two owners of each side",
                |link: &Self, world: &World| {
                    world.acknowledged.0 as usize == link.messages
                        && world.senders.len() == 2
                        && world.receivers.len() == 2
                },
            ),
        ]
    }
}
