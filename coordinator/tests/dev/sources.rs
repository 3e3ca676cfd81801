//! A local stream that is damaged or deleted stops its own ingress, by name, while the application
//! serves. Damage of the application's root stops everything, which `crashes` tests.

use std::path::{Path, PathBuf};

use satchel_testkit::{Dev, Setup, example, until, until_true};
use serde_json::{Value, json};

/// Waits until one source is stopped, and returns it as `/readyz` shows it.
async fn stopped(app: &Dev) -> Value {
    until("the source is stopped", async || {
        let ready = app.client.admin(reqwest::Method::GET, "/readyz").await;
        assert_eq!(ready.status, 200, "{ready:?}");
        let stopped = ready.json()["stopped_ingresses"].as_array().cloned();
        stopped.unwrap_or_default().into_iter().next()
    })
    .await
}

async fn resume(app: &Dev) -> Value {
    let path = "/api/ingresses/example/names/resume";
    let reply = app.client.admin(reqwest::Method::POST, path).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

async fn put(app: &Dev, name: &str) {
    let data = json!({"name": name}).to_string();
    app.client.put("names", name, data).await;
}

async fn is_seen(app: &Dev, name: &str, times: i64) {
    until_true("the name is seen", async || {
        let view = app.client.address(&format!("example/greeter/{name}")).await;
        view.status == 200 && view.json()["state"][0]["value"] == json!(times)
    })
    .await;
}

/// The only file of a stream.
fn file(setup: &Setup, stream: &str) -> PathBuf {
    let dir = setup.data_dir().join("streams").join(stream);
    let entries = std::fs::read_dir(dir).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file() && std::fs::metadata(path).unwrap().len() > 32);
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

/// Changes a bit in the last record of a file. Returns the sound content.
fn damage(file: &Path) -> Vec<u8> {
    let sound = std::fs::read(file).unwrap();
    let mut damaged = sound.clone();
    let at = damaged.len() - 40;
    damaged[at] ^= 0x10;
    std::fs::write(file, &damaged).unwrap();
    sound
}

#[tokio::test]
async fn a_damaged_stream_stops_its_ingress_and_is_read_on_when_it_is_repaired_and_resumed() {
    let setup = Setup::of(example("greeter"));
    let mut app = setup.start().await;
    put(&app, "ann").await;
    is_seen(&app, "ann", 1).await;
    assert_eq!(app.terminate().await.code, Some(0));

    let file = file(&setup, "names");
    let sound = damage(&file);
    app.restart().await;
    let source = stopped(&app).await;
    assert_eq!(source["id"], "example/names");
    assert_eq!(source["source"], "stream names");
    assert_eq!(source["problem"], "damaged");
    assert!(
        app.printed().contains("the stream 'names' is damaged"),
        "{}",
        app.printed()
    );
    let eve = json!({"name": "Eve"});
    let reply = app.client.call("example/greeter/eve", &eve).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(resume(&app).await, json!({"resumed": 1}));
    assert_eq!(stopped(&app).await["problem"], "damaged", "tried in vain");

    std::fs::write(&file, &sound).unwrap();
    assert_eq!(resume(&app).await, json!({"resumed": 1}));
    put(&app, "ann").await;
    is_seen(&app, "ann", 2).await;
    until_true("nothing is stopped", async || {
        let ready = app.client.admin(reqwest::Method::GET, "/readyz").await;
        ready.json() == json!({"state": "serving"})
    })
    .await;
}

#[tokio::test]
async fn a_damaged_stream_stops_its_egress_and_delivery_continues_when_it_is_repaired() {
    let setup = Setup::of(example("greeter"));
    let mut app = setup.start().await;
    put(&app, "ann").await;
    app.client.records_when("greetings", 1).await;
    assert_eq!(app.terminate().await.code, Some(0));

    let file = file(&setup, "greetings");
    let sound = damage(&file);
    app.restart().await;
    put(&app, "bob").await;
    let stopped = until("the egress is stopped", async || {
        let ready = app.client.admin(reqwest::Method::GET, "/readyz").await;
        assert_eq!(ready.status, 200, "{ready:?}");
        ready.json()["stopped_egresses"].as_array().cloned()
    })
    .await;
    assert_eq!(stopped.len(), 1, "{stopped:?}");
    assert_eq!(stopped[0]["id"], "example/greetings");
    assert_eq!(stopped[0]["problem"], "damaged");
    let shown = app
        .client
        .admin(reqwest::Method::GET, "/api/egresses")
        .await;
    let egress = &shown.json()["egresses"][0];
    assert_eq!(egress["stopped"]["problem"], "damaged", "{egress}");
    assert_eq!(egress["waiting"], 1, "{egress}");
    let printed = app.printed();
    assert_eq!(printed.matches("egress stopped").count(), 1, "{printed}");

    // Everything else continues, a stop and a start too.
    let eve = json!({"name": "Eve"});
    let reply = app.client.call("example/greeter/eve", &eve).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    put(&app, "bob").await;
    is_seen(&app, "bob", 2).await;
    assert_eq!(app.terminate().await.code, Some(0));
    std::fs::write(&file, &sound).unwrap();
    app.restart().await;
    let records = app.client.records_when("greetings", 3).await;
    let keys: Vec<&str> = records.iter().map(|record| &*record.key).collect();
    assert_eq!(keys, ["ann", "bob", "bob"]);
    let ready = app.client.admin(reqwest::Method::GET, "/readyz").await;
    assert_eq!(ready.json(), json!({"state": "serving"}));
}
