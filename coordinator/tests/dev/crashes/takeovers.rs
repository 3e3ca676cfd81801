//! Two processes on one data directory.

use satchel_testkit::{Moto, Setup, example};
use serde_json::json;

use super::load::{Load, number};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_takes_over_and_the_first_ends_at_its_next_commit() {
    let mut first = Setup::of(example("greeter")).start().await;
    let name = json!({"name": "Alice"});
    let alice = "example/greeter/alice";
    assert_eq!(first.client.call(alice, &name).await.json()["seen"], 1);

    let second = first.setup().start().await;
    assert!(
        second.printed().contains("(epoch 2, "),
        "{}",
        second.printed()
    );
    // The first process is not aware of the takeover yet. Its call is not answered: the effects
    // were not committed, so they did not happen.
    let call = first.client.to_call(alice).json(&name).key("once");
    let unanswered = call.send().await;
    assert!(
        unanswered
            .as_ref()
            .map_or(true, |reply| reply.status == 503),
        "{unanswered:?}"
    );
    let ended = first.ended().await;
    assert_eq!(ended.code, Some(3), "{}", ended.printed);
    assert!(
        ended
            .printed
            .contains("another process took this application over, so this one stops"),
        "{}",
        ended.printed
    );

    let call = second.client.to_call(alice).json(&name).key("once");
    assert_eq!(call.send().await.unwrap().json()["seen"], 2);
    assert_eq!(call.send().await.unwrap().json()["seen"], 2);
}

/// Number of takeovers: `SATCHEL_TEST_TAKEOVERS`, or a few.
fn takeovers() -> u64 {
    number("SATCHEL_TEST_TAKEOVERS", 4)
}

async fn takeovers_lose_nothing_and_double_nothing(setup: Setup) {
    let mut app = setup.start().await;
    let mut load = Load::begin(&app.client);
    for _ in 0..takeovers() {
        load.answered(100).await;
        let mut before = app.overtake().await;
        let ended = before.ended().await;
        assert_eq!(ended.code, Some(3), "{}", ended.printed);
        load.last_answers_are_given_again().await;
    }
    load.answered(100).await;
    load.everything_is_done_once(&app.client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn takeovers_under_load_lose_nothing_and_double_nothing() {
    takeovers_lose_nothing_and_double_nothing(Setup::of(example("greeter"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn takeovers_of_a_root_in_a_bucket_lose_nothing_and_double_nothing() {
    let moto = Moto::start();
    let made = reqwest::Client::new()
        .put(format!("{}/roots", moto.endpoint()))
        .send();
    assert!(made.await.unwrap().status().is_success());
    let setup = Setup::of(example("greeter"))
        .env("AWS_ENDPOINT_URL", moto.endpoint())
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_REGION", "us-east-1")
        .arg("--state=s3://roots/greeter");
    takeovers_lose_nothing_and_double_nothing(setup).await;
}
