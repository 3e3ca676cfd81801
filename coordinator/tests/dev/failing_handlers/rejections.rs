//! Messages that are rejected for good: by their function, or because of a mistake in its answer.
//! The handlers are not written with the Rust SDK, so they speak the documented extension.

use std::time::{Duration, Instant};

use futures::future::join_all;
use satchel_testkit::{until, until_true};
use serde_json::{Value, json};

use super::{
    App, Endpoint, call_patiently, http_endpoint, kept_log, lambda_endpoint, log_of, say, summary,
};

/// More attempts, and longer pauses between them, than any of these tests could wait for.
const MANY_ATTEMPTS: &str = "retries: {maxAttempts: 100, backoff: {initial: 10s, max: 60s}}";

/// An application with the same functions behind both transports.
async fn app() -> (App, Endpoint) {
    let endpoint = Endpoint::start();
    let lambda = lambda_endpoint("faulty/*", "faulty", &["timeout: 20s", MANY_ATTEMPTS]);
    let app = App::start(&(http_endpoint("web/*", &endpoint) + &lambda)).await;
    (app, endpoint)
}

fn reject(code: u16, why: &str) -> Value {
    json!({"do": "reject", "code": code, "why": why})
}

#[tokio::test]
async fn a_caller_gets_the_status_and_the_text_of_the_rejection_at_once() {
    let (app, _endpoint) = app().await;
    let client = app.client();
    for address in ["faulty/log/x", "web/log/x"] {
        log_of(&call_patiently(client, address, &say("before")).await);
        for (code, status) in [(404, 404), (422, 422), (500, 500), (200, 500), (503, 500)] {
            let begun = Instant::now();
            let reply = client.call(address, &reject(code, "no such thing")).await;
            assert_eq!(
                (reply.status, reply.error_code(), reply.error_message()),
                (
                    status,
                    "rejected".to_owned(),
                    "rejected: no such thing".to_owned()
                ),
                "{address} {code}"
            );
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "it is not retried"
            );
        }
        let log = log_of(&call_patiently(client, address, &say("after")).await);
        assert_eq!(log, json!(["before", "after"]));
    }
    assert_eq!(client.dead_letters().await, [Value::Null; 0]);
}

#[tokio::test]
async fn without_a_caller_a_rejected_message_is_a_dead_letter_after_one_attempt() {
    let (app, _endpoint) = app().await;
    let client = app.client();
    for (count, address) in [(1, "faulty/log/x"), (2, "web/log/x")] {
        let message = reject(400, "nonsense");
        assert_eq!(client.send(address, &message).await.status, 202);
        let letters = until("it is a dead letter", async || {
            let letters = client.dead_letters().await;
            (letters.len() == count).then_some(letters)
        })
        .await;
        let (at, content, attempts, reason) = summary(letters.last().unwrap());
        assert_eq!((at.as_str(), content, attempts), (address, message, 1));
        assert!(reason.ends_with("rejected: nonsense"), "{reason}");
    }
}

#[tokio::test]
async fn a_repeat_under_the_same_key_gets_the_same_rejection_also_over_a_crash() {
    let (mut app, _endpoint) = app().await;
    let obstacle = app.obstacle();
    let mut message = obstacle.message("reject");
    message["code"] = json!(409);
    message["why"] = json!("too late");
    let call = |app: &App| {
        let call = app.client().to_call("web/log/x").json(&message);
        call.key("once").timeout("100s")
    };
    let first = call(&app).send().await.unwrap();
    assert_eq!(
        (first.status, first.error_code()),
        (409, "rejected".to_owned())
    );
    app.dev.kill9().await;
    app.dev.restart().await;
    obstacle.remove();
    let again = call(&app).send().await.unwrap();
    assert_eq!((again.status, again.body), (409, first.body));
    assert_eq!(app.client().dead_letters().await, [Value::Null; 0]);
}

#[tokio::test]
async fn rejections_in_a_batch_lose_and_double_no_other_message_and_keep_the_order() {
    let (app, _endpoint) = app().await;
    for address in ["faulty/log/x", "web/log/x"] {
        rejections_among_good_ones(&app, address).await;
    }
}

async fn rejections_among_good_ones(app: &App, address: &str) {
    let client = app.client();
    let obstacle = app.obstacle();
    // Messages that arrive while the first one is processed form one batch.
    let first = client.send(address, &obstacle.message("wait")).await;
    assert_eq!(first.status, 202);
    let before = client.dead_letters().await.len();
    let hidden = json!({"do": "reject", "code": 400, "why": "hidden", "hides its position": true});
    for each in 0..40 {
        let message = match each {
            7 | 8 | 30 => reject(400, "named"),
            19 => hidden.clone(),
            _ => say(each),
        };
        assert_eq!(client.send(address, &message).await.status, 202);
    }
    let calls = join_all((0..3).map(async |each| match each {
        1 => call_patiently(client, address, &reject(410, "gone")).await,
        _ => call_patiently(client, address, &say("called")).await,
    }));
    let release = async {
        until_true("everything waits in the mailbox", async || {
            client.address(address).await.json()["backlog"]["messages"] == 44
        })
        .await;
        obstacle.remove();
    };
    let (replies, ()) = futures::join!(calls, release);
    let statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [200, 410, 200]);

    let good = (0..40).filter(|each| ![7, 8, 19, 30].contains(each));
    let expected: Value = [json!("wait")]
        .into_iter()
        .chain(good.map(Value::from))
        .chain([json!("called"), json!("called")])
        .collect();
    assert_eq!(kept_log(client, address).await, expected);
    let letters: Vec<_> = client.dead_letters().await.iter().map(summary).collect();
    let here = &letters[before..];
    let of_here: Vec<_> = here
        .iter()
        .map(|(_, message, attempts, _)| (message["why"].as_str().unwrap(), *attempts))
        .collect();
    assert_eq!(
        of_here,
        [("named", 1), ("named", 1), ("hidden", 1), ("named", 1)]
    );
}

#[tokio::test]
async fn a_mistake_in_an_answer_that_every_retry_repeats_is_answered_with_500_at_once() {
    let (app, _endpoint) = app().await;
    let client = app.client();
    let mistakes = [
        (
            "write an undeclared state",
            "the state \"undeclared\" was never declared",
        ),
        (
            "write to an unknown egress",
            "no egress is named faulty/nowhere",
        ),
    ];
    for address in ["faulty/log/x", "web/log/x"] {
        for (what, reason) in mistakes {
            let reply = client.call(address, &json!({"do": what})).await;
            assert_eq!(
                (reply.status, reply.error_code(), reply.error_message()),
                (
                    500,
                    "rejected".to_owned(),
                    format!("the answer was not accepted: {reason}")
                )
            );
        }
    }
    assert_eq!(client.dead_letters().await, [Value::Null; 0]);
    let (what, reason) = mistakes[1];
    let sent = client.send("web/log/x", &json!({"do": what})).await;
    assert_eq!(sent.status, 202);
    let letter = until("it is a dead letter", async || {
        client.dead_letters().await.pop()
    })
    .await;
    let (_, _, attempts, text) = summary(&letter);
    assert_eq!(
        (attempts, text),
        (1, format!("the answer was not accepted: {reason}"))
    );
}
