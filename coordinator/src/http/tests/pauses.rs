//! Pauses by a person, and what `/readyz` says about what stands still.

use satchel_engine::input::Administration;
use satchel_engine::output::Stoppage;
use serde_json::json;

use super::admin::{asked, silent};
use super::*;
use crate::sources::SourceId;

#[tokio::test]
async fn what_stands_still_is_named_while_the_process_is_ready() {
    let process = Process::answering(silent).await;
    let stoppage = |name: &str, reason: &str| Stoppage {
        name: name.to_owned(),
        reason: reason.to_owned(),
        since_ms: 1_000,
    };
    process.stoppages.send_replace(Stoppages {
        suspended_functions: vec![stoppage("example/greeter", "another type")],
        paused_functions: Vec::new(),
        paused_ingresses: vec![stoppage("example/in", "")],
    });
    let since = "1970-01-01T00:00:01.000Z";
    let reply = ask(process.admin, "GET", "/readyz", &[], b"").await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.json(),
        json!({
            "state": "serving",
            "suspended_functions": [
                {"function": "example/greeter", "reason": "another type", "since": since},
            ],
            "paused_ingresses": [{"ingress": "example/in", "reason": "", "since": since}],
        })
    );
    process.stop().await;
}

#[tokio::test]
async fn an_ingress_and_a_function_are_paused_and_resumed_by_name() {
    let process = Process::answering(|_| Some(Answer::Done)).await;
    process.sources.add(SourceId {
        ingress: "example/in".into(),
        name: "stream names".into(),
    });
    for (path, body) in [
        (
            "/api/ingresses/example/in/pause?reason=a%20flood",
            json!({}),
        ),
        (
            "/api/ingresses/example/in/resume?timeout=1s",
            json!({"resumed": 0}),
        ),
        ("/api/functions/a%2Fb/greeter/pause", json!({})),
        ("/api/functions/a%2Fb/greeter/resume", json!({})),
    ] {
        let reply = ask(process.admin, "POST", path, &[], b"").await;
        assert_eq!((reply.status, reply.json()), (200, body), "{path}");
    }
    let function = FunctionType::new("a/b", "greeter");
    assert_eq!(
        asked(&process),
        [
            Administration::PauseIngress {
                ingress: "example/in".into(),
                reason: "a flood".into(),
            },
            Administration::ResumeIngress("example/in".into()),
            Administration::PauseFunction {
                function: function.clone(),
                reason: "".into(),
            },
            Administration::ResumeFunction(function),
        ]
    );
    let long = format!(
        "/api/ingresses/example/in/pause?reason={}",
        "x".repeat(1_001)
    );
    for (path, code) in [
        ("/api/functions/a/b%2Fc/pause", "invalid_path"),
        ("/api/ingresses/example/in/pause?because=1", "invalid_query"),
        (&long, "invalid_query"),
    ] {
        let (status, found, _) = ask(process.admin, "POST", path, &[], b"").await.error();
        assert_eq!((status, found.as_str()), (400, code), "{path}");
    }
    assert_eq!(asked(&process).len(), 4);
    process.stop().await;
}
