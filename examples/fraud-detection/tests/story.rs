//! All four functions together, in virtual time and without any server.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use fraud_detection::messages::{Alert, FraudConfirmed, Transaction, Verdict};
use fraud_detection::{Config, FRAUD_COUNT, TRANSACTION_MANAGER, functions};
use satchel_sdk::egress::KinesisRecord;
use satchel_sdk::testing::Scenario;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn confirm(app: &mut Scenario, transaction: &str) {
    let transaction = transaction.to_owned();
    app.send(FRAUD_COUNT.id("acc-1"), &FraudConfirmed { transaction });
}

fn transaction() -> Transaction {
    Transaction {
        account: "acc-1".into(),
        merchant: "shady-goods".into(),
        amount_cents: 900_000,
    }
}

async fn judge(app: &mut Scenario, id: &str) -> Verdict {
    app.call(TRANSACTION_MANAGER.id(id), &transaction())
        .await
        .unwrap()
}

fn alerts(app: &Scenario) -> Vec<Alert> {
    let records: Vec<KinesisRecord> = app.egress("fraud/alerts");
    let alerts = records.iter().map(|record| record.value_as_json().unwrap());
    alerts.collect()
}

#[tokio::test]
async fn confirmed_frauds_count_towards_the_score_until_their_window_ends() {
    let mut app = Scenario::new(functions(Config::default()));
    confirm(&mut app, "tx-1");
    app.advance(DAY).await.unwrap();
    confirm(&mut app, "tx-2");
    confirm(&mut app, "tx-1");
    app.run_to_rest().await.unwrap();
    let windows: Vec<_> = app.pending_timers().iter().map(|timer| timer.due).collect();
    assert_eq!(windows, [30 * DAY, 31 * DAY]);

    let with_two = judge(&mut app, "tx-3").await;
    assert_eq!(
        with_two,
        Verdict {
            score: 72.0,
            alert: true
        }
    );
    app.run_until(30 * DAY).await.unwrap();
    assert_eq!(judge(&mut app, "tx-4").await.score, 64.0);
    app.run_until(31 * DAY).await.unwrap();
    assert_eq!(judge(&mut app, "tx-5").await.score, 56.0);
    assert_eq!(app.pending_timers(), []);

    let alerted: Vec<_> = alerts(&app)
        .into_iter()
        .map(|alert| alert.transaction)
        .collect();
    assert_eq!(alerted, ["tx-3", "tx-4", "tx-5"]);
    // The verdict is kept for a day; nothing else is left of anything.
    assert_eq!(app.addresses(), [TRANSACTION_MANAGER.id("tx-5")]);
    app.advance(DAY).await.unwrap();
    assert_eq!(app.addresses(), []);
}

#[tokio::test]
async fn a_transaction_is_judged_once_a_day() {
    let mut app = Scenario::new(functions(Config::default()));
    let manager = TRANSACTION_MANAGER.id("tx-1");
    app.send(&manager, &transaction());
    app.send(&manager, &transaction());
    app.run_to_rest().await.unwrap();
    let first = judge(&mut app, "tx-1").await;
    assert_eq!(alerts(&app).len(), 1);

    app.advance(DAY).await.unwrap();
    assert_eq!(judge(&mut app, "tx-1").await, first);
    assert_eq!(alerts(&app).len(), 2);
    assert_eq!(app.dead_letters(), []);
}
