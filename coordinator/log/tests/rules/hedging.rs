//! A commit whose request hangs is sent once more.

use satchel_log::Created;
use satchel_log_simulation::{ManualOwner, drive};

use crate::root::Root;

/// Time after which a create is sent again before its usual time is known, in ms.
const INITIAL_MS: u64 = 1_000;

#[test]
fn a_create_that_hangs_holds_up_no_commit() {
    let root = Root::new();
    let mut owner = ManualOwner::take_over(root.contender_without_snapshots(1)).unwrap();
    let hanging = root.layout.log(2);
    root.store.delay(&hanging);
    owner.commit(&[(0, "key", Some("a"))]);
    root.store.stop_delaying(&hanging);

    root.clock.advance(INITIAL_MS - 1);
    owner.advance();
    assert!(
        owner.durable.is_empty(),
        "the request may still be answered"
    );
    assert!(!root.exists(&hanging));

    root.clock.advance(1);
    owner.advance();
    assert_eq!(owner.durable, [1], "by the second request");
    owner.commit(&[(0, "key", Some("b"))]);
    assert_eq!(owner.durable, [1, 2]);

    let late = drive(&mut Box::pin(root.store.deliver(&hanging))).unwrap();
    assert_eq!(late, Created::Exists, "the first request changes nothing");
    assert_eq!(root.recovered(), owner.state);
}

#[test]
fn a_create_that_took_effect_unanswered_is_found_to_be_its_own() {
    let root = Root::new();
    let mut owner = ManualOwner::take_over(root.contender_without_snapshots(1)).unwrap();
    let unanswered = root.layout.log(2);
    root.store.delay(&unanswered);
    owner.commit(&[(0, "key", Some("a"))]);
    let stored = drive(&mut Box::pin(root.store.deliver(&unanswered))).unwrap();
    assert_eq!(stored, Created::Stored);
    assert!(owner.durable.is_empty());

    root.clock.advance(INITIAL_MS);
    owner.advance();
    assert_eq!(
        (owner.durable.as_slice(), owner.numbers.as_slice()),
        (&[1][..], &[2][..])
    );
    assert!(owner.ended.is_none(), "{:?}", owner.ended);
    assert_eq!(root.recovered(), owner.state);
}

#[test]
fn after_many_quick_creates_a_hang_is_noticed_sooner() {
    let root = Root::new();
    let mut owner = ManualOwner::take_over(root.contender_without_snapshots(1)).unwrap();
    for number in 0..40 {
        owner.commit(&[(0, "key", Some(&format!("value-{number}")))]);
    }
    assert_eq!(owner.durable.len(), 40);
    let hanging = root.layout.log(42);
    root.store.delay(&hanging);
    owner.commit(&[(0, "key", Some("last"))]);
    root.store.stop_delaying(&hanging);
    root.clock.advance(99);
    owner.advance();
    assert_eq!(owner.durable.len(), 40);
    root.clock.advance(1);
    owner.advance();
    assert_eq!(owner.durable.len(), 41);
}
