//! Connections between the partitions of one process, over memory.
//!
//! ```text
//!  partition 0 ──PeerFrame──► Switch ──Input::PeerFrame────► partition 1
//!       ▲                       │                               │
//!       └──Input::PeerAnswered──┴◄─────────PeerAnswer───────────┘
//! ```
//!
//! Each ordered pair of partitions has one connection, made by the sender of the frames. Frames go
//! through the receiver's queue of facts. The credit that the receiver gives bounds them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use satchel_engine::input::Input;
use satchel_engine::link::{Answer, CloseCause, Frame, LinkDamage};
use satchel_engine::message::PeerMessage;
use satchel_engine::output::Output;
use tokio::sync::mpsc;

/// Time after which a closed connection is made again.
const CONNECTS_AGAIN: Duration = Duration::from_secs(1);

/// Carries frames and answers between the partitions of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Switch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Queues of the partitions, by number.
    inputs: Vec<mpsc::UnboundedSender<Input>>,
    connections: Mutex<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    last: u64,
    /// Sender and receiver of the frames of each connection.
    pairs: HashMap<u64, Pair>,
    /// Partitions that say that too many messages wait there for others.
    congested: BTreeSet<u32>,
}

/// Sender and receiver of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    from: u32,
    to: u32,
}

impl Switch {
    /// Creates the switch of partitions that receive from `inputs`. Nothing is connected yet.
    pub(super) fn new(inputs: Vec<mpsc::UnboundedSender<Input>>) -> Self {
        Self(Arc::new(Inner {
            inputs,
            connections: Mutex::default(),
        }))
    }

    /// Connects every partition to every other one.
    pub(super) fn connect_all(&self) {
        let numbers = || 0..self.0.inputs.len() as u32;
        for from in numbers() {
            for to in numbers().filter(|to| *to != from) {
                self.connect(Pair { from, to });
            }
        }
    }

    /// Returns the port of one partition.
    pub(super) fn port(&self, own: u32) -> PeerPort {
        PeerPort {
            switch: self.clone(),
            own,
        }
    }

    fn connect(&self, pair: Pair) {
        let connection = {
            let mut connections = self.connections();
            connections.last += 1;
            let connection = connections.last;
            connections.pairs.insert(connection, pair);
            connection
        };
        let Pair { from, to } = pair;
        // The receiver learns of the connection before the sender can use it.
        let peer = from;
        self.send(to, Input::PeerAccepted { peer, connection });
        let peer = to;
        self.send(from, Input::PeerConnected { peer, connection });
    }

    fn send(&self, partition: u32, input: Input) {
        if let Some(inputs) = self.0.inputs.get(partition as usize) {
            // A partition that has stopped expects no more inputs.
            let _ = inputs.send(input);
        }
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        // Nothing here panics between two changes that belong together.
        let connections = self.0.connections.lock();
        connections.unwrap_or_else(PoisonError::into_inner)
    }

    fn pair(&self, connection: u64) -> Option<Pair> {
        self.connections().pairs.get(&connection).copied()
    }
}

/// Port of one partition to the others.
#[derive(Debug, Clone)]
pub(crate) struct PeerPort {
    switch: Switch,
    own: u32,
}

