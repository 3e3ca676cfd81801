//! Making a new root of what another root or a file holds.
//!
//! The content is committed as ordinary deltas, each within bounds; the first says that the root is being filled, the last takes that back. Besides, a
//! mark lies beside the log from before the first object until after the last, so that no part is ever taken for the
//! whole, wherever the maker dies. Whoever fills a root that was left unfinished goes on as its next owner, so that the former maker is
//! fenced, and in the end removes what is not of its own content.

use std::collections::BTreeSet;

use futures::future::{BoxFuture, FusedFuture};
use futures::{FutureExt, StreamExt, select_biased};
use satchel_engine::durable::{Change, Hold, Key, Value};
use satchel_log::{
    Delta, EntriesBuilder, Entry, Fold, Identity, Io, Layout, Log, LogError, Nonce, Notice,
    Notices, Options, Ownership, Place, StoreError,
};

use crate::unfinished::{mark, unfinished};

/// How many deltas are on their way at once.
const DEPTH: u64 = 4;

/// What a new root is to be.
#[derive(Clone)]
pub struct NewRoot {
    /// The store in which it is made, and how requests are repeated.
    pub io: Io,
    /// The prefix of the root in the store, without a slash at its end.
    pub root: String,
    /// The application that will run on it.
    pub application: String,
    /// The number of its buckets.
    pub buckets: u16,
    /// 16 random bytes of this maker.
    pub nonce: Nonce,
    /// What is made, for whoever finds it unfinished: "a restore of …".
    pub making: String,
    /// Partition time is not to be earlier, in ms since the epoch.
    pub not_before_ms: u64,
    /// The size at which a delta is closed, in bytes.
    pub delta_bytes: usize,
}

/// Why a root was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MakeError {
    /// Something lies there that is whole.
    #[error("the root holds the state of an application already")]
    Occupied,
    /// The log gave up without saying why.
    #[error("its log ended before everything was durable")]
    Ended,
    /// As for an owner.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<StoreError> for MakeError {
    fn from(error: StoreError) -> Self {
        Self::Log(error.into())
    }
}

/// A root that is being filled.
pub struct Filling {
    new: NewRoot,
    marks: Vec<String>,
    log: Log,
    notices: Notices,
    driver: futures::future::Fuse<BoxFuture<'static, Result<(), LogError>>>,
    sequence: u64,
    durable: u64,
    begun_at_ms: u64,
    committed_at_ms: u64,
    entries: EntriesBuilder,
    /// What a maker before this one wrote and this one has not written.
    left_over: BTreeSet<(u16, Vec<u8>)>,
}

impl Filling {
    /// Begins to make a root, or goes on with one that was left unfinished. Nothing but the takeover and the mark is stored yet.
    ///
    /// # Errors
    /// [`MakeError::Occupied`] if something lies there that is whole; else as for a takeover.
    pub async fn begin(new: NewRoot) -> Result<Self, MakeError> {
        let mut marks = unfinished(&new.io, &new.root).await?;
        let anew = marks.is_empty();
        if anew {
            refuse_existing(&new).await?;
        }
        marks.push(mark(&new.io, &new.root, &new.nonce, &new.making).await?);
        let (ownership, found) = own(&new).await?;
        let mut others = !found.keys.is_empty() && !found.filling;
        if !others && anew && ownership.owner.epoch != 1 {
            // Somebody was faster: an owner, of an application that holds nothing yet, or another maker, which has a mark, and is over now.
            let mine = marks;
            marks = unfinished(&new.io, &new.root).await?;
            others = marks.iter().all(|mark| mine.contains(mark));
        }
        if others {
            // Or all was written before, and only the marks were left.
            new.io.delete(&marks).await?;
            return Err(MakeError::Occupied);
        }
        let (log, notices, driver) = ownership.start();
        let now_ms = new.io.clock.now().wall_ms;
        let hold = Hold {
            origin: new.making.as_str().into(),
            since_ms: now_ms,
            filling: true,
        };
        let mut filling = Self {
            marks,
            log,
            notices,
            driver: driver.run().boxed().fuse(),
            sequence: 0,
            durable: 0,
            begun_at_ms: now_ms,
            committed_at_ms: now_ms.max(new.not_before_ms),
            entries: EntriesBuilder::new(),
            left_over: found.keys,
            new,
        };
        filling.put(&hold_change(Some(hold)));
        Ok(filling)
    }

