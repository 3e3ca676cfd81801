use super::*;
use crate::entries::EntriesBuilder;

const TAKEOVER: u64 = 10;
/// The first number at which commits are pipelined.
const SETTLED: u64 = TAKEOVER + DEPTH_MAX;

fn at(ms: u64) -> Now {
    Now {
        boot_ms: ms,
        wall_ms: ms,
    }
}

fn owner(epoch: u64) -> Owner {
    Owner {
        epoch,
        nonce: [epoch as u8; 16],
    }
}

fn layout() -> Layout {
    Layout::new("", 0)
}

fn writer(depth: u64) -> Writer {
    let start = Start {
        owner: owner(2),
        takeover: TAKEOVER,
        committed_at_ms: 0,
    };
    Writer::new(layout(), 0, &start, depth, 1000)
}

fn delta(sequence: u64) -> Delta {
    let mut entries = EntriesBuilder::new();
    entries.push(0, b"key", Some(&sequence.to_le_bytes()));
    Delta {
        sequence,
        committed_at_ms: sequence,
        clean: false,
        entries: entries.finish(),
    }
}

/// The object that `epoch` would write as `sequence` under `number`.
fn object(epoch: u64, sequence: u64, number: u64) -> Bytes {
    let delta = delta(sequence);
    Unnumbered::delta(sequence, delta.committed_at_ms, false, &delta.entries)
        .unwrap()
        .seal(0, &owner(epoch), number)
}

fn put(sequence: u64, number: u64) -> Action {
    Action::Put {
        number,
        key: layout().log(number),
        bytes: object(2, sequence, number),
    }
}

fn get(number: u64) -> Action {
    Action::Get {
        number,
        key: layout().log(number),
    }
}

fn check_next_epoch() -> Action {
    Action::ReadNextEpoch {
        key: layout().epoch(3),
    }
}

fn durable(sequence: u64, number: u64) -> Action {
    Action::Durable(Committed {
        kind: CommittedKind::Delta { sequence },
        number,
        stored_bytes: object(2, sequence, number).len() as u64,
    })
}

fn drain(writer: &mut Writer, now: Now) -> Vec<Action> {
    std::iter::from_fn(|| writer.poll(now)).collect()
}

/// A writer that has committed one delta under each number up to `SETTLED - 1`, and that last saw
/// the next epoch unclaimed at 0 ms.
fn settled_writer(depth: u64) -> Writer {
    let mut writer = writer(depth);
    for sequence in 1..DEPTH_MAX {
        let number = TAKEOVER + sequence;
        writer.append(&delta(sequence));
        let first = drain(&mut writer, at(0));
        assert_eq!(first[0], put(sequence, number));
        writer.created(number, Created::Stored, at(0));
        if sequence == 1 {
            assert_eq!(first[1], check_next_epoch());
            writer.next_epoch_read(false, at(0));
        }
        assert_eq!(drain(&mut writer, at(0)), [durable(sequence, number)]);
    }
    writer
}

#[test]
fn a_new_epoch_commits_one_at_a_time_until_no_former_owner_can_reach() {
    let mut writer = writer(4);
    for sequence in 1..=DEPTH_MAX + 4 {
        writer.append(&delta(sequence));
    }
    assert_eq!(
        drain(&mut writer, at(0)),
        [put(1, TAKEOVER + 1), check_next_epoch()]
    );
    writer.next_epoch_read(false, at(0));
    for sequence in 1..DEPTH_MAX - 1 {
        writer.created(TAKEOVER + sequence, Created::Stored, at(0));
        assert_eq!(
            drain(&mut writer, at(0)),
            [
                durable(sequence, TAKEOVER + sequence),
                put(sequence + 1, TAKEOVER + sequence + 1)
            ]
        );
    }
    writer.created(SETTLED - 1, Created::Stored, at(0));
    assert_eq!(
        drain(&mut writer, at(0)),
        [
            durable(DEPTH_MAX - 1, SETTLED - 1),
            put(DEPTH_MAX, SETTLED),
            put(DEPTH_MAX + 1, SETTLED + 1),
            put(DEPTH_MAX + 2, SETTLED + 2),
            put(DEPTH_MAX + 3, SETTLED + 3),
        ]
    );
}

