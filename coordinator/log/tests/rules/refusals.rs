//! Damaged, missing and foreign objects: a start that must read them fails with their names, and
//! verification names them all.

use std::sync::Arc;

use bytes::Bytes;
use satchel_log::savepoints::{NewSavepoint, create};
use satchel_log::{
    Application, At, Contender, DEPTH_MAX, ErrorKind, HistoryError, Identity, Layout, LogError,
    ObjectStore, Options, Placement, Retry, SnapshotPolicy, Source, Verification, read, verify,
};
use satchel_log_simulation::{ManualOwner, MemoryRoot, SimulatedClock, State, drive};

fn identity() -> Identity {
    Identity {
        application: "refusals".to_owned(),
        partition: 0,
        partitions: 1,
        buckets: 2,
        placement: Placement::Xxh3,
    }
}

fn contender(store: &Arc<MemoryRoot>, identity: Identity) -> Contender {
    Contender {
        store: store.clone(),
        root: "root".to_owned(),
        identity,
        nonce: [1; 16],
        clock: Arc::new(SimulatedClock::default()),
        options: Options {
            snapshots: SnapshotPolicy {
                floor_bytes: 1,
                log_percent: 0,
                segment_bytes: 1 << 20,
                ..SnapshotPolicy::default()
            },
            ..Options::default()
        },
        on_store_failure: Arc::new(|_| {}),
    }
}

fn layout() -> Layout {
    Layout::new("root", 0)
}

/// A root with a snapshot in effect and a log tail behind it.
fn root() -> Arc<MemoryRoot> {
    let store = Arc::new(MemoryRoot::new(crate::LOG));
    let mut owner = ManualOwner::take_over(contender(&store, identity())).expect("a new root");
    owner.commit(&[(0, "key", Some("1")), (1, "key", Some("2"))]);
    owner.image_and_advance();
    assert_eq!(owner.snapshots.len(), 1);
    owner.commit(&[(2, "key", Some("3"))]);
    owner.commit(&[(0, "key", None)]);
    save(&store, "kept");
    store
}

fn source(store: &Arc<MemoryRoot>) -> Source {
    Source {
        store: store.clone(),
        root: "root".to_owned(),
        clock: Arc::new(SimulatedClock::default()),
        retry: Retry {
            initial_ms: 1,
            max_ms: 1,
            give_up_ms: Some(1),
        },
        on_store_failure: Arc::new(|_| {}),
    }
}

fn application(store: &Arc<MemoryRoot>) -> Application {
    Application::decode(&object(store, layout().application())).expect("it is whole")
}

fn save(store: &Arc<MemoryRoot>, name: &str) {
    let new = NewSavepoint {
        name: name.parse().expect("a name"),
        nonce: [7; 16],
        software: "a test".to_owned(),
        comment: "kept".to_owned(),
    };
    let (source, application) = (source(store), application(store));
    let created = drive(&mut Box::pin(create(&source, &application, 0, &new)));
    created.expect("memory answers at once").expect("created");
}

