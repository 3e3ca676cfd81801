//! Roster of an application: the one item of the lease table that names its processes and the
//! owner of each partition.
//!
//! Every change is a compare-and-set of the whole item. A process reads the roster, decides with
//! [`Spread`](super::Spread), changes its copy, and writes it on condition that the version is
//! still the one that it read. A refused write means that another process was faster: the process
//! reads again and decides anew. So no two changes contradict each other, and one request carries
//! all changes of a look.
//!
//! Counters of liveness are not in the roster. Each process renews an item of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Decision, Member, Offer, PartitionItem, View};
use crate::lease::PeerPort;

/// Members and partitions of an application.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// Processes, of which some may have died.
    pub members: Vec<RosterMember>,
    /// Partitions by number, all of them.
    pub partitions: Vec<PartitionItem>,
}

/// A process in the roster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterMember {
    /// Id of the process, unique among all processes.
    pub id: Arc<str>,
    /// Peer port of the process.
    pub peer: PeerPort,
    /// Order of its software: larger is newer.
    pub software: u64,
    /// Weight of its share. At least 1.
    pub weight: u32,
    /// True if it will stop and gives its partitions away.
    #[serde(default)]
    pub draining: bool,
}

/// Contradiction between a roster and the root of the application.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it lists {found} partitions, and the root has {expected}")]
pub struct OtherPartitions {
    /// Number of partitions in the roster.
    pub found: usize,
    /// Number of partitions of the root.
    pub expected: u32,
}

impl Roster {
    /// Creates the roster of an application without processes.
    #[must_use]
    pub fn new(partitions: u32) -> Self {
        let partitions = (0..partitions).map(|number| PartitionItem {
            number,
            ..PartitionItem::default()
        });
        Self {
            members: Vec::new(),
            partitions: partitions.collect(),
        }
    }

    /// Checks that the roster is about an application of this number of partitions.
    ///
    /// # Errors
    /// [`OtherPartitions`].
    pub fn check(&self, partitions: u32) -> Result<(), OtherPartitions> {
        let expected = (0..partitions).eq(self.partitions.iter().map(|item| item.number));
        expected.then_some(()).ok_or(OtherPartitions {
            found: self.partitions.len(),
            expected: partitions,
        })
    }

    /// Returns the process with this id.
    #[must_use]
    pub fn member(&self, id: &str) -> Option<&RosterMember> {
        self.members.iter().find(|member| &*member.id == id)
    }

    /// Returns the process that owns a partition and has not released it. It may have died.
    #[must_use]
    pub fn owner(&self, number: u32) -> Option<&RosterMember> {
        let item = self.partitions.get(number as usize)?;
        let owner = item.owner.as_ref().filter(|_| !item.released)?;
        self.member(owner)
    }

    /// Returns true if the partition is offered to this process, or was released for it.
    #[must_use]
    pub fn is_offered(&self, number: u32, id: &str) -> bool {
        let item = self.partitions.get(number as usize);
        let offer = item.and_then(|item| item.offer.as_ref());
        offer.is_some_and(|offer| &*offer.to == id)
    }

    /// Returns true if this process owns the partition.
    #[must_use]
    pub fn is_owner(&self, number: u32, id: &str) -> bool {
        self.owner(number).is_some_and(|owner| &*owner.id == id)
    }

    /// Returns the view on which a process decides. `counters` holds the last known counter of each
    /// process.
    #[must_use]
    pub fn view(&self, counters: &BTreeMap<Arc<str>, u64>) -> View {
        let members = self.members.iter().map(|member| Member {
            id: Arc::clone(&member.id),
            counter: counters.get(&member.id).copied().unwrap_or_default(),
            software: member.software,
            weight: member.weight,
            draining: member.draining,
        });
        View {
            members: members.collect(),
            partitions: self.partitions.clone(),
        }
    }

