//! Reads and changes of the roster.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use satchel_aws::lease::{MemberItem, Roster, RosterMember, TableError};

use super::{FORGOTTEN, Membership, Seen};
use crate::clock::boot_ms;
use crate::error::{Exit, Failure};
use crate::peer::poke;

/// Pause before a change whose outcome is unknown is looked at.
const PAUSE: Duration = Duration::from_millis(100);

impl Membership<'_> {
    /// Reads the roster and the counters of its processes. Returns false if the table does not
    /// answer.
    pub(super) async fn read(&mut self) -> Result<bool, Failure> {
        // The counters of the processes that are known, beside the roster.
        let known = self.roster.iter().flat_map(|(roster, _)| &roster.members);
        let known = join_all(known.map(|member| self.read_counter(member)));
        let read = self.items.table.read_roster(&self.items.prefix);
        let (read, mut counters) = tokio::join!(read, known);
        let roster = match read {
            Ok(roster) => roster,
            Err(error) => return self.table_failed(&error).map(|()| false),
        };
        if std::mem::take(&mut self.is_table_silent) {
            tracing::info!("lease table reachable again");
        }
        // The first process makes it, and any process makes it again if it was deleted.
        let (roster, version) = roster.unwrap_or_else(|| (Roster::new(self.host.partitions()), 0));
        let is_ours = roster.check(self.host.partitions());
        is_ours.map_err(|error| {
            Failure::caused(Exit::Damaged, "the roster in the lease table", error)
        })?;
        let is_read = |id: &Arc<str>| counters.iter().any(|(read, _)| read == id);
        let members = roster.members.iter();
        let others = members.filter(|member| !is_read(&member.id));
        let others = join_all(others.map(|member| self.read_counter(member))).await;
        counters.extend(others);
        self.forgive_after_a_gap();
        for (id, read) in counters {
            let Ok(Some(item)) = read else {
                // A counter that cannot be read stands still.
                continue;
            };
            let is_other = *id != *self.me.id;
            let congested = item.congested && !item.left && is_other;
            let seen = self.counters.entry(id).or_insert(Seen {
                counter: item.counter,
                since_ms: boot_ms(),
                congested,
            });
            seen.congested = congested;
            if seen.counter != item.counter {
                seen.counter = item.counter;
                seen.since_ms = boot_ms();
            }
        }
        let is_listed = |id: &Arc<str>| roster.member(id).is_some();
        self.counters.retain(|id, _| is_listed(id));
        let congested = self.counters.values();
        let mut congested = congested.filter(|seen| self.is_alive(seen));
        let congested = congested.any(|seen| seen.congested);
        if let Some(switch) = self.host.switch() {
            switch.set_congested_elsewhere(congested);
        }
        self.roster = Some((roster, version));
        Ok(true)
    }

    /// Reads the item of a process, which its counter is in.
    async fn read_counter(
        &self,
        member: &RosterMember,
    ) -> (Arc<str>, Result<Option<MemberItem>, TableError>) {
        let (table, prefix) = (&self.items.table, &self.items.prefix);
        let read = table.read_member(prefix, &member.peer.key).await;
        (Arc::clone(&member.id), read)
    }

    /// Forgets how long counters stood still if the last read is long ago: the table may have been
    /// unreachable for all, or this process slept.
    fn forgive_after_a_gap(&mut self) {
        let now_ms = boot_ms();
        let gap_max = (self.config.lease_time / 2).max(2 * self.interval());
        let before_ms = self.read_ms.replace(now_ms);
        let gap_ms = before_ms.map_or(0, |before_ms| now_ms.saturating_sub(before_ms));
        if u128::from(gap_ms) > gap_max.as_millis() {
            for seen in self.counters.values_mut() {
                seen.since_ms = now_ms;
            }
        }
    }

    /// Returns true if the counter of a process moved within the lease time.
    pub(super) fn is_alive(&self, seen: &Seen) -> bool {
        let silent_ms = boot_ms().saturating_sub(seen.since_ms);
        u128::from(silent_ms) < self.config.lease_time.as_millis()
    }

    /// Partitions that run here, and of which the roster knows no owner: it was deleted and made
    /// again.
    pub(super) fn unlisted(&self, roster: &Roster) -> impl Iterator<Item = u32> {
        let lives = self.lives.keys().copied();
        let unlisted = lives.filter(|number| {
            let item = roster.partitions.get(*number as usize);
            item.is_some_and(|item| item.owner.is_none())
        });
        unlisted.collect::<Vec<_>>().into_iter()
    }

    /// Waits until no process owns the whole application by the lease of old: one without a peer
    /// port, or of former software. Returns false if this process is to stop before.
    pub(super) async fn is_sole_owner_gone(
        &mut self,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<bool, Failure> {
        let mut observed: Option<((String, u64, u64), u64)> = None;
        let mut is_reported = false;
        loop {
            let (roster, lease) = tokio::join!(
                self.items.table.read_roster(&self.items.prefix),
                self.items.table.read(),
            );
            // A roster without members says only that there were some once.
            let has_members =
                roster.map(|roster| roster.is_some_and(|(roster, _)| !roster.members.is_empty()));
            match (has_members, lease) {
                (Ok(true), _) | (Ok(false), Ok(None)) => return Ok(true),
                (Ok(false), Ok(Some(lease))) if lease.released => return Ok(true),
                (Ok(false), Ok(Some(lease))) => {
                    let limit_ms = (self.config.lease_time.as_millis() as u64).max(lease.lease_ms);
                    let seen = (lease.owner, lease.epoch, lease.counter);
                    match &observed {
                        Some((known, since_ms)) if *known == seen => {
                            if boot_ms().saturating_sub(*since_ms) >= limit_ms {
                                return Ok(true);
                            }
                        }
                        _ => observed = Some((seen, boot_ms())),
                    }
                    if !std::mem::replace(&mut is_reported, true) {
                        tracing::info!("another process owns all partitions; waiting for its end");
                    }
                }
                (Err(error), _) | (_, Err(error)) => {
                    self.table_failed(&error)?;
                    observed = None;
                }
            }
            tokio::select! {
                () = &mut shutdown => return Ok(false),
                () = tokio::time::sleep(self.interval()) => {}
            }
        }
    }

    /// Handles a failure of the table. The process keeps what it has.
    fn table_failed(&mut self, error: &TableError) -> Result<(), Failure> {
        if matches!(error, TableError::Refused { .. }) && self.roster.is_none() {
            let text = format!("--lease-table: {error}");
            return Err(Failure::new(Exit::Environment, text));
        }
        if !std::mem::replace(&mut self.is_table_silent, true) {
            tracing::warn!(
                %error,
                "lease table unreachable; partitions stay where they are"
            );
        }
        Ok(())
    }

    /// Processes to remove, because their counters stood still for a long time. A process that
    /// lives joins again.
    pub(super) fn silent(&self, now_ms: u64, roster: &Roster) -> Vec<Arc<str>> {
        let (lease_times, least) = FORGOTTEN;
        let limit = (self.config.lease_time * lease_times).max(least);
        let members = roster.members.iter();
        let silent = members.filter(|member| {
            let seen = self.counters.get(&member.id);
            let since_ms = seen.map(|seen| seen.since_ms);
            let silent_ms = since_ms.map(|since_ms| now_ms.saturating_sub(since_ms));
            member.id != self.me.id
                && silent_ms.is_some_and(|ms| u128::from(ms) >= limit.as_millis())
        });
        silent.map(|member| Arc::clone(&member.id)).collect()
    }

    /// Writes a roster on condition that the stored one is the one before. Returns whether it was
    /// written.
    pub(super) async fn write(&mut self, roster: Roster, version: u64) -> bool {
        let (table, prefix) = (&self.items.table, &self.items.prefix);
        match table.write_roster(prefix, (&roster, version)).await {
            Ok(true) => {
                self.roster = Some((roster, version));
                self.tell_others();
                true
            }
            Ok(false) => false,
            Err(error) => {
                // The next look shows the outcome.
                let _ = self.table_failed(&error);
                tokio::time::sleep(PAUSE).await;
                false
            }
        }
    }

    /// Notes in the roster at once what this process is ready for and what it has released, on the
    /// roster that it knows. If another process changed it, the next look does.
    pub(super) async fn note(&mut self) {
        let Some((mut roster, version)) = self.roster.clone() else {
            return;
        };
        if self.note_in(&mut roster) && self.write(roster, version + 1).await {
            self.ready.clear();
            self.released.clear();
        }
    }

    /// Changes the roster so that it says what this process is ready for and what it has released.
    /// Returns true if that changed something.
    pub(super) fn note_in(&self, roster: &mut Roster) -> bool {
        let mut changed = false;
        for partition in &self.ready {
            changed |= roster.ready(*partition, &self.me.id);
        }
        for partition in &self.released {
            changed |= roster.release(*partition, &self.me.id);
        }
        changed
    }

    /// Changes the roster, whatever others change meanwhile, for at most `limit`. `change` returns
    /// false if there is nothing to change. Returns that, or none if the table did not answer.
    pub(super) async fn change(
        &mut self,
        limit: Duration,
        change: impl Fn(&mut Roster) -> bool,
    ) -> Option<bool> {
        let changing = async {
            loop {
                if !matches!(self.read().await, Ok(true)) {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                let Some((mut roster, version)) = self.roster.clone() else {
                    continue;
                };
                if !change(&mut roster) {
                    return false;
                }
                if self.write(roster, version + 1).await {
                    return true;
                }
            }
        };
        let changed = tokio::time::timeout(limit, changing).await.ok();
        if changed.is_none() {
            tracing::warn!("roster not changed; the lease table did not answer in time");
        }
        changed
    }

    /// Tells all other processes to look at the roster.
    pub(super) fn tell_others(&self) {
        let Some((roster, _)) = &self.roster else {
            return;
        };
        let others = roster.members.iter();
        for other in others.filter(|member| member.id != self.me.id) {
            let (links, peer) = (self.peers.links().clone(), other.peer.clone());
            tokio::spawn(async move { poke(&links, &peer).await });
        }
    }

    /// Returns true if no other live process stays.
    pub(super) fn is_alone(&self) -> bool {
        let Some((roster, _)) = &self.roster else {
            return true;
        };
        let others = roster.members.iter();
        let mut others = others.filter(|member| member.id != self.me.id && !member.draining);
        !others.any(|member| {
            let seen = self.counters.get(&member.id);
            seen.is_some_and(|seen| self.is_alive(seen))
        })
    }
}
