//! Two partitions, and what passes between them.

use super::super::fixture::*;
use crate::durable::{Change, Key};
use crate::endpoint::OnPoison;
use crate::input::Input;
use crate::link::{Answer as LinkAnswer, CloseCause, Frame};
use crate::message::PeerMessage;
use crate::output::{Delta, Output};
use crate::partition::{Config, Generation};
use crate::placement::{PartitionMap, Placement};
use satchel_protocol::reqreply::from_function::InvocationResponse;

pub(in crate::partition::tests) const KEY_GROUPS: u16 = 16;
pub(in crate::partition::tests) const PLACEMENT: Placement = Placement::id_md5(KEY_GROUPS, false);
pub(in crate::partition::tests) const GENERATION: u64 = 3;

/// Partitions 0 and 1. Nothing passes between them unless a test carries it.
pub(in crate::partition::tests) struct Pair {
    pub(in crate::partition::tests) sides: [Fixture; 2],
    connections: u64,
    /// Last answer to a new connection.
    pub(in crate::partition::tests) greeting: Option<LinkAnswer>,
}

pub(in crate::partition::tests) fn generation() -> Generation {
    Generation {
        number: GENERATION,
        partitions: PartitionMap::even(KEY_GROUPS, 2),
    }
}

pub(in crate::partition::tests) fn side(partition: u32) -> Config {
    Config {
        partition,
        placement: PLACEMENT,
        generation: Some(generation()),
        ..config(OnPoison::DeadLetter)
    }
}

/// Returns the `nth` id whose addresses belong to a partition.
pub(in crate::partition::tests) fn id(partition: u32, nth: usize) -> String {
    let ids = (0..).map(|number| format!("id-{number}"));
    let mut ids = ids.filter(|id| side(0).partition_of(&address(id)) == Some(partition));
    ids.nth(nth).unwrap()
}

impl Pair {
    pub(in crate::partition::tests) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(in crate::partition::tests) fn with(change: impl Fn(&mut Config)) -> Self {
        let sides = [0, 1].map(|partition| {
            let mut config = side(partition);
            change(&mut config);
            Fixture::with(config)
        });
        Self {
            sides,
            connections: 0,
            greeting: None,
        }
    }

    /// Connects the owner of partition `from` with that of the other one, which greets it. Returns
    /// the connection.
    pub(in crate::partition::tests) fn connect(&mut self, from: usize) -> u64 {
        self.connections += 1;
        let connection = self.connections;
        let to = 1 - from;
        self.sides[from].handle(Input::PeerConnected {
            peer: to as u32,
            connection,
        });
        self.sides[to].handle(Input::PeerAccepted {
            peer: from as u32,
            connection,
        });
        for (connection, answer) in answers(&mut self.sides[to]) {
            self.greeting = Some(answer);
            self.sides[from].handle(Input::PeerAnswered { connection, answer });
        }
        connection
    }

    /// Carries everything that waits to pass, and what follows from it.
    pub(in crate::partition::tests) fn carry(&mut self) {
        loop {
            let mut any = false;
            for from in [0, 1] {
                for (connection, generation, frame) in frames(&mut self.sides[from]) {
                    any = true;
                    self.sides[1 - from].handle(Input::PeerFrame {
                        connection,
                        generation,
                        frame,
                    });
                }
                for (connection, answer) in answers(&mut self.sides[from]) {
                    any = true;
                    self.sides[1 - from].handle(Input::PeerAnswered { connection, answer });
                }
            }
            if !any {
                return;
            }
        }
    }

    /// An address of partition 0 sends `texts` to one of partition 1, in one answer.
    pub(in crate::partition::tests) fn send(&mut self, texts: &[&str]) {
        let (from, to) = (id(0, 0), address(&id(1, 0)));
        self.sides[0].send(&from, "go");
        let batch = self.sides[0].batch();
        let messages = texts.iter().map(|text| message_to(&to, text)).collect();
        self.sides[0].complete(batch.attempt, sending(messages));
    }

    /// The same, durable, over a new connection.
    pub(in crate::partition::tests) fn sent(texts: &[&str]) -> Self {
        let mut pair = Self::new();
        pair.connect(0);
        pair.carry();
        pair.send(texts);
        pair.sides[0].settle();
        pair
    }
}

pub(in crate::partition::tests) fn sending(
    outgoing_messages: Vec<satchel_protocol::reqreply::from_function::Invocation>,
) -> satchel_protocol::reqreply::FromFunction {
    effects(InvocationResponse {
        outgoing_messages,
        ..Default::default()
    })
}

/// Takes the frames that leave.
pub(in crate::partition::tests) fn frames(
    side: &mut Fixture,
) -> Vec<(u64, u64, Frame<PeerMessage>)> {
    side.take(|output| match output {
        Output::PeerFrame {
            connection,
            generation,
            frame,
            ..
        } => Some((*connection, *generation, frame.clone())),
        _ => None,
    })
}

/// Takes the answers to frames that leave.
pub(in crate::partition::tests) fn answers(side: &mut Fixture) -> Vec<(u64, LinkAnswer)> {
    side.take(|output| match output {
        Output::PeerAnswer {
            connection, answer, ..
        } => Some((*connection, *answer)),
        _ => None,
    })
}

pub(in crate::partition::tests) fn closed(side: &mut Fixture) -> Vec<CloseCause> {
    side.take(|output| match output {
        Output::PeerClose { cause, .. } => Some(*cause),
        _ => None,
    })
}

pub(in crate::partition::tests) fn frame_texts(frame: &Frame<PeerMessage>) -> Vec<String> {
    let messages = frame.messages.iter();
    messages
        .map(|sent| text_of(&sent.message.argument))
        .collect()
}

/// Returns the keys that the deltas of a side changed, and whether each was set.
pub(in crate::partition::tests) fn changed(deltas: &[Delta]) -> Vec<(Key, bool)> {
    let changes = deltas.iter().flat_map(|delta| &delta.changes);
    changes
        .map(|Change { key, value }| (key.clone(), value.is_some()))
        .collect()
}

pub(in crate::partition::tests) fn delta_with(deltas: &[Delta], key: &Key) -> Delta {
    let mut deltas = deltas.iter();
    let found = deltas.find(|delta| delta.changes.iter().any(|change| change.key == *key));
    found
        .unwrap_or_else(|| panic!("{key:?} is in no delta"))
        .clone()
}
