use proptest::prelude::*;

use super::*;

fn shard(id: u32, parents: &[u32], closed: bool) -> ListedShard {
    ListedShard {
        id: name(id),
        parents: parents.iter().map(|id| name(*id)).collect(),
        closed,
        hash_range: None,
    }
}

fn name(id: u32) -> Arc<str> {
    format!("shardId-{id:012}").into()
}

fn at(position: &ShardPosition, ids: &[u32]) -> Step {
    Step::Find(ids.iter().map(|id| (name(*id), position.clone())).collect())
}

fn beginning(ids: &[u32]) -> Step {
    at(&ShardPosition::Beginning, ids)
}

/// 0 was split into 1 and 2; 2 and 3 were merged into 4.
fn family() -> Vec<ListedShard> {
    vec![
        shard(0, &[], true),
        shard(1, &[0], false),
        shard(2, &[0], true),
        shard(3, &[], true),
        shard(4, &[2, 3], false),
    ]
}

#[test]
fn rule_9_from_the_earliest_on_children_wait_for_the_ends_of_all_their_parents() {
    let mut plan = ShardPlan::new(Startup::Earliest, vec![]);
    assert_eq!(plan.listed(&family(), 7), [beginning(&[0, 3])]);
    assert_eq!(plan.listed(&family(), 7), []);
    assert_eq!(plan.ended(&name(3)), []);
    assert_eq!(plan.ended(&name(0)), [beginning(&[1, 2])]);
    assert_eq!(plan.ended(&name(2)), [beginning(&[4])]);
}

#[test]
fn a_shard_that_is_open_again_after_its_end_is_one_of_another_stream() {
    let applied = vec![
        (name(0), ShardPosition::End),
        (name(1), ShardPosition::Beginning),
    ];
    let mut plan = ShardPlan::new(Startup::Earliest, applied);
    assert_eq!(plan.reopened(), None);
    plan.listed(&[shard(0, &[], true), shard(1, &[0], false)], 7);
    assert_eq!(plan.reopened(), None);
    plan.listed(&[shard(0, &[], false)], 8);
    assert_eq!(plan.reopened(), Some(&name(0)));
    plan.listed(&[shard(0, &[], true), shard(1, &[0], false)], 9);
    assert_eq!(plan.reopened(), None, "the list was an old one");
}

#[test]
fn rule_8_latest_is_resolved_once_for_all_open_shards_and_what_was_closed_before_is_never_read() {
    let mut plan = ShardPlan::new(Startup::Latest, vec![]);
    let since = ShardPosition::Since { time_ms: 7 };
    assert!(plan.is_unresolved());
    assert_eq!(plan.listed(&family(), 7), [at(&since, &[1, 4])]);
    assert!(!plan.is_unresolved());
    let mut split = family();
    split[1].closed = true;
    split.push(shard(5, &[1], false));
    assert_eq!(plan.listed(&split, 8), []);
    let children = [beginning(&[5])];
    assert_eq!(plan.ended(&name(1)), children, "from its beginning");

    let durable = vec![(name(1), since.clone()), (name(4), since.clone())];
    let mut next_owner = ShardPlan::new(Startup::Latest, durable);
    assert!(!next_owner.is_unresolved());
    assert_eq!(next_owner.listed(&split, 9), [at(&since, &[1, 4])]);
    assert_eq!(next_owner.ended(&name(1)), children);
}

#[test]
fn rule_8_latest_resolved_during_a_split_skips_old_records_and_misses_no_new_ones() {
    // 0 is closed already, and its children are not listed yet; beside it is 9.
    let mut plan = ShardPlan::new(Startup::Latest, vec![]);
    let found = vec![
        (name(0), ShardPosition::End),
        (name(9), ShardPosition::Since { time_ms: 7 }),
    ];
    let listed = plan.listed(&[shard(0, &[], true), shard(9, &[], false)], 7);
    assert_eq!(listed, [Step::Find(found)]);
    assert_eq!(plan.ended(&name(0)), []);
    let split = [
        shard(0, &[], true),
        shard(1, &[0], false),
        shard(2, &[0], false),
        shard(9, &[], false),
    ];
    assert_eq!(plan.listed(&split, 8), [beginning(&[1, 2])]);
}

