//! Stopped sources of ingresses in `/readyz`, and their resumption.

use futures::FutureExt;
use serde_json::json;

use super::*;
use crate::sources::{SourceId, SourceProblem, SourceStopped};

const RESUME: &str = "/api/ingresses/example/in/resume";

fn forbidden() -> SourceStopped {
    SourceStopped {
        problem: SourceProblem::Forbidden,
        reason: "user arn:aws:iam::123456789012:user/x may not".to_owned(),
    }
}

#[tokio::test]
async fn a_stopped_source_is_named_while_the_process_serves_and_is_tried_again_on_demand() {
    let not_paused = |_: &Input| Some(Answer::NotFound("it is not paused".to_owned()));
    let process = Process::answering(not_paused).await;
    let source = process.sources.add(SourceId {
        ingress: "example/in".into(),
        name: "stream names".into(),
    });
    source.stopped(forbidden(), 1_767_225_599_001);
    let reply = ask(process.admin, "GET", "/readyz", &[], b"").await;
    let stopped = json!({
        "id": "example/in",
        "source": "stream names",
        "problem": "forbidden",
        "since": "2025-12-31T23:59:59.001Z",
    });
    let expected = json!({"state": "serving", "stopped_ingresses": [stopped]});
    assert_eq!((reply.status, reply.json()), (200, expected));

    assert!(source.resumed().now_or_never().is_none());
    let reply = ask(process.admin, "POST", RESUME, &[], b"").await;
    assert_eq!((reply.status, reply.json()), (200, json!({"resumed": 1})));
    assert!(source.resumed().now_or_never().is_some());

    source.reading();
    let reply = ask(process.admin, "GET", "/readyz", &[], b"").await;
    assert_eq!(reply.json(), json!({"state": "serving"}));
    let unknown = RESUME.replace("in/", "out/");
    let reply = ask(process.admin, "POST", &unknown, &[], b"").await;
    assert_eq!(reply.status, 404);
    let text = String::from_utf8(reply.body).unwrap();
    assert!(text.contains("example/out"), "{text}");
    process.stop().await;
}

#[tokio::test]
async fn resuming_needs_the_right_to_change_something() {
    let setup = Setup {
        writes: AdminAccess::Denied,
        ..Setup::default()
    };
    let process = Process::start(setup, |_| None).await;
    let source = process.sources.add(SourceId {
        ingress: "example/in".into(),
        name: "stream names".into(),
    });
    source.stopped(forbidden(), 1);
    let reply = ask(process.admin, "POST", RESUME, &[], b"").await;
    assert_eq!(reply.status, 403);
    assert!(source.resumed().now_or_never().is_none());
    process.stop().await;
}
