//! State larger than memory: buckets are dropped, and loaded again.

use super::library::*;
use super::scene::*;
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
    library.scene.partition.gauges().buckets_loaded
}

#[test]
fn what_changed_is_kept_until_a_snapshot_took_effect_which_is_asked_for_once() {
    let mut library = limited(1);
    for bucket in 0..4 {
        let id = library.id(bucket, 0);
        library.see(&id, "before");
    }
    library.look();
    assert_eq!(library.snapshots_wanted, 1);
    assert_eq!(loaded(&library), 4);
    let images = library.image(0..=4);
    assert_eq!(loaded(&library), 4, "the images are not in effect yet");
    // One of them changes after its image was taken.
    let id = library.id(2, 0);
    library.see(&id, "after");
    library.publish(images);
    assert_eq!(loaded(&library), 1, "all but the one that changed");
    assert_eq!(library.snapshots_wanted, 2);
    assert_eq!(library.scene.partition.counts().evictions, 3);
    let inspect = Administration::Inspect(address(&id));
    assert!(matches!(
        library.scene.administer(inspect),
        Some(Answer::Address(_))
    ));
}

#[test]
fn what_was_dropped_is_loaded_when_it_is_needed_with_all_that_came_meanwhile() {
    let mut library = limited(1);
    let id = library.id(1, 0);
    library.see(&id, "before");
    library.snapshot();
    assert_eq!(loaded(&library), 3, "the others hold nothing");
    assert_eq!(library.scene.partition.gauges().state_bytes, 0);
    library.scene.send(&id, "hello");
    library.load(1);
    let batch = library.scene.batch();
    let seen = batch.state[0].value.as_ref().unwrap();
    assert_eq!(
        (texts(&batch), &seen.1[..]),
        (vec!["hello".to_owned()], &b"before"[..])
    );
    library.scene.complete(batch.attempt, set_seen("after"));
    library.scene.settle();
    library.snapshot_of([1]);
    library.scene.send(&id, "again");
    library.load(1);
    let batch = library.scene.batch();
    let seen = batch.state[0].value.as_ref().unwrap();
    assert_eq!(&seen.1[..], b"after");
}

#[test]
fn the_one_that_was_not_used_for_longest_is_dropped_first_and_only_as_many_as_must_be() {
    let mut library = limited(usize::MAX);
    for bucket in 0..4 {
        let id = library.id(bucket, 0);
        library.see(&id, &"x".repeat(1_000));
    }
    library.snapshot();
    let all = library.scene.partition.gauges().state_bytes;
    let mut library = limited(all / 4 * 3 + 100);
    for bucket in [2, 0, 3, 1] {
        let id = library.id(bucket, 0);
        library.see(&id, &"x".repeat(1_000));
    }
    library.snapshot();
    assert_eq!(loaded(&library), 3);
    let longest = library.id(2, 0);
    library.scene.send(&longest, "hello");
    assert_eq!(library.asked(), [2], "it is the one that was used first");
}

#[test]
fn what_waits_or_may_be_asked_for_stays_in_memory() {
    let mut library = limited(1);
    // A message in flight, an open request, a dead letter; and nothing of the kind.
    let ids: Vec<String> = (0..4).map(|bucket| library.id(bucket, 0)).collect();
    for id in &ids {
        library.see(id, "before");
    }
    library.scene.send(&ids[0], "in flight");
    library.scene.call_with_key(&ids[1], "open", "key");
    let open = library
        .scene
        .batches()
        .into_iter()
        .find(|batch| *batch.target.id == *ids[1])
        .unwrap();
    library.scene.complete(open.attempt, nothing());
    library.scene.send(&ids[2], &"too large ".repeat(1_000));
    library.snapshot();
    assert_eq!(loaded(&library), 3);
    let list = library.scene.dead_letters();
    assert_eq!(list.len(), 1, "the list needs nothing to be loaded");
}

#[test]
fn what_is_due_in_a_dropped_bucket_is_not_forgotten_and_what_is_on_the_agenda_for_it_is() {
    let mut library = limited(1);
    let (owner, target) = (library.id(1, 0), library.id(2, 0));
    library.scene.send(&owner, "set");
    let batch = library.scene.batch();
    let timer = later_messages(vec![delayed(&target, 60_000, "ring", "token")]);
    library.scene.complete(batch.attempt, timer);
    library.snapshot();
    assert_eq!(loaded(&library), 3);
    assert_eq!(library.scene.partition.gauges().timers, 0);
    library.scene.later(59_000);
    assert_eq!(library.asked(), [0_u16; 0]);
    library.scene.later(2_000);
    library.load(1);
    assert_eq!(texts(&library.scene.batch()), ["ring"]);
    assert_eq!(library.scene.partition.counts().timers_fired, 1);
}

#[test]
fn a_bucket_whose_log_was_laid_over_its_image_may_be_dropped_and_comes_back_the_same() {
    let mut library = limited(1);
    let id = library.id(1, 0);
    library.see(&id, "old");
    library.snapshot();
    library.load_and_see(&id, "new");
    library.crash();
    assert_eq!(loaded(&library), 3, "of one there is an image");
    for _ in 0..3 {
        let inspect = Administration::Inspect(address(&id));
        assert_eq!(library.scene.administer(inspect), None);
        library.load(1);
        library.scene.settle();
        let answers = library.scene.answers();
        let [(_, Answer::Address(view))] = &answers[..] else {
            panic!("{answers:?}");
        };
        assert_eq!(&view.state[0].value[..], b"new");
        assert_eq!(
            library.scene.partition.gauges().buckets_loaded,
            3,
            "it is dropped again"
        );
    }
}

#[test]
fn loading_what_nobody_waits_for_ends_where_memory_ends() {
    let mut library = limited(usize::MAX);
    for bucket in 0..4 {
        let id = library.id(bucket, 0);
        library.see(&id, &"x".repeat(1_000));
    }
    library.snapshot();
    let all = library.scene.partition.gauges().state_bytes;
    library.scene.config.memory_limit_bytes = Some(all * 7 / 10);
    library.scene.config.loads_at_once = 1;
    library.crash();
    library.load_all();
    let gauges = library.scene.partition.gauges();
    assert_eq!(gauges.buckets_loaded, 2, "{gauges:?}");
    assert_eq!(gauges.buckets_awaited, 0, "the others wait for a use");
    assert!(gauges.state_bytes <= all * 7 / 10, "{gauges:?}");
    assert_eq!(library.snapshots_wanted, 0);
}

#[test]
fn what_is_counted_of_memory_comes_back_to_nothing() {
    let mut library = limited(usize::MAX);
    let id = library.id(1, 0);
    assert_eq!(library.scene.partition.gauges().state_bytes, 0);
    library.scene.send(&id, "hello");
    let batch = library.scene.batch();
    let timer = later_messages(vec![delayed(&id, 10_000, "ring", "token")]);
    library.scene.complete(batch.attempt, timer);
    library.scene.settle();
    let with_timer = library.scene.partition.gauges().state_bytes;
    assert!(with_timer > 500, "{with_timer}");
    library.see(&id, "one");
    library.see(&id, &"two".repeat(2_000));
    let with_state = library.scene.partition.gauges().state_bytes;
    assert!(with_state > with_timer + 6_000, "{with_state}");
    library.scene.later(10_000);
    library.answer_with("rung");
    let delete = Administration::DeleteState {
        address: address(&id),
        state: "seen".into(),
    };
    assert_eq!(library.scene.administer(delete), Some(Answer::Done));
    library.scene.settle();
    assert_eq!(library.scene.partition.gauges().state_bytes, 0);
}
