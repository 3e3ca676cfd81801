//! The parts of a log in a table: items, bodies, the archived log.

use std::sync::Arc;

use bytes::Bytes;
use satchel_log::{
    ATTRIBUTE_NAMES_BYTES, Application, At, Contender, ITEM_BYTES_MAX, Identity, Layout, LogError,
    LogTable, MemoryStore, MemoryTable, ObjectStore, Options, Placement, Retry, SnapshotPolicy,
    Source, StoreError, TabledStore, Verification, read, verify,
};
use satchel_log_simulation::{
    InterceptingStore, ManualOwner, SimulatedClock, State, drive, simulated_table,
};

const HOUR_MS: u64 = 3_600_000;
const MINUTE_MS: u64 = 60_000;

struct World {
    objects: Arc<MemoryStore>,
    table: Arc<MemoryTable>,
    store: Arc<InterceptingStore>,
    clock: SimulatedClock,
    layout: Layout,
}

impl World {
    fn new() -> Self {
        let (objects, table) = (Arc::new(MemoryStore::new()), Arc::new(MemoryTable::new()));
        let items: Arc<dyn LogTable> = table.clone();
        let store = TabledStore::new(objects.clone(), items, "root", 1, simulated_table());
        Self {
            objects,
            table,
            store: Arc::new(InterceptingStore::new(Arc::new(store))),
            clock: SimulatedClock::default(),
            layout: Layout::new("root", 0),
        }
    }

    fn contender(&self, process: u8, retention_ms: u64, snapshots: bool) -> Contender {
        Contender {
            store: self.store.clone(),
            root: "root".to_owned(),
            identity: Identity {
                application: "parts".to_owned(),
                partition: 0,
                partitions: 1,
                buckets: 2,
                placement: Placement::IdMd5 { hash_tags: false },
            },
            nonce: [process; 16],
            clock: Arc::new(self.clock.clone()),
            options: Options {
                snapshots: SnapshotPolicy {
                    floor_bytes: if snapshots { 1 } else { u64::MAX },
                    log_percent: 0,
                    ..SnapshotPolicy::default()
                },
                retention_ms,
                ..Options::default()
            },
            on_store_failure: Arc::new(|_| {}),
        }
    }

    fn owner(&self, process: u8, retention_ms: u64, snapshots: bool) -> ManualOwner {
        ManualOwner::take_over(self.contender(process, retention_ms, snapshots)).unwrap()
    }

    /// Commits a value of this many bytes, and takes a snapshot.
    fn work(&self, owner: &mut ManualOwner, length: usize) {
        self.clock.advance(10 * MINUTE_MS);
        owner.time_ms += 10 * MINUTE_MS;
        owner.commit(&[(0, "key", Some(&incompressible(length, owner.time_ms)))]);
        owner.image_and_advance();
    }

    /// Lets everything condemned be deleted, and everything archived that is to be.
    fn settle(&self, owner: &mut ManualOwner) {
        for _ in 0..3 {
            self.clock.advance(2 * HOUR_MS);
            owner.advance();
        }
    }

    fn items(&self) -> Vec<String> {
        let names = self.table.names().into_iter().map(|(_, name)| name);
        names.filter(|name| name.starts_with("log/")).collect()
    }

    fn parts(&self, kind: &str) -> Vec<String> {
        let prefix = format!("root/partitions/0/{kind}/");
        let mut keys = self.objects.keys();
        keys.retain(|key| key.starts_with(&prefix));
        keys
    }

    fn at(&self, at: At) -> Result<State, String> {
        let record = drive(&mut self.objects.get(self.layout.application())).unwrap();
        let application = Application::decode(&record.unwrap().unwrap()).unwrap();
        let source = Source {
            store: self.store.clone(),
            root: "root".to_owned(),
            clock: Arc::new(self.clock.clone()),
            retry: RETRY,
            on_store_failure: Arc::new(|_| {}),
        };
        let mut state = State::default();
        let reading = {
            let mut reading = Box::pin(read(&source, &application, 0, at, &mut state));
            drive(&mut reading).expect("memory answers at once")
        };
        reading.map_err(|error| error.to_string())?;
        Ok(state)
    }

    fn verify(&self) -> Verification {
        let store = self.store.clone();
        let clock = Arc::new(self.clock.clone());
        let verifying = verify(store, "root", clock, RETRY, Arc::new(|_| {}));
        drive(&mut Box::pin(verifying)).unwrap().unwrap()
    }
}

const RETRY: Retry = Retry {
    initial_ms: 1,
    max_ms: 1,
    give_up_ms: Some(1),
};

