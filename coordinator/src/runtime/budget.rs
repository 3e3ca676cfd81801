//! Limits of a process, shared among its partitions by need: the rate of commits, the bytes of
//! pending messages, the memory of state.
//!
//! ```text
//!  partitions ── gauges, commits ──► Budget ── limits, where they changed ──► partitions
//! ```
//!
//! *Commits.* The pace of a partition is that of the process, times the number of partitions that
//! commit at present. So all together commit about once in each pace, and one that is alone has it
//! all. The first commit of a partition after a quiet time is made at once.
//!
//! *Bytes.* A partition has what it uses and half as much again, and an equal part of the rest. If
//! that is more than there is, those that use most have equal parts. Each has a floor, a quarter of
//! an equal part among all partitions of the application, so that none waits for the others: a
//! partition below its limit reads, and gives credit to the others. The sum of the limits is never
//! above the limit of the process. A partition whose limit falls below what it uses loses nothing;
//! its ingress pauses.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use satchel_engine::input::Input;
use satchel_engine::partition::{Gauges, Limits};

use super::inboxes::Inboxes;
use crate::clock::boot_ms;

/// Part of an equal share that is the floor of each partition.
const FLOOR_PART: usize = 4;

/// Part of a limit by which it must change for the partitions to be told.
const NOTICEABLE_PART: usize = 16;

/// Turns of all partitions that commit, within which a partition that has not committed is quiet.
const QUIET_TURNS: u64 = 2;

/// Budget of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Limits of the process.
    process: Limits,
    /// Partitions of the application.
    partitions: usize,
    inboxes: Inboxes,
    shares: Mutex<BTreeMap<u32, Share>>,
}

/// Share of one partition.
#[derive(Debug, Clone, Copy)]
struct Share {
    pending_bytes: usize,
    state_bytes: usize,
    /// Boot time of its last commit.
    committed_ms: Option<u64>,
    limits: Limits,
}

/// Share of one partition, which it reports to.
#[derive(Debug, Clone)]
pub(crate) struct BudgetShare {
    budget: Budget,
    partition: u32,
}

impl Budget {
    /// Creates the budget of a process of an application of this number of partitions, which
    /// receive from `inboxes`. None runs yet.
    pub(super) fn new(process: Limits, partitions: usize, inboxes: Inboxes) -> Self {
        Self(Arc::new(Inner {
            process,
            partitions: partitions.max(1),
            inboxes,
            shares: Mutex::default(),
        }))
    }

    /// Adds a partition that starts. Returns its limits, which it learns as an input, too: what was
    /// read ahead of it knows other ones.
    pub(super) fn join(&self, partition: u32) -> Limits {
        let mut shares = self.shares();
        let share = Share {
            pending_bytes: 0,
            state_bytes: 0,
            committed_ms: None,
            limits: self.0.process,
        };
        shares.insert(partition, share);
        self.divide(&mut shares, boot_ms(), Some(partition));
        shares[&partition].limits
    }

    /// Removes a partition that has left.
    #[cfg(any(test, feature = "aws"))]
    pub(super) fn leave(&self, partition: u32) {
        let mut shares = self.shares();
        shares.remove(&partition);
        self.divide(&mut shares, boot_ms(), None);
    }

    /// Returns the share of a partition.
    pub(super) fn of(&self, partition: u32) -> BudgetShare {
        BudgetShare {
            budget: self.clone(),
            partition,
        }
    }

    fn shares(&self) -> MutexGuard<'_, BTreeMap<u32, Share>> {
        // Nothing here panics between two changes that belong together.
        self.0.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Divides the limits anew, and tells the partitions whose limits changed, and the one that is
    /// `joining`.
    fn divide(&self, shares: &mut BTreeMap<u32, Share>, now_ms: u64, joining: Option<u32>) {
        let process = self.0.process;
        let pace_ms = process.commit_pace_ms;
        let turn_ms = pace_ms * shares.len() as u64;
        let is_busy = |share: &Share| {
            let quiet_ms = share.committed_ms.map(|ms| now_ms.saturating_sub(ms));
            quiet_ms.is_some_and(|quiet_ms| quiet_ms <= turn_ms * QUIET_TURNS)
        };
        let busy = shares.values().filter(|share| is_busy(share)).count() as u64;
        let pending = shares.values().map(|share| share.pending_bytes);
        let pending = self.by_need(process.pending_bytes_max, pending);
        let memory = process.memory_limit_bytes.map(|limit| {
            let state = shares.values().map(|share| share.state_bytes);
            self.by_need(limit, state)
        });
        let wanted: Vec<Limits> = (0..shares.len())
            .map(|index| Limits {
                commit_pace_ms: pace_ms * busy.max(1),
                pending_bytes_max: pending[index],
                memory_limit_bytes: memory.as_ref().map(|memory| memory[index]),
            })
            .collect();
        let changes = shares.values().zip(&wanted);
        let is_noticeable = changes.fold(joining.is_some(), |any, (share, wanted)| {
            any || is_noticeable(&share.limits, wanted)
        });
        if !is_noticeable {
            return;
        }
        // Those with less first: the sum is never above the limit.
        let mut told: Vec<(bool, u32, Limits)> = Vec::new();
        for ((partition, share), wanted) in shares.iter_mut().zip(wanted) {
            if share.limits != wanted || joining == Some(*partition) {
                let grows = wanted.pending_bytes_max > share.limits.pending_bytes_max
                    || wanted.memory_limit_bytes > share.limits.memory_limit_bytes;
                told.push((grows, *partition, wanted));
            }
            share.limits = wanted;
        }
        told.sort_unstable_by_key(|(grows, partition, _)| (*grows, *partition));
        for (_, partition, limits) in told {
            self.0.inboxes.send(partition, Input::LimitsChanged(limits));
        }
    }

