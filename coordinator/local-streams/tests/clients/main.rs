//! One client, the AWS SDK, against three servers of the Kinesis API: local streams, kinesalite and
//! kinesis-local. The suite names each known deviation of a stand-in from Kinesis, and fails when a
//! deviation no longer exists.

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

/// Maximum time of a scenario. It is far longer than any scenario takes, unless its server never
/// answers.
const SCENARIO_MAX: Duration = Duration::from_secs(120);
/// Maximum time to wait for a server that is known to hang.
const HANGING_MAX: Duration = Duration::from_secs(10);

type Run = for<'s> fn(&'s Server) -> Pin<Box<dyn Future<Output = ()> + 's>>;

/// Scenarios with their names.
macro_rules! scenarios {
    ($($module:ident::$scenario:ident,)*) => {
        const SCENARIOS: &[(&str, Run)] =
            &[$((stringify!($scenario), |server| Box::pin($module::$scenario(server)))),*];
    };
}

scenarios! {
    records::put_records_are_read_in_order_from_every_kind_of_iterator,
    records::a_time_between_two_records_finds_the_second,
    records::a_time_after_the_last_record_finds_nothing,
    records::records_go_to_the_shard_of_their_key_or_explicit_hash_key,
    records::the_largest_record_is_accepted_and_a_larger_one_refused,
    records::a_request_has_at_most_500_records,
    records::a_missing_shard_is_refused,
    records::an_invalid_iterator_is_refused,
    records::sequence_numbers_that_a_shard_never_assigned_are_refused,
    control::streams_are_created_described_and_deleted,
    control::streams_are_listed_after_any_name,
    control::shards_are_described_in_pages,
    control::an_invalid_name_is_refused,
    control::a_split_at_the_edge_of_a_shard_is_refused,
    control::missing_and_existing_resources_have_their_error_codes,
    control::a_split_shard_is_closed_and_its_children_name_it,
    control::a_closed_shard_ends_with_its_children,
    control::merged_shards_have_a_child_with_two_parents,
    control::shards_are_scaled_up_and_down,
    control::shards_are_listed_in_pages,
    control::shards_are_listed_by_a_filter,
    control::the_retention_is_changed_within_its_bounds,
    control::tags_are_kept,
    consumers::consumers_are_registered_described_listed_and_deregistered,
    consumers::a_subscription_delivers_existing_and_new_records,
    consumers::a_subscription_to_a_shard_that_is_split_ends_with_its_children,
}

/// Known deviations of the stand-ins from Kinesis.
const DEVIATIONS: &[(Which, &str, &str)] = &[
    (
        KINESALITE,
        "shards_are_described_in_pages",
        "DescribeStream returns all shards, whatever the limit",
    ),
    (
        KINESALITE,
        "shards_are_listed_in_pages",
        "ListShards returns all shards, whatever the limit",
    ),
    (
        KINESIS_LOCAL,
        "an_invalid_iterator_is_refused",
        "the server fails",
    ),
    (
        KINESIS_LOCAL,
        "a_split_at_the_edge_of_a_shard_is_refused",
        "it creates an empty shard",
    ),
    (
        KINESIS_LOCAL,
        "a_request_has_at_most_500_records",
        "it accepts more",
    ),
    (
        KINESIS_LOCAL,
        "an_invalid_name_is_refused",
        "the code is InvalidArgumentException",
    ),
    (
        KINESIS_LOCAL,
        "streams_are_listed_after_any_name",
        "it starts only after names of existing streams",
    ),
    (
        KINESIS_LOCAL,
        "sequence_numbers_that_a_shard_never_assigned_are_refused",
        "it accepts any number",
    ),
    (
        KINESALITE,
        "a_time_after_the_last_record_finds_nothing",
        "it never answers",
    ),
    (
        KINESALITE,
        "a_closed_shard_ends_with_its_children",
        "it returns no ChildShards",
    ),
    (
        KINESALITE,
        "shards_are_scaled_up_and_down",
        "it has no UpdateShardCount",
    ),
    (
        KINESALITE,
        "shards_are_listed_by_a_filter",
        "it ignores ShardFilter",
    ),
    (
        KINESALITE,
        "consumers_are_registered_described_listed_and_deregistered",
        "it has no consumers",
    ),
    (
        KINESALITE,
        "a_subscription_delivers_existing_and_new_records",
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
async fn local_streams_behave_like_kinesis() {
    run_all(&Server::local().await).await;
}

#[tokio::test]
#[ignore = "needs Node.js: `.ci/run kinesis-servers`"]
async fn kinesalite_behaves_like_kinesis_except_for_known_deviations() {
    run_all(&Server::kinesalite()).await;
}

#[tokio::test]
#[ignore = "needs Node.js: `.ci/run kinesis-servers`"]
async fn kinesis_local_behaves_like_kinesis_except_for_known_deviations() {
    run_all(&Server::kinesis_local()).await;
}

/// Runs every scenario, and reports all failures.
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
                wrong.push(format!("{name}: passed, although listed as: {how}"));
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
