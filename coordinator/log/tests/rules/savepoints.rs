//! Savepoints and collection: either the creator or the owner sees the other.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use satchel_log::savepoints::{NewSavepoint, SavepointError, create, delete, list};
use satchel_log::{
    Application, At, HistoryError, LogError, ObjectStore, Retry, Savepoint, SavepointName, Source,
    read,
};
use satchel_log_simulation::{ManualOwner, State, drive};

use crate::root::{HOUR_MS, Root, commit_until_snapshot};

fn name(name: &str) -> SavepointName {
    name.parse().expect("a name")
}

/// Each creator has a nonce of its own.
fn new(text: &str) -> NewSavepoint {
    static CREATORS: AtomicU8 = AtomicU8::new(1);
    NewSavepoint {
        name: name(text),
        nonce: [CREATORS.fetch_add(1, Ordering::Relaxed); 16],
        software: "a test".to_owned(),
        comment: format!("called {text}"),
    }
}

type Creating = Pin<Box<dyn Future<Output = Result<Savepoint, SavepointError>>>>;

impl Root {
    fn source(&self) -> Source {
        Source {
            store: self.store.clone(),
            root: "root".to_owned(),
            clock: Arc::new(self.clock.clone()),
            retry: Retry {
                initial_ms: 1,
                max_ms: 1,
                give_up_ms: Some(1),
            },
            on_store_failure: Arc::new(|_| {}),
        }
    }

    fn application(&self) -> Application {
        let object = drive(&mut self.memory.get(self.layout.application()));
        let object = object.expect("memory answers at once").expect("no failure");
        Application::decode(&object.expect("it exists")).expect("it is whole")
    }

    fn creating(&self, text: &str) -> Creating {
        let (source, application, new) = (self.source(), self.application(), new(text));
        Box::pin(async move { create(&source, &application, 0, &new).await })
    }

    fn create(&self, text: &str) -> Result<Savepoint, SavepointError> {
        drive(&mut self.creating(text)).expect("nothing holds it up")
    }

    fn delete_savepoint(&self, text: &str) -> Result<(), SavepointError> {
        let source = self.source();
        let name = name(text);
        drive(&mut Box::pin(delete(&source, 0, &name))).expect("nothing holds it up")
    }

    fn savepoints(&self) -> Vec<Savepoint> {
        let source = self.source();
        let listed = drive(&mut Box::pin(list(&source, 0))).expect("nothing holds it up");
        listed.expect("they are whole")
    }

    fn read(&self, text: &str) -> Result<State, HistoryError> {
        let (source, application) = (self.source(), self.application());
        let mut state = State::default();
        let at = At::Savepoint(name(text));
        let reading = drive(&mut Box::pin(read(
            &source,
            &application,
            0,
            at,
            &mut state,
        )));
        reading.expect("nothing holds it up").map(|_| state)
    }

    /// Keys of all objects that a savepoint needs.
    fn needed(&self, savepoint: &Savepoint) -> BTreeSet<String> {
        let log = savepoint.replay_from..=savepoint.through;
        let manifest = savepoint
            .manifest
            .map(|it| self.layout.manifest(it.manifest));
        let segments = savepoint.segments.iter().map(|it| self.layout.segment(it));
        log.map(|number| self.layout.log(number))
            .chain(manifest)
            .chain(segments)
            .collect()
    }

    fn has_all(&self, savepoint: &Savepoint) -> bool {
        let keys: BTreeSet<String> = self.memory.keys().into_iter().collect();
        self.needed(savepoint).is_subset(&keys)
    }
}

/// Commits and takes snapshots until everything older is condemned and the grace period is over.
fn outlive(root: &Root, owner: &mut ManualOwner) {
    for value in ["x", "y", "z"] {
        owner.snapshots.clear();
        commit_until_snapshot(owner, value);
        owner.commit(&[(1, "other", Some(value)), (2, "wide", Some(value))]);
        owner.image_and_advance();
    }
    root.clock.advance(2 * HOUR_MS);
    owner.advance();
    owner.advance();
}

