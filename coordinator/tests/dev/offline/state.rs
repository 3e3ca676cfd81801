//! `satchel state`.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use satchel_testkit::{Setup, example};
use serde_json::{Value, json};

use super::roots::{files, greet, greeted, greeted_at_length, state_of};
use super::tool::{ToolResult, sorted, tool};

#[tokio::test]
async fn states_are_read_individually_by_function_and_as_a_whole() {
    let setup = greeted(&["bob", "alice", "a/b c"], 3).await;
    let state = state_of(&setup);
    let before = files(&state);

    assert_eq!(
        lines(&tool(&state, &["state", "get", "example/greeter/alice"])),
        [seen("alice", 3)]
    );
    let all = [seen("a/b c", 3), seen("alice", 3), seen("bob", 3)];
    assert_eq!(lines(&tool(&state, &["state", "export"])), all);
    assert_eq!(
        lines(&tool(&state, &["state", "list", "--limit", "2"])),
        all[..2]
    );
    let function = ["state", "export", "--function", "example/greeter"];
    assert_eq!(lines(&tool(&state, &function)), all);
    let function = ["state", "export", "--function", "example/absent"];
    assert_eq!(lines(&tool(&state, &function)), Vec::<Value>::new());

    for absent in [
        vec!["state", "get", "example/greeter/carol"],
        vec!["state", "get", "example/greeter/alice", "--name", "other"],
    ] {
        let result = tool(&state, &absent);
        assert_eq!((result.code, result.out.as_str()), (1, ""), "{result:?}");
        assert!(result.err.contains("has no state"), "{result:?}");
    }
    assert_eq!(files(&state), before, "reading changes nothing");
}

