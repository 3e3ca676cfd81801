//! Serving before all buckets are in memory.

use std::collections::BTreeMap;

use super::fixture::*;
use super::library::*;
use crate::durable::{Key, Value};
use crate::endpoint::OnPoison;
use crate::input::{Administration, DeadLetterFilter, Input, Verb};
use crate::output::{Answer, Output};
use crate::partition::{Config, Overlay};

/// Creates four buckets with one address each that has set `seen`, all imaged. The next owner has
/// read none of them.
fn taken_over(config: Config) -> Library {
    let mut library = Library::new(config);
    for bucket in 0..4 {
        let id = library.id(bucket, 0);
        library.set_seen(&id, &format!("before {bucket}"));
    }
    library.snapshot();
    library.crash();
    library
}

fn plain() -> Library {
    taken_over(Config {
        loads_at_once: Some(1),
        ..config(OnPoison::DeadLetter)
    })
}

#[test]
fn a_message_to_an_absent_bucket_is_in_the_delta_of_its_cause_and_is_processed_after_the_load() {
    let mut library = plain();
    library.load(0);
    let id = library.id(2, 0);
    let request = library.fixture.send(&id, "hello");
    assert_eq!(
        library.fixture.batches().len(),
        0,
        "its bucket is not there"
    );
    library.fixture.commit();
    assert_eq!(
        library.fixture.answer_to(request),
        Some(Answer::Accepted),
        "what is durable is accepted, loaded or not"
    );
    let last = library.fixture.log.last().unwrap();
    let holds = last.changes.iter().any(|change| {
        let to = match &change.key {
            Key::Message { address, .. } => Some(address),
            _ => None,
        };
        to == Some(&address(&id)) && change.value.is_some()
    });
    assert!(holds, "{last:?}");
    library.load(1);
    library.load(2);
    let batch = library.fixture.batch();
    assert_eq!(texts(&batch), ["hello"]);
    let seen = batch.state[0].value.as_ref().unwrap();
    assert_eq!(&seen.1[..], b"before 2");
}

#[test]
fn needed_buckets_load_before_pending_ones_before_the_rest_within_the_limit() {
    let mut library = Library::new(Config {
        loads_at_once: Some(2),
        ..config(OnPoison::Suspend)
    });
    for bucket in 0..4 {
        let id = library.id(bucket, 0);
        library.set_seen(&id, "before");
    }
    // A message waits in bucket 3 at the snapshot, and one arrives for bucket 2 after it.
    let id = library.id(3, 0);
    library.fixture.send(&id, "waits in the image");
    library.snapshot();
    let id = library.id(2, 0);
    library.fixture.send(&id, "waits in the log");
    library.fixture.settle();
    library.crash();
    assert_eq!(library.asked(), [2, 3], "the pending ones, two at once");
    let id = library.id(1, 0);
    library.fixture.send(&id, "hello");
    assert_eq!(library.asked(), [2, 3]);
    library.load(3);
    assert_eq!(library.asked(), [2, 1], "the urgent one before the rest");
    library.load(1);
    assert_eq!(library.asked(), [2, 0]);
    library.load_all();
    assert_eq!(library.fixture.partition.gauges().buckets_awaited, 0);
    assert_eq!(library.fixture.partition.gauges().buckets_loaded, 4);
}

#[test]
fn replayed_entries_override_the_image_and_removed_facts_stay_removed() {
    let mut library = Library::new(config(OnPoison::DeadLetter));
    let (kept, gone) = (library.id(1, 0), library.id(1, 1));
    library.set_seen(&kept, "old");
    library.set_seen(&gone, "old");
    library.snapshot();
    library.set_seen(&kept, "new");
    let delete = Administration::DeleteState {
        address: address(&gone),
        state: "seen".into(),
    };
    assert_eq!(library.fixture.administer(delete), Some(Answer::Done));
    library.fixture.settle();
    library.crash();
    library.load_all();
    assert_eq!(library.fixture.seen(&kept), Some("new".to_owned()));
    assert_eq!(library.fixture.seen(&gone), None);
}

