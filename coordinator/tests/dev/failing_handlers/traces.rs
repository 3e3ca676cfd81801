//! Trace contexts, from a request over HTTP to functions and to what they send.

use satchel_testkit::until_true;
use serde_json::json;

use super::{App, Endpoint, http_endpoint, kept_log, lambda_endpoint, log_of, say};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn the_trace_context_of_a_request_reaches_the_function_and_the_one_that_it_sends_to() {
    let endpoint = Endpoint::start();
    let lambda = lambda_endpoint("faulty/*", "faulty", &[]);
    let app = App::start(&(http_endpoint("web/*", &endpoint) + &lambda)).await;
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
