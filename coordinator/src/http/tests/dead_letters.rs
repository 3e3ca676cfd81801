//! Lists of dead letters.

use satchel_engine::input::{Administration, DeadLetterFilter};
use satchel_engine::message::MessageId;
use satchel_engine::output::DeadLetterView;
use satchel_protocol::types::{BuiltIn, typed_value};
use serde_json::json;

use super::admin::asked;
use super::*;

fn dead_letter(id: u8, address: Option<Address>, message: (&str, Vec<u8>)) -> DeadLetterView {
    DeadLetterView {
        id: MessageId([id; 16]),
        address,
        source: "example/source/1".to_owned(),
        message: typed_value(message.0, message.1),
        attempts: 8,
        reason: "it panicked".to_owned(),
        failed_at_ms: 1_767_225_599_001,
    }
}

/// Three dead letters, however many are wanted.
/// Answers lists of dead letters.
pub(super) fn kept(input: &Input) -> Option<Answer> {
    let Input::Administered {
        administration: Administration::ListDeadLetters { limit, .. },
        ..
    } = input
    else {
        return None;
    };
    let mut views = vec![
        dead_letter(
            1,
            Some(alice()),
            ("satchel/json", br#"{"name":"Alice"}"#.to_vec()),
        ),
        dead_letter(2, None, ("example/raw", vec![0xff])),
        dead_letter(3, Some(alice()), (i32::TYPENAME, 7_i32.to_wire().to_vec())),
    ];
    views.truncate(*limit);
    Some(Answer::DeadLetters(views))
}

#[tokio::test]
async fn dead_letters_are_listed_in_pages_with_everything_that_is_known_of_them() {
    let process = Process::answering(kept).await;
    let after = "0f".repeat(16);
    let target = format!("/api/dead-letters?function=example/greeter&after={after}&limit=2");
    let reply = ask(process.admin, "GET", &target, &[], b"").await;
    let common = json!({
        "source": "example/source/1",
        "attempts": 8,
        "reason": "it panicked",
        "failed_at": "2025-12-31T23:59:59.001Z",
    });
    let with = |more: serde_json::Value| {
        let mut whole = common.as_object().unwrap().clone();
        whole.extend(more.as_object().unwrap().clone());
        serde_json::Value::Object(whole)
    };
    let first = with(json!({
        "id": "01".repeat(16),
        "address": "example/greeter/alice",
        "typename": "satchel/json",
        "message": {"name": "Alice"},
    }));
    let second = with(json!({
        "id": "02".repeat(16),
        "address": null,
        "typename": "example/raw",
        "base64": "/w==",
    }));
    let third = with(json!({
        "id": "03".repeat(16),
        "address": "example/greeter/alice",
        "typename": "io.statefun.types/int",
        "message": 7,
    }));
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.json(),
        json!({"dead_letters": [first, second], "next": "02".repeat(16)})
    );
    let reply = ask(process.admin, "GET", "/api/dead-letters", &[], b"").await;
    assert_eq!(
        reply.json(),
        json!({"dead_letters": [first, second, third], "next": null})
    );
    assert_eq!(
        asked(&process),
        [
            Administration::ListDeadLetters {
                filter: DeadLetterFilter {
                    function: Some("example/greeter".into()),
                    ..DeadLetterFilter::default()
                },
                after: Some(MessageId([0x0f; 16])),
                limit: 3,
            },
            Administration::ListDeadLetters {
                filter: DeadLetterFilter::default(),
                after: None,
                limit: 101,
            },
        ]
    );
    process.stop().await;
}

/// Letters of 3, 3, 3, 9 and 1 MiB, as a partition lists them.
fn large_dead_letters(input: &Input) -> Option<Answer> {
    let Input::Administered {
        administration: Administration::ListDeadLetters { after, limit, .. },
        ..
    } = input
    else {
        return None;
    };
    let begun = after.map_or(0, |after| usize::from(after.0[0]));
    let letters = [(1, 3), (2, 3), (3, 3), (4, 9), (5, 1)].into_iter();
    let views = letters
        .skip(begun)
        .take(*limit)
        .map(|(id, mebibytes)| dead_letter(id, None, ("example/raw", vec![0xff; mebibytes << 20])));
    Some(Answer::DeadLetters(views.collect()))
}

#[tokio::test]
async fn a_page_of_dead_letters_ends_before_it_is_too_large_and_tells_where_the_next_begins() {
    let process = Process::answering(large_dead_letters).await;
    let id = |id: u8| json!(format!("{id:02x}").repeat(16));
    for (target, ids, next) in [
        ("/api/dead-letters".to_owned(), vec![id(1), id(2)], id(2)),
        (after(2), vec![id(3)], id(3)),
        // Larger than a page: it comes all the same, by itself.
        (after(3), vec![id(4)], id(4)),
        (after(4), vec![id(5)], json!(null)),
        // The limit in letters is reached first.
        ("/api/dead-letters?limit=1".to_owned(), vec![id(1)], id(1)),
    ] {
        let page = ask(process.admin, "GET", &target, &[], b"").await.json();
        let letters = page["dead_letters"].as_array().unwrap().iter();
        let shown: Vec<_> = letters.map(|letter| letter["id"].clone()).collect();
        assert_eq!((shown, &page["next"]), (ids, &next), "{target}");
    }
    process.stop().await;
}

fn after(id: u8) -> String {
    format!("/api/dead-letters?after={}", format!("{id:02x}").repeat(16))
}
