//! Members: the processes of an application that may send requests to one another, and the
//! decision whether the holder of a key is one of them.
//!
//! Each process writes an item of its own beside the lease, and increases its counter regularly.
//! The item is named by the key of the process, so that one read finds it. A process that ended
//! leaves an item whose counter stands still.

use std::collections::BTreeMap;

use super::PeerPort;

/// Item of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberItem {
    /// Id of the process, as in the lease.
    pub id: String,
    /// Peer port of the process.
    pub peer: PeerPort,
    /// Version of the software.
    pub software: String,
    /// Counter that grows with every renewal.
    pub counter: u64,
    /// Interval of renewals, in ms.
    pub renewal_ms: u64,
    /// True once the process has ended in an orderly way.
    pub left: bool,
    /// True while too many messages for other partitions wait at a partition of the process
    /// (rule 41).
    pub congested: bool,
}

/// Maximum number of keys that are remembered.
const KEYS_MAX: usize = 256;

/// Time for which a positive decision holds, in ms.
const ADMITTED_MS: u64 = 10_000;

/// Time for which a positive decision holds while the table is read too often, in ms.
const KNOWN_MS: u64 = 60_000;

/// Time for which a negative decision holds, in ms. A process writes its item before it connects.
const REFUSED_MS: u64 = 1_000;

/// Maximum number of reads of the table in a second.
const LOOKS_MAX: usize = 16;

/// Renewals that a live process may miss.
const MISSED_MAX: u64 = 4;

/// Decision about the holder of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The holder is a live member.
    Admitted,
    /// The holder is none.
    Refused,
    /// Read the item of the key, and report it with [`Admission::looked`].
    Look,
    /// The table was read too often in the last second.
    Busy,
}

/// Decides which keys belong to live members. Time is an argument, in ms of a clock that is never
/// set.
#[derive(Debug, Default)]
pub struct Admission {
    keys: BTreeMap<String, Known>,
    /// Times of the reads in the last second.
    looks_ms: Vec<u64>,
}

#[derive(Debug)]
struct Known {
    admitted: bool,
    looked_ms: u64,
    /// Last counter, and when it was seen first.
    counter: Option<(u64, u64)>,
}

impl Admission {
    /// Decides about the holder of `key`.
    pub fn decide(&mut self, now_ms: u64, key: &str) -> Verdict {
        if let Some(known) = self.keys.get(key) {
            let age_ms = now_ms.saturating_sub(known.looked_ms);
            match known.admitted {
                true if age_ms < ADMITTED_MS => return Verdict::Admitted,
                false if age_ms < REFUSED_MS => return Verdict::Refused,
                _ => {}
            }
        }
        self.looks_ms
            .retain(|look_ms| now_ms.saturating_sub(*look_ms) < 1_000);
        if self.looks_ms.len() >= LOOKS_MAX {
            let known = self.keys.get(key);
            let member = known.is_some_and(|known| {
                known.admitted && now_ms.saturating_sub(known.looked_ms) < KNOWN_MS
            });
            return match member {
                true => Verdict::Admitted,
                false => Verdict::Busy,
            };
        }
        self.looks_ms.push(now_ms);
        Verdict::Look
    }

    /// Handles the item of `key`, if there is one. Returns whether its holder is a live member.
    pub fn looked(&mut self, now_ms: u64, key: &str, item: Option<&MemberItem>) -> bool {
        let before = self.keys.get(key).and_then(|known| known.counter);
        let item = item.filter(|item| !item.left && item.peer.key == key);
        let counter = item.map(|item| match before {
            Some((counter, since_ms)) if counter == item.counter => (counter, since_ms),
            _ => (item.counter, now_ms),
        });
        let admitted = item.zip(counter).is_some_and(|(item, (_, since_ms))| {
            let silent_ms = now_ms.saturating_sub(since_ms);
            silent_ms <= item.renewal_ms.saturating_mul(MISSED_MAX)
        });
        self.make_room(key);
        let known = Known {
            admitted,
            looked_ms: now_ms,
            counter,
        };
        self.keys.insert(key.to_owned(), known);
        admitted
    }

