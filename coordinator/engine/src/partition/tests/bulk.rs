//! Changes of many dead letters: what matches is changed once, in bounded steps.

use super::fixture::*;
use super::library::Library;
use crate::endpoint::{Endpoints, OnPoison};
use crate::input::{
    Administration, DeadLetterChange, DeadLetterCursor, DeadLetterFilter, Input, Record,
};
use crate::invocation::{AttemptId, EndpointIndex, Failure, FailureKind};
use crate::message::Unroutable;
use crate::output::{Answer, DeadLettersChanged};
use crate::partition::Config;
use crate::position::ShardPosition;

impl Fixture {
    /// Makes a dead letter of a message of `id`, with this text and reason.
    fn give_up(&mut self, id: &str, text: &str, reason: &str) {
        self.send(id, text);
        let batch = self.batch();
        self.reject_batch(batch.attempt, reason);
        self.settle();
        self.answers();
    }

    fn reject_batch(&mut self, attempt: AttemptId, reason: &str) {
        let failure = Failure::new(FailureKind::Terminal, reason);
        self.handle(Input::InvocationFailed { attempt, failure });
    }

    fn change(
        &mut self,
        change: DeadLetterChange,
        filter: &DeadLetterFilter,
        cursor: Option<DeadLetterCursor>,
        limit: usize,
    ) -> Answer {
        let answer = self.administer(Administration::ChangeDeadLetters {
            change,
            filter: filter.clone(),
            cursor,
            limit,
        });
        answer.expect("an answer")
    }

    /// Retries or drops in steps of `limit` until the end. Returns what each step changed.
    fn change_all(
        &mut self,
        change: DeadLetterChange,
        filter: &DeadLetterFilter,
        limit: usize,
    ) -> Vec<usize> {
        let (mut steps, mut cursor) = (Vec::new(), None);
        loop {
            let changed = changed(self.change(change, filter, cursor, limit));
            steps.push(changed.changed);
            cursor = changed.cursor;
            if cursor.is_none() {
                return steps;
            }
            assert!(steps.len() < 100, "it never ends: {steps:?}");
        }
    }

    fn letter_texts(&mut self) -> Vec<String> {
        self.dead_letters()
            .into_iter()
            .map(|(text, _)| text)
            .collect()
    }
}

fn changed(answer: Answer) -> DeadLettersChanged {
    match answer {
        Answer::DeadLettersChanged(changed) => changed,
        other => panic!("{other:?}"),
    }
}

fn all() -> DeadLetterFilter {
    DeadLetterFilter::default()
}

#[test]
fn only_dead_letters_that_match_every_condition_are_changed() {
    let mut fixture = Fixture::new();
    fixture.give_up("alice", "1", "no such account");
    fixture.later(10_000);
    let since_ms = Some(fixture.now_ms);
    fixture.give_up("bob", "2", "no such account");
    fixture.give_up("bob", "3", "it panicked");
    let elsewhere = DeadLetterFilter {
        function: Some("example/other".into()),
        ..all()
    };
    assert_eq!(
        fixture.change_all(DeadLetterChange::Drop, &elsewhere, 9),
        [0]
    );
    let filter = DeadLetterFilter {
        reason: Some("such acc".into()),
        function: Some("example/greeter".into()),
        since_ms,
    };
    let listed = Administration::ListDeadLetters {
        filter: filter.clone(),
        after: None,
        limit: 9,
    };
    let Some(Answer::DeadLetters(letters)) = fixture.administer(listed) else {
        panic!("a list");
    };
    let listed: Vec<_> = letters.iter().map(|it| text_of(&it.message)).collect();
    assert_eq!(listed, ["2"], "the list shows what would be changed");
    assert_eq!(fixture.change_all(DeadLetterChange::Drop, &filter, 9), [1]);
    assert_eq!(fixture.letter_texts(), ["1", "3"]);
    let reason = DeadLetterFilter {
        reason: Some("panicked".into()),
        ..all()
    };
    assert_eq!(fixture.change_all(DeadLetterChange::Retry, &reason, 9), [1]);
    assert_eq!(texts(&fixture.batch()), ["3"]);
    assert_eq!(fixture.letter_texts(), ["1"]);
}

