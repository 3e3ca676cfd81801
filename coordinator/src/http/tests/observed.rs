//! Observations: the graph, positions, mailboxes, the bill, declared parts.

use satchel_engine::input::Administration;
use satchel_engine::message::MessageId;
use satchel_engine::output::{FlightView, MailboxView, MessageView, TimerView};
use satchel_engine::partition::{Config, Ownership, Partition, Recovery};
use satchel_engine::position::{ShardId, ShardPosition};
use satchel_protocol::types::typed_value;
use serde_json::{Value, json};

use super::admin::silent;
use super::*;
use crate::cost::CostSettings;
use crate::status::fixture;

/// A partition that has read a record for alice, and knows three shards.
fn partition() -> Partition {
    let ownership = Ownership {
        epoch: 1,
        committed_at_ms: 0,
        clean: true,
    };
    let mut partition = Recovery::new(Config::default()).start(ownership, 1_000);
    let shard = |shard: &str| ShardId {
        ingress: "example/names".into(),
        stream: "names".into(),
        shard: shard.into(),
    };
    let found = [
        ("shardId-0", ShardPosition::Beginning),
        ("shardId-1", ShardPosition::End),
        ("shardId-2", ShardPosition::Since { time_ms: 1_000 }),
    ];
    for (name, start) in found {
        let shard = shard(name);
        partition.handle_input(1_000, Input::ShardFound { shard, start });
    }
    let record = satchel_engine::input::Record {
        sequence: 49.into(),
        sub_sequence: 0,
        trace: None,
        headers: None,
        key: "alice".into(),
        routed: Ok(vec![(alice(), typed_value("example/name", "alice"))]),
    };
    partition.handle_input(
        1_000,
        Input::RecordsRead {
            shard: shard("shardId-0"),
            records: vec![record],
        },
    );
    while partition.poll_output().is_some() {}
    partition
}

/// A process with the components of the fixture and that partition.
async fn process(script: Script) -> Process {
    let process = Process::answering(script).await;
    let status = process.metrics.status();
    status.declare(&fixture::application());
    let mut observations = status.observe_partition(0);
    tokio::spawn(async move {
        let partition = partition();
        while let Some(read) = observations.recv().await {
            read(&partition);
        }
    });
    process
}

async fn show(process: &Process, path: &str) -> Value {
    let reply = ask(process.admin, "GET", path, &[], b"").await;
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    reply.json()
}

#[tokio::test]
async fn the_graph_has_the_edges_of_real_messages() {
    let process = process(silent).await;
    let expected = json!({"edges": [{
        "edge": "ingress example/names > function example/greeter",
        "from": {"kind": "ingress", "name": "example/names"},
        "to": {"kind": "function", "name": "example/greeter"},
        "messages": 1,
    }]});
    assert_eq!(show(&process, "/api/graph").await, expected);
    process.stop().await;
}

#[tokio::test]
async fn shards_are_listed_with_their_positions_page_by_page() {
    let process = process(silent).await;
    process
        .metrics
        .status()
        .ingress_lag("example/names", "shardId-0", 1_500);
    let shard = |name: &str, state: &str, position: Value, lag: Value| {
        json!({
            "id": format!("0 example/names:names/{name}"), "ingress": "example/names",
            "stream": "names", "shard": name, "partition": 0, "state": state,
            "position": position, "lag_seconds": lag,
        })
    };
    let first = json!({"next": "2", "shards": [
        shard("shardId-0", "reads", json!({"kind": "after", "sequence": "49"}), json!(1.5)),
        shard("shardId-1", "ended", json!({"kind": "end"}), Value::Null),
    ]});
    assert_eq!(show(&process, "/api/shards?limit=2").await, first);
    let since = json!({"kind": "since", "at": "1970-01-01T00:00:01.000Z"});
    let rest = json!({"next": null, "shards": [
        shard("shardId-2", "reads", since, Value::Null),
    ]});
    assert_eq!(show(&process, "/api/shards?limit=2&after=2").await, rest);
    let others = show(&process, "/api/shards?ingress=example/other").await;
    assert_eq!(others, json!({"next": null, "shards": []}));
    for query in ["?limit=0", "?after=x", "?shard=a"] {
        let path = format!("/api/shards{query}");
        let reply = ask(process.admin, "GET", &path, &[], b"").await;
        assert_eq!(reply.code(), (400, "invalid_query".to_owned()), "{query}");
    }
    process.stop().await;
}