#[test]
fn an_unrequested_load_is_dropped_and_counted() {
    let mut library = plain();
    let (bucket, load, replayed) = library.asked[0].clone();
    let content = Box::new(library.content(bucket, &replayed));
    for (bucket, load) in [(bucket, load + 1), (bucket + 1, load)] {
        let content = content.clone();
        library.fixture.handle(Input::BucketLoaded {
            bucket,
            load,
            content,
        });
    }
    assert_eq!(library.fixture.partition.counts().stale_loads, 2);
    assert_eq!(library.fixture.partition.gauges().buckets_loaded, 0);
    library.load(bucket);
    library.fixture.handle(Input::BucketLoaded {
        bucket,
        load,
        content,
    });
    assert_eq!(library.fixture.partition.counts().stale_loads, 3);
    assert_eq!(library.fixture.partition.counts().loads, 1);
}

#[test]
fn a_request_with_a_key_waits_for_its_bucket_and_finds_the_first_outcome() {
    let mut library = Library::new(config(OnPoison::DeadLetter));
    let id = library.id(3, 0);
    let first = library.fixture.call_with_key(&id, "hello", "key");
    let batch = library.fixture.batch();
    library
        .fixture
        .complete(batch.attempt, reply(&batch, "welcome"));
    library.fixture.settle();
    let welcome = Some(Answer::Replied(value("welcome")));
    assert_eq!(library.fixture.answer_to(first), welcome);
    library.snapshot();
    library.crash();
    let again = library.fixture.call_with_key(&id, "hello", "key");
    let other = library.fixture.call_with_key(&id, "something else", "key");
    library.fixture.settle();
    assert!(library.fixture.answers().is_empty());
    library.load_all();
    library.fixture.settle();
    assert_eq!(library.fixture.answer_to(again), welcome);
    assert_eq!(library.fixture.answer_to(other), Some(Answer::KeyReused));
    assert_eq!(library.fixture.batches().len(), 0, "it is not asked again");
}

#[test]
fn deferred_requests_count_as_pending_and_are_rejected_beyond_the_limit() {
    let mut library = taken_over(Config {
        pending_bytes_max: 2_000,
        ..config(OnPoison::DeadLetter)
    });
    let id = library.id(0, 0);
    let before = library.fixture.partition.gauges().pending_bytes;
    let kept = library
        .fixture
        .call_with_key(&id, &"x".repeat(2_000), "one");
    assert!(library.fixture.partition.gauges().pending_bytes > before + 2_000);
    let refused = library.fixture.call_with_key(&id, "two", "two");
    assert_eq!(library.fixture.answer_to(refused), Some(Answer::Overloaded));
    library.fixture.handle(Input::RequestAbandoned(kept));
    assert_eq!(library.fixture.partition.gauges().pending_bytes, before);
    library.load_all();
    assert_eq!(library.fixture.batches().len(), 0, "nothing waits for it");
}

#[test]
fn deferred_calls_are_not_taken_when_the_process_stops() {
    let mut library = plain();
    let id = library.id(2, 0);
    let call = library.fixture.call_with_key(&id, "hello", "key");
    library.fixture.handle(Input::StopRequested);
    assert_eq!(library.fixture.answer_to(call), Some(Answer::NotTaken));
    library.fixture.commit();
    assert!(library.fixture.outputs.contains(&Output::Stopped));
}

