//! Behaviour of one claimant, and of several with a table that fails.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

mod several;

const LEASE_MS: u64 = 10_000;

fn peer(id: &str) -> PeerPort {
    PeerPort {
        address: format!("{id}:8082"),
        key: format!("key of {id}"),
    }
}

fn claimant(id: &str) -> Claimant {
    Claimant {
        id: id.to_owned(),
        address: Some(format!("{id}:8081")),
        peer: Some(peer(id)),
    }
}

fn lease() -> Lease {
    Lease::new(claimant("me"), Timing::of(LEASE_MS))
}

fn item(owner: &str, epoch: u64, counter: u64) -> LeaseItem {
    LeaseItem {
        owner: owner.to_owned(),
        epoch,
        counter,
        lease_ms: LEASE_MS,
        released: false,
        address: Some(format!("{owner}:8081")),
        peer: Some(peer(owner)),
    }
}

fn unmoved(owner: &str, epoch: u64, counter: u64) -> Condition {
    Condition::Unmoved {
        owner: owner.to_owned(),
        epoch,
        counter,
    }
}

fn mine(epoch: u64) -> Condition {
    Condition::Mine {
        owner: "me".to_owned(),
        epoch,
    }
}

fn write(condition: Condition, item: LeaseItem) -> LeaseOutput {
    LeaseOutput::Write(Write { condition, item })
}

/// Handles one fact and takes the outputs that follow.
fn then(lease: &mut Lease, now_ms: u64, input: LeaseInput) -> Vec<LeaseOutput> {
    lease.handle_input(now_ms, input);
    std::iter::from_fn(|| lease.poll_output()).collect()
}

/// Creates a lease that is held since 1000 ms.
fn held() -> Lease {
    let mut lease = lease();
    assert_eq!(
        then(&mut lease, 1_000, LeaseInput::TimeReached),
        [LeaseOutput::Read]
    );
    assert_eq!(
        then(&mut lease, 1_000, LeaseInput::ItemRead(None)),
        [write(Condition::Absent, item("me", 1, 1))]
    );
    assert_eq!(
        then(&mut lease, 1_005, LeaseInput::Written(WriteOutcome::Done)),
        [
            LeaseOutput::Acquired { epoch: 1 },
            LeaseOutput::WakeAt(4_333)
        ]
    );
    lease
}

#[test]
fn a_free_lease_is_claimed_and_renewed_three_times_per_lease_time() {
    let mut lease = held();
    assert_eq!(lease.confirmed_ms(), Some(1_000));
    assert_eq!(
        then(&mut lease, 4_333, LeaseInput::TimeReached),
        [write(mine(1), item("me", 1, 2))]
    );
    assert_eq!(
        then(&mut lease, 4_400, LeaseInput::Written(WriteOutcome::Done)),
        [LeaseOutput::WakeAt(7_666)]
    );
    assert_eq!(lease.confirmed_ms(), Some(4_333));
}

#[test]
fn a_watcher_takes_over_when_the_counter_has_not_moved_for_the_lease_time_by_its_own_clock() {
    let mut lease = lease();
    then(&mut lease, 500, LeaseInput::TimeReached);
    let moving = |counter| LeaseInput::ItemRead(Some(item("other", 3, counter)));
    assert_eq!(
        then(&mut lease, 510, moving(8)),
        [LeaseOutput::WakeAt(1_510)]
    );
    assert_eq!(
        then(&mut lease, 1_510, LeaseInput::TimeReached),
        [LeaseOutput::Read]
    );
    // The counter moved: the lease time starts again.
    assert_eq!(
        then(&mut lease, 1_520, moving(9)),
        [LeaseOutput::WakeAt(2_520)]
    );
    let mut now_ms = 1_520;
    while now_ms < 11_520 {
        now_ms = (now_ms + 1_000).min(11_520);
        assert_eq!(
            then(&mut lease, now_ms, LeaseInput::TimeReached),
            [LeaseOutput::Read]
        );
        let wanted = then(&mut lease, now_ms, moving(9));
        if now_ms < 11_520 {
            assert_eq!(wanted, [LeaseOutput::WakeAt(now_ms + 1_000)]);
        } else {
            // The claim is conditional on exactly the observed item.
            let claim = write(unmoved("other", 3, 9), item("me", 4, 1));
            assert_eq!(wanted, [claim]);
        }
    }
    assert_eq!(
        then(&mut lease, 11_530, LeaseInput::Written(WriteOutcome::Done))[0],
        LeaseOutput::Acquired { epoch: 4 }
    );
}

