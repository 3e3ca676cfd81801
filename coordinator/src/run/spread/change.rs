//! Reads and changes of the roster.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use satchel_aws::lease::{Roster, TableError};

use super::{FORGOTTEN, Membership};
use crate::clock::boot_ms;
use crate::error::{Exit, Failure};
use crate::peer::poke;

/// Attempts to make a change before the next look decides anew.
const ATTEMPTS: usize = 10;

/// Pause before a change whose outcome is unknown is looked at.
const PAUSE: Duration = Duration::from_millis(100);

impl Membership<'_> {
    /// Reads the roster and the counters of its processes. Returns false if the table does not
    /// answer.
    pub(super) async fn read(&mut self) -> Result<bool, Failure> {
        let read = self.items.table.read_roster(&self.items.prefix).await;
        let roster = match read {
            Ok(roster) => roster,
            Err(error) => return self.table_failed(&error).map(|()| false),
        };
        if std::mem::take(&mut self.is_table_silent) {
            tracing::info!("lease table reachable again");
        }
        // The first process makes it.
        let (roster, version) = roster.unwrap_or_else(|| (Roster::new(self.host.partitions()), 0));
        let is_ours = roster.check(self.host.partitions());
        is_ours.map_err(|error| {
            Failure::caused(Exit::Damaged, "the roster in the lease table", error)
        })?;
        let reads = roster.members.iter().map(async |member| {
            let read = self
                .items
                .table
                .read_member(&self.items.prefix, &member.peer.key);
            (Arc::clone(&member.id), read.await)
        });
        let mut congested = false;
        for (id, read) in join_all(reads).await {
            let Ok(Some(item)) = read else {
                // A counter that cannot be read stands still.
                continue;
            };
            congested |= item.congested && !item.left && *id != *self.me.id;
            let seen = self.counters.entry(id).or_insert((item.counter, boot_ms()));
            if seen.0 != item.counter {
                *seen = (item.counter, boot_ms());
            }
        }
        let is_listed = |id: &Arc<str>| roster.member(id).is_some();
        self.counters.retain(|id, _| is_listed(id));
        if let Some(switch) = self.host.switch() {
            switch.set_congested_elsewhere(congested);
        }
        self.roster = Some((roster, version));
        Ok(true)
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

    /// Processes whose counter stood still for so long that their entries are removed. A process
    /// that lives joins again.
    pub(super) fn silent(&self, now_ms: u64, roster: &Roster) -> Vec<Arc<str>> {
        let (lease_times, least) = FORGOTTEN;
        let limit = (self.config.lease_time * lease_times).max(least);
        let members = roster.members.iter();
        let silent = members.filter(|member| {
            let seen = self.counters.get(&member.id);
            let since_ms = seen.map(|(_, since_ms)| *since_ms);
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

    /// Changes the roster, whatever others change meanwhile. `change` returns false if there is
    /// nothing to change. Returns whether the change was made.
    pub(super) async fn change(&mut self, change: impl Fn(&mut Roster) -> bool) -> bool {
        for _ in 0..ATTEMPTS {
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
        tracing::warn!("roster not changed; the next look decides anew");
        false
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
        let lease_ms = self.config.lease_time.as_millis();
        let now_ms = boot_ms();
        let others = roster.members.iter();
        let mut others = others.filter(|member| member.id != self.me.id && !member.draining);
        !others.any(|member| {
            let seen = self.counters.get(&member.id);
            seen.is_some_and(|(_, since_ms)| {
                u128::from(now_ms.saturating_sub(*since_ms)) < lease_ms
            })
        })
    }
}
