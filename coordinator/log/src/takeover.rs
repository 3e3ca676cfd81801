//! Taking over a partition: claim an epoch, read the durable content, write the takeover record,
//! check again.
//!
//! ```text
//!  1, all at once       2                     3                  4
//!  application ──────┐
//!  list epochs ──────┼─► create epochs/<e> ──────────────────┐
//!  list manifests ───┼─► newest manifest ─┬─► its log tail ──┼─► create log/<T>, a takeover
//!  list copies ──────┴─► list the log ────┴─► its wide image ┘         │
//!       ▲                                                              │ only after a long time:
//!       └─────────── restart: T was collected, or the snapshot moved ◄─┴─ list manifests again
//! ```
//!
//! The claim is durable before the takeover record is written: a former owner that wakes up after
//! the log was collected must find it.
//!
//! Collection can make holes in a log while it is read, and a late takeover record of another
//! process that slept, in such a hole, makes everything after it look void. A log whose reading
//! took almost the grace period is therefore read anew. Before each takeover record that it writes,
//! a process that is slow reads the claim of the next epoch, so that none lands among the commits
//! of its successor.
//!
//! A takeover record written into a hole that collection left is not a takeover. Collection deletes
//! nothing before the grace period has passed since a condemnation, and a condemnation that deletes
//! T is newer than the listing of the manifests. A takeover that takes longer than the window,
//! which is at most a sixth of the grace period, therefore lists the manifests again. A shorter one
//! need not, nor must it read the claim of the next epoch, which the first commit does.
//!
//! A planned takeover is shorter: the content is read while the former owner still writes
//! ([`read_ahead`]), and afterwards only the rest of the log ([`take_over_from`]).

use std::sync::Arc;

use futures::future::{join, try_join3};

use crate::application::{Application, Identity};
use crate::clock::{Clock, Now};
use crate::epoch::Claim;
use crate::error::LogError;
use crate::fold::Fold;
use crate::io::{Io, OnStoreFailure, Put, Retry};
use crate::keys::{Layout, number_in};
use crate::loading::{Offload, inline};
use crate::manifest::Manifest;
use crate::options::Options;
use crate::owner::{Nonce, Owner};
use crate::reader::tail::Tail;
use crate::reader::{Effective, Halt, Listing, PartitionReader};
use crate::record::Unnumbered;
use crate::snapshotter::Base;
use crate::store::ObjectStore;
use crate::writer::Start;

mod ahead;

pub use ahead::{ReadAhead, read_ahead, take_over_from};

/// A process that wants to own a partition of a root.
#[derive(Clone)]
pub struct Contender {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// Prefix of the root in the store.
    pub root: String,
    /// The application that the root must belong to, and the partition of it.
    pub identity: Identity,
    /// 16 random bytes of this process.
    pub nonce: Nonce,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Settings of the log.
    pub options: Options,
    /// Called for each failed request that will be retried.
    pub on_store_failure: OnStoreFailure,
}

/// A partition that this process owns until another process takes it over. [`Ownership::start`]
/// begins to write.
pub struct Ownership {
    /// The epoch and the nonce.
    pub owner: Owner,
    /// Number of the takeover record.
    pub takeover: u64,
    /// Time of the takeover record in milliseconds since 1970. Partition time continues from it.
    pub committed_at_ms: u64,
    /// True if the former owner stopped cleanly, or if there was none.
    pub clean: bool,
    /// Facts about the recovery.
    pub recovery: Recovery,
    pub(crate) contender: Contender,
    pub(crate) layout: Layout,
    pub(crate) base: Base,
}

/// Facts about the content that a takeover read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The manifest in effect, if there was one.
    pub manifest: Option<u64>,
    /// Bytes of images.
    pub image_bytes: u64,
    /// Number of log records replayed.
    pub replayed: u64,
    /// Number of void log objects.
    pub void: u64,
    /// Bytes of the log tail.
    pub log_bytes: u64,
    /// Number of objects in which the log tail was read.
    pub log_reads: u64,
    /// Number of restarts of the takeover.
    pub restarts: u32,
}

