//! Forks: a new root created from another one, whose ingress, timers and outbox are held.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use satchel_testkit::{Client, Setup, until_true};
use serde_json::{Value, json};

use super::bucket::{Bucket, environment, with_s3};
use super::{call, counter, readiness, sum};
use crate::offline::tool::tool_in;

/// Delay of the timer of `b`: longer than the original takes to be called and stopped.
const TIMER: Duration = Duration::from_secs(40);

/// All files below a directory.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.insert(path.display().to_string(), std::fs::read(&path).unwrap());
        }
    }
    files
}

/// Fills the original: `a` has 1 from a record and emitted it, `b` has 5 and a timer that adds 100.
/// Returns the time at which the timer was set.
async fn fill(client: &Client) -> Instant {
    client.put("in", "a", r#"{"add": 1, "emit": "a"}"#).await;
    assert_eq!(client.records_when("out", 1).await[0].key, "a");
    let again = json!({"ms": TIMER.as_millis() as u64, "add": 100});
    assert_eq!(
        call(client, "b", &json!({"add": 5, "again": again})).await,
        5
    );
    Instant::now()
}

/// Checks that a fork of the filled original is held until it is resumed, over crashes and
/// restarts.
async fn is_held_until_resumed(setup: &Setup, restore: &str, timer_set: Instant) {
    let mut fork = setup.clone().arg(restore).start().await;
    let client = &fork.client;
    for text in [
        "--resume-io",
        "is serving, and its ingresses, timers and outbox are held",
        "fork held; ingresses, timers and outbox wait",
    ] {
        assert!(fork.printed().contains(text), "{text}: {}", fork.printed());
    }
    let ingresses = client.admin(reqwest::Method::GET, "/api/ingresses").await;
    assert_eq!(ingresses.json()["ingresses"][0]["paused"], "held");
    assert_eq!(
        readiness(client).await,
        json!({"state": "serving", "held": true})
    );
    assert_eq!(client.metric("satchel_fork_held").await, Some(1.0));
    client.put("in", "a", r#"{"add": 1, "emit": "a"}"#).await;
    assert_eq!(call(client, "b", &json!({"add": 0})).await, 5);
    assert_eq!(call(client, "c", &json!({"add": 2, "emit": "c"})).await, 2);

    fork.kill9().await;
    let rejected = setup.clone().arg(restore).run_to_end().await;
    assert_eq!(rejected.code, Some(4), "{}", rejected.printed);
    assert!(
        rejected
            .printed
            .contains("holds the state of an application already"),
        "{}",
        rejected.printed
    );

    let mut fork = setup.start().await;
    let client = &fork.client;
    let due = TIMER + Duration::from_secs(2);
    tokio::time::sleep(due.saturating_sub(timer_set.elapsed())).await;
    assert_eq!(call(client, "b", &json!({"add": 0})).await, 5, "not 105");
    assert_eq!(sum(client, "a").await, Some(1), "the record is not read");
    assert_eq!(client.records("out").await.len(), 1, "nothing is emitted");
    assert_eq!(client.metric("satchel_timers_pending").await, Some(1.0));
    assert_eq!(fork.terminate().await.code, Some(0));

    let mut fork = setup.clone().arg("--resume-io").start().await;
    let client = &fork.client;
    assert_eq!(readiness(client).await, json!({"state": "serving"}));
    until_true("the timer fires", async || {
        sum(client, "b").await == Some(105)
    })
    .await;
    until_true("the record is read", async || {
        sum(client, "a").await == Some(2)
    })
    .await;
    let records = client.records_when("out", 3).await;
    let mut actual: Vec<(String, Value)> = records
        .iter()
        .map(|record| (record.key.clone(), record.json()))
        .collect();
    actual.sort_by(|one, other| {
        one.0
            .cmp(&other.0)
            .then(one.1.as_i64().cmp(&other.1.as_i64()))
    });
    let emitted = |key: &str, sum: i64| (key.to_owned(), json!(sum));
    assert_eq!(actual, [emitted("a", 1), emitted("a", 2), emitted("c", 2)]);
    fork.kill9().await;

    let fork = setup.start().await;
    assert_eq!(
        readiness(&fork.client).await,
        json!({"state": "serving"}),
        "permanently"
    );
    assert_eq!(call(&fork.client, "b", &json!({"add": 0})).await, 105);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_of_a_savepoint_in_a_directory_is_held_and_the_original_is_unchanged() {
    let (_dir, setup) = counter();
    let mut original = setup.start().await;
    let timer_set = fill(&original.client).await;
    let state = setup.data_dir().join("state");
    let place = state.to_str().unwrap();
    let result = tool_in(
        place,
        &["savepoint", "create", "five", "--comment", "b"],
        &[],
    );
    assert_eq!(result.code, 0, "{result:?}");
    assert_eq!(
        tool_in(place, &["savepoint", "create", "five"], &[]).code,
        1
    );
    assert_eq!(call(&original.client, "b", &json!({"add": 7})).await, 12);
    assert_eq!(original.terminate().await.code, Some(0));
    let result = tool_in(place, &["savepoint", "list"], &[]);
    let listed: Value = serde_json::from_str(&result.out).unwrap();
    assert_eq!(
        (&listed["savepoint"], &listed["comment"]),
        (&json!("five"), &json!("b"))
    );
    let get = ["state", "get", "example/counter/b", "--at", "five"];
    let result = tool_in(place, &get, &[]);
    assert!(result.out.contains("\"value\":5"), "{result:?}");

    let before = files(&state);
    let forks = tempfile::tempdir().unwrap();
    let fork = forks.path().join("fork");
    let forked = setup.clone().arg(format!("--state={}", fork.display()));
    let restore = format!("--restore={place}@five");
    is_held_until_resumed(&forked, &restore, timer_set).await;
    assert_eq!(files(&state), before);
    assert_eq!(tool_in(fork.to_str().unwrap(), &["verify"], &[]).code, 0);

    let delete = ["savepoint", "delete", "five"];
    assert_eq!(tool_in(place, &delete, &[]).code, 0);
    assert_eq!(tool_in(place, &delete, &[]).code, 1);
    assert_eq!(tool_in(place, &["savepoint", "list"], &[]).out, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_of_a_point_in_time_in_a_bucket_is_held_and_the_original_is_unchanged() {
    let bucket = Bucket::make().await;
    let endpoint = bucket.moto.endpoint();
    let (_dir, setup) = counter();
    let setup = with_s3(setup, endpoint);
    let mut original = setup.clone().arg("--state=s3://roots/shop").start().await;
    let timer_set = fill(&original.client).await;
    // Commit times have a resolution of milliseconds: the next commit must be later than the chosen
    // time.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut now = Command::new("date");
    now.args(["-u", "+%Y-%m-%dT%H:%M:%S.%3NZ"]);
    let moment = String::from_utf8(now.output().unwrap().stdout).unwrap();
    let moment = moment.trim();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(call(&original.client, "b", &json!({"add": 7})).await, 12);
    assert_eq!(original.terminate().await.code, Some(0));

    let before = bucket.objects("shop/").await;
    let forked = setup.arg("--state=s3://roots/forks/one");
    let restore = format!("--restore=s3://roots/shop@{moment}");
    is_held_until_resumed(&forked, &restore, timer_set).await;
    assert_eq!(bucket.objects("shop/").await, before);
    let verified = tool_in("s3://roots/forks/one", &["verify"], &environment(endpoint));
    assert_eq!(verified.code, 0, "{verified:?}");
}

#[tokio::test]
async fn the_outbox_of_a_fork_can_be_dropped() {
    let (_dir, setup) = counter();
    let mut original = setup.start().await;
    assert_eq!(call(&original.client, "a", &json!({"add": 1})).await, 1);
    assert_eq!(original.terminate().await.code, Some(0));
    let forks = tempfile::tempdir().unwrap();
    let forked = setup
        .clone()
        .arg(format!("--state={}", forks.path().join("fork").display()));
    let restore = format!("--restore={}", setup.data_dir().join("state").display());
    let mut fork = forked.clone().arg(restore).start().await;
    let client = &fork.client;
    assert_eq!(
        call(client, "a", &json!({"add": 1, "emit": "held"})).await,
        2
    );
    assert_eq!(fork.terminate().await.code, Some(0));

    let resumed = forked.arg("--resume-io").arg("--drop-outbox");
    let fork = resumed.start().await;
    let client = &fork.client;
    assert_eq!(
        call(client, "a", &json!({"add": 1, "emit": "new"})).await,
        3
    );
    let records = client.records_when("out", 1).await;
    assert_eq!(records[0].key, "new");
}
