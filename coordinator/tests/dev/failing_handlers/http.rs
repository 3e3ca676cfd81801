//! Endpoints over HTTP that answer wrongly, do not answer, throttle, or are unavailable.

use std::cell::Cell;
use std::time::Duration;

use futures::future::join_all;
use reqwest::Method;
use satchel_testkit::{satchel, until_true};
use serde_json::{Value, json};

use super::{
    App, Endpoint, THREE_ATTEMPTS, call_patiently, http_endpoint, lambda_endpoint, log_of, say,
    summary,
};

/// Each misbehaviour with its reported reason. An answer for another batch is not among them,
/// because it cannot be detected over plain HTTP.
fn misbehaviours() -> Vec<(Value, &'static str)> {
    let transport = [
        (
            "raise",
            "the endpoint answered 500 Internal Server Error: no such thing",
        ),
        ("hang", "timed out after 1s (call)"),
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
    ];
    let status = (
        json!({"do": "status", "status": 400}),
        "the endpoint answered 400 Bad Request: not now",
    );
    let transport = transport.map(|(what, reason)| (json!({"do": what}), reason));
    transport.into_iter().chain([status]).collect()
}

#[tokio::test]
async fn a_misbehaving_endpoint_costs_only_the_affected_message() {
    let endpoint = Endpoint::start();
    let lambda = lambda_endpoint("faulty/*", "faulty", &[THREE_ATTEMPTS]);
    let app = App::start(&(http_endpoint("web/*", &endpoint) + &lambda)).await;
    let client = app.client();

    let cases = misbehaviours();
    let address = |number: usize| format!("web/log/{number:02}");
    let over = Cell::new(false);
    let wrong = async {
        let calls = cases.iter().enumerate();
        let replies = join_all(calls.map(async |(number, (message, _))| {
            call_patiently(client, &address(number), message).await
        }));
        let replies = replies.await;
        over.set(true);
        replies
    };
    // Traffic that succeeds shows that the endpoint is not away.
    let good = join_all(["web/log/good", "web/log/better", "faulty/log/good"].map(
        async |address| {
            for round in 0.. {
                let reply = call_patiently(client, address, &say(round)).await;
                assert_eq!(log_of(&reply), (0..=round).collect::<Value>(), "{address}");
                if over.get() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        },
    ));
    let (replies, _) = futures::join!(wrong, good);

    for ((message, reason), reply) in cases.iter().zip(&replies) {
        assert_eq!(
            (reply.status, reply.error_code()),
            (500, "dead_letter".to_owned()),
            "{message}: {reply:?}"
        );
        let text = reply.error_message();
        assert!(text.contains(reason), "{message}: {text}");
    }
    let mut letters: Vec<_> = client.dead_letters().await.iter().map(summary).collect();
    letters.sort_by_key(|(address, ..)| address.clone());
    assert_eq!(letters.len(), cases.len(), "{letters:#?}");
    for (number, ((message, reason), letter)) in cases.iter().zip(letters).enumerate() {
        let (at, what, attempts, text) = letter;
        assert_eq!((at, &what, attempts), (address(number), message, 8));
        assert!(text.starts_with(reason), "{message}: {text}");
    }
}

#[tokio::test]
async fn a_throttling_endpoint_is_retried_without_counting_attempts() {
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
            "satchel_invocation_failures_total\
             {{endpoint=\"{}/{{function.name}}\",kind=\"throttled\"}}",
            endpoint.url()
        ))
        .await;
    assert_eq!(throttled, Some(6.0));
}

#[tokio::test]
async fn an_unavailable_endpoint_delays_only_its_own_messages() {
    let mut endpoint = Endpoint::start_closed();
    let lambda = lambda_endpoint("faulty/*", "faulty", &[THREE_ATTEMPTS]);
    let app = App::start(&(http_endpoint("web/*", &endpoint) + &lambda)).await;
    let client = app.client();
    for address in ["web/log/one", "web/log/two"] {
        for said in [json!("first"), json!("failed attempts")] {
            assert_eq!(client.send(address, &say(said)).await.status, 202);
        }
    }
    let refused = format!(
        "satchel_invocation_failures_total\
         {{endpoint=\"{}/{{function.name}}\",kind=\"unavailable\"}}",
        endpoint.url()
    );
    until_true("connections were refused", async || {
        client
            .metric(&refused)
            .await
            .is_some_and(|count| count >= 2.0)
    })
    .await;

    let elsewhere = call_patiently(client, "faulty/log/good", &say("here")).await;
    assert_eq!(log_of(&elsewhere), json!(["here"]));

    endpoint.listen();
    for address in ["web/log/one", "web/log/two"] {
        let log = log_of(&call_patiently(client, address, &say("last")).await);
        assert_eq!(log, json!(["first", 0, "last"]), "{address}");
    }
    assert_eq!(client.dead_letters().await, [Value::Null; 0]);
}

#[tokio::test]
async fn an_outage_is_seen_while_it_lasts_and_its_end_is_too() {
    let mut endpoint = Endpoint::start_closed();
    let mut app = App::start(&http_endpoint("web/*", &endpoint)).await;
    let name = format!("{}/{{function.name}}", endpoint.url());
    assert_eq!(
        app.client().send("web/log/one", &say("first")).await.status,
        202
    );
    until_true("the endpoint is known to be down", async || {
        let readyz = app.client().admin(Method::GET, "/readyz").await;
        readyz.status == 200 && readyz.json()["unhealthy_endpoints"] == json!([name])
    })
    .await;

    let shown = app.client().admin(Method::GET, "/api/endpoints").await;
    let endpoints = shown.json()["endpoints"].clone();
    assert_eq!(endpoints[0]["state"], "down", "{endpoints}");
    assert_eq!(endpoints[0]["last_failure"]["kind"], "unavailable");
    let function = app.client().admin(Method::GET, "/api/functions").await;
    let function = function.json()["functions"][0].clone();
    assert_eq!(function["function"], "web/log");
    assert_eq!(function["backlog"]["messages"], 1);
    let waiting = app.client().address("web/log/one").await.json();
    assert_eq!(waiting["failing"], Value::Null);
    assert_eq!(waiting["endpoint"]["name"], json!(name));
    let listed = app.client().admin(Method::GET, "/api/addresses?prefix=on");
    assert_eq!(
        listed.await.json()["addresses"][0]["address"],
        "web/log/one"
    );
    let status = command(&app, &["status"]).await;
    for part in ["serving\n", "down since 20", "unavailable: ", "web/log"] {
        assert!(status.contains(part), "{part}: {status}");
    }
    let listed = command(&app, &["address", "list", "--function", "web/log"]).await;
    assert!(listed.contains(r#""address":"web/log/one""#), "{listed}");

    endpoint.listen();
    until_true("the endpoint is up again", async || {
        app.dev.printed().contains("endpoint up again")
    })
    .await;
    let ended = app.dev.terminate().await;
    let lines = ended.printed.lines();
    let lines = lines.filter(|it| it.contains("endpoint"));
    let lines: Vec<_> = lines.filter(|it| it.contains("WARN")).collect();
    assert_eq!(lines.len(), 1, "an outage is one line: {lines:#?}");
    assert!(lines[0].contains("endpoint down; its messages wait"));
    assert!(!ended.printed.contains('\u{1b}'), "no colours in a file");
}

/// Runs a command of the binary against an application. Returns its output.
async fn command(app: &App, arguments: &[&str]) -> String {
    let output = tokio::process::Command::new(satchel())
        .args(arguments)
        .env("SATCHEL_ADMIN_URL", app.client().admin_url())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
