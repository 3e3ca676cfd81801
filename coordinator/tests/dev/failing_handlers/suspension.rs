//! `onPoison: suspend`: the address waits for an operator and loses nothing.

use reqwest::Method;
use satchel_testkit::{Client, until};
use serde_json::{Value, json};

use super::{App, THREE_ATTEMPTS, call_patiently, kept_log, lambda_endpoint, log_of, say};

const STRICT: [&str; 2] = [THREE_ATTEMPTS, "onPoison: suspend"];

/// Waits until the address is suspended and returns its view.
async fn suspended(client: &Client, address: &str) -> Value {
    until(&format!("{address} is suspended"), async || {
        let shown = client.address(address).await.json();
        shown["suspended"].is_string().then_some(shown)
    })
    .await
}

#[tokio::test]
async fn a_suspended_address_keeps_its_messages_over_a_crash_until_it_is_resumed() {
    let mut app = App::start(&lambda_endpoint("strict/*", "strict", &STRICT)).await;
    let address = "strict/log/x";
    let obstacle = app.obstacle();
    for message in [say("before"), obstacle.message("raise"), say("behind")] {
        assert_eq!(app.client().send(address, &message).await.status, 202);
    }
    let shown = suspended(app.client(), address).await;
    assert_eq!(shown["suspended"], "FunctionError: no such thing");
    assert_eq!(shown["backlog"]["messages"], 2);

    app.dev.restart().await;
    let client = app.client();
    let shown = suspended(client, address).await;
    assert_eq!(
        (&shown["backlog"]["messages"], &shown["in_flight"]),
        (&json!(2), &json!(false))
    );
    let neighbour = call_patiently(client, "strict/log/y", &say("here")).await;
    assert_eq!(log_of(&neighbour), json!(["here"]));
    let waits = client
        .to_call(address)
        .json(&say("asked"))
        .timeout("50ms")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (waits.status, waits.error_code()),
        (504, "timeout".to_owned())
    );

    // Resumed too early, it fails and is suspended again.
    assert_eq!(client.resume(address).await.status, 200);
    let shown = suspended(client, address).await;
    assert_eq!(shown["backlog"]["messages"], 3);
    assert_eq!(kept_log(client, address).await, json!(["before"]));

    obstacle.remove();
    assert_eq!(client.resume(address).await.status, 200);
    let log = log_of(&call_patiently(client, address, &say("last")).await);
    assert_eq!(log, json!(["before", "raise", "behind", "asked", "last"]));
    let again = client.resume(address).await;
    assert_eq!(
        (again.status, again.error_code()),
        (404, "not_found".to_owned())
    );
    assert_eq!(client.dead_letters().await, [Value::Null; 0]);
}

#[tokio::test]
async fn a_suspended_address_continues_with_a_corrected_state() {
    let app = App::start(&lambda_endpoint("strict/*", "strict", &STRICT)).await;
    let client = app.client();
    let address = "strict/log/x";
    log_of(&call_patiently(client, address, &say("first")).await);
    let broken = client.put_state(address, "log", "faulty/log", "7").await;
    assert_eq!(broken.status, 200);
    for said in ["second", "third"] {
        assert_eq!(client.send(address, &say(said)).await.status, 202);
    }
    let shown = suspended(client, address).await;
    assert_eq!(shown["suspended"], "FunctionError: the log is no list: 7");

    let corrected = client
        .put_state(address, "log", "faulty/log", r#"["first, corrected"]"#)
        .await;
    assert_eq!(corrected.status, 200);
    assert_eq!(kept_log(client, address).await, json!(["first, corrected"]));
    assert_eq!(client.resume(address).await.status, 200);
    let log = log_of(&call_patiently(client, address, &say("last")).await);
    assert_eq!(log, json!(["first, corrected", "second", "third", "last"]));
}

#[tokio::test]
async fn a_rejected_message_suspends_at_once_and_its_address_continues_when_it_is_skipped() {
    let app = App::start(&lambda_endpoint("strict/*", "strict", &STRICT)).await;
    let client = app.client();
    let address = "strict/log/x";
    let rejected = json!({"do": "reject", "code": 400, "why": "no number"});
    for message in [&say("before"), &rejected, &say("behind")] {
        assert_eq!(client.send(address, message).await.status, 202);
    }
    let shown = suspended(client, address).await;
    assert_eq!(shown["suspended"], "terminal: rejected: no number");
    assert_eq!(shown["failing"]["attempts"], 1);
    assert_eq!(client.dead_letters().await, [Value::Null; 0]);

    // It is still wrong.
    assert_eq!(client.resume(address).await.status, 200);
    suspended(client, address).await;
    let skip = format!("/api/addresses/{address}/skip");
    assert_eq!(client.admin(Method::POST, &skip).await.status, 200);
    let log = log_of(&call_patiently(client, address, &say("last")).await);
    assert_eq!(log, json!(["before", "behind", "last"]));
    let letters = client.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["reason"], "terminal: rejected: no number");
    let again = client.admin(Method::POST, &skip).await;
    assert_eq!(
        (again.status, again.error_code()),
        (404, "not_found".to_owned())
    );

    // A caller that waits gets the verdict, so nothing is suspended for it.
    let reply = client.call(address, &rejected).await;
    assert_eq!(
        (reply.status, reply.error_code()),
        (400, "rejected".to_owned())
    );
    let log = log_of(&call_patiently(client, address, &say("more")).await);
    assert_eq!(log, json!(["before", "behind", "last", "more"]));
}
