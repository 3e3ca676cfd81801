//! Reading a partition without owning it: the latest state, or the state at a past moment. Nothing
//! is written.
//!
//! ```text
//! newest manifest in effect ─► its log tail ─► does it reach the moment? ─no─► an older manifest
//!                                                        │ yes                 that is still whole
//!                                                        ▼
//!                        its images ─► records of the tail up to the moment ─► Fold
//! ```
//!
//! Images can be used for a moment only if all of them equal the log at or before that moment. A
//! change that an image contains cannot be undone.

use crate::application::Application;
use crate::buckets::{BucketFold, NoBuckets, NoFold, Sink};
use crate::control::Effect;
use crate::error::LogError;
use crate::fold::{Eager, Fold};
use crate::manifest::Manifest;
use crate::owner::Owner;
use crate::reader::tail::{Guide, Tail};
use crate::reader::{Halt, Listing, PartitionReader};
use crate::record::Record;
use crate::savepoint::SavepointName;
use crate::savepoints::stored::read_one;
use crate::source::Source;

/// The state of a partition to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The fold of everything in the log.
    Latest,
    /// The fold of the commits whose time, in milliseconds since 1970, is not later.
    Moment(u64),
    /// The state that a savepoint keeps.
    Savepoint(SavepointName),
}

/// Facts about a completed read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Number of the last log record that counted; 0 if there was none yet.
    pub through: u64,
    /// Time of the last record that was replayed, in milliseconds since 1970; `None` if the images
    /// alone are the state.
    pub committed_at_ms: Option<u64>,
    /// The manifest whose images were used.
    pub manifest: Option<u64>,
    /// Time of the newest record of the log, whatever was asked for, in milliseconds since 1970;
    /// `None` if the images alone are the newest state, or a savepoint was read.
    pub newest_ms: Option<u64>,
}

/// Reason a partition could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// Objects that the moment needs were collected.
    #[error(
        "partition {partition}: the log reaches back to {reaches_back_to_ms} ms since 1970, \
         not to {asked_ms}"
    )]
    Collected {
        /// The partition.
        partition: u32,
        /// The moment, in milliseconds since 1970.
        asked_ms: u64,
        /// The earliest moment that can be read, in milliseconds since 1970.
        reaches_back_to_ms: u64,
    },
    /// There is no savepoint of that name.
    #[error("partition {partition} has no savepoint {name}")]
    NoSavepoint {
        /// The partition.
        partition: u32,
        /// The name.
        name: SavepointName,
    },
    /// An error that a takeover could have as well.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Hands the state of a partition to `fold`.
///
/// An owner may be at work. Its concurrent commits may or may not be part of [`At::Latest`], and of
/// a moment that is not over yet.
///
/// # Errors
/// [`HistoryError::Collected`] if the moment cannot be reached any more. [`LogError`] names the
/// object that is damaged or missing, or reports that the store does not answer. The content of
/// `fold` is then useless.
pub async fn read(
    source: &Source,
    application: &Application,
    partition: u32,
    at: At,
    fold: &mut impl Fold,
) -> Result<Reading, HistoryError> {
    let reader = source.reader(application, partition)?;
    let mut restarts = 0;
    loop {
        let sink = Sink::<_, NoBuckets>::Whole(Eager(fold));
        match reader.read_at(at, sink).await {
            Ok(reading) => return Ok(reading),
            Err(Stop::Error(error)) => return Err(error),
            Err(Stop::Ended) => return Ok(Reading::default()),
            Err(Stop::Restart) => {
                fold.clear();
                restarts += 1;
                reader.pause_before(restarts).await?;
            }
        }
    }
}

/// Hands the state of a partition to `fold`, one bucket after the other. In memory are the log
/// since the last snapshot, compressed, and a few buckets at a time. Returns `None` if the fold
/// ended the read.
///
/// An owner may be at work, as for [`read()`]. If it supersedes the snapshot and deletes its images
/// meanwhile, the fold is cleared and the read begins again.
///
/// # Errors
/// As of [`read()`].
pub async fn read_buckets(
    source: &Source,
    application: &Application,
    partition: u32,
    at: At,
    fold: &mut impl BucketFold,
) -> Result<Option<Reading>, HistoryError> {
    let reader = source.reader(application, partition)?;
    let mut restarts = 0;
    loop {
        let sink = Sink::<NoFold, _>::Buckets(fold);
        match reader.read_at(at, sink).await {
            Ok(reading) => return Ok(Some(reading)),
            Err(Stop::Error(error)) => return Err(error),
            Err(Stop::Ended) => return Ok(None),
            Err(Stop::Restart) => {
                if fold.clear().is_break() {
                    return Ok(None);
                }
                restarts += 1;
                reader.pause_before(restarts).await?;
            }
        }
    }
}

