//! Messages of a queue, which redelivers them until they are deleted.

use super::fixture::*;
use crate::durable::{Change, Key, Value};
use crate::input::{Input, Unroutable};
use crate::output::Output;
use crate::queue::{QueuedId, QueuedMessage};

const HOUR_MS: u64 = 3_600_000;
/// Time for which the queue keeps undeleted messages.
const KEEP_MS: u64 = 100 * HOUR_MS;
/// Time for which the queue may redeliver deleted messages.
const WINDOW_MS: u64 = HOUR_MS;

fn ingress() -> std::sync::Arc<str> {
    "example/tasks".into()
}

fn id(number: u8) -> QueuedId {
    QueuedId([number; 16])
}

fn message(number: u8) -> QueuedMessage {
    QueuedMessage {
        id: id(number),
        name: format!("message-{number}").into(),
        routed: Ok(vec![(address("alice"), value(&number.to_string()))]),
        trace: None,
    }
}

impl Fixture {
    fn receive(&mut self, numbers: &[u8]) {
        self.handle(Input::MessagesReceived {
            ingress: ingress(),
            messages: numbers.iter().copied().map(message).collect(),
            keep_ms: KEEP_MS,
        });
    }

    fn deleted(&mut self, numbers: &[u8]) {
        self.handle(Input::MessagesDeleted {
            ingress: ingress(),
            ids: numbers.iter().copied().map(id).collect(),
            keep_ms: WINDOW_MS,
        });
    }

    /// Takes the numbers of the messages that may be deleted.
    fn taken(&mut self) -> Vec<u8> {
        let mut taken = Vec::new();
        self.outputs.retain(|output| match output {
            Output::Deletable { ingress: of, ids } => {
                assert_eq!(*of, ingress());
                taken.extend(ids.iter().map(|id| id.0[0]));
                false
            }
            _ => true,
        });
        taken
    }

    fn is_received_from(&mut self) -> bool {
        let receive = Output::Receive { ingress: ingress() };
        let before = self.outputs.len();
        self.outputs.retain(|output| *output != receive);
        before > self.outputs.len()
    }

    fn kept(&self) -> usize {
        self.partition.gauges().received_ids
    }
}

#[test]
fn a_message_may_be_deleted_only_after_its_effects_are_durable() {
    let mut fixture = Fixture::new();
    fixture.handle(Input::QueueFound { ingress: ingress() });
    assert!(fixture.is_received_from());
    fixture.receive(&[1, 2]);
    assert_eq!(texts(&fixture.batch()), ["1", "2"]);
    assert!(fixture.taken().is_empty());
    fixture.settle();
    assert_eq!(fixture.taken(), [1, 2]);
}

#[test]
fn a_message_lost_in_a_crash_before_the_commit_is_redelivered_and_applied_once() {
    let mut fixture = Fixture::new();
    fixture.receive(&[1]);
    fixture.crash();
    assert_eq!(fixture.batches(), []);
    fixture.receive(&[1]);
    fixture.settle();
    assert_eq!(texts(&fixture.batch()), ["1"]);
    assert_eq!(fixture.taken(), [1]);
    assert_eq!(fixture.partition.counts().repeated_records, 0);
}

#[test]
fn a_message_of_a_commit_whose_owner_died_before_the_deletion_is_not_applied_again_and_is_deleted()
{
    let mut fixture = Fixture::new();
    fixture.receive(&[1, 2]);
    fixture.settle();
    fixture.crash();
    fixture.settle();
    assert_eq!(texts(&fixture.batch()), ["1", "2"], "they were pending");
    fixture.receive(&[2, 3]);
    fixture.settle();
    assert_eq!(fixture.taken(), [2, 3]);
    assert_eq!(fixture.partition.counts().repeated_records, 1);
    assert_eq!(fixture.partition.counts().messages, 1);
}

#[test]
fn a_lost_deletion_is_repeated_when_the_message_is_redelivered() {
    let mut fixture = Fixture::new();
    fixture.receive(&[1]);
    fixture.settle();
    assert_eq!(fixture.taken(), [1]);
    fixture.receive(&[1]);
    assert_eq!(fixture.taken(), [1], "all that is known of it is durable");
    fixture.deleted(&[1]);
    fixture.settle();
    // A queue may also redeliver a deleted message.
    fixture.receive(&[1]);
    assert_eq!(fixture.taken(), [1]);
    assert_eq!(fixture.partition.counts().messages, 1);
}

