//! An idle application sends no requests to S3.

use std::time::Duration;

use serde_json::json;

use super::bucket::{Bucket, with_s3};
use super::{call, counter};
use satchel_testkit::Proxy;

/// Idle time, in seconds: `SATCHEL_TEST_IDLE_SECONDS`, or a few.
fn idle() -> Duration {
    let set = std::env::var("SATCHEL_TEST_IDLE_SECONDS").ok();
    let seconds = set.map_or(20, |set| {
        set.parse().expect("SATCHEL_TEST_IDLE_SECONDS is a number")
    });
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn an_idle_application_makes_no_request_to_s3() {
    let bucket = Bucket::make().await;
    let proxy = Proxy::start(bucket.moto.endpoint()).await;
    let (_dir, setup) = counter();
    let setup = with_s3(setup, &proxy.endpoint()).arg("--state=s3://roots/idle");
    let mut app = setup.start().await;
    assert_eq!(call(&app.client, "a", &json!({"add": 3})).await, 3);
    // Work caused by the last commit completes first.
    let mut requests = proxy.seen().len();
    assert!(requests > 0);
    while requests > 0 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        requests = proxy.seen().len();
    }
    tokio::time::sleep(idle()).await;
    assert_eq!(proxy.seen(), Vec::<String>::new());
    assert_eq!(call(&app.client, "a", &json!({"add": 1})).await, 4);
    assert!(!proxy.seen().is_empty());
    assert_eq!(app.terminate().await.code, Some(0));
}
