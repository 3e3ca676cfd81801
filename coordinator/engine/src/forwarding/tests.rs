//! Stories of requests that a process other than the owner received.

use super::*;

/// Name of a process.
type Name = char;

const PATIENCE_MS: u64 = 5_000;

fn of_client(repeatable: bool) -> Forwarding<Name> {
    Forwarding::from_client(0, PATIENCE_MS, repeatable)
}

#[test]
fn the_owner_serves_and_another_process_asks_it() {
    assert_eq!(of_client(false).next(0, &Owner::Here), Step::Serve);
    assert_eq!(of_client(false).next(0, &Owner::There('b')), Step::Ask('b'));
}

#[test]
fn rule_32_a_request_whose_answer_was_lost_is_not_repeated_without_a_key() {
    let mut request = of_client(false);
    assert_eq!(request.next(0, &Owner::There('b')), Step::Ask('b'));
    request.asked(100, Asked::Lost);
    for owner in [Owner::There('c'), Owner::Here, Owner::Unknown] {
        let step = request.next(100, &owner);
        assert_eq!(step, Step::Refuse(Refusal::Unknown), "{owner:?}");
    }
}

#[test]
fn rule_32_with_a_key_it_is_repeated_at_the_next_owner() {
    let mut request = of_client(true);
    assert_eq!(request.next(0, &Owner::There('b')), Step::Ask('b'));
    request.asked(4_000, Asked::Lost);
    // The owner was there until then, so the patience begins anew.
    assert_eq!(request.next(4_000, &Owner::Unknown), Step::Wait(9_000));
    assert_eq!(request.next(8_000, &Owner::There('c')), Step::Ask('c'));
}

#[test]
fn rule_32_a_repeatable_request_that_ends_after_a_lost_answer_may_have_been_taken() {
    let lost = || {
        let mut request = of_client(true);
        assert_eq!(request.next(0, &Owner::There('b')), Step::Ask('b'));
        request.asked(100, Asked::Lost);
        assert!(request.may_have_been_taken());
        request
    };
    // No next owner came in time, or one that cannot be asked.
    let unknown = Step::Refuse(Refusal::Unknown);
    assert_eq!(lost().next(100 + PATIENCE_MS, &Owner::Unknown), unknown);
    assert_eq!(lost().next(200, &Owner::Unreachable), unknown);
}

#[test]
fn rule_32_a_request_that_was_not_taken_is_repeated_without_a_key() {
    for end in [Asked::Unreached, Asked::NotMine { knows: None }] {
        let mut request = of_client(false);
        assert_eq!(request.next(0, &Owner::There('b')), Step::Ask('b'));
        request.asked(10, end.clone());
        assert_eq!(request.next(10, &Owner::There('b')), Step::Wait(260));
        assert_eq!(request.next(260, &Owner::There('b')), Step::Ask('b'));
        request.asked(270, end);
        assert_eq!(request.next(270, &Owner::There('c')), Step::Ask('c'));
        request.asked(280, Asked::Unreached);
        assert_eq!(request.next(280, &Owner::Here), Step::Serve);
    }
}

#[test]
fn a_process_that_is_not_the_owner_names_it_once() {
    let mut request = of_client(false);
    assert_eq!(request.next(0, &Owner::There('b')), Step::Ask('b'));
    request.asked(10, Asked::NotMine { knows: Some('c') });
    assert_eq!(request.next(10, &Owner::There('b')), Step::Ask('c'));
    // Each of two processes takes the other for the owner: the request waits for the table.
    request.asked(20, Asked::NotMine { knows: Some('b') });
    assert_eq!(request.next(20, &Owner::There('c')), Step::Wait(270));
    assert_eq!(request.next(20, &Owner::There('d')), Step::Ask('d'));
}

#[test]
fn two_processes_that_take_each_other_for_the_owner_are_asked_a_few_times_a_second() {
    // This process, `a`, takes `b` for the owner, and `b` takes `a` for it.
    let mut request = of_client(false);
    let (mut now_ms, mut asked) = (0, 0);
    loop {
        match request.next(now_ms, &Owner::There('b')) {
            Step::Ask(peer) => {
                asked += 1;
                let knows = Some(if peer == 'b' { 'a' } else { 'b' });
                request.asked(now_ms, Asked::NotMine { knows });
            }
            Step::Wait(until_ms) => now_ms = until_ms,
            step => {
                assert_eq!(step, Step::Refuse(Refusal::NoOwner));
                break;
            }
        }
    }
    assert_eq!(now_ms, PATIENCE_MS);
    assert!(asked <= 2 + PATIENCE_MS / 250, "{asked}");
}