/// Text that compression leaves as long as it is, or nearly so.
fn incompressible(length: usize, seed: u64) -> String {
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'!' + (state % 90) as u8)
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn a_small_commit_is_an_item_and_a_large_one_a_body_that_its_item_points_to() {
    let world = World::new();
    let mut owner = world.owner(1, 0, false);
    owner.commit(&[(0, "small", Some(&incompressible(3_000, 1)))]);
    assert_eq!(world.parts("bodies"), Vec::<String>::new());
    owner.commit(&[(0, "large", Some(&incompressible(6_000, 2)))]);
    assert_eq!(world.parts("bodies").len(), 1);
    for (log, name) in world.table.names() {
        let content = drive(&mut world.table.get(&log, &name)).unwrap();
        let content = content.unwrap().unwrap().len();
        let size = log.len() + name.len() + ATTRIBUTE_NAMES_BYTES + content;
        assert!(size <= ITEM_BYTES_MAX, "{name}: {size}");
    }
    let recovered = world.owner(2, 0, false);
    assert_eq!(recovered.state, owner.state);
    assert_eq!(world.verify().findings, []);
}

#[test]
fn a_takeover_reads_a_thousand_commits_with_one_request() {
    let world = World::new();
    let mut owner = world.owner(1, 0, false);
    for number in 0..1_100 {
        owner.commit(&[(0, "key", Some(&number.to_string()))]);
    }
    let before = world.store.requests();
    let next = world.owner(2, 0, false);
    assert_eq!(next.state, owner.state);
    let requests = world.store.requests() - before;
    // The record, three listings, two ranges, two creates.
    assert!(requests <= 9, "{requests} requests");
}

#[test]
fn history_is_archived_and_reads_as_before_until_its_retention_is_over() {
    let world = World::new();
    let mut owner = world.owner(1, 100 * HOUR_MS, true);
    let mut history = Vec::new();
    for round in 0..20 {
        world.work(&mut owner, if round % 2 == 0 { 10 } else { 6_000 });
        history.push((owner.time_ms, owner.state.clone()));
    }
    world.settle(&mut owner);
    let tail = world.items();
    assert!(tail.len() <= 4, "{tail:?}");
    assert!(!world.parts("archived").is_empty());
    for (at_ms, state) in &history {
        assert_eq!(world.at(At::Moment(*at_ms)).as_ref(), Ok(state));
    }
    assert_eq!(world.verify().findings, []);

    // The next owner keeps no history, and deletes all of this.
    let mut next = world.owner(2, 0, true);
    next.time_ms = next.time_ms.max(owner.time_ms);
    for _ in 0..3 {
        world.work(&mut next, 10);
    }
    world.settle(&mut next);
    assert_eq!(world.parts("archived"), Vec::<String>::new());
    assert_eq!(world.parts("bodies"), Vec::<String>::new());
    assert_eq!(world.verify().findings, []);
    assert_eq!(world.owner(3, 0, true).state, next.state);
}

#[test]
fn a_archived_number_that_a_sleeping_owner_creates_again_reads_as_it_was() {
    let world = World::new();
    let mut sleeper = world.owner(1, 100 * HOUR_MS, true);
    sleeper.commit(&[(0, "key", Some("first"))]);
    let number = sleeper.numbers[0] + 1;
    let mut owner = world.owner(2, 100 * HOUR_MS, true);
    owner.time_ms = owner.time_ms.max(sleeper.time_ms);
    let mut history = Vec::new();
    for _ in 0..5 {
        world.work(&mut owner, 10);
        history.push((owner.time_ms, owner.state.clone()));
    }
    world.settle(&mut owner);
    assert!(!world.items().contains(&format!("log/{number:020}")));
    let archived = drive(&mut world.store.get(&world.layout.log(number))).unwrap();

    // It wakes up with the same number, finds it free, and believes nothing.
    sleeper.commit(&[(0, "key", Some("zombie"))]);
    assert!(matches!(sleeper.ended, Some(Err(LogError::Fenced { .. }))));
    assert_eq!(sleeper.durable, [1]);
    assert!(world.items().contains(&format!("log/{number:020}")));
    let again = drive(&mut world.store.get(&world.layout.log(number))).unwrap();
    assert_eq!(again, archived);
    for (at_ms, state) in &history {
        assert_eq!(world.at(At::Moment(*at_ms)).as_ref(), Ok(state));
    }
    assert_eq!(world.owner(3, 0, false).state, owner.state);
}

#[test]
fn the_body_of_a_writer_that_lost_is_collected_with_its_number() {
    let world = World::new();
    let mut loser = world.owner(1, 0, true);
    let number = loser.takeover + 1;
    let mut owner = world.owner(2, 0, true);
    assert_eq!(owner.takeover, number);
    loser.commit(&[(0, "key", Some(&incompressible(6_000, 3)))]);
    assert!(loser.ended.is_some() && loser.durable.is_empty());
    let orphans = world.parts("bodies");
    assert_eq!(orphans.len(), 1);
    for _ in 0..3 {
        world.work(&mut owner, 10);
    }
    world.settle(&mut owner);
    assert_eq!(world.parts("bodies"), Vec::<String>::new());
    assert_eq!(world.owner(3, 0, true).state, owner.state);
}

