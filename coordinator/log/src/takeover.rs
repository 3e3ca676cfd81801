//! Becoming the owner of a partition: claim an epoch, read what is durable, write the takeover record, look again.
//!
//! ```text
//! application ─► epochs/<e> ─► newest manifest in effect ─► its log tail ─► its images ─► log/<T> takeover ─► newest manifest, epochs/<e+1>
//!                    ▲                                                                           │
//!                    └────────────── begin anew: T was collected, or the snapshot moved ─────────┘
//! ```
//!
//! The claim comes first, so that a former owner that wakes up finds it; the manifests are read again last, because a takeover record
//! written into a hole that collection left is no takeover.

use std::sync::Arc;

use crate::application::{Application, Identity};
use crate::clock::Clock;
use crate::control::Condemned;
use crate::epoch::Claim;
use crate::error::LogError;
use crate::fold::Fold;
use crate::io::{Io, OnTrouble, Put, Retry};
use crate::keys::{Layout, number_in};
use crate::manifest::Manifest;
use crate::options::Options;
use crate::owner::{Nonce, Owner};
use crate::record::Unnumbered;
use crate::store::ObjectStore;
use crate::takeover::tail::Tail;
use crate::writer::Start;

mod images;
pub(crate) mod tail;

/// How often a takeover begins anew before it gives up.
const RESTARTS_MAX: u32 = 100;

/// Where and as whom to take over.
#[derive(Clone)]
pub struct Place {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The prefix of the root in the store.
    pub root: String,
    /// Whose root it must be, and which partition of it.
    pub identity: Identity,
    /// 16 random bytes of this process.
    pub nonce: Nonce,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// What can be set.
    pub options: Options,
    /// Is told about requests that are being repeated.
    pub on_trouble: OnTrouble,
}

/// A partition that this process owns, until somebody takes it over. [`Ownership::start`] begins to write.
pub struct Ownership {
    /// The epoch and the nonce.
    pub owner: Owner,
    /// The number of the takeover record.
    pub takeover: u64,
    /// Time of the takeover record in milliseconds since 1970: partition time goes on from here.
    pub committed_at_ms: u64,
    /// Whether the former owner stopped cleanly, or there was none.
    pub clean: bool,
    /// What was read.
    pub recovery: Recovery,
    pub(crate) place: Place,
    pub(crate) layout: Layout,
    pub(crate) base: Base,
}

/// What a takeover read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The manifest in effect, if there was one.
    pub manifest: Option<u64>,
    /// Bytes of images.
    pub image_bytes: u64,
    /// Log records replayed.
    pub replayed: u64,
    /// Log objects that were void.
    pub void: u64,
    /// Bytes of the log tail.
    pub log_bytes: u64,
    /// How many times the takeover had to begin anew.
    pub restarts: u32,
}

/// What the next snapshot builds upon.
pub(crate) struct Base {
    pub(crate) manifest: Option<Manifest>,
    /// Which buckets the log tail changed beyond their images.
    pub(crate) dirty: Vec<bool>,
    pub(crate) log_bytes: u64,
    /// How many objects the log tail has.
    pub(crate) log_objects: u64,
    /// All manifests in the store.
    pub(crate) manifests: Vec<u64>,
    pub(crate) condemned: Vec<Condemned>,
}

/// Why an attempt ended.
pub(crate) enum Halt {
    /// What was read is not the newest any more.
    Anew,
    /// For good.
    Error(LogError),
}

impl<E: Into<LogError>> From<E> for Halt {
    fn from(error: E) -> Self {
        Halt::Error(error.into())
    }
}

/// Takes the partition over, making the root if there is none, and hands everything durable to `fold`.
///
/// # Errors
/// [`LogError`] names the object: damaged, missing, of another application; or says that yet another owner came, or that the store
/// does not answer. The content of `fold` is then of no use.
pub async fn take_over(place: Place, fold: &mut impl Fold) -> Result<Ownership, LogError> {
    place.identity.validate()?;
    place.options.validate()?;
    let taker = Taker {
        layout: Layout::new(&place.root, place.identity.partition),
        io: Io {
            store: place.store.clone(),
            clock: place.clock.clone(),
            retry: Retry {
                give_up_ms: place.options.takeover_give_up_ms,
                ..place.options.retry
            },
            on_trouble: place.on_trouble.clone(),
        },
        place,
    };
    taker.admit().await?;
    let mut restarts = 0;
    loop {
        match taker.attempt(fold).await {
            Ok(mut ownership) => {
                ownership.recovery.restarts = restarts;
                return Ok(ownership);
            }
            Err(Halt::Error(error)) => return Err(error),
            Err(Halt::Anew) => {
                fold.clear();
                restarts += 1;
                taker.pause_before(restarts).await?;
            }
        }
    }
}

