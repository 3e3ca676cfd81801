//! Making a new root of what another root or a file holds.
//!
//! The content is committed as ordinary deltas, each within bounds; the first says that the root is being filled, the last takes that back. Besides, a
//! mark lies beside the log from before the first object until after the last ([`Opened::refuse_unfinished`]), so that no part is ever taken for the
//! whole, wherever the maker dies. Whoever fills a root that was left unfinished goes on as its next owner, so that the former maker is
//! fenced, and in the end removes what is not of its own content.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use satchel_engine::durable::{Change, Hold, Key, Value};
use satchel_log::{
    Clock, DEFAULT_BUCKETS, Delta, EntriesBuilder, Entry, Fold, Identity, Log, LogError, Notice,
    Notices, Options, Ownership, take_over,
};

use super::place::{RETRY, failure, on_trouble};
use crate::cli::{Exit, Failure};
use crate::runtime::node::random;
use crate::store::{Opened, SystemClock};

/// The size at which a delta is closed, in bytes.
const DELTA_BYTES: usize = 4 << 20;

/// How many deltas are on their way at once.
const DEPTH: u64 = 4;

/// What a new root is to be.
pub(super) struct NewRoot<'a> {
    /// Where it is made.
    pub(super) opened: &'a Opened,
    /// How people call that place.
    pub(super) place: &'a str,
    /// The application that will run on it.
    pub(super) application: &'a str,
    /// What is made, for whoever finds it unfinished: "a restore of …".
    pub(super) making: &'a str,
    /// Partition time is not to be earlier, in ms since the epoch.
    pub(super) not_before_ms: u64,
}

/// A root that is being filled.
pub(super) struct Filling {
    opened: Opened,
    marks: Vec<String>,
    log: Log,
    notices: Notices,
    driver: futures::future::BoxFuture<'static, Result<(), LogError>>,
    sequence: u64,
    durable: u64,
    not_before_ms: u64,
    entries: EntriesBuilder,
    /// What a maker before this one wrote and this one has not written.
    left_over: HashSet<(u16, Vec<u8>)>,
}

impl Filling {
    /// Begins to make a root, or goes on with one that was left unfinished.
    ///
    /// # Errors
    /// [`Exit::Damaged`] if something lies there that is whole; [`Exit::Environment`] if the store fails.
    pub(super) async fn begin(new: NewRoot<'_>) -> Result<Self, Failure> {
        let mut marks = new.opened.unfinished().await?;
        let anew = marks.is_empty();
        if anew {
            refuse_existing(new.opened, new.place).await?;
        }
        let now_ms = SystemClock.now().wall_ms;
        let mine = new.opened.mark_unfinished(new.making, now_ms).await?;
        marks.push(mine);
        let (ownership, found) = own(&new).await?;
        let others = !found.keys.is_empty() && !found.filling;
        if others || (anew && ownership.owner.epoch != 1) {
            // Somebody was faster; or all was written before, and only the marks were left.
            new.opened.unmark(&marks).await?;
            return Err(occupied(new.place));
        }
        let checked = new.opened.check_conditional_create().await;
        checked.map_err(|error| failure(error.into()))?;
        let (log, notices, driver) = ownership.start();
        let mut filling = Self {
            opened: new.opened.clone(),
            marks,
            log,
            notices,
            driver: Box::pin(driver.run()),
            sequence: 0,
            durable: 0,
            not_before_ms: now_ms.max(new.not_before_ms),
            entries: EntriesBuilder::new(),
            left_over: found.keys,
        };
        let hold = Hold {
            origin: new.making.into(),
            since_ms: now_ms,
            filling: true,
        };
        filling.put(&hold_change(Some(hold)));
        Ok(filling)
    }

    /// Adds one fact.
    pub(super) async fn push(
        &mut self,
        bucket: u16,
        key: Vec<u8>,
        value: &[u8],
    ) -> Result<(), Failure> {
        self.entries.push(bucket, &key, Some(value));
        self.left_over.remove(&(bucket, key));
        self.bound().await
    }

