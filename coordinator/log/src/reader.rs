//! Reading a partition: its manifests, its log tail, its images. Takeovers, reads of the history
//! and savepoints share this code.

use futures::future::{join, try_join};

use crate::application::Identity;
use crate::condensed::CondensedName;
use crate::error::LogError;
use crate::io::{Io, Retry};
use crate::keys::{Layout, condensed_in, number_in};
use crate::loading::Offload;
use crate::manifest::Manifest;
use crate::owner::Owner;
use crate::reader::images::Prefetched;
use crate::reader::tail::{Guide, Tail};

mod buckets;
mod images;
mod replay;
pub(crate) mod tail;

/// Maximum number of restarts of a takeover, a read or the creation of a savepoint.
const RESTARTS_MAX: u32 = 100;

/// Number of log objects before a manifest's number that the first listing of the log includes. The
/// replay of almost every manifest begins there: at the last delta before the snapshot.
const BEFORE_MANIFEST: u64 = 16;

/// Reads one partition of a root.
pub(crate) struct PartitionReader {
    pub(crate) layout: Layout,
    pub(crate) io: Io,
    pub(crate) identity: Identity,
    /// Maximum number of objects that are read at once.
    pub(crate) parallel_reads: usize,
    /// Runs the unpacking of the log tail.
    pub(crate) offload: Offload,
}

/// Names found in the store before anything was read.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Numbers of all manifests, ascending.
    pub(crate) manifests: Vec<u64>,
    /// The newest copies of log objects.
    pub(crate) copies: Vec<CondensedName>,
}

/// A manifest in effect, and what lies over it.
pub(crate) struct Effective {
    /// The manifest; `None` if there is none yet.
    pub(crate) manifest: Option<Manifest>,
    /// The log from its replay start on.
    pub(crate) tail: Tail,
    /// The image of the partition-wide bucket, if it was requested.
    pub(crate) prefetched: Option<Prefetched>,
}

/// Reason an attempt ended.
pub(crate) enum Halt {
    /// The content read is no longer the newest: restart.
    Restart,
    /// A permanent error.
    Error(LogError),
}

impl<E: Into<LogError>> From<E> for Halt {
    fn from(error: E) -> Self {
        Halt::Error(error.into())
    }
}

impl PartitionReader {
    /// Waits before a restart. One or two restarts are normal where owners change. More mean that
    /// another process keeps competing.
    pub(crate) async fn pause_before(&self, restart: u32) -> Result<(), LogError> {
        if restart > RESTARTS_MAX {
            return Err(LogError::Unexpected {
                key: self.layout.partition_prefix().to_owned(),
                reason: format!("newer changes overtook each of {RESTARTS_MAX} attempts"),
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

    /// Lists the numbers of all manifests, ascending.
    pub(crate) async fn manifests(&self) -> Result<Vec<u64>, LogError> {
        let prefix = self.layout.manifests_prefix();
        let found = self.io.list(&prefix, None).await?;
        Ok(found
            .iter()
            .filter_map(|object| number_in(&object.key, &prefix))
            .collect())
    }

    /// Lists the manifests, and the newest copies of log objects.
    pub(crate) async fn list(&self) -> Result<Listing, LogError> {
        let prefix = self.layout.condensed_prefix();
        let copies = async {
            let page = self.io.list_page(&prefix, None).await?;
            let names = page.iter();
            let names = names.filter_map(|object| condensed_in(&object.key, &prefix));
            Ok(names.collect())
        };
        let (manifests, copies) = try_join(self.manifests(), copies).await?;
        Ok(Listing { manifests, copies })
    }

    /// Returns the newest manifest that a committed record put in effect, with the log from its
    /// replay start on. A manifest that was published without taking effect is an orphan of its
    /// writer. With `prefetch`, the image of the partition-wide bucket is read beside the log.
    pub(crate) async fn effective(
        &self,
        listing: &Listing,
        prefetch: bool,
    ) -> Result<Effective, Halt> {
        let manifests = &listing.manifests;
        match self.effective_now(listing, prefetch).await {
            // The log before an orphan can vanish: if the orphan takes effect while this read lasts
            // longer than the grace period, the log that it makes obsolete is collected.
            Err(Halt::Error(LogError::Missing { .. })) if self.is_effective(manifests).await? => {
                Err(Halt::Restart)
            }
            found => found,
        }
    }

    /// Returns true if the newest manifest is in effect.
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
            Guide::of(Some(newest)),
            &|_| false,
        );
        let effect = tail.await?.effect();
        Ok(effect.is_some_and(|effect| effect.manifest >= newest))
    }

    async fn effective_now(
        &self,
        Listing { manifests, copies }: &Listing,
        prefetch: bool,
    ) -> Result<Effective, Halt> {
        let newest = manifests.last().copied();
        let copied = copies.iter().map(|copy| copy.last).max().unwrap_or(0);
        for number in manifests.iter().rev() {
            let after = number.saturating_sub(BEFORE_MANIFEST).max(copied);
            let (prefix, key) = (self.layout.log_prefix(), self.layout.log(after));
            // A store that reads objects at once needs no listing of them.
            let listed = async {
                match self.io.store.table_location() {
                    Some(_) => Ok(Vec::new()),
                    None => Ok(self.io.list_page(&prefix, Some(&key)).await?),
                }
            };
            let (read, page) = try_join(self.read_manifest(*number), listed).await?;
            let Some((manifest, sum)) = read else {
                let key = self.layout.manifest(*number);
                return Err(self.missing(newest, key, "it was listed").await);
            };
            let guide = Guide {
                newest,
                copies,
                listed: Some((after, &page)),
            };
            let tail = self.read_tail(manifest.replay_from(), manifest.before, guide, &|_| false);
            let (tail, prefetched) = match prefetch {
                true => join(tail, self.prefetch(&manifest)).await,
                false => (tail.await, None),
            };
            let tail = tail?;
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
                Some(_) => {
                    return Ok(Effective {
                        manifest: Some(manifest),
                        tail,
                        prefetched,
                    });
                }
            }
        }
        let guide = Guide {
            newest,
            copies,
            listed: None,
        };
        let tail = self
            .read_tail(1, Owner::default(), guide, &|_| false)
            .await?;
        if let Some(effect) = tail.effect() {
            return Err(self.overtaken(newest, effect.manifest).await);
        }
        Ok(Effective {
            manifest: None,
            tail,
            prefetched: None,
        })
    }

    /// Explains a log that puts a newer manifest in effect than the one at hand: the manifest took
    /// effect during the read, or it is lost.
    async fn overtaken(&self, newest: Option<u64>, manifest: u64) -> Halt {
        let key = self.layout.manifest(manifest);
        match self.io.get(&key).await {
            Ok(Some(_)) => Halt::Restart,
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
        let identity = &self.identity;
        let manifest = Manifest::decode(&object, identity.partition, number, identity.buckets)
            .map_err(|defect| LogError::damaged(&key, defect))?;
        Ok(Some((manifest, crate::codec::checksum(&object))))
    }

    /// Explains a missing object: a newer snapshot made it obsolete during the read, or it is lost.
    pub(crate) async fn missing(&self, newest: Option<u64>, key: String, reason: &str) -> Halt {
        match self.manifests().await {
            Err(error) => Halt::Error(error),
            Ok(manifests) if manifests.last().copied() > newest => Halt::Restart,
            Ok(_) => Halt::Error(LogError::Missing {
                key,
                reason: reason.to_owned(),
            }),
        }
    }
}