pub(crate) struct Taker {
    pub(crate) place: Place,
    pub(crate) layout: Layout,
    pub(crate) io: Io,
}

impl Taker {
    /// Once or twice is normal where owners change; more often means that somebody else does not give in.
    pub(crate) async fn pause_before(&self, restart: u32) -> Result<(), LogError> {
        if restart > RESTARTS_MAX {
            return Err(LogError::Unexpected {
                key: self.layout.partition_prefix().to_owned(),
                reason: format!("what was read was never the newest in {RESTARTS_MAX} takeovers"),
            });
        }
        let Retry {
            initial_ms, max_ms, ..
        } = self.io.retry;
        if restart > 1 {
            let wait_ms = initial_ms.saturating_mul(u64::from(restart)).min(max_ms);
            self.io.clock.sleep(wait_ms).await;
        }
        Ok(())
    }

    /// Makes the root's record, or refuses a root of somebody else.
    async fn admit(&self) -> Result<(), LogError> {
        let key = self.layout.application();
        let identity = &self.place.identity;
        let found = match self.io.get(key).await? {
            Some(found) => found,
            None => {
                let mine = Application::new(identity).encode();
                match self.io.put(key, &mine).await? {
                    Put::Mine => mine,
                    Put::Other(found) => found,
                    Put::Gone => {
                        return Err(LogError::Missing {
                            key: key.to_owned(),
                            reason: "it was there a moment ago, and is never deleted".to_owned(),
                        });
                    }
                }
            }
        };
        Application::decode(&found)
            .map_err(|defect| LogError::damaged(key, defect))?
            .admit(key, identity)
    }

    async fn attempt(&self, fold: &mut impl Fold) -> Result<Ownership, Halt> {
        let owner = self.claim().await?;
        let manifests = self.manifests().await?;
        let (manifest, mut tail) = self.effective(&manifests).await?;
        let image_bytes = match &manifest {
            Some(manifest) => {
                let newest = manifests.last().copied();
                self.load(manifest, tail.bytes, newest, fold).await?
            }
            None => 0,
        };
        let (takeover, committed_at_ms) = self.write_takeover(owner, &mut tail).await?;
        // A snapshot that took effect meanwhile makes the base an old one: its objects may be deleted while this epoch builds on them.
        if tail.effect().map(|effect| effect.manifest) != manifest.as_ref().map(|m| m.number) {
            return Err(Halt::Anew);
        }
        let manifests = self.manifests().await?;
        if self.newest_replays_beyond(takeover, &manifests).await? {
            return Err(Halt::Anew);
        }
        let next = self.layout.epoch(owner.epoch + 1);
        if self.io.get(&next).await?.is_some() {
            return Err(Halt::Error(LogError::Fenced {
                epoch: owner.epoch,
                reason: format!("{next} was claimed during the takeover"),
            }));
        }
        let dirty = self.replay(manifest.as_ref(), &tail, image_bytes, fold)?;
        Ok(Ownership {
            owner,
            takeover,
            committed_at_ms,
            clean: tail.clean,
            recovery: Recovery {
                manifest: manifest.as_ref().map(|manifest| manifest.number),
                image_bytes,
                replayed: tail.valid.len() as u64,
                void: tail.void,
                log_bytes: tail.bytes,
                restarts: 0,
            },
            place: self.place.clone(),
            layout: self.layout.clone(),
            base: Base {
                dirty,
                log_bytes: tail.bytes,
                log_objects: tail.valid.len() as u64 + tail.void,
                manifests,
                condemned: tail.take_condemned(manifest.as_ref()),
                manifest,
            },
        })
    }

