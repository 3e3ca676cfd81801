//! Imports and restores that are killed before they finish.

use std::process::{Command, Stdio};

use reqwest::Method;
use satchel_testkit::{Fault, Proxy, Setup, satchel};
use serde_json::json;
use tokio::sync::oneshot;

use super::bucket::{Bucket, environment, with_s3};
use super::{call, counter};
use crate::offline::tool::{ToolResult, tool_in};

/// States of 64 KiB each, enough for several deltas.
fn states(name: &str, count: usize) -> String {
    let value = "x".repeat(64 << 10);
    let line = |id: usize| {
        json!({
            "address": format!("example/counter/{name}-{id:03}"),
            "state": "sum",
            "typename": "example/sum",
            "expires_at_ms": null,
            "value": format!("{id}{value}"),
        })
    };
    (0..count).map(|id| format!("{}\n", line(id))).collect()
}

/// Number of the log object whose creation is held up, after those of the takeover and of a first
/// delta.
const HELD_UP: &str = "log/00000000000000000003";

/// Holds up the next creation of this object; the first channel reports its arrival.
fn hold_up(proxy: &Proxy, root: &str) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
    let (arrived, arrival) = oneshot::channel();
    let (resume, resumed) = oneshot::channel();
    let fault = Fault::HoldRequest(arrived, resumed);
    proxy.fail_next(
        Method::PUT,
        &format!("/{root}/partitions/0/{HELD_UP}"),
        fault,
    );
    (arrival, resume)
}

fn same_lines(one: &str, other: &str) -> bool {
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let parsed = |text: &str| -> Vec<serde_json::Value> {
        let lines = sorted(text);
        let lines = lines.iter().map(|line| serde_json::from_str(line).unwrap());
        let mut lines: Vec<serde_json::Value> = lines.collect();
        lines.sort_by_key(|line| line["address"].as_str().unwrap().to_owned());
        lines
    };
    parsed(one) == parsed(other)
}

async fn it_is_rejected_as_unfinished(
    setup: &Setup,
    place: &str,
    tool: impl Fn(&[&str]) -> ToolResult,
) {
    for command in [
        &["state", "export"][..],
        &["savepoint", "create", "no"],
        &["verify"],
    ] {
        let result = tool(command);
        assert_eq!(result.code, 4, "{command:?}: {result:?}");
        let printed = format!("{}{}", result.out, result.err);
        assert!(printed.contains("/unfinished/"), "{command:?}: {result:?}");
        assert!(printed.contains("is unfinished"), "{result:?}");
    }
    let started = setup.clone().arg(format!("--state={place}"));
    let ended = started.run_to_end().await;
    assert_eq!(ended.code, Some(4), "{}", ended.printed);
    assert!(
        ended.printed.contains("/unfinished/") && ended.printed.contains("is not whole"),
        "{}",
        ended.printed
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_import_leaves_nothing_usable_and_can_be_repeated() {
    let bucket = Bucket::make().await;
    let proxy = Proxy::start(bucket.moto.endpoint()).await;
    let endpoint = proxy.endpoint();
    let place = "s3://roots/imported";
    let tool = |arguments: &[&str]| tool_in(place, arguments, &environment(&endpoint));
    let file = tempfile::NamedTempFile::new().unwrap();
    let lines = states("one", 200);
    std::fs::write(file.path(), &lines).unwrap();
    let import = ["state", "import", file.path().to_str().unwrap()];

    let (arrived, _never) = hold_up(&proxy, "imported");
    let mut killed = Command::new(satchel())
        .args(import)
        .args(["--state", place])
        .envs(environment(&endpoint))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    arrived.await.unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    let (_dir, setup) = counter();
    let setup = with_s3(setup, &endpoint);
    it_is_rejected_as_unfinished(&setup, place, tool).await;

    let result = tool(&import);
    assert_eq!(result.code, 0, "{result:?}");
    let result = tool(&["verify"]);
    assert_eq!(result.code, 0, "{result:?}");
    assert!(same_lines(&tool(&["state", "export"]).out, &lines));
    assert_eq!(tool(&import).code, 4, "it exists");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_restore_leaves_nothing_usable_and_can_be_replaced() {
    let bucket = Bucket::make().await;
    let proxy = Proxy::start(bucket.moto.endpoint()).await;
    let endpoint = proxy.endpoint();
    let tool = |place: &str, arguments: &[&str]| tool_in(place, arguments, &environment(&endpoint));
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut sources = Vec::new();
    for (name, count) in [("many", 200), ("few", 3)] {
        let lines = states(name, count);
        std::fs::write(file.path(), &lines).unwrap();
        let place = format!("s3://roots/{name}");
        let import = ["state", "import", file.path().to_str().unwrap()];
        let result = tool(&place, &import);
        assert_eq!(result.code, 0, "{result:?}");
        sources.push((place, lines));
    }

    let (_dir, setup) = counter();
    let setup = with_s3(setup, &endpoint);
    let place = "s3://roots/fork";
    let forked = setup.clone().arg(format!("--state={place}"));
    let (arrived, _never) = hold_up(&proxy, "fork");
    let killed = forked.clone().arg(format!("--restore={}", sources[0].0));
    let killed = killed.begin();
    arrived.await.unwrap();
    drop(killed);
    it_is_rejected_as_unfinished(&setup, place, |arguments| tool(place, arguments)).await;

    let other = forked.clone().arg(format!("--restore={}", sources[1].0));
    let mut fork = other.start().await;
    assert_eq!(call(&fork.client, "new", &json!({"add": 1})).await, 1);
    assert_eq!(fork.terminate().await.code, Some(0));
    let exported = tool(place, &["state", "export"]).out;
    let new = exported.lines().filter(|line| line.contains("/new\""));
    assert_eq!(new.count(), 1);
    let restored = exported.lines().filter(|line| !line.contains("/new\""));
    let restored: String = restored.map(|line| format!("{line}\n")).collect();
    assert!(
        same_lines(&restored, &sources[1].1),
        "nothing of the first is left"
    );
    let result = tool(place, &["verify"]);
    assert_eq!(result.code, 0, "{result:?}");
}
