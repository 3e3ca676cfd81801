//! Endpoints over HTTP that answer wrongly, not at all, not now, or are not there.

use futures::future::join_all;
use satchel_testkit::until_true;
use serde_json::{Value, json};

use super::{
    App, Endpoint, THREE_ATTEMPTS, call_patiently, http_endpoint, lambda_endpoint, log_of, say,
    told,
};

/// What an endpoint is told to do wrong, and what a person reads about it later. An answer for another batch is none of them: over plain
/// HTTP it can not be told.
fn wrongs() -> Vec<(Value, &'static str)> {
    let transport = [
        (
            "raise",
            "the endpoint answered 500 Internal Server Error: no such thing",
        ),
        ("hang", "timed out after 1s"),
        ("answer with garbage", "the answer is not a FromFunction: "),
        (
            "another content type",
            "the answer has content type \"application/json\" instead of application/octet-stream",
        ),
        (
            "nothing",
            "the answer, with status 200 OK, has neither a body nor a content type",
        ),
        ("close at once", "no answer: "),
        ("close amid the answer", "no answer: "),
        ("no http", "no answer: "),
        (
            "too large",
            "the answer is larger than 100000 bytes (payload_max_bytes)",
        ),
        (
            "miss what it was given",
            "the answer was not accepted: it asks for states that the request held",
        ),
        (
            "write an undeclared state",
            "the answer was not accepted: the state \"undeclared\" was never declared",
        ),
    ];
    let status = [
        (404, "the endpoint answered 404 Not Found: not now"),
        (301, "the endpoint answered 301 Moved Permanently: not now"),
    ];
    let transport = transport.map(|(what, reason)| (json!({"do": what}), reason));
    let status = status.map(|(status, reason)| (json!({"do": "status", "status": status}), reason));
    transport.into_iter().chain(status).collect()
}

#[tokio::test]
async fn whatever_an_endpoint_does_wrong_only_that_message_is_given_up_on() {
    let endpoint = Endpoint::start();
    let lambda = lambda_endpoint("trouble/*", "trouble", &[THREE_ATTEMPTS]);
    let app = App::start(&(http_endpoint("web/*", &endpoint) + &lambda)).await;
    let client = app.client();

    let wrongs = wrongs();
    let address = |number: usize| format!("web/log/{number:02}");
    let wrong = join_all(
        wrongs
            .iter()
            .enumerate()
            .map(async |(number, (message, _))| {
                call_patiently(client, &address(number), message).await
            }),
    );
    let good = join_all(["web/log/good", "web/log/better", "trouble/log/good"].map(
        async |address| {
            for round in 0..20 {
                let reply = call_patiently(client, address, &say(round)).await;
                assert_eq!(log_of(&reply), (0..=round).collect::<Value>(), "{address}");
            }
        },
    ));
    let (replies, _) = futures::join!(wrong, good);

    for ((message, reason), reply) in wrongs.iter().zip(&replies) {
        assert_eq!(
            (reply.status, reply.error_code()),
            (500, "dead_letter".to_owned()),
            "{message}: {reply:?}"
        );
        let text = reply.error_message();
        assert!(text.contains(reason), "{message}: {text}");
    }
    let mut letters: Vec<_> = client.dead_letters().await.iter().map(told).collect();
    letters.sort_by_key(|(address, ..)| address.clone());
    assert_eq!(letters.len(), wrongs.len(), "{letters:#?}");
    for (number, ((message, reason), letter)) in wrongs.iter().zip(letters).enumerate() {
        let (at, what, attempts, told) = letter;
        assert_eq!((at, &what, attempts), (address(number), message, 8));
        assert!(told.starts_with(reason), "{message}: {told}");
    }
}

#[tokio::test]
async fn an_endpoint_that_asks_for_less_is_tried_again_and_no_message_blamed() {
    let endpoint = Endpoint::start();
    let app = App::start(&http_endpoint("web/*", &endpoint)).await;
    let client = app.client();

    for status in [429, 503] {
        let address = format!("web/log/{status}");
        let message =
            json!({"do": "status", "status": status, "times": 3, "say": "failed attempts"});
        let log = log_of(&call_patiently(client, &address, &message).await);
        assert_eq!(log, json!([0]), "{status}");
    }
    assert_eq!(client.dead_letters().await, [Value::Null; 0]);
    let throttled = client
        .metric(&format!(
            "satchel_invocation_failures_total{{endpoint=\"{}/{{function.name}}\",kind=\"throttled\"}}",
            endpoint.url()
        ))
        .await;
    assert_eq!(throttled, Some(6.0));
}

#[tokio::test]
async fn an_endpoint_that_refuses_connections_is_waited_for_and_nobody_else_is() {
    let mut endpoint = Endpoint::start_deaf();
    let lambda = lambda_endpoint("trouble/*", "trouble", &[THREE_ATTEMPTS]);
    let app = App::start(&(http_endpoint("web/*", &endpoint) + &lambda)).await;
    let client = app.client();
    for address in ["web/log/one", "web/log/two"] {
        for said in [json!("first"), json!("failed attempts")] {
            assert_eq!(client.send(address, &say(said)).await.status, 202);
        }
    }
    let refused = format!(
        "satchel_invocation_failures_total{{endpoint=\"{}/{{function.name}}\",kind=\"unreachable\"}}",
        endpoint.url()
    );
    until_true("connections were refused", async || {
        client
            .metric(&refused)
            .await
            .is_some_and(|count| count >= 2.0)
    })
    .await;

    let elsewhere = call_patiently(client, "trouble/log/good", &say("here")).await;
    assert_eq!(log_of(&elsewhere), json!(["here"]));

    endpoint.listen();
    for address in ["web/log/one", "web/log/two"] {
        let log = log_of(&call_patiently(client, address, &say("last")).await);
        assert_eq!(log, json!(["first", 0, "last"]), "{address}");
    }
    assert_eq!(client.dead_letters().await, [Value::Null; 0]);
}
