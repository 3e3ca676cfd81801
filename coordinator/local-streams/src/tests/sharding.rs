use super::{data_from, open, record};
use crate::{NewRecord, ReadFrom, Record, SequenceNumber, Stream, StreamError, Streams};

fn placed(hash_key: u128, data: &str) -> NewRecord {
    NewRecord {
        explicit_hash_key: Some(hash_key),
        ..record("key", data, 0)
    }
}

/// All present records of a shard from a position.
async fn shard_records(stream: &Stream, shard: u32, from: ReadFrom) -> Vec<Record> {
    let mut reader = stream.read_shard(shard, from).await.unwrap();
    let mut all = Vec::new();
    loop {
        let records = reader.next(2, usize::MAX).await.unwrap();
        if records.is_empty() {
            return all;
        }
        all.extend(records);
    }
}

async fn shard_data(stream: &Stream, shard: u32) -> Vec<String> {
    let records = shard_records(stream, shard, ReadFrom::Earliest).await;
    let text = |record: Record| String::from_utf8(record.data.to_vec()).unwrap();
    records.into_iter().map(text).collect()
}

#[tokio::test]
async fn a_record_goes_to_the_shard_of_its_key_or_of_its_explicit_hash_key() {
    let streams = Streams::ephemeral();
    let stream = streams.create("names", 2, false).await.unwrap();
    // The first bit of the MD5 of "a" is 0, that of "abc" is 1.
    let numbers = stream
        .append_all(vec![
            record("a", "low", 0),
            record("abc", "high", 0),
            placed(u128::MAX, "explicit"),
        ])
        .await
        .unwrap();
    let shards: Vec<u32> = numbers.iter().map(|number| number.shard()).collect();
    assert_eq!(shards, [0, 1, 1]);
    assert_eq!(shard_data(&stream, 0).await, ["low"]);
    assert_eq!(shard_data(&stream, 1).await, ["high", "explicit"]);
    let all = data_from(&stream, ReadFrom::Earliest).await;
    assert_eq!(all, ["low", "high", "explicit"]);
}

#[tokio::test]
async fn a_split_shard_ends_and_its_children_continue_across_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let stream = open(directory.path()).await;
    stream.append(placed(7, "parent")).await.unwrap();
    let mut following = stream.read_shard(0, ReadFrom::Latest).await.unwrap();
    let follower = tokio::spawn(async move { following.follow(10, 1_000).await });
    stream.split(0, 1 << 127).await.unwrap();
    stream
        .append_all(vec![placed(7, "left"), placed(1 << 127, "right")])
        .await
        .unwrap();
    assert_eq!(follower.await.unwrap(), Ok(Vec::new()), "the shard ended");
    let before = stream.description();
    drop(stream);

    let stream = open(directory.path()).await;
    assert_eq!(stream.description().shards, before.shards);
    assert_eq!(shard_data(&stream, 0).await, ["parent"]);
    assert_eq!(shard_data(&stream, 1).await, ["left"]);
    assert_eq!(shard_data(&stream, 2).await, ["right"]);
    stream.merge(2, 1).await.unwrap();
    stream.append(placed(u128::MAX, "merged")).await.unwrap();
    let description = stream.description();
    assert_eq!(description.shard(3).unwrap().parents, [2, 1]);
    assert_eq!(shard_data(&stream, 3).await, ["merged"]);
    let mut last: Option<SequenceNumber> = None;
    for shard in 0..4 {
        let shard = description.shard(shard).unwrap();
        let records = shard_records(&stream, shard.index, ReadFrom::Earliest).await;
        assert!(shard.starting_sequence_number() < records[0].sequence_number);
        let at_start = ReadFrom::At(shard.starting_sequence_number());
        assert_eq!(shard_records(&stream, shard.index, at_start).await, records);
        if let Some(ending) = shard.ending_sequence_number() {
            assert!(records[0].sequence_number < ending);
            last = Some(ending);
        }
    }
    assert!(last.is_some());
    assert_eq!(
        data_from(&stream, ReadFrom::Earliest).await,
        ["parent", "left", "right", "merged"]
    );
}

#[tokio::test]
async fn another_stream_object_sees_a_split_and_appends_to_the_children() {
    let directory = tempfile::tempdir().unwrap();
    let (here, there) = (open(directory.path()).await, open(directory.path()).await);
    here.split(0, 1 << 127).await.unwrap();
    let number = there.append(placed(0, "left")).await.unwrap();
    assert_eq!(number.shard(), 1);
    assert_eq!(shard_data(&there, 1).await, ["left"]);
    let mut reader = here.read_shard(1, ReadFrom::Earliest).await.unwrap();
    assert_eq!(reader.follow(10, 100).await.unwrap()[0].data, "left");
}

#[tokio::test]
async fn a_number_of_another_shard_is_refused() {
    let streams = Streams::ephemeral();
    let stream = streams.create("names", 2, false).await.unwrap();
    let number = stream.append(placed(0, "low")).await.unwrap();
    let refused = stream
        .read_shard(1, ReadFrom::After(number))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, StreamError::UnknownPosition { .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn streams_are_created_once_listed_and_deleted_with_their_records() {
    let directory = tempfile::tempdir().unwrap();
    for streams in [
        Streams::durable(directory.path().join("streams")),
        Streams::ephemeral(),
    ] {
        assert_eq!(streams.names().await.unwrap(), Vec::<String>::new());
        let missing = streams.existing("b").await.unwrap_err();
        assert_eq!(missing, StreamError::Missing("b".to_owned()));
        let stream = streams.create("b", 3, false).await.unwrap();
        streams.stream("a").await.unwrap();
        let exists = streams.create("b", 1, false).await.unwrap_err();
        assert_eq!(exists, StreamError::Exists("b".to_owned()));
        assert_eq!(streams.names().await.unwrap(), ["a", "b"]);
        let mut reader = stream.read(ReadFrom::Latest).await.unwrap();
        let waiting = tokio::spawn(async move { reader.wait().await });
        streams.delete("b").await.unwrap();
        assert_eq!(
            waiting.await.unwrap(),
            Err(StreamError::Missing("b".to_owned()))
        );
        let refused = stream.append(record("k", "late", 0)).await.unwrap_err();
        assert_eq!(refused, StreamError::Missing("b".to_owned()));
        assert_eq!(streams.names().await.unwrap(), ["a"]);
        let anew = streams.stream("b").await.unwrap();
        assert_eq!(anew.description().shards.len(), 1);
        assert_eq!(
            data_from(&anew, ReadFrom::Earliest).await,
            Vec::<String>::new()
        );
    }
}

#[tokio::test]
async fn a_stream_that_another_process_deleted_is_missing_and_can_be_created_again() {
    let directory = tempfile::tempdir().unwrap();
    let [here, there] = [(); 2].map(|()| Streams::durable(directory.path().to_owned()));
    let old = here.stream("names").await.unwrap();
    old.append(record("k", "old", 0)).await.unwrap();
    there.delete("names").await.unwrap();
    let refused = old.append(record("k", "late", 0)).await.unwrap_err();
    assert_eq!(refused, StreamError::Missing("names".to_owned()));
    let new = here.stream("names").await.unwrap();
    assert_eq!(
        data_from(&new, ReadFrom::Earliest).await,
        Vec::<String>::new()
    );
}
