//! A queue that hands out its messages again until they are deleted, and sometimes even then; and the real machine that decides what is deleted.

use std::collections::BTreeMap;

use satchel_engine::input::Input;
use satchel_engine::queue::{QueuedId, QueuedMessage};
use satchel_engine::source::queue::{Fate, Handed, ReceivedMessages};
use satchel_log_simulation::Random;

use crate::functions::{STEADY, address, text};
use crate::mutants::Mutant;
use crate::process::ProcessId;
use crate::world::{Event, World};

/// The ingress that receives from it.
pub(crate) const INGRESS: &str = "simulated/queue";

/// For how long the queue may hand out a message again that is not deleted, in ms: for ever.
const UNCONFIRMED_MS: u64 = 100_000_000;

/// For how long after its deletion it may, in ms. Longer than any calendar is wrong.
const WINDOW_MS: u64 = 30_000;

/// For how long after its deletion it does, in ms.
const GHOST_MS: u64 = 5_000;

/// How long a process waits for an answer, in ms.
const TIMEOUT_MS: u64 = 800;

/// A queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    fifo: bool,
    visibility_ms: u64,
    /// How many messages are still to be sent.
    left: u64,
    messages: Vec<Queued>,
    groups: BTreeMap<u64, u64>,
}

#[derive(Debug)]
struct Queued {
    group: u64,
    /// Its place in its group.
    place: u64,
    visible_at_ms: u64,
    /// By which it was handed out last.
    handle: u64,
    deleted_at_ms: Option<u64>,
}

/// What an owner knows of the queue.
pub(crate) struct Receiving {
    inbox: ReceivedMessages,
    begun: bool,
    wake_at_ms: Option<u64>,
}

/// What travels between a process and the queue.
#[derive(Debug)]
pub(crate) enum Handing {
    /// A process asks for messages.
    Asks,
    /// When they were asked for, and what was given.
    Received(u64, Vec<(u64, String)>),
    /// Messages are to be deleted, or kept from others for longer.
    Arrives(Wish, Vec<Handed>),
    Told(Wish, Vec<(Handed, Fate)>),
    Wakes(u64),
}

/// What is wished of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Delete,
    Extend,
}

impl Queue {
    pub(crate) fn draw(random: &Random) -> Self {
        Self {
            fifo: random.chance(500),
            visibility_ms: 1_500 + random.below(3_000),
            left: 5 + random.below(30),
            ..Self::default()
        }
    }

    /// For so long a message that was handed out is handed to nobody else.
    pub(crate) fn visibility_ms(&self) -> u64 {
        self.visibility_ms
    }

    /// Whether everything was sent, taken and deleted.
    pub(crate) fn is_done(&self) -> bool {
        let deleted = |message: &Queued| message.deleted_at_ms.is_some();
        self.left == 0 && self.messages.iter().all(deleted)
    }

    fn send(&mut self, random: &Random) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        let group = random.below(3);
        let place = self.groups.entry(group).or_default();
        *place += 1;
        self.messages.push(Queued {
            group,
            place: *place,
            visible_at_ms: 0,
            handle: 0,
            deleted_at_ms: None,
        });
    }

    /// Hands out messages: those of a FIFO queue's group in their order, and none of a group of which some are under way.
    fn receive(&mut self, random: &Random, now_ms: u64) -> Vec<(u64, String)> {
        let count = 1 + random.below(5) as usize;
        let mut received = Vec::new();
        let mut blocked = Vec::new();
        for (number, message) in (0..).zip(&mut self.messages) {
            let hidden = message.visible_at_ms > now_ms;
            let there = match message.deleted_at_ms {
                None => !hidden,
                // Now and then one comes once more that is deleted.
                Some(at_ms) => !self.fifo && now_ms < at_ms + GHOST_MS && random.chance(100),
            };
            if message.deleted_at_ms.is_none() && hidden && self.fifo {
                blocked.push(message.group);
            }
            let skipped = !self.fifo && random.chance(300);
            if there && !skipped && received.len() < count && !blocked.contains(&message.group) {
                message.handle += 1;
                message.visible_at_ms = now_ms + self.visibility_ms;
                received.push((number, message.handle.to_string()));
            }
        }
        received
    }

    /// Says yes whatever becomes of it, as the real one does.
    fn delete(&mut self, number: u64, handle: &str, random: &Random, now_ms: u64) -> Fate {
        let Some(message) = self.messages.get_mut(number as usize) else {
            return Fate::Lost;
        };
        let newest = message.handle.to_string() == handle;
        if (newest || random.chance(300)) && message.deleted_at_ms.is_none() {
            message.deleted_at_ms = Some(now_ms);
        }
        Fate::Done
    }

    fn extend(&mut self, number: u64, handle: &str, now_ms: u64) -> Fate {
        match self.messages.get_mut(number as usize) {
            Some(message) if message.handle.to_string() == handle => {
                message.visible_at_ms = now_ms + self.visibility_ms;
                Fate::Done
            }
            _ => Fate::Lost,
        }
    }

    fn message(&self, number: u64) -> QueuedMessage {
        let Queued { group, place, .. } = &self.messages[number as usize];
        let (target, argument) = match self.fifo {
            true => ("ordered", format!("item {place}")),
            false => ("counter", format!("add q{group}.{place}")),
        };
        let target = address(STEADY, target, format!("q{group}"));
        QueuedMessage {
            id: id_of(number),
            name: format!("m{number}").into(),
            routed: Ok(vec![(target, text(argument))]),
        }
    }
}