    /// Shares `limit` among partitions that use these bytes.
    fn by_need(&self, limit: usize, used: impl Iterator<Item = usize>) -> Vec<usize> {
        let floor = (limit / self.0.partitions / FLOOR_PART).max(1);
        let needs: Vec<usize> = used
            .map(|used| used.saturating_add(used / 2).max(floor))
            .collect();
        let sum = needs
            .iter()
            .fold(0, |sum: usize, need| sum.saturating_add(*need));
        if sum <= limit {
            let rest = (limit - sum) / needs.len().max(1);
            return needs.into_iter().map(|need| need + rest).collect();
        }
        let level = level(limit, &needs);
        needs.into_iter().map(|need| need.min(level)).collect()
    }
}

/// Returns the largest part such that parts of at most this size, and of at most the need, fit.
fn level(limit: usize, needs: &[usize]) -> usize {
    let mut ascending = needs.to_vec();
    ascending.sort_unstable();
    let mut left = limit;
    for (index, need) in ascending.iter().enumerate() {
        let part = left / (ascending.len() - index);
        if *need > part {
            return part.max(1);
        }
        left -= need;
    }
    limit
}

fn is_noticeable(known: &Limits, wanted: &Limits) -> bool {
    let differ = |one: usize, other: usize| one.abs_diff(other) > one / NOTICEABLE_PART;
    let memory = (known.memory_limit_bytes, wanted.memory_limit_bytes);
    known.commit_pace_ms != wanted.commit_pace_ms
        || differ(known.pending_bytes_max, wanted.pending_bytes_max)
        || matches!(memory, (Some(one), Some(other)) if differ(one, other))
}

impl BudgetShare {
    /// Notes what the partition uses.
    pub(super) fn used(&self, gauges: &Gauges) {
        self.change(boot_ms(), |share| {
            share.pending_bytes = gauges.pending_bytes;
            share.state_bytes = gauges.state_bytes;
        });
    }

    /// Notes a commit of the partition.
    pub(super) fn committed(&self) {
        let now_ms = boot_ms();
        self.change(now_ms, |share| share.committed_ms = Some(now_ms));
    }

