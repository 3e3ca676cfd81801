//! A store that loses requests: the log of the process says what hangs, while it hangs.

use std::sync::atomic::{AtomicBool, Ordering};

use satchel_testkit::{Fault, Proxy, Service, until_true};
use serde_json::json;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_hangs_is_named_while_it_hangs_and_repetitions_are_not() {
    let aws = Aws::with_greeter().await;
    let proxy = Proxy::start(aws.moto.endpoint()).await;
    let lost = Arc::new(AtomicBool::new(false));
    let loses = Arc::clone(&lost);
    proxy.decide_with(move |request| {
        let commits = *request.method == reqwest::Method::PUT && request.path.contains("/log/");
        (commits && loses.load(Ordering::Relaxed)).then_some(Fault::LoseRequest)
    });
    let setup = aws.setup("60s");
    let setup = setup.env(Service::S3.variable, proxy.endpoint());
    let app = setup.start().await;
    lost.store(true, Ordering::Relaxed);
    let call = tokio::spawn({
        let client = app.client.clone();
        async move {
            let name = json!({"name": "Alice"});
            client.call("example/greeter/alice", &name).await
        }
    });
    let hangs = "commit hangs; nothing that depends on it leaves";
    until_true("the log says that a commit hangs", async || {
        app.printed().contains(hangs)
    })
    .await;
    assert!(!call.is_finished());
    lost.store(false, Ordering::Relaxed);
    assert_eq!(call.await.unwrap().status, 200);
    let printed = app.printed();
    assert_eq!(printed.matches(hangs).count(), 1, "{printed}");
    let retries = printed.matches("store request failed; retrying").count();
    assert_eq!(retries, 1, "each kind of failure once: {printed}");
    drop(app);
    aws.stop().await;
}
