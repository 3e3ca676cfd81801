//! Creating, changing, listing, deleting.

use aws_sdk_kinesis::types::{ScalingType, Shard, ShardFilter, ShardFilterType, ShardIteratorType};

use crate::server::{Server, code};

const HALF: &str = "170141183460469231731687303715884105728";
const LAST: &str = "340282366920938463463374607431768211455";

fn ids(shards: &[Shard]) -> Vec<&str> {
    shards.iter().map(|shard| shard.shard_id.as_str()).collect()
}

fn range(shard: &Shard) -> (&str, &str) {
    let range = shard.hash_key_range.as_ref().unwrap();
    (&range.starting_hash_key, &range.ending_hash_key)
}

fn ending(shard: &Shard) -> Option<&str> {
    let numbers = shard.sequence_number_range.as_ref().unwrap();
    numbers.ending_sequence_number.as_deref()
}

fn open(shards: &[Shard]) -> usize {
    shards
        .iter()
        .filter(|shard| ending(shard).is_none())
        .count()
}

async fn split(server: &Server, stream: &str) {
    let split = server.client.split_shard().stream_name(stream);
    let split = split
        .shard_to_split("shardId-000000000000")
        .new_starting_hash_key(HALF);
    split.send().await.unwrap();
    server.active(stream).await;
}

