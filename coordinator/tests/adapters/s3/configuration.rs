//! Missing buckets, wrong credentials, endpoints from the environment, and stores that only
//! resemble S3.

use std::process::Command;

use hyper::http::Method;
use satchel::store::S3Store;
use satchel::store::s3::{Addressing, S3Options};
use satchel_log::{Created, ObjectStore};
use satchel_testkit::{Fault, Moto, Proxy};

use super::{Bucket, SECRET, bytes, failure_of, moto, sdk};

#[tokio::test]
async fn a_bucket_that_does_not_exist_is_named_by_every_operation() {
    let store = S3Store::with_config(
        &sdk(moto().endpoint()),
        "no-such-bucket",
        S3Options::default(),
    );
    for (answer, key, operation) in [
        (store.get("log/1").await.map(drop), "log/1", "GetObject"),
        (
            store.get_range("log/1", 0..2).await.map(drop),
            "log/1",
            "GetObject",
        ),
        (
            store.create("log/1", bytes("x")).await.map(drop),
            "log/1",
            "PutObject",
        ),
        (
            store.create("s/1", super::noise(17 << 20)).await.map(drop),
            "s/1",
            "GetObject",
        ),
        (
            store.list("log/", None, 1).await.map(drop),
            "log/",
            "ListObjectsV2",
        ),
        (
            store.delete(&["log/1".to_owned()]).await,
            "log/1",
            "DeleteObjects",
        ),
    ] {
        let (kind, text) = failure_of(answer);
        assert_eq!(kind, "fatal", "{text}");
        let expected = format!(
            "{key}: the store refuses: {operation} in bucket no-such-bucket: NoSuchBucket: "
        );
        assert!(text.starts_with(&expected), "{text}");
    }
}