#[tokio::test]
async fn a_snapshot_and_the_log_after_it_are_read_together() {
    let setup = greeted_at_length().await;
    let result = tool(&state_of(&setup), &["state", "export"]);
    let states = lines(&result);
    let addresses: Vec<&Value> = states.iter().map(|line| &line["address"]).collect();
    assert_eq!(addresses, ["example/greeter/alice", "example/greeter/bob"]);
    assert!(
        states[0]["value"].as_i64().is_some_and(|seen| seen > 5),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_point_in_time_shows_the_commits_up_to_it() {
    let setup = Setup::of(example("greeter"));
    let mut app = setup.start().await;
    let state = state_of(&setup);
    let begun = tool(&state, &["state", "export", "--at", "1970-01-02T00:00:00Z"]);
    assert_eq!(lines(&begun), Vec::<Value>::new());

    let mut moments = Vec::new();
    for count in 1..=3 {
        greet(&app, "alice", count).await;
        // The time differs from that of this commit and that of the next one by at least a
        // millisecond.
        wait_for_the_next_millisecond().await;
        moments.push((rfc3339_now(), count));
        wait_for_the_next_millisecond().await;
    }
    for (moment, count) in &moments {
        let result = tool(&state, &["state", "export", "--at", moment]);
        assert_eq!(lines(&result), [seen("alice", *count)], "at {moment}");
    }
    assert_eq!(app.terminate().await.code, Some(0));

    let result = tool(&state, &["state", "export", "--at", "2999-01-01T00:00:00Z"]);
    assert_eq!(result.code, 2, "{result:?}");
    let result = tool(&state, &["state", "export", "--at", "yesterday"]);
    assert_eq!(result.code, 2, "{result:?}");
}

#[tokio::test]
async fn exported_states_are_imported_into_a_new_root_and_served() {
    let people = ["bob", "alice", "a/b c"];
    let setup = greeted(&people, 3).await;
    let exported = tool(&state_of(&setup), &["state", "export"]);
    assert_eq!(lines(&exported).len(), 3);

    let fresh = Setup::of(example("greeter"));
    let state = state_of(&fresh);
    let file = fresh.data_dir().join("states.ndjson");
    fs::write(&file, &exported.out).unwrap();
    let result = import(&state, &file);
    assert_eq!(result.code, 0, "{result:?}");
    assert!(
        result
            .out
            .starts_with("imported 3 states of 3 addresses into "),
        "{result:?}"
    );
    assert_eq!(tool(&state, &["verify"]).code, 0);
    let again = tool(&state, &["state", "export"]).out;
    assert_eq!(sorted(&again), sorted(&exported.out));

    let mut app = fresh.start().await;
    for person in ["alice", "bob", "dora"] {
        greet(&app, person, if person == "dora" { 1 } else { 4 }).await;
    }
    assert_eq!(app.terminate().await.code, Some(0));
    let result = tool(&state, &["state", "export"]);
    let expected = [
        seen("a/b c", 3),
        seen("alice", 4),
        seen("bob", 4),
        seen("dora", 1),
    ];
    assert_eq!(lines(&result), expected);

    let before = files(&state);
    let result = import(&state, &file);
    assert_eq!(result.code, 4, "{result:?}");
    assert!(
        result
            .err
            .contains("holds the state of an application already"),
        "{result:?}"
    );
    assert_eq!(files(&state), before);
}

#[test]
fn many_states_are_imported_in_deltas_of_bounded_size() {
    let dir = tempfile::tempdir().unwrap();
    let (state, file) = (dir.path().join("state"), dir.path().join("states"));
    let mut text = String::new();
    for number in 0..300 {
        // Hardly compressible, and all different.
        let mut bytes = [0; 48_000];
        getrandom::fill(&mut bytes).unwrap();
        let value: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let line = json!({
            "address": format!("a/b/{number:03}"), "state": "s", "typename": "t",
            "expires_at_ms": null, "value": value
        });
        text.push_str(&line.to_string());
        text.push('\n');
    }
    fs::write(&file, &text).unwrap();
    let result = import(&state, &file);
    assert_eq!(result.code, 0, "{result:?}");
    assert_eq!(lines(&tool(&state, &["state", "export"])).len(), 300);
    let log = files(&state.join("partitions/0/log"));
    assert!(log.len() > 5, "one takeover and several deltas: {log:?}");
    for object in log {
        assert!(fs::metadata(&object).unwrap().len() < 8 << 20);
    }
    assert_eq!(tool(&state, &["verify"]).code, 0);
}

#[test]
fn a_file_with_a_mistake_is_rejected_with_its_line_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (state, file) = (dir.path().join("state"), dir.path().join("states"));
    let good = r#"{"address":"a/b/c","state":"s","typename":"t","value":1}"#;
    for (bad, problem) in [
        ("{\"address\":", "EOF"),
        (good, "on line 2 already"),
        (
            r#"{"address":"a/b/d","state":"s","typename":"t","value":1,"x":2}"#,
            "unknown field `x`",
        ),
        (
            r#"{"address":"a/b/d","state":"s","typename":"u","value":1}"#,
            "has the typename u, but t on line 2",
        ),
        (
            r#"{"address":"satchel/call/d","state":"s","typename":"t","value":1}"#,
            "reserved",
        ),
    ] {
        fs::write(&file, format!("\n{good}\n\n{bad}\n")).unwrap();
        let result = import(&state, &file);
        assert_eq!(result.code, 2, "{bad}: {result:?}");
        assert!(
            result.err.contains(&format!("{}:4: ", file.display())),
            "{bad}: {result:?}"
        );
        assert!(result.err.contains(problem), "{bad}: {result:?}");
        assert!(!state.exists(), "{bad}");
    }
    let result = import(&state, &dir.path().join("absent"));
    assert_eq!(result.code, 5, "{result:?}");
}

#[test]
fn expired_states_are_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (state, file) = (dir.path().join("state"), dir.path().join("states"));
    let line = |id: &str, expires_at_ms: u64| {
        format!(r#"{{"address":"a/b/{id}","state":"s","typename":"t","#)
            + &format!(r#""expires_at_ms":{expires_at_ms},"value":1}}"#)
    };
    let lasting = line("lasting", 32_503_680_000_000);
    fs::write(&file, format!("{}\n{lasting}\n", line("over", 1_000))).unwrap();
    assert_eq!(import(&state, &file).code, 0);
    let result = tool(&state, &["state", "export"]);
    assert_eq!(result.out, format!("{lasting}\n"));
    assert_eq!(tool(&state, &["state", "get", "a/b/over"]).code, 1);
}

fn import(state: &Path, file: &Path) -> ToolResult {
    tool(state, &["state", "import", file.to_str().unwrap()])
}

fn seen(person: &str, count: usize) -> Value {
    json!({
        "address": format!("example/greeter/{person}"),
        "state": "seen",
        "typename": "io.statefun.types/long",
        "expires_at_ms": null,
        "value": count
    })
}

/// The lines of an export, in the order of addresses.
fn lines(result: &ToolResult) -> Vec<Value> {
    assert_eq!(result.code, 0, "{result:?}");
    let mut lines: Vec<Value> = result
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    lines.sort_by_key(|line| {
        let field = |name: &str| line[name].as_str().unwrap().to_owned();
        (field("address"), field("state"))
    });
    lines
}

async fn wait_for_the_next_millisecond() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

/// The current time in the format of the command line.
fn rfc3339_now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut days) = (1970, now.as_secs() / 86_400);
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let second = now.as_secs() % 86_400;
    format!(
        "{year:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        month + 1,
        days + 1,
        second / 3_600,
        second / 60 % 60,
        second % 60,
        now.subsec_millis()
    )
}
