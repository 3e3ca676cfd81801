//! Serving before all buckets are in memory.

use std::collections::BTreeMap;

use super::library::*;
use super::scene::*;
use crate::durable::{Key, Value};
use crate::endpoint::OnPoison;
use crate::input::{Administration, Input, Verb};
use crate::output::{Answer, Output};
use crate::partition::{Config, Overlay};

/// Four buckets, each with one address that has seen something, all imaged; the next owner has read none of them.
fn taken_over(config: Config) -> Library {
    let mut library = Library::new(config);
    for bucket in 0..4 {
        let id = library.id(bucket, 0);
        library.see(&id, &format!("before {bucket}"));
    }
    library.snapshot();
    library.crash();
    library
}

fn plain() -> Library {
    taken_over(Config {
        loads_at_once: 1,
        ..config(OnPoison::DeadLetter)
    })
}

#[test]
fn a_message_is_in_the_delta_of_its_cause_at_once_and_is_processed_over_the_state_that_was_loaded()
{
    let mut library = plain();
    library.load(0);
    let id = library.id(2, 0);
    let request = library.scene.send(&id, "hello");
    assert_eq!(library.scene.batches().len(), 0, "its bucket is not there");
    library.scene.commit();
    assert_eq!(
        library.scene.answer_to(request),
        Some(Answer::Accepted),
        "what is durable is accepted, loaded or not"
    );
    let last = library.scene.log.last().unwrap();
    let holds = last.changes.iter().any(|change| {
        matches!((&change.key, &change.value), (Key::Message { address: to, .. }, Some(_)) if *to == address(&id))
    });
    assert!(holds, "{last:?}");
    library.load(1);
    library.load(2);
    let batch = library.scene.batch();
    assert_eq!(texts(&batch), ["hello"]);
    let seen = batch.state[0].value.as_ref().unwrap();
    assert_eq!(&seen.1[..], b"before 2");
}

#[test]
fn what_somebody_waits_for_is_loaded_before_what_is_pending_before_the_rest_and_no_more_than_allowed_at_once()
 {
    let mut library = Library::new(Config {
        loads_at_once: 2,
        ..config(OnPoison::Suspend)
    });
    for bucket in 0..4 {
        let id = library.id(bucket, 0);
        library.see(&id, "before");
    }
    // Something waits in bucket 3 at the snapshot, and comes for bucket 2 after it.
    let id = library.id(3, 0);
    library.scene.send(&id, "waits in the image");
    library.snapshot();
    let id = library.id(2, 0);
    library.scene.send(&id, "waits in the log");
    library.scene.settle();
    library.crash();
    assert_eq!(library.asked(), [2, 3], "the pending ones, two at once");
    let id = library.id(1, 0);
    library.scene.send(&id, "hello");
    assert_eq!(library.asked(), [2, 3]);
    library.load(3);
    assert_eq!(library.asked(), [2, 1], "the urgent one before the rest");
    library.load(1);
    assert_eq!(library.asked(), [2, 0]);
    library.load_all();
    assert_eq!(library.scene.partition.gauges().buckets_awaited, 0);
    assert_eq!(library.scene.partition.gauges().buckets_loaded, 4);
}

#[test]
fn what_the_log_says_lies_over_the_image_and_what_it_removed_stays_removed() {
    let mut library = Library::new(config(OnPoison::DeadLetter));
    let (kept, gone) = (library.id(1, 0), library.id(1, 1));
    library.see(&kept, "old");
    library.see(&gone, "old");
    library.snapshot();
    library.see(&kept, "new");
    let delete = Administration::DeleteState {
        address: address(&gone),
        state: "seen".into(),
    };
    assert_eq!(library.scene.administer(delete), Some(Answer::Done));
    library.scene.settle();
    library.crash();
    library.load_all();
    assert_eq!(library.scene.seen(&kept), Some("new".to_owned()));
    assert_eq!(library.scene.seen(&gone), None);
}

#[test]
fn a_load_that_was_not_asked_for_is_dropped_and_counted() {
    let mut library = plain();
    let (bucket, load, replayed) = library.asked[0].clone();
    let content = Box::new(library.content(bucket, &replayed));
    for (bucket, load) in [(bucket, load + 1), (bucket + 1, load)] {
        let content = content.clone();
        library.scene.tell(Input::BucketLoaded {
            bucket,
            load,
            content,
        });
    }
    assert_eq!(library.scene.partition.counts().stale_loads, 2);
    assert_eq!(library.scene.partition.gauges().buckets_loaded, 0);
    library.load(bucket);
    library.scene.tell(Input::BucketLoaded {
        bucket,
        load,
        content,
    });
    assert_eq!(library.scene.partition.counts().stale_loads, 3);
    assert_eq!(library.scene.partition.counts().loads, 1);
}

