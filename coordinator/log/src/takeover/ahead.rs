//! Reading of a partition before its takeover, while its owner still writes.
//!
//! ```text
//!  another owner:  ── commits ── commits ── last commit │
//!  this process:   read manifest, tail, fold            │ claim ──┐
//!                                                       │ rest of the tail ─► takeover record
//! ```
//!
//! Nothing is decided from what was read ahead. The takeover record is created at the first free
//! number after everything that was read, so that nothing can have been missed: a log has no holes
//! before its end, except those of collection. Collection deletes nothing before the grace period
//! has passed since a condemnation, and a condemnation that was durable before the manifests were
//! listed is that of a manifest that was listed. So what was read ahead is good for as long as what
//! any takeover read, counted from its own beginning: [`Takeover::complete`] makes the same checks.
//! If a snapshot took effect since, everything is read anew, because the next snapshot would build
//! on images that may be deleted.

use futures::StreamExt;
use futures::future::{join, try_join3};
use futures::stream;

use super::{Contender, Ownership, Read, Takeover};
use crate::application::Application;
use crate::error::LogError;
use crate::fold::Fold;
use crate::keys::number_in;
use crate::loading::Offload;
use crate::reader::Halt;
use crate::reader::tail::Guide;

/// Number of log objects that are read beside the listing of the log, in case they exist: commits
/// of the former owner between the reading ahead and its end.
const GUESSED: u64 = 8;

/// Content of a partition that a process read while another one owned it. The fold that received
/// the content belongs to it.
pub struct ReadAhead {
    /// Highest epoch that was claimed.
    highest: u64,
    read: Read,
}

impl ReadAhead {
    /// Number of the first log record that was not read.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.read.tail.end
    }

    /// Number of log records that were applied.
    #[must_use]
    pub fn replayed(&self) -> u64 {
        self.read.replayed
    }
}

impl std::fmt::Debug for ReadAhead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadAhead")
            .field("highest", &self.highest)
            .field("end", &self.end())
            .finish_non_exhaustive()
    }
}

/// Reads a partition, which another process may own, and hands everything durable to `fold`. Writes
/// nothing. [`take_over_from`] continues from it.
///
/// # Errors
/// Those of [`super::take_over`], and [`LogError::Missing`] if there is no such root.
pub async fn read_ahead(
    contender: &Contender,
    fold: &mut impl Fold,
    offload: Offload,
) -> Result<ReadAhead, LogError> {
    let takeover = Takeover::new(contender.clone(), offload)?;
    let mut restarts = 0;
    loop {
        match takeover.read_ahead(fold).await {
            Ok(ahead) => return Ok(ahead),
            Err(Halt::Error(error)) => return Err(error),
            Err(Halt::Restart) => {
                fold.clear();
                restarts += 1;
                takeover.reader.pause_before(restarts).await?;
            }
        }
    }
}

/// Takes the partition over like [`super::take_over_with`], and reads only what is durable since
/// `ahead`. `fold` is the one that received what was read ahead. If that is no longer good, it is
/// cleared, and everything is read anew.
///
/// # Errors
/// Those of [`super::take_over_with`].
pub async fn take_over_from(
    ahead: ReadAhead,
    contender: Contender,
    fold: &mut impl Fold,
    offload: Offload,
) -> Result<Ownership, LogError> {
    Takeover::new(contender, offload)?
        .run(Some(ahead), fold)
        .await
}

impl Takeover {
    async fn read_ahead(&self, fold: &mut impl Fold) -> Result<ReadAhead, Halt> {
        let begun = self.reader.io.clock.now();
        let ((), highest, listing) = try_join3(
            self.admit_existing(),
            self.highest_epoch(),
            self.reader.list(),
        )
        .await?;
        let mut read = self.read(begun, listing, fold).await?;
        self.apply(&mut read, fold).await?;
        Ok(ReadAhead { highest, read })
    }

    /// Rejects a root that does not exist, or is of another application.
    async fn admit_existing(&self) -> Result<(), LogError> {
        let key = self.reader.layout.application();
        let Some(found) = self.reader.io.get_record(key).await? else {
            return Err(LogError::Missing {
                key: key.to_owned(),
                reason: "another process should own a partition of the root".to_owned(),
            });
        };
        let log = self.contender.store.table_location();
        Application::decode(&found)
            .map_err(|defect| LogError::damaged(key, defect))?
            .admit(key, &self.contender.identity, log)
    }

    /// Takes over after `ahead`.
    pub(super) async fn continue_from(
        &self,
        ahead: ReadAhead,
        fold: &mut impl Fold,
    ) -> Result<Ownership, Halt> {
        let ReadAhead { highest, read } = ahead;
        let (owner, read) = join(self.claim(highest), self.catch_up(read)).await;
        self.complete(owner?, read?, fold).await
    }

    /// Reads the rest of the log. It is not applied yet.
    async fn catch_up(&self, mut read: Read) -> Result<Read, Halt> {
        let caught_up = self.read_rest(&mut read).await;
        match caught_up {
            // Collected in the meantime, or lost: the second attempt tells.
            Err(Halt::Error(LogError::Missing { .. })) => return Err(Halt::Restart),
            caught_up => caught_up?,
        }
        self.check_log_read_since(&read.begun)?;
        Ok(read)
    }

    async fn read_rest(&self, Read { tail, listing, .. }: &mut Read) -> Result<(), Halt> {
        let reader = &self.reader;
        let newest = listing.manifests.last().copied();
        let mut guide = Guide::of(newest);
        let from = tail.end;
        if reader.io.store.table_location().is_some() {
            // A store that reads objects at once needs no listing of them.
            return reader.extend(tail, guide, &|_| false).await;
        }
        let (prefix, after) = (reader.layout.log_prefix(), reader.layout.log(from - 1));
        let listed = reader.io.list_page(&prefix, Some(&after));
        let guessed = stream::iter(from..from + GUESSED)
            .map(async |number| reader.io.get(&reader.layout.log(number)).await)
            .buffered(GUESSED as usize)
            .collect::<Vec<_>>();
        let (page, guessed) = join(listed, guessed).await;
        let page = page?;
        for object in guessed {
            let Some(object) = object? else {
                break;
            };
            tail.reads += 1;
            let key = reader.layout.log(tail.end);
            tail.push(&key, &object, reader.identity.partition)?;
        }
        let listed_last = page.last();
        let last = listed_last.and_then(|object| number_in(&object.key, &prefix));
        if last.is_none_or(|last| last < tail.end) {
            return Ok(());
        }
        guide.listed = Some((from - 1, &page));
        reader.extend(tail, guide, &|_| false).await
    }

    /// Applies the records of the tail that are not applied yet.
    pub(super) async fn apply(&self, read: &mut Read, fold: &mut impl Fold) -> Result<(), Halt> {
        let records = std::mem::take(&mut read.tail.valid);
        read.replayed += records.len() as u64;
        let dirty = self
            .reader
            .replay(
                read.manifest.as_ref(),
                records,
                read.image_bytes,
                read.tail.bytes,
                fold,
            )
            .await?;
        match read.dirty.is_empty() {
            true => read.dirty = dirty,
            false => {
                let both = read.dirty.iter_mut().zip(dirty);
                both.for_each(|(known, dirty)| *known |= dirty);
            }
        }
        Ok(())
    }
}
