//! The log on S3, and on S3 with its commits in DynamoDB: takeovers, commits, snapshots, fencing,
//! and the log's own simulation on these stores. `SATCHEL_SIMULATION_SEEDS=FIRST..END` runs other
//! and more worlds of the simulation.

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
use satchel_aws::log_table::{DynamoLogTable, unobserved};
use satchel_log::{
    BucketImage, Contender, Created, Delta, EntriesBuilder, Entry, ErrorKind, Identity, ItemPage,
    Log, LogError, LogTable, Notice, Notices, ObjectMeta, ObjectStore, Options, Ownership,
    Placement, Recovery, Retry, SnapshotPolicy, StoreError, TableLocation, TabledStore, take_over,
};
use satchel_log_simulation::{Plan, State, run, run_in_table, seeds};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::{Bucket, moto, sdk};
use satchel_testkit::{Fault, Latency, PricedCloud, PricedOptions, PricedService, Proxy, Throttle};

const BUCKETS: u16 = 4;

/// Form of the log of a test.
#[derive(Clone, Copy, Debug)]
enum Form {
    Objects,
    Table,
}

/// A root in a new bucket, with its log there or in a new table.
struct Root {
    bucket: Bucket,
    table: Option<String>,
}

impl Root {
    async fn make(name: &str, form: Form) -> Self {
        let name = format!("{name}-{form:?}").to_lowercase();
        let bucket = Bucket::make(&name).await;
        let table = match form {
            Form::Objects => None,
            Form::Table => {
                let table = DynamoLogTable::new(&sdk(moto().endpoint()), &name, unobserved());
                table.create().await.unwrap();
                Some(name)
            }
        };
        Self { bucket, table }
    }

    /// The store as an owner has it, with connections to this endpoint.
    fn store_at(&self, endpoint: &str) -> Arc<dyn ObjectStore> {
        let objects = Arc::new(self.bucket.store_at(endpoint, S3Options::default()));
        match &self.table {
            None => objects,
            Some(name) => {
                let table = DynamoLogTable::new(&sdk(endpoint), name, unobserved());
                let store = TabledStore::new(objects, Arc::new(table), "root", 1, location(name));
                // So that some commits have bodies.
                Arc::new(store.with_item_bytes_max(240))
            }
        }
    }

    fn store(&self) -> Arc<dyn ObjectStore> {
        self.store_at(moto().endpoint())
    }
}

pub(super) fn location(table: &str) -> TableLocation {
    TableLocation {
        kind: "dynamodb".to_owned(),
        table: table.to_owned(),
        key: "s3://bucket/root".to_owned(),
    }
}