#[test]
fn a_request_with_a_key_waits_for_its_bucket_and_finds_what_became_of_the_first() {
    let mut library = Library::new(config(OnPoison::DeadLetter));
    let id = library.id(3, 0);
    let first = library.scene.call_with_key(&id, "hello", "key");
    let batch = library.scene.batch();
    library
        .scene
        .complete(batch.attempt, reply(&batch, "welcome"));
    library.scene.settle();
    let welcome = Some(Answer::Replied(value("welcome")));
    assert_eq!(library.scene.answer_to(first), welcome);
    library.snapshot();
    library.crash();
    let again = library.scene.call_with_key(&id, "hello", "key");
    let other = library.scene.call_with_key(&id, "something else", "key");
    library.scene.settle();
    assert!(library.scene.answers().is_empty());
    library.load_all();
    library.scene.settle();
    assert_eq!(library.scene.answer_to(again), welcome);
    assert_eq!(library.scene.answer_to(other), Some(Answer::KeyReused));
    assert_eq!(library.scene.batches().len(), 0, "it is not asked again");
}

#[test]
fn requests_that_wait_count_as_pending_and_are_refused_beyond_the_limit() {
    let mut library = taken_over(Config {
        pending_bytes_max: 2_000,
        ..config(OnPoison::DeadLetter)
    });
    let id = library.id(0, 0);
    let before = library.scene.partition.gauges().pending_bytes;
    let kept = library.scene.call_with_key(&id, &"x".repeat(2_000), "one");
    assert!(library.scene.partition.gauges().pending_bytes > before + 2_000);
    let refused = library.scene.call_with_key(&id, "two", "two");
    assert_eq!(library.scene.answer_to(refused), Some(Answer::Overloaded));
    library.scene.tell(Input::RequestAbandoned(kept));
    assert_eq!(library.scene.partition.gauges().pending_bytes, before);
    library.load_all();
    assert_eq!(library.scene.batches().len(), 0, "nobody waits for it");
}

#[test]
fn whoever_waits_for_a_bucket_is_told_to_ask_again_when_the_process_stops() {
    let mut library = plain();
    let id = library.id(2, 0);
    let call = library.scene.call_with_key(&id, "hello", "key");
    library.scene.tell(Input::StopRequested);
    assert_eq!(library.scene.answer_to(call), Some(Answer::Stopping));
    library.scene.commit();
    assert!(library.scene.outputs.contains(&Output::Stopped));
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
        assert_eq!(library.scene.administer(administration), None);
    }
    let inspect = Administration::Inspect(address(&id));
    assert_eq!(library.scene.administer(inspect), None);
    library.load_all();
    library.scene.settle();
    let answers = library.scene.answers();
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
fn a_timer_of_a_bucket_that_is_not_loaded_asks_for_it_when_due_and_not_before() {
    let mut library = Library::new(Config {
        memory_limit_bytes: Some(1),
        ..config(OnPoison::DeadLetter)
    });
    let (owner, target) = (library.id(1, 0), library.id(2, 0));
    library.scene.send(&owner, "set");
    let batch = library.scene.batch();
    let timer = later_messages(vec![delayed(&target, 60_000, "ring", "")]);
    library.scene.complete(batch.attempt, timer);
    library.scene.settle();
    library.snapshot();
    library.crash();
    assert_eq!(library.asked(), [0_u16; 0], "there is no room for the rest");
    library.scene.later(50_000);
    assert_eq!(library.asked(), [0_u16; 0]);
    assert_eq!(
        library.scene.partition.gauges().timers,
        0,
        "it is not known yet"
    );
    library.scene.later(10_000);
    assert_eq!(library.asked(), [1]);
    library.load(1);
    assert_eq!(library.scene.partition.counts().timers_fired, 1);
    assert_eq!(texts(&library.scene.batch()), ["ring"]);
}

