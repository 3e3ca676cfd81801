//! Reads of a root without owning it: every reachable moment shows the fold of the commits until
//! then, and nothing else.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use proptest::prelude::*;
use satchel_log::{
    Application, At, BucketFold, Contender, Entry, Fold, HistoryError, Identity, Layout, LogError,
    ObjectStore, Options, Placement, Reading, Retry, SnapshotPolicy, Source, read, read_buckets,
};
use satchel_log_simulation::{ManualOwner, MemoryRoot, SimulatedClock, State, drive};

const SECOND_MS: u64 = 1_000;
const HOUR_MS: u64 = 3_600_000;
const BUCKETS: u16 = 3;

/// A period of ownership.
#[derive(Clone, Debug)]
struct Period {
    /// Commits, each of one change: bucket, key, value.
    commits: Vec<(u16, u8, Option<u8>)>,
    /// True if it takes snapshots.
    snapshots: bool,
    /// True if it lives long enough to delete what it condemned.
    collects: bool,
}

fn periods() -> impl Strategy<Value = Vec<Period>> {
    let commit = (0..=BUCKETS, 0..4_u8, prop::option::of(any::<u8>()));
    let period = (
        prop::collection::vec(commit, 0..5),
        any::<bool>(),
        prop::bool::weighted(0.3),
    )
        .prop_map(|(commits, snapshots, collects)| Period {
            commits,
            snapshots,
            collects,
        });
    prop::collection::vec(period, 1..8)
}

struct World {
    store: Arc<MemoryRoot>,
    clock: SimulatedClock,
    retention_ms: u64,
    /// The state from each moment on.
    history: BTreeMap<u64, State>,
}

impl World {
    fn new() -> Self {
        Self {
            retention_ms: 0,
            store: Arc::new(MemoryRoot::new(crate::LOG)),
            clock: SimulatedClock::default(),
            history: BTreeMap::new(),
        }
    }

    fn now_ms(&self) -> u64 {
        satchel_log::Clock::now(&self.clock).wall_ms
    }

    /// Runs a new owner that takes over, commits and ends. All its records have the time of its
    /// takeover.
    fn live(&mut self, number: u8, period: &Period) {
        self.clock.advance(SECOND_MS);
        let mut owner = ManualOwner::take_over(self.contender(number, period.snapshots)).unwrap();
        let taken_over_ms = self.now_ms();
        for (bucket, key, value) in &period.commits {
            let (key, value) = (key.to_string(), value.map(|value| value.to_string()));
            owner.commit(&[(*bucket, &key, value.as_deref())]);
            owner.image_and_advance();
        }
        if period.collects {
            self.clock.advance(2 * HOUR_MS);
            owner.advance();
        }
        self.history.insert(taken_over_ms, owner.state);
    }

    fn contender(&self, number: u8, snapshots: bool) -> Contender {
        let floor_bytes = if snapshots { 1 } else { u64::MAX };
        Contender {
            store: self.store.clone(),
            root: "root".to_owned(),
            identity: Identity {
                application: "history".to_owned(),
                partition: 0,
                partitions: 1,
                buckets: BUCKETS,
                placement: Placement::IdMd5 { hash_tags: false },
            },
            nonce: [number; 16],
            clock: Arc::new(self.clock.clone()),
            options: Options {
                snapshots: SnapshotPolicy {
                    floor_bytes,
                    log_percent: 0,
                    segment_bytes: 1 << 20,
                    ..SnapshotPolicy::default()
                },
                retention_ms: self.retention_ms,
                ..Options::default()
            },
            on_store_failure: Arc::new(|_| {}),
        }
    }

    /// Reads everything at once, and bucket by bucket, which must give the same.
    fn read(&self, at: At) -> Result<(Reading, State), HistoryError> {
        let mut state = State::default();
        let (source, application) = self.source();
        let reading = {
            let mut reading = Box::pin(read(&source, &application, 0, at, &mut state));
            drive(&mut reading).expect("memory answers at once")
        };
        let whole = reading.map(|reading| (reading, state));
        let mut buckets = Buckets::default();
        let by_bucket = self.read_buckets(at, &mut buckets);
        let ended = |reading: Option<Reading>| reading.expect("the fold does not end the read");
        let by_bucket = by_bucket.map(|reading| (ended(reading), buckets.state));
        assert_eq!(by_bucket, whole);
        whole
    }

