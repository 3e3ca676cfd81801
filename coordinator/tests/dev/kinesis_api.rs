//! `satchel dev --kinesis-api` with unmodified boto3. The application reads the records that the
//! AWS SDK for Python puts, and the SDK reads the records of the application, while the stream is
//! split and merged.
//!
//! The first run installs boto3 with pip.

use std::path::Path;
use std::process::Stdio;

use satchel_testkit::{Dev, Setup, example, python_with, until_true};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::process::Command;

/// URL of the Kinesis API, from the banner.
fn kinesis_of(printed: &str) -> String {
    let mut urls = printed
        .lines()
        .filter_map(|line| line.trim().strip_prefix("kinesis ").map(str::trim));
    let url = urls.find(|url| url.starts_with("http://"));
    url.expect("the banner names the URL").to_owned()
}

async fn each_name_is_greeted_once_and_in_order(partitions: &str) -> Dev {
    let app = Setup::of(example("greeter"))
        .arg("--kinesis-api=127.0.0.1:0")
        .env("SATCHEL_PARTITIONS", partitions)
        .start()
        .await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dev/kinesis_api/client.py");
    let output = Command::new(python_with(&["boto3==1.44.5"]))
        .arg("-B")
        .arg(script)
        .arg(kinesis_of(&app.printed()))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{error}", output.status);
    let greetings: serde_json::Map<String, Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(greetings.len(), 20);
    for (person, greetings) in greetings {
        let seen: Vec<_> = greetings
            .as_array()
            .unwrap()
            .iter()
            .map(|greeting| greeting["seen"].as_i64())
            .collect();
        assert_eq!(
            seen,
            [Some(1), Some(2), Some(3)],
            "{person}: each name once and in order"
        );
    }
    assert_eq!(app.client.records("names").await.len(), 60);
    app
}

#[tokio::test]
async fn boto3_puts_to_and_reads_from_an_application_whose_stream_is_split_and_merged() {
    each_name_is_greeted_once_and_in_order("1").await;
}

#[tokio::test]
async fn rule_24_the_same_holds_if_several_partitions_read_the_shards() {
    let app = each_name_is_greeted_once_and_in_order("4").await;
    let mut told = 0.0;
    for partition in 0..4 {
        let sample = format!("satchel_peer_messages_sent_total{{partition=\"{partition}\"}}");
        told += app.client.metric(&sample).await.unwrap_or_default();
    }
    assert!(told > 0.0, "no shard was handed to another partition");
}

#[tokio::test]
async fn the_port_is_served_within_the_limits_of_every_port() {
    let app = Setup::of(example("greeter"))
        .arg("--kinesis-api=127.0.0.1:0")
        .start()
        .await;
    let url = kinesis_of(&app.printed());
    let address = url.trim_start_matches("http://");
    let mut connections = Vec::new();
    for _ in 0..3 {
        connections.push(TcpStream::connect(address).await.unwrap());
    }
    until_true("the connections are counted", async || {
        let metrics = app.client.admin(reqwest::Method::GET, "/metrics").await;
        let text = String::from_utf8(metrics.body.to_vec()).unwrap();
        text.contains("satchel_http_connections{port=\"kinesis\"} 3")
    })
    .await;
    drop(connections);
}
