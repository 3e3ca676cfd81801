use super::*;

const VISIBILITY_MS: u64 = 30_000;

fn id(number: u8) -> QueuedId {
    QueuedId([number; 16])
}

fn receipts(number: u8, handle: &str) -> Receipt {
    (id(number), handle.to_owned())
}

fn received(numbers: impl IntoIterator<Item = u8>) -> ReceivedMessages {
    let mut received = ReceivedMessages::new(VISIBILITY_MS, 10_000);
    for number in numbers {
        received.received(0, id(number), format!("handle-{number}"));
    }
    received
}

#[test]
fn only_durable_messages_are_deleted_ten_per_request() {
    let mut received = received(0..15);
    assert_eq!(received.poll_deletions(1_000), []);
    received.mark_deletable(1_000, &(0..12).map(id).collect::<Vec<_>>());
    let first = received.poll_deletions(1_000);
    let rest = received.poll_deletions(1_000);
    assert_eq!((first.len(), rest.len()), (10, 2));
    assert_eq!(received.poll_deletions(9_000), [], "they are under way");
    let done = first
        .into_iter()
        .chain(rest)
        .map(|it| (it, ReceiptOutcome::Done));
    let deleted = received.deleted(9_000, done.collect());
    assert_eq!(deleted, (0..12).map(id).collect::<Vec<_>>());
    assert_eq!(received.len(), 3);
}

#[test]
fn a_failed_deletion_is_retried_unless_its_handle_is_invalid() {
    let mut received = received([1, 2]);
    received.mark_deletable(0, &[id(1), id(2)]);
    let both = received.poll_deletions(0);
    let outcomes = both
        .into_iter()
        .zip([ReceiptOutcome::Retry, ReceiptOutcome::Lost])
        .collect();
    assert_eq!(received.deleted(0, outcomes), []);
    assert_eq!(received.len(), 1);
    assert_eq!(received.poll_deletions(99), []);
    assert_eq!(received.wake_at_ms(), Some(100));
    assert_eq!(received.poll_deletions(100), [receipts(1, "handle-1")]);
    let again = vec![(receipts(1, "handle-1"), ReceiptOutcome::Retry)];
    assert_eq!(received.deleted(100, again), []);
    assert_eq!(received.wake_at_ms(), Some(300));
}

#[test]
fn a_deletion_with_an_older_handle_does_not_count() {
    let mut received = received([1]);
    received.mark_deletable(0, &[id(1)]);
    let older = received.poll_deletions(0);
    received.received(10, id(1), "newer".to_owned());
    let done = older
        .into_iter()
        .map(|it| (it, ReceiptOutcome::Done))
        .collect();
    assert_eq!(received.deleted(20, done), [], "SQS accepts any handle");
    assert_eq!(received.poll_deletions(20), []);
    // The partition confirms again that the redelivered message may be deleted.
    received.mark_deletable(30, &[id(1)]);
    assert_eq!(received.poll_deletions(30), [receipts(1, "newer")]);
}

#[test]
fn invisibility_of_pending_messages_is_extended_up_to_the_limit_of_sqs() {
    let mut received = received([1, 2]);
    assert_eq!(received.poll_extensions(14_999), []);
    let due = received.poll_extensions(15_000);
    assert_eq!(due, [receipts(1, "handle-1"), receipts(2, "handle-2")]);
    let outcomes = due
        .into_iter()
        .zip([ReceiptOutcome::Done, ReceiptOutcome::Retry])
        .collect();
    received.extended(15_000, outcomes);
    assert_eq!(received.wake_at_ms(), Some(18_000), "the second, soon");
    received.mark_deletable(16_000, &[id(1), id(2)]);
    let deleted = received.poll_deletions(16_000);
    let deleted = deleted
        .into_iter()
        .map(|it| (it, ReceiptOutcome::Done))
        .collect();
    received.deleted(16_000, deleted);
    assert_eq!(received.wake_at_ms(), None, "what is deleted needs nothing");

    received.received(0, id(3), "handle-3".to_owned());
    let mut now_ms = 0;
    while let Some(due_ms) = received.wake_at_ms() {
        now_ms = due_ms;
        let due = received.poll_extensions(now_ms);
        let outcomes = due
            .into_iter()
            .map(|it| (it, ReceiptOutcome::Done))
            .collect();
        received.extended(now_ms, outcomes);
    }
    assert!(now_ms < INVISIBLE_MAX_MS, "{now_ms}");
    assert!(now_ms > INVISIBLE_MAX_MS - 2 * VISIBILITY_MS, "{now_ms}");
    received.mark_deletable(INVISIBLE_MAX_MS, &[id(3)]);
    assert_eq!(
        received.poll_deletions(INVISIBLE_MAX_MS),
        [receipts(3, "handle-3")]
    );
}

#[test]
fn an_answer_found_after_a_long_sleep_is_not_used() {
    let received = received([]);
    assert!(received.is_fresh(5_000, 15_000));
    assert!(!received.is_fresh(5_000, 15_001));
}