    /// When it was begun, in ms since the epoch.
    #[must_use]
    pub fn begun_at_ms(&self) -> u64 {
        self.begun_at_ms
    }

    /// Adds one fact.
    ///
    /// # Errors
    /// As for an owner; nobody may take what is there for the whole.
    pub async fn push(&mut self, fact: &Change) -> Result<(), MakeError> {
        let (key, value) = encoded(fact);
        let bucket = fact.key.bucket(self.new.buckets);
        self.entries.push(bucket, &key, value.as_deref());
        self.left_over.remove(&(bucket, key));
        self.bound().await
    }

    /// Makes the root whole, under a hold if there is one.
    ///
    /// # Errors
    /// As of [`Filling::push`].
    pub async fn finish(mut self, hold: Option<Hold>) -> Result<(), MakeError> {
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
        if !self.driver.is_terminated() {
            self.driver.await?;
        }
        Ok(self.new.io.delete(&self.marks).await?)
    }

    fn put(&mut self, change: &Change) {
        let (key, value) = encoded(change);
        let bucket = change.key.bucket(self.new.buckets);
        self.entries.push(bucket, &key, value.as_deref());
    }

    async fn bound(&mut self) -> Result<(), MakeError> {
        if self.entries.len_bytes() < self.new.delta_bytes {
            return Ok(());
        }
        self.commit(false);
        self.durable_through(self.sequence.saturating_sub(DEPTH - 1))
            .await
    }

    fn commit(&mut self, clean: bool) {
        self.sequence += 1;
        let now_ms = self.new.io.clock.now().wall_ms;
        self.committed_at_ms = self.committed_at_ms.max(now_ms);
        self.log.commit(Delta {
            sequence: self.sequence,
            committed_at_ms: self.committed_at_ms,
            clean,
            entries: std::mem::take(&mut self.entries).finish(),
        });
    }

    /// Waits until what was committed first is durable.
    async fn durable_through(&mut self, wanted: u64) -> Result<(), MakeError> {
        while self.durable < wanted {
            select_biased! {
                notice = self.notices.next() => {
                    if let Some(Notice::Durable { sequence, .. }) = notice {
                        self.durable = sequence;
                    }
                }
                ended = &mut self.driver => {
                    ended?;
                    return Err(MakeError::Ended);
                }
            }
        }
        Ok(())
    }
}

/// What a takeover finds in a root that should be empty or unfinished.
#[derive(Default)]
struct Found {
    keys: BTreeSet<(u16, Vec<u8>)>,
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
async fn own(new: &NewRoot) -> Result<(Ownership, Found), LogError> {
    let mut found = Found::default();
    let place = Place {
        store: new.io.store.clone(),
        root: new.root.clone(),
        identity: Identity {
            application: new.application.clone(),
            partition: 0,
            partitions: 1,
            buckets: new.buckets,
        },
        nonce: new.nonce,
        clock: new.io.clock.clone(),
        options: Options {
            depth: DEPTH,
            retry: new.io.retry,
            takeover_give_up_ms: new.io.retry.give_up_ms,
            ..Options::default()
        },
        on_trouble: new.io.on_trouble.clone(),
    };
    let ownership = satchel_log::take_over(place, &mut found).await?;
    Ok((ownership, found))
}

async fn refuse_existing(new: &NewRoot) -> Result<(), MakeError> {
    let layout = Layout::new(&new.root, 0);
    let application = new.io.get(layout.application()).await?;
    let partitions = match new.root.as_str() {
        "" => "partitions/".to_owned(),
        root => format!("{root}/partitions/"),
    };
    if application.is_some() || !new.io.list_page(&partitions, None).await?.is_empty() {
        return Err(MakeError::Occupied);
    }
    Ok(())
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