    /// Makes the root whole, under a hold if there is one.
    pub(super) async fn finish(mut self, hold: Option<Hold>) -> Result<(), Failure> {
        let mark = encoded(&hold_change(None)).0;
        for (bucket, key) in std::mem::take(&mut self.left_over) {
            if key != mark {
                self.entries.push(bucket, &key, None);
                self.bound().await?;
            }
        }
        // By itself: what it says must not be durable before the rest.
        self.commit(false);
        self.put(&hold_change(hold));
        self.commit(true);
        self.durable_through(self.sequence).await?;
        drop(self.log);
        self.driver.await.map_err(failure)?;
        self.opened.unmark(&self.marks).await
    }

    fn put(&mut self, change: &Change) {
        let (key, value) = encoded(change);
        let bucket = change.key.bucket(DEFAULT_BUCKETS);
        self.entries.push(bucket, &key, value.as_deref());
    }

    async fn bound(&mut self) -> Result<(), Failure> {
        if self.entries.len_bytes() < DELTA_BYTES {
            return Ok(());
        }
        self.commit(false);
        self.durable_through(self.sequence.saturating_sub(DEPTH - 1))
            .await
    }

    fn commit(&mut self, clean: bool) {
        self.sequence += 1;
        let now_ms = SystemClock.now().wall_ms;
        self.not_before_ms = self.not_before_ms.max(now_ms);
        self.log.commit(Delta {
            sequence: self.sequence,
            committed_at_ms: self.not_before_ms,
            clean,
            entries: std::mem::take(&mut self.entries).finish(),
        });
    }

    /// Waits until what was committed first is durable.
    async fn durable_through(&mut self, wanted: u64) -> Result<(), Failure> {
        while self.durable < wanted {
            tokio::select! {
                biased;
                notice = self.notices.next() => {
                    if let Some(Notice::Durable { sequence, .. }) = notice {
                        self.durable = sequence;
                    }
                }
                ended = &mut self.driver => {
                    ended.map_err(failure)?;
                    let why = "its log ended before everything was durable";
                    return Err(Failure::new(Exit::Environment, why));
                }
            }
        }
        Ok(())
    }
}

/// What a takeover finds in a root that should be empty or unfinished.
#[derive(Default)]
struct Found {
    keys: HashSet<(u16, Vec<u8>)>,
    filling: bool,
}

impl Fold for Found {
    fn clear(&mut self) {
        *self = Self::default();
    }

    fn apply(&mut self, entry: Entry<'_>) {
        let key = (entry.bucket, entry.key.to_vec());
        if let Ok(change) = Change::decode(entry.key, entry.value)
            && change.key == Key::Hold
        {
            self.filling = matches!(change.value, Some(Value::Hold(hold)) if hold.filling);
        }
        match entry.value {
            Some(_) => self.keys.insert(key),
            None => self.keys.remove(&key),
        };
    }
}

/// Takes the new root's only partition over.
async fn own(new: &NewRoot<'_>) -> Result<(Ownership, Found), Failure> {
    let mut found = Found::default();
    let place = satchel_log::Place {
        store: Arc::clone(&new.opened.store),
        root: new.opened.prefix.clone(),
        identity: Identity {
            application: new.application.to_owned(),
            partition: 0,
            partitions: 1,
            buckets: DEFAULT_BUCKETS,
        },
        nonce: random(),
        clock: Arc::new(SystemClock),
        options: Options {
            depth: DEPTH,
            retry: RETRY,
            takeover_give_up_ms: RETRY.give_up_ms,
            ..Options::default()
        },
        on_trouble: on_trouble(),
    };
    let ownership = take_over(place, &mut found).await.map_err(failure)?;
    Ok((ownership, found))
}

async fn refuse_existing(opened: &Opened, place: &str) -> Result<(), Failure> {
    let key = satchel_log::Layout::new(&opened.prefix, 0);
    let found = opened.store.get(key.application()).await;
    let found = found.map_err(|error| failure(error.into()))?;
    if found.is_some() || super::place::holds_partitions(opened).await? {
        return Err(occupied(place));
    }
    Ok(())
}

fn occupied(place: &str) -> Failure {
    let message = format!(
        "{place} holds the state of an application already: a restore or an import makes a new one"
    );
    Failure::new(Exit::Damaged, message)
}

fn hold_change(hold: Option<Hold>) -> Change {
    Change {
        key: Key::Hold,
        value: hold.map(Value::Hold),
    }
}

fn encoded(change: &Change) -> (Vec<u8>, Option<Vec<u8>>) {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    change.encode_key(&mut key);
    let set = change.encode_value(&mut value);
    (key, set.then_some(value))
}