/// Newest manifest of a reader that must not restart: no manifest is newer, so a missing object is
/// reported as missing. Old objects do not come back on a second read.
const NOTHING_NEWER: Option<u64> = Some(u64::MAX);

/// Reason an attempt ended.
enum Stop {
    Restart,
    /// The receiver ended the read.
    Ended,
    Error(HistoryError),
}

impl From<Halt> for Stop {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Restart => Self::Restart,
            Halt::Error(error) => Self::Error(error.into()),
        }
    }
}

impl From<LogError> for Stop {
    fn from(error: LogError) -> Self {
        Self::Error(error.into())
    }
}

/// Images and the log over them.
struct Basis {
    manifest: Option<Manifest>,
    tail: Tail,
}

impl Basis {
    /// Earliest moment that this basis certainly covers, in milliseconds since 1970. The record
    /// that the newest image equals may be collected. Then only the time of the next record is
    /// known, which is not earlier.
    fn reaches_back_to_ms(&self) -> u64 {
        let Some(manifest) = &self.manifest else {
            return 0;
        };
        let through = manifest.through();
        let records = self.tail.valid.iter().map(|(record, _)| record.header);
        let mut later = records.filter(|header| header.number >= through);
        later
            .next()
            .map_or(u64::MAX, |header| header.committed_at_ms)
    }

    /// Time of the last record, in milliseconds since 1970.
    fn last_ms(&self) -> Option<u64> {
        let last = self.tail.valid.last();
        last.map(|(record, _)| record.header.committed_at_ms)
    }

    fn cut(&mut self, moment_ms: u64) {
        let valid = &mut self.tail.valid;
        // Times never decrease from one valid record to the next.
        valid.retain(|(record, _)| record.header.committed_at_ms <= moment_ms);
        self.tail.bytes = valid.iter().map(|(_, bytes)| bytes).sum();
    }
}

impl PartitionReader {
    async fn read_at(
        &self,
        at: At,
        mut sink: Sink<'_, impl Fold, impl BucketFold>,
    ) -> Result<Reading, Stop> {
        let sink = &mut sink;
        match at {
            At::Latest => {
                let listing = self.list().await?;
                let newest = self.newest_basis(&listing).await?;
                let newest_ms = newest.last_ms();
                self.apply(&newest, &listing.manifests, newest_ms, sink)
                    .await
            }
            At::Moment(moment_ms) => self.read_moment(moment_ms, sink).await,
            At::Savepoint(name) => self.read_savepoint(&name, sink).await,
        }
    }

    async fn newest_basis(&self, listing: &Listing) -> Result<Basis, Stop> {
        let found = self.effective(listing, false).await?;
        Ok(Basis {
            manifest: found.manifest,
            tail: found.tail,
        })
    }

    async fn read_moment(
        &self,
        moment_ms: u64,
        sink: &mut Sink<'_, impl Fold, impl BucketFold>,
    ) -> Result<Reading, Stop> {
        let listing = self.list().await?;
        let newest = self.newest_basis(&listing).await?;
        self.read_moment_of(newest, moment_ms, &listing.manifests, sink)
            .await
    }

    async fn read_moment_of(
        &self,
        mut newest: Basis,
        moment_ms: u64,
        manifests: &[u64],
        sink: &mut Sink<'_, impl Fold, impl BucketFold>,
    ) -> Result<Reading, Stop> {
        let newest_ms = newest.last_ms();
        let mut reaches_back_to_ms = newest.reaches_back_to_ms();
        if reaches_back_to_ms <= moment_ms {
            newest.cut(moment_ms);
            return self.apply(&newest, manifests, newest_ms, sink).await;
        }
        let in_effect = newest.manifest.as_ref().map_or(0, |m| m.number);
        let former = &manifests[..manifests.partition_point(|number| *number < in_effect)];
        let young_from = self.first_younger(former, moment_ms).await?;
        let (old, young) = former.split_at(young_from);
        for number in old.iter().rev().map(|n| Some(*n)).chain([None]) {
            let Some(mut basis) = self.whole_basis(number, moment_ms, manifests).await? else {
                continue;
            };
            let earliest_ms = basis.reaches_back_to_ms();
            if earliest_ms > moment_ms {
                reaches_back_to_ms = reaches_back_to_ms.min(earliest_ms);
                continue;
            }
            basis.cut(moment_ms);
            match self.apply(&basis, &[u64::MAX], newest_ms, sink).await {
                // Its segments were collected; its log will follow.
                Err(Stop::Error(HistoryError::Log(LogError::Missing { .. }))) => {
                    if sink.clear().is_break() {
                        return Err(Stop::Ended);
                    }
                }
                read => return read,
            }
        }
        for number in young {
            // The oldest whole basis tells how far back one can read.
            if let Some(basis) = self.whole_basis(Some(*number), 0, manifests).await? {
                reaches_back_to_ms = reaches_back_to_ms.min(basis.reaches_back_to_ms());
                break;
            }
        }
        Err(Stop::Error(HistoryError::Collected {
            partition: self.identity.partition,
            asked_ms: moment_ms,
            reaches_back_to_ms,
        }))
    }

