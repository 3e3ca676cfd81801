//! Stories about one pair of partitions.

use super::{AHEAD_MAX_MS, Answer, CREDIT_MAX, Frame, Intake, Reaction, Receiver, Refusal, Sender};

const NOW_MS: u64 = 1_000_000;
const ROOM: u64 = 100;

/// A sender with messages of ten bytes, by name, all released.
fn sender(messages: &[&'static str]) -> Sender<&'static str> {
    let mut sender = Sender::start(0, 0);
    for (index, message) in messages.iter().enumerate() {
        sender.release(index as u64 + 1, *message, 10, NOW_MS + index as u64);
    }
    sender
}

fn frame(first: u64, messages: &[&'static str], time_ms: u64) -> Frame<&'static str> {
    Frame {
        first,
        messages: messages.to_vec(),
        time_ms,
    }
}

fn answer(epoch: u64, taken: u64, durable: u64) -> Answer {
    Answer {
        epoch,
        taken,
        durable,
        time_ms: NOW_MS,
        refused: None,
        credit: ROOM,
    }
}

/// Connects, and greets as a receiver of this epoch that has what was acknowledged.
fn connect<M: Clone>(sender: &mut Sender<M>, id: u64, epoch: u64) {
    sender.connected(id);
    let known = sender.acknowledged();
    let greeting = answer(epoch, known, known);
    assert_eq!(sender.answered(id, &greeting, NOW_MS), Reaction::Proceed);
}

#[test]
fn a_connection_has_no_credit_before_the_greeting_of_the_receiver() {
    let mut sender = sender(&["a"]);
    sender.connected(1);
    assert_eq!(sender.poll(100), None);
    let mut full = answer(1, 0, 0);
    full.credit = 0;
    assert_eq!(sender.answered(1, &full, NOW_MS), Reaction::Proceed);
    assert_eq!(sender.poll(100), None, "the receiver has no room");
    // Connecting again does not give credit.
    sender.disconnected(1);
    sender.connected(2);
    assert_eq!(sender.poll(100), None);
    let greeting = answer(1, 0, 0);
    assert_eq!(sender.answered(2, &greeting, NOW_MS), Reaction::Proceed);
    assert_eq!(sender.poll(100), Some(frame(1, &["a"], NOW_MS)));
}

#[test]
fn messages_leave_in_frames_and_are_removed_when_they_are_durable_at_the_receiver() {
    let mut sender = sender(&["a", "b", "c"]);
    let mut receiver = Receiver::start(1, 0, 0);
    assert_eq!(sender.poll(20), None, "there is no connection");
    connect(&mut sender, 1, 1);
    let first = sender.poll(20).unwrap();
    assert_eq!(first, frame(1, &["a", "b"], NOW_MS + 1));
    let second = sender.poll(20).unwrap();
    assert_eq!(second, frame(3, &["c"], NOW_MS + 2));
    assert_eq!(sender.poll(20), None);

    assert_eq!(receiver.frame(&first, NOW_MS, ROOM), Intake::Take(1..=2));
    assert_eq!(receiver.frame(&second, NOW_MS, ROOM), Intake::Take(3..=3));
    assert_eq!(sender.acknowledged(), 0, "nothing is durable there");
    let durable = receiver.durable(2, NOW_MS + 5, ROOM).unwrap();
    let reaction = sender.answered(1, &durable, NOW_MS);
    let acknowledged = Reaction::Acknowledged {
        upto: 2,
        epoch: 1,
        time_ms: NOW_MS + 5,
    };
    assert_eq!(reaction, acknowledged);
    assert_eq!((sender.acknowledged(), sender.released()), (2, 3));
    assert_eq!(receiver.durable(2, NOW_MS + 9, ROOM), None, "it is said");
}

#[test]
fn rule_19_a_frame_beyond_the_next_number_is_refused_and_sending_goes_back() {
    let mut sender = sender(&["a", "b", "c"]);
    let mut receiver = Receiver::start(1, 0, 0);
    connect(&mut sender, 1, 1);
    let frames: Vec<_> = std::iter::from_fn(|| sender.poll(10)).collect();
    assert_eq!(frames.len(), 3);
    // The first one is refused for its time; the clock of the receiver catches up at once.
    let ahead = receiver.frame(&frames[0], NOW_MS - AHEAD_MAX_MS - 1, ROOM);
    let Intake::Answer(ahead) = ahead else {
        panic!("{ahead:?}");
    };
    assert_eq!(ahead.refused, Some(Refusal::Ahead));
    let gap = receiver.frame(&frames[1], NOW_MS, ROOM);
    let Intake::Answer(gap) = gap else {
        panic!("{gap:?}");
    };
    assert_eq!((gap.refused, gap.taken), (Some(Refusal::Gap), 0));
    assert_eq!(receiver.taken(), 0);

    assert_eq!(sender.answered(1, &gap, NOW_MS), Reaction::Proceed);
    assert_eq!(sender.poll(10), Some(frames[0].clone()));
    assert_eq!(sender.answered(1, &ahead, NOW_MS), Reaction::ClocksDiffer);
    assert_eq!(sender.poll(10), None, "the connection is not used further");
    connect(&mut sender, 2, 1);
    assert_eq!(sender.poll(10), Some(frames[0].clone()));
}

#[test]
fn rule_20_after_a_change_of_the_receivers_owner_what_was_not_durable_is_sent_again() {
    let mut sender = sender(&["a", "b"]);
    let mut first = Receiver::start(1, 0, 0);
    connect(&mut sender, 1, 1);
    let frame = sender.poll(100).unwrap();
    assert_eq!(first.frame(&frame, NOW_MS, ROOM), Intake::Take(1..=2));
    let greeting = first.answer(ROOM);
    assert_eq!(sender.answered(1, &greeting, NOW_MS), Reaction::Proceed);
    assert_eq!(sender.poll(100), None, "it was taken");

    let mut second = Receiver::start(2, 0, 0);
    sender.disconnected(1);
    connect(&mut sender, 2, 2);
    assert_eq!(sender.poll(100), Some(frame.clone()));
    assert_eq!(second.frame(&frame, NOW_MS, ROOM), Intake::Take(1..=2));
    // A copy that was still on its way over another connection.
    let copy = second.frame(&frame, NOW_MS, ROOM);
    assert_eq!(copy, Intake::Answer(second.answer(ROOM)));
}

#[test]
fn a_frame_that_overlaps_what_was_taken_is_taken_from_the_next_number_on() {
    let mut receiver = Receiver::start(1, 2, 0);
    let overlapping = frame(2, &["b", "c", "d"], NOW_MS);
    assert_eq!(
        receiver.frame(&overlapping, NOW_MS, ROOM),
        Intake::Take(3..=4)
    );
}

#[test]
fn rule_45_a_former_owner_of_the_receiver_is_not_taken_for_damage() {
    let mut sender = sender(&["a", "b"]);
    connect(&mut sender, 1, 2);
    assert!(sender.poll(100).is_some());
    let reaction = sender.answered(1, &answer(2, 2, 2), NOW_MS);
    assert!(matches!(reaction, Reaction::Acknowledged { upto: 2, .. }));
    sender.connected(2);
    let former = sender.answered(2, &answer(1, 0, 0), NOW_MS);
    assert_eq!(former, Reaction::FormerOwner);

    // The next owner of the sender knows the epoch that acknowledged.
    let mut next: Sender<&str> = Sender::start(2, 2);
    next.connected(1);
    assert_eq!(
        next.answered(1, &answer(1, 0, 0), NOW_MS),
        Reaction::FormerOwner
    );
}

#[test]
fn a_newest_receiver_that_lacks_what_was_acknowledged_is_damaged() {
    let mut sender: Sender<&str> = Sender::start(5, 2);
    sender.connected(1);
    let lost = sender.answered(1, &answer(3, 3, 3), NOW_MS);
    assert_eq!(lost, Reaction::Lost { number: 4 });
    assert_eq!(sender.poll(100), None, "the pair stops");
}

#[test]
fn a_greeting_older_than_the_last_acknowledgement_is_not_taken_for_damage() {
    let mut sender = sender(&["a", "b"]);
    let mut receiver = Receiver::start(1, 0, 0);
    connect(&mut sender, 1, 1);
    let frame = sender.poll(100).unwrap();
    // The receiver greets a second connection, then takes the frame over the first one.
    let greeting = receiver.answer(ROOM);
    assert_eq!(receiver.frame(&frame, NOW_MS, ROOM), Intake::Take(1..=2));
    let durable = receiver.durable(2, NOW_MS, ROOM).unwrap();
    let reaction = sender.answered(1, &durable, NOW_MS);
    assert!(matches!(reaction, Reaction::Acknowledged { upto: 2, .. }));
    sender.connected(2);
    sender.release(3, "c", 10, NOW_MS);
    assert_eq!(sender.answered(2, &greeting, NOW_MS), Reaction::Proceed);
    assert!(sender.poll(100).is_some(), "it gives credit");
}

#[test]
fn a_receiver_that_has_what_was_never_made_makes_the_sender_look_at_its_log() {
    let mut sender = sender(&["a"]);
    sender.connected(1);
    let unmade = sender.answered(1, &answer(1, 4, 4), NOW_MS);
    assert_eq!(unmade, Reaction::Unmade { taken: 4 });
}

#[test]
fn answers_over_a_connection_that_was_replaced_do_not_count() {
    let mut sender = sender(&["a"]);
    sender.connected(1);
    connect(&mut sender, 2, 1);
    assert_eq!(
        sender.answered(1, &answer(1, 1, 1), NOW_MS),
        Reaction::Proceed
    );
    assert_eq!(sender.acknowledged(), 0);
    sender.disconnected(1);
    assert!(sender.poll(100).is_some(), "the newer one is in use");
}

#[test]
fn rule_36_an_acknowledgement_far_ahead_of_the_senders_time_is_not_taken() {
    let mut sender = sender(&["a"]);
    connect(&mut sender, 1, 1);
    assert!(sender.poll(100).is_some());
    let mut ahead = answer(1, 1, 1);
    ahead.time_ms = NOW_MS + AHEAD_MAX_MS + 1;
    assert_eq!(sender.answered(1, &ahead, NOW_MS), Reaction::ClocksDiffer);
    assert_eq!(sender.acknowledged(), 0);
}

#[test]
fn rule_47_a_message_larger_than_the_credit_passes_and_then_the_pair_waits() {
    let mut sender = Sender::start(0, 0);
    let large = 5 * CREDIT_MAX;
    sender.release(1, "large", large, NOW_MS);
    sender.release(2, "next", 10, NOW_MS);
    connect(&mut sender, 1, 1);
    assert_eq!(sender.poll(100), Some(frame(1, &["large"], NOW_MS)));
    assert_eq!(sender.poll(100), None, "the credit is overdrawn");
    let mut full = answer(1, 1, 0);
    full.credit = 0;
    assert_eq!(sender.answered(1, &full, NOW_MS), Reaction::Proceed);
    assert_eq!(sender.poll(100), None, "the receiver has no room");
    assert_eq!(
        sender.answered(1, &answer(1, 1, 0), NOW_MS),
        Reaction::Proceed
    );
    assert_eq!(sender.poll(100), Some(frame(2, &["next"], NOW_MS)));
}
