//! Each function by itself, without any server but the scoring service.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use fraud_detection::messages::{
    Alert, CountFrauds, Features, FraudConfirmed, FraudCount, MerchantScore, Score, ScoreMerchant,
    Transaction, Verdict, WindowOver,
};
use fraud_detection::scoring_service::serve_stand_in;
use fraud_detection::{Config, FRAUD_COUNT, MERCHANT_SCORER, MODEL, functions};
use satchel_sdk::egress::KinesisRecord;
use satchel_sdk::testing::{BatchScenario, Outcome};
use satchel_sdk::{Address, FunctionType, Functions};

const MANAGER: &str = "fraud/transaction-manager/tx-1";

fn asker() -> Address {
    FunctionType::new("satchel/call").id("1")
}

fn transaction() -> Transaction {
    Transaction {
        account: "acc-1".into(),
        merchant: "shady-goods".into(),
        amount_cents: 900_000,
    }
}

fn confirmed(transaction: &str) -> FraudConfirmed {
    FraudConfirmed {
        transaction: transaction.into(),
    }
}

async fn count(outcome: Outcome<'_>) -> Vec<FraudCount> {
    let outcome = outcome
        .then()
        .message_from(&asker(), &CountFrauds {})
        .run()
        .await
        .unwrap();
    outcome.messages_to(&asker())
}

/// A transaction whose two questions are answered.
async fn asked(functions: &Functions) -> Outcome<'_> {
    let outcome = BatchScenario::new(functions, MANAGER)
        .message_from(&asker(), &transaction())
        .run()
        .await
        .unwrap();
    assert_eq!(
        outcome.messages_to::<CountFrauds>(&FRAUD_COUNT.id("acc-1")),
        [CountFrauds {}]
    );
    assert_eq!(
        outcome.messages_to::<ScoreMerchant>(&MERCHANT_SCORER.id("shady-goods")),
        [ScoreMerchant {}]
    );
    outcome
        .then()
        .message_from(
            &MERCHANT_SCORER.id("shady-goods"),
            &MerchantScore { trust: 5.0 },
        )
        .message_from(&FRAUD_COUNT.id("acc-1"), &FraudCount { count: 2 })
        .run()
        .await
        .unwrap()
}

async fn scored<'a>(outcome: Outcome<'a>, score: f64) -> Outcome<'a> {
    outcome
        .then()
        .message_from(&MODEL.id("tx-1"), &Score { score })
        .run()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_confirmed_fraud_counts_once_and_until_its_window_is_over() {
    let functions = functions(Config::default());
    let outcome = BatchScenario::new(&functions, "fraud/count/acc-1")
        .message(&confirmed("tx-1"))
        .message(&confirmed("tx-2"))
        .message(&confirmed("tx-1"))
        .run()
        .await
        .unwrap();
    let timers: Vec<_> = outcome
        .delayed()
        .iter()
        .map(|timer| (timer.delay, timer.to.clone(), timer.message.read()))
        .collect();
    let window_over = |transaction: &str| WindowOver {
        transaction: transaction.into(),
    };
    let month = Duration::from_secs(30 * 24 * 3600);
    let me = FRAUD_COUNT.id("acc-1");
    assert_eq!(
        timers,
        [
            (month, me.clone(), window_over("tx-1")),
            (month, me.clone(), window_over("tx-2")),
        ]
    );
    assert_eq!(count(outcome.clone()).await, [FraudCount { count: 2 }]);

    let outcome = outcome
        .then()
        .message_from(&me, &window_over("tx-1"))
        .run()
        .await
        .unwrap();
    assert_eq!(count(outcome.clone()).await, [FraudCount { count: 1 }]);

    let outcome = outcome
        .then()
        .message_from(&me, &window_over("tx-2"))
        .run()
        .await
        .unwrap();
    assert_eq!(outcome.cleared(), ["confirmed"]);
    assert_eq!(count(outcome).await, [FraudCount { count: 0 }]);
}

#[tokio::test]
async fn a_transaction_is_scored_when_both_features_are_known() {
    let functions = functions(Config::default());
    let outcome = asked(&functions).await;
    assert_eq!(outcome.sent().len(), 1);
    assert_eq!(
        outcome.messages_to::<Features>(&MODEL.id("tx-1")),
        [Features {
            fraud_count: 2,
            merchant_trust: 5.0,
            amount_cents: 900_000,
        }]
    );
}