#[test]
fn a_message_delivered_twice_before_its_commit_is_applied_once_and_waits_for_it_both_times() {
    let mut fixture = Fixture::new();
    fixture.receive(&[1, 1]);
    fixture.receive(&[1]);
    assert_eq!(texts(&fixture.batch()), ["1"]);
    assert!(fixture.taken().is_empty());
    fixture.settle();
    assert_eq!(fixture.taken(), [1, 1, 1]);
    assert_eq!(fixture.partition.counts().messages, 1);
}

#[test]
fn an_id_is_kept_while_the_queue_may_have_its_message_and_then_forgotten() {
    let mut fixture = Fixture::new();
    fixture.receive(&[1, 2]);
    fixture.settle();
    fixture.deleted(&[1]);
    fixture.settle();
    fixture.later(WINDOW_MS - 120_000);
    assert_eq!(fixture.kept(), 2);
    // The expiry is absolute: neither a new owner nor the deletion of a forgotten message restarts
    // it.
    fixture.settle();
    fixture.crash();
    fixture.later(180_000);
    assert_eq!(fixture.kept(), 1);
    fixture.settle();
    let removal = Change {
        key: Key::Received {
            ingress: ingress(),
            id: id(1),
        },
        value: None,
    };
    assert!(
        fixture
            .log
            .iter()
            .any(|delta| delta.changes.contains(&removal))
    );
    fixture.deleted(&[1]);
    assert_eq!(fixture.kept(), 1);
    fixture.receive(&[2]);
    assert_eq!(
        fixture.partition.counts().repeated_records,
        1,
        "its deletion was never confirmed"
    );
    fixture.later(KEEP_MS);
    fixture.settle();
    fixture.crash();
    assert_eq!(fixture.kept(), 0);
}

#[test]
fn an_unroutable_message_is_a_durable_dead_letter_before_it_is_deleted() {
    let mut fixture = Fixture::new();
    let routed = Err(Unroutable {
        value: value("garbage"),
        reason: "it is not JSON".to_owned(),
    });
    let malformed = QueuedMessage {
        routed,
        ..message(7)
    };
    fixture.handle(Input::MessagesReceived {
        ingress: ingress(),
        messages: vec![malformed.clone()],
        keep_ms: KEEP_MS,
    });
    assert!(fixture.taken().is_empty());
    fixture.settle();
    assert_eq!(fixture.taken(), [7]);
    fixture.crash();
    fixture.handle(Input::MessagesReceived {
        ingress: ingress(),
        messages: vec![malformed],
        keep_ms: KEEP_MS,
    });
    let letter = ("garbage".to_owned(), "it is not JSON".to_owned());
    assert_eq!(fixture.dead_letters(), [letter]);
}

#[test]
fn an_image_holds_the_ids_and_two_ingresses_are_independent() {
    let mut fixture = Fixture::new();
    fixture.receive(&[1]);
    fixture.handle(Input::MessagesReceived {
        ingress: "example/other".into(),
        messages: vec![message(1)],
        keep_ms: KEEP_MS,
    });
    assert_eq!(fixture.partition.counts().messages, 2);
    fixture.settle();
    fixture.handle(Input::ImagesWanted(vec![
        fixture.config.placement.buckets(),
    ]));
    let mut ids = Vec::new();
    for output in &fixture.outputs {
        if let Output::Image(image) = output {
            ids.extend(image.content.iter().filter_map(|change| match change {
                Change {
                    key: Key::Received { ingress, id },
                    value: Some(Value::Received(received)),
                } => Some((ingress.to_string(), id.0[0], received.expires_at_ms)),
                _ => None,
            }));
        }
    }
    let expires_at_ms = (1_000 + KEEP_MS).next_multiple_of(60_000);
    let expected = ["example/other", "example/tasks"];
    assert_eq!(
        ids,
        expected.map(|ingress| (ingress.to_owned(), 1, expires_at_ms))
    );
}
