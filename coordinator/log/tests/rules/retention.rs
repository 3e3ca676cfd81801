//! History: moments within the retention can be read, older ones are deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use satchel_log::{
    Application, At, Contender, HistoryError, ObjectStore, Options, Retry, SnapshotPolicy, Source,
    read,
};
use satchel_log_simulation::{ManualOwner, State, drive};

use crate::root::{HOUR_MS, Root};

const MINUTE_MS: u64 = 60_000;

impl Root {
    fn contender_with_history(&self, process: u8, retention_ms: u64) -> Contender {
        let options = Options {
            snapshots: SnapshotPolicy {
                floor_bytes: 1,
                log_percent: 0,
                ..SnapshotPolicy::default()
            },
            retention_ms,
            ..Options::default()
        };
        self.contender_with(process, options)
    }

    pub(crate) fn at(&self, moment_ms: u64) -> Result<State, HistoryError> {
        let source = Source {
            store: self.store.clone(),
            root: "root".to_owned(),
            clock: Arc::new(self.clock.clone()),
            retry: Retry {
                initial_ms: 1,
                max_ms: 1,
                give_up_ms: Some(1),
            },
            on_store_failure: Arc::new(|_| {}),
        };
        let object = drive(&mut self.memory.get(self.layout.application()));
        let object = object.expect("memory answers at once").expect("no failure");
        let application = Application::decode(&object.expect("it exists")).expect("whole");
        let mut state = State::default();
        let at = At::Moment(moment_ms);
        let reading = drive(&mut Box::pin(read(
            &source,
            &application,
            0,
            at,
            &mut state,
        )));
        reading.expect("nothing holds it up").map(|_| state)
    }

    fn manifest_sizes(&self) -> Vec<usize> {
        let prefix = self.layout.manifests_prefix();
        let keys = self.memory.keys().into_iter();
        let size = |key: String| {
            let object = drive(&mut self.memory.get(&key)).expect("at once");
            object.expect("no failure").expect("it exists").len()
        };
        keys.filter(|key| key.starts_with(&prefix))
            .map(size)
            .collect()
    }
}

/// Commits and takes a snapshot every ten minutes, and remembers the states.
fn work(root: &Root, owner: &mut ManualOwner, rounds: u64, history: &mut BTreeMap<u64, State>) {
    for round in 0..rounds {
        root.clock.advance(10 * MINUTE_MS);
        owner.time_ms += 10 * MINUTE_MS;
        let value = owner.time_ms.to_string();
        let bucket = (round % 2) as u16;
        owner.commit(&[(bucket, "key", Some(&value)), (2, "last", Some(&value))]);
        owner.image_and_advance();
        history.insert(owner.time_ms, owner.state.clone());
    }
}

fn assert_readable(root: &Root, history: &BTreeMap<u64, State>, since_ms: u64) {
    for (moment_ms, state) in history.range(since_ms..) {
        for at in [*moment_ms, moment_ms + 5 * MINUTE_MS] {
            assert_eq!(root.at(at).as_ref(), Ok(state), "at {at}");
        }
    }
}

#[test]
fn every_moment_of_the_retention_can_be_read_across_takeovers_and_older_ones_are_deleted() {
    let root = Root::new();
    let mut history = BTreeMap::new();
    let mut first = ManualOwner::take_over(root.contender_with_history(1, 3 * HOUR_MS)).unwrap();
    let begin_ms = first.time_ms;
    work(&root, &mut first, 12, &mut history);
    assert_readable(&root, &history, begin_ms);
    let sizes = root.manifest_sizes();
    assert!(sizes.len() >= 12, "{sizes:?}");

    work(&root, &mut first, 30, &mut history);
    assert_readable(&root, &history, first.time_ms - 3 * HOUR_MS);
    let sizes = root.manifest_sizes();
    // Three hours, and the snapshots that wait for the grace period.
    assert!((18..30).contains(&sizes.len()), "{sizes:?}");
    let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
    assert!(most - least < 60, "manifests do not grow: {sizes:?}");

    let mut second = ManualOwner::take_over(root.contender_with_history(2, 3 * HOUR_MS)).unwrap();
    second.time_ms = first.time_ms.max(second.time_ms);
    work(&root, &mut second, 30, &mut history);
    assert_readable(&root, &history, second.time_ms - 3 * HOUR_MS);
    let sizes = root.manifest_sizes();
    assert!((18..30).contains(&sizes.len()), "{sizes:?}");
    assert!(!root.exists(&root.layout.log(1)));
    let refused = root.at(begin_ms + 10 * MINUTE_MS).unwrap_err();
    let HistoryError::Collected {
        reaches_back_to_ms, ..
    } = refused
    else {
        panic!("{refused}");
    };
    assert!(reaches_back_to_ms <= second.time_ms - 3 * HOUR_MS);
    assert_readable(&root, &history, reaches_back_to_ms);

    // An owner without retention condemns the whole history.
    let mut third = ManualOwner::take_over(root.contender_with_history(3, 0)).unwrap();
    third.time_ms = second.time_ms.max(third.time_ms);
    work(&root, &mut third, 10, &mut history);
    root.clock.advance(2 * HOUR_MS);
    third.advance();
    third.advance();
    assert!(root.manifest_sizes().len() <= 2);
    let recovered = root.recovered();
    assert_eq!(recovered, third.state);
    let mut segments = root.memory.keys();
    segments.retain(|key| key.starts_with(&root.layout.segments_prefix()));
    assert!(segments.len() <= 4, "{segments:?}");
}

#[test]
fn a_moment_long_ago_is_found_without_reading_the_whole_log() {
    let root = Root::new();
    let mut history = BTreeMap::new();
    let mut owner =
        ManualOwner::take_over(root.contender_with_history(1, 1_000 * HOUR_MS)).unwrap();
    work(&root, &mut owner, 100, &mut history);
    let (moment_ms, state) = history.iter().nth(20).unwrap();
    root.store.take_reads();
    assert_eq!(root.at(*moment_ms).as_ref(), Ok(state));
    let reads = root.store.take_reads();
    assert!(
        reads.len() < 60,
        "{} reads of {} objects",
        reads.len(),
        root.memory.keys().len()
    );
}

#[test]
fn a_former_manifest_that_cannot_be_read_stops_no_owner_and_orphans_stay() {
    let root = Root::new();
    let mut history = BTreeMap::new();
    let mut first = ManualOwner::take_over(root.contender_with_history(1, 100 * HOUR_MS)).unwrap();
    work(&root, &mut first, 5, &mut history);
    let damaged = root.layout.manifest(first.snapshots[1].manifest);
    root.memory
        .plant(&damaged, bytes::Bytes::from_static(b"SMAN?"));
    let mut second = ManualOwner::take_over(root.contender_with_history(2, 100 * HOUR_MS)).unwrap();
    work(&root, &mut second, 3, &mut history);
    assert!(second.ended.is_none() && !second.snapshots.is_empty());
    let errors: Vec<String> = second
        .nothing_deleted
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with(&damaged), "{errors:?}");
}