    /// Adds a process, or replaces its entry. Returns true if that changed something.
    pub fn join(&mut self, member: &RosterMember) -> bool {
        match self.members.iter_mut().find(|it| it.id == member.id) {
            Some(known) if known == member => false,
            Some(known) => {
                known.clone_from(member);
                true
            }
            None => {
                self.members.push(member.clone());
                true
            }
        }
    }

    /// Removes a process and the offers to it. Its partitions stay its own until they are claimed.
    /// Returns true if that changed something.
    pub fn remove(&mut self, id: &str) -> bool {
        let before = self.members.len();
        self.members.retain(|member| &*member.id != id);
        for item in &mut self.partitions {
            // A released one need not wait for the process any more.
            item.offer.take_if(|offer| &*offer.to == id);
        }
        self.members.len() != before
    }

    /// Carries out the decisions of the process `me` that are changes of the roster alone. The
    /// decisions were made on a view of this very roster. `calendar_ms` is shown to people.
    /// Returns true if that changed something.
    pub fn apply(&mut self, me: &Arc<str>, decisions: &[Decision], calendar_ms: u64) -> bool {
        let mut changed = false;
        for decision in decisions {
            let (Decision::Claim(number)
            | Decision::Offer(number, _)
            | Decision::Withdraw(number)
            | Decision::Decline(number)) = decision
            else {
                continue;
            };
            let Some(item) = self.partitions.get_mut(*number as usize) else {
                continue;
            };
            changed = true;
            match decision {
                Decision::Claim(_) => {
                    item.owner = Some(Arc::clone(me));
                    item.claims += 1;
                    item.since_ms = calendar_ms;
                    item.released = false;
                    item.offer = None;
                }
                Decision::Offer(_, to) => {
                    let to = Arc::clone(to);
                    item.offer = Some(Offer { to, ready: false });
                }
                _ => item.offer = None,
            }
        }
        changed
    }

    /// Notes that the process `me` is ready to take over a partition that it was offered. Returns
    /// false if the offer is void.
    pub fn ready(&mut self, number: u32, me: &str) -> bool {
        let item = self.partitions.get_mut(number as usize);
        let offer = item
            .filter(|item| !item.released)
            .and_then(|item| item.offer.as_mut());
        let Some(offer) = offer.filter(|offer| &*offer.to == me) else {
            return false;
        };
        offer.ready = true;
        true
    }

    /// Releases a partition of the process `me`, for the process that it is offered to first.
    /// Returns false if `me` does not own it.
    pub fn release(&mut self, number: u32, me: &str) -> bool {
        if !self.is_owner(number, me) {
            return false;
        }
        self.partitions[number as usize].released = true;
        true
    }

    /// Sets the process that a person wants to own a partition, or none. Returns false if there is
    /// no such partition or process.
    pub fn pin(&mut self, number: u32, to: Option<&str>) -> bool {
        let to = match to.map(|id| self.member(id)) {
            Some(None) => return false,
            Some(Some(member)) => Some(Arc::clone(&member.id)),
            None => None,
        };
        let item = self.partitions.get_mut(number as usize);
        item.map(|item| item.pinned = to).is_some()
    }

    /// Sets whether a person wants a partition to stay where it is. Returns false if there is no
    /// such partition.
    pub fn freeze(&mut self, number: u32, frozen: bool) -> bool {
        let item = self.partitions.get_mut(number as usize);
        item.map(|item| item.frozen = frozen).is_some()
    }

    /// Lets a process give its partitions away, or take some again. Returns false if there is no
    /// such process.
    pub fn drain(&mut self, id: &str, draining: bool) -> bool {
        let member = self.members.iter_mut().find(|member| &*member.id == id);
        member.map(|member| member.draining = draining).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str) -> RosterMember {
        RosterMember {
            id: id.into(),
            peer: PeerPort {
                address: format!("{id}:8082"),
                key: id.to_owned(),
            },
            software: 1,
            weight: 1,
            draining: false,
        }
    }

    fn two() -> Roster {
        let mut roster = Roster::new(2);
        assert!(roster.join(&member("a")));
        assert!(roster.join(&member("b")));
        assert!(!roster.join(&member("b")));
        roster
    }