#[test]
fn a_change_takes_as_many_steps_as_its_limit_needs_and_continues_over_a_crash() {
    let mut fixture = Fixture::new();
    for text in ["1", "2", "3", "4", "5"] {
        fixture.give_up("alice", text, "no");
    }
    let first = changed(fixture.change(DeadLetterChange::Drop, &all(), None, 2));
    assert_eq!((first.changed, first.skipped), (2, 0));
    assert_eq!(fixture.letter_texts(), ["3", "4", "5"], "oldest first");
    fixture.settle();
    fixture.crash();
    // The answer of the next step is lost, so the step is repeated.
    let again = fixture.change(DeadLetterChange::Drop, &all(), first.cursor, 2);
    assert_eq!(changed(again).changed, 2);
    let last = changed(fixture.change(DeadLetterChange::Drop, &all(), first.cursor, 2));
    assert_eq!((last.changed, last.cursor), (1, None));
    assert_eq!(fixture.letter_texts(), [""; 0]);
}

#[test]
fn messages_that_fail_again_are_not_retried_again_by_the_same_change() {
    let mut fixture = Fixture::new();
    for text in ["1", "2", "3", "4"] {
        fixture.give_up(text, text, "no");
    }
    let (mut retried, mut cursor) = (0, None);
    loop {
        let step = changed(fixture.change(DeadLetterChange::Retry, &all(), cursor, 2));
        retried += step.changed;
        for batch in fixture.batches() {
            fixture.reject_batch(batch.attempt, "no again");
        }
        fixture.settle();
        cursor = step.cursor;
        if cursor.is_none() {
            break;
        }
        assert!(retried < 50, "it never ends");
    }
    assert_eq!(retried, 4);
    let letters = fixture.dead_letters();
    assert_eq!(letters.len(), 4);
    assert!(letters.iter().all(|(_, reason)| reason == "no again"));
}

#[test]
fn the_letter_that_matches_is_changed_and_not_another_with_the_same_id() {
    let mut fixture = Fixture::new();
    let unroutable = |reason: &str| Record {
        sequence: 1.into(),
        sub_sequence: 0,
        trace: None,
        headers: None,
        key: "k".into(),
        routed: Err(Unroutable {
            value: value("same"),
            reason: reason.to_owned(),
        }),
    };
    for (reason, ended) in [("first", true), ("second", false)] {
        fixture.find_shard(ShardPosition::Beginning);
        let records = vec![unroutable(reason)];
        fixture.handle(Input::RecordsRead {
            shard: shard(),
            records,
        });
        if ended {
            // The shard is forgotten and found again, so its record is read again.
            fixture.handle(Input::ShardEnded { shard: shard() });
            fixture.handle(Input::ShardForgotten { shard: shard() });
        }
    }
    fixture.settle();
    assert_eq!(fixture.dead_letters().len(), 2);
    let second = DeadLetterFilter {
        reason: Some("second".into()),
        ..all()
    };
    assert_eq!(fixture.change_all(DeadLetterChange::Drop, &second, 9), [1]);
    let left = ("same".to_owned(), "first".to_owned());
    assert_eq!(fixture.dead_letters(), [left]);
}

#[test]
fn a_retry_stops_while_too_much_is_pending_and_continues_later() {
    let mut fixture = Fixture::with(Config {
        pending_bytes_max: 12_000,
        ..config(OnPoison::DeadLetter)
    });
    let large = "x".repeat(5_000);
    for id in ["a", "b", "c", "d", "e"] {
        fixture.give_up(id, &large, "no");
    }
    let first = changed(fixture.change(DeadLetterChange::Retry, &all(), None, 100));
    assert_eq!(first.changed, 3, "until more than the limit was pending");
    assert!(first.cursor.is_some());
    let refused = fixture.change(DeadLetterChange::Retry, &all(), first.cursor, 100);
    assert_eq!(refused, Answer::Overloaded);
    for batch in fixture.batches() {
        fixture.complete(batch.attempt, nothing());
    }
    let last = changed(fixture.change(DeadLetterChange::Retry, &all(), first.cursor, 100));
    assert_eq!((last.changed, last.cursor), (2, None));
    assert_eq!(fixture.batches().len(), 2);
}

#[test]
fn a_step_queues_no_more_bytes_again_than_its_bound() {
    let mut config = config(OnPoison::DeadLetter);
    let mut endpoint = config.endpoints.get(EndpointIndex(0)).clone();
    endpoint.bundle_bytes_max = 4 << 20;
    config.endpoints = Endpoints::new(vec![endpoint]);
    config.pending_bytes_max = 256 << 20;
    let mut fixture = Fixture::with(config);
    let large = "x".repeat(3 << 20);
    for id in ["a", "b", "c", "d"] {
        fixture.give_up(id, &large, "no");
    }
    let steps = fixture.change_all(DeadLetterChange::Retry, &all(), 100);
    assert_eq!(steps, [3, 1], "until more than 8 MiB are queued");
    assert_eq!(fixture.batches().len(), 4);
}

