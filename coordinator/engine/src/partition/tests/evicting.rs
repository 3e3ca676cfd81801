//! State larger than memory: buckets are evicted, and loaded again.

use super::fixture::*;
use super::library::*;
use crate::endpoint::OnPoison;
use crate::input::Administration;
use crate::output::Answer;
use crate::partition::Config;

fn limited(bytes: usize) -> Library {
    Library::new(Config {
        memory_limit_bytes: Some(bytes),
        ..config(OnPoison::DeadLetter)
    })
}

fn loaded(library: &Library) -> usize {
    library.fixture.partition.gauges().buckets_loaded
}

#[test]
fn changed_buckets_stay_until_a_snapshot_which_is_requested_once() {
    let mut library = limited(1);
    for bucket in 0..4 {
        let id = library.id(bucket, 0);
        library.set_seen(&id, "before");
    }
    library.collect_loads();
    assert_eq!(library.snapshots_wanted, 1);
    assert_eq!(loaded(&library), 4);
    let images = library.image(0..=4);
    assert_eq!(loaded(&library), 4, "the images are not in effect yet");
    // One of them changes after its image was taken.
    let id = library.id(2, 0);
    library.set_seen(&id, "after");
    library.publish(images);
    assert_eq!(loaded(&library), 1, "all but the one that changed");
    assert_eq!(library.snapshots_wanted, 2);
    assert_eq!(library.fixture.partition.counts().evictions, 3);
    let inspect = Administration::Inspect(address(&id));
    assert!(matches!(
        library.fixture.administer(inspect),
        Some(Answer::Address(_))
    ));
}

#[test]
fn an_evicted_bucket_is_loaded_when_needed_with_everything_that_arrived_meanwhile() {
    let mut library = limited(1);
    let id = library.id(1, 0);
    library.set_seen(&id, "before");
    library.snapshot();
    assert_eq!(loaded(&library), 3, "the others hold nothing");
    assert_eq!(library.fixture.partition.gauges().state_bytes, 0);
    library.fixture.send(&id, "hello");
    library.load(1);
    let batch = library.fixture.batch();
    let seen = batch.state[0].value.as_ref().unwrap();
    assert_eq!(
        (texts(&batch), &seen.1[..]),
        (vec!["hello".to_owned()], &b"before"[..])
    );
    library.fixture.complete(batch.attempt, set_seen("after"));
    library.fixture.settle();
    library.snapshot_of([1]);
    library.fixture.send(&id, "again");
    library.load(1);
    let batch = library.fixture.batch();
    let seen = batch.state[0].value.as_ref().unwrap();
    assert_eq!(&seen.1[..], b"after");
}

#[test]
fn the_least_recently_used_bucket_is_evicted_first_and_no_more_than_needed() {
    let mut library = limited(usize::MAX);
    for bucket in 0..4 {
        let id = library.id(bucket, 0);
        library.set_seen(&id, &"x".repeat(1_000));
    }
    library.snapshot();
    let all = library.fixture.partition.gauges().state_bytes;
    let mut library = limited(all / 4 * 3 + 100);
    for bucket in [2, 0, 3, 1] {
        let id = library.id(bucket, 0);
        library.set_seen(&id, &"x".repeat(1_000));
    }
    library.snapshot();
    assert_eq!(loaded(&library), 3);
    let longest = library.id(2, 0);
    library.fixture.send(&longest, "hello");
    assert_eq!(library.asked(), [2], "it is the one that was used first");
}

#[test]
fn pending_facts_stay_in_memory() {
    let mut library = limited(1);
    // A message in flight, an open request, and two buckets with none of these.
    let ids: Vec<String> = (0..4).map(|bucket| library.id(bucket, 0)).collect();
    for id in &ids {
        library.set_seen(id, "before");
    }
    library.fixture.send(&ids[0], "in flight");
    library.fixture.call_with_key(&ids[1], "open", "key");
    let open = library
        .fixture
        .batches()
        .into_iter()
        .find(|batch| *batch.target.id == *ids[1])
        .unwrap();
    library.fixture.complete(open.attempt, nothing());
    library.snapshot();
    assert_eq!(loaded(&library), 2);
}