impl PeerPort {
    /// Performs an output of the partition that concerns others.
    pub(super) fn perform(&self, output: Output) {
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

    /// Sends a frame over a connection that the partition made.
    fn frame(&self, connection: u64, generation: u64, frame: Frame<PeerMessage>) {
        let pair = self.switch.pair(connection);
        // A frame over a closed connection is lost, as over a network. The sender sends it again.
        if let Some(Pair { to, .. }) = pair.filter(|pair| pair.from == self.own) {
            let arrived = Input::PeerFrame {
                connection,
                generation,
                frame,
            };
            self.switch.send(to, arrived);
        }
    }

    /// Answers frames that came over a connection.
    fn answer(&self, connection: u64, answer: Answer) {
        let pair = self.switch.pair(connection);
        if let Some(Pair { from, .. }) = pair.filter(|pair| pair.to == self.own) {
            let answered = Input::PeerAnswered { connection, answer };
            self.switch.send(from, answered);
        }
    }

    /// Closes a connection. Its maker connects again after a while.
    fn close(&self, connection: u64, cause: CloseCause) {
        let Some(pair) = self.switch.connections().pairs.remove(&connection) else {
            return;
        };
        let Pair { from, to } = pair;
        tracing::warn!(from, to, ?cause, "connection between partitions closed");
        let other = if from == self.own { to } else { from };
        self.switch
            .send(other, Input::PeerDisconnected { connection });
        let switch = self.switch.clone();
        tokio::spawn(async move {
            tokio::time::sleep(CONNECTS_AGAIN).await;
            switch.connect(pair);
        });
    }

    /// Reports a contradiction between this partition and another one.
    fn damaged(&self, peer: u32, damage: LinkDamage) {
        let partition = self.own;
        tracing::error!(
            partition,
            peer,
            ?damage,
            "two partitions contradict each other; messages between them wait: run `satchel verify`"
        );
    }

    /// Notes whether too many messages wait at this partition for others, and tells all partitions
    /// if that changes the application.
    fn congested(&self, congested: bool) {
        let mut connections = self.switch.connections();
        let before = !connections.congested.is_empty();
        if congested {
            connections.congested.insert(self.own);
        } else {
            connections.congested.remove(&self.own);
        }
        let now = !connections.congested.is_empty();
        if before != now {
            // Under the lock, so that no partition gets two changes in the wrong order.
            for partition in 0..self.switch.0.inputs.len() as u32 {
                self.switch
                    .send(partition, Input::ApplicationCongested(now));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Queues = Vec<mpsc::UnboundedReceiver<Input>>;

    fn switch(partitions: u32) -> (Switch, Queues) {
        let queues = (0..partitions).map(|_| mpsc::unbounded_channel());
        let (inputs, queues) = queues.unzip();
        (Switch::new(inputs), queues)
    }

    fn waiting(queue: &mut mpsc::UnboundedReceiver<Input>) -> Vec<Input> {
        std::iter::from_fn(|| queue.try_recv().ok()).collect()
    }

    fn answer() -> Answer {
        Answer {
            epoch: 1,
            taken: 0,
            durable: 0,
            time_ms: 0,
            refused: None,
            credit: 1,
        }
    }

    fn frame() -> Frame<PeerMessage> {
        Frame {
            first: 1,
            messages: Vec::new(),
            time_ms: 5,
        }
    }

    #[test]
    fn each_pair_is_connected_in_both_directions_and_the_receiver_knows_it_first() {
        let (switch, mut queues) = switch(2);
        switch.connect_all();
        let connected = |peer, connection| Input::PeerConnected { peer, connection };
        let accepted = |peer, connection| Input::PeerAccepted { peer, connection };
        assert_eq!(waiting(&mut queues[0]), [connected(1, 1), accepted(1, 2)]);
        assert_eq!(waiting(&mut queues[1]), [accepted(0, 1), connected(0, 2)]);
    }

    #[test]
    fn frames_go_from_the_maker_of_a_connection_and_answers_come_back() {
        let (switch, mut queues) = switch(2);
        switch.connect_all();
        queues.iter_mut().for_each(|queue| drop(waiting(queue)));
        let ports = [switch.port(0), switch.port(1)];
        ports[0].frame(1, 1, frame());
        ports[1].answer(1, answer());
        // Not over a connection of the other direction, or one that is unknown.
        ports[0].frame(2, 1, frame());
        ports[0].answer(1, answer());
        ports[0].frame(9, 1, frame());
        let arrived = Input::PeerFrame {
            connection: 1,
            generation: 1,
            frame: frame(),
        };
        let answered = Input::PeerAnswered {
            connection: 1,
            answer: answer(),
        };
        assert_eq!(waiting(&mut queues[0]), [answered]);
        assert_eq!(waiting(&mut queues[1]), [arrived]);
    }

    #[tokio::test]
    async fn a_closed_connection_carries_nothing_and_is_made_again() {
        let (switch, mut queues) = switch(2);
        switch.connect_all();
        queues.iter_mut().for_each(|queue| drop(waiting(queue)));
        switch.port(1).close(1, CloseCause::ClocksDiffer);
        switch.port(1).close(1, CloseCause::ClocksDiffer);
        switch.port(0).frame(1, 1, frame());
        let gone = Input::PeerDisconnected { connection: 1 };
        assert_eq!(waiting(&mut queues[0]), [gone]);
        assert_eq!(waiting(&mut queues[1]), []);
        let again = Input::PeerConnected {
            peer: 1,
            connection: 3,
        };
        assert_eq!(queues[0].recv().await, Some(again));
    }

    #[test]
    fn congestion_is_told_to_all_while_any_partition_has_it() {
        let (switch, mut queues) = switch(3);
        switch.port(0).congested(true);
        switch.port(2).congested(true);
        switch.port(0).congested(false);
        assert_eq!(waiting(&mut queues[1]), [Input::ApplicationCongested(true)]);
        switch.port(2).congested(false);
        for queue in &mut queues {
            assert_eq!(
                waiting(queue).last(),
                Some(&Input::ApplicationCongested(false))
            );
        }
    }
}