/// Reads the savepoint.
fn read_kept(store: &Arc<MemoryRoot>) -> Result<State, LogError> {
    let whole = root();
    let (source, application) = (source(store), application(&whole));
    let mut state = State::default();
    let at = At::Savepoint("kept".parse().expect("a name"));
    let reading = drive(&mut Box::pin(read(
        &source,
        &application,
        0,
        at,
        &mut state,
    )));
    match reading.expect("memory answers at once") {
        Ok(_) => Ok(state),
        Err(HistoryError::Log(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

fn copy(store: &MemoryRoot) -> Arc<MemoryRoot> {
    let copy = MemoryRoot::new(crate::LOG);
    for key in store.keys() {
        copy.plant(&key, object(store, &key));
    }
    Arc::new(copy)
}

fn object(store: &MemoryRoot, key: &str) -> Bytes {
    let got = drive(&mut store.get(key)).expect("memory answers at once");
    got.expect("memory does not fail").expect("it exists")
}

fn remove(store: &MemoryRoot, key: &str) {
    let deleted = drive(&mut store.delete(&[key.to_owned()]));
    assert_eq!(deleted, Some(Ok(())));
}

fn start(store: &Arc<MemoryRoot>) -> Result<ManualOwner, LogError> {
    ManualOwner::take_over(contender(store, identity()))
}

fn look(store: &Arc<MemoryRoot>) -> Verification {
    let retry = Retry {
        initial_ms: 1,
        max_ms: 1,
        give_up_ms: Some(1),
    };
    let clock = Arc::new(SimulatedClock::default());
    let looking = verify(store.clone(), "root", clock, retry, Arc::new(|_| {}));
    let looked = drive(&mut Box::pin(looking)).expect("memory answers at once");
    looked.expect("memory does not fail")
}

fn names(finding: &LogError) -> &str {
    match finding {
        LogError::Damaged { key, .. }
        | LogError::Missing { key, .. }
        | LogError::Foreign { key, .. }
        | LogError::Unexpected { key, .. } => key,
        other => panic!("{other} names no object"),
    }
}

/// Returns true if a start reads this object: every object except log objects before the replay
/// start, old claims, and savepoints.
fn is_read_at_start(key: &str) -> bool {
    let prefixes = [layout().epochs_prefix(), layout().savepoints_prefix()];
    let apart = prefixes.iter().any(|prefix| key.starts_with(prefix));
    key != layout().log(1) && key != layout().log(2) && !apart
}

#[test]
fn a_whole_root_has_no_findings() {
    let store = root();
    let verification = look(&store);
    assert_eq!(verification.findings, []);
    assert_eq!(verification.objects, store.keys().len() as u64);
}

#[test]
fn every_flipped_byte_of_every_object_is_found_and_named_and_nothing_of_it_applied() {
    let whole = root();
    for key in whole.keys() {
        let bytes = object(&whole, &key);
        for at in 0..bytes.len() {
            let store = copy(&whole);
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 0x10;
            store.plant(&key, Bytes::from(damaged));

            let findings = look(&store).findings;
            let found = findings.iter().any(|finding| names(finding) == key);
            assert!(found, "byte {at} of {key}: {findings:?}");
            if is_read_at_start(&key) {
                match start(&store) {
                    Ok(_) => panic!("byte {at} of {key} did not stop the start"),
                    Err(error) => {
                        assert_eq!(names(&error), key, "byte {at}: {error}");
                        assert_eq!(error.kind(), ErrorKind::Refused);
                    }
                }
            }
            if key.starts_with(&layout().savepoints_prefix()) {
                let error = read_kept(&store).unwrap_err();
                assert_eq!(names(&error), key, "byte {at}: {error}");
            }
        }
    }
}

#[test]
fn every_missing_object_that_a_start_needs_is_named() {
    let whole = root();
    let segment = whole
        .keys()
        .into_iter()
        .find(|key| key.starts_with(&layout().segments_prefix()))
        .unwrap();
    let store = copy(&whole);
    remove(&store, &segment);
    assert_eq!(
        start(&store).err().map(|e| e.to_string()).unwrap(),
        format!("{segment} is missing: manifest 2 names it")
    );
    assert_eq!(names(&look(&store).findings[0]), segment);

    let manifest = layout().manifest(2);
    let store = copy(&whole);
    remove(&store, &manifest);
    assert_eq!(
        start(&store).err().map(|e| e.to_string()).unwrap(),
        format!("{manifest} is missing: a log record put it in effect")
    );
}

#[test]
fn every_missing_object_that_a_savepoint_needs_is_named() {
    let whole = root();
    assert!(read_kept(&whole).is_ok());
    let is_needed = |key: &String| {
        let kinds = [
            layout().manifests_prefix(),
            layout().segments_prefix(),
            layout().log_prefix(),
        ];
        let before = [layout().log(1), layout().log(2)];
        kinds.iter().any(|kind| key.starts_with(kind)) && !before.contains(key)
    };
    for key in whole.keys().into_iter().filter(is_needed) {
        let store = copy(&whole);
        remove(&store, &key);
        let error = read_kept(&store).unwrap_err();
        assert_eq!(names(&error), key, "{error}");
        let found = look(&store).findings;
        assert!(found.iter().any(|one| names(one) == key), "{found:?}");
    }
}

#[test]
fn a_hole_in_the_log_that_no_crash_leaves_is_named() {
    let store = Arc::new(MemoryRoot::new(crate::LOG));
    let mut owner = ManualOwner::take_over(Contender {
        options: Options::default(),
        ..contender(&store, identity())
    })
    .unwrap();
    for _ in 0..20 {
        owner.commit(&[(0, "key", Some("1"))]);
    }
    assert_eq!(owner.numbers.last(), Some(&21));
    let hole = layout().log(21 - DEPTH_MAX);
    remove(&store, &hole);
    let expected = format!("{hole} is missing: {} exists", layout().log(21));
    assert_eq!(
        start(&store).err().map(|e| e.to_string()),
        Some(expected.clone())
    );
    let findings = look(&store).findings;
    assert_eq!(
        findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [expected]
    );
}

#[test]
fn a_root_without_the_record_of_its_application_is_adopted_by_none() {
    let store = root();
    let record = object(&store, layout().application());
    remove(&store, layout().application());
    for application in ["refusals", "shop"] {
        let identity = Identity {
            application: application.to_owned(),
            ..identity()
        };
        let refused = ManualOwner::take_over(contender(&store, identity)).err();
        let error = refused.expect("it is refused");
        assert_eq!(names(&error), layout().application());
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(
            error.to_string().contains("nothing else says which"),
            "{error}"
        );
    }
    // The record restored from a copy, the root is whole again.
    store.plant(layout().application(), record);
    assert!(start(&store).is_ok());
}

#[test]
fn of_an_endless_record_only_the_beginning_is_read() {
    let store = root();
    let record = object(&store, layout().application());
    let endless = [record.to_vec(), vec![b' '; 1 << 20]].concat();
    store.plant(layout().application(), Bytes::from(endless));
    let error = start(&store).err().expect("it is refused");
    assert_eq!(names(&error), layout().application());
    assert_eq!(names(&look(&store).findings[0]), layout().application());
}

#[test]
fn a_root_of_another_application_or_shape_is_refused() {
    let store = root();
    let refusal = |identity| {
        let refused = ManualOwner::take_over(contender(&store, identity)).err();
        refused.map(|error| error.to_string()).unwrap()
    };
    assert_eq!(
        refusal(Identity {
            application: "shop".to_owned(),
            ..identity()
        }),
        r#"root/application: this root has application "refusals", not "shop""#
    );
    assert_eq!(
        refusal(Identity {
            partitions: 2,
            ..identity()
        }),
        "root/application: this root has partitions 1, not 2"
    );
    assert_eq!(
        refusal(Identity {
            buckets: 256,
            ..identity()
        }),
        "root/application: this root has buckets 2, not 256"
    );
}

#[test]
fn a_foreign_object_is_found() {
    let store = root();
    let key = format!("{}readme", layout().manifests_prefix());
    store.plant(&key, Bytes::from_static(b"hello"));
    assert_eq!(
        look(&store).findings,
        [LogError::Unexpected {
            key,
            reason: "no object of a partition has a key like this".to_owned(),
        }]
    );
}

#[test]
fn an_empty_store_is_reported_as_no_root() {
    let findings = look(&Arc::new(MemoryRoot::new(crate::LOG))).findings;
    assert_eq!(names(&findings[0]), "root/application");
    assert_eq!(findings.len(), 1);
}

#[test]
fn settings_that_would_break_the_rules_are_refused() {
    let store = Arc::new(MemoryRoot::new(crate::LOG));
    let refusal = |options| {
        let contender = Contender {
            options,
            ..contender(&store, identity())
        };
        ManualOwner::take_over(contender)
            .err()
            .map(|error| error.kind())
    };
    let options = Options::default();
    assert_eq!(
        refusal(Options {
            depth: DEPTH_MAX + 1,
            ..options
        }),
        Some(ErrorKind::Bug)
    );
    assert_eq!(
        refusal(Options {
            grace_ms: options.window_ms,
            ..options
        }),
        Some(ErrorKind::Bug)
    );
    assert_eq!(store.keys(), Vec::<String>::new());
}
