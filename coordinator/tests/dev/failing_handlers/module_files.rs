//! `--watch`: the module files of a running application change.

use satchel_testkit::until_true;
use serde_json::json;

use super::{App, THREE_ATTEMPTS, call_patiently, lambda_endpoint, log_of, say};

#[tokio::test]
async fn a_changed_module_file_is_followed_and_an_invalid_one_is_reported() {
    let faulty = lambda_endpoint("faulty/*", "faulty", &[THREE_ATTEMPTS]);
    let app = App::start_with(&faulty, |setup| setup.arg("--watch")).await;
    let client = app.client();
    let call =
        async |text: &str| log_of(&call_patiently(client, "faulty/log/one", &say(text)).await);
    assert_eq!(call("first").await, json!(["first"]));

    let file = app.dir.path().join("module.yaml");
    std::fs::write(&file, faulty.replace("functions:", "function:")).unwrap();
    until_true("the problem is reported", async || {
        let printed = app.dev.printed();
        printed.contains("continues as it is") && printed.contains("module.yaml")
    })
    .await;
    assert_eq!(call("second").await, json!(["first", "second"]));

    let another = lambda_endpoint("another/*", "another", &[THREE_ATTEMPTS]);
    std::fs::write(&file, faulty + &another).unwrap();
    until_true("the other endpoint serves", async || {
        let request = client.to_call("another/log/one").json(&say("new"));
        request.send().await.is_ok_and(|reply| reply.status == 200)
    })
    .await;
    assert_eq!(call("third").await, json!(["first", "second", "third"]));
    assert!(app.dev.printed().contains("starting again"));
}