    /// Claims the first epoch that nobody holds. Computed anew after every refusal. Epochs are claimed without gaps, so that an owner that sees
    /// the next one unclaimed knows that no later one is.
    async fn claim(&self) -> Result<Owner, LogError> {
        let prefix = self.layout.epochs_prefix();
        loop {
            let claimed = self.io.list(&prefix, None).await?;
            let highest = claimed
                .iter()
                .filter_map(|object| number_in(&object.key, &prefix))
                .max()
                .unwrap_or(0);
            let owner = Owner {
                epoch: highest + 1,
                nonce: self.place.nonce,
            };
            let claim = Claim {
                partition: self.place.identity.partition,
                owner,
                claimed_at_ms: self.io.clock.now().wall_ms,
            };
            let key = self.layout.epoch(owner.epoch);
            match self.io.put(&key, &claim.encode()).await? {
                Put::Mine => return Ok(owner),
                Put::Other(found) => {
                    // Somebody else's claim is the normal case; a damaged one must be seen by a person.
                    Claim::decode(&found).map_err(|defect| LogError::damaged(&key, defect))?;
                }
                Put::Gone => {
                    let reason = "it was there a moment ago, and is never deleted".to_owned();
                    return Err(LogError::Missing { key, reason });
                }
            }
        }
    }

    /// The numbers of all manifests, ascending.
    pub(crate) async fn manifests(&self) -> Result<Vec<u64>, LogError> {
        let prefix = self.layout.manifests_prefix();
        let found = self.io.list(&prefix, None).await?;
        Ok(found
            .iter()
            .filter_map(|object| number_in(&object.key, &prefix))
            .collect())
    }

    /// The newest manifest that a committed record put in effect, with the log from its replay start on. One that was published
    /// without taking effect is an orphan of its writer.
    pub(crate) async fn effective(
        &self,
        manifests: &[u64],
    ) -> Result<(Option<Manifest>, Tail), Halt> {
        match self.effective_now(manifests).await {
            // Whoever reads for longer than the grace finds the log gone that a manifest made superfluous which was an orphan as this began.
            Err(Halt::Error(LogError::Missing { .. })) if self.is_effective(manifests).await? => {
                Err(Halt::Anew)
            }
            found => found,
        }
    }

    /// Whether the newest manifest is in effect.
    async fn is_effective(&self, manifests: &[u64]) -> Result<bool, Halt> {
        let Some(newest) = manifests.last().copied() else {
            return Ok(false);
        };
        let Some((manifest, _)) = self.read_manifest(newest).await? else {
            return Ok(false);
        };
        let tail = self.read_tail(
            manifest.replay_from(),
            manifest.before,
            Some(newest),
            &|_| false,
        );
        let effect = tail.await?.effect();
        Ok(effect.is_some_and(|effect| effect.manifest >= newest))
    }

    async fn effective_now(&self, manifests: &[u64]) -> Result<(Option<Manifest>, Tail), Halt> {
        let newest = manifests.last().copied();
        for number in manifests.iter().rev() {
            let Some((manifest, sum)) = self.read_manifest(*number).await? else {
                let key = self.layout.manifest(*number);
                return Err(self.missing(newest, key, "it was listed").await);
            };
            let tail = self
                .read_tail(manifest.replay_from(), manifest.before, newest, &|_| false)
                .await?;
            if tail.end <= manifest.through() {
                let reason = format!("manifest {number} relies on it");
                return Err(self
                    .missing(newest, self.layout.log(tail.end), &reason)
                    .await);
            }
            match tail.effect() {
                None => {}
                Some(effect) if effect.manifest < *number => {}
                Some(effect) if effect.manifest > *number => {
                    return Err(self.overtaken(newest, effect.manifest).await);
                }
                Some(effect) if effect.checksum != sum => {
                    return Err(Halt::Error(LogError::Unexpected {
                        key: self.layout.manifest(*number),
                        reason: "it is not the manifest that a log record put in effect".to_owned(),
                    }));
                }
                Some(_) => return Ok((Some(manifest), tail)),
            }
        }
        let tail = self
            .read_tail(1, Owner::default(), newest, &|_| false)
            .await?;
        if let Some(effect) = tail.effect() {
            return Err(self.overtaken(newest, effect.manifest).await);
        }
        Ok((None, tail))
    }

    /// What it means that the log puts a newer manifest in effect than the one at hand: it took effect while we read, or it is lost.
    async fn overtaken(&self, newest: Option<u64>, manifest: u64) -> Halt {
        let key = self.layout.manifest(manifest);
        match self.io.get(&key).await {
            Ok(Some(_)) => Halt::Anew,
            Ok(None) => {
                let reason = "a log record put it in effect";
                self.missing(newest, key, reason).await
            }
            Err(error) => Halt::from(error),
        }
    }

    pub(crate) async fn read_manifest(
        &self,
        number: u64,
    ) -> Result<Option<(Manifest, u64)>, LogError> {
        let key = self.layout.manifest(number);
        let Some(object) = self.io.get(&key).await? else {
            return Ok(None);
        };
        let identity = &self.place.identity;
        let manifest = Manifest::decode(&object, identity.partition, number, identity.buckets)
            .map_err(|defect| LogError::damaged(&key, defect))?;
        Ok(Some((manifest, crate::codec::checksum(&object))))
    }

