//! Roots that `satchel dev` wrote.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use satchel_log::DEPTH_MAX;
use satchel_testkit::{Dev, Setup, example, until_true};
use serde_json::json;

/// Root of a setup's data.
pub(crate) fn state_of(setup: &Setup) -> PathBuf {
    setup.data_dir().join("state")
}

/// Runs the greeter, calls it for each person in turn this many times, and stops it.
pub(crate) async fn greeted(people: &[&str], times: usize) -> Setup {
    let setup = Setup::of(example("greeter"));
    let mut app = setup.start().await;
    for seen in 1..=times {
        for person in people {
            greet(&app, person, seen).await;
        }
    }
    assert_eq!(app.terminate().await.code, Some(0));
    setup
}

/// Like [`greeted`], with enough state for a snapshot, and with more than a window of commits after
/// it.
pub(crate) async fn greeted_at_length() -> Setup {
    let setup = Setup::of(example("greeter")).env("SATCHEL_LOG", "info,satchel=debug");
    let mut app = setup.start().await;
    let mut asked = 0;
    until_true("a snapshot is in effect", async || {
        asked += 1;
        // The answer is kept for its key, so every commit is about as long as the name, which
        // hardly compresses.
        let mut name = vec![0; 300_000];
        getrandom::fill(&mut name).expect("there are random bytes");
        let request = app.client.to_call("example/greeter/alice");
        let name = STANDARD.encode(name);
        let request = request.json(&json!({"name": name})).key(asked.to_string());
        let reply = request.send().await.expect("it answers");
        assert_eq!(reply.json()["seen"], asked);
        app.printed().contains("snapshot in effect")
    })
    .await;
    for seen in 1..=usize::try_from(DEPTH_MAX).expect("it is small") + 5 {
        greet(&app, "bob", seen).await;
    }
    assert_eq!(app.terminate().await.code, Some(0));
    setup
}

/// Greets, and checks that the greeting was counted.
pub(crate) async fn greet(app: &Dev, person: &str, seen: usize) {
    let address = format!("example/greeter/{person}");
    let reply = app.client.call(&address, &json!({"name": person})).await;
    assert_eq!(reply.json()["seen"], seen, "{address}");
}

/// The files under `dir`, ordered by name.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    for entry in entries {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            files.append(&mut self::files(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Key of an object of the root, as messages name it.
pub(crate) fn key_of(state: &Path, object: &Path) -> String {
    let key = object.strip_prefix(state).expect("it is inside the root");
    key.to_str().expect("names are text").to_owned()
}
