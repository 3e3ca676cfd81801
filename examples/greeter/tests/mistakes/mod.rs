//! Messages that the greeter cannot understand, through either of its endpoints.

use std::time::{Duration, Instant};

use satchel_testkit::{Client, until};
use serde_json::json;

/// Checks that a caller's mistakes are answered at once, without retries and dead letters, and that
/// a message without a caller becomes a dead letter after one attempt.
pub(crate) async fn mistakes_are_answered_as_mistakes(client: &Client) {
    let begun = Instant::now();
    let wrong = client
        .call("example/greeter/alice", &json!({"nom": "Alice"}))
        .await;
    assert_eq!(
        (wrong.status, wrong.error_code()),
        (400, "rejected".to_owned())
    );
    let text = wrong.error_message();
    assert_eq!(
        text,
        "the message is not a example/name: missing field `name` at line 1 column 15"
    );

    let other = client.to_call("example/greeter/alice");
    let other = other.value("example/title", "{}").send().await;
    let other = other.expect("the connection holds");
    assert_eq!(
        (other.status, other.error_code()),
        (400, "rejected".to_owned())
    );
    let text = other.error_message();
    assert_eq!(
        text,
        "unknown typename \"example/title\": expected example/name"
    );

    let unbound = client.call("example/unbound/alice", &json!({})).await;
    assert_eq!(
        (unbound.status, unbound.error_code()),
        (404, "rejected".to_owned())
    );
    assert_eq!(
        unbound.error_message(),
        "there is no function example/unbound"
    );

    let unserved = client.call("elsewhere/greeter/alice", &json!({})).await;
    assert_eq!(unserved.error_code(), "unknown_function");
    let unserved = client.send("elsewhere/greeter/alice", &json!({})).await;
    assert_eq!(
        (unserved.status, unserved.error_code()),
        (404, "unknown_function".to_owned())
    );
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "nothing was retried"
    );
    assert!(client.dead_letters().await.is_empty(), "callers were told");

    client.put("names", "bob", "not JSON at all").await;
    client.put("names", "bob", r#"{"name":"Bob"}"#).await;
    let sent = client.send("example/unbound/carol", &json!({})).await;
    assert_eq!(sent.status, 202);
    let letters = until("both are dead letters", async || {
        let letters = client.dead_letters().await;
        (letters.len() == 2).then_some(letters)
    })
    .await;
    for (address, reason) in [
        ("example/greeter/bob", "the message is not a example/name: "),
        (
            "example/unbound/carol",
            "there is no function example/unbound",
        ),
    ] {
        let letter = letters.iter().find(|letter| letter["address"] == address);
        let letter = letter.expect("it is there");
        assert_eq!(letter["attempts"], 1);
        let text = letter["reason"].as_str().expect("a text");
        // A bundle also says the kind of the error, and more for operators.
        assert!(
            text.contains(reason) || text.starts_with("unknown_function: "),
            "{text}"
        );
    }
    let greeting = client.records_when("greetings", 1).await;
    assert_eq!(
        greeting[0].json()["seen"],
        1,
        "the record behind it is processed"
    );
}