/// Takes the partition over and hands everything durable to `fold`. Creates the root if there is
/// none. Everything runs where the future is polled.
///
/// # Errors
/// [`LogError`] names the object that is damaged, missing or of another application; or reports
/// that another owner came, or that the store does not answer. The content of `fold` is then
/// useless.
pub async fn take_over(contender: Contender, fold: &mut impl Fold) -> Result<Ownership, LogError> {
    take_over_with(contender, fold, inline()).await
}

/// Like [`take_over`], but hands long computations to `offload`. The log is then unpacked on other
/// threads while `fold` receives what was unpacked before, always in the order of the log.
///
/// # Errors
/// Those of [`take_over`], and [`LogError::Misuse`] if `offload` drops work.
pub async fn take_over_with(
    contender: Contender,
    fold: &mut impl Fold,
    offload: Offload,
) -> Result<Ownership, LogError> {
    Takeover::new(contender, offload)?.run(None, fold).await
}

/// A takeover in progress.
struct Takeover {
    contender: Contender,
    reader: PartitionReader,
}

/// Content that a takeover has read.
struct Read {
    /// Time at which the manifests were listed, or just before.
    begun: Now,
    listing: Listing,
    manifest: Option<Manifest>,
    /// The log over the manifest. Its valid records are not applied yet.
    tail: Tail,
    image_bytes: u64,
    /// Number of records that were applied.
    replayed: u64,
    /// True for each bucket that they changed beyond its image; empty before the first of them.
    dirty: Vec<bool>,
}

impl Takeover {
    fn new(contender: Contender, offload: Offload) -> Result<Self, LogError> {
        contender.identity.validate()?;
        contender.options.validate()?;
        Ok(Self {
            reader: PartitionReader {
                layout: Layout::new(&contender.root, contender.identity.partition),
                io: Io {
                    store: contender.store.clone(),
                    clock: contender.clock.clone(),
                    retry: Retry {
                        give_up_ms: contender.options.takeover_give_up_ms,
                        ..contender.options.retry
                    },
                    on_store_failure: contender.on_store_failure.clone(),
                },
                identity: contender.identity.clone(),
                parallel_reads: contender.options.parallel_reads,
                offload,
            },
            contender,
        })
    }

    /// Attempts the takeover until it succeeds or cannot. The first attempt continues from `ahead`.
    async fn run(
        &self,
        mut ahead: Option<ReadAhead>,
        fold: &mut impl Fold,
    ) -> Result<Ownership, LogError> {
        let mut restarts = 0;
        loop {
            let attempted = match ahead.take() {
                Some(ahead) => self.continue_from(ahead, fold).await,
                None => self.attempt(fold).await,
            };
            match attempted {
                Ok(mut ownership) => {
                    ownership.recovery.restarts = restarts;
                    return Ok(ownership);
                }
                Err(Halt::Error(error)) => return Err(error),
                Err(Halt::Restart) => {
                    fold.clear();
                    restarts += 1;
                    self.reader.pause_before(restarts).await?;
                }
            }
        }
    }

    /// Creates the record of the root, or rejects a root of another application.
    async fn admit(&self) -> Result<(), LogError> {
        let key = self.reader.layout.application();
        let identity = &self.contender.identity;
        let log = self.contender.store.table_location();
        let found = match self.reader.io.get_record(key).await? {
            Some(found) => found,
            None => {
                self.check_new().await?;
                let mine = Application::new(identity, log).encode();
                match self.reader.io.put(key, &mine).await? {
                    Put::Mine => mine,
                    Put::Other(found) => found,
                    Put::Gone => {
                        return Err(LogError::Missing {
                            key: key.to_owned(),
                            reason: "it existed a moment ago and is never deleted".to_owned(),
                        });
                    }
                }
            }
        };
        Application::decode(&found)
            .map_err(|defect| LogError::damaged(key, defect))?
            .admit(key, identity, log)
    }

