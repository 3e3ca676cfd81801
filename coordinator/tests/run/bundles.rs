//! Many addresses share few requests.

use satchel_testkit::until_true;
use serde_json::json;

use super::*;

const ADDRESSES: usize = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_addresses_with_one_message_each_are_served_in_at_most_a_hundred_requests() {
    let handlers = tempfile::tempdir().unwrap();
    let handler = handlers.path().join("handler.py");
    std::fs::write(&handler, include_str!("spreading_handler.py")).unwrap();
    let program = Program::Command(["python3", "handler.py"].map(str::to_owned).to_vec());
    let module = "
kind: satchel.endpoints.v1/lambda
spec:
  functions: example/*
  functionName: greeter
  maxConcurrency: 10
";
    let aws = Aws::with(program, handlers.path().to_owned(), module).await;
    let app = aws.setup("10s").start().await;
    let before = aws.api.requests();
    let spread = json!({"spread": ADDRESSES});
    let sent = app.client.send("example/spreader/one", &spread).await;
    assert_eq!(sent.status, 202, "{sent:?}");
    let processed = || async {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{}/metrics", app.client.admin_url());
        let text = http.get(url).send().await.unwrap().text().await.unwrap();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("satchel_invocation_messages_total{"));
        let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
        counts.sum::<usize>()
    };
    until_true("all of them are served", async || {
        processed().await > ADDRESSES
    })
    .await;
    let requests = aws.api.requests() - before;
    eprintln!("{ADDRESSES} addresses in {requests} requests");
    assert!(requests <= 100, "{requests}");
    assert_eq!(processed().await, ADDRESSES + 1);
    assert_eq!(app.client.dead_letters().await.len(), 0);
    drop(app);
    aws.stop().await;
}
