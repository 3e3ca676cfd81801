//! Reading a partition without owning it: as it is, or as it was at a moment. Nothing is written.
//!
//! ```text
//! newest manifest in effect ─► its log tail ─► does it reach the moment? ──no──► an older manifest that is still whole ─► …
//!                                                       │ yes
//!                                                       ▼
//!                       its images ─► records of the tail up to the moment ─► Fold
//! ```
//!
//! Images can be used for a moment only if all of them equal the log at or before it: what an image already has cannot be taken off again.

use std::sync::Arc;

use crate::application::{Application, Identity};
use crate::clock::Clock;
use crate::control::Effect;
use crate::error::LogError;
use crate::fold::{Eager, Fold};
use crate::io::{Io, OnTrouble, Retry};
use crate::keys::Layout;
use crate::manifest::Manifest;
use crate::options::Options;
use crate::owner::Owner;
use crate::record::Kind;
use crate::store::ObjectStore;
use crate::takeover::tail::Tail;
use crate::takeover::{Halt, Place, Taker};

/// Which state of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The fold of everything that is in the log.
    Latest,
    /// The fold of the commits whose time, in milliseconds since 1970, is not later.
    Moment(u64),
}

/// What is read, and how.
#[derive(Clone)]
pub struct Source {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The prefix of the root in the store.
    pub root: String,
    /// The clocks, for repeating requests.
    pub clock: Arc<dyn Clock>,
    /// How requests that got no answer are repeated.
    pub retry: Retry,
    /// Is told about requests that are being repeated.
    pub on_trouble: OnTrouble,
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The number of the last log record that counted; 0 if there was none yet.
    pub through: u64,
    /// The time of the last record that was replayed, in milliseconds since 1970; `None` if the images alone are the state.
    pub committed_at_ms: Option<u64>,
    /// The manifest whose images were used.
    pub manifest: Option<u64>,
}

/// Why a partition could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// What the moment would need was collected.
    #[error(
        "partition {partition}: the log reaches back to {reaches_back_to_ms} ms since 1970, not to {asked_ms}"
    )]
    Collected {
        /// The partition.
        partition: u32,
        /// The moment, in milliseconds since 1970.
        asked_ms: u64,
        /// The earliest moment that can be read, in milliseconds since 1970.
        reaches_back_to_ms: u64,
    },
    /// As for a takeover.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Hands the state of a partition to `fold`. An owner may be at work: what it commits meanwhile may or may not be part of [`At::Latest`],
/// and of a moment that is not over yet.
///
/// # Errors
/// [`HistoryError::Collected`] if the moment cannot be reached any more; [`LogError`] names the object that is damaged or missing, or says that
/// the store does not answer. The content of `fold` is then of no use.
pub async fn read(
    source: &Source,
    application: &Application,
    partition: u32,
    at: At,
    fold: &mut impl Fold,
) -> Result<Reading, HistoryError> {
    let reader = reader(source, application, partition);
    reader.place.identity.validate()?;
    let mut restarts = 0;
    loop {
        match reader.read_at(at, &mut Eager(fold)).await {
            Ok(reading) => return Ok(reading),
            Err(Stop::For(error)) => return Err(error),
            Err(Stop::Anew) => {
                fold.clear();
                restarts += 1;
                reader.pause_before(restarts).await?;
            }
        }
    }
}

/// A taker that is asked for nothing but its eyes.
fn reader(source: &Source, application: &Application, partition: u32) -> Taker {
    Taker {
        layout: Layout::new(&source.root, partition),
        io: Io {
            store: source.store.clone(),
            clock: source.clock.clone(),
            retry: source.retry,
            on_trouble: source.on_trouble.clone(),
        },
        place: Place {
            store: source.store.clone(),
            root: source.root.clone(),
            identity: Identity {
                application: application.application.clone(),
                partition,
                partitions: application.partitions,
                buckets: application.buckets,
            },
            nonce: Owner::default().nonce,
            clock: source.clock.clone(),
            options: Options {
                retry: source.retry,
                ..Options::default()
            },
            on_trouble: source.on_trouble.clone(),
        },
    }
}

/// Why an attempt ended.
enum Stop {
    Anew,
    For(HistoryError),
}

impl From<Halt> for Stop {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Anew => Self::Anew,
            Halt::Error(error) => Self::For(error.into()),
        }
    }
}

impl From<LogError> for Stop {
    fn from(error: LogError) -> Self {
        Self::For(error.into())
    }
}

/// Images and the log over them.
struct Basis {
    manifest: Option<Manifest>,
    tail: Tail,
}