impl Receiving {
    pub(crate) fn new(visibility_ms: u64) -> Self {
        Self {
            inbox: ReceivedMessages::new(visibility_ms, TIMEOUT_MS),
            begun: false,
            wake_at_ms: None,
        }
    }
}

fn id_of(number: u64) -> QueuedId {
    let mut id = [0x51; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    QueuedId(id)
}

fn number_of(id: QueuedId) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&id.0[..8]);
    u64::from_le_bytes(number)
}

impl World {
    /// A new owner asks whether it may receive.
    pub(crate) fn finds_the_queue(&mut self, id: ProcessId) {
        if let Some(serving) = self.serving(id) {
            let ingress = INGRESS.into();
            serving.facts.push(Input::QueueFound { ingress });
        }
    }

    /// It may.
    pub(crate) fn receive_as_told(&mut self, id: ProcessId) {
        if let Some(serving) = self.serving(id)
            && !std::mem::replace(&mut serving.receiving.begun, true)
        {
            self.hand(id, Handing::Asks);
        }
    }

    /// What these became is durable.
    pub(crate) fn taken(&mut self, id: ProcessId, ids: &[QueuedId]) {
        let now_ms = self.timeline.now_ms();
        if let Some(serving) = self.serving(id) {
            serving.receiving.inbox.taken(now_ms, ids);
            self.keep(id);
        }
    }

    pub(crate) fn sends_to_queue(&mut self) {
        self.queue.send(&self.random);
        if self.queue.left > 0 {
            let delay_ms = 1 + self.random.below(1_500);
            self.timeline.after(delay_ms, Event::SendsToQueue);
        }
    }

    pub(crate) fn hands(&mut self, id: ProcessId, handing: Handing) {
        let now_ms = self.timeline.now_ms();
        match handing {
            Handing::Asks => self.asks_queue(id),
            Handing::Received(asked_ms, received) => self.received(id, asked_ms, received),
            Handing::Arrives(wish, handed) => {
                let lost = self.random.chance(self.weather.ack_lost);
                let mut fates = Vec::new();
                for (message, handle) in handed {
                    let number = number_of(message);
                    let fate = match wish {
                        Wish::Delete => self.queue.delete(number, &handle, &self.random, now_ms),
                        Wish::Extend => self.queue.extend(number, &handle, now_ms),
                    };
                    let fate = if lost { Fate::Again } else { fate };
                    fates.push(((message, handle), fate));
                }
                let delay_ms = if lost {
                    TIMEOUT_MS
                } else {
                    1 + self.random.below(30)
                };
                let told = Handing::Told(wish, fates);
                self.timeline.after(delay_ms, Event::Queue(id, told));
            }
            Handing::Told(wish, fates) => self.told_by_queue(id, wish, fates),
            Handing::Wakes(at_ms) => {
                let Some(serving) = self.serving(id) else {
                    return;
                };
                if serving.receiving.wake_at_ms == Some(at_ms) {
                    serving.receiving.wake_at_ms = None;
                    self.keep(id);
                }
            }
        }
    }

