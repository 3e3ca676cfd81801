//! Rounds of requests that a takeover takes: a round is one latency of the store, in which any
//! number of requests run at once.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use satchel_log::{Contender, Created, ObjectMeta, ObjectStore, StoreError};
use satchel_log_simulation::{
    ManualOwner, MemoryRoot, PendingTakeover, State, begin_takeover, begin_takeover_from, drive,
    read_ahead_now, yield_turns,
};

use crate::root::{Root, commit_until_snapshot};

/// A store that answers each request in the round after the one in which it began.
struct SlowStore {
    inner: Arc<MemoryRoot>,
    round: AtomicU64,
    requests: AtomicU64,
}

impl SlowStore {
    fn later<'a, T: Send + 'a>(&'a self, answer: BoxFuture<'a, T>) -> BoxFuture<'a, T> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let begun = self.round.load(Ordering::Relaxed);
            while self.round.load(Ordering::Relaxed) == begun {
                yield_turns(1).await;
            }
            answer.await
        })
    }
}

impl ObjectStore for SlowStore {
    fn create<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        self.later(self.inner.create(key, bytes))
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.later(self.inner.get(key))
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.later(self.inner.get_range(key, range))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectMeta>, StoreError>> {
        self.later(self.inner.list(prefix, start_after, max))
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.later(self.inner.delete(keys))
    }

    fn delete_exactly<'a>(
        &'a self,
        key: &'a str,
        bytes: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.later(self.inner.delete_exactly(key, bytes))
    }
}

/// Takes the root over. Returns the rounds, the requests and the state.
fn take_over_slowly(root: &Root) -> (u64, u64, State) {
    slowly(root, begin_takeover)
}

/// Runs a takeover of the root at a slow store. Returns the rounds, the requests and the state.
fn slowly(root: &Root, begin: impl FnOnce(Contender) -> PendingTakeover) -> (u64, u64, State) {
    let slow = Arc::new(SlowStore {
        inner: root.memory.clone(),
        round: AtomicU64::new(0),
        requests: AtomicU64::new(0),
    });
    let contender = Contender {
        store: slow.clone(),
        ..root.contender_without_snapshots(9)
    };
    let mut takeover = begin(contender);
    loop {
        if let Some((ownership, state)) = drive(&mut takeover) {
            ownership.expect("everything durable is whole");
            let rounds = slow.round.load(Ordering::Relaxed);
            return (rounds, slow.requests.load(Ordering::Relaxed), state);
        }
        slow.round.fetch_add(1, Ordering::Relaxed);
        root.clock.advance(25);
    }
}

#[test]
fn a_takeover_takes_four_rounds_of_requests() {
    let root = Root::new();
    let mut owner = ManualOwner::take_over(root.contender(1)).unwrap();
    owner.commit(&[(2, "wide", Some("state"))]);
    commit_until_snapshot(&mut owner, "imaged");
    owner.commit(&[(0, "key", Some("replayed"))]);
    let (rounds, requests, state) = take_over_slowly(&root);
    assert_eq!(state, owner.state);
    // One more than with a fold that leaves the images of buckets unread.
    assert!(rounds <= 5, "{rounds} rounds of {requests} requests");
    let (rounds, requests, _) = take_over_slowly(&root);
    assert!(rounds <= 5, "{rounds} rounds of {requests} requests");
}

#[test]
fn a_takeover_that_read_ahead_takes_two_rounds_of_requests() {
    let root = Root::new();
    let mut owner = ManualOwner::take_over(root.contender(1)).unwrap();
    owner.commit(&[(2, "wide", Some("state"))]);
    commit_until_snapshot(&mut owner, "imaged");
    let ahead = read_ahead_now(&root.contender_without_snapshots(9)).unwrap();
    for number in 0..5 {
        owner.commit(&[(0, "key", Some(&number.to_string()))]);
    }
    let begin = |contender| begin_takeover_from(ahead, contender);
    let (rounds, requests, state) = slowly(&root, begin);
    assert_eq!(state, owner.state);
    assert_eq!(rounds, 2, "{requests} requests");
    // The claim, the listing, the guesses, the takeover record.
    assert_eq!(requests, 11);
}

#[test]
fn a_takeover_reads_a_log_of_many_small_commits_in_few_objects() {
    let root = Root::new();
    let mut owner = ManualOwner::take_over(root.contender_without_snapshots(1)).unwrap();
    for number in 0..10_000 {
        let value = number.to_string();
        owner.seal(&[(0, &format!("key {}", number % 100), Some(&value))]);
        if number % 500 == 0 {
            owner.advance();
        }
    }
    owner.advance();
    assert_eq!(owner.durable.len(), 10_000);
    let (rounds, requests, state) = take_over_slowly(&root);
    assert_eq!(state, owner.state);
    assert!(requests <= 120, "{requests} requests");
    assert!(rounds <= 7, "{rounds} rounds of {requests} requests");
}

#[test]
fn copies_are_deleted_with_the_log_that_they_hold() {
    let root = Root::new();
    let mut owner = ManualOwner::take_over(root.contender_without_snapshots(1)).unwrap();
    for number in 0..200 {
        owner.seal(&[(0, "key", Some(&number.to_string()))]);
    }
    owner.advance();
    let copies = || {
        let keys = root.memory.keys().into_iter();
        keys.filter(|key| key.starts_with(&root.layout.condensed_prefix()))
            .count()
    };
    assert_eq!(copies(), 3);
    let mut owner = ManualOwner::take_over(root.contender(2)).unwrap();
    commit_until_snapshot(&mut owner, "imaged");
    root.clock.advance(2 * crate::root::HOUR_MS);
    owner.advance();
    assert_eq!(copies(), 0);
    assert_eq!(root.recovered(), owner.state);
}
