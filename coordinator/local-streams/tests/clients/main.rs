//! One client, the AWS SDK, against three servers of the Kinesis API: local streams, kinesalite and kinesis-local. Where a stand-in is
//! known to differ from Kinesis, the suite names that, and fails when it does not differ any more.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod consumers;
mod control;
mod own;
mod records;
mod server;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use futures::FutureExt;
use server::{KINESALITE, KINESIS_LOCAL, Server, Which};

/// How long a scenario may take; far longer than any takes, except one whose server never answers.
const SCENARIO_MAX: Duration = Duration::from_secs(120);
/// How long a server that is known to hang is listened to.
const HANGING_MAX: Duration = Duration::from_secs(10);

type Run = for<'s> fn(&'s Server) -> Pin<Box<dyn Future<Output = ()> + 's>>;

/// A scenario by its name.
macro_rules! scenarios {
    ($($module:ident::$scenario:ident,)*) => {
        const SCENARIOS: &[(&str, Run)] = &[$((stringify!($scenario), |server| Box::pin($module::$scenario(server)))),*];
    };
}

scenarios! {
    records::what_is_put_is_read_in_order_from_every_kind_of_iterator,
    records::a_time_between_two_records_finds_the_second,
    records::a_time_after_the_last_record_finds_nothing,
    records::records_go_to_the_shard_of_their_key_or_explicit_hash_key,
    records::the_largest_record_is_taken_and_a_larger_one_refused,
    records::a_request_has_at_most_500_records,
    records::a_shard_that_is_not_there_is_refused,
    records::an_iterator_that_is_none_is_refused,
    records::sequence_numbers_of_no_record_of_a_shard_are_refused,
    control::streams_are_created_described_and_deleted,
    control::streams_are_listed_from_any_name_on,
    control::shards_are_described_in_pages,
    control::a_name_that_is_none_is_refused,
    control::a_split_at_the_edge_of_a_shard_is_refused,
    control::what_is_missing_or_there_already_has_its_code,
    control::a_split_shard_is_closed_and_its_children_name_it,
    control::a_closed_shard_ends_with_its_children,
    control::merged_shards_have_a_child_with_two_parents,
    control::shards_are_counted_up_and_down,
    control::shards_are_listed_in_pages,
    control::shards_are_listed_by_a_filter,
    control::the_retention_is_changed_within_its_bounds,
    control::tags_are_kept,
    consumers::consumers_are_registered_described_listed_and_deregistered,
    consumers::a_subscription_gives_what_is_there_and_what_comes,
    consumers::a_subscription_to_a_shard_that_is_split_ends_with_its_children,
}

/// How a stand-in differs from Kinesis.
const DEVIATIONS: &[(Which, &str, &str)] = &[
    (
        KINESALITE,
        "shards_are_described_in_pages",
        "its DescribeStream gives all shards, whatever the limit",
    ),
    (
        KINESALITE,
        "shards_are_listed_in_pages",
        "its ListShards gives all shards, whatever the limit",
    ),
    (
        KINESIS_LOCAL,
        "an_iterator_that_is_none_is_refused",
        "it fails itself",
    ),
    (
        KINESIS_LOCAL,
        "a_split_at_the_edge_of_a_shard_is_refused",
        "it makes an empty shard",
    ),
    (
        KINESIS_LOCAL,
        "a_request_has_at_most_500_records",
        "it takes more",
    ),
    (
        KINESIS_LOCAL,
        "a_name_that_is_none_is_refused",
        "it says InvalidArgumentException",
    ),
    (
        KINESIS_LOCAL,
        "streams_are_listed_from_any_name_on",
        "it begins after names that are there only",
    ),
    (
        KINESIS_LOCAL,
        "sequence_numbers_of_no_record_of_a_shard_are_refused",
        "it takes any number",
    ),
    (
        KINESALITE,
        "a_time_after_the_last_record_finds_nothing",
        "it never answers",
    ),
    (
        KINESALITE,
        "a_closed_shard_ends_with_its_children",
        "it knows no ChildShards",
    ),
    (
        KINESALITE,
        "shards_are_counted_up_and_down",
        "it has no UpdateShardCount",
    ),
    (
        KINESALITE,
        "shards_are_listed_by_a_filter",
        "it knows no ShardFilter",
    ),
    (
        KINESALITE,
        "consumers_are_registered_described_listed_and_deregistered",
        "it has no consumers",
    ),
    (
        KINESALITE,
        "a_subscription_gives_what_is_there_and_what_comes",
        "it has no consumers",
    ),
    (
        KINESALITE,
        "a_subscription_to_a_shard_that_is_split_ends_with_its_children",
        "it has no consumers",
    ),
    (
        KINESIS_LOCAL,
        "a_subscription_to_a_shard_that_is_split_ends_with_its_children",
        "it neither ends nor sends ChildShards",
    ),
];

#[tokio::test]
async fn local_streams_are_kinesis_to_a_client() {
    run_all(&Server::local().await).await;
}

#[tokio::test]
#[ignore = "needs Node.js: `.ci/run kinesis-servers`"]
async fn kinesalite_is_kinesis_to_a_client_but_for_what_is_named() {
    run_all(&Server::kinesalite()).await;
}

#[tokio::test]
#[ignore = "needs Node.js: `.ci/run kinesis-servers`"]
async fn kinesis_local_is_kinesis_to_a_client_but_for_what_is_named() {
    run_all(&Server::kinesis_local()).await;
}

/// Runs every scenario, and tells of all that went wrong.
async fn run_all(server: &Server) {
    let mut wrong = Vec::new();
    for (name, run) in SCENARIOS {
        let known = DEVIATIONS
            .iter()
            .find(|(which, scenario, _)| *which == server.which && scenario == name);
        let limit = if known.is_some() {
            HANGING_MAX
        } else {
            SCENARIO_MAX
        };
        let outcome = tokio::time::timeout(limit, AssertUnwindSafe(run(server)).catch_unwind());
        let passed = matches!(outcome.await, Ok(Ok(())));
        match known {
            None if passed => println!("{name}: as Kinesis"),
            None => wrong.push(format!("{name}: failed or took too long, see above")),
            Some((_, _, how)) if !passed => println!("{name}: differs as known: {how}"),
            Some((_, _, how)) => {
                wrong.push(format!("{name}: it is said that {how}, but it passed"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{:?}:\n{}",
        server.which,
        wrong.join("\n")
    );
}
