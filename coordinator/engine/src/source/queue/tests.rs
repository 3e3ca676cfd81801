use super::*;

const VISIBILITY_MS: u64 = 30_000;

fn id(number: u8) -> QueuedId {
    QueuedId([number; 16])
}

fn handed(number: u8, handle: &str) -> Handed {
    (id(number), handle.to_owned())
}

fn inbox(numbers: impl IntoIterator<Item = u8>) -> ReceivedMessages {
    let mut inbox = ReceivedMessages::new(VISIBILITY_MS, 10_000);
    for number in numbers {
        inbox.received(0, id(number), format!("handle-{number}"));
    }
    inbox
}

#[test]
fn only_what_is_taken_is_deleted_ten_at_once() {
    let mut inbox = inbox(0..15);
    assert_eq!(inbox.poll_deletions(1_000), []);
    inbox.taken(1_000, &(0..12).map(id).collect::<Vec<_>>());
    let first = inbox.poll_deletions(1_000);
    let rest = inbox.poll_deletions(1_000);
    assert_eq!((first.len(), rest.len()), (10, 2));
    assert_eq!(inbox.poll_deletions(9_000), [], "they are under way");
    let done = first.into_iter().chain(rest).map(|it| (it, Fate::Done));
    let deleted = inbox.deleted(9_000, done.collect());
    assert_eq!(deleted, (0..12).map(id).collect::<Vec<_>>());
    assert_eq!(inbox.len(), 3);
}

#[test]
fn a_deletion_that_failed_is_tried_again_later_and_one_without_hope_is_not() {
    let mut inbox = inbox([1, 2]);
    inbox.taken(0, &[id(1), id(2)]);
    let both = inbox.poll_deletions(0);
    let fates = both.into_iter().zip([Fate::Again, Fate::Lost]).collect();
    assert_eq!(inbox.deleted(0, fates), []);
    assert_eq!(inbox.len(), 1);
    assert_eq!(inbox.poll_deletions(99), []);
    assert_eq!(inbox.wake_at_ms(), Some(100));
    assert_eq!(inbox.poll_deletions(100), [handed(1, "handle-1")]);
    let again = vec![(handed(1, "handle-1"), Fate::Again)];
    assert_eq!(inbox.deleted(100, again), []);
    assert_eq!(inbox.wake_at_ms(), Some(300));
}

#[test]
fn a_deletion_with_an_older_handle_does_not_count() {
    let mut inbox = inbox([1]);
    inbox.taken(0, &[id(1)]);
    let older = inbox.poll_deletions(0);
    inbox.received(10, id(1), "newer".to_owned());
    let done = older.into_iter().map(|it| (it, Fate::Done)).collect();
    assert_eq!(inbox.deleted(20, done), [], "SQS says yes to any handle");
    assert_eq!(inbox.poll_deletions(20), []);
    // The partition says of what was received again that it may be deleted.
    inbox.taken(30, &[id(1)]);
    assert_eq!(inbox.poll_deletions(30), [handed(1, "newer")]);
}

#[test]
fn what_is_pending_is_kept_from_others_again_and_again_but_no_longer_than_sqs_allows() {
    let mut inbox = inbox([1, 2]);
    assert_eq!(inbox.poll_extensions(14_999), []);
    let due = inbox.poll_extensions(15_000);
    assert_eq!(due, [handed(1, "handle-1"), handed(2, "handle-2")]);
    let fates = due.into_iter().zip([Fate::Done, Fate::Again]).collect();
    inbox.extended(15_000, fates);
    assert_eq!(inbox.wake_at_ms(), Some(18_000), "the second, soon");
    inbox.taken(16_000, &[id(1), id(2)]);
    let deleted = inbox.poll_deletions(16_000);
    let deleted = deleted.into_iter().map(|it| (it, Fate::Done)).collect();
    inbox.deleted(16_000, deleted);
    assert_eq!(inbox.wake_at_ms(), None, "what is deleted needs nothing");

    inbox.received(0, id(3), "handle-3".to_owned());
    let mut now_ms = 0;
    while let Some(due_ms) = inbox.wake_at_ms() {
        now_ms = due_ms;
        let due = inbox.poll_extensions(now_ms);
        let fates = due.into_iter().map(|it| (it, Fate::Done)).collect();
        inbox.extended(now_ms, fates);
    }
    assert!(now_ms < INVISIBLE_MAX_MS, "{now_ms}");
    assert!(now_ms > INVISIBLE_MAX_MS - 2 * VISIBILITY_MS, "{now_ms}");
    inbox.taken(INVISIBLE_MAX_MS, &[id(3)]);
    assert_eq!(
        inbox.poll_deletions(INVISIBLE_MAX_MS),
        [handed(3, "handle-3")]
    );
}

#[test]
fn an_answer_that_a_sleeper_finds_when_he_wakes_is_not_taken() {
    let inbox = inbox([]);
    assert!(inbox.is_fresh(5_000, 15_000));
    assert!(!inbox.is_fresh(5_000, 15_001));
}