#[test]
fn a_reply_waits_until_the_bucket_of_the_request_that_it_answers_is_loaded() {
    let mut library = Library::new(Config {
        loads_at_once: 1,
        ..config(OnPoison::DeadLetter)
    });
    // The one in bucket 3 is asked, and asks the one in bucket 0 to answer.
    let (asked, answerer) = (library.id(3, 0), library.id(0, 0));
    library.scene.call_with_key(&asked, "hello", "key");
    let batch = library.scene.batch();
    let caller = batch.messages[0].caller.clone().unwrap();
    let passed = message_to(&address(&answerer), "answer for me");
    let passing = effects(
        satchel_protocol::reqreply::from_function::InvocationResponse {
            outgoing_messages: vec![passed],
            ..Default::default()
        },
    );
    library.scene.complete(batch.attempt, passing);
    library.snapshot();
    library.crash();
    library.load(0);
    library.scene.settle();
    let batch = library.scene.batch();
    let answer = effects(
        satchel_protocol::reqreply::from_function::InvocationResponse {
            outgoing_messages: vec![message_to(&caller, "here")],
            ..Default::default()
        },
    );
    library.scene.complete(batch.attempt, answer);
    library.scene.settle();
    assert_eq!(library.scene.partition.gauges().in_flight, 1, "it waits");
    assert_eq!(library.scene.partition.counts().stale_replies, 0);
    library.load_all();
    library.scene.settle();
    assert_eq!(library.scene.partition.gauges().in_flight, 0);
    let again = library.scene.call_with_key(&asked, "hello", "key");
    library.scene.settle();
    assert_eq!(
        library.scene.answer_to(again),
        Some(Answer::Replied(value("here")))
    );
}

#[test]
fn the_list_of_dead_letters_waits_for_the_buckets_that_hold_some() {
    let mut library = Library::new(Config {
        loads_at_once: 1,
        ..config(OnPoison::DeadLetter)
    });
    let id = library.id(2, 0);
    library.scene.send(&id, &"too large ".repeat(1_000));
    library.scene.settle();
    assert_eq!(library.scene.dead_letters().len(), 1);
    library.snapshot();
    library.crash();
    let list = Administration::ListDeadLetters {
        function: None,
        after: None,
        limit: 10,
    };
    assert_eq!(library.scene.administer(list), None);
    assert_eq!(library.asked(), [2], "where they are is known");
    library.load(2);
    library.scene.settle();
    let answers = library.scene.answers();
    let [(_, Answer::DeadLetters(letters))] = &answers[..] else {
        panic!("{answers:?}");
    };
    let retry = Administration::RetryDeadLetter(letters[0].id);
    assert_eq!(library.scene.administer(retry), Some(Answer::Done));
}

#[test]
fn the_list_of_timers_visits_buckets_one_after_the_other_as_far_as_it_must() {
    let mut library = Library::new(Config {
        memory_limit_bytes: Some(1),
        ..config(OnPoison::DeadLetter)
    });
    for bucket in 0..4_u16 {
        let id = library.id(bucket, 0);
        library.scene.send(&id, "set");
        let batch = library.scene.batch();
        let ms = 60_000 * i64::from(4 - bucket);
        let timer = later_messages(vec![delayed("target", ms, "ring", &format!("{bucket}"))]);
        library.scene.complete(batch.attempt, timer);
        library.scene.settle();
    }
    library.snapshot();
    library.crash();
    let list = Administration::ListTimers {
        function: None,
        limit: 2,
    };
    assert_eq!(library.scene.administer(list), None);
    let mut visited = Vec::new();
    while let [bucket] = library.asked()[..] {
        visited.push(bucket);
        library.load(bucket);
        assert!(library.scene.partition.gauges().buckets_loaded <= 1);
    }
    assert_eq!(visited, [3, 2], "those in which something is due first");
    library.scene.settle();
    let answers = library.scene.answers();
    let [(_, Answer::Timers(timers))] = &answers[..] else {
        panic!("{answers:?}");
    };
    let tokens: Vec<_> = timers.iter().map(|timer| timer.token.as_deref()).collect();
    assert_eq!(tokens, [Some("3"), Some("2")]);
}