#[test]
fn a_forwarded_request_is_never_forwarded_again() {
    let mut request = Forwarding::from_peer(0, PATIENCE_MS);
    let not_mine = |knows| Step::Refuse(Refusal::NotMine { knows });
    assert_eq!(request.next(0, &Owner::There('c')), not_mine(Some('c')));
    assert_eq!(request.next(0, &Owner::Unknown), not_mine(None));
    assert_eq!(request.next(0, &Owner::Unreachable), not_mine(None));
    // It waits for a takeover that has begun, but not for longer than a client's request.
    assert_eq!(request.next(0, &Owner::Arriving), Step::Wait(PATIENCE_MS));
    assert_eq!(request.next(9, &Owner::Here), Step::Serve);
    let late = request.next(PATIENCE_MS, &Owner::Arriving);
    assert_eq!(late, Step::Refuse(Refusal::NoOwner));
}

#[test]
fn an_owner_without_a_peer_port_ends_the_request_at_once() {
    let step = of_client(true).next(0, &Owner::Unreachable);
    assert_eq!(step, Step::Refuse(Refusal::Unreachable));
}

#[test]
fn without_an_owner_the_request_waits_and_then_had_no_effect() {
    let mut request = of_client(false);
    assert_eq!(request.next(0, &Owner::Unknown), Step::Wait(PATIENCE_MS));
    assert_eq!(request.next(4_900, &Owner::There('b')), Step::Ask('b'));
    request.asked(4_950, Asked::Unreached);
    assert_eq!(
        request.next(4_950, &Owner::There('b')),
        Step::Wait(PATIENCE_MS)
    );
    for owner in [Owner::There('b'), Owner::Unknown, Owner::Arriving] {
        let step = request.next(PATIENCE_MS, &owner);
        assert_eq!(step, Step::Refuse(Refusal::NoOwner), "{owner:?}");
    }
}

/// Walks through all histories of a few steps, and checks what must hold in each of them.
#[test]
fn rule_32_in_every_short_history_a_request_is_taken_at_most_once_unless_that_is_harmless() {
    let owners = [
        Owner::Here,
        Owner::Arriving,
        Owner::There('b'),
        Owner::There('c'),
        Owner::Unreachable,
        Owner::Unknown,
    ];
    let ends = [
        Asked::NotMine { knows: None },
        Asked::NotMine { knows: Some('b') },
        Asked::NotMine { knows: Some('c') },
        Asked::Unreached,
        Asked::Lost,
    ];
    let choices = owners.len() * ends.len();
    let mut histories = 0_u64;
    for peer in [false, true] {
        for repeatable in [false, true] {
            for history in 0..choices.pow(4) {
                let mut request = match peer {
                    true => Forwarding::from_peer(0, PATIENCE_MS),
                    false => of_client(repeatable),
                };
                let (mut rest, mut may_have_taken, mut now_ms) = (history, false, 0);
                for _ in 0..4 {
                    let (owner, end) = (rest % owners.len(), rest / owners.len() % ends.len());
                    rest /= choices;
                    match request.next(now_ms, &owners[owner]) {
                        Step::Serve => {
                            assert!(repeatable || !may_have_taken, "history {history}");
                            break;
                        }
                        Step::Ask(_) => {
                            assert!(repeatable || !may_have_taken, "history {history}");
                            assert!(!peer, "history {history}");
                            may_have_taken |= ends[end] == Asked::Lost;
                            now_ms += 40;
                            request.asked(now_ms, ends[end].clone());
                        }
                        Step::Wait(until_ms) => {
                            assert!(until_ms > now_ms, "history {history}");
                            assert!(until_ms <= now_ms + PATIENCE_MS, "history {history}");
                            now_ms = until_ms;
                        }
                        Step::Refuse(refusal) => {
                            let unknown = refusal == Refusal::Unknown;
                            assert_eq!(unknown, may_have_taken, "{history}");
                            break;
                        }
                    }
                }
                histories += 1;
            }
        }
    }
    assert_eq!(histories, 4 * 30_u64.pow(4));
}