fn mailbox(input: &Input) -> Option<Answer> {
    let Input::Administered { administration, .. } = input else {
        return None;
    };
    let Administration::ShowMailbox { after, .. } = administration else {
        return Some(Answer::NotFound("not asked for".to_owned()));
    };
    let message = |number, corrects: Option<&str>| MessageView {
        number,
        id: MessageId([0xab; 16]),
        caller: corrects.is_none().then(alice),
        message: typed_value("example/name", &b"\xff"[..]),
        corrects: corrects.map(Into::into),
    };
    let timer = TimerView {
        owner: alice(),
        due_ms: 2_000,
        target: alice(),
        typename: "example/tick".to_owned(),
        token: None,
    };
    Some(Answer::Mailbox(Box::new(MailboxView {
        messages: vec![message(7, None), message(9, Some("seen"))],
        more: after.is_none(),
        in_flight: Some(FlightView {
            messages: 1,
            since_ms: 1_000,
        }),
        next_try_ms: None,
        suspended_since_ms: Some(0),
        timers: vec![timer],
        timers_total: 3,
    })))
}

#[tokio::test]
async fn a_mailbox_is_shown_message_by_message() {
    let process = process(mailbox).await;
    let path = "/api/addresses/example/greeter/alice/messages";
    let message = |number: u64, caller: Value, in_flight: bool, corrects: Value| {
        json!({
            "number": number, "id": "ab".repeat(16), "caller": caller,
            "typename": "example/name", "base64": "/w==", "bytes": 1, "in_flight": in_flight,
            "corrects": corrects,
        })
    };
    let page = |in_flight: bool, next: Value| {
        json!({
            "messages": [
                message(7, json!("example/greeter/alice"), in_flight, Value::Null),
                message(9, Value::Null, false, json!("seen")),
            ],
            "next": next,
            "in_flight": {"messages": 1, "since": "1970-01-01T00:00:01.000Z"},
            "next_try": null,
            "suspended_since": "1970-01-01T00:00:00.000Z",
            "timers": [{
                "owner": "example/greeter/alice", "due": "1970-01-01T00:00:02.000Z",
                "target": "example/greeter/alice", "typename": "example/tick", "token": null,
            }],
            "timers_total": 3,
        })
    };
    assert_eq!(show(&process, path).await, page(true, json!(9)));
    let second = format!("{path}?after=5&limit=2");
    assert_eq!(show(&process, &second).await, page(false, Value::Null));
    let asked = process.told().pop();
    let Some(Input::Administered { administration, .. }) = asked else {
        panic!("{asked:?}");
    };
    let expected = Administration::ShowMailbox {
        address: alice(),
        after: Some(5),
        limit: 2,
    };
    assert_eq!(administration, expected);
    for query in ["?after=-1", "?after=x", "?limit=1001"] {
        let path = format!("{path}{query}");
        let reply = ask(process.admin, "GET", &path, &[], b"").await;
        assert_eq!(reply.code(), (400, "invalid_query".to_owned()), "{query}");
    }
    process.stop().await;
}