    fn read_buckets(&self, at: At, fold: &mut Buckets) -> Result<Option<Reading>, HistoryError> {
        let (source, application) = self.source();
        let mut reading = Box::pin(read_buckets(&source, &application, 0, at, fold));
        drive(&mut reading).expect("memory answers at once")
    }

    fn source(&self) -> (Source, Application) {
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
        let record = object(&self.store, Layout::new("root", 0).application());
        (source, Application::decode(&record).unwrap())
    }

    /// Returns the state at a moment.
    fn state_at(&self, moment_ms: u64) -> State {
        let before = self.history.range(..=moment_ms);
        before
            .map(|(_, state)| state.clone())
            .next_back()
            .unwrap_or_default()
    }
}

/// Content that is received bucket by bucket.
#[derive(Default)]
struct Buckets {
    state: State,
    /// Buckets that were offered, and whether they may hold pending work.
    offered: Vec<(u16, bool)>,
    ended: Vec<u16>,
    /// The only bucket that is wanted; otherwise all are.
    only: Option<u16>,
    /// Bucket after which the read is ended.
    last: Option<u16>,
}

impl BucketFold for Buckets {
    fn clear(&mut self) -> ControlFlow<()> {
        *self = Self {
            only: self.only,
            last: self.last,
            ..Self::default()
        };
        ControlFlow::Continue(())
    }

    fn wants(&mut self, bucket: u16, pending: bool) -> bool {
        assert!(self.ended.is_empty(), "buckets are offered beforehand");
        self.offered.push((bucket, pending));
        self.only.is_none_or(|only| only == bucket)
    }

    fn apply(&mut self, entry: Entry<'_>) {
        assert!(entry.value.is_some(), "removed keys are left out");
        assert!(
            self.ended.last().is_none_or(|ended| *ended < entry.bucket),
            "one bucket after the other"
        );
        let keys = self.state.0.len();
        self.state.apply(entry);
        assert_eq!(self.state.0.len(), keys + 1, "each key comes once");
    }