#[test]
fn an_administrator_waits_for_the_bucket_of_the_address_and_corrections_keep_their_order() {
    let mut library = plain();
    let id = library.id(2, 0);
    let set = |text: &str| Administration::SetState {
        address: address(&id),
        state: "seen".into(),
        value: value(text),
    };
    for administration in [set("one"), set("two")] {
        assert_eq!(library.fixture.administer(administration), None);
    }
    let inspect = Administration::Inspect(address(&id));
    assert_eq!(library.fixture.administer(inspect), None);
    library.load_all();
    library.fixture.settle();
    let answers = library.fixture.answers();
    let [
        (_, Answer::Done),
        (_, Answer::Done),
        (_, Answer::Address(view)),
    ] = &answers[..]
    else {
        panic!("{answers:?}");
    };
    assert_eq!(&view.state[0].value[..], b"two");
}

#[test]
fn a_timer_of_an_absent_bucket_requests_the_bucket_only_when_due() {
    let mut library = Library::new(Config {
        memory_limit_bytes: Some(1),
        ..config(OnPoison::DeadLetter)
    });
    let (owner, target) = (library.id(1, 0), library.id(2, 0));
    library.fixture.send(&owner, "set");
    let batch = library.fixture.batch();
    let timer = later_messages(vec![delayed(&target, 60_000, "ring", "")]);
    library.fixture.complete(batch.attempt, timer);
    library.fixture.settle();
    library.snapshot();
    library.crash();
    assert_eq!(library.asked(), [0_u16; 0], "there is no room for the rest");
    library.fixture.later(50_000);
    assert_eq!(library.asked(), [0_u16; 0]);
    assert_eq!(
        library.fixture.partition.gauges().timers,
        0,
        "it is not known yet"
    );
    library.fixture.later(10_000);
    assert_eq!(library.asked(), [1]);
    library.load(1);
    assert_eq!(library.fixture.partition.counts().timers_fired, 1);
    assert_eq!(texts(&library.fixture.batch()), ["ring"]);
}

#[test]
fn a_reply_waits_until_the_bucket_of_the_request_that_it_answers_is_loaded() {
    let mut library = Library::new(Config {
        loads_at_once: Some(1),
        ..config(OnPoison::DeadLetter)
    });
    // The address in bucket 3 is called, and asks the one in bucket 0 to answer.
    let (asked, answerer) = (library.id(3, 0), library.id(0, 0));
    library.fixture.call_with_key(&asked, "hello", "key");
    let batch = library.fixture.batch();
    let caller = batch.messages[0].caller.clone().unwrap();
    let passed = message_to(&address(&answerer), "answer for me");
    let passing = effects(
        satchel_protocol::reqreply::from_function::InvocationResponse {
            outgoing_messages: vec![passed],
            ..Default::default()
        },
    );
    library.fixture.complete(batch.attempt, passing);
    library.snapshot();
    library.crash();
    library.load(0);
    library.fixture.settle();
    let batch = library.fixture.batch();
    let answer = effects(
        satchel_protocol::reqreply::from_function::InvocationResponse {
            outgoing_messages: vec![message_to(&caller, "here")],
            ..Default::default()
        },
    );
    library.fixture.complete(batch.attempt, answer);
    library.fixture.settle();
    assert_eq!(library.fixture.partition.gauges().in_flight, 1, "it waits");
    assert_eq!(library.fixture.partition.counts().stale_replies, 0);
    library.load_all();
    library.fixture.settle();
    assert_eq!(library.fixture.partition.gauges().in_flight, 0);
    let again = library.fixture.call_with_key(&asked, "hello", "key");
    library.fixture.settle();
    assert_eq!(
        library.fixture.answer_to(again),
        Some(Answer::Replied(value("here")))
    );
}

