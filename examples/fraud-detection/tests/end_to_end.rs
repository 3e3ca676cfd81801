//! Fraud detection as a user runs it: the real `satchel dev`, a real handler process, kills in the middle.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fraud_detection::scoring_service::serve_stand_in;
use reqwest::Method;
use satchel_testkit::{Client, Dev, Setup, example, until_true};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Frauds confirmed, a transaction judged, everything twice, and a kill in between: what is in the README comes out.
#[tokio::test]
async fn confirmed_frauds_count_towards_alerts_over_a_kill() {
    let mut app = Setup::of(example("fraud-detection")).start().await;
    for transaction in ["tx-1", "tx-2", "tx-1"] {
        confirm(&app.client, transaction).await;
    }
    app.kill9().await;
    app.restart().await;
    frauds_confirmed(&app.client, &["tx-1", "tx-2"]).await;

    for _ in 0..2 {
        let transaction = shady().to_string();
        app.client.put("transactions", "tx-3", transaction).await;
    }
    let alert = json!({
        "transaction": "tx-3", "account": "acc-1", "merchant": "shady-goods",
        "amount_cents": 900_000, "score": 72.0,
    });
    let alerts = app.client.records_when("alerts", 1).await;
    assert_eq!(
        (alerts[0].key.as_str(), alerts[0].json()),
        ("acc-1", alert.clone())
    );

    app.kill9().await;
    app.restart().await;
    // It was judged already, so asking raises no second alert.
    assert_eq!(
        judged(&app.client, "tx-3", &shady()).await,
        json!({"score": 72.0, "alert": true})
    );
    let harmless = json!({"account": "acc-9", "merchant": "bakery", "amount_cents": 450});
    let verdict = judged(&app.client, "tx-4", &harmless).await;
    assert_eq!(verdict["alert"], false, "{verdict}");
    ends_well(&mut app).await;
    app.restart().await;
    let alerts = app.client.records("alerts").await;
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(alerts[0].json(), alert);
}

/// The window is some seconds long here and thirty days in the README.
#[tokio::test]
async fn a_confirmed_fraud_counts_until_its_window_is_over_also_if_that_ends_after_a_kill() {
    let mut app = Setup::of(example("fraud-detection"))
        .env("FRAUD_WINDOW", "5s")
        .start()
        .await;
    let client = app.client.clone();
    let mut attempt = 0;
    // More than one may come together, and on a busy machine one may be over before it is looked at.
    until_true("confirmed frauds raise a score", async || {
        attempt += 1;
        confirm(&client, &format!("fraud-{attempt}")).await;
        let verdict = judged(&client, &format!("with-{attempt}"), &shady()).await;
        verdict["score"].as_f64().unwrap() > 56.0
    })
    .await;

    app.kill9().await;
    app.restart().await;
    let client = app.client.clone();
    frauds_confirmed(&client, &[]).await;
    assert_eq!(
        judged(&client, "without", &shady()).await,
        json!({"score": 56.0, "alert": true})
    );
    let timers = client.admin(Method::GET, "/api/timers").await.json();
    assert_eq!(timers, json!({"timers": []}));
}

/// A third of the requests to the scoring service fail. Whoever asks hears nothing of it.
#[tokio::test]
async fn a_scoring_service_that_fails_now_and_then_delays_verdicts_and_loses_none() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(serve_stand_in(listener, 3));
    let mut app = Setup::of(example("fraud-detection"))
        .env("SCORING_SERVICE_URL", &service)
        .start()
        .await;

    let mut asking = JoinSet::new();
    for number in 0..24 {
        let call = app
            .client
            .to_call(&format!("fraud/transaction-manager/tx-{number}"))
            .json(&json!({
                "account": format!("acc-{}", number % 4),
                "merchant": format!("shady-{}", number % 6),
                "amount_cents": 900_000,
            }))
            .key("judge");
        asking.spawn(async move { call.send_until_answered().await });
    }
    // In the middle, wherever that is.
    until_true("somebody was answered", async || {
        asking.len() < 24 || asking.try_join_next().is_some()
    })
    .await;
    app.kill9().await;
    app.restart().await;
    while let Some(reply) = asking.join_next().await {
        let reply = reply.unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.json(), json!({"score": 56.0, "alert": true}));
    }
    let mut alerted: Vec<String> = app
        .client
        .records_when("alerts", 24)
        .await
        .iter()
        .map(|alert| alert.json()["transaction"].as_str().unwrap().to_owned())
        .collect();
    alerted.sort();
    alerted.dedup();
    assert_eq!(alerted.len(), 24, "each transaction has its own alert");
    assert_eq!(app.client.dead_letters().await, Vec::<Value>::new());
    ends_well(&mut app).await;
    serving.abort();
}

fn shady() -> Value {
    json!({"account": "acc-1", "merchant": "shady-goods", "amount_cents": 900_000})
}

async fn confirm(client: &Client, transaction: &str) {
    let confirmation = json!({ "transaction": transaction }).to_string();
    client
        .put("fraud-confirmations", "acc-1", confirmation)
        .await;
}

/// Asks for the verdict as an outsider does.
async fn judged(client: &Client, id: &str, transaction: &Value) -> Value {
    let address = format!("fraud/transaction-manager/{id}");
    let reply = client.call(&address, transaction).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.typename.as_deref(), Some("fraud/verdict"));
    reply.json()
}

/// Waits until the account knows these frauds and no others.
async fn frauds_confirmed(client: &Client, transactions: &[&str]) {
    let expected = match transactions {
        [] => Value::Null,
        transactions => json!({ "transactions": transactions }),
    };
    until_true("the account knows its frauds", async || {
        let view = client.address("fraud/count/acc-1").await.json();
        view["state"][0]["value"] == expected
    })
    .await;
}

async fn ends_well(app: &mut Dev) {
    let ended = app.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
}
