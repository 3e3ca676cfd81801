use super::*;
use crate::streams::Streams;

#[tokio::test]
async fn children_begin_when_all_their_parents_ended_and_at_their_beginning_if_one_was_read() {
    let streams = Streams::ephemeral();
    let stream = streams.create("names", 2, false).await.unwrap();
    stream.split(0, 5).await.unwrap();
    stream.merge(3, 1).await.unwrap();
    let description = stream.description();
    let mut plan = Plan::default();
    assert_eq!(
        plan.next(&description),
        [(0, Start::Startup), (1, Start::Startup)]
    );
    plan.ended(&Ended {
        shard: 0,
        skipped: true,
    });
    assert_eq!(
        plan.next(&description),
        [(2, Start::Startup), (3, Start::Startup)]
    );
    plan.ended(&Ended {
        shard: 3,
        skipped: true,
    });
    assert_eq!(plan.next(&description), []);
    plan.ended(&Ended {
        shard: 1,
        skipped: false,
    });
    assert_eq!(plan.next(&description), [(4, Start::Beginning)]);
}

fn ingress(streams: &Streams, on_expired: ExpiredPosition) -> LocalStreamIngress {
    LocalStreamIngress {
        ingress: "example/in".to_owned(),
        streams: streams.clone(),
        stream: "names".to_owned(),
        reading: LocalReading {
            startup: StartupPosition::Earliest,
            on_expired,
            aggregation: Some(Aggregation::Detect),
        },
        routing: LocalRouting::Records(Routing {
            value_type: "example/name".to_owned(),
            targets: vec!["example/greeter".parse().unwrap()],
            id: crate::module::RecordId::Key,
        }),
        metrics: Metrics::new(),
        handed_to: None,
    }
}

/// Runs an ingress as a partition with these positions would, until it has read `count` records
/// or has ended. Returns the keys with their sub-sequence numbers, and the reason of the end.
async fn read(
    ingress: LocalStreamIngress,
    applied: impl Fn(&ShardId) -> Option<ShardPosition>,
    count: usize,
) -> (Vec<(String, u64)>, Option<SourceStopped>) {
    let (inputs, mut received) = mpsc::channel(16);
    let reading = Reading::new();
    let mut running = tokio::spawn(ingress.run(inputs, reading.clone()));
    let mut read = Vec::new();
    while read.len() < count {
        tokio::select! {
            Some(input) = received.recv() => match input {
                Input::ShardsFound(found) => {
                    for FoundShard { shard, start, .. } in found {
                        reading.start(&shard, applied(&shard).unwrap_or(start));
                    }
                }
                Input::RecordsRead { records, .. } => {
                    let keys = records.into_iter();
                    read.extend(keys.map(|it| (it.key.to_string(), it.sub_sequence)));
                }
                other => panic!("{other:?}"),
            },
            ended = &mut running => return (read, ended.unwrap().err()),
        }
    }
    running.abort();
    (read, None)
}

fn record(key: &str, data: bytes::Bytes) -> crate::streams::NewRecord {
    crate::streams::NewRecord {
        key: key.to_owned(),
        explicit_hash_key: None,
        data,
        time_ms: 1,
    }
}

#[tokio::test]
async fn aggregates_are_unpacked_as_those_of_kinesis_and_all_records_of_a_library_are_kept() {
    use satchel_aws::kinesis::aggregation::{UserRecord, aggregate};
    let streams = Streams::ephemeral();
    let stream = streams.create("names", 4, false).await.unwrap();
    let users: Vec<UserRecord> = (0..50)
        .map(|user| UserRecord {
            key: format!("user-{user}").into(),
            explicit_hash_key: None,
            data: bytes::Bytes::from_static(b"x"),
        })
        .collect();
    let first = users[0].key.to_string();
    let aggregated = record(&first, aggregate(&users));
    stream.append(aggregated).await.unwrap();
    let ingress = ingress(&streams, ExpiredPosition::Stop);
    let (read, stopped) = read(ingress, |_| None, 50).await;
    let expected = (0..50).map(|user| (format!("user-{user}"), user));
    assert_eq!(read, expected.collect::<Vec<_>>());
    assert_eq!(stopped, None);
}

/// Position of a record that this stream does not have.
fn of_another_stream(_: &ShardId) -> Option<ShardPosition> {
    Some(ShardPosition::After {
        sequence: "7".parse().unwrap(),
        sub_sequence: 0,
    })
}

#[tokio::test]
async fn a_stream_that_is_missing_or_another_one_stops_its_source_by_name() {
    let streams = Streams::ephemeral();
    let stop = || ingress(&streams, ExpiredPosition::Stop);
    let (_, stopped) = read(stop(), |_| None, 1).await;
    let stopped = stopped.unwrap();
    assert_eq!(stopped.problem, SourceProblem::Missing);
    assert_eq!(
        stopped.reason,
        "ingress example/in: there is no stream 'names'"
    );

    let stream = streams.create("names", 1, false).await.unwrap();
    let data = bytes::Bytes::from_static(b"x");
    stream.append(record("alice", data)).await.unwrap();
    let (_, stopped) = read(stop(), of_another_stream, 1).await;
    let stopped = stopped.unwrap();
    assert_eq!(stopped.problem, SourceProblem::Lost, "{stopped:?}");
    assert!(stopped.reason.contains("'names'"), "{stopped:?}");
    let (_, stopped) = read(stop(), |_| Some(ShardPosition::End), 1).await;
    let stopped = stopped.unwrap();
    assert_eq!(stopped.problem, SourceProblem::Lost, "{stopped:?}");

    let earliest = ingress(&streams, ExpiredPosition::Earliest);
    let (read, stopped) = read(earliest, of_another_stream, 1).await;
    assert_eq!((read, stopped), (vec![("alice".to_owned(), 0)], None));
}
