//! Stories of processes that share the partitions of an application. Their table, and the time that
//! each action takes, are simulated ([`world`]).

mod world;

use std::collections::BTreeMap;

use super::Offer;
use world::{LEASE_MS, Process, World};

fn counts<const N: usize>(expected: [(&str, usize); N]) -> BTreeMap<String, usize> {
    let expected = expected.into_iter();
    expected
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}

/// A world in which two processes share eight partitions.
fn two() -> World {
    let mut world = World::new(8);
    world.join("a", 1);
    world.join("b", 1);
    world.run(15);
    assert_eq!(world.counts(), counts([("a", 4), ("b", 4)]));
    world.all_are_served();
    assert_eq!(world.total_moves(), 0);
    world.longest_silence_ms = 0;
    world
}

#[test]
fn processes_that_start_together_claim_their_shares_and_nothing_moves_after() {
    let mut world = two();
    assert_eq!(world.refused, 0, "each partition has an order of its own");
    world.run(300);
    assert_eq!(world.total_moves(), 0);
    assert_eq!(world.longest_silence_ms, 0);

    let mut world = World::new(16);
    for name in ["one", "two", "three", "four", "five"] {
        world.join(name, 1);
    }
    world.run(60);
    world.all_are_served();
    assert!(
        world.counts().values().all(|owned| *owned <= 4),
        "{:?}",
        world.counts()
    );
    assert_eq!((world.refused, world.total_moves()), (0, 0));
}

#[test]
fn a_process_that_is_there_for_a_moment_moves_nothing() {
    let mut world = two();
    for round in 0..5 {
        let name = format!("passing-{round}");
        world.join(&name, 2);
        world.run(8);
        world.leave(&name);
        world.run(20);
    }
    assert_eq!(world.total_moves(), 0);
}

#[test]
fn the_next_partition_is_offered_only_when_the_last_one_serves() {
    let mut world = World::new(8);
    world.join("a", 1);
    world.run(20);
    world.join("b", 1);
    let released = |world: &World| {
        let items = world.view.partitions.iter();
        items.filter(|item| item.released).count()
    };
    while released(&world) == 0 {
        world.step();
    }
    // The taker lives, and is slow.
    world.process("b").is_paused = true;
    for _ in 0..3 {
        world.member("b").counter += 1;
        world.step();
        let offers = world.view.partitions.iter();
        let offers = offers.filter(|item| item.offer.is_some() && !item.released);
        assert_eq!((released(&world), offers.count()), (1, 0));
    }
}

#[test]
fn an_offer_without_room_for_it_is_declined() {
    let mut world = two();
    let number = world.owned_by("a")[0];
    world.item(number).offer = Some(Offer {
        to: "b".into(),
        ready: false,
    });
    world.step();
    assert_eq!(world.view.partitions[number as usize].offer, None);
    world.run(60);
    assert_eq!(world.total_moves(), 0);
}

#[test]
fn a_process_alone_claims_everything_at_once() {
    let mut world = World::new(8);
    world.join("a", 1);
    world.run(2);
    assert_eq!(world.counts(), counts([("a", 8)]));
    world.all_are_served();
}

#[test]
fn a_process_that_joins_gets_its_share_one_partition_at_a_time() {
    let mut world = World::new(8);
    world.join("a", 1);
    world.run(20);
    world.longest_silence_ms = 0;
    world.join("b", 1);
    let mut before = 0;
    for _ in 0..60 {
        world.run(1);
        let now = world.owned_by("b").len();
        assert!(now <= before + 1, "two moved within a second");
        before = now;
    }
    assert_eq!(world.counts(), counts([("a", 4), ("b", 4)]));
    world.all_are_served();
    assert_eq!(world.total_moves(), 4);
    // A look of the next owner, and its takeover.
    assert!(
        world.longest_silence_ms <= 1_500,
        "{}",
        world.longest_silence_ms
    );
}

#[test]
fn the_partitions_of_a_process_that_dies_are_claimed_by_the_others() {
    let mut world = two();
    world.join("c", 1);
    world.run(60);
    world.longest_silence_ms = 0;
    world.kill("c");
    world.run(30);
    world.all_are_served();
    assert_eq!(world.counts(), counts([("a", 4), ("b", 4)]));
    assert!(
        world.longest_silence_ms <= LEASE_MS + 3_000,
        "{}",
        world.longest_silence_ms
    );
}