#[test]
fn a_savepoint_is_the_durable_state_and_outlives_every_collection_until_it_is_deleted() {
    let root = Root::new();
    let mut owner = ManualOwner::take_over(root.contender(1)).unwrap();
    owner.commit(&[(0, "key", Some("1")), (1, "key", Some("2"))]);
    let early = root.create("early").unwrap();
    let early_state = owner.state.clone();
    assert_eq!(early.manifest, None);
    commit_until_snapshot(&mut owner, "a");
    owner.commit(&[(1, "key", None)]);
    let late = root.create("late").unwrap();
    let late_state = owner.state.clone();
    assert!(late.manifest.is_some() && !late.segments.is_empty());
    assert_eq!(root.savepoints(), [early.clone(), late.clone()]);

    for _ in 0..3 {
        outlive(&root, &mut owner);
    }
    assert!(root.has_all(&early) && root.has_all(&late));
    assert_eq!(root.read("early").unwrap(), early_state);
    assert_eq!(root.read("late").unwrap(), late_state);
    let between = root.layout.log(late.through + 1);
    assert!(
        !root.exists(&between),
        "objects that are not needed are deleted"
    );

    // The next owner knows what is held back, too.
    let mut next = ManualOwner::take_over(root.contender(2)).unwrap();
    outlive(&root, &mut next);
    assert!(root.has_all(&early) && root.has_all(&late));
    root.delete_savepoint("late").unwrap();
    root.delete_savepoint("early").unwrap();
    outlive(&root, &mut next);
    let left: BTreeSet<String> = root.memory.keys().into_iter().collect();
    for savepoint in [&early, &late] {
        assert!(root.needed(savepoint).is_disjoint(&left), "{left:?}");
    }
    assert_eq!(root.recovered(), next.state);
}

#[test]
fn a_savepoint_that_comes_while_its_manifest_is_condemned_is_made_of_the_newer_one() {
    let root = Root::new();
    let mut owner = ManualOwner::take_over(root.contender(1)).unwrap();
    commit_until_snapshot(&mut owner, "a");
    let key = root.layout.savepoint(&name("late"));
    root.store.hold(&key);
    let mut creating = root.creating("late");
    assert!(drive(&mut creating).is_none(), "about to be created");

    owner.snapshots.clear();
    commit_until_snapshot(&mut owner, "b");
    let newer = owner.snapshots[0].manifest;
    root.store.release(&key);
    let savepoint = drive(&mut creating).expect("nothing holds it up").unwrap();
    assert_eq!(savepoint.manifest.map(|it| it.manifest), Some(newer));
    assert_eq!(root.savepoints(), std::slice::from_ref(&savepoint));
    outlive(&root, &mut owner);
    assert!(root.has_all(&savepoint));
    root.read("late").unwrap();
}

#[test]
fn a_savepoint_that_comes_after_its_objects_are_deleted_is_made_anew() {
    let root = Root::new();
    let mut owner = ManualOwner::take_over(root.contender(1)).unwrap();
    commit_until_snapshot(&mut owner, "a");
    let key = root.layout.savepoint(&name("late"));
    root.store.hold(&key);
    let mut creating = root.creating("late");
    assert!(drive(&mut creating).is_none(), "about to be created");
    // The condemnation is performed and forgotten before the savepoint exists.
    outlive(&root, &mut owner);
    outlive(&root, &mut owner);
    root.store.release(&key);
    let savepoint = drive(&mut creating).expect("nothing holds it up").unwrap();
    assert!(root.has_all(&savepoint));
    assert_eq!(root.read("late").unwrap(), owner.state);
}

#[test]
fn a_savepoint_that_was_there_before_the_condemnation_holds_the_deletion_back() {
    let root = Root::new();
    let mut owner = ManualOwner::take_over(root.contender(1)).unwrap();
    commit_until_snapshot(&mut owner, "a");
    let state = owner.state.clone();
    let savepoint = root.create("before").unwrap();
    owner.snapshots.clear();
    commit_until_snapshot(&mut owner, "b");
    root.clock.advance(2 * HOUR_MS);
    owner.advance();
    assert!(root.has_all(&savepoint));
    assert_eq!(root.read("before").unwrap(), state);
}