#[test]
fn an_owner_with_a_longer_lease_time_is_waited_for_longer() {
    let mut lease = lease();
    let patient = LeaseItem {
        lease_ms: 30_000,
        ..item("other", 1, 1)
    };
    let mut now_ms = 0;
    let claimed_ms = loop {
        assert_eq!(
            then(&mut lease, now_ms, LeaseInput::TimeReached),
            [LeaseOutput::Read]
        );
        match then(
            &mut lease,
            now_ms,
            LeaseInput::ItemRead(Some(patient.clone())),
        )
        .as_slice()
        {
            [LeaseOutput::WakeAt(at_ms)] => now_ms = *at_ms,
            [LeaseOutput::Write(_)] => break now_ms,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(claimed_ms, 30_000);
}

#[test]
fn a_lease_that_was_released_is_claimed_at_once_also_after_a_hint() {
    let mut lease = lease();
    then(&mut lease, 0, LeaseInput::TimeReached);
    then(
        &mut lease,
        10,
        LeaseInput::ItemRead(Some(item("other", 2, 5))),
    );
    assert_eq!(
        then(&mut lease, 100, LeaseInput::Hinted),
        [LeaseOutput::Read]
    );
    let released = LeaseItem {
        released: true,
        ..item("other", 2, 6)
    };
    assert_eq!(
        then(&mut lease, 110, LeaseInput::ItemRead(Some(released))),
        [write(unmoved("other", 2, 6), item("me", 3, 1))]
    );
}

#[test]
fn the_time_in_which_the_table_could_not_be_read_proves_nothing() {
    let mut lease = lease();
    let standing = || LeaseInput::ItemRead(Some(item("other", 1, 1)));
    then(&mut lease, 0, LeaseInput::TimeReached);
    then(&mut lease, 0, standing());
    let mut now_ms = 1_000;
    while now_ms < 60_000 {
        assert_eq!(
            then(&mut lease, now_ms, LeaseInput::TimeReached),
            [LeaseOutput::Read]
        );
        assert_eq!(
            then(&mut lease, now_ms, LeaseInput::ReadFailed),
            [LeaseOutput::WakeAt(now_ms + 1_000)]
        );
        now_ms += 1_000;
    }
    // The table is back. Its holder may have been unable to renew, so it gets a full lease time.
    then(&mut lease, now_ms, LeaseInput::TimeReached);
    assert_eq!(
        then(&mut lease, now_ms, standing()),
        [LeaseOutput::WakeAt(now_ms + 1_000)]
    );
}

#[test]
fn a_claim_whose_answer_was_lost_is_recognised_when_read() {
    let mut lease = lease();
    then(&mut lease, 0, LeaseInput::TimeReached);
    then(&mut lease, 0, LeaseInput::ItemRead(None));
    assert_eq!(
        then(
            &mut lease,
            2_000,
            LeaseInput::Written(WriteOutcome::Unknown)
        ),
        [LeaseOutput::WakeAt(3_000)]
    );
    then(&mut lease, 3_000, LeaseInput::TimeReached);
    assert_eq!(
        then(
            &mut lease,
            3_010,
            LeaseInput::ItemRead(Some(item("me", 1, 1)))
        ),
        [
            LeaseOutput::Acquired { epoch: 1 },
            LeaseOutput::WakeAt(6_333)
        ]
    );
    assert_eq!(lease.confirmed_ms(), Some(3_000));
}

#[test]
fn a_holder_that_cannot_reach_the_table_continues_and_retries() {
    let mut lease = held();
    let mut now_ms = 4_333;
    for counter in 2..40 {
        assert_eq!(
            then(&mut lease, now_ms, LeaseInput::TimeReached),
            [write(mine(1), item("me", 1, counter))]
        );
        assert_eq!(
            then(
                &mut lease,
                now_ms,
                LeaseInput::Written(WriteOutcome::Unknown)
            ),
            [LeaseOutput::WakeAt(now_ms + 1_000)]
        );
        now_ms += 1_000;
    }
    // The confirmation stays as old as it was.
    assert_eq!(lease.confirmed_ms(), Some(1_000));
}

#[test]
fn a_holder_whose_renewal_is_refused_lost_if_another_owner_is_stored() {
    let mut lease = held();
    then(&mut lease, 4_333, LeaseInput::TimeReached);
    assert_eq!(
        then(
            &mut lease,
            4_340,
            LeaseInput::Written(WriteOutcome::Refused)
        ),
        [LeaseOutput::Read]
    );
    assert_eq!(
        then(
            &mut lease,
            4_350,
            LeaseInput::ItemRead(Some(item("other", 2, 1)))
        ),
        [LeaseOutput::Lost {
            to: "other".to_owned()
        }]
    );
    assert_eq!(lease.confirmed_ms(), None);
    assert_eq!(then(&mut lease, 90_000, LeaseInput::TimeReached), []);
}

#[test]
fn a_holder_whose_item_was_removed_puts_it_back() {
    let mut lease = held();
    then(&mut lease, 4_333, LeaseInput::TimeReached);
    then(
        &mut lease,
        4_340,
        LeaseInput::Written(WriteOutcome::Refused),
    );
    assert_eq!(
        then(&mut lease, 4_350, LeaseInput::ItemRead(None)),
        [write(Condition::Absent, item("me", 1, 3))]
    );
    // The process held the lease throughout, so nothing is acquired.
    assert_eq!(
        then(&mut lease, 4_360, LeaseInput::Written(WriteOutcome::Done)),
        [LeaseOutput::WakeAt(7_683)]
    );
}

#[test]
fn a_planned_stop_releases_the_lease_even_if_the_first_try_gets_no_answer() {
    let mut lease = held();
    let released = |counter| LeaseItem {
        released: true,
        ..item("me", 1, counter)
    };
    assert_eq!(
        then(&mut lease, 2_000, LeaseInput::ReleaseRequested),
        [write(mine(1), released(2))]
    );
    assert_eq!(
        then(
            &mut lease,
            2_500,
            LeaseInput::Written(WriteOutcome::Unknown)
        ),
        [LeaseOutput::WakeAt(2_600)]
    );
    assert_eq!(
        then(&mut lease, 2_600, LeaseInput::TimeReached),
        [write(mine(1), released(3))]
    );
    assert_eq!(
        then(&mut lease, 2_610, LeaseInput::Written(WriteOutcome::Done)),
        [LeaseOutput::Released]
    );
}

#[test]
fn a_watcher_that_stops_ends_at_once() {
    let mut lease = lease();
    then(&mut lease, 0, LeaseInput::TimeReached);
    then(
        &mut lease,
        5,
        LeaseInput::ItemRead(Some(item("other", 1, 1))),
    );
    assert_eq!(
        then(&mut lease, 50, LeaseInput::ReleaseRequested),
        [LeaseOutput::Released]
    );
}

#[test]
fn a_claim_that_lands_while_the_process_stops_is_released() {
    let mut lease = lease();
    then(&mut lease, 0, LeaseInput::TimeReached);
    then(&mut lease, 5, LeaseInput::ItemRead(None));
    assert_eq!(then(&mut lease, 6, LeaseInput::ReleaseRequested), []);
    let wanted = then(&mut lease, 10, LeaseInput::Written(WriteOutcome::Done));
    let released = LeaseItem {
        released: true,
        ..item("me", 1, 2)
    };
    assert_eq!(
        wanted,
        [LeaseOutput::Acquired { epoch: 1 }, write(mine(1), released)]
    );
}