    /// Forgets the key of the oldest decision if the limit is reached.
    fn make_room(&mut self, key: &str) {
        if self.keys.len() < KEYS_MAX || self.keys.contains_key(key) {
            return;
        }
        let oldest = self.keys.iter();
        // Strangers first, so that they cannot displace a member.
        let oldest = oldest.min_by_key(|(_, known)| (known.admitted, known.looked_ms));
        if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
            self.keys.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(counter: u64) -> MemberItem {
        MemberItem {
            id: "a".to_owned(),
            peer: PeerPort {
                address: "10.0.0.7:8082".to_owned(),
                key: "k".to_owned(),
            },
            software: "0.1.0".to_owned(),
            counter,
            renewal_ms: 3_000,
            left: false,
            congested: false,
        }
    }

    #[test]
    fn a_live_member_is_admitted_after_one_read() {
        let mut admission = Admission::default();
        assert_eq!(admission.decide(0, "k"), Verdict::Look);
        assert!(admission.looked(5, "k", Some(&item(1))));
        assert_eq!(admission.decide(10_000, "k"), Verdict::Admitted);
        assert_eq!(admission.decide(10_005, "k"), Verdict::Look);
    }

    #[test]
    fn a_key_without_an_item_and_one_that_left_are_refused_for_a_second() {
        let left = MemberItem {
            left: true,
            ..item(1)
        };
        for item in [None, Some(&left)] {
            let mut admission = Admission::default();
            assert_eq!(admission.decide(0, "k"), Verdict::Look);
            assert!(!admission.looked(5, "k", item));
            assert_eq!(admission.decide(1_004, "k"), Verdict::Refused);
            assert_eq!(admission.decide(1_005, "k"), Verdict::Look);
        }
    }

    #[test]
    fn an_item_of_another_key_admits_nobody() {
        assert!(!Admission::default().looked(5, "other", Some(&item(1))));
    }

    #[test]
    fn a_member_whose_counter_stands_still_is_refused() {
        let mut admission = Admission::default();
        assert!(admission.looked(0, "k", Some(&item(1))));
        assert!(admission.looked(11_000, "k", Some(&item(1))));
        assert!(!admission.looked(12_001, "k", Some(&item(1))));
        assert!(admission.looked(14_000, "k", Some(&item(2))));
    }

    #[test]
    fn while_strangers_use_up_the_reads_a_known_member_is_admitted_and_a_new_one_is_not() {
        let mut admission = Admission::default();
        assert!(admission.looked(0, "k", Some(&item(1))));
        for stranger in 0..LOOKS_MAX {
            let verdict = admission.decide(20_000, &format!("stranger {stranger}"));
            assert_eq!(verdict, Verdict::Look);
        }
        assert_eq!(admission.decide(20_000, "k"), Verdict::Admitted);
        assert_eq!(admission.decide(20_000, "new"), Verdict::Busy);
        assert_eq!(admission.decide(21_000, "new"), Verdict::Look);
    }

    #[test]
    fn strangers_cause_a_bounded_number_of_reads_and_displace_no_member() {
        let mut admission = Admission::default();
        assert!(admission.looked(0, "k", Some(&item(1))));
        let mut looks = 0;
        for attempt in 0..2_000 {
            let key = format!("stranger {attempt}");
            // Two thousand strangers within nine seconds.
            let now_ms = attempt * 9 / 2;
            if admission.decide(now_ms, &key) == Verdict::Look {
                assert!(!admission.looked(now_ms, &key, None));
                looks += 1;
            }
        }
        assert!(looks <= 9 * LOOKS_MAX, "{looks}");
        for stranger in 0..2 * KEYS_MAX {
            admission.looked(9_000, &format!("further {stranger}"), None);
        }
        assert!(admission.keys.len() <= KEYS_MAX);
        assert_eq!(admission.decide(9_500, "k"), Verdict::Admitted);
    }
}
