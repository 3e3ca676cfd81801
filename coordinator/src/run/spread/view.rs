//! The places of the partitions, for people, and the wishes of people.

use std::sync::Arc;
use std::time::Duration;

use satchel_aws::lease::Roster;

use super::{Membership, Stage};
use crate::clock::boot_ms;
use crate::http::{AskedWish, MemberBody, MembersBody, PlaceBody, Wish};
use crate::metrics::Role;
use crate::module::format_rfc3339;

/// Maximum time in which the roster notes a wish.
const WISH_MAX: Duration = Duration::from_secs(3);

impl Membership<'_> {
    /// Shows the role of the process and the number of its partitions.
    pub(super) fn show_role(&self) {
        let role = match self.lives.is_empty() {
            true => Role::Standby,
            false => Role::Owner,
        };
        self.process.metrics.observe_role(role);
        let partitions = self.lives.len();
        self.host.share(partitions);
        self.process.metrics.observe_partitions_owned(partitions);
    }

    /// Counts the partitions whose owner is not known to live.
    fn without_owner(&self, roster: &Roster) -> usize {
        let is_alive = |id: &Arc<str>| {
            let seen = self.counters.get(id);
            *id == self.me.id || seen.is_some_and(|seen| self.is_alive(seen))
        };
        let numbers = roster.partitions.iter().map(|item| item.number);
        let owners = numbers.map(|number| roster.owner(number));
        let without = owners.filter(|owner| !owner.is_some_and(|owner| is_alive(&owner.id)));
        without.count()
    }

    /// Shows where the partitions are.
    pub(super) fn show(&self) {
        let Some((roster, _)) = &self.roster else {
            return;
        };
        let without_owner = self.without_owner(roster);
        let metrics = &self.process.metrics;
        metrics.observe_partitions_without_owner(without_owner);
        let now_ms = boot_ms();
        let owned = |id: &Arc<str>| {
            let items = roster.partitions.iter();
            let owned = items.filter(|item| !item.released && item.owner.as_ref() == Some(id));
            owned.map(|item| item.number).collect()
        };
        let members = roster.members.iter().map(|member| MemberBody {
            process: Arc::clone(&member.id),
            peer: member.peer.address.clone(),
            weight: member.weight,
            draining: member.draining,
            silent_ms: self
                .counters
                .get(&member.id)
                .map(|seen| now_ms.saturating_sub(seen.since_ms)),
            partitions: owned(&member.id),
        });
        let partitions = roster.partitions.iter().map(|item| PlaceBody {
            partition: item.number,
            owner: item.owner.clone(),
            stage: self.lives.get(&item.number).map(|life| match life.stage {
                Stage::Arriving => "arriving",
                Stage::Serving => "serving",
                Stage::Leaving => "leaving",
            }),
            released: item.released,
            since: item.owner.as_ref().map(|_| format_rfc3339(item.since_ms)),
            claims: item.claims,
            offered_to: item.offer.as_ref().map(|offer| Arc::clone(&offer.to)),
            pinned_to: item.pinned.clone(),
            frozen: item.frozen,
        });
        self.view.send_replace(Some(Arc::new(MembersBody {
            process: Arc::clone(&self.me.id),
            members: members.collect(),
            partitions: partitions.collect(),
        })));
    }

    /// Notes what a person wants in the roster.
    pub(super) async fn asked(&mut self, (wish, reply): AskedWish) {
        let noted = self
            .change(WISH_MAX, |roster| match &wish {
                Wish::Pin(partition, process) => roster.pin(*partition, process.as_deref()),
                Wish::Freeze(partition, frozen) => roster.freeze(*partition, *frozen),
                Wish::Drain(process, draining) => roster.drain(process, *draining),
            })
            .await;
        tracing::info!(
            ?wish,
            noted,
            "wish of a person about the places of partitions"
        );
        // The client may have gone.
        let _ = reply.send(noted);
    }
}