#[test]
fn a_step_visits_no_more_dead_letters_than_its_bound_whether_they_match_or_not() {
    let mut fixture = Fixture::new();
    fixture.find_shard(ShardPosition::Beginning);
    let unroutable = |number: u64| Record {
        sequence: number.into(),
        sub_sequence: 0,
        trace: None,
        headers: None,
        key: "k".into(),
        routed: Err(Unroutable {
            value: value("record"),
            reason: format!("no id in record {number}."),
        }),
    };
    fixture.handle(Input::RecordsRead {
        shard: shard(),
        records: (1..=10_002).map(unroutable).collect(),
    });
    let last = DeadLetterFilter {
        reason: Some("record 10002.".into()),
        ..all()
    };
    let steps = fixture.change_all(DeadLetterChange::Drop, &last, 100);
    assert_eq!(steps, [0, 1]);
    assert_eq!(fixture.partition.gauges().dead_letters, 10_001);
}

#[test]
fn records_that_no_address_can_get_are_kept_and_those_of_an_egress_sent_again() {
    let mut fixture = Fixture::new();
    fixture.find_shard(ShardPosition::Beginning);
    fixture.handle(Input::RecordsRead {
        shard: shard(),
        records: vec![Record {
            sequence: 1.into(),
            sub_sequence: 0,
            trace: None,
            headers: None,
            key: "k".into(),
            routed: Err(Unroutable {
                value: value("nowhere"),
                reason: "no id".to_owned(),
            }),
        }],
    });
    fixture.send("alice", "emit");
    let batch = fixture.batch();
    fixture.complete(batch.attempt, emit("record"));
    fixture.settle();
    let number = fixture.emissions()[0].number;
    fixture.handle(Input::EgressRefused {
        number,
        reason: "an invalid hash key".to_owned(),
    });
    fixture.give_up("bob", "message", "no");
    let step = changed(fixture.change(DeadLetterChange::Retry, &all(), None, 100));
    assert_eq!((step.changed, step.skipped, step.cursor), (2, 1, None));
    fixture.settle();
    let emissions = fixture.emissions();
    assert_eq!(text_of(&emissions[0].value), "record");
    assert_eq!(texts(&fixture.batch()), ["message"]);
    assert_eq!(fixture.letter_texts(), ["nowhere"]);
    assert_eq!(fixture.change_all(DeadLetterChange::Drop, &all(), 1), [1]);
    assert_eq!(fixture.letter_texts(), [""; 0]);
}

#[test]
fn a_change_waits_for_the_buckets_that_hold_dead_letters() {
    let mut library = Library::new(config(OnPoison::DeadLetter));
    let ids = [1, 2, 3].map(|bucket| library.id(bucket, 0));
    for id in &ids {
        library.fixture.give_up(id, "1", "no");
    }
    library.snapshot();
    library.crash();
    let drop_all = Administration::ChangeDeadLetters {
        change: DeadLetterChange::Drop,
        filter: all(),
        cursor: None,
        limit: 100,
    };
    assert_eq!(library.fixture.administer(drop_all), None);
    library.load_all();
    library.fixture.settle();
    let answers = library.fixture.answers();
    let [(_, Answer::DeadLettersChanged(step))] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!((step.changed, step.cursor), (3, None));
}

#[test]
fn a_suspended_address_continues_behind_the_message_that_an_operator_skips() {
    let mut fixture = Fixture::with(config(OnPoison::Suspend));
    fixture.send("alice", "bad");
    fixture.send("alice", "good");
    let batch = fixture.batch();
    fixture.reject_batch(batch.attempt, "no");
    fixture.settle();
    let skip = || Administration::Skip(address("alice"));
    assert_eq!(fixture.administer(skip()), Some(Answer::Done));
    assert_eq!(texts(&fixture.batch()), ["good"]);
    let letter = ("bad".to_owned(), "no".to_owned());
    assert_eq!(fixture.dead_letters(), [letter]);
    let again = fixture.administer(skip());
    assert!(matches!(again, Some(Answer::NotFound(_))), "{again:?}");
    fixture.settle();
    fixture.crash();
    fixture.settle();
    assert_eq!(texts(&fixture.batch()), ["good"], "durably");
}
