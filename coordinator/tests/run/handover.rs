//! An owner and a standby: killed, stopped, paused.

use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use satchel_testkit::{Client, Dev, until_true};
use serde_json::json;

use super::*;

async fn call(client: &Client, name: &str) -> (u16, serde_json::Value) {
    let address = format!("example/greeter/{name}");
    let request = client.to_call(&address).json(&json!({"name": name}));
    match request.key("once").send().await {
        Ok(reply) => (reply.status, reply.json()),
        Err(_) => (0, json!(null)),
    }
}

async fn stands_by(app: &Dev) {
    let (status, body) = call(&app.client, "anyone").await;
    assert_eq!((status, &body["error"]["code"]), (503, &json!("standby")));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let admin = app.client.admin_url();
    let ready = http.get(format!("{admin}/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    assert!(ready.headers().contains_key("retry-after"));
    assert_eq!(ready.text().await.unwrap(), r#"{"state":"standby"}"#);
    let healthy = http.get(format!("{admin}/healthz")).send().await.unwrap();
    assert_eq!(healthy.status(), 200);
}

/// Returns the parts in the lease that the metrics of a process show as its present one.
async fn role(app: &Dev) -> Vec<&'static str> {
    let mut present = Vec::new();
    for role in ["standby", "owner", "released"] {
        let sample = format!("satchel_lease_role{{role=\"{role}\"}}");
        match app.client.metric(&sample).await {
            Some(1.0) => present.push(role),
            other => assert_eq!(other, Some(0.0), "{role}"),
        }
    }
    present
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over_from_a_killed_owner_and_no_answered_call_is_lost() {
    let aws = Aws::with_greeter().await;
    let setup = aws.setup("2s");
    let mut owner = setup.start().await;
    assert_eq!(call(&owner.client, "alice").await.1["seen"], 1);
    for round in 0..2 {
        let mut standby = setup.start_standby().await;
        stands_by(&standby).await;
        assert_eq!(role(&owner).await, ["owner"]);
        assert_eq!(role(&standby).await, ["standby"]);
        owner.kill9().await;
        let killed = Instant::now();
        standby.is_ready().await;
        eprintln!("round {round}: taken over after {:?}", killed.elapsed());
        assert_eq!(role(&standby).await, ["owner"]);
        // The answer is remembered, so the repeated call is not counted.
        assert_eq!(call(&standby.client, "alice").await.1["seen"], 1);
        let next = format!("bob-{round}");
        assert_eq!(call(&standby.client, &next).await.1["seen"], 1);
        owner = standby;
    }
    drop(owner);
    aws.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_stop_hands_over_without_waiting_for_the_lease_time() {
    let aws = Aws::with_greeter().await;
    // Long enough that only a release explains a takeover.
    let setup = aws.setup("10min");
    let mut owner = setup.start().await;
    assert_eq!(call(&owner.client, "alice").await.1["seen"], 1);
    for round in 0..3 {
        let standby = setup.start_standby().await;
        stands_by(&standby).await;
        // Time for the standby to connect to the owner, which makes the handover quick.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let ended = tokio::spawn(async move { owner.terminate().await });
        let begun = Instant::now();
        until_true("the standby answers", async || {
            call(&standby.client, "alice").await.0 == 200
        })
        .await;
        eprintln!("round {round}: handed over in {:?}", begun.elapsed());
        let ended = ended.await.unwrap();
        assert_eq!(ended.code, Some(0), "{}", ended.printed);
        assert_eq!(call(&standby.client, "alice").await.1["seen"], 1);
        owner = standby;
    }
    drop(owner);
    aws.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_was_paused_beyond_its_lease_ends_fenced() {
    let aws = Aws::with_greeter().await;
    let setup = aws.setup("2s");
    let mut owner = setup.start().await;
    let pid = Pid::from_raw(i32::try_from(owner.pid()).unwrap()).unwrap();
    let mut standby = setup.start_standby().await;
    kill_process(pid, Signal::STOP).unwrap();
    standby.is_ready().await;
    assert_eq!(call(&standby.client, "alice").await.1["seen"], 1);
    kill_process(pid, Signal::CONT).unwrap();
    let ended = owner.ended().await;
    assert_eq!(ended.code, Some(3), "{}", ended.printed);
    assert!(
        ended.printed.contains("so this one stops"),
        "{}",
        ended.printed
    );
    assert_eq!(call(&standby.client, "alice").await.1["seen"], 1);
    drop(standby);
    aws.stop().await;
}
