//! Connections between partitions: over memory within this process, over streams to others.
//!
//! ```text
//!  partition 0 ──PeerFrame──► Switch ──Input::PeerFrame────► partition 1
//!       ▲                     │    ▲                            │
//!       └─Input::PeerAnswered─┴◄───┼────PeerAnswer──────────────┘
//!                             │    │
//!                    frames of a stream, answers (`peer`)
//! ```
//!
//! Each ordered pair of partitions has one connection, made by the sender of the frames. Frames go
//! through the receiver's queue of facts, or over a stream to the process of the receiver. The
//! credit that the receiver gives bounds them.

mod wakefulness;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use satchel_engine::durable::frames::{encode_answer, encode_frame};
use satchel_engine::input::Input;
use satchel_engine::link::{Answer, CloseCause, Frame, LinkDamage};
use satchel_engine::message::PeerMessage;
use satchel_engine::output::Output;
use tokio::sync::{mpsc, watch};

use self::wakefulness::Wakefulness;
use super::inboxes::Inboxes;

/// Time after which a closed connection is made again.
const CONNECTS_AGAIN: Duration = Duration::from_secs(1);

/// Time in which a former owner of a partition is ended by the log.
const FENCED_WITHIN: Duration = Duration::from_secs(10);

/// Carries frames and answers between the partitions of a process, and between them and others.
/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Switch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    inboxes: Inboxes,
    connections: Mutex<Connections>,
    /// True while a partition of this process is congested.
    congested: watch::Sender<bool>,
    wakefulness: Wakefulness,
}

#[derive(Debug, Default)]
struct Connections {
    last: u64,
    /// Present life of each partition that runs here, or starts.
    lives: HashMap<u32, u64>,
    /// Partitions that are connected in this process.
    present: BTreeSet<u32>,
    open: HashMap<u64, Connection>,
    /// Partitions that say that too many messages wait there for others.
    congested: BTreeSet<u32>,
    /// True while a partition of another process says so.
    congested_elsewhere: bool,
}

/// Connection of a pair of partitions.
#[derive(Debug)]
struct Connection {
    pair: Pair,
    over: Over,
}

/// Carrier of a connection.
#[derive(Debug)]
enum Over {
    /// Memory: both partitions run in this process.
    Memory,
    /// Stream to the process of the receiver, which gets these frames.
    Frames(StreamSide),
    /// Stream from the process of the sender, which gets these answers.
    Answers(StreamSide),
}

/// Sender and receiver of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) from: u32,
    pub(crate) to: u32,
}

/// Side of a stream on which this process speaks. The other process sees its end when the
/// connection is closed.
pub(crate) type StreamSide = mpsc::UnboundedSender<Bytes>;

impl Connections {
    fn add(&mut self, pair: Pair, over: Over) -> u64 {
        self.last += 1;
        self.open.insert(self.last, Connection { pair, over });
        self.last
    }

    fn is_congested(&self) -> bool {
        self.congested_elsewhere || !self.congested.is_empty()
    }
}

impl Switch {
    /// Creates the switch of partitions that receive from `inboxes`. Nothing is connected yet.
    pub(super) fn new(inboxes: Inboxes) -> Self {
        Self(Arc::new(Inner {
            inboxes,
            connections: Mutex::default(),
            congested: watch::Sender::new(false),
            wakefulness: Wakefulness::default(),
        }))
    }

    /// Connects a partition of this process, which serves, with the others of this process.
    pub(super) fn arrive(&self, partition: u32) {
        let others = {
            let mut connections = self.connections();
            let others = connections.present.clone();
            connections.present.insert(partition);
            if connections.is_congested() {
                self.send(partition, Input::ApplicationCongested(true));
            }
            others
        };
        for other in others {
            for (from, to) in [(partition, other), (other, partition)] {
                self.connect(Pair { from, to });
            }
        }
    }

    /// Closes the connections of a partition that leaves this process.
    pub(super) fn leave(&self, partition: u32) {
        let closed: Vec<(u64, Connection)> = {
            let mut connections = self.connections();
            connections.lives.remove(&partition);
            connections.present.remove(&partition);
            let of = |pair: Pair| pair.from == partition || pair.to == partition;
            let closed = connections.open.extract_if(|_, it| of(it.pair));
            closed.collect()
        };
        for (connection, Connection { pair, over }) in closed {
            let Pair { from, to } = pair;
            if matches!(over, Over::Memory) {
                let other = if from == partition { to } else { from };
                self.send(other, Input::PeerDisconnected { connection });
            }
        }
        self.set_congested(|connections| {
            connections.congested.remove(&partition);
        });
    }