    /// Rejects a root that lost its record: its partitions belong to an application, which need not
    /// be this one.
    async fn check_new(&self) -> Result<(), LogError> {
        let key = self.reader.layout.application();
        let partitions = self.reader.layout.partitions_prefix();
        let page = self.reader.io.list_page(&partitions, None).await?;
        let Some(object) = page.first() else {
            return Ok(());
        };
        // Another process may have created the root in the meantime, record first.
        if self.reader.io.get_record(key).await?.is_some() {
            return Ok(());
        }
        Err(LogError::Missing {
            key: key.to_owned(),
            reason: format!(
                "{} shows that an application uses this root, and nothing else says which; \
                 restore the record from a copy of the root, or use another root",
                object.key
            ),
        })
    }

    async fn attempt(&self, fold: &mut impl Fold) -> Result<Ownership, Halt> {
        let begun = self.reader.io.clock.now();
        let (_, highest, listing) =
            try_join3(self.admit(), self.highest_epoch(), self.reader.list()).await?;
        let reading = self.read(begun, listing, fold);
        let (owner, read) = join(self.claim(highest), reading).await;
        self.complete(owner?, read?, fold).await
    }

    /// Reads the manifest in effect and the log over it, and applies the images.
    async fn read(&self, begun: Now, listing: Listing, fold: &mut impl Fold) -> Result<Read, Halt> {
        let found = self.reader.effective(&listing, true).await?;
        let Effective {
            manifest,
            tail,
            prefetched,
        } = found;
        self.check_log_read_since(&begun)?;
        let image_bytes = match &manifest {
            Some(manifest) => {
                let newest = listing.manifests.last().copied();
                self.reader
                    .load(manifest, tail.bytes, newest, prefetched, fold)
                    .await?
            }
            None => 0,
        };
        Ok(Read {
            begun,
            listing,
            manifest,
            tail,
            image_bytes,
            replayed: 0,
            dirty: Vec::new(),
        })
    }

    /// Writes the takeover record after everything that was read, and applies the rest of it.
    async fn complete(
        &self,
        owner: Owner,
        mut read: Read,
        fold: &mut impl Fold,
    ) -> Result<Ownership, Halt> {
        let begun = read.begun;
        let (takeover, committed_at_ms) =
            self.write_takeover(owner, &begun, &mut read.tail).await?;
        // A snapshot took effect during the takeover. Its objects may be deleted while this epoch
        // builds on the older one.
        let effect = read.tail.effect().map(|effect| effect.manifest);
        if effect != read.manifest.as_ref().map(|manifest| manifest.number) {
            return Err(Halt::Restart);
        }
        let took_ms = self.reader.io.clock.now().elapsed_at_most_ms(&begun);
        if took_ms >= self.contender.options.window_ms {
            read.listing.manifests = self.check_again(&owner, takeover).await?;
        }
        self.apply(&mut read, fold).await?;
        let Read {
            listing,
            manifest,
            mut tail,
            image_bytes,
            replayed,
            dirty,
            ..
        } = read;
        Ok(Ownership {
            owner,
            takeover,
            committed_at_ms,
            clean: tail.clean,
            recovery: Recovery {
                manifest: manifest.as_ref().map(|manifest| manifest.number),
                image_bytes,
                replayed,
                void: tail.void,
                log_bytes: tail.bytes,
                log_reads: tail.reads,
                restarts: 0,
            },
            contender: self.contender.clone(),
            layout: self.reader.layout.clone(),
            base: Base {
                dirty,
                log_bytes: tail.bytes,
                log_reads: tail.reads,
                manifests: listing.manifests,
                condemned: tail.take_condemned(manifest.as_ref()),
                manifest,
            },
        })
    }

    /// Checks that the takeover record was not written into a hole that collection left, and that
    /// no other process has claimed the next epoch. Returns the manifests that exist now.
    async fn check_again(&self, owner: &Owner, takeover: u64) -> Result<Vec<u64>, Halt> {
        let manifests = self.reader.manifests().await?;
        if self.newest_replays_beyond(takeover, &manifests).await? {
            return Err(Halt::Restart);
        }
        self.check_next_epoch(owner).await?;
        Ok(manifests)
    }

    /// Checks that no other process has claimed the next epoch.
    async fn check_next_epoch(&self, owner: &Owner) -> Result<(), Halt> {
        let next = self.reader.layout.epoch(owner.epoch + 1);
        if self.reader.io.get(&next).await?.is_some() {
            return Err(Halt::Error(LogError::Fenced {
                epoch: owner.epoch,
                reason: format!("{next} was claimed during the takeover"),
            }));
        }
        Ok(())
    }

