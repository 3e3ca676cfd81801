//! A queue that delivers its messages again until they are deleted, and sometimes even then; and
//! the real machine that decides which messages are deleted.

use std::collections::BTreeMap;

use satchel_engine::input::Input;
use satchel_engine::queue::{QueuedId, QueuedMessage};
use satchel_engine::source::queue::{Receipt, ReceiptOutcome, ReceivedMessages};
use satchel_log_simulation::Random;

use crate::functions::{STEADY, address, text};
use crate::mutants::Mutant;
use crate::process::ProcessId;
use crate::world::{Event, World};

/// Ingress that receives from the queue.
pub(crate) const INGRESS: &str = "simulated/queue";

/// Time during which the queue may deliver an undeleted message again, in ms: practically
/// unlimited.
const UNCONFIRMED_MS: u64 = 100_000_000;

/// Time after a deletion during which the queue may still deliver the message, in ms. It is longer
/// than any clock error.
const WINDOW_MS: u64 = 30_000;

/// Time after a deletion during which this queue does deliver the message, in ms.
const GHOST_MS: u64 = 5_000;

/// Time that a process waits for an answer, in ms.
const TIMEOUT_MS: u64 = 800;

/// Standard or FIFO queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    fifo: bool,
    visibility_ms: u64,
    /// Number of messages still to be sent.
    left: u64,
    messages: Vec<Queued>,
    groups: BTreeMap<u64, u64>,
}

#[derive(Debug)]
struct Queued {
    group: u64,
    /// Place of the message in its group.
    place: u64,
    visible_at_ms: u64,
    /// Receipt handle of the last delivery.
    handle: u64,
    deleted_at_ms: Option<u64>,
}

/// Knowledge of an owner about the queue.
pub(crate) struct Receiving {
    received_messages: ReceivedMessages,
    begun: bool,
    wake_at_ms: Option<u64>,
}

/// Event between a process and the queue.
#[derive(Debug)]
pub(crate) enum QueueEvent {
    /// A process polls the queue.
    Poll,
    /// Time of the poll, and the messages with their handles.
    Received(u64, Vec<(u64, String)>),
    /// A request about messages arrives at the queue.
    Arrives(QueueRequest, Vec<Receipt>),
    Answered(QueueRequest, Vec<(Receipt, ReceiptOutcome)>),
    Wakes(u64),
}