#[test]
fn a_process_that_stops_gives_everything_away_and_each_partition_moves_once() {
    let mut world = two();
    world.drain("a");
    world.run(20);
    assert_eq!(world.counts(), counts([("a", 0), ("b", 8)]));
    world.leave("a");
    world.run(60);
    world.all_are_served();
    assert_eq!(world.total_moves(), 4);
    assert!(
        world.longest_silence_ms <= 1_500,
        "{}",
        world.longest_silence_ms
    );
}

#[test]
fn a_rolling_update_moves_each_partition_once_to_the_new_software() {
    let mut world = two();
    world.join("c", 2);
    world.join("d", 2);
    world.run(60);
    for name in ["a", "b"] {
        world.drain(name);
        world.run(20);
        world.leave(name);
    }
    world.run(60);
    world.all_are_served();
    assert_eq!(world.counts(), counts([("c", 4), ("d", 4)]));
    assert_eq!(world.moves.len(), 8);
    assert!(
        world.moves.values().all(|moves| *moves == 1),
        "{:?}",
        world.moves
    );
}

#[test]
fn after_the_table_was_away_a_counter_that_stands_still_means_nothing_yet() {
    let mut world = two();
    // No process can look or renew for five minutes. Then one looks before the other renews.
    world.now_ms += 300_000;
    let seen = world.view.clone();
    let at = world
        .processes
        .iter()
        .position(|it| &*it.id == "a")
        .unwrap();
    world.turn(at, &seen);
    assert_eq!(world.counts(), counts([("a", 4), ("b", 4)]));
    world.run(60);
    assert_eq!(world.total_moves(), 0);
    // A process that died meanwhile is found out a lease time later.
    world.now_ms += 300_000;
    world.kill("b");
    world.run(LEASE_MS / 1_000 - 1);
    assert_eq!(world.owned_by("b").len(), 4);
    world.run(6);
    assert_eq!(world.counts(), counts([("a", 8)]));
}

#[test]
fn rule_29_a_member_whose_counter_stands_still_is_dead_to_the_others() {
    let mut world = two();
    world.process("b").is_paused = true;
    world.run(LEASE_MS / 1000 - 1);
    assert_eq!(world.owned_by("b").len(), 4);
    world.run(6);
    assert_eq!(world.owned_by("a").len(), 8);
    // It wakes up, finds that it owns nothing, and gets its share back.
    world.process("b").is_paused = false;
    world.run(60);
    world.all_are_served();
    assert_eq!(world.counts(), counts([("a", 4), ("b", 4)]));
}

#[test]
fn rule_30_an_offer_to_a_process_that_never_comes_is_withdrawn_and_changes_nothing() {
    let mut world = World::new(4);
    world.join("a", 1);
    world.run(20);
    world.join("b", 1);
    world.run(1);
    // It lives, and looks at nothing.
    world.process("b").is_paused = true;
    for _ in 0..50 {
        world.member("b").counter += 1;
        world.run(1);
    }
    assert_eq!(world.total_moves(), 0);
    assert_eq!(world.owned_by("a").len(), 4);
    world.all_are_served();
    let offered = world.view.partitions.iter().filter(|it| it.offer.is_some());
    assert!(offered.count() <= 1, "one at a time");
    // Another one is offered what the first did not take.
    world.join("c", 1);
    for _ in 0..60 {
        world.member("b").counter += 1;
        world.run(1);
    }
    assert_eq!(world.counts(), counts([("a", 2), ("b", 0), ("c", 2)]));
    world.all_are_served();
}

#[test]
fn rule_30_a_partition_that_was_released_for_a_process_that_died_is_claimed_by_another() {
    let mut world = two();
    let item = world.item(0);
    item.owner = Some("a".into());
    item.released = true;
    item.offer = Some(Offer {
        to: "gone".into(),
        ready: true,
    });
    world.process("a").serving.remove(&0);
    world.process("b").serving.remove(&0);
    world.run(5);
    world.all_are_served();
}