#[test]
fn answers_out_of_order_become_durable_in_order() {
    let mut writer = settled_writer(3);
    for sequence in DEPTH_MAX..DEPTH_MAX + 4 {
        writer.append(&delta(sequence));
    }
    assert_eq!(drain(&mut writer, at(1)).len(), 3);
    writer.created(SETTLED + 2, Created::Stored, at(2));
    writer.created(SETTLED + 1, Created::Stored, at(2));
    assert_eq!(drain(&mut writer, at(2)), []);
    writer.created(SETTLED, Created::Stored, at(3));
    assert_eq!(
        drain(&mut writer, at(3)),
        [
            durable(DEPTH_MAX, SETTLED),
            durable(DEPTH_MAX + 1, SETTLED + 1),
            durable(DEPTH_MAX + 2, SETTLED + 2),
            put(DEPTH_MAX + 3, SETTLED + 3),
        ]
    );
}

#[test]
fn a_refused_create_of_my_own_bytes_is_mine() {
    let mut writer = settled_writer(1);
    writer.append(&delta(DEPTH_MAX));
    drain(&mut writer, at(1));
    writer.created(SETTLED, Created::Exists, at(2));
    assert_eq!(drain(&mut writer, at(2)), [get(SETTLED)]);
    writer.fetched(SETTLED, Some(object(2, DEPTH_MAX, SETTLED)), at(3));
    assert_eq!(drain(&mut writer, at(3)), [durable(DEPTH_MAX, SETTLED)]);
}

#[test]
fn early_records_move_past_void_objects_in_their_order() {
    let mut writer = writer(4);
    writer.append(&delta(1));
    writer.append(&delta(2));
    drain(&mut writer, at(0));
    writer.next_epoch_read(false, at(0));
    for number in TAKEOVER + 1..TAKEOVER + 3 {
        writer.created(number, Created::Exists, at(1));
        assert_eq!(drain(&mut writer, at(1)), [get(number)]);
        writer.fetched(number, Some(object(1, 77, number)), at(1));
        assert_eq!(drain(&mut writer, at(1)), [check_next_epoch()]);
        writer.next_epoch_read(false, at(1));
        assert_eq!(drain(&mut writer, at(1)), [put(1, number + 1)]);
    }
    writer.created(TAKEOVER + 3, Created::Stored, at(2));
    assert_eq!(
        drain(&mut writer, at(2)),
        [durable(1, TAKEOVER + 3), put(2, TAKEOVER + 4)]
    );
}

#[test]
fn a_void_object_beyond_the_first_numbers_ends_the_epoch() {
    let mut writer = settled_writer(4);
    writer.append(&delta(DEPTH_MAX));
    drain(&mut writer, at(1));
    writer.created(SETTLED, Created::Exists, at(1));
    drain(&mut writer, at(1));
    writer.fetched(SETTLED, Some(object(1, 77, SETTLED)), at(1));
    let actions = drain(&mut writer, at(1));
    assert!(
        matches!(
            &actions[..],
            [Action::End(LogError::Unexpected { key, .. })] if *key == layout().log(SETTLED)
        ),
        "{actions:?}"
    );
}

#[test]
fn an_object_of_a_higher_epoch_fences() {
    let mut writer = settled_writer(4);
    writer.append(&delta(DEPTH_MAX));
    writer.append(&delta(DEPTH_MAX + 1));
    drain(&mut writer, at(1));
    writer.created(SETTLED + 1, Created::Stored, at(1));
    writer.created(SETTLED, Created::Exists, at(1));
    drain(&mut writer, at(1));
    writer.fetched(SETTLED, Some(object(3, 1, SETTLED)), at(1));
    assert_eq!(
        drain(&mut writer, at(1)),
        [Action::End(LogError::Fenced {
            epoch: 2,
            reason: format!("{} is of epoch 3", layout().log(SETTLED)),
        })],
        "the acknowledged later one means nothing without it"
    );
    writer.append(&delta(DEPTH_MAX + 2));
    assert_eq!(drain(&mut writer, at(1)), []);
}