impl Basis {
    /// The earliest moment that this is certain to hold, in milliseconds since 1970. The record that the newest image equals may be collected; the
    /// next one's time is then all that is known, and is not earlier.
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

    /// Whether the tail goes on beyond the moment, so that nothing up to it can be missing at its end.
    fn passes(&self, moment_ms: u64) -> bool {
        let mut records = self.tail.valid.iter();
        records.any(|(record, _)| record.header.committed_at_ms > moment_ms)
    }

    fn cut(&mut self, moment_ms: u64) {
        let valid = &mut self.tail.valid;
        // Times never go back from one valid record to the next.
        valid.retain(|(record, _)| record.header.committed_at_ms <= moment_ms);
        self.tail.bytes = valid.iter().map(|(_, bytes)| bytes).sum();
    }
}

impl Taker {
    async fn read_at(&self, at: At, fold: &mut impl Fold) -> Result<Reading, Stop> {
        let manifests = self.manifests().await?;
        let (manifest, tail) = self.effective(&manifests).await?;
        let newest = Basis { manifest, tail };
        let At::Moment(moment_ms) = at else {
            return self.apply(&newest, &manifests, fold).await;
        };
        let mut reaches_back_to_ms = newest.reaches_back_to_ms();
        if reaches_back_to_ms <= moment_ms {
            let mut basis = newest;
            basis.cut(moment_ms);
            return self.apply(&basis, &manifests, fold).await;
        }
        for number in self.before(&newest, &manifests) {
            let Some(mut basis) = self.whole_basis(number, moment_ms, &manifests).await? else {
                continue;
            };
            let earliest_ms = basis.reaches_back_to_ms();
            if earliest_ms > moment_ms {
                reaches_back_to_ms = reaches_back_to_ms.min(earliest_ms);
                continue;
            }
            basis.cut(moment_ms);
            match self.apply(&basis, &manifests, fold).await {
                // Its segments were collected: its log will follow.
                Err(Stop::For(HistoryError::Log(LogError::Missing { .. }))) => fold.clear(),
                read => return read,
            }
        }
        Err(Stop::For(HistoryError::Collected {
            partition: self.place.identity.partition,
            asked_ms: moment_ms,
            reaches_back_to_ms,
        }))
    }

    /// The manifests before the one in effect, newest first, and at last none at all.
    fn before(&self, newest: &Basis, manifests: &[u64]) -> Vec<Option<u64>> {
        let in_effect = newest.manifest.as_ref().map_or(0, |m| m.number);
        let older = manifests.iter().rev().filter(|n| **n < in_effect);
        older.map(|number| Some(*number)).chain([None]).collect()
    }

    /// A former manifest, or the empty beginning, with the log over it: if all of that is still there, until after the moment, and the manifest was
    /// in effect once.
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
        let newest = manifests.last().copied();
        let tail = match self.read_tail(from, before, newest).await {
            Err(Halt::Error(LogError::Missing { .. })) => return Ok(None),
            read => read?,
        };
        if let Some((manifest, checksum)) = &read {
            let effect = Effect {
                manifest: manifest.number,
                checksum: *checksum,
            };
            if !self.puts_in_effect(&tail, effect)? {
                return Ok(None);
            }
        }
        let manifest = read.map(|(manifest, _)| manifest);
        let basis = Basis { manifest, tail };
        Ok(Some(basis).filter(|basis| basis.passes(moment_ms)))
    }

    fn puts_in_effect(&self, tail: &Tail, wanted: Effect) -> Result<bool, LogError> {
        for (record, _) in &tail.valid {
            if record.header.kind != Kind::Control {
                continue;
            }
            let control = record.control().map_err(|defect| {
                let key = self.layout.log(record.header.number);
                LogError::damaged(&key, defect)
            })?;
            if control.effect == Some(wanted) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn apply(
        &self,
        basis: &Basis,
        manifests: &[u64],
        fold: &mut impl Fold,
    ) -> Result<Reading, Stop> {
        let Basis { manifest, tail } = basis;
        let image_bytes = match manifest {
            Some(manifest) => {
                let newest = manifests.last().copied();
                self.load(manifest, tail.bytes, newest, fold).await?
            }
            None => 0,
        };
        self.replay(manifest.as_ref(), tail, image_bytes, fold)?;
        let last = tail.valid.last().map(|(record, _)| record.header);
        let imaged = manifest.as_ref().map_or(0, Manifest::through);
        Ok(Reading {
            through: last.map_or(imaged, |last| last.number.max(imaged)),
            committed_at_ms: last.map(|last| last.committed_at_ms),
            manifest: manifest.as_ref().map(|manifest| manifest.number),
        })
    }
}