#[test]
fn the_list_of_dead_letters_waits_for_the_buckets_that_hold_some() {
    let mut library = Library::new(Config {
        loads_at_once: Some(1),
        ..config(OnPoison::DeadLetter)
    });
    let id = library.id(2, 0);
    library.fixture.send(&id, &"too large ".repeat(1_000));
    library.fixture.settle();
    assert_eq!(library.fixture.dead_letters().len(), 1);
    library.snapshot();
    library.crash();
    let list = Administration::ListDeadLetters {
        filter: DeadLetterFilter::default(),
        after: None,
        limit: 10,
    };
    assert_eq!(library.fixture.administer(list), None);
    assert_eq!(library.asked(), [2], "where they are is known");
    library.load(2);
    library.fixture.settle();
    let answers = library.fixture.answers();
    let [(_, Answer::DeadLetters(letters))] = &answers[..] else {
        panic!("{answers:?}");
    };
    let retry = Administration::RetryDeadLetter(letters[0].id);
    assert_eq!(library.fixture.administer(retry), Some(Answer::Done));
}

#[test]
fn the_list_of_timers_visits_buckets_one_after_the_other_as_far_as_needed() {
    let mut library = Library::new(Config {
        memory_limit_bytes: Some(1),
        ..config(OnPoison::DeadLetter)
    });
    for bucket in 0..4_u16 {
        let id = library.id(bucket, 0);
        library.fixture.send(&id, "set");
        let batch = library.fixture.batch();
        let ms = 60_000 * i64::from(4 - bucket);
        let timer = later_messages(vec![delayed("target", ms, "ring", &format!("{bucket}"))]);
        library.fixture.complete(batch.attempt, timer);
        library.fixture.settle();
    }
    library.snapshot();
    library.crash();
    let list = Administration::ListTimers {
        function: None,
        limit: 2,
    };
    assert_eq!(library.fixture.administer(list), None);
    let mut visited = Vec::new();
    while let [bucket] = library.asked()[..] {
        visited.push(bucket);
        library.load(bucket);
        assert!(library.fixture.partition.gauges().buckets_loaded <= 1);
    }
    assert_eq!(visited, [3, 2], "those in which something is due first");
    library.fixture.settle();
    let answers = library.fixture.answers();
    let [(_, Answer::Timers(timers))] = &answers[..] else {
        panic!("{answers:?}");
    };
    let tokens: Vec<_> = timers.iter().map(|timer| timer.token.as_deref()).collect();
    assert_eq!(tokens, [Some("3"), Some("2")]);
}

#[test]
fn only_messages_pending_at_the_crash_are_suspects_however_late_their_bucket_is_loaded() {
    let mut library = Library::new(Config {
        loads_at_once: Some(1),
        ..config(OnPoison::DeadLetter)
    });
    let (old, new) = (library.id(3, 0), library.id(3, 1));
    library.fixture.send(&old, "old");
    library.fixture.batch();
    library.snapshot();
    library.crash();
    library.fixture.send(&new, "new");
    library.fixture.later(60_000);
    library.fixture.settle();
    assert_eq!(library.fixture.batches().len(), 0);
    library.load_all();
    assert!(
        library.fixture.batches().is_empty(),
        "that it was counted must be durable first"
    );
    library.fixture.settle();
    let mut begun: Vec<_> = library
        .fixture
        .batches()
        .iter()
        .flat_map(|batch| texts(batch))
        .collect();
    begun.sort();
    assert_eq!(begun, ["new", "old"]);
    let crashes: BTreeMap<_, _> = library
        .fixture
        .log
        .iter()
        .flat_map(|delta| &delta.changes)
        .filter_map(|change| match (&change.key, &change.value) {
            (Key::FailureRecord { address }, Some(Value::FailureRecord(failures))) => {
                Some((address.id.to_string(), failures.crashes))
            }
            _ => None,
        })
        .collect();
    assert_eq!(crashes, BTreeMap::from([(old, 1)]));
}