fn place(store: Arc<dyn ObjectStore>, owner: u8) -> Contender {
    Contender {
        store,
        root: "root".to_owned(),
        identity: Identity {
            application: "test".to_owned(),
            partition: 0,
            partitions: 1,
            buckets: BUCKETS,
            placement: Placement::Xxh3,
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
    let root = Root::make("takeover", Form::Objects).await;
    take_over_from_another(|| root.store()).await;
}

#[tokio::test]
async fn the_same_with_the_log_in_a_table() {
    let root = Root::make("takeover", Form::Table).await;
    take_over_from_another(|| root.store()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_at_services_with_latency_that_throttle() {
    let options = PricedOptions::new()
        .latency(PricedService::S3, Latency::of(3.0, 10.0))
        .latency(PricedService::DynamoDb, Latency::of(1.0, 5.0))
        .throttle(PricedService::DynamoDb, Throttle::share(0.05));
    let cloud = PricedCloud::start(options);
    let sdk = |service| sdk(&cloud.endpoint(service));
    let table = DynamoLogTable::new(&sdk(PricedService::DynamoDb), "commits", unobserved());
    table.create().await.unwrap();
    let store = || -> Arc<dyn ObjectStore> {
        let options = S3Options::default();
        let objects = S3Store::with_config(&sdk(PricedService::S3), cloud.bucket(), options);
        let (objects, items) = (Arc::new(objects), Arc::new(table.clone()));
        Arc::new(TabledStore::new(
            objects,
            items,
            "root",
            1,
            location("commits"),
        ))
    };
    let deltas = take_over_from_another(store).await;
    let bill = cloud.bill();
    let puts = bill.of(PricedService::DynamoDb, "PutItem").requests;
    assert!(puts >= deltas, "{deltas} durable deltas: {bill:?}");
}

/// Three owners, one after the other, at the same root. Returns how many deltas became durable.
async fn take_over_from_another(store: impl Fn() -> Arc<dyn ObjectStore>) -> u64 {
    let mut first = Owner::take_over(place(store(), 1)).await;
    assert_eq!(first.recovery, Recovery::default());
    while first.snapshots == 0 {
        first.work(20).await;
        assert!(first.sealed < 5000, "no snapshot in 5000 commits");
    }
    first.work(5).await;
    assert!(
        !store()
            .list("root/partitions/0/snapshots/", None, 10)
            .await
            .unwrap()
            .is_empty()
    );

    let mut second = Owner::take_over(place(store(), 2)).await;
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

    let of_first = first.sealed;
    // The first owner is not aware yet. Its commits no longer count.
    first.commit();
    assert!(
        !first.settle().await,
        "a fenced owner reported a durable delta"
    );
    let fenced = first.driver.await.unwrap().unwrap_err();
    assert_eq!(fenced.kind(), ErrorKind::Fenced, "{fenced}");

    second.work(10).await;
    let third = Owner::take_over(place(store(), 3)).await;
    assert_eq!(third.state, second.state);
    of_first + 10
}

#[tokio::test]
async fn conflicts_throttling_and_lost_answers_lose_nothing_and_double_nothing() {
    have_a_bad_day(Form::Objects).await;
}

#[tokio::test]
async fn nor_do_they_with_the_log_in_a_table() {
    have_a_bad_day(Form::Table).await;
}

async fn have_a_bad_day(form: Form) {
    let bucket = Root::make("bad-day", form).await;
    let proxy = Proxy::start(moto().endpoint()).await;
    let mut requests = 0;
    proxy.decide_with(move |request| {
        let method = request.method;
        requests += 1;
        match requests % 23 {
            // DynamoDB's requests are all POST.
            3 | 11 if method == Method::PUT || method == Method::POST => Some(Fault::LoseAnswer),
            5 | 13 => Some(Fault::error(503, "SlowDown")),
            7 if method == Method::PUT => Some(Fault::error(409, "ConditionalRequestConflict")),
            17 => Some(Fault::LoseRequest),
            19 if method == Method::GET => Some(Fault::LoseAnswer),
            _ => None,
        }
    });
    let store = || bucket.store_at(&proxy.endpoint());
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
struct Immediate<T> {
    inner: T,
    runtime: Handle,
}

impl<S> Immediate<S> {
    fn now<'a, T: Send + 'a>(&self, request: BoxFuture<'_, T>) -> BoxFuture<'a, T> {
        Box::pin(ready(self.runtime.block_on(request)))
    }
}

impl ObjectStore for Immediate<S3Store> {
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

impl LogTable for Immediate<DynamoLogTable> {
    fn put<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
        content: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        self.now(self.inner.put(log, name, content))
    }

    fn get<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.now(self.inner.get(log, name))
    }

    fn query<'a>(
        &'a self,
        log: &'a str,
        first: &'a str,
        last: &'a str,
        max: usize,
    ) -> BoxFuture<'a, Result<ItemPage, StoreError>> {
        self.now(self.inner.query(log, first, last, max))
    }

    fn delete<'a>(
        &'a self,
        log: &'a str,
        names: &'a [String],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.now(self.inner.delete(log, names))
    }

    fn delete_exactly<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
        content: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.now(self.inner.delete_exactly(log, name, content))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_simulation_of_owners_that_crash_and_overlap_holds_on_s3() {
    simulate(seeds(0..3), Form::Objects).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_simulation_holds_with_the_log_in_a_table() {
    simulate(seeds(0..2), Form::Table).await;
}

async fn simulate(seeds: Range<u64>, form: Form) {
    let count = seeds.clone().count() as u64;
    let mut takeovers = 0;
    let mut acknowledged = 0;
    for seed in seeds {
        let root = Root::make(&format!("simulation-{seed}"), form).await;
        let runtime = Handle::current();
        let objects = Immediate {
            inner: root.bucket.store(),
            runtime: runtime.clone(),
        };
        let table = root.table.as_ref().map(|name| {
            let sdk = sdk(moto().endpoint());
            let inner = DynamoLogTable::new(&sdk, name, unobserved());
            Immediate { inner, runtime }
        });
        let world = move || {
            let plan = Plan {
                seed,
                turns: 1500,
                owners_max: 3,
                mutant: None,
            };
            match table {
                None => run(&plan, Arc::new(objects)),
                Some(table) => run_in_table(&plan, Arc::new(objects), Arc::new(table)),
            }
        };
        let report = tokio::task::spawn_blocking(world).await.unwrap();
        let report = report.unwrap_or_else(|broken| panic!("{broken}"));
        println!("seed {seed}: {report:?}");
        takeovers += report.takeovers;
        acknowledged += report.acknowledged;
    }
    assert!(
        takeovers > 2 * count && acknowledged > 20 * count,
        "{takeovers} takeovers, {acknowledged} acknowledged"
    );
}
