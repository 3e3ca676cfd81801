use super::*;

/// A register that starts at 0.
enum Register {}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Access {
    Write(u64),
    Read,
}

impl Model for Register {
    type State = u64;
    type Input = Access;
    type Output = u64;

    fn step(state: &u64, input: &Access, output: Option<&u64>) -> Option<u64> {
        match input {
            Access::Write(value) => Some(*value),
            Access::Read => output.is_none_or(|read| read == state).then_some(*state),
        }
    }
}

fn add(invoked: u64, returned: u64, value: u64) -> Operation<CounterInput, u64> {
    Operation {
        input: CounterInput::Add,
        invoked,
        returned: Some((value, returned)),
    }
}

fn read(invoked: u64, returned: u64, value: u64) -> Operation<CounterInput, u64> {
    Operation {
        input: CounterInput::Read,
        ..add(invoked, returned, value)
    }
}

fn unknown_add(invoked: u64) -> Operation<CounterInput, u64> {
    Operation {
        returned: None,
        ..add(invoked, 0, 0)
    }
}

fn access(input: Access, invoked: u64, returned: Option<(u64, u64)>) -> Operation<Access, u64> {
    Operation {
        input,
        invoked,
        returned,
    }
}

#[test]
fn an_empty_history_and_one_in_sequence_are_linearizable() {
    assert_eq!(check::<Counter>(&[]), Ok(()));
    let history = [add(0, 1, 1), read(2, 3, 1), add(4, 5, 2), read(6, 7, 2)];
    assert_eq!(check::<Counter>(&history), Ok(()));
}

#[test]
fn concurrent_operations_may_take_effect_in_any_order() {
    // The one invoked last is first, and the read is between the two.
    let history = [add(0, 10, 2), add(5, 9, 1), read(1, 8, 1)];
    assert_eq!(check::<Counter>(&history), Ok(()));
    // The order is that of the values, whatever that of the list.
    let history = [add(4, 5, 2), add(0, 1, 1)];
    assert_eq!(check::<Counter>(&history), Ok(()));
}

#[test]
fn a_wrong_first_choice_is_taken_back() {
    // The second write of 1 must follow the write of 2, although it was invoked first.
    let written =
        |value, invoked, returned| access(Access::Write(value), invoked, Some((value, returned)));
    let seen = |value, invoked, returned| access(Access::Read, invoked, Some((value, returned)));
    let history = [
        written(1, 0, 20),
        written(2, 1, 20),
        seen(2, 2, 8),
        seen(1, 9, 12),
    ];
    assert_eq!(check::<Register>(&history), Ok(()));
    let history = [
        written(1, 0, 20),
        written(2, 1, 20),
        seen(2, 2, 4),
        seen(1, 5, 8),
        seen(2, 9, 12),
    ];
    assert!(check::<Register>(&history).is_err());
}

#[test]
fn a_lost_update_is_found() {
    // Both increments returned 1: one of them is lost.
    let history = [add(0, 2, 1), add(1, 3, 1)];
    let found = check::<Counter>(&history).unwrap_err();
    assert_eq!((found.ordered, found.state), (1, 1));
    // An acknowledged increment that a later owner does not know.
    let history = [add(0, 1, 1), add(2, 3, 2), add(4, 5, 2)];
    let found = check::<Counter>(&history).unwrap_err();
    assert_eq!((found.ordered, found.state, found.next), (2, 2, vec![2]));
}

#[test]
fn an_operation_that_took_effect_twice_is_found() {
    let history = [add(0, 1, 1), add(2, 3, 3)];
    assert!(check::<Counter>(&history).is_err());
}

#[test]
fn a_stale_read_is_found() {
    let history = [add(0, 1, 1), add(2, 3, 2), read(4, 5, 1)];
    let found = check::<Counter>(&history).unwrap_err();
    assert_eq!((found.ordered, found.state, found.next), (2, 2, vec![2]));
    // It is none while the increment is in progress.
    let history = [add(0, 1, 1), add(2, 5, 2), read(3, 6, 1)];
    assert_eq!(check::<Counter>(&history), Ok(()));
    // But a value that was read is read by all that follow.
    let history = [add(0, 9, 1), read(1, 2, 1), read(3, 4, 0)];
    assert!(check::<Counter>(&history).is_err());
}

#[test]
fn a_read_of_a_value_that_nothing_wrote_is_found() {
    assert!(check::<Counter>(&[read(0, 1, 1)]).is_err());
    assert!(check::<Counter>(&[read(0, 1, 1), add(2, 3, 1)]).is_err());
}

#[test]
fn an_operation_of_unknown_outcome_did_or_did_not_take_effect() {
    // It did not.
    let history = [unknown_add(0), add(1, 2, 1), read(3, 4, 1)];
    assert_eq!(check::<Counter>(&history), Ok(()));
    // It did, before the one that was invoked later.
    let history = [unknown_add(0), add(1, 2, 2), read(3, 4, 2)];
    assert_eq!(check::<Counter>(&history), Ok(()));
    // It did, long after its client had given up.
    let history = [unknown_add(0), add(1, 2, 1), read(3, 4, 1), read(5, 6, 2)];
    assert_eq!(check::<Counter>(&history), Ok(()));
    // It did, but not twice.
    let history = [unknown_add(0), add(1, 2, 3)];
    assert!(check::<Counter>(&history).is_err());
    // It cannot be undone.
    let history = [unknown_add(0), read(1, 2, 1), read(3, 4, 0)];
    assert!(check::<Counter>(&history).is_err());
    // It cannot take effect before its invocation.
    let history = [read(0, 1, 1), unknown_add(2)];
    assert!(check::<Counter>(&history).is_err());
}

#[test]
fn unknown_writes_of_different_values_are_told_apart() {
    let unknown = |value, invoked| access(Access::Write(value), invoked, None);
    let seen = |value, invoked| access(Access::Read, invoked, Some((value, invoked + 1)));
    let history = [unknown(1, 0), unknown(2, 1), seen(2, 2), seen(1, 4)];
    assert_eq!(check::<Register>(&history), Ok(()));
    let history = [
        unknown(1, 0),
        unknown(2, 1),
        seen(2, 2),
        seen(1, 4),
        seen(2, 6),
    ];
    assert!(check::<Register>(&history).is_err());
    // Two of one value are two.
    let history = [
        unknown(1, 0),
        unknown(2, 1),
        unknown(2, 3),
        seen(2, 2),
        seen(1, 4),
        seen(2, 6),
    ];
    assert_eq!(check::<Register>(&history), Ok(()));
}

/// History of a counter under overlapping increments and reads, with one increment of unknown
/// outcome for each 50 of them, of which each second one took effect.
fn long_history(increments: u64) -> Vec<Operation<CounterInput, u64>> {
    let clients = 8;
    let mut history = Vec::new();
    let mut value = 0;
    for number in 0..increments {
        let time = number * 10;
        if number % 50 == 0 {
            history.push(unknown_add(time));
            value += u64::from(number % 100 == 0);
        }
        value += 1;
        history.push(add(time + 1, time + clients * 10, value));
        history.push(read(time + 2, time + clients * 10 + 1, value));
    }
    history
}

#[test]
fn a_long_history_with_many_unknown_operations_is_checked_quickly() {
    assert_eq!(check::<Counter>(&long_history(20_000)), Ok(()));
    let mut history = long_history(2_000);
    assert_eq!(check::<Counter>(&history), Ok(()));
    history.push(read(300_000, 300_001, 2_019));
    assert!(check::<Counter>(&history).is_err());
}
