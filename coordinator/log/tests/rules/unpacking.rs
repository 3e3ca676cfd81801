//! Unpacking of the log tail beside the fold.

use std::sync::{Arc, Mutex};

use futures::executor::block_on;
use satchel_log::{LogError, Offload, Work, take_over_with};
use satchel_log_simulation::{ManualOwner, State, drive};

use crate::root::Root;

/// Writes enough for several groups of records, the same keys again and again. Returns the state.
fn write_tail(root: &Root) -> State {
    let mut owner = ManualOwner::take_over(root.contender_without_snapshots(1)).unwrap();
    for round in 0..30_u32 {
        let value = round.to_string().repeat(100_000);
        let other = format!("only {round}");
        owner.commit(&[
            (0, "key", Some(&value)),
            (1, "other", Some(&other)),
            (1, &other, Some("kept")),
            (0, "removed", (round < 20).then_some("there")),
        ]);
    }
    owner.state
}

/// Returns an offload that only collects the work.
fn collecting() -> (Offload, Arc<Mutex<Vec<Work>>>) {
    let collected = Arc::new(Mutex::new(Vec::new()));
    let works = collected.clone();
    let offload: Offload = Arc::new(move |work| works.lock().unwrap().push(work));
    (offload, collected)
}

#[test]
#[allow(clippy::disallowed_methods, reason = "this caller chooses threads")]
fn a_tail_that_is_unpacked_on_threads_is_applied_in_its_order() {
    let root = Root::new();
    let written = write_tail(&root);
    let mut state = State::default();
    let offload: Offload = Arc::new(|work| drop(std::thread::spawn(work)));
    let contender = root.contender_without_snapshots(2);
    let owner = block_on(take_over_with(contender, &mut state, offload)).unwrap();
    assert_eq!(state, written);
    assert_eq!(owner.recovery.replayed, 31);
}

#[test]
fn groups_that_are_unpacked_in_reverse_are_applied_in_the_order_of_the_log() {
    let root = Root::new();
    let written = write_tail(&root);
    let mut state = State::default();
    let (offload, collected) = collecting();
    let contender = root.contender_without_snapshots(2);
    let mut takeover = Box::pin(take_over_with(contender, &mut state, offload));
    let mut most = 0;
    let owner = loop {
        if let Some(owner) = drive(&mut takeover) {
            break owner;
        }
        let works = std::mem::take(&mut *collected.lock().unwrap());
        assert!(!works.is_empty(), "it waits for nothing else");
        most = works.len().max(most);
        works.into_iter().rev().for_each(|work| work());
    };
    assert!(owner.is_ok());
    drop(takeover);
    assert!(most > 1, "several groups are unpacked at once");
    assert_eq!(state, written);
}

#[test]
fn a_takeover_whose_unpacking_is_dropped_fails() {
    let root = Root::new();
    write_tail(&root);
    let contender = root.contender_without_snapshots(2);
    let offload: Offload = Arc::new(drop);
    let ended = block_on(take_over_with(contender, &mut State::default(), offload));
    assert!(matches!(ended, Err(LogError::Misuse(_))), "{ended:?}");
}