#[test]
fn a_savepoint_name_is_unique() {
    let root = Root::new();
    let mut owner = ManualOwner::take_over(root.contender(1)).unwrap();
    owner.commit(&[(0, "key", Some("1"))]);
    root.create("release").unwrap();
    owner.commit(&[(0, "key", Some("2"))]);
    let refused = root.create("release").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "partition 0 has a savepoint release already"
    );
    root.delete_savepoint("release").unwrap();
    let unknown = root.delete_savepoint("release").unwrap_err();
    assert_eq!(unknown.to_string(), "partition 0 has no savepoint release");
    assert_eq!(
        root.read("release").unwrap_err().to_string(),
        "partition 0 has no savepoint release"
    );
}

#[test]
fn while_a_savepoint_cannot_be_read_nothing_is_deleted_and_the_log_continues() {
    let root = Root::new();
    let mut owner = ManualOwner::take_over(root.contender(1)).unwrap();
    owner.commit(&[(0, "key", Some("1"))]);
    root.create("damaged").unwrap();
    let key = root.layout.savepoint(&name("damaged"));
    let object = drive(&mut root.memory.get(&key)).unwrap().unwrap().unwrap();
    root.memory.plant(&key, object.slice(..object.len() - 1));
    outlive(&root, &mut owner);
    assert!(root.exists(&root.layout.log(1)), "nothing is deleted");
    assert!(
        owner
            .nothing_deleted
            .iter()
            .all(|error| matches!(error, LogError::Damaged { key: named, .. } if *named == key)),
        "{:?}",
        owner.nothing_deleted
    );
    assert!(!owner.nothing_deleted.is_empty() && owner.ended.is_none());
    root.delete_savepoint("damaged").unwrap();
    outlive(&root, &mut owner);
    assert!(!root.exists(&root.layout.log(1)));
}

#[test]
fn writes_of_a_sleeper_into_a_collected_gap_behind_a_savepoint_are_not_history() {
    let root = Root::new();
    let mut sleeper = ManualOwner::take_over(root.contender(1)).unwrap();
    commit_until_snapshot(&mut sleeper, "a");
    let kept = root.create("kept").unwrap();
    let kept_ms = sleeper.time_ms;
    let kept_state = sleeper.state.clone();

    let mut owner = ManualOwner::take_over(root.contender(2)).unwrap();
    owner.time_ms = kept_ms + 1_000;
    owner.commit(&[(0, "key", Some("b"))]);
    let moment_ms = owner.time_ms;
    owner.time_ms += 1_000;
    outlive(&root, &mut owner);
    let behind = root.layout.log(kept.through + 1);
    assert!(root.has_all(&kept) && !root.exists(&behind));

    // It continues where it fell asleep, at the number that was the takeover's. Only then it learns
    // that it is no longer the owner.
    sleeper.time_ms = owner.time_ms + 1_000;
    sleeper.commit(&[(1, "key", Some("late"))]);
    assert!(root.exists(&behind) && sleeper.is_fenced());

    let read = root.at(moment_ms);
    assert!(
        matches!(read, Err(HistoryError::Collected { .. })),
        "{read:?}"
    );
    assert_eq!(root.read("kept"), Ok(kept_state));
}

#[test]
fn a_creator_that_slept_deletes_only_its_own_savepoint() {
    let root = Root::new();
    let mut owner = ManualOwner::take_over(root.contender(1)).unwrap();
    commit_until_snapshot(&mut owner, "a");
    let base = root.layout.manifest(owner.snapshots[0].manifest);
    let key = root.layout.savepoint(&name("late"));
    root.store.hold_reads(&base);
    let mut creating = root.creating("late");
    assert!(drive(&mut creating).is_none(), "about to look");
    assert!(root.exists(&key));

    // It sleeps while its savepoint is deleted, its base is collected, and the name is given again.
    root.delete_savepoint("late").unwrap();
    outlive(&root, &mut owner);
    outlive(&root, &mut owner);
    assert!(!root.exists(&base));
    let other = root.create("late").unwrap();
    root.store.release_reads(&base);
    let refused = drive(&mut creating).expect("nothing holds it up");
    assert_eq!(
        refused.unwrap_err().to_string(),
        "partition 0 has a savepoint late already"
    );
    assert_eq!(root.savepoints(), [other]);
}
