//! Writing a new root from the content of another root or of a file.
//!
//! The writer commits the content as ordinary deltas of bounded size. The first delta holds a
//! [`Hold`] with `filling` set, and the last delta replaces it. A mark also lies beside the log
//! from before the first object until after the last, so that a partial root is never taken for a
//! whole one, wherever the writer dies.
//!
//! A writer that finds an unfinished root resumes it as its next owner, which fences the former
//! writer. At the end it removes what the former writer left and its own content does not contain.
//!
//! A root of several partitions has a log for each, all filled by one writer under one mark.

use std::collections::BTreeSet;

use futures::future::{BoxFuture, FusedFuture};
use futures::{FutureExt, StreamExt, select_biased};
use satchel_engine::durable::{Change, Hold, Key, Value};
use satchel_engine::placement::Placement;
use satchel_log::{
    Contender, Delta, EntriesBuilder, Entry, Fold, Io, Layout, Log, LogError, Nonce, Notice,
    Notices, Options, Ownership, StoreError,
};

use super::unfinished::{create_mark, unfinished_marks};
use crate::encode::ChangeEncoder;
use crate::placement::identity_of;

/// Number of deltas that may be under way at once.
const DEPTH: u64 = 4;

/// Settings of a new root.
#[derive(Clone)]
pub struct NewRoot {
    /// Store that will hold the root, and the retry policy of requests to it.
    pub io: Io,
    /// Prefix of the root in the store, without a trailing slash.
    pub root: String,
    /// Application that will run on the root.
    pub application: String,
    /// Choice of the bucket of an address. A fork keeps that of its origin, because facts name key
    /// groups.
    pub placement: Placement,
    /// Number of partitions. A fork keeps that of its origin, because facts name partitions.
    pub partitions: u32,
    /// 16 random bytes of this writer.
    pub nonce: Nonce,
    /// Description for people who find the root unfinished: "a restore of …".
    pub making: String,
    /// Earliest partition time of the root, in ms since the epoch.
    pub not_before_ms: u64,
    /// Size at which a delta is closed, in bytes.
    pub delta_bytes: usize,
}

/// Reason why a root was not created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The prefix holds a whole root.
    #[error("the root already holds the state of an application")]
    Occupied,
    /// The log ended without an error.
    #[error("the log of the new root ended before everything was durable")]
    Ended,
    /// As for an owner.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<StoreError> for CreateError {
    fn from(error: StoreError) -> Self {
        Self::Log(error.into())
    }
}

/// Writes a new root.
pub struct RootWriter {
    io: Io,
    marks: Vec<String>,
    begun_at_ms: u64,
    partitions: Vec<PartitionWriter>,
}

/// Writes one partition of a new root, as its owner.
struct PartitionWriter {
    io: Io,
    log: Log,
    notices: Notices,
    driver: futures::future::Fuse<BoxFuture<'static, Result<(), LogError>>>,
    sequence: u64,
    durable: u64,
    committed_at_ms: u64,
    encoder: ChangeEncoder,
    entries: EntriesBuilder,
    delta_bytes: usize,
    /// Keys that a former writer wrote and this one has not written yet.
    left_over: BTreeSet<(u16, Vec<u8>)>,
}

impl RootWriter {
    /// Begins a root, or resumes one that was left unfinished. After this only the mark and the
    /// takeovers are stored.
    ///
    /// # Errors
    /// [`CreateError::Occupied`] if the prefix holds a whole root; else as for a takeover.
    pub async fn begin(new: NewRoot) -> Result<Self, CreateError> {
        let mut marks = unfinished_marks(&new.io, &new.root).await?;
        let anew = marks.is_empty();
        if anew {
            refuse_existing(&new).await?;
        }
        marks.push(create_mark(&new.io, &new.root, &new.nonce, &new.making).await?);
        let mut owned = Vec::new();
        let (mut occupied, mut taken) = (false, false);
        for partition in 0..new.partitions {
            let (ownership, found) = own(&new, partition).await?;
            occupied |= !found.keys.is_empty() && !found.filling;
            taken |= ownership.owner.epoch != 1;
            owned.push((ownership, found));
        }
        if !occupied && anew && taken {
            // Another process took over since the check above. Either it owns an application that
            // holds nothing yet, or it is another writer, which has a mark and is fenced now.
            let known = marks;
            marks = unfinished_marks(&new.io, &new.root).await?;
            occupied = marks.iter().all(|mark| known.contains(mark));
        }
        if occupied {
            // This also covers a root whose content was complete and whose marks were left.
            new.io.delete(&marks).await?;
            return Err(CreateError::Occupied);
        }
        let begun_at_ms = new.io.clock.now().wall_ms;
        let hold = Hold {
            origin: new.making.as_str().into(),
            since_ms: begun_at_ms,
            filling: true,
        };
        let partitions = owned.into_iter().map(|owned| {
            let mut writer = PartitionWriter::begin(&new, owned, begun_at_ms);
            writer.add(&hold_change(Some(hold.clone())));
            writer
        });
        Ok(Self {
            partitions: partitions.collect(),
            marks,
            begun_at_ms,
            io: new.io,
        })
    }

    /// Returns when the writer began, in ms since the epoch.
    #[must_use]
    pub fn begun_at_ms(&self) -> u64 {
        self.begun_at_ms
    }

