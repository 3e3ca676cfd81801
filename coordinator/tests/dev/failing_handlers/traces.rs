//! Trace contexts, from a request over HTTP to functions and to what they send.

use satchel_testkit::{Setup, until_true};
use serde_json::{Value, json};

use super::{App, Endpoint, http_endpoint, kept_log, lambda_endpoint, log_of, say};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Trace and span ids of a trace context.
fn ids(context: &Value) -> (&str, &str) {
    let parts: Vec<&str> = context.as_str().unwrap().split('-').collect();
    (parts[1], parts[2])
}

#[tokio::test]
async fn the_trace_context_of_a_request_reaches_the_function_and_the_one_that_it_sends_to() {
    let endpoint = Endpoint::start();
    let lambda = lambda_endpoint("faulty/*", "faulty", &[]);
    let module = http_endpoint("web/*", &endpoint) + &lambda;
    let untold = |setup: Setup| setup.arg("--trace-messages=0");
    let app = App::start_with(&module, untold).await;
    let client = app.client();
    for function in ["web/log", "faulty/log"] {
        let message = json!({"say": "trace", "forward": "two"});
        let traced = client.to_call(&format!("{function}/one")).json(&message);
        let reply = traced.header("traceparent", TRACE).send().await.unwrap();
        assert_eq!(log_of(&reply), json!([TRACE]), "{function}");
        let next = format!("{function}/two");
        until_true("the other address has its message", async || {
            client.address(&next).await.status == 200
                && kept_log(client, &next).await == json!([TRACE])
        })
        .await;
        let untraced = client
            .call(&format!("{function}/none"), &say("trace"))
            .await;
        assert_eq!(log_of(&untraced), json!([""]), "{function}");
    }
}

#[tokio::test]
async fn with_stories_each_hop_has_a_span_of_its_own_in_the_trace_of_the_request() {
    let endpoint = Endpoint::start();
    let lambda = lambda_endpoint("faulty/*", "faulty", &[]);
    let app = App::start(&(http_endpoint("web/*", &endpoint) + &lambda)).await;
    let client = app.client();
    let (trace, outside) = TRACE.split_at(35);
    let (trace, outside) = (&trace[3..], &outside[1..17]);
    for function in ["web/log", "faulty/log"] {
        let message = json!({"say": "trace", "forward": "two"});
        let traced = client.to_call(&format!("{function}/one")).json(&message);
        let reply = traced.header("traceparent", TRACE).send().await.unwrap();
        let first = log_of(&reply)[0].clone();
        let next = format!("{function}/two");
        until_true("the other address has its message", async || {
            client.address(&next).await.status == 200 && kept_log(client, &next).await != json!([])
        })
        .await;
        let second = kept_log(client, &next).await[0].clone();
        let spans = [ids(&first), ids(&second)];
        assert_eq!(spans.map(|(id, _)| id), [trace; 2], "{function}");
        let [one, two] = spans.map(|(_, span)| span);
        assert!(one != outside && two != outside && one != two, "{spans:?}");
        let alone = client
            .call(&format!("{function}/none"), &say("trace"))
            .await;
        let alone = log_of(&alone)[0].clone();
        assert_ne!(
            ids(&alone).0,
            trace,
            "a request without a context begins a trace"
        );
    }
}
