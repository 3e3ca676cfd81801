//! Dead letters are evicted with their buckets, and bounded.

use super::fixture::*;
use super::library::*;
use crate::endpoint::OnPoison;
use crate::input::{Administration, DeadLetterFilter, Input, Record};
use crate::message::{MessageId, Unroutable};
use crate::output::{Answer, DeadLetterView, Output};
use crate::partition::Config;
use crate::position::ShardPosition;
use crate::request::RequestId;

/// Size of a message that is larger than any request to its endpoint.
const LARGE: usize = 10_000;

fn limited(memory_limit_bytes: usize) -> Library {
    Library::new(Config {
        memory_limit_bytes: Some(memory_limit_bytes),
        ..config(OnPoison::DeadLetter)
    })
}

/// Makes a dead letter in each of four buckets, and lets a snapshot take effect.
fn with_a_letter_in_each_bucket(memory_limit_bytes: usize) -> Library {
    let mut library = limited(memory_limit_bytes);
    for bucket in 0..4 {
        let id = library.id(bucket, 0);
        library.fixture.send(&id, &bucket.to_string().repeat(LARGE));
    }
    library.snapshot();
    // The messages were accepted.
    library.fixture.answers();
    library
}

fn list(after: Option<MessageId>, limit: usize) -> Administration {
    Administration::ListDeadLetters {
        filter: DeadLetterFilter::default(),
        after,
        limit,
    }
}

impl Library {
    /// Answers the loads that are asked for, one after the other, until there is an answer.
    fn loaded_until_answered(&mut self) -> Answer {
        for _ in 0..100 {
            self.fixture.settle();
            let mut answers = self.fixture.answers();
            if let Some((_, answer)) = answers.pop() {
                return answer;
            }
            let next = self.asked()[0];
            self.load(next);
        }
        panic!("no answer comes");
    }

    fn listed(&mut self, after: Option<MessageId>, limit: usize) -> Vec<DeadLetterView> {
        let answer = self.fixture.administer(list(after, limit));
        let answer = answer.unwrap_or_else(|| self.loaded_until_answered());
        let Answer::DeadLetters(letters) = answer else {
            panic!("{answer:?}");
        };
        letters
    }
}

fn beginnings(letters: &[DeadLetterView]) -> Vec<String> {
    let texts = letters.iter().map(|letter| text_of(&letter.message));
    texts.map(|text| text[..1].to_owned()).collect()
}

#[test]
fn dead_letters_do_not_keep_their_buckets_in_memory() {
    let library = with_a_letter_in_each_bucket(20_000);
    let gauges = library.fixture.partition.gauges();
    assert_eq!(gauges.dead_letters, 4);
    assert!(gauges.state_bytes <= 20_000, "{gauges:?}");
    assert!(gauges.dead_letter_bytes > 4 * LARGE, "{gauges:?}");
    assert_eq!(gauges.pinned_bytes, 0);
    assert!(!gauges.ingress_paused, "{gauges:?}");
}

#[test]
fn a_list_loads_one_bucket_after_the_other_and_shows_all_in_order() {
    let mut library = with_a_letter_in_each_bucket(1);
    assert_eq!(library.fixture.partition.gauges().buckets_loaded, 0);
    let letters = library.listed(None, 10);
    assert_eq!(beginnings(&letters), ["0", "1", "2", "3"]);
    // Only what a page shows is loaded.
    let loads = library.fixture.partition.counts().loads;
    let page = library.listed(Some(letters[1].id), 1);
    assert_eq!(beginnings(&page), ["2"]);
    assert!(library.fixture.partition.counts().loads <= loads + 1);
}

