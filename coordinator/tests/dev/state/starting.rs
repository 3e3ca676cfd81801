//! A start over a store that fails temporarily.

use std::collections::BTreeSet;

use serde_json::json;

use super::bucket::{Bucket, with_s3};
use super::{call, counter};
use satchel_testkit::{Fault, Proxy};

/// Every request fails the first time: either it does not reach the store, or its answer is lost.
fn fail_everything_once(proxy: &Proxy) {
    let mut known = BTreeSet::new();
    proxy.decide_with(move |request| {
        let number = known.len();
        let new = known.insert(format!("{} {}", request.method, request.path));
        new.then(|| match number % 2 {
            0 => Fault::error(503, "SlowDown"),
            _ => Fault::LoseAnswer,
        })
    });
}

#[tokio::test]
async fn a_start_survives_one_failure_of_each_request() {
    let bucket = Bucket::make().await;
    let proxy = Proxy::start(bucket.moto.endpoint()).await;
    let (_dir, setup) = counter();
    let setup = with_s3(setup, &proxy.endpoint()).arg("--state=s3://roots/starting");
    fail_everything_once(&proxy);
    let mut app = setup.start().await;
    assert_eq!(call(&app.client, "a", &json!({"add": 3})).await, 3);
    // After a crash and after a graceful stop, because each start sends other requests first.
    app.kill9().await;
    fail_everything_once(&proxy);
    app.restart().await;
    assert_eq!(call(&app.client, "a", &json!({"add": 4})).await, 7);
    assert_eq!(app.terminate().await.code, Some(0));
    fail_everything_once(&proxy);
    app.restart().await;
    assert_eq!(call(&app.client, "a", &json!({"add": 5})).await, 12);
}
