//! One source fails alone: a stream that is deleted stops its own ingress, by name, and is read
//! again when it is back and the ingress is resumed. The application serves meanwhile.

use satchel_testkit::{Dev, until, until_true};
use serde_json::{Value, json};

use super::load::cloud;
use super::*;

/// The greeter, with a second ingress whose stream may be deleted.
fn module(dir: &std::path::Path) -> PathBuf {
    let text = std::fs::read_to_string(example("greeter").join("module.yaml")).unwrap();
    let others = "---
kind: io.statefun.kinesis.v1/ingress
spec:
  id: example/others
  awsRegion: {type: default}
  startupPosition: {type: earliest}
  onExpiredPosition: earliest
  streams:
    - stream: others
      valueType: example/name
      targets: [example/greeter]
";
    let path = dir.join("module.yaml");
    std::fs::write(&path, text + others).unwrap();
    path
}

/// Waits until this many sources are stopped, and returns them as `/readyz` shows them.
pub(crate) async fn stopped_ingresses(app: &Dev, count: usize) -> Vec<Value> {
    until("the sources are stopped", async || {
        let ready = app.client.admin(reqwest::Method::GET, "/readyz").await;
        assert_eq!(ready.status, 200, "{ready:?}");
        let stopped = ready.json()["stopped_ingresses"].as_array().cloned();
        let stopped = stopped.unwrap_or_default();
        (stopped.len() == count).then_some(stopped)
    })
    .await
}

/// Resumes an ingress. Returns the number of its sources that are tried again.
pub(crate) async fn resume(app: &Dev, ingress: &str) -> u64 {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/api/ingresses/{ingress}/resume", app.client.admin_url());
    let resumed = http.post(url).bearer_auth(ADMIN_TOKEN.1).send().await;
    let resumed = resumed.unwrap().error_for_status().unwrap();
    let body: Value = serde_json::from_slice(&resumed.bytes().await.unwrap()).unwrap();
    body["resumed"].as_u64().unwrap()
}

/// Waits until the greeter has seen a name this often.
async fn is_seen(app: &Dev, name: &str, times: i64) {
    until_true("the name is seen", async || {
        let view = app.client.address(&format!("example/greeter/{name}")).await;
        view.status == 200 && view.json()["state"][0]["value"] == json!(times)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_stream_stops_only_its_own_ingress_until_it_is_back_and_resumed() {
    let cloud = cloud(1).await;
    cloud.create_stream("others", 1).await;
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, ADMIN_TOKEN.1).unwrap();
    let setup = cloud.setup(module(dir.path()));
    let setup = setup.env(ADMIN_TOKEN.0, token.display().to_string());
    let mut app = setup.start().await;
    let put = async |stream: &str, name: &str| {
        let data = json!({"name": name}).to_string();
        cloud.put(stream, name, data.into_bytes()).await;
    };
    put("names", "ann").await;
    put("others", "bob").await;
    is_seen(&app, "ann", 1).await;
    is_seen(&app, "bob", 1).await;

    let delete = cloud.kinesis_client().delete_stream().stream_name("others");
    delete.send().await.unwrap();
    let is_named = |stopped: &[Value]| {
        assert_eq!(stopped[0]["id"], "example/others");
        assert_eq!(stopped[0]["source"], "stream others");
        assert_eq!(stopped[0]["problem"], "missing");
        assert!(stopped[0]["since"].is_string());
    };
    is_named(&stopped_ingresses(&app, 1).await);
    let sample = r#"satchel_ingress_stopped{ingress="example/others",source="stream others"}"#;
    assert_eq!(app.client.metric(sample).await, Some(1.0));
    let printed = app.printed();
    let lines = printed.lines().filter(|line| {
        line.contains("ingress stopped reading a source") && line.contains("example/others")
    });
    assert_eq!(lines.count(), 1, "{printed}");
    put("names", "ann").await;
    is_seen(&app, "ann", 2).await;
    let eve = json!({"name": "Eve"});
    let reply = app.client.call("example/greeter/eve", &eve).await;
    assert_eq!(reply.status, 200, "{reply:?}");

    // At the start, too.
    let ended = app.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
    app.restart().await;
    is_named(&stopped_ingresses(&app, 1).await);
    put("names", "ann").await;
    is_seen(&app, "ann", 3).await;

    // A stream of the same name, which is another one.
    cloud.create_stream("others", 1).await;
    put("others", "bob").await;
    assert_eq!(resume(&app, "example/others").await, 1);
    is_seen(&app, "bob", 2).await;
    stopped_ingresses(&app, 0).await;
    assert_eq!(app.client.metric(sample).await, Some(0.0));
    assert_eq!(resume(&app, "example/others").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ingress_without_credentials_stops_alone_at_the_start() {
    let cloud = cloud(1).await;
    let dir = tempfile::tempdir().unwrap();
    let path = module(dir.path());
    let text = std::fs::read_to_string(&path).unwrap();
    let region = "  id: example/others\n";
    let credentials = "  awsCredentials: {type: profile, profileName: nowhere}\n";
    let text = text.replace(region, &format!("{region}{credentials}"));
    std::fs::write(&path, text).unwrap();
    let app = cloud.setup(path).start().await;
    let stopped = stopped_ingresses(&app, 1).await;
    assert_eq!(stopped[0]["id"], "example/others");
    assert_eq!(stopped[0]["problem"], "forbidden");
    let data = json!({"name": "ann"}).to_string();
    cloud.put("names", "ann", data.into_bytes()).await;
    is_seen(&app, "ann", 1).await;
    let printed = app.printed();
    let named = |line: &&str| line.contains("ingress stopped reading a source");
    let line: Value = serde_json::from_str(printed.lines().find(named).unwrap()).unwrap();
    let fields = &line["fields"];
    assert_eq!(fields["ingress"], "example/others");
    assert_eq!(fields["source"], "stream others");
    assert_eq!(fields["retry_s"], 60);
    let error = fields["error"].as_str().unwrap();
    let expected = "ingress example/others, with the profile nowhere: no AWS credentials: ";
    assert!(error.starts_with(expected), "{error}");
    assert!(error.len() < 400 && !error.contains(['{', '\n']), "{error}");
}