    /// Index of the first manifest whose images are all known to be younger than the moment.
    ///
    /// Reading a manifest costs two requests, and there may be thousands. Their times never
    /// decrease, so a binary search finds it. Collected manifests precede all others.
    async fn first_younger(&self, manifests: &[u64], moment_ms: u64) -> Result<usize, LogError> {
        let (mut from, mut to) = (0, manifests.len());
        while from < to {
            let middle = from + (to - from) / 2;
            let time_ms = self.imaged_at_ms(manifests[middle]).await?;
            if time_ms.is_some_and(|ms| ms > moment_ms) {
                to = middle;
            } else {
                from = middle + 1;
            }
        }
        Ok(from)
    }

    /// Time of the last record that the images of a manifest contain; `None` if the manifest or the
    /// record no longer exists.
    async fn imaged_at_ms(&self, number: u64) -> Result<Option<u64>, LogError> {
        let Some((manifest, _)) = self.read_manifest(number).await? else {
            return Ok(None);
        };
        let through = manifest.through();
        let key = self.layout.log(through);
        let Some(object) = self.io.get(&key).await? else {
            return Ok(None);
        };
        let record = Record::decode(&object, self.identity.partition, through);
        let record = record.map_err(|defect| LogError::damaged(&key, defect))?;
        Ok(Some(record.header.committed_at_ms))
    }

    /// A former manifest, or the empty beginning, with the log over it until after the moment.
    /// `None` unless all of that still exists and the manifest once was in effect.
    async fn whole_basis(
        &self,
        number: Option<u64>,
        moment_ms: u64,
        manifests: &[u64],
    ) -> Result<Option<Basis>, Stop> {
        let read = match number {
            None => None,
            Some(number) => match self.read_manifest(number).await? {
                None => return Ok(None),
                read => read,
            },
        };
        let (from, before) = match &read {
            None => (1, Owner::default()),
            Some((manifest, _)) => (manifest.replay_from(), manifest.before),
        };
        let effect = read.as_ref().map(|(manifest, checksum)| Effect {
            manifest: manifest.number,
            checksum: *checksum,
        });
        let through = read.as_ref().map_or(0, |(manifest, _)| manifest.through());
        let took_effect = |tail: &Tail| effect.is_none_or(|it| tail.effects.contains(&it));
        // A snapshot begins after the previous one took effect, or after its owner ended.
        let next = manifests.iter().find(|n| Some(**n) > number).copied();
        let decided = |tail: &Tail| took_effect(tail) || next.is_some_and(|n| tail.end > n);
        // A tail that continues beyond the moment has no gap at its end up to the moment.
        let passes = |tail: &Tail| tail.committed_at_ms > moment_ms && tail.end > through;
        let enough = |tail: &Tail| passes(tail) && decided(tail);
        let tail = match self
            .read_tail(from, before, Guide::of(NOTHING_NEWER), &enough)
            .await
        {
            Err(Halt::Error(LogError::Missing { .. })) => return Ok(None),
            // Something was collected, and a former owner that slept through it wrote in its place.
            Err(Halt::Error(LogError::Unexpected { .. })) => return Ok(None),
            read => read?,
        };
        let younger = &manifests[manifests.partition_point(|n| Some(*n) <= number)..];
        let whole = took_effect(&tail)
            && passes(&tail)
            && self
                .is_vouched_for(&tail, before, moment_ms, younger)
                .await?;
        let manifest = read.map(|(manifest, _)| manifest);
        Ok(whole.then_some(Basis { manifest, tail }))
    }

    /// Checks that no log number between the images and the first record after the moment was
    /// collected and then written again.
    ///
    /// Savepoints keep manifests, and part of the log behind them. The records that follow may be
    /// collected, including the takeover that ended an epoch. If the owner of that epoch sleeps
    /// through all of that, its next writes seem to continue the log where the savepoint ends. But
    /// a later manifest names the owner in force where its replay begins. In a log without such a
    /// gap that is the same owner.
    async fn is_vouched_for(
        &self,
        tail: &Tail,
        before: Owner,
        moment_ms: u64,
        younger: &[u64],
    ) -> Result<bool, Stop> {
        let headers = || tail.valid.iter().map(|(record, _)| record.header);
        let after = headers().find(|header| header.committed_at_ms > moment_ms);
        let after = after.map_or(tail.end, |header| header.number);
        let Some(witness) = self.first_beyond(younger, after).await? else {
            // The newest manifest is never deleted, so a list whose last manifest is gone is
            // outdated.
            return match younger.is_empty() {
                true => Ok(false),
                false => Err(Stop::Restart),
            };
        };
        let from = witness.replay_from();
        let in_force = if from <= tail.end {
            let mut earlier = headers().rev().skip_while(|header| header.number >= from);
            earlier.next().map_or(before, |header| header.owner)
        } else {
            let reached = |tail: &Tail| tail.end >= from;
            match self
                .read_tail(tail.end, tail.in_force, Guide::of(NOTHING_NEWER), &reached)
                .await
            {
                Ok(rest) if rest.end == from => rest.in_force,
                Ok(_) => return Ok(false),
                Err(Halt::Error(LogError::Missing { .. } | LogError::Unexpected { .. })) => {
                    return Ok(false);
                }
                Err(halt) => return Err(halt.into()),
            }
        };
        Ok(in_force == witness.before)
    }

