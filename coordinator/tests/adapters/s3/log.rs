//! The log on S3: takeovers, commits, snapshots, fencing, and the log's own simulation on this
//! store. `SATCHEL_SIMULATION_SEEDS=FIRST..END` runs other and more worlds of the simulation.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::{BoxFuture, ready};
use hyper::http::Method;
use satchel::clock::SystemClock;
use satchel::store::S3Store;
use satchel::store::s3::S3Options;
use satchel_log::{
    BucketImage, Contender, Created, Delta, EntriesBuilder, Entry, ErrorKind, Identity, Log,
    LogError, Notice, Notices, ObjectMeta, ObjectStore, Options, Ownership, Recovery, Retry,
    SnapshotPolicy, StoreError, take_over,
};
use satchel_log_simulation::{Plan, State, run, seeds};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::{Bucket, keys, moto};
use satchel_testkit::{Fault, Proxy};

const BUCKETS: u16 = 4;

fn place(store: S3Store, owner: u8) -> Contender {
    Contender {
        store: Arc::new(store),
        root: "root".to_owned(),
        identity: Identity {
            application: "test".to_owned(),
            partition: 0,
            partitions: 1,
            buckets: BUCKETS,
        },
        nonce: [owner; 16],
        clock: Arc::new(SystemClock),
        options: Options {
            retry: Retry {
                initial_ms: 1,
                max_ms: 20,
                give_up_ms: None,
            },
            snapshots: SnapshotPolicy {
                floor_bytes: 4000,
                log_percent: 70,
                segment_bytes: 1 << 20,
                ..SnapshotPolicy::default()
            },
            ..Options::default()
        },
        on_store_failure: Arc::new(|_| {}),
    }
}

/// A running owner, with its view of the state.
struct Owner {
    name: u8,
    state: State,
    log: Log,
    notices: Notices,
    driver: JoinHandle<Result<(), LogError>>,
    recovery: Recovery,
    time: u64,
    sealed: u64,
    durable: u64,
    snapshots: u64,
    wanted: BTreeSet<u16>,
}

impl Owner {
    async fn take_over(place: Contender) -> Self {
        let name = place.nonce[0];
        let mut state = State::default();
        let ownership: Ownership = take_over(place, &mut state).await.unwrap();
        let (recovery, time) = (ownership.recovery, ownership.committed_at_ms);
        let (log, notices, driver) = ownership.start();
        Self {
            name,
            state,
            log,
            notices,
            driver: tokio::spawn(driver.run()),
            recovery,
            time,
            sealed: 0,
            durable: 0,
            snapshots: 0,
            wanted: BTreeSet::new(),
        }
    }

    fn commit(&mut self) {
        self.sealed += 1;
        let mut entries = EntriesBuilder::new();
        let bucket = (self.sealed % u64::from(BUCKETS)) as u16;
        let key = (self.sealed % 7).to_le_bytes();
        let value = format!("delta {} of owner {}", self.sealed, self.name);
        entries.push(bucket, &key, Some(value.as_bytes()));
        entries.push(BUCKETS, b"sealed", Some(&self.sealed.to_le_bytes()));
        let entries = entries.finish();
        self.state.fold(&entries);
        self.log.commit(Delta {
            sequence: self.sealed,
            committed_at_ms: self.time,
            clean: false,
            entries,
        });
    }

    /// Waits until every sealed delta is durable. False if the log ended before.
    async fn settle(&mut self) -> bool {
        while self.durable < self.sealed {
            match self.notices.next().await {
                None => return false,
                Some(Notice::Durable { sequence, .. }) => self.durable = sequence,
                Some(Notice::WantImages(buckets)) => self.wanted.extend(buckets),
                Some(Notice::Snapshot(_)) => self.snapshots += 1,
                Some(
                    Notice::Loaded { .. } | Notice::NothingDeleted(_) | Notice::StoreFailure(_),
                ) => {}
            }
        }
        true
    }

    /// Commits this many deltas, up to six at once, and provides an image between two of them if
    /// one is wanted.
    async fn work(&mut self, deltas: u64) {
        for delta in 0..deltas {
            self.commit();
            if let Some(bucket) = self.wanted.pop_first() {
                let entries = self.state.0.iter().filter(|((at, _), _)| *at == bucket);
                let entries = entries.map(|((bucket, key), value)| Entry {
                    bucket: *bucket,
                    key,
                    value: Some(value),
                });
                self.log.keep(BucketImage {
                    bucket,
                    sequence: self.sealed,
                    earliest_due_ms: None,
                    pending: false,
                    entries: entries.collect(),
                });
            }
            if delta % 6 == 5 {
                assert!(self.settle().await, "the log ended");
            }
        }
        assert!(self.settle().await, "the log ended");
    }
}