    fn owner(roster: &Roster, number: u32) -> Option<&str> {
        roster.owner(number).map(|member| &*member.id)
    }

    #[test]
    fn a_partition_is_claimed_offered_released_and_claimed_by_the_other_one() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut roster = two();
        assert!(roster.apply(&a, &[Decision::Claim(0), Decision::Claim(1)], 7));
        assert_eq!(
            (owner(&roster, 0), owner(&roster, 1)),
            (Some("a"), Some("a"))
        );
        assert!(roster.apply(&a, &[Decision::Offer(1, Arc::clone(&b))], 8));
        assert!(!roster.ready(0, "b"), "it was not offered");
        assert!(!roster.ready(1, "a"), "it was not offered to this process");
        assert!(roster.ready(1, "b"));
        assert!(roster.is_offered(1, "b") && !roster.is_offered(0, "b"));
        assert!(!roster.release(1, "b"));
        assert!(roster.release(1, "a"));
        assert!(!roster.release(1, "a"));
        assert!(!roster.ready(1, "b"), "an offer that was taken");
        assert_eq!(owner(&roster, 1), None);
        assert_eq!(roster.partitions[1].offer.as_ref().unwrap().to, b);
        assert!(roster.is_offered(1, "b"), "it is kept for b");
        assert!(roster.apply(&b, &[Decision::Claim(1)], 9));
        assert!(!roster.is_offered(1, "b"));
        let expected = PartitionItem {
            number: 1,
            owner: Some(b),
            claims: 2,
            since_ms: 9,
            ..PartitionItem::default()
        };
        assert_eq!(roster.partitions[1], expected);
        let others = [
            Decision::Prepare(0),
            Decision::HandOver(0),
            Decision::Claim(9),
        ];
        assert!(!roster.apply(&a, &others, 10), "they change nothing here");
    }

    #[test]
    fn a_process_that_is_removed_owns_nothing_and_is_offered_nothing() {
        let a: Arc<str> = "a".into();
        let mut roster = two();
        roster.apply(&a, &[Decision::Claim(0), Decision::Claim(1)], 7);
        roster.apply(&a, &[Decision::Offer(1, "b".into())], 8);
        assert!(roster.remove("b"));
        assert!(!roster.remove("b"));
        assert_eq!(roster.partitions[1].offer, None);
        assert!(roster.remove("a"));
        assert_eq!(owner(&roster, 0), None);
        assert_eq!(roster.partitions[0].owner, Some(a));
    }

    #[test]
    fn what_people_want_names_what_there_is() {
        let mut roster = two();
        assert!(roster.pin(1, Some("b")));
        assert!(!roster.pin(1, Some("c")));
        assert!(!roster.pin(2, None));
        assert_eq!(roster.partitions[1].pinned.as_deref(), Some("b"));
        assert!(roster.pin(1, None));
        assert_eq!(roster.partitions[1].pinned, None);
        assert!(roster.freeze(0, true));
        assert!(!roster.freeze(2, true));
        assert!(roster.drain("a", true));
        assert!(!roster.drain("c", true));
        let view = roster.view(&BTreeMap::from([("a".into(), 5)]));
        let seen = view.members.iter();
        let seen: Vec<_> = seen.map(|it| (&*it.id, it.counter, it.draining)).collect();
        assert_eq!(seen, [("a", 5, true), ("b", 0, false)]);
        assert!(view.partitions[0].frozen);
    }

    #[test]
    fn a_roster_of_another_number_of_partitions_is_refused() {
        assert_eq!(Roster::new(2).check(2), Ok(()));
        let refused = Roster::new(2).check(3).unwrap_err().to_string();
        assert_eq!(refused, "it lists 2 partitions, and the root has 3");
        let mut twice = Roster::new(2);
        twice.partitions[1].number = 0;
        assert!(twice.check(2).is_err());
    }
}
