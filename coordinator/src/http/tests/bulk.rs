//! Changes of many dead letters.

use satchel_engine::input::{Administration, DeadLetterChange, DeadLetterCursor, DeadLetterFilter};
use satchel_engine::output::DeadLettersChanged;
use serde_json::json;

use super::*;

const RETRY: &str = "/api/dead-letters/retry";
const DROP: &str = "/api/dead-letters/drop";

/// Two changed dead letters and one that is kept; the end is reached with the second request.
fn changed(input: &Input) -> Option<Answer> {
    let Input::Administered {
        administration: Administration::ChangeDeadLetters { cursor, .. },
        ..
    } = input
    else {
        return None;
    };
    let next = DeadLetterCursor { next: 18, end: 240 };
    Some(Answer::DeadLettersChanged(DeadLettersChanged {
        changed: 2,
        skipped: 1,
        cursor: cursor.is_none().then_some(next),
    }))
}

#[tokio::test]
async fn a_change_of_many_says_how_many_and_where_the_next_request_continues() {
    let process = Process::answering(changed).await;
    let query = "?function=example%2Fgreeter&reason=no%20such&since=2026-02-01T04%3A15%3A00Z\
                 &limit=7&timeout=5s";
    let first = ask(process.admin, "POST", &format!("{RETRY}{query}"), &[], b"").await;
    let body = json!({"changed": 2, "skipped": 1, "next": "18-240"});
    assert_eq!((first.status, first.json()), (200, body));
    let target = format!("{DROP}?all=true&cursor=18-240");
    let last = ask(process.admin, "POST", &target, &[], b"").await;
    let body = json!({"changed": 2, "skipped": 1, "next": null});
    assert_eq!((last.status, last.json()), (200, body));
    let asked: Vec<_> = process
        .told()
        .into_iter()
        .map(|input| match input {
            Input::Administered { administration, .. } => administration,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        asked,
        [
            Administration::ChangeDeadLetters {
                change: DeadLetterChange::Retry,
                filter: DeadLetterFilter {
                    function: Some("example/greeter".into()),
                    reason: Some("no such".into()),
                    since_ms: Some(1_769_919_300_000),
                },
                cursor: None,
                limit: 7,
            },
            Administration::ChangeDeadLetters {
                change: DeadLetterChange::Drop,
                filter: DeadLetterFilter::default(),
                cursor: Some(DeadLetterCursor { next: 18, end: 240 }),
                limit: 100,
            },
        ]
    );
    process.stop().await;
}

#[tokio::test]
async fn a_change_that_selects_nothing_or_cannot_be_understood_changes_nothing() {
    let process = Process::answering(changed).await;
    for (query, reason) in [
        ("", "selects nothing"),
        ("?all=false", "selects nothing"),
        ("?limit=5&cursor=1-2", "selects nothing"),
        ("?all=true&function=example/greeter", "no other condition"),
        ("?reason=", "reason= is empty"),
        ("?since=yesterday", "since=\"yesterday\" is no time"),
        ("?function=greeter", "greeter"),
        ("?all=true&cursor=7", "cursor=\"7\""),
        ("?all=true&cursor=a-b", "cursor=\"a-b\""),
        ("?all=true&limit=1001", "limit=1001"),
        ("?all=true&id=7", "unknown field `id`"),
    ] {
        for path in [RETRY, DROP] {
            let target = format!("{path}{query}");
            let reply = ask(process.admin, "POST", &target, &[], b"").await;
            let (status, code, message) = reply.error();
            assert_eq!((status, code.as_str()), (400, "invalid_query"), "{target}");
            assert!(message.contains(reason), "{target}: {message}");
        }
    }
    for method in ["GET", "DELETE"] {
        let reply = ask(process.admin, method, RETRY, &[], b"").await;
        assert_eq!(reply.code(), (405, "method_not_allowed".to_owned()));
    }
    assert_eq!(process.told(), []);
    process.stop().await;
}