    /// Returns the port of a partition that starts. The port of a former life of it, whose loop
    /// may still end, does nothing any more.
    pub(super) fn port(&self, own: u32) -> PeerPort {
        let mut connections = self.connections();
        connections.last += 1;
        let life = connections.last;
        connections.lives.insert(own, life);
        drop(connections);
        PeerPort {
            switch: self.clone(),
            own,
            life,
        }
    }

    /// Connects two partitions of this process, if both are still here.
    fn connect(&self, pair: Pair) {
        let Pair { from, to } = pair;
        let connection = {
            let mut connections = self.connections();
            if !(connections.present.contains(&from) && connections.present.contains(&to)) {
                return;
            }
            connections.add(pair, Over::Memory)
        };
        // The sender knows the connection before the receiver greets it: an answer over one that is
        // unknown is lost, and the greeting gives the credit.
        let peer = to;
        self.send(from, Input::PeerConnected { peer, connection });
        let peer = from;
        self.send(to, Input::PeerAccepted { peer, connection });
    }

    /// Opens the sender's side of a stream, which carries `frames`. Returns the number of the
    /// connection, or none if the sender is not in this process, or the receiver is.
    pub(crate) fn open_outgoing(&self, pair: Pair, frames: StreamSide) -> Option<u64> {
        if self.connections().present.contains(&pair.to) {
            // They are connected over memory. The owner that the routes name is a former one.
            return None;
        }
        let connection = self.open(pair.from, pair, Over::Frames(frames))?;
        let peer = pair.to;
        self.send(pair.from, Input::PeerConnected { peer, connection });
        Some(connection)
    }

    /// Opens the receiver's side of a stream, which carries `answers`. Returns the number of the
    /// connection, or none if the receiver is not in this process.
    pub(crate) fn open_incoming(&self, pair: Pair, answers: StreamSide) -> Option<u64> {
        let connection = self.open(pair.to, pair, Over::Answers(answers))?;
        let peer = pair.from;
        self.send(pair.to, Input::PeerAccepted { peer, connection });
        Some(connection)
    }

    fn open(&self, own: u32, pair: Pair, over: Over) -> Option<u64> {
        let mut connections = self.connections();
        let is_here = connections.present.contains(&own);
        is_here.then(|| connections.add(pair, over))
    }

    /// Hands a frame that came over a stream to its receiver.
    pub(crate) fn frame_arrived(
        &self,
        connection: u64,
        (generation, frame): (u64, Frame<PeerMessage>),
    ) {
        if !self.0.wakefulness.is_certain() {
            // Its sender sends it again.
            return;
        }
        if let Some(Pair { to, .. }) = self.pair(connection) {
            let arrived = Input::PeerFrame {
                connection,
                generation,
                frame,
            };
            self.send(to, arrived);
        }
    }

    /// Hands an answer that came over a stream to the sender of the frames.
    pub(crate) fn answer_arrived(&self, connection: u64, answer: Answer) {
        if let Some(Pair { from, .. }) = self.pair(connection) {
            self.send(from, Input::PeerAnswered { connection, answer });
        }
    }

    /// Reports that a stream has ended.
    pub(crate) fn stream_ended(&self, connection: u64) {
        let closed = self.connections().open.remove(&connection);
        if let Some(Connection { pair, over }) = closed {
            let own = match over {
                Over::Answers(_) => pair.to,
                Over::Frames(_) | Over::Memory => pair.from,
            };
            self.send(own, Input::PeerDisconnected { connection });
        }
    }

    /// Notes that the process is awake. A time of `patience_ms` without this counts as a sleep,
    /// after which frames of other processes are ignored until [`Self::confirm`].
    pub(crate) fn beat(&self, patience_ms: u64) {
        self.0.wakefulness.beat(patience_ms);
    }

    /// Notes that this process knows which partitions it has, by a read that began at this boot
    /// time.
    pub(crate) fn confirm(&self, begun_ms: u64) {
        self.0.wakefulness.confirm(begun_ms);
    }

    /// Congestion of any partition of this process, now and later.
    pub(crate) fn congested(&self) -> watch::Receiver<bool> {
        self.0.congested.subscribe()
    }

    /// Notes whether a partition of another process is congested.
    pub(crate) fn set_congested_elsewhere(&self, congested: bool) {
        self.set_congested(|connections| connections.congested_elsewhere = congested);
    }

    /// Changes what is congested, and tells all partitions if that changes the application.
    fn set_congested(&self, change: impl FnOnce(&mut Connections)) {
        let mut connections = self.connections();
        let before = connections.is_congested();
        change(&mut connections);
        let own = !connections.congested.is_empty();
        self.0.congested.send_if_modified(|known| {
            let changed = *known != own;
            *known = own;
            changed
        });
        let now = connections.is_congested();
        if before != now {
            // Under the lock, so that no partition gets two changes in the wrong order.
            for partition in &connections.present {
                self.send(*partition, Input::ApplicationCongested(now));
            }
        }
    }

