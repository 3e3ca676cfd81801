//! Streams that are split, merged and rescaled while records are put and owners are killed. The
//! records of a key stay in order, and each is counted once.

use std::time::{Duration, Instant};

use aws_sdk_kinesis::types::{ScalingType, Shard};
use satchel_testkit::Cloud;

use super::load::{
    Greetings, Producer, all_are_counted_once, all_are_greeted_in_order, all_are_greeted_once,
    cloud, module, module_with,
};

const STREAM: &str = "names";

/// Pause between two changes of the stream.
const PAUSE: Duration = Duration::from_secs(1);

/// Open shards of the stream, ordered by hash key.
async fn open_shards(cloud: &Cloud) -> Vec<Shard> {
    let list = cloud.kinesis_client().list_shards().stream_name(STREAM);
    let mut shards = list.send().await.unwrap().shards.unwrap();
    shards.retain(|shard| {
        let range = shard.sequence_number_range().unwrap();
        range.ending_sequence_number().is_none()
    });
    shards.sort_by_key(range);
    shards
}

fn range(shard: &Shard) -> (u128, u128) {
    let range = shard.hash_key_range().unwrap();
    let first = range.starting_hash_key().parse().unwrap();
    (first, range.ending_hash_key().parse().unwrap())
}

async fn split(cloud: &Cloud) {
    let first = open_shards(cloud).await.remove(0);
    let (from, to) = range(&first);
    let split = cloud.kinesis_client().split_shard().stream_name(STREAM);
    let split = split.shard_to_split(first.shard_id());
    let middle = (from + (to - from) / 2).to_string();
    split.new_starting_hash_key(middle).send().await.unwrap();
    cloud.stream_is_active(STREAM).await;
}

async fn merge(cloud: &Cloud) {
    let open = open_shards(cloud).await;
    let merge = cloud.kinesis_client().merge_shards().stream_name(STREAM);
    let merge = merge.shard_to_merge(open[0].shard_id());
    let merge = merge.adjacent_shard_to_merge(open[1].shard_id());
    merge.send().await.unwrap();
    cloud.stream_is_active(STREAM).await;
}

async fn rescale(cloud: &Cloud, shards: i32) {
    let update = cloud.kinesis_client().update_shard_count();
    let update = update.stream_name(STREAM).target_shard_count(shards);
    let update = update.scaling_type(ScalingType::UniformScaling);
    update.send().await.unwrap();
    cloud.stream_is_active(STREAM).await;
    let open = open_shards(cloud).await.len();
    assert_eq!(i32::try_from(open).unwrap(), shards);
}

async fn order_holds(consumer: &str) {
    let cloud = cloud(2).await;
    let dir = tempfile::tempdir().unwrap();
    let module = module(dir.path(), &format!("  consumer: {{type: {consumer}}}\n"));
    let mut app = cloud.setup(&module).start().await;
    let begun = Instant::now();
    let mut greetings = Greetings::of(&cloud);
    let producer = Producer::begin(&cloud, 500);
    tokio::time::sleep(PAUSE).await;
    split(&cloud).await;
    tokio::time::sleep(PAUSE).await;
    merge(&cloud).await;
    split(&cloud).await;
    app.kill9().await;
    rescale(&cloud, 4).await;
    app.restart().await;
    tokio::time::sleep(PAUSE).await;
    rescale(&cloud, 2).await;
    tokio::time::sleep(PAUSE).await;
    let put = producer.end().await;
    all_are_greeted_once(&mut greetings, put).await;
    all_are_counted_once(&app.client, put).await;
    eprintln!("{consumer}: {put} records in {:.1?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_per_key_holds_while_the_stream_is_resharded_under_load_with_polling() {
    order_holds("polling").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_per_key_holds_while_the_stream_is_resharded_under_load_with_fan_out() {
    order_holds("fan-out").await;
}

/// Reading of a shard that its partition does not plan, in the log.
const HANDED: &str = "reading a shard for the partition that plans its stream";

async fn order_holds_over_partitions(consumer: &str) {
    let cloud = cloud(4).await;
    let dir = tempfile::tempdir().unwrap();
    let module = module_with(
        dir.path(),
        &format!("  consumer: {{type: {consumer}}}\n"),
        "",
    );
    let setup = cloud.setup(&module).env("SATCHEL_PARTITIONS", "4");
    let setup = setup.env("SATCHEL_PEER", "127.0.0.1:0");
    let mut one = setup.start().await;
    let mut two = setup.start().await;
    let mut greetings = Greetings::of(&cloud);
    let producer = Producer::begin(&cloud, 300);
    tokio::time::sleep(PAUSE).await;
    split(&cloud).await;
    tokio::time::sleep(PAUSE).await;
    merge(&cloud).await;
    split(&cloud).await;
    one.kill9().await;
    rescale(&cloud, 6).await;
    one.restart().await;
    tokio::time::sleep(PAUSE).await;
    rescale(&cloud, 3).await;
    tokio::time::sleep(PAUSE).await;
    let put = producer.end().await;
    all_are_greeted_in_order(&mut greetings, put).await;
    all_are_counted_once(&one.client, put).await;
    let (one, two) = (one.terminate().await, two.terminate().await);
    assert_eq!((one.code, two.code), (Some(0), Some(0)));
    let handed = [&one, &two].map(|ended| ended.printed.matches(HANDED).count());
    assert!(handed.iter().sum::<usize>() >= 4, "{handed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_24_order_per_key_holds_while_shards_move_over_partitions_of_two_processes() {
    order_holds_over_partitions("polling").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_24_the_same_holds_if_all_partitions_read_as_one_fan_out_consumer() {
    order_holds_over_partitions("fan-out").await;
}