#[test]
fn rule_9_latest_starts_no_child_beside_its_open_parent() {
    let mut plan = ShardPlan::new(Startup::Latest, vec![]);
    let since = ShardPosition::Since { time_ms: 7 };
    let listed = plan.listed(&[shard(0, &[], false), shard(1, &[0], false)], 7);
    assert_eq!(listed, [at(&since, &[0])]);
    assert_eq!(plan.ended(&name(0)), [beginning(&[1])]);
}

#[test]
fn a_date_holds_for_children_too_because_it_may_lie_after_the_split() {
    let mut plan = ShardPlan::new(Startup::Date(5), vec![]);
    let since = ShardPosition::Since { time_ms: 5 };
    assert_eq!(plan.listed(&family(), 7), [at(&since, &[0, 3])]);
    assert_eq!(plan.ended(&name(0)), [at(&since, &[1, 2])]);
}

#[test]
fn parents_that_left_the_stream_unseen_are_not_waited_for() {
    let mut plan = ShardPlan::new(Startup::Earliest, vec![]);
    assert_eq!(plan.listed(&family()[4..], 7), [beginning(&[4])]);
}

#[test]
fn ends_that_left_the_stream_are_forgotten_when_their_children_are_begun_and_never_begun_again() {
    let durable = vec![
        (name(0), ShardPosition::End),
        (name(1), ShardPosition::Beginning),
    ];
    let mut plan = ShardPlan::new(Startup::Latest, durable);
    let later = &family()[1..];
    let first = plan.listed(later, 7);
    assert_eq!(first, [beginning(&[1])], "the list may be an old one");
    assert_eq!(plan.listed(later, 7), [beginning(&[2, 3])]);
    assert_eq!(plan.listed(later, 7), [Step::Forget(name(0))]);
    assert_eq!(
        plan.listed(&family(), 7),
        [],
        "a list from before shows it again"
    );
}

#[test]
fn a_shard_that_left_unread_is_lost_and_its_children_wait_until_that_is_accepted() {
    let durable = vec![(name(0), ShardPosition::Beginning)];
    let mut plan = ShardPlan::new(Startup::Earliest, durable);
    let later = [shard(1, &[0], false), shard(2, &[0], false)];
    assert_eq!(plan.listed(&later, 7), []);
    assert_eq!(plan.listed(&later, 7), [Step::Lost(name(0))]);
    assert_eq!(plan.listed(&later, 7), []);
    assert_eq!(plan.ended(&name(0)), [beginning(&[1, 2])]);
}

#[test]
fn rule_9_a_list_from_before_a_split_begins_no_parent_of_what_was_read() {
    // Shard 0 was closed before the latest record, and its children are read.
    let since = ShardPosition::Since { time_ms: 5 };
    let durable = vec![(name(1), since.clone()), (name(2), since.clone())];
    let mut plan = ShardPlan::new(Startup::Latest, durable);
    assert_eq!(plan.listed(&[shard(0, &[], false)], 7), []);
    let split = [
        shard(0, &[], true),
        shard(1, &[0], false),
        shard(2, &[0], false),
    ];
    assert_eq!(plan.listed(&split, 7), [at(&since, &[1, 2])]);
}

#[test]
fn rule_9_an_end_is_kept_until_its_children_are_begun() {
    // 0 and 1 were merged into 2, which waits for 1.
    let durable = vec![
        (name(0), ShardPosition::End),
        (name(1), ShardPosition::Beginning),
    ];
    let mut plan = ShardPlan::new(Startup::Earliest, durable);
    let later = [shard(1, &[], true), shard(2, &[0, 1], false)];
    assert_eq!(plan.listed(&later, 7), [beginning(&[1])]);
    assert_eq!(plan.listed(&later, 7), []);
    assert_eq!(plan.ended(&name(1)), [beginning(&[2])]);
    assert_eq!(plan.listed(&later, 7), [Step::Forget(name(0))]);
}

#[test]
fn an_empty_list_changes_nothing() {
    let mut plan = ShardPlan::new(Startup::Latest, vec![(name(0), ShardPosition::End)]);
    for _ in 0..5 {
        assert_eq!(plan.listed(&[], 7), []);
    }
}

/// A stream that is resharded while owners of a partition plan, read and die.
struct World {
    shards: Vec<ListedShard>,
    /// Durable positions.
    durable: std::collections::BTreeMap<Arc<str>, ShardPosition>,
    /// Shards whose durable end was known.
    ended: BTreeSet<Arc<str>>,
    plan: ShardPlan,
    startup: Startup,
    read: BTreeSet<Arc<str>>,
    /// Shards that were closed when `latest` was resolved.
    skipped: BTreeSet<Arc<str>>,
    reading: BTreeSet<Arc<str>>,
}