    /// Number of open connections of each partition of this process to and from others.
    #[cfg(test)]
    fn open_connections(&self) -> usize {
        self.connections().open.len()
    }

    fn send(&self, partition: u32, input: Input) {
        self.0.inboxes.send(partition, input);
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        // Nothing here panics between two changes that belong together.
        let connections = self.0.connections.lock();
        connections.unwrap_or_else(PoisonError::into_inner)
    }

    fn pair(&self, connection: u64) -> Option<Pair> {
        let connections = self.connections();
        connections.open.get(&connection).map(|it| it.pair)
    }
}

/// Port of one partition to the others.
#[derive(Debug, Clone)]
pub(crate) struct PeerPort {
    switch: Switch,
    own: u32,
    life: u64,
}

impl PeerPort {
    /// Performs an output of the partition that concerns others.
    pub(super) fn perform(&self, output: Output) {
        if !self.is_present() {
            return;
        }
        match output {
            Output::PeerFrame {
                connection,
                generation,
                frame,
                ..
            } => self.frame(connection, generation, frame),
            Output::PeerAnswer {
                connection, answer, ..
            } => self.answer(connection, answer),
            Output::PeerClose {
                connection, cause, ..
            } => self.close(connection, cause),
            Output::PeerDamaged { peer, damage } => self.damaged(peer, damage),
            Output::Congested(congested) => self.congested(congested),
            other => unreachable!("it concerns no other partition: {other:?}"),
        }
    }

    fn is_present(&self) -> bool {
        let connections = self.switch.connections();
        connections.lives.get(&self.own) == Some(&self.life)
    }

    /// Sends a frame over a connection that the partition made. A frame over a closed connection is
    /// lost, as over a network. The sender sends it again.
    fn frame(&self, connection: u64, generation: u64, frame: Frame<PeerMessage>) {
        let (pair, stream) = match self.switch.connections().open.get(&connection) {
            Some(Connection { pair, over }) if pair.from == self.own => match over {
                Over::Memory => (*pair, None),
                Over::Frames(stream) => (*pair, Some(stream.clone())),
                Over::Answers(_) => return,
            },
            _ => return,
        };
        match stream {
            // A stream that has ended reports that itself.
            Some(stream) => drop(stream.send(encode_frame(generation, &frame).into())),
            None => {
                let arrived = Input::PeerFrame {
                    connection,
                    generation,
                    frame,
                };
                self.switch.send(pair.to, arrived);
            }
        }
    }

    /// Answers frames that came over a connection.
    fn answer(&self, connection: u64, answer: Answer) {
        let (pair, stream) = match self.switch.connections().open.get(&connection) {
            Some(Connection { pair, over }) if pair.to == self.own => match over {
                Over::Memory => (*pair, None),
                Over::Answers(stream) => (*pair, Some(stream.clone())),
                Over::Frames(_) => return,
            },
            _ => return,
        };
        match stream {
            Some(stream) => drop(stream.send(encode_answer(&answer).into())),
            None => {
                let answered = Input::PeerAnswered { connection, answer };
                self.switch.send(pair.from, answered);
            }
        }
    }

    /// Closes a connection. Its maker connects again after a while.
    fn close(&self, connection: u64, cause: CloseCause) {
        let Some(closed) = self.switch.connections().open.remove(&connection) else {
            return;
        };
        let Pair { from, to } = closed.pair;
        tracing::warn!(from, to, ?cause, "connection between partitions closed");
        if !matches!(closed.over, Over::Memory) {
            // The end of what this process says ends the stream.
            return;
        }
        let other = if from == self.own { to } else { from };
        self.switch
            .send(other, Input::PeerDisconnected { connection });
        let switch = self.switch.clone();
        tokio::spawn(async move {
            tokio::time::sleep(CONNECTS_AGAIN).await;
            switch.connect(closed.pair);
        });
    }

    /// Reports a contradiction between this partition and another one, unless this owner turns out
    /// to be a former one: the log ends it soon.
    fn damaged(&self, peer: u32, damage: LinkDamage) {
        let port = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(FENCED_WITHIN).await;
            if !port.is_present() {
                return;
            }
            let partition = port.own;
            tracing::error!(
                partition,
                peer,
                ?damage,
                "two partitions contradict each other; messages between them wait: run `satchel \
                 verify`"
            );
        });
    }

    /// Notes whether too many messages wait at this partition for others.
    fn congested(&self, congested: bool) {
        self.switch.set_congested(|connections| {
            if connections.lives.get(&self.own) != Some(&self.life) {
                // It has left meanwhile.
            } else if congested {
                connections.congested.insert(self.own);
            } else {
                connections.congested.remove(&self.own);
            }
        });
    }
}

#[cfg(test)]
mod tests;