#[test]
fn rule_30_a_released_partition_is_kept_for_its_taker_a_while_and_then_for_all() {
    let mut world = two();
    let number = world.owned_by("a")[0];
    let item = world.item(number);
    item.released = true;
    item.offer = Some(Offer {
        to: "b".into(),
        ready: true,
    });
    world.process("a").serving.remove(&number);
    // The taker sleeps, and is not dead yet.
    world.process("b").is_paused = true;
    world.run(1);
    assert!(world.view.partitions[number as usize].released);
    world.run(4);
    assert_eq!(world.owned_by("a").len(), 4);
}

#[test]
fn rule_46_a_partition_without_an_owner_is_claimed_although_nobody_has_room() {
    let mut world = World::new(2);
    world.join("a", 1);
    world.join("b", 1);
    world.run(15);
    // A process joins that can own nothing, dies at each claim, and takes part of the shares.
    world.join("c", 1);
    world.process("c").is_paused = true;
    let number = world.owned_by("a")[0];
    world.kill("a");
    for _ in 0..30 {
        world.member("c").counter += 1;
        world.run(1);
    }
    assert_eq!(
        world.owned_by("b").len(),
        2,
        "partition {number} has no owner"
    );
    world.all_are_served();
}

#[test]
fn rule_46_two_processes_do_not_claim_from_one_another() {
    let mut world = two();
    // Both are silent for less than the lease time, in turn.
    for _ in 0..20 {
        for name in ["a", "b"] {
            world.process(name).is_paused = true;
            world.run(LEASE_MS / 1000 - 2);
            world.process(name).is_paused = false;
            world.run(2);
        }
    }
    assert_eq!(world.total_moves(), 0);
}

#[test]
fn a_pinned_partition_goes_to_its_process_and_stays_there() {
    let mut world = two();
    let number = world.owned_by("a")[0];
    world.item(number).pinned = Some("b".into());
    world.run(60);
    assert!(world.owned_by("b").contains(&number));
    world.all_are_served();
    world.run(120);
    assert!(world.owned_by("b").contains(&number));
}

#[test]
fn frozen_partitions_stay_while_their_owner_lives_and_leave_when_it_stops() {
    let mut world = World::new(4);
    world.join("a", 1);
    world.run(20);
    for number in 0..4 {
        world.item(number).frozen = true;
    }
    world.join("b", 1);
    world.run(60);
    assert_eq!(world.owned_by("a").len(), 4);
    world.drain("a");
    world.run(20);
    assert_eq!(world.owned_by("b").len(), 4);
    world.all_are_served();
}

#[test]
fn shares_follow_the_weights() {
    let mut world = World::new(9);
    world.join("a", 1);
    world.join("b", 1);
    world.member("b").weight = 2;
    world.run(60);
    assert_eq!(world.counts(), counts([("a", 3), ("b", 6)]));
}

/// Joins, deaths, pauses and stops at random. Whenever they end, all partitions are served by their
/// owners, none has more than a share, and nothing moves any more.
#[test]
fn after_any_trouble_all_partitions_are_served_in_shares_and_rest() {
    for seed in 0..60_u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        let mut world = World::new(1 + below(12) as u32);
        world.join("p0", 1);
        for number in 1..=12 {
            world.run(below(25));
            let alive = world.processes.iter().filter(|it| it.is_alive);
            let alive: Vec<String> = alive.map(|it| it.id.to_string()).collect();
            let one = &alive[below(alive.len() as u64) as usize];
            match below(5) {
                0 | 1 => world.join(&format!("p{number}"), 1 + below(3)),
                2 if alive.len() > 1 => world.kill(one),
                3 if alive.len() > 1 => world.drain(one),
                _ => {
                    world.process(one).is_paused = true;
                    world.run(below(20));
                    world.process(one).is_paused = false;
                }
            }
        }
        world.join("last", 9);
        world.run(240);
        world.all_are_served();
        let stay = world.view.members.iter().filter(|it| !it.draining);
        let stay: Vec<String> = stay.map(|it| it.id.to_string()).collect();
        let live = world.processes.iter().filter(|it| it.is_alive);
        let live: Vec<&Process> = live
            .filter(|it| stay.contains(&it.id.to_string()))
            .collect();
        let share = world.view.partitions.len().div_ceil(live.len());
        for process in live {
            let owned = world.owned_by(&process.id).len();
            assert!(
                owned <= share,
                "seed {seed}: {} has {owned} of {share}",
                process.id
            );
        }
        let before = world.total_moves();
        world.run(120);
        assert_eq!(world.total_moves(), before, "seed {seed}");
    }
}