    fn end(&mut self, bucket: u16) -> ControlFlow<()> {
        self.ended.push(bucket);
        match self.last {
            Some(last) if last == bucket => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn object(store: &MemoryRoot, key: &str) -> bytes::Bytes {
    let got = drive(&mut store.get(key)).expect("memory answers at once");
    got.expect("memory does not fail").expect("it exists")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_moment_shows_what_was_committed_by_then_or_is_refused(
        periods in periods(),
        retention_ms in prop::sample::select(vec![0, 2 * SECOND_MS, 3 * HOUR_MS, 10 * HOUR_MS]),
    ) {
        let mut world = World::new();
        world.retention_ms = retention_ms;
        for (number, period) in (1..).zip(&periods) {
            world.live(number, period);
        }
        let keys = world.store.keys();
        let (_, latest) = world.read(At::Latest).unwrap();
        prop_assert_eq!(&latest, world.history.values().next_back().unwrap());

        // A later owner may delete what this one condemned.
        let snapshot = periods.iter().position(|period| period.snapshots);
        let collected = snapshot.is_some_and(|at| periods[at..].iter().any(|later| later.collects));
        for moment_ms in world.history.keys().flat_map(|at| [at - 1, *at, at + 1]) {
            match world.read(At::Moment(moment_ms)) {
                Ok((_, state)) => prop_assert_eq!(state, world.state_at(moment_ms)),
                Err(HistoryError::Collected { partition, asked_ms, reaches_back_to_ms }) => {
                    let newest_ms = *world.history.keys().next_back().unwrap();
                    prop_assert!(
                        retention_ms == 0 || moment_ms + retention_ms < newest_ms,
                        "{moment_ms} is less than {retention_ms} ms before {newest_ms}"
                    );
                    prop_assert!(collected, "nothing was collected, and {moment_ms} is refused");
                    prop_assert_eq!((partition, asked_ms), (0, moment_ms));
                    prop_assert!(reaches_back_to_ms > moment_ms);
                    let (_, reached) = world.read(At::Moment(reaches_back_to_ms)).unwrap();
                    prop_assert_eq!(reached, world.state_at(reaches_back_to_ms));
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
        prop_assert_eq!(world.store.keys(), keys, "reading changes nothing");
    }
}

#[test]
fn a_moment_before_a_snapshot_is_read_from_the_log_while_that_is_there_and_refused_after() {
    let mut world = World::new();
    let period = |value, collects| Period {
        commits: vec![(0, 1, Some(value)), (1, 1, Some(value)), (2, 2, None)],
        snapshots: true,
        collects,
    };
    world.live(1, &period(7, false));
    world.live(2, &period(8, false));
    let first_ms = *world.history.keys().next().unwrap();
    let (reading, state) = world.read(At::Moment(first_ms)).unwrap();
    assert_eq!(state, world.state_at(first_ms));
    assert_eq!(reading.committed_at_ms, Some(first_ms));
    assert!(world.read(At::Latest).unwrap().0.manifest.is_some());

    world.live(3, &period(9, true));
    let refused = world.read(At::Moment(first_ms)).unwrap_err();
    let HistoryError::Collected {
        reaches_back_to_ms, ..
    } = refused
    else {
        panic!("{refused}");
    };
    assert_eq!(
        refused.to_string(),
        format!(
            "partition 0: the log reaches back to {reaches_back_to_ms} ms since 1970, \
             not to {first_ms}"
        )
    );
}

#[test]
fn a_read_names_the_time_of_the_newest_record_whatever_the_moment() {
    let mut world = World::new();
    let period = Period {
        commits: vec![(0, 1, Some(7))],
        snapshots: false,
        collects: false,
    };
    world.live(1, &period);
    world.live(2, &period);
    let mut times = world.history.keys().copied();
    let (first_ms, last_ms) = (times.next().unwrap(), times.next().unwrap());
    for at in [At::Latest, At::Moment(first_ms), At::Moment(last_ms + 1)] {
        let (reading, _) = world.read(at).unwrap();
        assert_eq!(reading.newest_ms, Some(last_ms), "{at:?}");
    }
}

#[test]
fn a_lost_or_damaged_record_is_named_and_not_skipped() {
    let mut world = World::new();
    let commits = (0..40).map(|value| (0, 1, Some(value))).collect();
    let period = Period {
        commits,
        snapshots: false,
        collects: false,
    };
    world.live(1, &period);
    let key = Layout::new("root", 0).log(5);
    let sound = object(&world.store, &key);

    world.store.plant(&key, sound.slice(..sound.len() - 1));
    for at in [At::Latest, At::Moment(world.now_ms())] {
        let refused = world.read(at).unwrap_err();
        assert!(
            matches!(
                &refused,
                HistoryError::Log(LogError::Damaged { key: named, .. }) if *named == key
            ),
            "{refused}"
        );
    }

    drive(&mut world.store.delete(std::slice::from_ref(&key)))
        .unwrap()
        .unwrap();
    let refused = world.read(At::Latest).unwrap_err();
    assert!(
        matches!(
            &refused,
            HistoryError::Log(LogError::Missing { key: named, .. }) if *named == key
        ),
        "{refused}"
    );
}

#[test]
fn only_the_buckets_that_are_wanted_are_read_until_the_receiver_ends_the_read() {
    let mut world = World::new();
    world.live(
        1,
        &Period {
            commits: vec![(0, 1, Some(7)), (1, 1, Some(8)), (2, 2, Some(9))],
            snapshots: true,
            collects: false,
        },
    );
    let of = |fold: &Buckets| {
        let buckets = fold.state.0.keys().map(|(bucket, _)| *bucket);
        buckets.collect::<std::collections::BTreeSet<_>>()
    };
    let mut all = Buckets::default();
    assert!(world.read_buckets(At::Latest, &mut all).unwrap().is_some());
    assert_eq!(all.ended, [0, 1, 2]);
    let offered: Vec<u16> = all.offered.iter().map(|(bucket, _)| *bucket).collect();
    assert_eq!(offered, all.ended);

    let mut one = Buckets {
        only: Some(1),
        ..Buckets::default()
    };
    assert!(world.read_buckets(At::Latest, &mut one).unwrap().is_some());
    assert_eq!((one.ended.clone(), of(&one)), (vec![1], [1].into()));

    let mut early = Buckets {
        last: Some(1),
        ..Buckets::default()
    };
    assert_eq!(world.read_buckets(At::Latest, &mut early).unwrap(), None);
    assert_eq!(
        (early.ended.clone(), of(&early)),
        (vec![0, 1], [0, 1].into())
    );
}