#[tokio::test]
async fn a_second_owner_finds_everything_and_fences_the_first() {
    let bucket = Bucket::make("takeover").await;
    let mut first = Owner::take_over(place(bucket.store(), 1)).await;
    assert_eq!(first.recovery, Recovery::default());
    while first.snapshots == 0 {
        first.work(20).await;
        assert!(first.sealed < 5000, "no snapshot in 5000 commits");
    }
    first.work(5).await;
    assert!(
        !keys(&bucket.store(), "root/partitions/0/snapshots/", None, 10)
            .await
            .is_empty()
    );

    let mut second = Owner::take_over(place(bucket.store(), 2)).await;
    assert_eq!(second.state, first.state);
    assert!(
        second.recovery.manifest.is_some() && second.recovery.image_bytes > 0,
        "{:?}",
        second.recovery
    );
    assert!(
        second.recovery.replayed > 0 && second.recovery.void == 0,
        "{:?}",
        second.recovery
    );

    // The first owner is not aware yet. Its commits no longer count.
    first.commit();
    assert!(
        !first.settle().await,
        "a fenced owner reported a durable delta"
    );
    let fenced = first.driver.await.unwrap().unwrap_err();
    assert_eq!(fenced.kind(), ErrorKind::Fenced, "{fenced}");

    second.work(10).await;
    let third = Owner::take_over(place(bucket.store(), 3)).await;
    assert_eq!(third.state, second.state);
}

#[tokio::test]
async fn conflicts_throttling_and_lost_answers_lose_nothing_and_double_nothing() {
    let bucket = Bucket::make("bad-day").await;
    let proxy = Proxy::start(moto().endpoint()).await;
    let mut requests = 0;
    proxy.decide_with(move |request| {
        let method = request.method;
        requests += 1;
        match requests % 23 {
            3 | 11 if method == Method::PUT => Some(Fault::LoseAnswer),
            5 | 13 => Some(Fault::error(503, "SlowDown")),
            7 if method == Method::PUT => Some(Fault::error(409, "ConditionalRequestConflict")),
            17 => Some(Fault::LoseRequest),
            19 if method == Method::GET => Some(Fault::LoseAnswer),
            _ => None,
        }
    });
    let store = || bucket.store_at(&proxy.endpoint(), S3Options::default());
    let mut former = State::default();
    for owner in 1..=4 {
        let mut owner = Owner::take_over(place(store(), owner)).await;
        assert_eq!(owner.state, former);
        owner.work(60).await;
        former = owner.state;
        owner.driver.abort();
    }
    let last = Owner::take_over(place(bucket.store(), 9)).await;
    assert_eq!(last.state, former);
}

/// Completes each request when it is first polled, as the simulation requires of a store with real
/// I/O.
struct Immediate {
    inner: S3Store,
    runtime: Handle,
}

impl Immediate {
    fn now<'a, T: Send + 'a>(&self, request: BoxFuture<'_, T>) -> BoxFuture<'a, T> {
        Box::pin(ready(self.runtime.block_on(request)))
    }
}

impl ObjectStore for Immediate {
    fn create<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        self.now(self.inner.create(key, bytes))
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.now(self.inner.get(key))
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.now(self.inner.get_range(key, range))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectMeta>, StoreError>> {
        self.now(self.inner.list(prefix, start_after, max))
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.now(self.inner.delete(keys))
    }

    fn delete_exactly<'a>(
        &'a self,
        key: &'a str,
        bytes: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.now(self.inner.delete_exactly(key, bytes))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_simulation_of_owners_that_crash_and_overlap_holds_on_s3() {
    let mut takeovers = 0;
    let mut acknowledged = 0;
    for seed in seeds(0..3) {
        let bucket = Bucket::make(&format!("simulation-{seed}")).await;
        let inner = bucket.store();
        let runtime = Handle::current();
        let world = move || {
            let plan = Plan {
                seed,
                turns: 1500,
                owners_max: 3,
                mutant: None,
            };
            run(&plan, Arc::new(Immediate { inner, runtime }))
        };
        let report = tokio::task::spawn_blocking(world).await.unwrap();
        let report = report.unwrap_or_else(|broken| panic!("{broken}"));
        println!("seed {seed}: {report:?}");
        takeovers += report.takeovers;
        acknowledged += report.acknowledged;
    }
    assert!(
        takeovers > 6 && acknowledged > 60,
        "{takeovers} takeovers, {acknowledged} acknowledged"
    );
}