#[tokio::test]
async fn a_score_at_the_threshold_raises_the_alert_and_is_the_reply() {
    let functions = functions(Config::default());
    let outcome = scored(asked(&functions).await, 50.0).await;
    let verdict = Verdict {
        score: 50.0,
        alert: true,
    };
    assert_eq!(
        outcome.messages_to::<Verdict>(&asker()),
        std::slice::from_ref(&verdict)
    );
    assert_eq!(outcome.egressed().len(), 1);
    assert_eq!(outcome.egressed()[0].egress.to_string(), "fraud/alerts");
    let record: KinesisRecord = outcome.egressed()[0].value.read();
    assert_eq!(
        (record.stream(), record.partition_key()),
        ("alerts", "acc-1")
    );
    assert_eq!(
        record.value_as_json::<Alert>().unwrap(),
        Alert {
            transaction: "tx-1".into(),
            account: "acc-1".into(),
            merchant: "shady-goods".into(),
            amount_cents: 900_000,
            score: 50.0,
        }
    );
    assert_eq!(outcome.state::<Verdict>("verdict"), Some(verdict));
}

#[tokio::test]
async fn a_score_under_the_threshold_raises_no_alert() {
    let functions = functions(Config::default());
    let outcome = scored(asked(&functions).await, 49.9).await;
    assert_eq!(outcome.egressed(), []);
    assert_eq!(
        outcome.messages_to::<Verdict>(&asker()),
        [Verdict {
            score: 49.9,
            alert: false,
        }]
    );
}

#[tokio::test]
async fn a_repeated_transaction_is_judged_once_and_every_caller_gets_the_verdict() {
    let functions = functions(Config::default());
    let outcome = asked(&functions).await;
    // While the features are on their way…
    let second = FunctionType::new("satchel/call").id("2");
    let outcome = outcome
        .then()
        .message_from(&second, &transaction())
        .message(&transaction())
        .run()
        .await
        .unwrap();
    assert_eq!(outcome.sent(), []);
    let outcome = scored(outcome, 80.0).await;
    let verdict = Verdict {
        score: 80.0,
        alert: true,
    };
    assert_eq!(
        outcome.messages_to::<Verdict>(&asker()),
        std::slice::from_ref(&verdict)
    );
    assert_eq!(
        outcome.messages_to::<Verdict>(&second),
        std::slice::from_ref(&verdict)
    );
    // …and after the judgement.
    let third = FunctionType::new("satchel/call").id("3");
    let outcome = outcome
        .then()
        .message_from(&third, &transaction())
        .message(&transaction())
        .run()
        .await
        .unwrap();
    assert_eq!(outcome.messages_to::<Verdict>(&third), [verdict]);
    assert_eq!((outcome.sent().len(), outcome.egressed()), (1, &[][..]));
}

#[tokio::test]
async fn the_model_answers_with_a_score() {
    let functions = functions(Config::default());
    let outcome = BatchScenario::new(&functions, "fraud/model/tx-1")
        .message_from(
            &asker(),
            &Features {
                fraud_count: 2,
                merchant_trust: 5.0,
                amount_cents: 900_000,
            },
        )
        .run()
        .await
        .unwrap();
    assert_eq!(
        outcome.messages_to::<Score>(&asker()),
        [Score { score: 72.0 }]
    );
}

async fn trust_of(functions: &Functions, merchant: &str) -> Result<Vec<MerchantScore>, String> {
    BatchScenario::new(functions, &format!("fraud/merchant-scorer/{merchant}"))
        .message_from(&asker(), &ScoreMerchant {})
        .run()
        .await
        .map(|outcome| outcome.messages_to(&asker()))
        .map_err(|error| error.message)
}

async fn with_service(fail_every: u64) -> Functions {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve_stand_in(listener, fail_every));
    functions(Config {
        scoring_service_url: Some(url),
        ..Config::default()
    })
}

#[tokio::test]
async fn a_busy_scoring_service_is_asked_again() {
    let functions = with_service(2).await;
    for _ in 0..4 {
        assert_eq!(
            trust_of(&functions, "shady goods/ü").await,
            Ok(vec![MerchantScore { trust: 5.0 }])
        );
    }
}

#[tokio::test]
async fn a_scoring_service_that_stays_busy_fails_the_message() {
    let functions = with_service(1).await;
    let error = trust_of(&functions, "bakery").await.unwrap_err();
    assert!(
        error.starts_with("the scoring service failed 3 times: HTTP status server error (503"),
        "{error}"
    );
}

#[tokio::test]
async fn the_service_and_the_stand_in_inside_agree() {
    let inside = functions(Config::default());
    let service = with_service(0).await;
    for merchant in ["bakery", "shady-goods", "a b/c"] {
        assert_eq!(
            trust_of(&inside, merchant).await,
            trust_of(&service, merchant).await
        );
    }
}
