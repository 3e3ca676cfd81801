//! Drops of a state that a function no longer declares.

use super::declaring::{ALTERNATION_MS, Version};
use super::fixture::*;
use super::library::Library;
use crate::address::FunctionType;
use crate::endpoint::OnPoison;
use crate::input::Administration;
use crate::output::{Answer, StateDropped};

impl Fixture {
    fn drop_step(&mut self, bucket: u16, limit: usize) -> Option<Answer> {
        self.administer(drop_of(bucket, limit))
    }

    /// Drops the state `large` in steps of `limit`. Returns how many values each step removed.
    fn drop_large(&mut self, limit: usize) -> Vec<usize> {
        let (mut steps, mut bucket) = (Vec::new(), Some(0));
        while let Some(next) = bucket {
            let step = dropped(self.drop_step(next, limit));
            steps.push(step.dropped);
            bucket = step.next;
            assert!(steps.len() < 100, "it never ends: {steps:?}");
        }
        steps
    }

    /// Lets `version` process a message of each of these ids.
    fn processed_for(&mut self, ids: &[&str], version: &Version) {
        for id in ids {
            self.send(id, "1");
            self.commit();
            while let [batch] = &self.batches()[..] {
                self.complete(batch.attempt, version.answer(batch, "1"));
            }
        }
        self.settle();
    }

    fn suspension_reasons(&self) -> Vec<String> {
        let suspended = self.partition.stoppages().suspended_functions;
        suspended.into_iter().map(|it| it.reason).collect()
    }
}

fn drop_of(bucket: u16, limit: usize) -> Administration {
    Administration::DropState {
        bucket,
        function: FunctionType::new("example", "greeter"),
        state: "large".into(),
        limit,
    }
}

fn dropped(answer: Option<Answer>) -> StateDropped {
    match answer {
        Some(Answer::StateDropped(step)) => step,
        other => panic!("{other:?}"),
    }
}

fn both() -> Version {
    Version::of(&["large", "seen"])
}

fn one() -> Version {
    Version::of(&["seen"])
}

/// As [`both`], with another type of `large`.
fn retyped() -> Version {
    let mut version = both();
    version.0[0].type_typename = "t/number".into();
    version
}

const IDS: [&str; 7] = ["alice", "bob", "carol", "dave", "erin", "frank", "grace"];

/// A fixture in which these ids have both states, and the function declares only `seen`.
fn retired() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.processed_for(&IDS, &both());
    fixture.later(ALTERNATION_MS);
    fixture.processed_for(&["alice"], &one());
    fixture
}

#[test]
fn all_values_are_dropped_in_bounded_steps_and_stay_dropped() {
    let mut fixture = retired();
    let steps = fixture.drop_large(2);
    assert!(steps.iter().all(|step| *step <= 2), "{steps:?}");
    assert_eq!(steps.iter().sum::<usize>(), IDS.len());
    for _ in 0..2 {
        for id in IDS {
            let seen = [("seen".to_owned(), "1".to_owned())];
            assert_eq!(fixture.states(id), seen, "{id}");
        }
        fixture.crash();
    }
    assert_eq!(fixture.drop_large(2), [0; 4], "a repetition is harmless");
}

#[test]
fn a_dropped_state_may_be_declared_anew_with_another_type() {
    for crashes in [false, true] {
        let mut fixture = retired();
        fixture.drop_large(100);
        if crashes {
            fixture.crash();
            fixture.settle();
            // The log, which holds the values and their removal, reminded it of the type.
            fixture.drop_large(100);
        }
        fixture.later(20_000);
        fixture.process_by(&retyped(), "7");
        assert_eq!(fixture.suspension_reasons(), [] as [&str; 0]);
        fixture.crash();
        assert_eq!(fixture.suspension_reasons(), [] as [&str; 0]);
    }
}

#[test]
fn a_state_that_is_declared_is_not_dropped() {
    let mut fixture = Fixture::new();
    fixture.processed_for(&IDS, &both());
    let Some(Answer::Refused(reason)) = fixture.drop_step(0, 10) else {
        panic!("not refused");
    };
    assert!(reason.contains("declares the state \"large\""), "{reason}");
    assert_eq!(fixture.states("alice").len(), 2);
    let Some(Answer::NotFound(_)) = fixture.drop_step(4, 10) else {
        panic!("there are four buckets");
    };
}

#[test]
fn an_attempt_that_began_with_the_state_is_waited_for_and_its_value_is_dropped_too() {
    let mut fixture = Fixture::new();
    fixture.processed_for(&IDS, &both());
    fixture.send("heidi", "slow");
    let slow = fixture.batch();
    fixture.later(ALTERNATION_MS);
    fixture.processed_for(&["alice"], &one());

    let mut bucket = 0;
    while bucket < 3 {
        bucket = dropped(fixture.drop_step(bucket, 100)).next.unwrap();
    }
    let waits = dropped(fixture.drop_step(3, 100));
    assert_eq!(waits.next, Some(3));
    assert_eq!(dropped(fixture.drop_step(3, 100)).next, Some(3));
    fixture.complete(slow.attempt, both().answer(&slow, "late"));
    fixture.settle();
    assert_eq!(fixture.states("heidi").len(), 2, "it was applied");
    assert_eq!(fixture.dead_letters(), []);

    // It may have been written behind the drop, so the state is kept until the next one.
    assert_eq!(dropped(fixture.drop_step(3, 100)).next, None);
    assert_eq!(fixture.drop_large(100).iter().sum::<usize>(), 1);
    assert_eq!(fixture.states("heidi").len(), 1);
}

#[test]
fn each_bucket_is_loaded_when_its_turn_comes() {
    let mut library = Library::new(config(OnPoison::DeadLetter));
    library.fixture.processed_for(&IDS, &both());
    library.fixture.later(ALTERNATION_MS);
    library.fixture.processed_for(&["alice"], &one());
    library.snapshot();
    library.crash();
    let ids = (0..4).map(|bucket| library.id(bucket, 0));
    let _ids: Vec<String> = ids.collect();
    let mut removed = 0;
    let mut next = Some(0);
    while let Some(bucket) = next {
        let answer = library.fixture.administer(drop_of(bucket, 100));
        let answer = match answer {
            Some(answer) => answer,
            None => {
                library.load_all();
                library.fixture.commit();
                let mut answers = library.fixture.answers();
                answers.remove(0).1
            }
        };
        let step = dropped(Some(answer));
        removed += step.dropped;
        next = step.next;
    }
    assert_eq!(removed, IDS.len());
    library.fixture.settle();
    library.crash();
    library.load_all();
    for id in IDS {
        assert_eq!(library.fixture.states(id).len(), 1, "{id}");
    }
}