#[test]
fn a_body_that_is_lost_or_exchanged_is_found_by_name() {
    let world = World::new();
    let mut owner = world.owner(1, 0, false);
    owner.commit(&[(0, "key", Some(&incompressible(6_000, 4)))]);
    owner.commit(&[(0, "key", Some("small"))]);
    let body = world.parts("bodies").remove(0);
    let whole = drive(&mut world.objects.get(&body)).unwrap().unwrap();

    let mut other = whole.clone().unwrap().to_vec();
    other[100] ^= 1;
    world.objects.plant(&body, Bytes::from(other));
    let refused = ManualOwner::take_over(world.contender(2, 0, false)).err();
    let reason = format!("it is not the body that {} points to", world.layout.log(2));
    let damaged = LogError::Store(StoreError::Damaged {
        key: body.clone(),
        reason,
    });
    assert_eq!(refused, Some(damaged.clone()));
    assert_eq!(damaged.kind(), satchel_log::ErrorKind::Refused);
    assert_eq!(world.verify().findings, [damaged]);

    let gone = [body.clone()];
    drive(&mut world.objects.delete(&gone)).unwrap().unwrap();
    let refused = ManualOwner::take_over(world.contender(3, 0, false)).err();
    assert!(
        matches!(&refused, Some(LogError::Missing { key, .. }) if *key == world.layout.log(2)),
        "{refused:?}"
    );
    let findings = world.verify().findings;
    assert!(
        matches!(&findings[..], [LogError::Missing { key, .. }] if *key == world.layout.log(2)),
        "{findings:?}"
    );

    world.objects.plant(&body, whole.unwrap());
    assert_eq!(world.verify().findings, []);
}

#[test]
fn a_damaged_archived_log_is_found_by_name_and_stops_no_owner() {
    let world = World::new();
    let mut owner = world.owner(1, 100 * HOUR_MS, true);
    world.work(&mut owner, 10);
    let moment_ms = owner.time_ms;
    for _ in 0..3 {
        world.work(&mut owner, 10);
    }
    world.settle(&mut owner);
    let archived = world.parts("archived").remove(0);
    let whole = drive(&mut world.objects.get(&archived)).unwrap().unwrap();
    let mut bytes = whole.unwrap().to_vec();
    bytes[20] ^= 1;
    world.objects.plant(&archived, Bytes::from(bytes));
    let findings = world.verify().findings;
    let [LogError::Store(StoreError::Damaged { key, .. })] = &findings[..] else {
        panic!("{findings:?}");
    };
    assert_eq!(*key, archived);
    let refused = world.at(At::Moment(moment_ms)).unwrap_err();
    assert!(refused.contains(&archived), "{refused}");
    assert_eq!(world.owner(2, 0, true).state, owner.state);
}

#[test]
fn a_root_is_not_used_without_the_table_that_its_record_names() {
    let world = World::new();
    let mut owner = world.owner(1, 0, false);
    owner.commit(&[(0, "key", Some("value"))]);
    let mut contender = world.contender(2, 0, false);
    contender.store = world.objects.clone();
    let refused = ManualOwner::take_over(contender).err().unwrap();
    assert_eq!(
        refused.to_string(),
        "root/application: this root has its log simulated:logs (root), not in the root itself"
    );
    let verifying = verify(
        world.objects.clone(),
        "root",
        Arc::new(world.clock.clone()),
        RETRY,
        Arc::new(|_| {}),
    );
    let verified = drive(&mut Box::pin(verifying)).unwrap().unwrap();
    assert_eq!(verified.findings, [refused]);
}

#[test]
fn a_root_whose_record_is_lost_is_recognized_by_its_table() {
    let world = World::new();
    let mut owner = world.owner(1, 0, false);
    owner.commit(&[(0, "key", Some("value"))]);
    let record = [world.layout.application().to_owned()];
    drive(&mut world.objects.delete(&record)).unwrap().unwrap();
    let refused = ManualOwner::take_over(world.contender(2, 0, false)).err();
    assert!(
        matches!(refused, Some(LogError::Missing { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_whole_root_is_listed_in_order_and_in_pages() {
    let world = World::new();
    let mut owner = world.owner(1, 100 * HOUR_MS, true);
    for _ in 0..6 {
        world.work(&mut owner, 6_000);
    }
    world.settle(&mut owner);
    let list = |prefix: &str, after: Option<&str>, max| {
        let listed = drive(&mut world.store.list(prefix, after, max)).unwrap();
        let keys = listed.unwrap().into_iter().map(|object| object.key);
        keys.collect::<Vec<_>>()
    };
    let all = list("", None, 1_000);
    assert!(all.is_sorted() && all.len() > 20, "{all:?}");
    let parts = |key: &String| key.contains("/bodies/") || key.contains("/archived/");
    assert!(!all.iter().any(parts), "{all:?}");
    for max in [1, 3, 7] {
        let mut paged: Vec<String> = Vec::new();
        loop {
            let page = list("root/", paged.last().map(String::as_str), max);
            let last = page.len() < max;
            paged.extend(page);
            if last {
                break;
            }
        }
        assert_eq!(paged, all);
    }
    assert_eq!(
        list("root/", Some("root/partitions/0/~"), 9),
        Vec::<String>::new()
    );
}
