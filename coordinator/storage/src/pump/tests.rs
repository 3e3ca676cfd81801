use std::sync::Arc;
use std::time::Duration;

use satchel_engine::address::{Address, FunctionType};
use satchel_engine::durable::{Change, Key, StoredState, Value};
use satchel_engine::input::Input;
use satchel_engine::output::{BucketImage, BucketSummary, Delta, Output};
use satchel_engine::partition::{BucketProblem, LoadedBucket, Overlay};
use satchel_engine::placement::Placement;
use satchel_log::{LogError, Notice, Snapshot, StoreError};

use super::{CommittedDelta, LogCommand, Observation, Pump, Reaction};
use crate::encode::{ChangeEncoder, encode_changes, encode_delta, encode_image};

const PLACEMENT: Placement = Placement::id_md5(4, false);

fn encoder() -> ChangeEncoder {
    ChangeEncoder::new(PLACEMENT)
}

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn delta(number: u64) -> Delta {
    Delta {
        number,
        committed_at_ms: 1_000 * number,
        clean: number == 3,
        changes: vec![state(number)],
    }
}

/// The state of the address with this id.
fn state(id: u64) -> Change {
    Change {
        key: Key::State {
            address: Address::new(FunctionType::new("shop", "stock"), id.to_string()),
            name: "count".into(),
        },
        value: Some(Value::State(StoredState {
            typename: "shop/number".into(),
            expires_at_ms: None,
            value: id.to_le_bytes().to_vec().into(),
        })),
    }
}

fn states_of(bucket: u16) -> Vec<Change> {
    let all = (0..40).map(state);
    all.filter(|change| change.key.bucket(&PLACEMENT) == bucket)
        .collect()
}

fn load(bucket: u16, load: u64) -> Output {
    Output::LoadBucket {
        bucket,
        load,
        replayed: Arc::new(Overlay::default()),
    }
}

fn durable(sequence: u64, stored_bytes: u64) -> Notice {
    Notice::Durable {
        sequence,
        number: sequence + 10,
        stored_bytes,
    }
}

fn loaded(bucket: u16, content: &[Change]) -> Notice {
    Notice::Loaded {
        bucket,
        entries: encode_changes(PLACEMENT, content),
        number: 7,
    }
}

/// Runs the decode job of a notice. Returns the load that the result answers, and its content.
fn decode(pump: &mut Pump, notice: Notice) -> (u64, LoadedBucket) {
    let (Reaction::Decode(job), None) = pump.on_notice(at(0), notice) else {
        panic!("the notice answers no load");
    };
    match job.run() {
        Ok(Input::BucketLoaded { load, content, .. }) => (load, *content),
        other => panic!("{other:?}"),
    }
}

fn bucket_of(bucket: u16, content: &[Change]) -> LoadedBucket {
    let entries = encode_changes(PLACEMENT, content);
    crate::encode::decode_bucket(bucket, PLACEMENT, &entries, &Overlay::default()).unwrap()
}

#[test]
fn each_storage_output_is_one_log_command_and_every_other_output_is_handed_back() {
    let mut pump = Pump::new(PLACEMENT);
    let image = BucketImage {
        bucket: 2,
        delta: 1,
        summary: BucketSummary {
            earliest_due_ms: Some(5),
            pending: true,
        },
        content: states_of(2),
    };
    let outputs = [
        (
            Output::Commit(Box::new(delta(1))),
            LogCommand::Commit(encode_delta(&mut encoder(), &delta(1))),
        ),
        (
            Output::Image(Box::new(image.clone())),
            LogCommand::Keep(encode_image(&mut encoder(), &image)),
        ),
        (load(2, 1), LogCommand::Load(2)),
        (Output::SnapshotWanted, LogCommand::Snapshot),
    ];
    for (output, command) in outputs {
        assert!(Pump::performs(&output), "{output:?}");
        assert_eq!(pump.perform(at(0), output), Ok(command));
    }
    for output in [Output::PauseIngress, Output::WakeAt(5), Output::Stopped] {
        assert!(!Pump::performs(&output), "{output:?}");
        assert_eq!(pump.perform(at(0), output.clone()), Err(output));
    }
}

