//! An application with its state in a bucket.

use std::collections::BTreeMap;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use satchel_testkit::{Moto, Setup};
use serde_json::json;

use super::{call, counter};
use crate::offline::tool;

/// A bucket `roots` on a server of its own.
pub(crate) struct Bucket {
    pub(crate) moto: Moto,
    pub(crate) client: Client,
}

impl Bucket {
    pub(crate) async fn make() -> Self {
        let moto = Moto::start();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .region(Region::new("us-east-1"))
            .endpoint_url(moto.endpoint())
            .force_path_style(true)
            .build();
        let client = Client::from_conf(config);
        client.create_bucket().bucket("roots").send().await.unwrap();
        Self { moto, client }
    }

    /// All objects under a prefix, with their hashes.
    pub(crate) async fn objects(&self, prefix: &str) -> BTreeMap<String, String> {
        let listed = self.client.list_objects_v2().bucket("roots").prefix(prefix);
        let listed = listed.send().await.unwrap();
        assert_eq!(listed.is_truncated(), Some(false));
        let objects = listed.contents().iter();
        objects
            .map(|object| {
                let hash = object.e_tag().unwrap().to_owned();
                (object.key().unwrap().to_owned(), hash)
            })
            .collect()
    }
}

/// Environment for access to S3 at `endpoint`.
pub(crate) fn environment(endpoint: &str) -> [(&str, &str); 4] {
    [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
    ]
}

pub(crate) fn with_s3(setup: Setup, endpoint: &str) -> Setup {
    environment(endpoint)
        .into_iter()
        .fold(setup, |setup, (name, value)| setup.env(name, value))
}

#[tokio::test]
async fn state_in_a_bucket_outlives_the_process_and_its_cost_is_counted() {
    let bucket = Bucket::make().await;
    let (_dir, setup) = counter();
    let setup = with_s3(setup, bucket.moto.endpoint()).arg("--state=s3://roots/apps/counter");
    let mut app = setup.start().await;
    assert!(
        app.printed().contains("s3://roots/apps/counter (epoch 1"),
        "{}",
        app.printed()
    );
    assert_eq!(call(&app.client, "a", &json!({"add": 3})).await, 3);
    let puts = "satchel_s3_requests_total{operation=\"PutObject\",outcome=\"done\"}";
    let puts = app.client.metric(puts).await.unwrap();
    let dollars = app.client.metric("satchel_s3_estimated_dollars_total");
    let dollars = dollars.await.unwrap();
    assert!(
        puts >= 4.0 && dollars >= puts * 5e-6,
        "{puts} requests, {dollars} dollars"
    );
    app.kill9().await;
    app.restart().await;
    assert_eq!(call(&app.client, "a", &json!({"add": 4})).await, 7);
    assert_eq!(app.terminate().await.code, Some(0));
    let moto = environment(bucket.moto.endpoint());
    let result = tool::tool_in("s3://roots/apps/counter", &["verify"], &moto);
    assert_eq!(result.code, 0, "{result:?}");
}

#[tokio::test]
async fn a_missing_bucket_and_missing_credentials_are_environment_errors() {
    let bucket = Bucket::make().await;
    let (_dir, setup) = counter();
    let there = with_s3(setup.clone(), bucket.moto.endpoint());
    let ended = there.arg("--state=s3://nowhere/a").run_to_end().await;
    assert_eq!(ended.code, Some(5), "{}", ended.printed);
    assert!(
        ended.printed.contains("nowhere") && ended.printed.contains("NoSuchBucket"),
        "{}",
        ended.printed
    );
    let anonymous = setup
        .env("AWS_ENDPOINT_URL", bucket.moto.endpoint())
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "")
        .env("AWS_SECRET_ACCESS_KEY", "")
        .env("AWS_PROFILE", "")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    let ended = anonymous.arg("--state=s3://roots/a").run_to_end().await;
    assert_eq!(ended.code, Some(5), "{}", ended.printed);
    assert!(
        ended.printed.contains("no AWS credentials") && ended.printed.contains("s3://roots"),
        "{}",
        ended.printed
    );
}