#[test]
fn only_what_was_pending_at_the_death_is_suspected_of_it_however_late_its_bucket_is_loaded() {
    let mut library = Library::new(Config {
        loads_at_once: 1,
        ..config(OnPoison::DeadLetter)
    });
    let (old, new) = (library.id(3, 0), library.id(3, 1));
    library.scene.send(&old, "old");
    library.scene.batch();
    library.snapshot();
    library.crash();
    library.scene.send(&new, "new");
    library.scene.later(60_000);
    library.scene.settle();
    assert_eq!(library.scene.batches().len(), 0);
    library.load_all();
    assert!(
        library.scene.batches().is_empty(),
        "that it was counted must be durable first"
    );
    library.scene.settle();
    let mut begun: Vec<_> = library
        .scene
        .batches()
        .iter()
        .flat_map(|batch| texts(batch))
        .collect();
    begun.sort();
    assert_eq!(begun, ["new", "old"]);
    let deaths: BTreeMap<_, _> = library
        .scene
        .log
        .iter()
        .flat_map(|delta| &delta.changes)
        .filter_map(|change| match (&change.key, &change.value) {
            (Key::Trouble { address }, Some(Value::Trouble(trouble))) => {
                Some((address.id.to_string(), trouble.deaths))
            }
            _ => None,
        })
        .collect();
    assert_eq!(deaths, BTreeMap::from([(old, 1)]));
}

#[test]
fn a_bucket_that_is_not_loaded_is_loaded_before_it_is_imaged_and_the_others_are_not_held_up() {
    let mut library = Library::new(Config {
        loads_at_once: 1,
        ..config(OnPoison::DeadLetter)
    });
    for bucket in 0..4 {
        let id = library.id(bucket, 0);
        library.see(&id, "before");
    }
    library.snapshot();
    let id = library.id(3, 0);
    library.see(&id, "after");
    library.crash();
    library.load(0);
    let imaged: Vec<u16> = library
        .image([0, 3])
        .iter()
        .map(|image| image.bucket)
        .collect();
    assert_eq!(imaged, [0]);
    assert_eq!(library.scene.partition.gauges().buckets_loaded, 1);
    library.load(1);
    assert_eq!(library.asked(), [3], "an image is wanted of it");
    library.load(3);
    library.scene.later(1);
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
fn messages_of_buckets_that_are_not_loaded_count_as_pending_once() {
    let mut library = Library::new(config(OnPoison::DeadLetter));
    let id = library.id(1, 0);
    library.scene.request(Verb::Send, &id, "in the image", None);
    library.snapshot();
    library.scene.request(Verb::Send, &id, "in the log", None);
    library.scene.settle();
    library.crash();
    library.scene.request(Verb::Send, &id, "since", None);
    library.load_all();
    let batch = {
        library.scene.settle();
        library.scene.batch()
    };
    assert_eq!(texts(&batch), ["in the image", "in the log", "since"]);
    library.scene.complete(batch.attempt, nothing());
    assert_eq!(library.scene.partition.gauges().pending_bytes, 0);
}

#[test]
fn a_bucket_that_holds_what_is_not_its_own_or_can_not_be_read_is_refused_by_name() {
    use crate::partition::LoadedBucket;
    let nothing = Overlay::default();
    let mut library = Library::new(config(OnPoison::DeadLetter));
    let id = library.id(1, 0);
    library.see(&id, "text");
    let image = library.image([1]).remove(0);
    let (key, value) = to_bytes(&image.content[0]);
    let decode = |bucket, value: &[u8]| {
        let entry = std::iter::once((&key[..], Some(value)));
        LoadedBucket::decode(bucket, 4, entry, 1, &nothing)
    };
    let value = value.unwrap();
    assert!(decode(1, &value).is_ok());
    let foreign = decode(2, &value).unwrap_err().to_string();
    assert!(
        foreign.starts_with("bucket 2 holds a fact of another bucket: ") && foreign.contains(&id),
        "{foreign}"
    );
    let mut newer = value.clone();
    newer[0] = 9;
    assert_eq!(
        decode(1, &newer).unwrap_err().to_string(),
        "bucket 1 holds an entry that can not be read: the value version 9 is not known to this version"
    );
    assert!(decode(1, &value[..value.len() - 1]).is_err());
}

#[test]
fn what_the_log_removes_from_an_image_that_holds_nothing_else_leaves_an_empty_bucket() {
    use crate::partition::LoadedBucket;
    let mut library = Library::new(config(OnPoison::DeadLetter));
    let id = library.id(1, 0);
    library.see(&id, "text");
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
    let full = LoadedBucket::decode(1, 4, image(), 1, &kept).unwrap();
    let empty = LoadedBucket::decode(1, 4, image(), 1, &removals).unwrap();
    let nothing = LoadedBucket::decode(1, 4, std::iter::empty(), 0, &removals).unwrap();
    assert_eq!(empty, nothing);
    assert!(empty.bytes() < full.bytes(), "{} B", empty.bytes());
}