#[test]
fn a_durable_delta_is_told_and_observed_with_the_time_since_its_seal() {
    let mut pump = Pump::new(PLACEMENT);
    for number in 1..=3 {
        let commit = Output::Commit(Box::new(delta(number)));
        pump.perform(at(100 * number), commit).unwrap();
    }
    assert_eq!(pump.oldest_commit(), Some((1, at(100))));
    let (reaction, observed) = pump.on_notice(at(450), durable(1, 64));
    assert_eq!(pump.oldest_commit(), Some((2, at(200))));
    assert!(matches!(
        reaction,
        Reaction::Tell(Input::CommitDurable { number: 1 })
    ));
    let committed = |number, took_ms, stored_bytes| CommittedDelta {
        number,
        took: at(took_ms),
        stored_bytes,
    };
    let first = Observation::Committed(vec![committed(1, 350, 64)]);
    assert_eq!(observed, Some(first));
    // One notice may report several deltas; its size is that of the last one.
    let (_, observed) = pump.on_notice(at(500), durable(3, 70));
    let rest = Observation::Committed(vec![committed(2, 300, 0), committed(3, 200, 70)]);
    assert_eq!(observed, Some(rest));
}

#[test]
fn loads_of_one_bucket_are_answered_oldest_first_and_of_several_buckets_in_any_order() {
    let mut pump = Pump::new(PLACEMENT);
    for output in [load(1, 1), load(2, 2), load(1, 3)] {
        pump.perform(at(0), output).unwrap();
    }
    let (one, two) = (states_of(1), states_of(2));
    assert_eq!(decode(&mut pump, loaded(2, &two)), (2, bucket_of(2, &two)));
    assert_eq!(
        decode(&mut pump, loaded(1, &one[..1])),
        (1, bucket_of(1, &one[..1]))
    );
    assert_eq!(decode(&mut pump, loaded(1, &one)), (3, bucket_of(1, &one)));
}

#[test]
fn an_image_that_answers_no_load_is_dropped() {
    let mut pump = Pump::new(PLACEMENT);
    pump.perform(at(0), load(1, 1)).unwrap();
    decode(&mut pump, loaded(1, &[]));
    for bucket in [1, 2] {
        let (reaction, observed) = pump.on_notice(at(0), loaded(bucket, &[]));
        assert!(matches!(reaction, Reaction::Nothing), "{reaction:?}");
        assert_eq!(observed, None);
    }
}

#[test]
fn an_image_with_a_fact_of_another_bucket_is_a_named_problem() {
    let mut pump = Pump::new(PLACEMENT);
    pump.perform(at(0), load(1, 1)).unwrap();
    let (Reaction::Decode(job), _) = pump.on_notice(at(0), loaded(1, &states_of(2))) else {
        panic!("the notice answers the load");
    };
    assert!(matches!(
        job.run(),
        Err(BucketProblem::Foreign { bucket: 1, .. })
    ));
}

#[test]
fn snapshots_and_troubles_of_the_log_are_observed() {
    let mut pump = Pump::new(PLACEMENT);
    let (reaction, observed) = pump.on_notice(at(0), Notice::WantImages(vec![2, 0]));
    assert!(matches!(reaction, Reaction::Tell(Input::ImagesWanted(wanted)) if wanted == [2, 0]));
    assert_eq!(observed, None);

    let snapshot = Snapshot {
        manifest: 4,
        images: vec![(2, 9)],
        bytes: 100,
        state_bytes: 300,
        replay_from: 10,
    };
    let (reaction, observed) = pump.on_notice(at(0), Notice::Snapshot(snapshot.clone()));
    assert!(matches!(reaction, Reaction::Tell(Input::SnapshotTaken(images)) if images == [(2, 9)]));
    assert_eq!(observed, Some(Observation::SnapshotTaken(snapshot)));

    let error: LogError = StoreError::Fatal {
        key: "manifests/1".to_owned(),
        reason: "access denied".to_owned(),
    }
    .into();
    let (reaction, observed) = pump.on_notice(at(0), Notice::NothingDeleted(error.clone()));
    assert!(matches!(reaction, Reaction::Nothing));
    assert_eq!(observed, Some(Observation::DeletionBlocked(error)));
}