    fn asks_queue(&mut self, id: ProcessId) {
        let Some(serving) = self.serving(id) else {
            return;
        };
        if serving.stopped {
            return;
        }
        let paused = serving.reading.paused;
        let delay_ms = 20 + self.random.below(400);
        self.timeline
            .after(delay_ms, Event::Queue(id, Handing::Asks));
        if paused {
            return;
        }
        let now_ms = self.timeline.now_ms();
        let received = self.queue.receive(&self.random, now_ms);
        let lost = self.random.chance(self.weather.ack_lost);
        if !received.is_empty() && !lost {
            self.hand(id, Handing::Received(now_ms, received));
        }
    }

    fn received(&mut self, id: ProcessId, asked_ms: u64, received: Vec<(u64, String)>) {
        let now_ms = self.timeline.now_ms();
        let early = self.mutant == Some(Mutant::DeleteEarly);
        let messages: Vec<QueuedMessage> = received
            .iter()
            .map(|(number, _)| self.queue.message(*number))
            .collect();
        let Some(serving) = self.serving(id) else {
            return;
        };
        let inbox = &mut serving.receiving.inbox;
        if !inbox.is_fresh(asked_ms, now_ms) {
            return;
        }
        for (number, handle) in received {
            inbox.received(now_ms, id_of(number), handle);
            if early {
                inbox.taken(now_ms, &[id_of(number)]);
            }
        }
        let received = Input::MessagesReceived {
            ingress: INGRESS.into(),
            messages,
            keep_ms: UNCONFIRMED_MS,
        };
        self.tell(id, received);
        self.keep(id);
    }

    fn told_by_queue(&mut self, id: ProcessId, wish: Wish, fates: Vec<(Handed, Fate)>) {
        let now_ms = self.timeline.now_ms();
        let Some(serving) = self.serving(id) else {
            return;
        };
        let inbox = &mut serving.receiving.inbox;
        match wish {
            Wish::Extend => inbox.extended(now_ms, fates),
            Wish::Delete => {
                let ids = inbox.deleted(now_ms, fates);
                if !ids.is_empty() {
                    let deleted = Input::MessagesDeleted {
                        ingress: INGRESS.into(),
                        ids,
                        keep_ms: WINDOW_MS,
                    };
                    self.tell(id, deleted);
                }
            }
        }
        self.keep(id);
    }

    /// Deletes what may be deleted, and keeps from others what may not be yet.
    fn keep(&mut self, id: ProcessId) {
        let now_ms = self.timeline.now_ms();
        loop {
            let Some(serving) = self.serving(id) else {
                return;
            };
            let inbox = &mut serving.receiving.inbox;
            let deletions = inbox.poll_deletions(now_ms);
            if !deletions.is_empty() {
                self.hand(id, Handing::Arrives(Wish::Delete, deletions));
                continue;
            }
            let extensions = inbox.poll_extensions(now_ms);
            if !extensions.is_empty() {
                self.hand(id, Handing::Arrives(Wish::Extend, extensions));
                continue;
            }
            let wake_at_ms = inbox.wake_at_ms();
            if let Some(at_ms) = wake_at_ms
                && serving.receiving.wake_at_ms != Some(at_ms)
            {
                serving.receiving.wake_at_ms = Some(at_ms);
                let wakes = Event::Queue(id, Handing::Wakes(at_ms));
                self.timeline.at(at_ms, wakes);
            }
            return;
        }
    }

    fn hand(&mut self, id: ProcessId, handing: Handing) {
        let delay_ms = 1 + self.random.below(30);
        self.timeline.after(delay_ms, Event::Queue(id, handing));
    }

    /// What was sent to the queue has happened, each once.
    pub(crate) fn check_queue(&self, wrong: &mut Vec<String>) {
        for (group, places) in &self.queue.groups {
            let id = format!("q{group}");
            if self.queue.fifo {
                let address = address(STEADY, "ordered", id);
                let log = self.truth.facts.state(&address, "log");
                let sent: Vec<String> = (1..=*places).map(|place| place.to_string()).collect();
                if log != sent.join(" ") {
                    wrong.push(format!(
                        "of group {group} {places} messages were sent, and they came so: {log}"
                    ));
                }
                continue;
            }
            let log = self
                .truth
                .facts
                .state(&address(STEADY, "counter", id), "log");
            for place in 1..=*places {
                let entry = format!("q{group}.{place}");
                if !log.split(' ').any(|known| known == entry) {
                    wrong.push(format!("{entry} was sent to the queue and never happened"));
                }
            }
        }
    }
}
