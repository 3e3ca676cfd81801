//! State in a bucket whose commit log is in a table of DynamoDB.

use std::process::Command;

use satchel_testkit::Dev;
use serde_json::json;

use super::refusals::rejected;
use super::*;

const ALICE: &str = "example/greeter/alice";

/// Flag of the first start, as an environment variable.
const TABLE: (&str, &str) = ("SATCHEL_COMMIT_LOG", "dynamodb:commits");

impl Aws {
    /// The first start of an application whose log is in a table.
    fn in_table(&self) -> Setup {
        self.setup("5s")
            .env(TABLE.0, TABLE.1)
            .env("SATCHEL_CREATE_COMMIT_LOG_TABLE", "true")
    }

    /// Runs an offline tool, which knows the root alone. Returns its exit code and its output.
    fn tool(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_satchel"));
        command.args(arguments).args(["--state", &root("app")]);
        let output = command.envs(self.environment()).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }

    /// Runs a tool that must succeed, and returns its output.
    fn ok(&self, arguments: &[&str]) -> String {
        let (code, text) = self.tool(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {text}");
        text
    }

    /// Keys of the objects in the bucket under this prefix.
    async fn keys(&self, prefix: &str) -> Vec<String> {
        let config = aws_sdk_s3::config::Builder::from(&sdk(self.moto.endpoint()));
        let s3 = aws_sdk_s3::Client::from_conf(config.force_path_style(true).build());
        let listed = s3.list_objects_v2().bucket(BUCKET).prefix(prefix);
        let listed = listed.send().await.unwrap();
        let objects = listed.contents().iter();
        objects
            .filter_map(|object| object.key().map(str::to_owned))
            .collect()
    }

    /// Number of items in the table of the log.
    async fn items(&self) -> usize {
        let dynamodb = aws_sdk_dynamodb::Client::new(&sdk(self.moto.endpoint()));
        let scanned = dynamodb.scan().table_name("commits").send().await.unwrap();
        scanned.items().len()
    }
}

fn root(name: &str) -> String {
    format!("s3://{BUCKET}/{name}")
}

async fn seen(app: &Dev) -> i64 {
    let reply = app.client.call(ALICE, &json!({"name": "Alice"})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["seen"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_go_to_the_table_and_outlive_kills_and_everything_finds_them_by_the_root() {
    let aws = Aws::with_greeter().await;
    let mut app = aws.in_table().start().await;
    for number in 1..=3 {
        assert_eq!(seen(&app).await, number);
    }
    assert_eq!(
        aws.keys("app/partitions/0/log/").await,
        Vec::<String>::new()
    );
    assert!(
        aws.items().await >= 4,
        "a claim, a takeover and three commits"
    );
    let metrics = app.client.admin(reqwest::Method::GET, "/metrics").await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    let counted = "satchel_log_table_requests_total{operation=\"PutItem\",outcome=\"done\"}";
    assert!(metrics.contains(counted), "{metrics}");
    app.kill9().await;

    // A savepoint, and a root made from it, whose log is in the bucket.
    aws.ok(&["savepoint", "create", "three"]);
    assert!(aws.ok(&["verify"]).contains("objects"));
    assert!(aws.ok(&["state", "get", ALICE]).contains("\"value\":3"));

    // Later starts need no flag.
    let mut app = aws.setup("5s").start().await;
    assert_eq!(seen(&app).await, 4);
    app.kill9().await;
    let mut app = aws.setup("5s").start().await;
    assert_eq!(seen(&app).await, 5);
    let ended = app.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
    assert_eq!(
        aws.keys("app/partitions/0/log/").await,
        Vec::<String>::new()
    );
    assert!(aws.ok(&["verify"]).contains("objects"));
    assert!(
        aws.ok(&["state", "get", ALICE, "--at", "three"])
            .contains('3')
    );

    let fork = aws.setup("5s").env("SATCHEL_STATE", root("fork"));
    let fork = fork.env("SATCHEL_RESTORE", format!("{}@three", root("app")));
    let fork = fork.env("SATCHEL_RESUME_IO", "true").start().await;
    assert_eq!(seen(&fork).await, 4);
    assert!(!aws.keys("fork/partitions/0/log/").await.is_empty());
    drop(fork);
    aws.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_refuses_another_table_and_state_without_a_bucket_refuses_any() {
    let aws = Aws::with_greeter().await;
    let mut app = aws.in_table().start().await;
    assert_eq!(seen(&app).await, 1);
    app.terminate().await;
    let other = aws.setup("5s").env(TABLE.0, "dynamodb:another");
    rejected(other, 4, &["dynamodb:commits", "dynamodb:another"]).await;
    let directory = aws.dir.path().join("state").display().to_string();
    let local = aws.in_table().env("SATCHEL_STATE", &directory);
    rejected(local, 2, &["--commit-log", &directory]).await;
    let wrong = aws.setup("5s").env(TABLE.0, "s3://logs");
    rejected(wrong, 2, &["--commit-log", "dynamodb:TABLE"]).await;
    let absent = aws.setup("5s").env("SATCHEL_STATE", root("new"));
    let absent = absent.env(TABLE.0, "dynamodb:no-such-table");
    rejected(absent, 5, &["no-such-table", "there is no such table"]).await;

    // A root whose log is in the bucket does not move.
    let mut app = aws
        .setup("5s")
        .env("SATCHEL_STATE", root("plain"))
        .start()
        .await;
    assert_eq!(seen(&app).await, 1);
    app.terminate().await;
    let moved = aws.in_table().env("SATCHEL_STATE", root("plain"));
    rejected(moved, 4, &["in the root itself", "dynamodb:commits"]).await;
    aws.stop().await;
}
