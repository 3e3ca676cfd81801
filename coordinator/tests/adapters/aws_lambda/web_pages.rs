//! Web pages can neither invoke a function nor take a handler's requests, although browsers reach
//! loopback ports.

use super::*;

const INVOCATIONS: &str = "2015-03-31/functions/greeter/invocations";

/// A handler that sends its Runtime API the requests of a web page, and answers with their
/// statuses.
const ASKS_AS_A_PAGE: &str = r#"
import http.client, json, os

def call(method, path, headers={}, body=None):
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    return response.status, response.headers, response.read()

INVOCATION = "/2018-06-01/runtime/invocation/"
while True:
    _, headers, _ = call("GET", INVOCATION + "next")
    request = headers["Lambda-Runtime-Aws-Request-Id"]
    statuses = [
        call("GET", INVOCATION + "next", {"Sec-Fetch-Site": "cross-site"})[0],
        call("POST", INVOCATION + request + "/response", {"Origin": "https://evil.test"}, "1")[0],
        call("GET", INVOCATION + "next", {"Host": "evil.test"})[0],
        call("GET", INVOCATION + "next", {"Host": "localhost:1"})[0],
    ]
    call("POST", INVOCATION + request + "/response", {}, json.dumps(statuses))
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_invoke_api_and_the_runtime_api_reject_requests_of_web_pages() {
    let fixture = Fixture::of(ASKS_AS_A_PAGE, 1, None).await;
    let url = format!("{}/{INVOCATIONS}", fixture.sdk.endpoint_url().unwrap());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let invoke = async |header: (&str, &str)| {
        let request = client.post(&url).header(header.0, header.1).body("{}");
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap();
        (status, serde_json::from_slice::<Value>(&body).unwrap())
    };
    for (header, code) in [
        (("origin", "https://evil.example"), "origin_not_allowed"),
        (("origin", "http://localhost:3000"), "origin_not_allowed"),
        (("sec-fetch-site", "same-site"), "origin_not_allowed"),
        (("host", "evil.example"), "host_not_allowed"),
    ] {
        let (status, body) = invoke(header).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (403, &json!(code)),
            "{header:?}"
        );
    }
    assert_eq!(fixture.api.requests(), 0);

    let of_a_program = ("user-agent", "a program");
    assert_eq!(
        invoke(of_a_program).await,
        (200, json!([403, 403, 403, 403]))
    );
    fixture.stop().await;
}