    /// A partition that has left changes nothing any more.
    fn change(&self, now_ms: u64, change: impl FnOnce(&mut Share)) {
        let mut shares = self.budget.shares();
        if let Some(share) = shares.get_mut(&self.partition) {
            change(share);
            self.budget.divide(&mut shares, now_ms, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    const PACE_MS: u64 = 50;
    const LIMIT: usize = 8_000;

    type Queues = Vec<mpsc::UnboundedReceiver<Input>>;

    /// Budget of an application of this number of partitions, of which some run here.
    fn budget(partitions: usize, here: u32) -> (Budget, Queues) {
        let inboxes = Inboxes::new(partitions);
        let process = Limits {
            commit_pace_ms: PACE_MS,
            pending_bytes_max: LIMIT,
            memory_limit_bytes: Some(LIMIT),
        };
        let budget = Budget::new(process, partitions, inboxes.clone());
        let queues = (0..here).map(|number| {
            let (sender, queue) = mpsc::unbounded_channel();
            inboxes.put(number, sender);
            budget.join(number);
            queue
        });
        let queues = queues.collect();
        (budget, queues)
    }

    fn use_pending(budget: &Budget, partition: u32, bytes: usize) {
        budget.of(partition).used(&Gauges {
            pending_bytes: bytes,
            ..Gauges::default()
        });
    }

    fn limits(budget: &Budget) -> Vec<usize> {
        let shares = budget.shares();
        let limits: Vec<usize> = shares
            .values()
            .map(|it| it.limits.pending_bytes_max)
            .collect();
        assert!(limits.iter().sum::<usize>() <= LIMIT, "{limits:?}");
        limits
    }

    fn told(queue: &mut mpsc::UnboundedReceiver<Input>) -> Option<Limits> {
        let mut last = None;
        while let Ok(input) = queue.try_recv() {
            match input {
                Input::LimitsChanged(limits) => last = Some(limits),
                other => panic!("{other:?}"),
            }
        }
        last
    }

    #[test]
    fn one_partition_has_all_and_equal_ones_have_equal_parts() {
        assert_eq!(limits(&budget(4, 1).0), [LIMIT]);
        assert_eq!(limits(&budget(4, 4).0), [2_000; 4]);
    }

    #[test]
    fn a_partition_uses_what_the_others_do_not_and_gives_it_back() {
        let (budget, mut queues) = budget(4, 4);
        use_pending(&budget, 0, 1_900);
        let first = limits(&budget);
        assert!(first[0] > 2_850 && first[1] < 2_000, "{first:?}");
        for used in [3_000, 4_500, 6_000] {
            use_pending(&budget, 0, used);
        }
        // A quarter of an equal part stays for each of the others.
        assert_eq!(limits(&budget), [6_500, 500, 500, 500]);
        assert_eq!(told(&mut queues[0]).unwrap().pending_bytes_max, 6_500);
        assert_eq!(told(&mut queues[3]).unwrap().pending_bytes_max, 500);
        // Another one needs more: the first gets less than it uses, and pauses.
        use_pending(&budget, 1, 490);
        let both = limits(&budget);
        assert_eq!(both[1..], [735, 500, 500]);
        use_pending(&budget, 1, 6_000);
        assert_eq!(limits(&budget), [3_500, 3_500, 500, 500]);
        use_pending(&budget, 0, 0);
        use_pending(&budget, 1, 0);
        assert_eq!(limits(&budget), [2_000; 4]);
    }

    #[test]
    fn every_partition_keeps_a_floor_whatever_the_others_use() {
        let (budget, _queues) = budget(8, 8);
        for used in [0, 10, 1_000, 100_000, usize::MAX] {
            for partition in 0..7 {
                use_pending(&budget, partition, used);
                let limits = limits(&budget);
                assert!(limits.iter().all(|limit| *limit >= 250), "{limits:?}");
            }
        }
    }

    #[test]
    fn a_partition_that_comes_takes_from_the_others_and_one_that_leaves_gives_back() {
        let (budget, mut queues) = budget(2, 1);
        use_pending(&budget, 0, 7_000);
        assert_eq!(budget.join(1).pending_bytes_max, 1_000);
        assert_eq!(limits(&budget), [7_000, 1_000]);
        assert_eq!(told(&mut queues[0]).unwrap().pending_bytes_max, 7_000);
        budget.leave(1);
        assert_eq!(told(&mut queues[0]).unwrap().pending_bytes_max, LIMIT);
        use_pending(&budget, 1, 5_000);
        assert_eq!(limits(&budget), [LIMIT], "it has left");
    }

    #[test]
    fn memory_is_shared_in_the_same_way() {
        let (budget, mut queues) = budget(2, 2);
        budget.of(1).used(&Gauges {
            state_bytes: 5_000,
            ..Gauges::default()
        });
        let limits = told(&mut queues[1]).unwrap();
        assert_eq!(limits.memory_limit_bytes, Some(7_000));
        assert_eq!(limits.pending_bytes_max, 4_000);
        assert_eq!(
            told(&mut queues[0]).unwrap().memory_limit_bytes,
            Some(1_000)
        );
    }

    #[test]
    fn the_pace_is_that_of_the_process_times_the_partitions_that_commit() {
        let (budget, mut queues) = budget(3, 3);
        let pace = |queue: &mut _| told(queue).map(|limits: Limits| limits.commit_pace_ms);
        let commit = |partition: u32, now_ms| {
            let share = budget.of(partition);
            share.change(now_ms, |share| share.committed_ms = Some(now_ms));
        };
        commit(0, 1_000);
        queues.iter_mut().for_each(|queue| {
            told(queue);
        });
        commit(1, 1_010);
        assert_eq!(pace(&mut queues[0]), Some(2 * PACE_MS));
        assert_eq!(pace(&mut queues[2]), Some(2 * PACE_MS));
        commit(2, 1_020);
        assert_eq!(pace(&mut queues[1]), Some(3 * PACE_MS));
        // Two turns of three partitions without a commit: it is quiet.
        commit(0, 1_200);
        commit(0, 1_315);
        assert_eq!(pace(&mut queues[0]), Some(2 * PACE_MS));
        commit(0, 1_325);
        assert_eq!(pace(&mut queues[0]), Some(PACE_MS));
    }

    #[test]
    fn small_changes_are_not_told() {
        let (budget, mut queues) = budget(2, 2);
        queues.iter_mut().for_each(|queue| {
            told(queue);
        });
        use_pending(&budget, 0, 3_000);
        assert!(told(&mut queues[0]).is_some());
        use_pending(&budget, 0, 3_010);
        assert_eq!(told(&mut queues[0]), None);
    }
}