/// Request about messages that were received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueRequest {
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

    /// Time during which a delivered message is hidden from other receivers, in ms.
    pub(crate) fn visibility_ms(&self) -> u64 {
        self.visibility_ms
    }

    /// Returns true if every message was sent and deleted.
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

    /// Delivers messages. Messages of a FIFO group come in order, and none while others of the
    /// group are in flight.
    fn receive(&mut self, random: &Random, now_ms: u64) -> Vec<(u64, String)> {
        let count = 1 + random.below(5) as usize;
        let mut received = Vec::new();
        let mut blocked = Vec::new();
        for (number, message) in (0..).zip(&mut self.messages) {
            let hidden = message.visible_at_ms > now_ms;
            let there = match message.deleted_at_ms {
                None => !hidden,
                // A standard queue may deliver a deleted message once more.
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

    /// Deletes a message, perhaps. The answer is a success in any case, as of the real queue.
    fn delete(
        &mut self,
        number: u64,
        handle: &str,
        random: &Random,
        now_ms: u64,
    ) -> ReceiptOutcome {
        let Some(message) = self.messages.get_mut(number as usize) else {
            return ReceiptOutcome::Lost;
        };
        let newest = message.handle.to_string() == handle;
        if (newest || random.chance(300)) && message.deleted_at_ms.is_none() {
            message.deleted_at_ms = Some(now_ms);
        }
        ReceiptOutcome::Done
    }

    fn extend(&mut self, number: u64, handle: &str, now_ms: u64) -> ReceiptOutcome {
        match self.messages.get_mut(number as usize) {
            Some(message) if message.handle.to_string() == handle => {
                message.visible_at_ms = now_ms + self.visibility_ms;
                ReceiptOutcome::Done
            }
            _ => ReceiptOutcome::Lost,
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
            trace: None,
        }
    }
}

impl Receiving {
    pub(crate) fn new(visibility_ms: u64) -> Self {
        Self {
            received_messages: ReceivedMessages::new(visibility_ms, TIMEOUT_MS),
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
    /// Reports the queue to a new owner.
    pub(crate) fn report_queue(&mut self, id: ProcessId) {
        if let Some(serving) = self.serving(id) {
            let ingress = INGRESS.into();
            serving.facts.push(Input::QueueFound { ingress });
        }
    }

    /// Starts to receive, as the partition allows.
    pub(crate) fn start_receiving(&mut self, id: ProcessId) {
        if let Some(serving) = self.serving(id)
            && !std::mem::replace(&mut serving.receiving.begun, true)
        {
            self.schedule_queue_event(id, QueueEvent::Poll);
        }
    }

    /// Marks messages deletable whose effects are durable.
    pub(crate) fn delete_from_queue(&mut self, id: ProcessId, ids: &[QueuedId]) {
        let now_ms = self.timeline.now_ms();
        if let Some(serving) = self.serving(id) {
            serving
                .receiving
                .received_messages
                .mark_deletable(now_ms, ids);
            self.keep(id);
        }
    }

    pub(crate) fn produce_to_queue(&mut self) {
        self.queue.send(&self.random);
        if self.queue.left > 0 {
            let delay_ms = 1 + self.random.below(1_500);
            self.timeline.after(delay_ms, Event::ProducesToQueue);
        }
    }

    pub(crate) fn handle_queue_event(&mut self, id: ProcessId, event: QueueEvent) {
        let now_ms = self.timeline.now_ms();
        match event {
            QueueEvent::Poll => self.poll_queue(id),
            QueueEvent::Received(asked_ms, received) => self.received(id, asked_ms, received),
            QueueEvent::Arrives(request, handed) => {
                let lost = self.random.chance(self.faults.ack_lost);
                let mut fates = Vec::new();
                for (message, handle) in handed {
                    let number = number_of(message);
                    let fate = match request {
                        QueueRequest::Delete => {
                            self.queue.delete(number, &handle, &self.random, now_ms)
                        }
                        QueueRequest::Extend => self.queue.extend(number, &handle, now_ms),
                    };
                    let fate = if lost { ReceiptOutcome::Retry } else { fate };
                    fates.push(((message, handle), fate));
                }
                let delay_ms = if lost {
                    TIMEOUT_MS
                } else {
                    1 + self.random.below(30)
                };
                let answer = QueueEvent::Answered(request, fates);
                self.timeline.after(delay_ms, Event::Queue(id, answer));
            }
            QueueEvent::Answered(request, fates) => self.queue_answered(id, request, fates),
            QueueEvent::Wakes(at_ms) => {
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

    fn poll_queue(&mut self, id: ProcessId) {
        let Some(serving) = self.serving(id) else {
            return;
        };
        if serving.stopped {
            return;
        }
        let paused = serving.reading.paused;
        let delay_ms = 20 + self.random.below(400);
        self.timeline
            .after(delay_ms, Event::Queue(id, QueueEvent::Poll));
        if paused {
            return;
        }
        let now_ms = self.timeline.now_ms();
        let received = self.queue.receive(&self.random, now_ms);
        let lost = self.random.chance(self.faults.ack_lost);
        if !received.is_empty() && !lost {
            self.schedule_queue_event(id, QueueEvent::Received(now_ms, received));
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
        let received_messages = &mut serving.receiving.received_messages;
        if !received_messages.is_fresh(asked_ms, now_ms) {
            return;
        }
        for (number, handle) in received {
            received_messages.received(now_ms, id_of(number), handle);
            if early {
                received_messages.mark_deletable(now_ms, &[id_of(number)]);
            }
        }
        let received = Input::MessagesReceived {
            ingress: INGRESS.into(),
            messages,
            keep_ms: UNCONFIRMED_MS,
        };
        self.notify(id, received);
        self.keep(id);
    }

    fn queue_answered(
        &mut self,
        id: ProcessId,
        request: QueueRequest,
        fates: Vec<(Receipt, ReceiptOutcome)>,
    ) {
        let now_ms = self.timeline.now_ms();
        let Some(serving) = self.serving(id) else {
            return;
        };
        let received_messages = &mut serving.receiving.received_messages;
        match request {
            QueueRequest::Extend => received_messages.extended(now_ms, fates),
            QueueRequest::Delete => {
                let ids = received_messages.deleted(now_ms, fates);
                if !ids.is_empty() {
                    let deleted = Input::MessagesDeleted {
                        ingress: INGRESS.into(),
                        ids,
                        keep_ms: WINDOW_MS,
                    };
                    self.notify(id, deleted);
                }
            }
        }
        self.keep(id);
    }

    /// Deletes messages that may be deleted, and extends the invisibility of the others.
    fn keep(&mut self, id: ProcessId) {
        let now_ms = self.timeline.now_ms();
        loop {
            let Some(serving) = self.serving(id) else {
                return;
            };
            let received_messages = &mut serving.receiving.received_messages;
            let deletions = received_messages.poll_deletions(now_ms);
            if !deletions.is_empty() {
                self.schedule_queue_event(id, QueueEvent::Arrives(QueueRequest::Delete, deletions));
                continue;
            }
            let extensions = received_messages.poll_extensions(now_ms);
            if !extensions.is_empty() {
                self.schedule_queue_event(
                    id,
                    QueueEvent::Arrives(QueueRequest::Extend, extensions),
                );
                continue;
            }
            let wake_at_ms = received_messages.wake_at_ms();
            if let Some(at_ms) = wake_at_ms
                && serving.receiving.wake_at_ms != Some(at_ms)
            {
                serving.receiving.wake_at_ms = Some(at_ms);
                let wakes = Event::Queue(id, QueueEvent::Wakes(at_ms));
                self.timeline.at(at_ms, wakes);
            }
            return;
        }
    }

    fn schedule_queue_event(&mut self, id: ProcessId, event: QueueEvent) {
        let delay_ms = 1 + self.random.below(30);
        self.timeline.after(delay_ms, Event::Queue(id, event));
    }

    /// Checks that every message of the queue took effect once.
    pub(crate) fn check_queue(&self, wrong: &mut Vec<String>) {
        for (group, places) in &self.queue.groups {
            let id = format!("q{group}");
            if self.queue.fifo {
                let address = address(STEADY, "ordered", id);
                let log = self.truth.facts.state(&address, "log");
                let sent: Vec<String> = (1..=*places).map(|place| place.to_string()).collect();
                if log != sent.join(" ") {
                    wrong.push(format!(
                        "group {group}: {places} messages were sent, and took effect as {log}"
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
                    wrong.push(format!(
                        "{entry} was sent to the queue and never took effect"
                    ));
                }
            }
        }
    }
}