pub(crate) async fn streams_are_created_described_and_deleted(server: &Server) {
    let arn = server.create("made", 3).await;
    assert!(
        arn.starts_with("arn:aws:kinesis:us-east-1:") && arn.ends_with(":stream/made"),
        "{arn}"
    );
    let listed = server.client.list_streams().send().await.unwrap();
    assert!(listed.stream_names.contains(&"made".to_owned()));
    let described = server.client.describe_stream().stream_name("made");
    let described = described.send().await.unwrap();
    let described = described.stream_description.unwrap();
    assert_eq!(described.stream_name, "made");
    assert_eq!(described.retention_period_hours, 24);
    assert_eq!(
        (described.shards.len(), described.has_more_shards),
        (3, false)
    );
    assert_eq!(range(&described.shards[0]).0, "0");
    assert_eq!(range(&described.shards[2]).1, LAST);
    let delete = server.client.delete_stream().stream_name("made");
    delete.send().await.unwrap();
    loop {
        let described = server.client.describe_stream().stream_name("made");
        if let Err(error) = described.send().await {
            assert_eq!(code::<(), _>(Err(error)), "ResourceNotFoundException");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

pub(crate) async fn streams_are_listed_after_any_name(server: &Server) {
    server.create("listed-a", 1).await;
    server.create("listed-b", 1).await;
    let list = server.client.list_streams();
    let listed = list.exclusive_start_stream_name("listed").limit(1);
    let listed = listed.send().await.unwrap();
    let first = (listed.stream_names, listed.has_more_streams);
    assert_eq!(first, (vec!["listed-a".to_owned()], true));
    let list = server.client.list_streams();
    let listed = list.exclusive_start_stream_name("listed-a").limit(1);
    let listed = listed.send().await.unwrap();
    assert_eq!(listed.stream_names, ["listed-b"]);
}

pub(crate) async fn shards_are_described_in_pages(server: &Server) {
    server.create("described", 3).await;
    let describe = || server.client.describe_stream().stream_name("described");
    let first = describe().limit(2).send().await.unwrap();
    let first = first.stream_description.unwrap();
    let two = ["shardId-000000000000", "shardId-000000000001"];
    assert_eq!(ids(&first.shards), two);
    assert!(first.has_more_shards);
    let rest = describe().exclusive_start_shard_id(two[1]).send().await;
    let rest = rest.unwrap().stream_description.unwrap();
    assert_eq!(ids(&rest.shards), ["shardId-000000000002"]);
    assert!(!rest.has_more_shards);
}

pub(crate) async fn an_invalid_name_is_refused(server: &Server) {
    let create = server.client.create_stream().stream_name("not a name");
    assert_eq!(
        code(create.shard_count(1).send().await),
        "ValidationException"
    );
}

pub(crate) async fn missing_and_existing_resources_have_their_error_codes(server: &Server) {
    let described = server
        .client
        .describe_stream_summary()
        .stream_name("missing")
        .send()
        .await;
    assert_eq!(code(described), "ResourceNotFoundException");
    let put = server
        .client
        .put_record()
        .stream_name("missing")
        .partition_key("k");
    let put = put
        .data(aws_sdk_kinesis::primitives::Blob::new("x"))
        .send()
        .await;
    assert_eq!(code(put), "ResourceNotFoundException");
    server.create("there", 1).await;
    let again = server
        .client
        .create_stream()
        .stream_name("there")
        .shard_count(1)
        .send()
        .await;
    assert_eq!(code(again), "ResourceInUseException");
}

pub(crate) async fn a_split_at_the_edge_of_a_shard_is_refused(server: &Server) {
    server.create("edge", 1).await;
    let far = server
        .client
        .split_shard()
        .stream_name("edge")
        .shard_to_split("shardId-000000000000");
    let far = far.new_starting_hash_key("0").send().await;
    assert_eq!(code(far), "InvalidArgumentException");
}

pub(crate) async fn a_split_shard_is_closed_and_its_children_name_it(server: &Server) {
    server.create("split", 1).await;
    server.put("split", "a", "before").await;
    split(server, "split").await;
    let (shard, _) = server.put_at("split", HALF, "high").await;
    assert_eq!(shard, "shardId-000000000002");
    let shards = server.shards("split").await;
    assert_eq!(
        ids(&shards),
        [
            "shardId-000000000000",
            "shardId-000000000001",
            "shardId-000000000002"
        ]
    );
    assert!(ending(&shards[0]).is_some());
    assert_eq!((ending(&shards[1]), ending(&shards[2])), (None, None));
    for child in &shards[1..] {
        assert_eq!(
            child.parent_shard_id.as_deref(),
            Some("shardId-000000000000")
        );
        assert_eq!(child.adjacent_parent_shard_id, None);
    }
    assert_eq!(
        range(&shards[1]),
        ("0", "170141183460469231731687303715884105727")
    );
    assert_eq!(range(&shards[2]), (HALF, LAST));
    assert_eq!(
        server.data("split", "shardId-000000000000", 1).await,
        ["before"]
    );
    assert_eq!(
        server.data("split", "shardId-000000000002", 1).await,
        ["high"]
    );
    // The parent ends: no iterator comes after its last record.
    let kind = ShardIteratorType::TrimHorizon;
    let mut iterator = Some(
        server
            .iterator("split", "shardId-000000000000", kind, None)
            .await,
    );
    while let Some(next) = iterator {
        iterator = server.get(&next).await.next_shard_iterator;
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
}

pub(crate) async fn a_closed_shard_ends_with_its_children(server: &Server) {
    server.create("ending", 1).await;
    split(server, "ending").await;
    let kind = ShardIteratorType::TrimHorizon;
    let iterator = server
        .iterator("ending", "shardId-000000000000", kind, None)
        .await;
    let got = server.get(&iterator).await;
    assert_eq!(got.next_shard_iterator, None);
    let children = got.child_shards.unwrap();
    let children: Vec<_> = children
        .iter()
        .map(|child| (child.shard_id.as_str(), child.parent_shards.clone()))
        .collect();
    let parents = vec!["shardId-000000000000".to_owned()];
    assert_eq!(
        children,
        [
            ("shardId-000000000001", parents.clone()),
            ("shardId-000000000002", parents)
        ]
    );
}

pub(crate) async fn merged_shards_have_a_child_with_two_parents(server: &Server) {
    server.create("merged", 2).await;
    let merge = server.client.merge_shards().stream_name("merged");
    let merge = merge.shard_to_merge("shardId-000000000000");
    merge
        .adjacent_shard_to_merge("shardId-000000000001")
        .send()
        .await
        .unwrap();
    server.active("merged").await;
    let shards = server.shards("merged").await;
    assert_eq!((shards.len(), open(&shards)), (3, 1));
    assert_eq!(
        shards[2].parent_shard_id.as_deref(),
        Some("shardId-000000000000")
    );
    assert_eq!(
        shards[2].adjacent_parent_shard_id.as_deref(),
        Some("shardId-000000000001")
    );
    assert_eq!(range(&shards[2]), ("0", LAST));
    let (shard, _) = server.put("merged", "a", "after").await;
    assert_eq!(shard, "shardId-000000000002");
}

pub(crate) async fn shards_are_scaled_up_and_down(server: &Server) {
    server.create("counted", 2).await;
    let update = |target: i32| {
        let update = server.client.update_shard_count().stream_name("counted");
        update
            .target_shard_count(target)
            .scaling_type(ScalingType::UniformScaling)
            .send()
    };
    for target in [4, 3] {
        update(target).await.unwrap();
        server.active("counted").await;
        assert_eq!(open(&server.shards("counted").await), target as usize);
    }
    update(7).await.unwrap_err();
}

pub(crate) async fn shards_are_listed_in_pages(server: &Server) {
    server.create("paged", 3).await;
    let first = server
        .client
        .list_shards()
        .stream_name("paged")
        .max_results(2)
        .send()
        .await
        .unwrap();
    assert_eq!(
        ids(first.shards()),
        ["shardId-000000000000", "shardId-000000000001"]
    );
    let token = first.next_token.unwrap();
    let second = server
        .client
        .list_shards()
        .next_token(&token)
        .send()
        .await
        .unwrap();
    assert_eq!(
        (ids(second.shards()), second.next_token.as_deref()),
        (vec!["shardId-000000000002"], None)
    );
    let both = server
        .client
        .list_shards()
        .next_token(&token)
        .stream_name("paged")
        .send()
        .await;
    assert_eq!(code(both), "InvalidArgumentException");
}

pub(crate) async fn shards_are_listed_by_a_filter(server: &Server) {
    server.create("filtered", 1).await;
    split(server, "filtered").await;
    let listed = async |kind: ShardFilterType, shard: Option<&str>| {
        let filter = ShardFilter::builder()
            .r#type(kind)
            .set_shard_id(shard.map(str::to_owned));
        let list = server.client.list_shards().stream_name("filtered");
        let listed = list
            .shard_filter(filter.build().unwrap())
            .send()
            .await
            .unwrap();
        ids(listed.shards())
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let latest = listed(ShardFilterType::AtLatest, None).await;
    assert_eq!(latest, ["shardId-000000000001", "shardId-000000000002"]);
    let after = listed(ShardFilterType::AfterShardId, Some("shardId-000000000001")).await;
    assert_eq!(after, ["shardId-000000000002"]);
    let from = listed(ShardFilterType::FromTrimHorizon, None).await;
    assert_eq!(from.len(), 3);
}

pub(crate) async fn the_retention_is_changed_within_its_bounds(server: &Server) {
    server.create("kept", 1).await;
    let client = &server.client;
    let hours = async || {
        let described = client
            .describe_stream_summary()
            .stream_name("kept")
            .send()
            .await
            .unwrap();
        described
            .stream_description_summary
            .unwrap()
            .retention_period_hours
    };
    let increase = client
        .increase_stream_retention_period()
        .stream_name("kept");
    increase.retention_period_hours(48).send().await.unwrap();
    assert_eq!(hours().await, 48);
    let decrease = client
        .decrease_stream_retention_period()
        .stream_name("kept");
    let refused = decrease.clone().retention_period_hours(72).send().await;
    assert_eq!(code(refused), "InvalidArgumentException");
    decrease.retention_period_hours(24).send().await.unwrap();
    assert_eq!(hours().await, 24);
}

pub(crate) async fn tags_are_kept(server: &Server) {
    server.create("tagged", 1).await;
    let add = server.client.add_tags_to_stream().stream_name("tagged");
    add.tags("owner", "me")
        .tags("stage", "test")
        .send()
        .await
        .unwrap();
    let remove = server
        .client
        .remove_tags_from_stream()
        .stream_name("tagged");
    remove.tag_keys("stage").send().await.unwrap();
    let listed = server
        .client
        .list_tags_for_stream()
        .stream_name("tagged")
        .send()
        .await
        .unwrap();
    let tags: Vec<_> = listed
        .tags
        .iter()
        .map(|tag| (tag.key.as_str(), tag.value.as_deref()))
        .collect();
    assert_eq!(tags, [("owner", Some("me"))]);
}