    /// Writes the takeover record at the first free number, reading whatever others got there before.
    async fn write_takeover(&self, owner: Owner, tail: &mut Tail) -> Result<(u64, u64), Halt> {
        loop {
            if tail.in_force.epoch >= owner.epoch {
                return Err(self.outrun(owner, tail).await);
            }
            let number = tail.end;
            let time = tail.committed_at_ms.max(self.io.clock.now().wall_ms);
            let key = self.layout.log(number);
            let object =
                Unnumbered::takeover(time).seal(self.place.identity.partition, &owner, number);
            match self.io.put(&key, &object).await? {
                Put::Mine => return Ok((number, time)),
                Put::Other(found) => {
                    tail.push(&key, &found, self.place.identity.partition)?;
                }
                Put::Gone => return Err(Halt::Anew),
            }
        }
    }

    /// What it means that the log is of an epoch that is not below `owner`'s: another takeover, whose claim must exist.
    async fn outrun(&self, owner: Owner, tail: &Tail) -> Halt {
        let key = self.layout.epoch(tail.in_force.epoch);
        if tail.in_force.epoch == owner.epoch {
            return Halt::Error(LogError::Unexpected {
                key,
                reason: "this process claimed it, but the log holds a takeover of it".to_owned(),
            });
        }
        match self.io.get(&key).await {
            Ok(Some(_)) => Halt::Anew,
            Ok(None) => Halt::Error(LogError::Missing {
                key,
                reason: "the log holds a takeover of this epoch".to_owned(),
            }),
            Err(error) => Halt::from(error),
        }
    }

    async fn newest_replays_beyond(&self, takeover: u64, manifests: &[u64]) -> Result<bool, Halt> {
        let Some(newest) = manifests.last() else {
            return Ok(false);
        };
        match self.read_manifest(*newest).await? {
            Some((manifest, _)) => Ok(manifest.replay_from() > takeover),
            // Collected between listing and reading: there is a newer one.
            None => Ok(true),
        }
    }

    /// What a missing object means: that a newer snapshot made it unnecessary while we read, or that it is lost.
    pub(crate) async fn missing(&self, newest: Option<u64>, key: String, reason: &str) -> Halt {
        match self.manifests().await {
            Err(error) => Halt::Error(error),
            Ok(manifests) if manifests.last().copied() > newest => Halt::Anew,
            Ok(_) => Halt::Error(LogError::Missing {
                key,
                reason: reason.to_owned(),
            }),
        }
    }

    /// Applies the log tail over the images, and returns which buckets it changed.
    pub(crate) fn replay(
        &self,
        manifest: Option<&Manifest>,
        tail: &Tail,
        image_bytes: u64,
        fold: &mut impl Fold,
    ) -> Result<Vec<bool>, LogError> {
        let buckets = self.place.identity.buckets;
        let mut dirty = vec![false; usize::from(buckets) + 1];
        let imaged: Vec<u64> = match manifest {
            Some(manifest) => manifest.buckets.iter().map(|at| at.number).collect(),
            None => vec![0; dirty.len()],
        };
        let mut done = image_bytes;
        for (record, bytes) in &tail.valid {
            let number = record.header.number;
            if record.header.kind == crate::record::Kind::Delta {
                let entries = record
                    .entries(buckets)
                    .map_err(|defect| LogError::damaged(&self.layout.log(number), defect))?;
                for entry in entries.iter() {
                    let bucket = usize::from(entry.bucket);
                    if number > imaged[bucket] {
                        dirty[bucket] = true;
                        fold.apply(entry);
                    }
                }
            }
            done += bytes;
            fold.progress(done, image_bytes + tail.bytes);
        }
        Ok(dirty)
    }
}

impl Ownership {
    pub(crate) fn start_of_epoch(&self) -> Start {
        Start {
            owner: self.owner,
            takeover: self.takeover,
            committed_at_ms: self.committed_at_ms,
        }
    }
}

impl std::fmt::Debug for Ownership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ownership")
            .field("owner", &self.owner)
            .field("takeover", &self.takeover)
            .field("committed_at_ms", &self.committed_at_ms)
            .field("clean", &self.clean)
            .field("recovery", &self.recovery)
            .finish_non_exhaustive()
    }
}
