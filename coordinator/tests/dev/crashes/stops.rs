//! Signals that request a stop.

use std::process::Command;

use satchel_testkit::{Setup, example};
use serde_json::json;

use super::load::Load;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_stop_under_load_exits_with_0_and_loses_nothing() {
    let mut app = Setup::of(example("greeter")).start().await;
    let mut load = Load::begin(&app.client);
    for _ in 0..4 {
        load.answered(100).await;
        let ended = app.terminate().await;
        assert_eq!(ended.code, Some(0), "{}", ended.printed);
        app.restart().await;
        load.last_answers_are_given_again().await;
    }
    load.answered(100).await;
    load.everything_is_done_once(&app.client).await;
}

/// Returns whether this process ignores SIGHUP, which its children then do, too.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mut lines = status.lines();
    let ignored = lines.find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(ignored.trim(), 16).unwrap() & 1 == 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_signal_that_asks_for_an_end_drains() {
    let mut app = Setup::of(example("greeter")).start().await;
    let mut signals = vec!["QUIT", "INT"];
    if is_hangup_ignored() {
        println!("SIGHUP is left out: this test was started by nohup, and satchel respects that");
    } else {
        signals.push("HUP");
    }
    for signal in signals {
        let name = json!({"name": "Alice"});
        let reply = app.client.send("example/greeter/alice", &name).await;
        assert_eq!(reply.status, 202);
        let pid = app.pid().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(sent.unwrap().success());
        let ended = app.ended().await;
        assert_eq!(ended.code, Some(0), "SIG{signal}: {}", ended.printed);
        app.restart().await;
    }
}
