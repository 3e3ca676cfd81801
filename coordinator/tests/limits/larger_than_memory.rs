//! A real `satchel dev` whose state is several times larger than its memory limit.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use satchel_testkit::{Dev, Setup, example, satchel, until_true};
use serde_json::{Value, json};

/// Addresses that only occupy memory, with values of 1 KiB.
const BALLAST: usize = 24_000;
/// Addresses that receive calls.
const PEOPLE: usize = 40;
const LIMIT_BYTES: f64 = 8.0 * 1024.0 * 1024.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_larger_than_memory_is_served_correctly_over_restarts_before_all_of_it_is_loaded() {
    let setup = Setup::of(example("greeter")).arg("--memory-limit=8MiB");
    import(setup.data_dir());
    let mut app = setup.start().await;
    // All state is still in the log, so nothing can be loaded again yet.
    all_people_are_greeted(&app, 1).await;
    memory_is_within_its_limit(&app).await;
    assert!(metric(&app, "satchel_buckets_dropped_total").await > 0.0);

    assert_eq!(app.terminate().await.code, Some(0));
    app.restart().await;
    greet(&app, 0, 2).await;
    let loaded = metric(&app, "satchel_buckets_loaded").await;
    let buckets = metric(&app, "satchel_buckets").await;
    assert!(loaded < buckets, "{loaded} of {buckets} are in memory");
    for person in 1..PEOPLE {
        greet(&app, person, 2).await;
    }
    memory_is_within_its_limit(&app).await;

    app.kill9().await;
    app.restart().await;
    all_people_are_greeted(&app, 3).await;
    memory_is_within_its_limit(&app).await;
    ballast_is_unchanged(&app).await;
    assert_eq!(app.terminate().await.code, Some(0));
}

/// Creates a root in which every person was seen before, among much other state.
fn import(data: &Path) {
    let mut lines = String::new();
    for ballast in 0..BALLAST {
        let line = json!({
            "address": format!("example/ballast/{ballast}"),
            "state": "cargo",
            "typename": "example/Cargo",
            "expires_at_ms": null,
            "base64": cargo(ballast),
        });
        writeln!(lines, "{line}").unwrap();
    }
    for person in 0..PEOPLE {
        let line = json!({
            "address": format!("example/greeter/{person}"),
            "state": "seen",
            "typename": "io.statefun.types/long",
            "expires_at_ms": null,
            "value": seen_before(person),
        });
        writeln!(lines, "{line}").unwrap();
    }
    let file = data.join("states.ndjson");
    std::fs::write(&file, lines).unwrap();
    let output = Command::new(satchel())
        .args(["state", "import"])
        .arg(&file)
        .arg("--state")
        .arg(data.join("state"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
}

/// A reproducible value of 1 KiB that hardly compresses.
fn cargo(ballast: usize) -> String {
    let mut draw = ballast as u64 + 1;
    let bytes: Vec<u8> = (0..1024)
        .map(|_| {
            draw ^= draw << 13;
            draw ^= draw >> 7;
            draw ^= draw << 17;
            (draw >> 24) as u8
        })
        .collect();
    STANDARD.encode(bytes)
}

fn seen_before(person: usize) -> usize {
    100 * person
}

async fn greet(app: &Dev, person: usize, round: usize) {
    let address = format!("example/greeter/{person}");
    let reply = app.client.call(&address, &json!({"name": "Alice"})).await;
    assert_eq!(reply.json()["seen"], json!(seen_before(person) + round));
}

async fn all_people_are_greeted(app: &Dev, round: usize) {
    for person in 0..PEOPLE {
        greet(app, person, round).await;
    }
}

async fn metric(app: &Dev, sample: &str) -> f64 {
    app.client.metric(sample).await.unwrap()
}

async fn memory_is_within_its_limit(app: &Dev) {
    until_true("the state in memory is within the limit", async || {
        metric(app, "satchel_state_memory_bytes").await <= LIMIT_BYTES
    })
    .await;
}

async fn ballast_is_unchanged(app: &Dev) {
    for ballast in (0..BALLAST).step_by(BALLAST / 8) {
        let reply = app
            .client
            .address(&format!("example/ballast/{ballast}"))
            .await;
        let state: Value = reply.json();
        assert!(
            state.to_string().contains(&cargo(ballast)),
            "ballast {ballast}: {state}"
        );
    }
}

/// Addresses of the export, with values of 64 KiB.
const FREIGHT: usize = 2_000;
/// Limit of the memory of an export, in bytes: less than the state.
const EXPORT_BYTES_MAX: u64 = 140 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_larger_than_the_memory_of_an_export_is_exported() {
    let setup = Setup::of(example("greeter"))
        .arg("--memory-limit=8MiB")
        .env("SATCHEL_LOG", "info,satchel=debug");
    let file = setup.data_dir().join("states.ndjson");
    let mut lines = std::io::BufWriter::new(std::fs::File::create(&file).unwrap());
    for freight in 0..FREIGHT {
        let value: String = (0..64).map(|part| cargo(64 * freight + part)).collect();
        let address = format!("example/freight/{freight}");
        let line = json!({
            "address": address, "state": "cargo", "typename": "example/Cargo",
            "expires_at_ms": null, "value": value,
        });
        std::io::Write::write_all(&mut lines, format!("{line}\n").as_bytes()).unwrap();
    }
    drop(lines);
    let state = setup.data_dir().join("state");
    let import = Command::new(satchel())
        .args(["state", "import"])
        .arg(&file)
        .arg("--state")
        .arg(&state)
        .status();
    assert!(import.unwrap().success());
    // Until its first snapshot, all state is in the log.
    let mut app = setup.start().await;
    until_true("a snapshot is in effect", async || {
        greet_anyone(&app).await;
        app.printed().contains("snapshot in effect")
    })
    .await;
    assert_eq!(app.terminate().await.code, Some(0));

    for format in ["ndjson", "parquet"] {
        let exported = setup.data_dir().join("exported");
        let peak = peak_memory(
            Command::new(satchel())
                .args(["state", "export", "--format", format, "--state"])
                .arg(&state)
                .arg("-o")
                .arg(&exported)
                // Else the allocator keeps what was freed for some time, more than is in use.
                .env("MIMALLOC_PURGE_DELAY", "0"),
        );
        let bytes = std::fs::metadata(&exported).unwrap().len();
        println!("{format}: {bytes} bytes exported, peak memory {peak} bytes");
        assert!(bytes > EXPORT_BYTES_MAX, "{format}: {bytes}");
        assert!(peak < EXPORT_BYTES_MAX, "{format}: {peak}");
    }
}

async fn greet_anyone(app: &Dev) {
    let address = "example/greeter/anyone";
    let reply = app.client.call(address, &json!({"name": "Alice"})).await;
    assert_eq!(reply.status, 200);
}

/// Runs a command, and returns its largest resident memory in bytes.
fn peak_memory(command: &mut Command) -> u64 {
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or_default() << 10);
        if let Some(ended) = child.try_wait().unwrap() {
            assert!(ended.success());
            assert!(peak > 0);
            return peak;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
