//! Trace contexts of requests, and stories of messages.

use satchel_engine::hex::Hex;
use satchel_engine::message::MessageId;
use satchel_engine::story::{Hop, Step, StoryEvent};
use satchel_engine::trace::TraceParent;

use super::*;

fn echo(input: &Input) -> Option<Answer> {
    match input {
        Input::CallReceived(call) => Some(Answer::Replied(call.argument.clone())),
        _ => None,
    }
}

#[tokio::test]
async fn a_valid_trace_context_is_part_of_the_call_and_any_other_header_is_ignored() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let process = Process::answering(echo).await;
    for headers in [
        &[("traceparent", TRACE)][..],
        &[],
        &[("traceparent", "no trace")],
        &[("traceparent", TRACE), ("traceparent", TRACE)],
    ] {
        let path = "/call/example/greeter/alice";
        let reply = ask(process.traffic, "POST", path, headers, b"{}").await;
        assert_eq!(reply.status, 200, "{headers:?}");
    }
    let traces: Vec<_> = process
        .told()
        .iter()
        .filter_map(|input| match input {
            Input::CallReceived(call) => Some(call.trace),
            _ => None,
        })
        .collect();
    assert_eq!(traces, [TraceParent::parse(TRACE), None, None, None]);
    assert!(traces[0].is_some());
    process.stop().await;
}

fn accept(input: &Input) -> Option<Answer> {
    match input {
        Input::CallReceived(_) => Some(Answer::Accepted),
        _ => None,
    }
}

#[tokio::test]
async fn an_answer_names_its_request_whatever_it_says() {
    let process = Process::answering(|input| match input {
        Input::CallReceived(call) if &*call.target.id == "failing" => Some(Answer::Failed {
            dead_letter: MessageId([7; 16]),
            reason: "it panicked".to_owned(),
        }),
        input => accept(input),
    })
    .await;
    let mut named = Vec::new();
    for (path, status) in [
        ("/send/example/greeter/alice", 202),
        ("/call/example/greeter/failing", 500),
    ] {
        let reply = ask(process.traffic, "POST", path, &[], b"{}").await;
        assert_eq!(reply.status, status, "{reply:?}");
        named.push(reply.header("satchel-request-id").unwrap().to_owned());
    }
    let asked = process.told().into_iter().filter_map(|input| match input {
        Input::CallReceived(call) => Some(Hex(&call.id.0).to_string()),
        _ => None,
    });
    assert_eq!(named, asked.collect::<Vec<_>>());
    // What was refused before the partition was asked has no request.
    let reply = ask(
        process.traffic,
        "POST",
        "/send/example/greeter/",
        &[],
        b"{}",
    )
    .await;
    assert_eq!(reply.header("satchel-request-id"), None, "{reply:?}");
    process.stop().await;
}

fn told() -> Stories {
    let stories = Stories::new(1 << 20, Metrics::new(), None);
    let id = MessageId([7; 16]);
    let hop = Hop {
        id,
        trace: TraceParent::root(id.0),
    };
    let queued = Step::Queued {
        target: alice(),
        typename: "t".into(),
        bytes: 2,
    };
    stories.told(0, (vec![StoryEvent { hop, step: queued }], 0));
    stories
}

#[tokio::test]
async fn traces_are_listed_and_shown_and_what_is_not_there_says_why() {
    let setup = Setup {
        stories: Some(told()),
        ..Setup::default()
    };
    let process = Process::start(setup, |_| None).await;
    let get = async |path: &str| ask(process.admin, "GET", path, &[], b"").await;
    let list = get("/api/traces?function=example/greeter").await.json();
    let id = "07".repeat(16);
    assert_eq!(list["tracing"], true);
    assert_eq!(list["traces"][0]["trace"], *id);
    assert_eq!(list["traces"][0]["first"], "example/greeter/alice");
    for empty in ["function=example/other", "failed=true", "address=a/b/c"] {
        let list = get(&format!("/api/traces?{empty}")).await.json();
        assert_eq!(list["traces"], serde_json::json!([]), "{empty}");
    }
    let trace = get(&format!("/api/traces/{id}")).await.json();
    let hop = &trace["hops"][0];
    let fields = ["id", "parent", "target", "state"].map(|name| hop[name].clone());
    let expected = serde_json::json!([id, null, "example/greeter/alice", "waiting"]);
    assert_eq!(serde_json::json!(fields), expected);
    for unknown in ["08".repeat(16), "nonsense".to_owned()] {
        let reply = get(&format!("/api/traces/{unknown}")).await;
        assert_eq!(reply.code(), (404, "not_found".to_owned()), "{unknown}");
    }
    for wrong in ["limit=0", "failed=perhaps", "function=x", "other=1"] {
        let reply = get(&format!("/api/traces?{wrong}")).await;
        assert_eq!(reply.code(), (400, "invalid_query".to_owned()), "{wrong}");
    }
    process.stop().await;
}

#[tokio::test]
async fn traces_need_the_right_to_read_and_a_process_without_them_says_so() {
    let denied = Setup {
        stories: Some(told()),
        reads: AdminAccess::Denied,
        ..Setup::default()
    };
    let process = Process::start(denied, |_| None).await;
    for path in [
        "/api/traces".to_owned(),
        format!("/api/traces/{}", "07".repeat(16)),
    ] {
        let reply = ask(process.admin, "GET", &path, &[], b"").await;
        assert!([401, 403].contains(&reply.status), "{reply:?}");
    }
    process.stop().await;
    let process = Process::answering(|_| None).await;
    let reply = ask(process.admin, "GET", "/api/traces", &[], b"").await;
    assert_eq!(
        reply.json(),
        serde_json::json!({"traces": [], "tracing": false})
    );
    let path = format!("/api/traces/{}", "07".repeat(16));
    let (status, _, message) = ask(process.admin, "GET", &path, &[], b"").await.error();
    assert!(
        status == 404 && message.contains("--trace-messages"),
        "{message}"
    );
    process.stop().await;
}