#[test]
fn a_number_that_was_taken_and_collected_fences() {
    let mut writer = settled_writer(4);
    writer.append(&delta(DEPTH_MAX));
    drain(&mut writer, at(1));
    writer.created(SETTLED, Created::Exists, at(1));
    drain(&mut writer, at(1));
    writer.fetched(SETTLED, None, at(1));
    assert!(matches!(
        &drain(&mut writer, at(1))[..],
        [Action::End(LogError::Fenced { epoch: 2, .. })]
    ));
}

#[test]
fn the_same_epoch_by_another_process_is_not_mine() {
    let mut writer = settled_writer(4);
    writer.append(&delta(DEPTH_MAX));
    drain(&mut writer, at(1));
    writer.created(SETTLED, Created::Exists, at(1));
    drain(&mut writer, at(1));
    let twin = Owner {
        epoch: 2,
        nonce: [99; 16],
    };
    let sealed = delta(DEPTH_MAX);
    let found = Unnumbered::delta(DEPTH_MAX, DEPTH_MAX, false, &sealed.entries)
        .unwrap()
        .seal(0, &twin, SETTLED);
    writer.fetched(SETTLED, Some(found), at(1));
    assert!(matches!(
        &drain(&mut writer, at(1))[..],
        [Action::End(LogError::Fenced { epoch: 2, .. })]
    ));
}

#[test]
fn a_commit_answered_after_a_long_sleep_counts_only_once_the_next_epoch_was_read_again() {
    let mut writer = settled_writer(4);
    writer.append(&delta(DEPTH_MAX));
    assert_eq!(drain(&mut writer, at(400)), [put(DEPTH_MAX, SETTLED)]);
    writer.created(SETTLED, Created::Stored, at(1000));
    assert_eq!(drain(&mut writer, at(1000)), [check_next_epoch()]);
    writer.next_epoch_read(false, at(9000));
    assert_eq!(
        drain(&mut writer, at(9000)),
        [durable(DEPTH_MAX, SETTLED)],
        "a read begun after the answer settles it however long it took"
    );
}

#[test]
fn a_calendar_jump_while_boot_time_stands_still_makes_a_read_too_old() {
    let mut writer = settled_writer(4);
    writer.append(&delta(DEPTH_MAX));
    drain(&mut writer, at(0));
    let slept = Now {
        boot_ms: 1,
        wall_ms: 3_600_000,
    };
    writer.created(SETTLED, Created::Stored, slept);
    assert_eq!(drain(&mut writer, slept), [check_next_epoch()]);
    writer.next_epoch_read(true, slept);
    assert_eq!(
        drain(&mut writer, slept),
        [Action::End(LogError::Fenced {
            epoch: 2,
            reason: "epoch 3 is claimed".to_owned(),
        })]
    );
}

#[test]
fn a_read_begun_before_the_answer_and_ended_long_after_it_counts_by_its_beginning() {
    let mut writer = settled_writer(4);
    writer.append(&delta(DEPTH_MAX));
    assert_eq!(
        drain(&mut writer, at(600)),
        [put(DEPTH_MAX, SETTLED), check_next_epoch()],
        "more than half of the window old: read again beside the write"
    );
    writer.created(SETTLED, Created::Stored, at(1700));
    assert_eq!(drain(&mut writer, at(1700)), [], "one read at a time");
    writer.next_epoch_read(false, at(1800));
    assert_eq!(
        drain(&mut writer, at(1800)),
        [check_next_epoch()],
        "begun 1100 ms before the answer"
    );
    writer.next_epoch_read(false, at(1900));
    assert_eq!(drain(&mut writer, at(1900)), [durable(DEPTH_MAX, SETTLED)]);
}