    /// Adds one fact to a partition.
    ///
    /// # Errors
    /// As for an owner. The root stays unfinished, and owners refuse it.
    ///
    /// # Panics
    /// If the root has no such partition.
    pub async fn push(&mut self, partition: u32, fact: &Change) -> Result<(), CreateError> {
        self.partitions[partition as usize].push(fact).await
    }

    /// Completes the root, under a hold if one is given.
    ///
    /// # Errors
    /// As of [`RootWriter::push`].
    pub async fn finish(self, hold: Option<Hold>) -> Result<(), CreateError> {
        // One after the other: until the mark is deleted, no partition is served.
        for partition in self.partitions {
            partition.finish(hold.clone()).await?;
        }
        Ok(self.io.delete(&self.marks).await?)
    }
}

impl PartitionWriter {
    fn begin(new: &NewRoot, (ownership, found): (Ownership, Found), now_ms: u64) -> Self {
        let (log, notices, driver) = ownership.start();
        Self {
            io: new.io.clone(),
            log,
            notices,
            driver: driver.run().boxed().fuse(),
            sequence: 0,
            durable: 0,
            committed_at_ms: now_ms.max(new.not_before_ms),
            encoder: ChangeEncoder::new(new.placement),
            entries: EntriesBuilder::new(),
            delta_bytes: new.delta_bytes,
            left_over: found.keys,
        }
    }

    async fn push(&mut self, fact: &Change) -> Result<(), CreateError> {
        let (bucket, key) = self.add(fact);
        self.left_over.remove(&(bucket, key));
        self.bound().await
    }

    async fn finish(mut self, hold: Option<Hold>) -> Result<(), CreateError> {
        let hold_key = self.encoder.encode(&hold_change(None)).key.to_vec();
        for (bucket, key) in std::mem::take(&mut self.left_over) {
            if key != hold_key {
                self.entries.push(bucket, &key, None);
                self.bound().await?;
            }
        }
        // The hold has a delta of its own: it must not be durable before the rest.
        self.commit(false);
        self.add(&hold_change(hold));
        self.commit(true);
        self.durable_through(self.sequence).await?;
        drop(self.log);
        if !self.driver.is_terminated() {
            self.driver.await?;
        }
        Ok(())
    }

    /// Adds a change to the open delta. Returns its bucket and its encoded key.
    fn add(&mut self, change: &Change) -> (u16, Vec<u8>) {
        let entry = self.encoder.encode(change);
        self.entries.push(entry.bucket, entry.key, entry.value);
        (entry.bucket, entry.key.to_vec())
    }

    /// Closes the open delta if it is large enough, and waits until few enough are under way.
    async fn bound(&mut self) -> Result<(), CreateError> {
        if self.entries.len_bytes() < self.delta_bytes {
            return Ok(());
        }
        self.commit(false);
        self.durable_through(self.sequence.saturating_sub(DEPTH - 1))
            .await
    }

    fn commit(&mut self, clean: bool) {
        self.sequence += 1;
        let now_ms = self.io.clock.now().wall_ms;
        self.committed_at_ms = self.committed_at_ms.max(now_ms);
        self.log.commit(Delta {
            sequence: self.sequence,
            committed_at_ms: self.committed_at_ms,
            clean,
            entries: std::mem::take(&mut self.entries).finish(),
        });
    }

    /// Waits until the deltas through `wanted` are durable.
    async fn durable_through(&mut self, wanted: u64) -> Result<(), CreateError> {
        while self.durable < wanted {
            select_biased! {
                notice = self.notices.next() => {
                    if let Some(Notice::Durable { sequence, .. }) = notice {
                        self.durable = sequence;
                    }
                }
                ended = &mut self.driver => {
                    ended?;
                    return Err(CreateError::Ended);
                }
            }
        }
        Ok(())
    }
}

/// Content that a takeover finds in a root that should be empty or unfinished.
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

/// Takes over one partition of the new root.
async fn own(new: &NewRoot, partition: u32) -> Result<(Ownership, Found), LogError> {
    let mut found = Found::default();
    let place = Contender {
        store: new.io.store.clone(),
        root: new.root.clone(),
        identity: identity_of(&new.application, new.placement, (partition, new.partitions)),
        nonce: new.nonce,
        clock: new.io.clock.clone(),
        options: Options {
            depth: DEPTH,
            retry: new.io.retry,
            takeover_give_up_ms: new.io.retry.give_up_ms,
            ..Options::default()
        },
        on_store_failure: new.io.on_store_failure.clone(),
    };
    let ownership = satchel_log::take_over(place, &mut found).await?;
    Ok((ownership, found))
}

async fn refuse_existing(new: &NewRoot) -> Result<(), CreateError> {
    let layout = Layout::new(&new.root, 0);
    let application = new.io.get_record(layout.application()).await?;
    let partitions = match new.root.as_str() {
        "" => "partitions/".to_owned(),
        root => format!("{root}/partitions/"),
    };
    if application.is_some() || !new.io.list_page(&partitions, None).await?.is_empty() {
        return Err(CreateError::Occupied);
    }
    Ok(())
}

fn hold_change(hold: Option<Hold>) -> Change {
    Change {
        key: Key::Hold,
        value: hold.map(Value::Hold),
    }
}
