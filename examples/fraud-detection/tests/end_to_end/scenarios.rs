//! Scenarios that hold in every environment.

use fraud_detection::scoring_service::serve_stand_in;
use reqwest::Method;
use satchel_testkit::{Client, Dev, until_true};
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};

use crate::environment::App;

/// Frauds confirmed, a transaction judged, everything twice, and a kill in between: the README's
/// result.
pub(crate) async fn confirmed_frauds(mut app: App) {
    let client = app.process.client.clone();
    for transaction in ["tx-1", "tx-2", "tx-1"] {
        confirm(&app, transaction).await;
    }
    app.process.kill9().await;
    app.process.restart().await;
    frauds_confirmed(&client, &["tx-1", "tx-2"]).await;

    for _ in 0..2 {
        let transaction = shady().to_string();
        app.put("transactions", "tx-3", transaction).await;
    }
    let alert = json!({
        "transaction": "tx-3", "account": "acc-1", "merchant": "shady-goods",
        "amount_cents": 900_000, "score": 72.0,
    });
    let alerts = app.records_when("alerts", 1).await;
    assert_eq!(
        (alerts[0].key.as_str(), alerts[0].json()),
        ("acc-1", alert.clone())
    );

    app.process.kill9().await;
    app.process.restart().await;
    // It was judged already, so a call raises no second alert.
    assert_eq!(
        judged(&client, "tx-3", &shady()).await,
        json!({"score": 72.0, "alert": true})
    );
    let harmless = json!({"account": "acc-9", "merchant": "bakery", "amount_cents": 450});
    let verdict = judged(&client, "tx-4", &harmless).await;
    assert_eq!(verdict["alert"], false, "{verdict}");
    ends_well(&mut app.process).await;
    app.process.restart().await;
    // A second alert for tx-3, if there were one, would come before the next alert of its key.
    judged(&client, "tx-5", &shady()).await;
    let alerts = app.records_when("alerts", 2).await;
    assert_eq!(alerts[0].json(), alert);
    assert_eq!(alerts[1].json()["transaction"], "tx-5");
}

/// The window is a few seconds long here, and thirty days in the README.
pub(crate) async fn window(mut app: App) {
    let client = app.process.client.clone();
    let mut attempt = 0;
    // Several may coincide, and on a busy machine one window may end before its check.
    until_true("confirmed frauds raise a score", async || {
        attempt += 1;
        confirm(&app, &format!("fraud-{attempt}")).await;
        let verdict = judged(&client, &format!("with-{attempt}"), &shady()).await;
        verdict["score"].as_f64().unwrap() > 56.0
    })
    .await;

    app.process.kill9().await;
    app.process.restart().await;
    frauds_confirmed(&client, &[]).await;
    assert_eq!(
        judged(&client, "without", &shady()).await,
        json!({"score": 56.0, "alert": true})
    );
    let timers = client.admin(Method::GET, "/api/timers").await.json();
    assert_eq!(timers, json!({"timers": []}));
}

/// A third of the requests to the scoring service fail. Callers do not notice.
pub(crate) async fn failing_service(mut app: App) {
    let client = app.process.client.clone();
    let mut asking = JoinSet::new();
    for number in 0..24 {
        let call = client
            .to_call(&format!("fraud/transaction-manager/tx-{number}"))
            .json(&json!({
                "account": format!("acc-{}", number % 4),
                "merchant": format!("shady-{}", number % 6),
                "amount_cents": 900_000,
            }))
            .key("judge");
        asking.spawn(async move { call.send_until_answered().await });
    }
    // The kill comes in the middle of the calls.
    until_true("one call has a reply", async || {
        asking.len() < 24 || asking.try_join_next().is_some()
    })
    .await;
    app.process.kill9().await;
    app.process.restart().await;
    while let Some(reply) = asking.join_next().await {
        let reply = reply.unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.json(), json!({"score": 56.0, "alert": true}));
    }
    let mut alerted: Vec<String> = app
        .records_when("alerts", 24)
        .await
        .iter()
        .map(|alert| alert.json()["transaction"].as_str().unwrap().to_owned())
        .collect();
    alerted.sort();
    alerted.dedup();
    assert_eq!(alerted.len(), 24, "each transaction has its own alert");
    assert_eq!(client.dead_letters().await, Vec::<Value>::new());
    ends_well(&mut app.process).await;
}

/// A scoring service that fails every third request, until it is dropped.
pub(crate) struct FailingService {
    url: String,
    serving: JoinHandle<()>,
}

impl FailingService {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { serve_stand_in(listener, 3).await.unwrap() });
        Self { url, serving }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for FailingService {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn shady() -> Value {
    json!({"account": "acc-1", "merchant": "shady-goods", "amount_cents": 900_000})
}

async fn confirm(app: &App, transaction: &str) {
    let confirmation = json!({ "transaction": transaction }).to_string();
    app.put("fraud-confirmations", "acc-1", confirmation).await;
}

/// Asks for the verdict by `/call`.
async fn judged(client: &Client, id: &str, transaction: &Value) -> Value {
    let address = format!("fraud/transaction-manager/{id}");
    let reply = client.call(&address, transaction).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.typename.as_deref(), Some("fraud/verdict"));
    reply.json()
}

/// Waits until the account has exactly these frauds.
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