#[test]
fn an_evicted_dead_letter_is_retried_or_dropped_after_its_bucket_is_loaded() {
    let mut library = with_a_letter_in_each_bucket(1);
    let letters = library.listed(None, 10);
    for (letter, change) in [
        (0, Administration::DropDeadLetter(letters[0].id)),
        (1, Administration::RetryDeadLetter(letters[1].id)),
    ] {
        let answer = library.fixture.administer(change);
        let answer = answer.unwrap_or_else(|| library.loaded_until_answered());
        assert_eq!(answer, Answer::Done, "{letter}");
        library.fixture.settle();
    }
    // The retried message is as large as before, so it is given up again.
    assert_eq!(beginnings(&library.listed(None, 10)), ["2", "3", "1"]);
    let again = Administration::DropDeadLetter(letters[0].id);
    assert!(matches!(
        library.fixture.administer(again),
        Some(Answer::NotFound(_))
    ));
}

#[test]
fn the_next_owner_knows_all_dead_letters_however_little_fits_into_memory() {
    let mut library = with_a_letter_in_each_bucket(1);
    let before = library.fixture.partition.gauges();
    library.crash();
    library.load_all();
    library.fixture.settle();
    let gauges = library.fixture.partition.gauges();
    assert_eq!(
        (gauges.dead_letters, gauges.dead_letter_bytes),
        (before.dead_letters, before.dead_letter_bytes)
    );
    assert_eq!(gauges.buckets_loaded, 0, "they are evicted again");
    assert_eq!(beginnings(&library.listed(None, 10)), ["0", "1", "2", "3"]);
}

#[test]
fn a_list_that_begins_before_a_stop_is_answered() {
    let mut library = with_a_letter_in_each_bucket(1);
    assert_eq!(library.fixture.administer(list(None, 10)), None);
    library.fixture.handle(Input::StopForced);
    library.fixture.commit();
    let answers: Vec<Answer> = library
        .fixture
        .answers()
        .into_iter()
        .map(|(_, answer)| answer)
        .collect();
    assert_eq!(answers, [Answer::Stopping]);
}

#[test]
fn a_record_that_belongs_to_no_address_is_evicted_too() {
    let mut library = limited(1);
    library.fixture.find_shard(ShardPosition::Beginning);
    library.fixture.commit();
    let bad = Record {
        sequence: 1.into(),
        sub_sequence: 0,
        trace: None,
        headers: None,
        key: "k".into(),
        routed: Err(Unroutable {
            value: value("bad"),
            reason: "it has no /customer/id".into(),
        }),
    };
    library.fixture.handle(Input::RecordsRead {
        shard: shard(),
        records: vec![bad],
    });
    library.snapshot();
    assert_eq!(library.fixture.partition.gauges().state_bytes, 0);
    let letters = library.listed(None, 10);
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].address, None, "it belongs to no address");
    let retry = Administration::RetryDeadLetter(letters[0].id);
    let answer = library.fixture.administer(retry);
    let answer = answer.unwrap_or_else(|| library.loaded_until_answered());
    assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
}

#[test]
fn over_the_limit_ingress_pauses_and_requests_are_refused_until_some_are_dropped() {
    let mut fixture = Fixture::with(Config {
        dead_letter_bytes_max: 15_000,
        ..config(OnPoison::DeadLetter)
    });
    fixture.send("alice", &"x".repeat(LARGE));
    fixture.settle();
    assert!(!fixture.partition.gauges().ingress_paused);
    fixture.send("bob", &"y".repeat(LARGE));
    fixture.settle();
    assert!(fixture.partition.gauges().ingress_paused);
    assert!(fixture.outputs.contains(&Output::PauseIngress));
    fixture.answers();

    let refused = fixture.send("carol", "hello");
    let answer = Answer::TooManyDeadLetters { bytes_max: 15_000 };
    assert_eq!(fixture.answers(), [(refused, answer)]);
    let Some(Answer::DeadLetters(letters)) = fixture.administer(list(None, 10)) else {
        panic!("they are in memory");
    };
    let drop = Administration::DropDeadLetter(letters[0].id);
    assert_eq!(fixture.administer(drop), Some(Answer::Done));
    assert!(!fixture.partition.gauges().ingress_paused);
    let accepted: RequestId = fixture.send("carol", "hello");
    fixture.commit();
    assert_eq!(fixture.answer_to(accepted), Some(Answer::Accepted));
}
