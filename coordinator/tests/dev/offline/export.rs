//! `satchel state export` to files, and its tables. tests/dev/sql.rs reads them with SQL.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use satchel_testkit::{Setup, example, satchel};
use serde_json::{Value, json};

use super::roots::{files, greet, greeted, state_of};
use super::tool::tool;

#[tokio::test]
async fn a_file_is_replaced_once_the_export_is_complete() {
    let setup = greeted(&["alice", "bob"], 2).await;
    let state = state_of(&setup);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("states");
    let name = file.to_str().unwrap();
    fs::write(&file, "old").unwrap();
    let absent = ["state", "export", "-o", name, "--at", "no-such-savepoint"];
    let result = tool(&state, &absent);
    assert_eq!(result.code, 2, "{result:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    assert_eq!(files(dir.path()).len(), 1, "nothing is left beside it");

    let result = tool(&state, &["state", "export", "-o", name]);
    let printed = (result.code, result.out.as_str());
    assert_eq!(printed, (0, ""), "{result:?}");
    assert_eq!(result.err, format!("satchel: 2 rows in {name}\n"));
    let exported = fs::read_to_string(&file).unwrap();
    assert_eq!(exported, tool(&state, &["state", "export"]).out);
    let parquet = ["state", "export", "--format", "parquet", "-o", name];
    assert_eq!(tool(&state, &parquet).code, 0);
    let bytes = fs::read(&file).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    assert_eq!(files(dir.path()).len(), 1, "nothing is left beside it");

    for (place, problem) in [
        (dir.path().join("absent/states"), "absent/states"),
        (dir.path().to_owned(), "is no regular file"),
    ] {
        let arguments = ["state", "export", "-o", place.to_str().unwrap()];
        let result = tool(&state, &arguments);
        assert_eq!(result.code, 5, "{result:?}");
        assert!(result.err.contains(problem), "{result:?}");
    }
}

#[test]
fn an_export_that_is_killed_leaves_nothing_under_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let lines = dir.path().join("lines");
    let mut text = String::new();
    for number in 0..400 {
        // Hardly compressible, and all different.
        let mut bytes = [0; 48_000];
        getrandom::fill(&mut bytes).unwrap();
        let line = json!({
            "address": format!("a/b/{number}"), "state": "s", "typename": "t",
            "expires_at_ms": null, "base64": STANDARD.encode(bytes)
        });
        text.push_str(&format!("{line}\n"));
    }
    fs::write(&lines, &text).unwrap();
    let import = ["state", "import", lines.to_str().unwrap()];
    assert_eq!(tool(&state, &import).code, 0);

    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let file = out.join("states.parquet");
    let mut killed = 0;
    for _ in 0..20 {
        if killed == 3 {
            break;
        }
        let mut child = Command::new(satchel())
            .args(["state", "export", "--format", "parquet", "--state"])
            .arg(&state)
            .arg("-o")
            .arg(&file)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while part_of(&out).is_none()
            && child.try_wait().unwrap().is_none()
            && begun.elapsed() < Duration::from_secs(60)
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        // It may have ended by itself.
        let _ = child.kill();
        child.wait().unwrap();
        match part_of(&out) {
            Some(part) => {
                assert!(!file.exists(), "half a table has the name");
                fs::remove_file(part).unwrap();
                killed += 1;
            }
            // It was faster.
            None => fs::remove_file(&file).unwrap(),
        }
    }
    assert_eq!(killed, 3);
    let export = ["state", "export", "-o", file.to_str().unwrap()];
    assert_eq!(tool(&state, &export).code, 0);
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 400);
}

/// The unfinished file in a directory.
fn part_of(dir: &Path) -> Option<std::path::PathBuf> {
    let mut files = files(dir).into_iter();
    files.find(|file| {
        file.extension()
            .is_some_and(|extension| extension == "part")
    })
}

#[tokio::test]
async fn messages_that_wait_are_exported_with_their_addresses_and_values() {
    let setup = Setup::of(example("greeter"));
    let mut app = setup.start().await;
    greet(&app, "alice", 1).await;
    let pause = app
        .client
        .admin(Method::POST, "/api/functions/example/greeter/pause");
    assert!(pause.await.status < 300);
    for (person, name) in [("alice", "Alice"), ("bob", "Bob")] {
        let request = app.client.to_send(&format!("example/greeter/{person}"));
        let sent = request.json(&json!({"name": name})).send().await.unwrap();
        assert_eq!(sent.status, 202);
    }
    let state = state_of(&setup);
    let messages = ["state", "export", "--table", "messages"];
    let result = tool(&state, &messages);
    assert_eq!(result.code, 0, "{result:?}");
    let mut lines: Vec<Value> = result
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    lines.sort_by_key(|line| line["id"].to_string());
    assert_eq!(lines.len(), 2, "{result:?}");
    for (line, (id, name)) in lines.iter().zip([("alice", "Alice"), ("bob", "Bob")]) {
        assert_eq!(line["namespace"], "example");
        assert_eq!(
            (&line["name"], &line["id"]),
            (&json!("greeter"), &json!(id))
        );
        assert_eq!(line["value"], json!({"name": name}));
        assert_eq!(
            (&line["caller"], &line["partition_id"]),
            (&Value::Null, &json!(0))
        );
        assert_eq!(line["message_id"].as_str().unwrap().len(), 32);
        assert!(line["moment"].as_str().unwrap().ends_with('Z'), "{line}");
    }
    let other = [&messages[..], &["--function", "example/other"]].concat();
    assert_eq!(tool(&state, &other).out, "");
    let timers = tool(&state, &["state", "export", "--table", "timers"]);
    assert_eq!((timers.code, timers.out.as_str()), (0, ""));
    assert_eq!(app.terminate().await.code, Some(0));
}