    /// Checks that nothing that was read of the log since `begun`, when the manifests were listed,
    /// can have been collected meanwhile.
    fn check_log_read_since(&self, begun: &Now) -> Result<(), Halt> {
        let took_ms = self.reader.io.clock.now().elapsed_at_most_ms(begun);
        if took_ms > self.contender.options.grace_ms - self.contender.options.window_ms {
            return Err(Halt::Restart);
        }
        Ok(())
    }

    /// Returns the highest claimed epoch, or 0.
    async fn highest_epoch(&self) -> Result<u64, LogError> {
        let prefix = self.reader.layout.epochs_prefix();
        let claimed = self.reader.io.list(&prefix, None).await?;
        let epochs = claimed.iter();
        let epochs = epochs.filter_map(|object| number_in(&object.key, &prefix));
        Ok(epochs.max().unwrap_or(0))
    }

    /// Claims the first unclaimed epoch after `highest`, which is computed again after every
    /// refusal. Epochs are claimed without gaps, so that an owner that sees the next one unclaimed
    /// knows that no later one is claimed.
    async fn claim(&self, mut highest: u64) -> Result<Owner, LogError> {
        loop {
            let owner = Owner {
                epoch: highest + 1,
                nonce: self.contender.nonce,
            };
            let claim = Claim {
                partition: self.contender.identity.partition,
                owner,
                claimed_at_ms: self.reader.io.clock.now().wall_ms,
            };
            let key = self.reader.layout.epoch(owner.epoch);
            match self.reader.io.put(&key, &claim.encode()).await? {
                Put::Mine => return Ok(owner),
                Put::Other(found) => {
                    // A claim by another process is normal; an operator must see a damaged one.
                    Claim::decode(&found).map_err(|defect| LogError::damaged(&key, defect))?;
                }
                Put::Gone => {
                    let reason = "it existed a moment ago and is never deleted".to_owned();
                    return Err(LogError::Missing { key, reason });
                }
            }
            highest = self.highest_epoch().await?;
        }
    }

    /// Writes the takeover record at the first free number, after reading the records that others
    /// wrote before it.
    async fn write_takeover(
        &self,
        owner: Owner,
        begun: &Now,
        tail: &mut Tail,
    ) -> Result<(u64, u64), Halt> {
        loop {
            if tail.in_force.epoch >= owner.epoch {
                return Err(self.outrun(owner, tail).await);
            }
            let took_ms = self.reader.io.clock.now().elapsed_at_most_ms(begun);
            if took_ms >= self.contender.options.window_ms {
                self.check_next_epoch(&owner).await?;
            }
            let number = tail.end;
            let time = tail.committed_at_ms.max(self.reader.io.clock.now().wall_ms);
            let key = self.reader.layout.log(number);
            let object =
                Unnumbered::takeover(time).seal(self.contender.identity.partition, &owner, number);
            match self.reader.io.put(&key, &object).await? {
                Put::Mine => return Ok((number, time)),
                Put::Other(found) => {
                    self.check_log_read_since(begun)?;
                    tail.push(&key, &found, self.contender.identity.partition)?;
                }
                Put::Gone => return Err(Halt::Restart),
            }
        }
    }

    /// Explains a log whose epoch is not below that of `owner`: another takeover, whose claim must
    /// exist.
    async fn outrun(&self, owner: Owner, tail: &Tail) -> Halt {
        let key = self.reader.layout.epoch(tail.in_force.epoch);
        if tail.in_force.epoch == owner.epoch {
            return Halt::Error(LogError::Unexpected {
                key,
                reason: "this process claimed it, but the log holds a takeover of it".to_owned(),
            });
        }
        match self.reader.io.get(&key).await {
            Ok(Some(_)) => Halt::Restart,
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
        match self.reader.read_manifest(*newest).await? {
            Some((manifest, _)) => Ok(manifest.replay_from() > takeover),
            // It was collected between listing and reading, so there is a newer one.
            None => Ok(true),
        }
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