#[test]
fn a_damaged_object_in_the_way_ends_the_epoch_by_name() {
    let mut writer = settled_writer(4);
    writer.append(&delta(DEPTH_MAX));
    drain(&mut writer, at(1));
    writer.created(SETTLED, Created::Exists, at(1));
    drain(&mut writer, at(1));
    let mut damaged = object(3, 1, SETTLED).to_vec();
    damaged[20] ^= 1;
    writer.fetched(SETTLED, Some(Bytes::from(damaged)), at(1));
    let actions = drain(&mut writer, at(1));
    assert!(
        matches!(
            &actions[..],
            [Action::End(LogError::Damaged { key, .. })] if *key == layout().log(SETTLED)
        ),
        "{actions:?}"
    );
}

#[test]
fn a_delta_out_of_sequence_is_refused() {
    let mut writer = writer(4);
    writer.append(&delta(2));
    assert_eq!(
        drain(&mut writer, at(0)),
        [Action::End(LogError::Misuse(
            "delta 2 comes after delta 0".to_owned()
        ))]
    );
}

#[test]
fn the_log_adds_nothing_of_its_own_behind_a_clean_stop() {
    let mut writer = writer(4);
    assert!(writer.append_control(&Control::default()));
    writer.append(&Delta {
        clean: true,
        ..delta(1)
    });
    assert!(!writer.append_control(&Control::default()));
}

#[test]
fn time_in_the_log_never_goes_back() {
    let mut writer = writer(4);
    writer.append(&Delta {
        committed_at_ms: 50,
        ..delta(1)
    });
    writer.append(&Delta {
        committed_at_ms: 40,
        ..delta(2)
    });
    let mut times = Vec::new();
    for number in TAKEOVER + 1..TAKEOVER + 3 {
        for action in drain(&mut writer, at(0)) {
            if let Action::Put { bytes, .. } = action {
                let record = Record::decode(&bytes, 0, number).unwrap();
                times.push(record.header.committed_at_ms);
            }
        }
        writer.created(number, Created::Stored, at(0));
        writer.next_epoch_read(false, at(0));
    }
    assert_eq!(times, [50, 50]);
}

#[test]
fn a_void_object_is_passed_only_after_a_look_at_the_next_epoch_that_began_later() {
    let mut writer = writer(1);
    writer.append(&delta(1));
    assert_eq!(
        drain(&mut writer, at(0)),
        [put(1, TAKEOVER + 1), check_next_epoch()]
    );
    writer.created(TAKEOVER + 1, Created::Exists, at(1));
    assert_eq!(drain(&mut writer, at(1)), [get(TAKEOVER + 1)]);
    writer.fetched(TAKEOVER + 1, Some(object(1, 1, TAKEOVER + 1)), at(2));
    assert_eq!(drain(&mut writer, at(2)), [], "a look is under way");
    writer.next_epoch_read(false, at(3));
    assert_eq!(
        drain(&mut writer, at(3)),
        [check_next_epoch()],
        "it began before the refusal"
    );
    writer.next_epoch_read(false, at(4));
    assert_eq!(drain(&mut writer, at(4)), [put(1, TAKEOVER + 2)]);
}

#[test]
fn an_epoch_that_has_a_successor_passes_no_void_object() {
    let mut writer = writer(1);
    writer.append(&delta(1));
    drain(&mut writer, at(0));
    writer.next_epoch_read(false, at(0));
    writer.created(TAKEOVER + 1, Created::Exists, at(1));
    drain(&mut writer, at(1));
    writer.fetched(TAKEOVER + 1, Some(object(1, 1, TAKEOVER + 1)), at(2));
    assert_eq!(drain(&mut writer, at(2)), [check_next_epoch()]);
    writer.next_epoch_read(true, at(3));
    assert!(
        matches!(
            drain(&mut writer, at(3))[..],
            [Action::End(LogError::Fenced { epoch: 2, .. })]
        ),
        "the object may fill a hole that a later owner's collection left"
    );
}
