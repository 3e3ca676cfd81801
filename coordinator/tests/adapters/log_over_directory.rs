//! Invariants of the log over real files: the same simulation and the same interleavings of
//! takeover and collection as over memory. `SATCHEL_SIMULATION_SEEDS=FIRST..END` runs other and
//! more worlds.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, ready};
use satchel::clock::SystemClock;
use satchel::store::DirectoryStore;
use satchel_log::{
    Clock, Contender, Created, Identity, LogError, ObjectMeta, ObjectStore, Options, Placement,
    Retry, SnapshotPolicy, StoreError, verify,
};
use satchel_log_simulation::{ManualOwner, Plan, Report, SimulatedClock, run, seeds};

/// A directory store that completes every operation when its future is created, so that a run over
/// files is as reproducible as one over memory.
struct Inline {
    store: DirectoryStore,
    runtime: tokio::runtime::Runtime,
}

impl Inline {
    fn open(directory: &tempfile::TempDir) -> Arc<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        Arc::new(Self {
            store: DirectoryStore::open(directory.path()).expect("an empty directory"),
            runtime: runtime.expect("a runtime"),
        })
    }
}

impl ObjectStore for Inline {
    fn create<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        Box::pin(ready(self.runtime.block_on(self.store.create(key, bytes))))
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(ready(self.runtime.block_on(self.store.get(key))))
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        let part = self.runtime.block_on(self.store.get_range(key, range));
        Box::pin(ready(part))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectMeta>, StoreError>> {
        let listed = self
            .runtime
            .block_on(self.store.list(prefix, start_after, max));
        Box::pin(ready(listed))
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(ready(self.runtime.block_on(self.store.delete(keys))))
    }

    fn delete_exactly<'a>(
        &'a self,
        key: &'a str,
        bytes: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(ready(
            self.runtime.block_on(self.store.delete_exactly(key, bytes)),
        ))
    }
}

fn place(store: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>, process: u8) -> Contender {
    Contender {
        store,
        root: String::new(),
        identity: Identity {
            application: "directory".to_owned(),
            partition: 0,
            partitions: 1,
            buckets: 2,
            placement: Placement::Xxh3,
        },
        nonce: [process; 16],
        clock,
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

#[test]
fn the_recovered_state_is_always_the_fold_of_the_durable_prefix() {
    let mut total = Report::default();
    for seed in seeds(0..2) {
        let directory = tempfile::tempdir().unwrap();
        let plan = Plan {
            seed,
            turns: 4_000,
            owners_max: 3,
            mutant: None,
        };
        let report =
            run(&plan, Inline::open(&directory)).unwrap_or_else(|broken| panic!("{broken}"));
        total.acknowledged += report.acknowledged;
        total.takeovers += report.takeovers;
        total.snapshots += report.snapshots;
    }
    // The runs must be meaningful: owners follow each other, commit, and snapshot.
    assert!(total.takeovers > 5 && total.snapshots > 0, "{total:?}");
    assert!(total.acknowledged > 50, "{total:?}");
    println!("{total:?}");
}

#[test]
fn a_paused_owner_whose_number_was_collected_commits_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = Inline::open(&directory);
    let clock = SimulatedClock::default();
    let mut a = ManualOwner::take_over(place(store.clone(), Arc::new(clock.clone()), 1)).unwrap();
    a.seal(&[(0, "key", Some("a"))]);
    a.advance();
    let mut b = ManualOwner::take_over(place(store.clone(), Arc::new(clock.clone()), 2)).unwrap();
    for value in ["b1", "b2", "b3"] {
        b.commit(&[(0, "key", Some(value))]);
        b.image_and_advance();
    }
    clock.advance(10_000_000);
    b.advance();
    let collected = directory
        .path()
        .join("partitions/0/log/00000000000000000003");
    assert!(!collected.exists());
    a.commit(&[(0, "key", Some("zombie"))]);
    assert!(collected.exists() && a.durable == [1] && a.is_fenced());
    let c = ManualOwner::take_over(place(store, Arc::new(clock), 3)).unwrap();
    assert_eq!(c.state, b.state);
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_on_the_real_runtime_and_clock_are_durable_in_order_and_pass_verification() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(DirectoryStore::open(directory.path()).unwrap());
    let place = place(store.clone(), Arc::new(SystemClock), 1);
    let state = tokio::spawn(async move {
        let mut state = satchel_log_simulation::State::default();
        let ownership = satchel_log::take_over(place, &mut state).await?;
        let (log, notices, driver) = ownership.start();
        let driver = tokio::spawn(driver.run());
        for sequence in 1..=50u64 {
            let mut entries = satchel_log::EntriesBuilder::new();
            entries.push(0, b"key", Some(&sequence.to_le_bytes()));
            let entries = entries.finish();
            state.fold(&entries);
            log.commit(satchel_log::Delta {
                sequence,
                committed_at_ms: 0,
                clean: sequence == 50,
                entries,
            });
        }
        drop(log);
        driver.await.expect("the driver does not panic")?;
        let durable: Vec<u64> = futures::StreamExt::collect::<Vec<_>>(notices)
            .await
            .into_iter()
            .filter_map(|notice| match notice {
                satchel_log::Notice::Durable { sequence, .. } => Some(sequence),
                _ => None,
            })
            .collect();
        assert_eq!(durable, (1..=50).collect::<Vec<_>>());
        Ok::<_, LogError>(state)
    });
    let state = state.await.unwrap().unwrap();

    let retry = Retry {
        initial_ms: 1,
        max_ms: 10,
        give_up_ms: Some(1000),
    };
    let quiet: satchel_log::OnStoreFailure = Arc::new(|_| {});
    let found = verify(store.clone(), "", Arc::new(SystemClock), retry, quiet)
        .await
        .unwrap();
    assert_eq!(found.findings, []);
    assert_eq!(
        found.objects, 53,
        "the application, a claim, a takeover and 50 commits"
    );

    let mut recovered = satchel_log_simulation::State::default();
    let place = self::place(store, Arc::new(SystemClock), 2);
    let next = satchel_log::take_over(place, &mut recovered).await.unwrap();
    assert!(next.clean);
    assert_eq!(recovered, state);
}
