//! Limits that change while the partition runs.

use super::fixture::*;
use super::library::Library;
use crate::endpoint::OnPoison;
use crate::input::Input;
use crate::output::{Answer, Output};
use crate::partition::{Config, Limits};

fn change(fixture: &mut Fixture, change: impl FnOnce(&mut Limits)) {
    let mut limits = config(OnPoison::DeadLetter).limits();
    change(&mut limits);
    fixture.handle(Input::LimitsChanged(limits));
}

#[test]
fn a_lower_limit_pauses_ingress_and_loses_nothing_and_a_higher_one_resumes_it() {
    let mut fixture = Fixture::new();
    for number in 0..4 {
        fixture.send(&format!("large-{number}"), &"x".repeat(9_000));
    }
    fixture.commit();
    fixture.answers();
    assert!(!fixture.partition.gauges().ingress_paused);
    let pending = fixture.partition.gauges().pending_bytes;
    change(&mut fixture, |limits| limits.pending_bytes_max = 1_000);
    assert!(fixture.partition.gauges().ingress_paused);
    assert!(fixture.outputs.contains(&Output::PauseIngress));
    assert_eq!(fixture.partition.gauges().pending_bytes, pending);
    let refused = fixture.send("alice", "1");
    assert_eq!(fixture.answers(), [(refused, Answer::Overloaded)]);
    change(&mut fixture, |limits| limits.pending_bytes_max = 100_000);
    assert!(!fixture.partition.gauges().ingress_paused);
    assert!(fixture.outputs.contains(&Output::ResumeIngress));
}

#[test]
fn a_longer_pace_delays_the_next_delta_and_a_shorter_one_seals_it() {
    let mut fixture = Fixture::with(Config {
        commit_pace_ms: 50,
        commit_interval_ms: 1_000,
        ..config(OnPoison::DeadLetter)
    });
    let accepted = |fixture: &mut Fixture, id: &str| {
        fixture.send(id, "hello");
        let batch = fixture.batch();
        fixture.complete(batch.attempt, set_seen("hello"));
    };
    accepted(&mut fixture, "alice");
    fixture.commit();
    change(&mut fixture, |limits| limits.commit_pace_ms = 400);
    accepted(&mut fixture, "bob");
    fixture.later(399);
    assert!(fixture.sealed.is_empty(), "the pace is that of eight");
    change(&mut fixture, |limits| limits.commit_pace_ms = 50);
    assert_eq!(fixture.sealed.len(), 1);
    fixture.commit();
    change(&mut fixture, |limits| limits.commit_pace_ms = 400);
    fixture.later(10_000);
    accepted(&mut fixture, "carol");
    assert_eq!(fixture.sealed.len(), 1, "the first one after quiet");
}

#[test]
fn a_lower_memory_limit_evicts_what_fits_no_longer() {
    let mut library = Library::new(Config {
        memory_limit_bytes: Some(1 << 20),
        ..config(OnPoison::DeadLetter)
    });
    for bucket in 0..4 {
        let id = library.id(bucket, 0);
        library.set_seen(&id, "before");
    }
    library.snapshot();
    let loaded = |library: &Library| library.fixture.partition.gauges().buckets_loaded;
    assert_eq!(loaded(&library), 4);
    change(&mut library.fixture, |limits| {
        limits.memory_limit_bytes = Some(1);
    });
    assert_eq!(loaded(&library), 0);
}

#[test]
fn a_partition_without_a_memory_limit_gets_none() {
    let mut unlimited = config(OnPoison::DeadLetter);
    unlimited.limit(Limits {
        memory_limit_bytes: Some(1),
        ..unlimited.limits()
    });
    assert_eq!(unlimited.memory_limit_bytes, None);
}