impl World {
    fn new(startup: Startup) -> Self {
        Self {
            shards: vec![shard(0, &[], false), shard(1, &[], false)],
            durable: std::collections::BTreeMap::new(),
            ended: BTreeSet::new(),
            plan: ShardPlan::new(startup, vec![]),
            startup,
            read: BTreeSet::new(),
            skipped: BTreeSet::new(),
            reading: BTreeSet::new(),
        }
    }

    fn open(&self, choice: usize) -> usize {
        let open: Vec<usize> = (0..self.shards.len())
            .filter(|index| !self.shards[*index].closed)
            .collect();
        open[choice % open.len()]
    }

    fn act(&mut self, action: u8, choice: usize) {
        let next = self.shards.len() as u32;
        match action {
            0 => {
                let split = self.open(choice);
                self.shards[split].closed = true;
                let parents = [split as u32];
                self.shards.push(shard(next, &parents, false));
                self.shards.push(shard(next + 1, &parents, false));
            }
            1 => {
                let (one, other) = (self.open(choice), self.open(choice + 1));
                if one != other {
                    self.shards[one].closed = true;
                    self.shards[other].closed = true;
                    let parents = [one as u32, other as u32];
                    self.shards.push(shard(next, &parents, false));
                }
            }
            2 | 3 => self.list(),
            4..=6 => self.end(choice),
            _ => {
                let durable = self.durable.clone().into_iter().collect();
                self.plan = ShardPlan::new(self.startup, durable);
                self.reading.clear();
            }
        }
    }

    fn list(&mut self) {
        if self.plan.is_unresolved() && self.startup == Startup::Latest {
            let closed = self.shards.iter().filter(|shard| shard.closed);
            self.skipped = closed.map(|shard| shard.id.clone()).collect();
        }
        let steps = self.plan.listed(&self.shards, 7);
        self.take(steps);
    }

    /// Reads a closed shard to its end, and makes that durable.
    fn end(&mut self, choice: usize) {
        let closed = self.shards.iter().filter(|shard| shard.closed);
        let mut ready: Vec<_> = closed.map(|shard| shard.id.clone()).collect();
        ready.retain(|id| self.reading.contains(id));
        if !ready.is_empty() {
            let id = ready.swap_remove(choice % ready.len());
            self.reading.remove(&id);
            self.durable.insert(id.clone(), ShardPosition::End);
            self.ended.insert(id.clone());
            let steps = self.plan.ended(&id);
            self.take(steps);
        }
    }

    fn take(&mut self, steps: Vec<Step>) {
        for step in steps {
            let Step::Find(found) = step else {
                panic!("nothing leaves this stream, but: {step:?}");
            };
            for (id, _) in found {
                let listed = self.shards.iter().find(|shard| shard.id == id);
                for parent in &listed.expect("only listed shards are found").parents {
                    assert!(
                        self.ended.contains(parent) || self.skipped.contains(parent),
                        "{id} is read before the end of {parent} is durable"
                    );
                }
                assert!(
                    self.reading.insert(id.clone()),
                    "{id} is read twice at once"
                );
                assert!(!self.ended.contains(&id), "{id} is read after its end");
                assert!(!self.skipped.contains(&id), "{id} lies before the start");
                let start = self.durable.entry(id.clone());
                start.or_insert(ShardPosition::Beginning);
                self.read.insert(id);
            }
        }
    }
}

proptest! {
    #[test]
    fn every_shard_is_read_once_after_its_parents_whatever_happens(
        latest in any::<bool>(),
        actions in prop::collection::vec((0u8..8, 0usize..16), 0..60),
    ) {
        let startup = if latest { Startup::Latest } else { Startup::Earliest };
        let mut world = World::new(startup);
        for (action, choice) in actions {
            world.act(action, choice);
        }
        world.list();
        for choice in 0..world.shards.len() {
            world.end(choice);
            world.list();
        }
        let wanted = world.shards.iter().map(|shard| shard.id.clone());
        let wanted: BTreeSet<_> = wanted.filter(|id| !world.skipped.contains(id)).collect();
        prop_assert_eq!(world.read, wanted);
    }
}
