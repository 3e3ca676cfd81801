//! Stories of records between an outbox and a producer.

use bytes::Bytes;

use super::*;

const LIMITS: Limits = Limits {
    records: 4,
    bytes: 100,
};

fn record(number: u64, topic: &str, bytes: usize) -> ProducerRecord {
    ProducerRecord {
        number,
        topic: topic.into(),
        key: None,
        value: Bytes::from(vec![0; bytes]),
        trace: None,
    }
}

fn outbox(records: &[(u64, &str)]) -> Outbox {
    let mut outbox = Outbox::new(LIMITS, 7);
    for (number, topic) in records {
        outbox.offer(record(*number, topic, 10));
    }
    outbox
}

fn numbers(round: &[Arc<ProducerRecord>]) -> Vec<u64> {
    round.iter().map(|record| record.number).collect()
}

/// Sends one round and answers each record by its number. Returns the numbers that were sent, those
/// that were delivered, and those that were refused.
fn send(
    outbox: &mut Outbox,
    now_ms: u64,
    fate: impl Fn(u64) -> Fate,
) -> (Vec<u64>, Vec<u64>, Vec<u64>) {
    let round = outbox.round(now_ms);
    let sent = numbers(&round);
    let fates = sent.iter().map(|number| fate(*number)).collect();
    let (mut delivered, mut refused) = (Vec::new(), Vec::new());
    for settled in outbox.answered(now_ms, &round, fates) {
        match settled {
            Settled::Delivered(number) => delivered.push(number),
            Settled::Refused { number, .. } => refused.push(number),
        }
    }
    (sent, delivered, refused)
}

#[test]
fn a_round_takes_the_lowest_numbers_of_all_topics_up_to_its_limits() {
    let mut outbox = outbox(&[(1, "a"), (2, "b"), (3, "a"), (4, "b"), (5, "a")]);
    assert_eq!(numbers(&outbox.round(0)), [1, 2, 3, 4]);
    outbox.offer(record(6, "c", 500));
    let all = |_| Fate::Delivered;
    assert_eq!(
        send(&mut outbox, 0, all),
        (vec![1, 2, 3, 4], vec![1, 3, 2, 4], vec![])
    );
    assert_eq!(
        send(&mut outbox, 0, all).0,
        [5],
        "the next one is too large beside it"
    );
    assert_eq!(send(&mut outbox, 0, all).0, [6], "but not alone");
    assert_eq!((outbox.pending(), outbox.wake_at_ms()), (0, None));
}

#[test]
fn a_failed_record_is_sent_before_the_later_ones_of_its_topic_and_holds_up_no_other_topic() {
    let mut outbox = outbox(&[(1, "a"), (2, "b"), (3, "a")]);
    let (_, delivered, _) = send(&mut outbox, 0, |number| match number {
        1 => Fate::Retry("no leader".to_owned()),
        3 => Fate::Again,
        _ => Fate::Delivered,
    });
    assert_eq!(delivered, [2]);
    outbox.offer(record(4, "a", 10));
    outbox.offer(record(5, "b", 10));
    assert_eq!(send(&mut outbox, 1, |_| Fate::Delivered).0, [5]);
    let due_ms = outbox.wake_at_ms().unwrap();
    assert!((50..=100).contains(&due_ms), "{due_ms}");
    assert_eq!(send(&mut outbox, due_ms, |_| Fate::Delivered).0, [1, 3, 4]);
}

#[test]
fn the_record_for_which_a_batch_is_rejected_is_found_by_sending_each_alone() {
    let mut outbox = outbox(&[(1, "a"), (2, "a"), (3, "a"), (4, "b")]);
    let fate = |number| match number {
        4 => Fate::Delivered,
        _ => Fate::Suspect("too large".to_owned()),
    };
    assert_eq!(
        send(&mut outbox, 0, fate),
        (vec![1, 2, 3, 4], vec![4], vec![])
    );
    let fate = |number| match number {
        2 => Fate::Suspect("too large".to_owned()),
        _ => Fate::Delivered,
    };
    assert_eq!(send(&mut outbox, 0, fate), (vec![1], vec![1], vec![]));
    assert_eq!(send(&mut outbox, 0, fate), (vec![2], vec![], vec![2]));
    outbox.offer(record(5, "a", 10));
    assert_eq!(send(&mut outbox, 0, fate), (vec![3], vec![3], vec![]));
    assert_eq!(send(&mut outbox, 0, fate), (vec![5], vec![5], vec![]));
}

#[test]
fn a_topic_that_stays_missing_is_given_up_after_a_minute_and_tried_anew_for_later_records() {
    let mut outbox = outbox(&[(1, "a"), (2, "a")]);
    let missing = |_| Fate::Missing("no topic".to_owned());
    let mut now_ms = 0;
    for _ in 1..MISSING_MAX {
        now_ms = outbox.wake_at_ms().unwrap();
        assert_eq!(
            send(&mut outbox, now_ms, missing),
            (vec![1, 2], vec![], vec![])
        );
    }
    now_ms = outbox.wake_at_ms().unwrap().max(now_ms);
    assert!(now_ms > 60_000, "{now_ms}");
    assert_eq!(send(&mut outbox, now_ms, missing).2, [1, 2]);
    outbox.offer(record(3, "a", 10));
    assert_eq!(
        send(&mut outbox, now_ms, missing),
        (vec![3], vec![], vec![])
    );
    assert_eq!(outbox.pending(), 1);
}

#[test]
fn records_that_turn_out_to_be_delivered_are_not_sent() {
    let mut outbox = outbox(&[(1, "a"), (2, "b"), (3, "a"), (4, "a")]);
    let delivered = outbox.take_delivered(&"a".into(), |number| number <= 3);
    assert_eq!(delivered, [1, 3]);
    assert_eq!(numbers(&outbox.round(0)), [2, 4]);
}
