//! One process: calls, restarts, access to administration.

use satchel_testkit::Dev;
use serde_json::json;

use super::*;

const ALICE: &str = "example/greeter/alice";

async fn seen(app: &Dev) -> i64 {
    let reply = app.client.call(ALICE, &json!({"name": "Alice"})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["seen"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_served_by_lambda_and_state_in_the_bucket_outlives_the_process() {
    let aws = Aws::with_greeter().await;
    let mut app = aws.setup("60s").start().await;
    assert_eq!(seen(&app).await, 1);
    assert_eq!(seen(&app).await, 2);
    let invoked = aws.api.requests();
    assert!(invoked >= 2, "{invoked}");
    // A planned stop releases the lease; otherwise the next start would wait a minute.
    let ended = app.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
    let begun = std::time::Instant::now();
    app.restart().await;
    assert!(begun.elapsed() < Duration::from_secs(40));
    assert_eq!(seen(&app).await, 3);
    let printed = app.printed();
    assert!(!printed.contains(SECRET), "{printed}");
    for line in printed.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("every log line is JSON");
        assert!(line["level"].is_string() && line["fields"]["message"].is_string());
    }
    drop(app);
    aws.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administration_is_readable_on_this_machine_and_writable_only_with_the_token() {
    let aws = Aws::with_greeter().await;
    let token = aws.dir.path().join("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    let setup = aws
        .setup("10s")
        .env("SATCHEL_ADMIN_TOKEN_FILE", token.display().to_string());
    let app = setup.start().await;
    assert_eq!(seen(&app).await, 1);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let address = format!("{}/api/addresses/{ALICE}", app.client.admin_url());
    let read = http.get(&address).send().await.unwrap();
    assert_eq!(read.status(), 200);
    let state = format!("{address}/state/seen");
    let rejected = http.delete(&state).send().await.unwrap();
    assert_eq!(rejected.status(), 401);
    let rejected = http
        .delete(&state)
        .bearer_auth("wrong")
        .send()
        .await
        .unwrap();
    assert_eq!(rejected.status(), 401);
    assert_eq!(seen(&app).await, 2);
    let done = http
        .delete(&state)
        .bearer_auth("s3cret")
        .send()
        .await
        .unwrap();
    assert_eq!(done.status(), 200);
    assert_eq!(seen(&app).await, 1);
    assert!(!app.printed().contains("s3cret"));
    drop(app);
    aws.stop().await;
}