#[tokio::test]
async fn wrong_credentials_are_reported_without_revealing_them() {
    let strict = Moto::start_with(&[("INITIAL_NO_AUTH_ACTION_COUNT", "0")]);
    let store = S3Store::with_config(&sdk(strict.endpoint()), "some-bucket", S3Options::default());
    let (kind, text) = failure_of(store.get("log/1").await);
    assert_eq!(kind, "fatal");
    let expected =
        "log/1: the store refuses: GetObject in bucket some-bucket: InvalidAccessKeyId: ";
    assert!(text.starts_with(expected), "{text}");
    assert!(!text.contains("AKIDOFTHETEST"), "{text}");
    let shown = format!("{store:?}");
    assert!(
        shown.contains("some-bucket") && !shown.contains(SECRET) && !shown.contains("AKID"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_refused_connection_is_transient() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let store = S3Store::with_config(&sdk(&endpoint), "some-bucket", S3Options::default());
    let (kind, text) = failure_of(store.get("log/1").await);
    assert_eq!(kind, "unavailable", "{text}");
    assert!(text.contains("GetObject in bucket some-bucket: "), "{text}");
}

#[tokio::test]
async fn access_denied_names_the_missing_list_permission_as_a_possible_cause() {
    let bucket = Bucket::make("denied").await;
    let proxy = Proxy::start(moto().endpoint()).await;
    let store = bucket.store_at(&proxy.endpoint(), S3Options::default());
    proxy.fail_next(Method::GET, "log/1", Fault::error(403, "AccessDenied"));
    let (kind, text) = failure_of(store.get("log/1").await);
    assert_eq!(kind, "fatal");
    assert!(
        text.contains("without the permission s3:ListBucket"),
        "{text}"
    );
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_detected_without_harm() {
    let bucket = Bucket::make("unconditional").await;
    let proxy = Proxy::start(moto().endpoint()).await;
    let store = bucket.store_at(&proxy.endpoint(), S3Options::default());
    assert_eq!(
        store.check_conditional_create("application").await,
        Ok(false),
        "there is no object to check with"
    );
    assert_eq!(
        store.create("application", bytes("whose")).await,
        Ok(Created::Stored)
    );
    assert_eq!(
        store.check_conditional_create("application").await,
        Ok(true)
    );
    proxy.fail_next(Method::PUT, "application", Fault::DropConditions);
    let (kind, text) = failure_of(store.check_conditional_create("application").await);
    assert_eq!(kind, "fatal");
    assert!(text.contains("ignores If-None-Match"), "{text}");
    assert_eq!(store.get("application").await, Ok(Some(bytes("whose"))));
}

/// The configuration is read from the environment. This test runs itself again in processes with
/// different environments.
#[tokio::test]
async fn the_endpoint_credentials_and_region_come_from_the_environment() {
    const ROLE: &str = "SATCHEL_TEST_S3_FROM_ENVIRONMENT";
    if std::env::var_os(ROLE).is_some() {
        let answer = match S3Store::connect("from-environment", S3Options::default()).await {
            Ok(store) => store
                .create("log/1", bytes("x"))
                .await
                .map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        println!("answer: {answer:?}");
        return;
    }
    let bucket = Bucket::make("from-environment").await;
    let nowhere = "http://127.0.0.1:9";
    let here = moto().endpoint();
    let keys = [
        ("AWS_ACCESS_KEY_ID", "AKIDOFTHETEST"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
    ];
    let run = |environment: Vec<(&'static str, &str)>| {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again
            .args(["--exact", "--nocapture"])
            .arg("s3::configuration::the_endpoint_credentials_and_region_come_from_the_environment")
            .env(ROLE, "1")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true");
        for name in [
            "AWS_REGION",
            "AWS_DEFAULT_REGION",
            "AWS_PROFILE",
            "AWS_ENDPOINT_URL",
            "AWS_ENDPOINT_URL_S3",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
        ] {
            again.env_remove(name);
        }
        let output = again.envs(environment).output().unwrap();
        let text =
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        assert!(!text.contains(SECRET), "{text}");
        let answer = text.lines().find_map(|line| line.split_once("answer: "));
        answer.unwrap_or_else(|| panic!("{text}")).1.to_owned()
    };

    // For all services. The path contains the bucket; otherwise the name
    // `from-environment.127.0.0.1` would have to resolve.
    let all = [vec![("AWS_ENDPOINT_URL", here)], keys.to_vec()].concat();
    assert_eq!(run(all), "Ok(Stored)");
    bucket.store().delete(&["log/1".to_owned()]).await.unwrap();
    // The endpoint for S3 takes precedence.
    let both = [
        vec![
            ("AWS_ENDPOINT_URL", nowhere),
            ("AWS_ENDPOINT_URL_S3", here),
            ("AWS_REGION", "eu-west-1"),
        ],
        keys.to_vec(),
    ]
    .concat();
    assert_eq!(run(both), "Ok(Stored)");

    let no_region = run(keys.to_vec());
    assert!(
        no_region.contains(
            "s3://from-environment: the store refuses: no AWS region is configured: set AWS_REGION"
        ),
        "{no_region}"
    );
    let no_credentials = run(vec![("AWS_REGION", "eu-west-1")]);
    assert!(
        no_credentials.contains("s3://from-environment: the store refuses: no AWS credentials: "),
        "{no_credentials}"
    );
}

#[tokio::test]
async fn the_bucket_is_in_the_path_or_in_the_host_name_as_asked() {
    let bucket = Bucket::make("addressing").await;
    let proxy = Proxy::start(moto().endpoint()).await;
    for (addressing, seen) in [
        (
            Addressing::Automatic,
            "GET /addressing/log/1?x-id=GetObject",
        ),
        (Addressing::Path, "GET /addressing/log/1?x-id=GetObject"),
    ] {
        let options = S3Options {
            addressing,
            ..S3Options::default()
        };
        let store = bucket.store_at(&proxy.endpoint(), options);
        assert_eq!(store.get("log/1").await, Ok(None));
        assert_eq!(proxy.seen(), [seen]);
    }
    // Names below `localhost` resolve to this machine where the resolver follows RFC 6761. In any
    // case the path has no bucket.
    let port = proxy.endpoint().rsplit_once(':').unwrap().1.to_owned();
    let options = S3Options {
        addressing: Addressing::VirtualHost,
        ..S3Options::default()
    };
    let store = bucket.store_at(&format!("http://localhost:{port}"), options);
    let answer = store.get("log/1").await;
    let seen = proxy.seen();
    assert!(
        seen.iter()
            .all(|request| request == "GET /log/1?x-id=GetObject"),
        "{seen:?}"
    );
    assert!(!seen.is_empty() || answer.is_err(), "{answer:?}");
}