#[tokio::test]
async fn the_bill_is_that_of_what_was_counted_once_the_state_is_open() {
    let process = process(silent).await;
    assert_eq!(show(&process, "/api/cost").await, json!({"processes": []}));
    process.metrics.declare_cost_settings(CostSettings {
        store: "local".to_owned(),
        commit_pace_ms: 50,
        commit_interval_ms: 1_000,
        commit_depth: 2,
        max_linger_ms: 10,
        lambda: true,
        streams: 2,
        partitions: 0,
    });
    for _ in 0..3 {
        process.metrics.observe_file_written(100);
    }
    let bill = show(&process, "/api/cost?function_memory=512&tasks=3").await;
    let counting = &bill["processes"][0];
    assert_eq!(counting["process"], "0a0a");
    assert_eq!(counting["counted"]["files"], 3);
    assert_eq!(counting["settings"]["partitions"], 1);
    assert_eq!(bill["paid"], false);
    let puts = bill["so_far"]["positions"].as_array().unwrap();
    let puts = puts.iter().find(|it| it["name"] == "S3 PUT").unwrap();
    assert!(puts["dollars"].as_f64() > Some(0.0), "{puts}");
    let assumed = bill["assumptions"].as_array().unwrap().iter();
    let assumed: Vec<&str> = assumed.filter_map(Value::as_str).collect();
    for part in ["512 MB", "3 tasks"] {
        assert!(
            assumed.iter().any(|it| it.contains(part)),
            "{part}: {assumed:?}"
        );
    }
    for query in [
        "function_memory=0",
        "function_memory=NaN",
        "tasks=1001",
        "tasks=-1",
        "over=week",
        "pace=1",
    ] {
        let path = format!("/api/cost?{query}");
        let reply = ask(process.admin, "GET", &path, &[], b"").await;
        assert_eq!(reply.code(), (400, "invalid_query".to_owned()), "{query}");
    }
    process.stop().await;
}

#[tokio::test]
async fn what_a_standby_cannot_know_it_does_not_answer_and_rights_hold() {
    let process = process(silent).await;
    process.readiness.send_replace(Readiness::Standby);
    for path in ["/api/graph", "/api/shards", "/api/cost"] {
        let reply = ask(process.admin, "GET", path, &[], b"").await;
        assert_eq!(reply.code(), (503, "standby".to_owned()), "{path}");
    }
    let create = "/api/savepoints?name=monday";
    let reply = ask(process.admin, "POST", create, &[], b"").await;
    assert_eq!(reply.code(), (503, "standby".to_owned()));
    let declared = show(&process, "/api/application").await;
    assert_eq!(declared["application"], "example");
    process.stop().await;

    let token = || AdminAccess::Token(Token::new("s3cret").unwrap());
    let setup = Setup {
        reads: token(),
        writes: token(),
        ..Setup::default()
    };
    let process = Process::start(setup, silent).await;
    for (method, path) in [
        ("GET", "/api/graph"),
        ("GET", "/api/shards"),
        ("GET", "/api/cost"),
        ("GET", "/api/application"),
        ("GET", "/api/history"),
        ("GET", "/api/savepoints"),
        ("GET", "/api/addresses/example/greeter/alice/messages"),
        ("POST", "/api/savepoints?name=monday"),
        ("DELETE", "/api/savepoints/monday"),
    ] {
        let reply = ask(process.admin, method, path, &[], b"").await;
        assert_eq!(reply.status, 401, "{method} {path}");
    }
    process.stop().await;
}

#[tokio::test]
async fn names_of_savepoints_are_checked_and_the_root_must_be_open() {
    let process = process(silent).await;
    for (method, path, code) in [
        ("POST", "/api/savepoints", (400, "invalid_query")),
        ("POST", "/api/savepoints?name=", (400, "invalid_name")),
        (
            "POST",
            "/api/savepoints?name=..%2Fetc",
            (400, "invalid_name"),
        ),
        (
            "POST",
            "/api/savepoints?name=a&timeout=0s",
            (400, "invalid_timeout"),
        ),
        (
            "POST",
            "/api/savepoints?name=a&force=1",
            (400, "invalid_query"),
        ),
        ("DELETE", "/api/savepoints/.hidden", (400, "invalid_name")),
        ("POST", "/api/savepoints?name=monday", (503, "starting")),
        ("DELETE", "/api/savepoints/monday", (503, "starting")),
        ("GET", "/api/savepoints", (503, "starting")),
        ("GET", "/api/history", (503, "starting")),
    ] {
        let reply = ask(process.admin, method, path, &[], b"").await;
        assert_eq!(reply.code(), (code.0, code.1.to_owned()), "{method} {path}");
    }
    let long = format!("/api/savepoints?name=a&comment={}", "x".repeat(1_001));
    let reply = ask(process.admin, "POST", &long, &[], b"").await;
    assert_eq!(reply.code(), (400, "invalid_query".to_owned()));
    process.stop().await;
}
