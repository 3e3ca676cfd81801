//! Messages of a queue, which hands them out again until they are deleted.

use super::scene::*;
use crate::durable::{Change, Key, Value};
use crate::input::{Input, Unroutable};
use crate::output::Output;
use crate::queue::{QueuedId, QueuedMessage};

const HOUR_MS: u64 = 3_600_000;
/// For so long the queue keeps what is not deleted.
const KEEP_MS: u64 = 100 * HOUR_MS;
/// For so long it may hand out what is.
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
    }
}

impl Scene {
    fn receive(&mut self, numbers: &[u8]) {
        self.tell(Input::MessagesReceived {
            ingress: ingress(),
            messages: numbers.iter().copied().map(message).collect(),
            keep_ms: KEEP_MS,
        });
    }

    fn deleted(&mut self, numbers: &[u8]) {
        self.tell(Input::MessagesDeleted {
            ingress: ingress(),
            ids: numbers.iter().copied().map(id).collect(),
            keep_ms: WINDOW_MS,
        });
    }

    /// What may be deleted, by number.
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
fn a_message_may_be_deleted_when_what_it_became_is_durable_and_not_before() {
    let mut scene = Scene::new();
    scene.tell(Input::QueueFound { ingress: ingress() });
    assert!(scene.is_received_from());
    scene.receive(&[1, 2]);
    assert_eq!(texts(&scene.batch()), ["1", "2"]);
    assert!(scene.taken().is_empty());
    scene.commit();
    assert_eq!(scene.taken(), [1, 2]);
}

#[test]
fn a_message_that_died_with_its_owner_before_the_commit_comes_again_and_is_applied_once() {
    let mut scene = Scene::new();
    scene.receive(&[1]);
    scene.crash();
    assert_eq!(scene.batches(), []);
    scene.receive(&[1]);
    scene.commit();
    assert_eq!(texts(&scene.batch()), ["1"]);
    assert_eq!(scene.taken(), [1]);
    assert_eq!(scene.partition.counts().repeated_records, 0);
}

#[test]
fn a_message_of_a_commit_whose_owner_died_before_the_deletion_is_not_applied_again_and_is_deleted()
{
    let mut scene = Scene::new();
    scene.receive(&[1, 2]);
    scene.commit();
    scene.crash();
    scene.settle();
    assert_eq!(texts(&scene.batch()), ["1", "2"], "they were pending");
    scene.receive(&[2, 3]);
    scene.commit();
    assert_eq!(scene.taken(), [2, 3]);
    assert_eq!(scene.partition.counts().repeated_records, 1);
    assert_eq!(scene.partition.counts().messages, 1);
}

#[test]
fn a_deletion_that_is_lost_is_wanted_again_when_the_message_comes_again() {
    let mut scene = Scene::new();
    scene.receive(&[1]);
    scene.commit();
    assert_eq!(scene.taken(), [1]);
    scene.receive(&[1]);
    assert_eq!(scene.taken(), [1], "all that is known of it is durable");
    scene.deleted(&[1]);
    scene.settle();
    // A queue may hand out what it has deleted, too.
    scene.receive(&[1]);
    assert_eq!(scene.taken(), [1]);
    assert_eq!(scene.partition.counts().messages, 1);
}

#[test]
fn a_message_that_comes_twice_before_its_commit_is_applied_once_and_waits_for_it_both_times() {
    let mut scene = Scene::new();
    scene.receive(&[1, 1]);
    scene.receive(&[1]);
    assert_eq!(texts(&scene.batch()), ["1"]);
    assert!(scene.taken().is_empty());
    scene.commit();
    assert_eq!(scene.taken(), [1, 1, 1]);
    assert_eq!(scene.partition.counts().messages, 1);
}

#[test]
fn an_id_is_kept_as_long_as_the_queue_may_have_its_message_and_then_forgotten_for_good() {
    let mut scene = Scene::new();
    scene.receive(&[1, 2]);
    scene.commit();
    scene.deleted(&[1]);
    scene.settle();
    scene.later(WINDOW_MS - 120_000);
    assert_eq!(scene.kept(), 2);
    // It is absolute: neither a new owner nor a deletion of what is forgotten begins it anew.
    scene.settle();
    scene.crash();
    scene.later(180_000);
    assert_eq!(scene.kept(), 1);
    scene.settle();
    let removal = Change {
        key: Key::Received {
            ingress: ingress(),
            id: id(1),
        },
        value: None,
    };
    assert!(
        scene
            .log
            .iter()
            .any(|delta| delta.changes.contains(&removal))
    );
    scene.deleted(&[1]);
    assert_eq!(scene.kept(), 1);
    scene.receive(&[2]);
    assert_eq!(
        scene.partition.counts().repeated_records,
        1,
        "its deletion was never confirmed"
    );
    scene.later(KEEP_MS);
    scene.settle();
    scene.crash();
    assert_eq!(scene.kept(), 0);
}

#[test]
fn a_message_that_can_not_be_routed_is_a_durable_dead_letter_before_it_is_deleted() {
    let mut scene = Scene::new();
    let routed = Err(Unroutable {
        value: value("garbage"),
        reason: "it is not JSON".to_owned(),
    });
    let malformed = QueuedMessage {
        routed,
        ..message(7)
    };
    scene.tell(Input::MessagesReceived {
        ingress: ingress(),
        messages: vec![malformed.clone()],
        keep_ms: KEEP_MS,
    });
    assert!(scene.taken().is_empty());
    scene.commit();
    assert_eq!(scene.taken(), [7]);
    scene.crash();
    scene.tell(Input::MessagesReceived {
        ingress: ingress(),
        messages: vec![malformed],
        keep_ms: KEEP_MS,
    });
    let letter = ("garbage".to_owned(), "it is not JSON".to_owned());
    assert_eq!(scene.dead_letters(), [letter]);
}

#[test]
fn an_image_holds_the_ids_and_two_ingresses_know_nothing_of_each_other() {
    let mut scene = Scene::new();
    scene.receive(&[1]);
    scene.tell(Input::MessagesReceived {
        ingress: "example/other".into(),
        messages: vec![message(1)],
        keep_ms: KEEP_MS,
    });
    assert_eq!(scene.partition.counts().messages, 2);
    scene.commit();
    scene.tell(Input::ImagesWanted(vec![scene.config.buckets]));
    let mut ids = Vec::new();
    for output in &scene.outputs {
        if let Output::Image(image) = output {
            ids.extend(image.content.iter().filter_map(|change| match change {
                Change {
                    key: Key::Received { ingress, id },
                    value: Some(Value::Received(expires_at_ms)),
                } => Some((ingress.to_string(), id.0[0], *expires_at_ms)),
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