#[test]
fn an_evicted_bucket_keeps_its_due_time_and_leaves_no_schedule_entries() {
    let mut library = limited(1);
    let (owner, target) = (library.id(1, 0), library.id(2, 0));
    library.fixture.send(&owner, "set");
    let batch = library.fixture.batch();
    let timer = later_messages(vec![delayed(&target, 60_000, "ring", "token")]);
    library.fixture.complete(batch.attempt, timer);
    library.snapshot();
    assert_eq!(loaded(&library), 3);
    assert_eq!(library.fixture.partition.gauges().timers, 0);
    library.fixture.later(59_000);
    assert_eq!(library.asked(), [0_u16; 0]);
    library.fixture.later(2_000);
    library.load(1);
    assert_eq!(texts(&library.fixture.batch()), ["ring"]);
    assert_eq!(library.fixture.partition.counts().timers_fired, 1);
}

#[test]
fn a_bucket_with_replayed_entries_can_be_evicted_and_loads_unchanged() {
    let mut library = limited(1);
    let id = library.id(1, 0);
    library.set_seen(&id, "old");
    library.snapshot();
    library.load_and_set_seen(&id, "new");
    library.crash();
    assert_eq!(loaded(&library), 3, "of one there is an image");
    for _ in 0..3 {
        let inspect = Administration::Inspect(address(&id));
        assert_eq!(library.fixture.administer(inspect), None);
        library.load(1);
        library.fixture.settle();
        let answers = library.fixture.answers();
        let [(_, Answer::Address(view))] = &answers[..] else {
            panic!("{answers:?}");
        };
        assert_eq!(&view.state[0].value[..], b"new");
        assert_eq!(
            library.fixture.partition.gauges().buckets_loaded,
            3,
            "it is evicted again"
        );
    }
}

#[test]
fn unneeded_buckets_are_loaded_only_while_memory_has_room() {
    let mut library = limited(usize::MAX);
    for bucket in 0..4 {
        let id = library.id(bucket, 0);
        library.set_seen(&id, &"x".repeat(1_000));
    }
    library.snapshot();
    let all = library.fixture.partition.gauges().state_bytes;
    library.fixture.config.memory_limit_bytes = Some(all * 7 / 10);
    library.fixture.config.loads_at_once = Some(1);
    library.crash();
    library.load_all();
    let gauges = library.fixture.partition.gauges();
    assert_eq!(gauges.buckets_loaded, 2, "{gauges:?}");
    assert_eq!(gauges.buckets_awaited, 0, "the others wait for a use");
    assert!(gauges.state_bytes <= all * 7 / 10, "{gauges:?}");
    assert_eq!(library.snapshots_wanted, 0);
}

#[test]
fn memory_counters_return_to_zero() {
    let mut library = limited(usize::MAX);
    let id = library.id(1, 0);
    assert_eq!(library.fixture.partition.gauges().state_bytes, 0);
    library.fixture.send(&id, "hello");
    let batch = library.fixture.batch();
    let timer = later_messages(vec![delayed(&id, 10_000, "ring", "token")]);
    library.fixture.complete(batch.attempt, timer);
    library.fixture.settle();
    let with_timer = library.fixture.partition.gauges().state_bytes;
    assert!(with_timer > 500, "{with_timer}");
    library.set_seen(&id, "one");
    library.set_seen(&id, &"two".repeat(2_000));
    let with_state = library.fixture.partition.gauges().state_bytes;
    assert!(with_state > with_timer + 6_000, "{with_state}");
    library.fixture.later(10_000);
    library.answer_with("rung");
    let delete = Administration::DeleteState {
        address: address(&id),
        state: "seen".into(),
    };
    assert_eq!(library.fixture.administer(delete), Some(Answer::Done));
    library.fixture.settle();
    assert_eq!(library.fixture.partition.gauges().state_bytes, 0);
}