#[test]
fn an_absent_bucket_is_loaded_before_its_image_and_delays_no_other() {
    let mut library = Library::new(Config {
        loads_at_once: Some(1),
        ..config(OnPoison::DeadLetter)
    });
    for bucket in 0..4 {
        let id = library.id(bucket, 0);
        library.set_seen(&id, "before");
    }
    library.snapshot();
    let id = library.id(3, 0);
    library.set_seen(&id, "after");
    library.crash();
    library.load(0);
    let imaged: Vec<u16> = library
        .image([0, 3])
        .iter()
        .map(|image| image.bucket)
        .collect();
    assert_eq!(imaged, [0]);
    assert_eq!(library.fixture.partition.gauges().buckets_loaded, 1);
    library.load(1);
    assert_eq!(library.asked(), [3], "an image is wanted of it");
    library.load(3);
    library.fixture.later(1);
    let images = library.take_images();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].bucket, 3);
    let after = images[0]
        .content
        .iter()
        .any(|change| matches!(&change.value, Some(Value::State(state)) if state.value == "after"));
    assert!(after, "{:?}", images[0]);
}

#[test]
fn messages_of_absent_buckets_count_as_pending_once() {
    let mut library = Library::new(config(OnPoison::DeadLetter));
    let id = library.id(1, 0);
    library
        .fixture
        .request(Verb::Send, &id, "in the image", None);
    library.snapshot();
    library.fixture.request(Verb::Send, &id, "in the log", None);
    library.fixture.settle();
    library.crash();
    library.fixture.request(Verb::Send, &id, "since", None);
    library.load_all();
    let batch = {
        library.fixture.settle();
        library.fixture.batch()
    };
    assert_eq!(texts(&batch), ["in the image", "in the log", "since"]);
    library.fixture.complete(batch.attempt, nothing());
    assert_eq!(library.fixture.partition.gauges().pending_bytes, 0);
}

#[test]
fn a_bucket_with_a_foreign_or_unreadable_entry_is_rejected_with_its_number() {
    use crate::partition::LoadedBucket;
    let nothing = Overlay::default();
    let mut library = Library::new(config(OnPoison::DeadLetter));
    let id = library.id(1, 0);
    library.set_seen(&id, "text");
    let image = library.image([1]).remove(0);
    let (key, value) = to_bytes(&image.content[0]);
    let decode = |bucket, value: &[u8]| {
        let entry = std::iter::once((&key[..], Some(value)));
        LoadedBucket::decode(bucket, library.fixture.config.placement, entry, 1, &nothing)
    };
    let value = value.unwrap();
    assert!(decode(1, &value).is_ok());
    let foreign = decode(2, &value).unwrap_err().to_string();
    assert!(
        foreign.starts_with("bucket 2 contains a fact of another bucket: ")
            && foreign.contains(&id),
        "{foreign}"
    );
    let mut newer = value.clone();
    newer[0] = 9;
    assert_eq!(
        decode(1, &newer).unwrap_err().to_string(),
        "bucket 1 contains an unreadable entry: the value version 9 is not known to this version"
    );
    assert!(decode(1, &value[..value.len() - 1]).is_err());
}

#[test]
fn removing_everything_in_an_image_leaves_an_empty_bucket() {
    use crate::partition::LoadedBucket;
    let mut library = Library::new(config(OnPoison::DeadLetter));
    let id = library.id(1, 0);
    library.set_seen(&id, "text");
    let image = library.image([1]).remove(0);
    let entries: Vec<_> = image.content.iter().map(to_bytes).collect();
    let kept = Overlay::default();
    let mut removals = Overlay::default();
    for (key, _) in &entries {
        removals.put(key, None);
    }
    let image = || {
        let entries = entries.iter();
        entries.map(|(key, value)| (&key[..], value.as_deref()))
    };
    let placement = library.fixture.config.placement;
    let full = LoadedBucket::decode(1, placement, image(), 1, &kept).unwrap();
    let empty = LoadedBucket::decode(1, placement, image(), 1, &removals).unwrap();
    let nothing = std::iter::empty();
    let nothing = LoadedBucket::decode(1, placement, nothing, 0, &removals).unwrap();
    assert_eq!(empty, nothing);
    assert!(empty.bytes() < full.bytes(), "{} B", empty.bytes());
}