    /// The first of these manifests whose replay begins after log number `number`, or else the last
    /// of them, because the log that its replay needs is never collected. Replay starts increase
    /// from manifest to manifest, so a binary search finds it.
    async fn first_beyond(
        &self,
        manifests: &[u64],
        number: u64,
    ) -> Result<Option<Manifest>, LogError> {
        let (mut from, mut to) = (0, manifests.len());
        let mut found = None;
        while from < to {
            let middle = from + (to - from) / 2;
            match self.read_manifest(manifests[middle]).await? {
                Some((manifest, _)) if manifest.replay_from() > number => {
                    to = middle;
                    found = Some(manifest);
                }
                // Collected manifests precede all others.
                Some(_) | None => from = middle + 1,
            }
        }
        match (found, manifests.last()) {
            (None, Some(last)) => {
                let read = self.read_manifest(*last).await?;
                Ok(read.map(|(manifest, _)| manifest))
            }
            (found, _) => Ok(found),
        }
    }

    async fn read_savepoint(
        &self,
        name: &SavepointName,
        sink: &mut Sink<'_, impl Fold, impl BucketFold>,
    ) -> Result<Reading, Stop> {
        let partition = self.identity.partition;
        let savepoint = read_one(&self.io, &self.layout, partition, name).await?;
        let Some(savepoint) = savepoint else {
            let name = *name;
            return Err(Stop::Error(HistoryError::NoSavepoint { partition, name }));
        };
        let needed = |key: String| LogError::Missing {
            key,
            reason: format!("savepoint {name} needs it"),
        };
        let manifest = match savepoint.manifest {
            None => None,
            Some(effect) => {
                let key = self.layout.manifest(effect.manifest);
                let read = self.read_manifest(effect.manifest).await?;
                let (manifest, sum) = read.ok_or_else(|| needed(key.clone()))?;
                if sum != effect.checksum {
                    return Err(Stop::from(LogError::Unexpected {
                        key,
                        reason: format!("it is not the manifest that savepoint {name} names"),
                    }));
                }
                Some(manifest)
            }
        };
        let before = manifest.as_ref().map_or(Owner::default(), |m| m.before);
        let enough = |tail: &Tail| tail.end > savepoint.through;
        let tail = self
            .read_tail(
                savepoint.replay_from,
                before,
                Guide::of(NOTHING_NEWER),
                &enough,
            )
            .await?;
        if tail.end <= savepoint.through {
            return Err(Stop::from(needed(self.layout.log(tail.end))));
        }
        let basis = Basis { manifest, tail };
        self.apply(&basis, &[u64::MAX], None, sink).await
    }

    async fn apply(
        &self,
        basis: &Basis,
        manifests: &[u64],
        newest_ms: Option<u64>,
        sink: &mut Sink<'_, impl Fold, impl BucketFold>,
    ) -> Result<Reading, Stop> {
        let Basis { manifest, tail } = basis;
        let last = tail.valid.last().map(|(record, _)| record.header);
        let imaged = manifest.as_ref().map_or(0, Manifest::through);
        let reading = Reading {
            through: last.map_or(imaged, |last| last.number.max(imaged)),
            committed_at_ms: last.map(|last| last.committed_at_ms),
            manifest: manifest.as_ref().map(|manifest| manifest.number),
            newest_ms,
        };
        let newest = manifests.last().copied();
        match sink {
            Sink::Whole(fold) => {
                let image_bytes = match manifest {
                    Some(manifest) => self.load(manifest, tail.bytes, newest, None, fold).await?,
                    None => 0,
                };
                let records = tail.valid.clone();
                self.replay(manifest.as_ref(), records, image_bytes, tail.bytes, fold)
                    .await?;
            }
            Sink::Buckets(fold) => {
                if fold.begin(&reading).is_break() {
                    return Err(Stop::Ended);
                }
                let read = self.read_buckets(manifest.as_ref(), tail, newest, *fold);
                if read.await?.is_break() {
                    return Err(Stop::Ended);
                }
            }
        }
        Ok(reading)
    }
}
