//! Key groups that facts and ids name, so that each can be given to the partition of a key group.

use super::fixture::*;
use crate::address::{Address, FunctionType};
use crate::durable::{Change, Key, Value};
use crate::endpoint::OnPoison;
use crate::input::{Input, Unroutable};
use crate::partition::Config;
use crate::placement::{KeyGroup, Placement};
use crate::queue::{QueuedId, QueuedMessage};

/// Key group of the addresses with the id `alice` among 1,024.
const ALICE: KeyGroup = KeyGroup(398);

fn placed(placement: Placement) -> Fixture {
    Fixture::with(Config {
        placement,
        ..config(OnPoison::DeadLetter)
    })
}

fn many() -> Placement {
    Placement::id_md5(1_024, false)
}

/// Placement of a root of an earlier version.
fn earlier() -> Placement {
    Placement::xxh3(256)
}

impl Fixture {
    /// Makes everything durable. Returns the values that were set so far, and their buckets.
    fn durable(&mut self) -> Vec<(u16, Key, Value)> {
        self.settle();
        let placement = self.config.placement;
        let changes = self.log.iter().flat_map(|delta| &delta.changes);
        let set = changes.filter_map(|change| {
            let Change { key, value } = change.clone();
            Some((key.bucket(&placement), key, value?))
        });
        set.collect()
    }

    fn outbox_key_groups(&mut self) -> Vec<Option<KeyGroup>> {
        let durable = self.durable().into_iter();
        let entries = durable.filter_map(|(_, _, value)| match value {
            Value::Outbox(entry) => Some(entry.key_group),
            _ => None,
        });
        entries.collect()
    }
}

#[test]
fn a_record_of_the_outbox_names_the_key_group_of_its_sender_through_refusal_and_retry() {
    for (placement, key_group) in [(many(), Some(ALICE)), (earlier(), None)] {
        let mut fixture = placed(placement);
        fixture.send("alice", "1");
        let batch = fixture.batch();
        fixture.complete(batch.attempt, emit("a"));
        fixture.commit();
        let number = fixture.emissions()[0].number;
        let reason = "too large".to_owned();
        fixture.handle(Input::EgressRefused { number, reason });
        let letters = fixture.durable().into_iter();
        let letter = letters.filter_map(|(_, _, value)| match value {
            Value::DeadLetter(letter) => Some(letter.key_group),
            _ => None,
        });
        assert_eq!(letter.collect::<Vec<_>>(), [key_group]);
        fixture.crash();
        fixture.retry_first_letter();
        assert_eq!(fixture.outbox_key_groups(), [key_group, key_group]);
    }
}

#[test]
fn a_received_id_names_the_key_group_of_the_first_address_or_of_the_queue() {
    let expected = [
        (
            many(),
            [Some(ALICE), Some(many().key_group_of_id("example/tasks"))],
        ),
        (earlier(), [None, None]),
    ];
    for (placement, key_groups) in expected {
        let mut fixture = placed(placement);
        let unroutable = Unroutable {
            value: value("x"),
            reason: "no id".to_owned(),
        };
        let to = |id| (address(id), value("1"));
        let routed = [Ok(vec![to("alice"), to("bob")]), Err(unroutable)];
        let messages = (1..).zip(routed).map(|(number, routed)| QueuedMessage {
            id: QueuedId([number; 16]),
            name: "message".into(),
            routed,
            trace: None,
        });
        fixture.handle(Input::MessagesReceived {
            ingress: "example/tasks".into(),
            messages: messages.collect(),
            keep_ms: 1_000_000,
        });
        fixture.settle();
        // The key group stays when the expiry changes.
        fixture.handle(Input::MessagesDeleted {
            ingress: "example/tasks".into(),
            ids: vec![QueuedId([1; 16])],
            keep_ms: 2_000_000,
        });
        let durable = fixture.durable().into_iter();
        let ids = durable.filter_map(|(_, key, value)| match (key, value) {
            (Key::Received { id, .. }, Value::Received(received)) => {
                Some((id.0[0], received.key_group))
            }
            _ => None,
        });
        let [first, second] = key_groups;
        assert_eq!(
            ids.collect::<Vec<_>>(),
            [(1, first), (2, second), (1, first)]
        );
    }
}

#[test]
fn a_dead_letter_without_an_address_lies_in_the_bucket_that_its_place_names() {
    for placement in [many(), earlier()] {
        let mut fixture = placed(placement);
        let unroutable = Unroutable {
            value: value("x"),
            reason: "no id".to_owned(),
        };
        fixture.handle(Input::MessagesReceived {
            ingress: "example/tasks".into(),
            messages: vec![QueuedMessage {
                id: QueuedId([1; 16]),
                name: "message".into(),
                routed: Err(unroutable),
                trace: None,
            }],
            keep_ms: 1_000_000,
        });
        let durable = fixture.durable().into_iter();
        let places: Vec<_> = durable
            .filter_map(|(bucket, key, value)| match (key, value) {
                (Key::DeadLetter { address, .. }, Value::DeadLetter(letter)) => {
                    Some((bucket, address?, letter.id))
                }
                _ => None,
            })
            .collect();
        let [(bucket, place, id)] = &places[..] else {
            panic!("{places:?}");
        };
        let named = format!("{bucket:04x}{id}");
        let expected = match placement == many() {
            true => named,
            false => id.to_string(),
        };
        assert_eq!(*place.id, *expected);
        fixture.crash();
        assert_eq!(fixture.dead_letters().len(), 1);
    }
}

#[test]
fn rule_44_the_id_of_a_call_begins_with_the_key_group_of_its_target() {
    for (placement, begins) in [(many(), "018e"), (earlier(), "eeee")] {
        let mut fixture = placed(placement);
        let request = fixture.call("alice", "1");
        let batch = fixture.batch();
        let caller = batch.messages[0].caller.clone().unwrap();
        assert!(caller.id.starts_with(begins), "{caller}");
        if placement == many() {
            // Every process places the caller with its target.
            assert_eq!(placement.key_group(&caller), ALICE);
        }
        fixture.complete(batch.attempt, reply(&batch, "done"));
        fixture.commit();
        assert!(fixture.answer_to(request).is_some());
    }
}

#[test]
fn only_a_reserved_address_names_its_key_group() {
    let at = |namespace: &str, id: &str| {
        let address = Address::new(FunctionType::new(namespace, "call"), id);
        many().key_group(&address)
    };
    assert_eq!(at("satchel", "018e-and-more"), ALICE);
    for (namespace, id) in [("example", "018e"), ("satchel", "0400"), ("satchel", "é01")] {
        assert_eq!(at(namespace, id), many().key_group_of_id(id));
    }
}
