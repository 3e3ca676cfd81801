//! Bad days: what the store makes of conflicts, throttling, lost and late answers, and damage on the way.

use std::time::Duration;

use hyper::http::Method;
use satchel::store::S3Store;
use satchel::store::s3::S3Options;
use satchel_log::{Created, ObjectStore};
use tokio::sync::oneshot;

use crate::{Bucket, bytes, moto, noise, told};
use satchel_testkit::{Fault, Proxy};

async fn behind_proxy(bucket: &str) -> (Bucket, Proxy, S3Store) {
    let bucket = Bucket::make(bucket).await;
    let proxy = Proxy::start(moto().endpoint()).await;
    let store = bucket.store_at(&proxy.endpoint(), S3Options::default());
    (bucket, proxy, store)
}

#[tokio::test]
async fn an_object_that_another_took_the_place_of_stays_and_a_deletion_that_fails_is_told() {
    let (bucket, proxy, store) = behind_proxy("exactly-behind-a-proxy").await;
    let mine = bytes("mine");
    store.create("a/1", mine.clone()).await.unwrap();
    let refused = Fault::error(412, "PreconditionFailed");
    proxy.strike(Method::DELETE, "a/1", refused);
    assert_eq!(store.delete_exactly("a/1", &mine).await, Ok(()));
    assert_eq!(
        bucket.store().get("a/1").await,
        Ok(Some(mine.clone())),
        "S3 said that it is another one"
    );
    proxy.strike(Method::DELETE, "a/1", Fault::error(503, "SlowDown"));
    let (kind, text) = told(store.delete_exactly("a/1", &mine).await);
    assert_eq!(kind, "unavailable", "{text}");
    assert!(
        text.contains("DeleteObject in bucket exactly-behind-a-proxy"),
        "{text}"
    );
    assert_eq!(store.delete_exactly("a/1", &mine).await, Ok(()));
    assert_eq!(bucket.store().get("a/1").await, Ok(None));
}

#[tokio::test]
async fn each_operation_is_tried_once_and_its_failure_names_bucket_key_and_operation() {
    let (_bucket, proxy, store) = behind_proxy("named").await;
    let gone = ["log/1".to_owned(), "log/2".to_owned()];
    for (status, code, kind) in [
        (409, "ConditionalRequestConflict", "conflict"),
        (503, "SlowDown", "unavailable"),
        (500, "InternalError", "unavailable"),
        (400, "RequestTimeout", "unavailable"),
        (403, "AccessDenied", "fatal"),
        (301, "PermanentRedirect", "fatal"),
    ] {
        let fault = |method| proxy.strike(method, "named", Fault::error(status, code));
        fault(Method::PUT);
        let put = told(store.create("log/1", bytes("x")).await);
        fault(Method::GET);
        let get = told(store.get("log/1").await);
        fault(Method::GET);
        let range = told(store.get_range("log/1", 1..3).await);
        fault(Method::GET);
        let list = told(store.list("log/", None, 10).await);
        fault(Method::POST);
        let delete = told(store.delete(&gone).await);
        for ((told_kind, text), key, operation) in [
            (put, "log/1", "PutObject"),
            (get, "log/1", "GetObject"),
            (range, "log/1", "GetObject"),
            (list, "log/", "ListObjectsV2"),
            (delete, "log/1", "DeleteObjects"),
        ] {
            assert_eq!(told_kind, kind, "{text}");
            let expected = format!(
                "{operation} in bucket named: {code}: as the test wants it (status {status})"
            );
            assert!(text.starts_with(&format!("{key}: ")), "{text}");
            assert!(text.contains(&expected), "{text}");
        }
        assert_eq!(proxy.seen().len(), 5, "{code}: one request for each");
    }
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_shows_as_an_existing_object_with_the_same_bytes() {
    let (_bucket, proxy, store) = behind_proxy("lost-answer").await;
    proxy.strike(Method::PUT, "log/1", Fault::LoseAnswer);
    let (kind, text) = told(store.create("log/1", bytes("mine")).await);
    assert_eq!(kind, "unavailable", "{text}");
    assert_eq!(
        store.create("log/1", bytes("mine")).await,
        Ok(Created::Exists)
    );
    assert_eq!(store.get("log/1").await, Ok(Some(bytes("mine"))));
}

#[tokio::test]
async fn a_create_that_was_lost_itself_can_be_repeated() {
    let (_bucket, proxy, store) = behind_proxy("lost-request").await;
    proxy.strike(Method::PUT, "log/1", Fault::LoseRequest);
    let (kind, text) = told(store.create("log/1", bytes("mine")).await);
    assert_eq!(kind, "unavailable", "{text}");
    assert_eq!(
        store.create("log/1", bytes("mine")).await,
        Ok(Created::Stored)
    );
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_leaves_the_outcome_unknown() {
    let (bucket, proxy, patient) = behind_proxy("late-answer").await;
    let options = S3Options {
        timeout: Duration::from_millis(200),
        ..S3Options::default()
    };
    let hasty = bucket.store_at(&proxy.endpoint(), options);
    // It never comes while this end is held.
    let (_hold, held) = oneshot::channel();
    proxy.strike(Method::PUT, "log/1", Fault::HoldAnswer(held));
    let (kind, text) = told(hasty.create("log/1", bytes("mine")).await);
    assert_eq!(
        (kind, text.as_str()),
        (
            "unavailable",
            "log/1: the store is not available: PutObject in bucket late-answer: no answer within 200 ms"
        )
    );
    // The proxy holds the answer back, not the effect, which may still come.
    satchel_testkit::until_true("the effect happens", async || {
        patient.get("log/1").await == Ok(Some(bytes("mine")))
    })
    .await;
    assert_eq!(
        patient.create("log/1", bytes("mine")).await,
        Ok(Created::Exists)
    );
}

#[tokio::test]
async fn what_is_cut_or_damaged_on_its_way_is_not_taken() {
    let (_bucket, proxy, store) = behind_proxy("damaged").await;
    let object = noise(100_000);
    store.create("log/1", object.clone()).await.unwrap();
    for (fault, said) in [
        (Fault::CutAnswer, "GetObject in bucket damaged: "),
        (Fault::DamageAnswer, "checksum"),
    ] {
        proxy.strike(Method::GET, "log/1", fault);
        let (kind, text) = told(store.get("log/1").await);
        assert_eq!(kind, "unavailable", "{text}");
        assert!(text.contains(said), "{text}");
    }
    assert_eq!(store.get("log/1").await, Ok(Some(object.clone())));
    proxy.strike(Method::GET, "log/1", Fault::CutAnswer);
    assert_eq!(
        told(store.get_range("log/1", 10..90_000).await).0,
        "unavailable"
    );
    let part = store.get_range("log/1", 10..90_000).await;
    assert_eq!(part, Ok(Some(object.slice(10..90_000))));
}

#[tokio::test]
async fn an_object_that_could_not_be_deleted_is_an_error_although_the_others_were() {
    let (_bucket, proxy, store) = behind_proxy("delete").await;
    let gone = ["a/1".to_owned(), "a/2".to_owned()];
    let partly = |code: &str| {
        Fault::Answer(
            200,
            format!(
                "<DeleteResult><Error><Key>a/2</Key><Code>{code}</Code><Message>so it is</Message></Error></DeleteResult>"
            ),
        )
    };
    for (code, kind) in [
        ("AccessDenied", "fatal"),
        ("InternalError", "unavailable"),
        ("SlowDown", "unavailable"),
    ] {
        proxy.strike(Method::POST, "delete", partly(code));
        let (told_kind, text) = told(store.delete(&gone).await);
        assert_eq!(told_kind, kind);
        let expected = format!("DeleteObjects in bucket delete: {code}: so it is");
        assert!(
            text.starts_with("a/2: ") && text.ends_with(&expected),
            "{text}"
        );
    }
    proxy.strike(Method::POST, "delete", partly("NoSuchKey"));
    assert_eq!(store.delete(&gone).await, Ok(()));
}

#[tokio::test]
async fn a_final_error_about_one_key_is_not_hidden_by_one_that_may_pass() {
    let (_bucket, proxy, store) = behind_proxy("delete-both").await;
    let text = "<DeleteResult>
        <Error><Key>a/1</Key><Code>InternalError</Code><Message>m</Message></Error>
        <Error><Key>a/2</Key><Code>AccessDenied</Code><Message>m</Message></Error>
    </DeleteResult>";
    proxy.strike(Method::POST, "delete", Fault::Answer(200, text.to_owned()));
    let (kind, text) = told(store.delete(&["a/1".to_owned(), "a/2".to_owned()]).await);
    assert_eq!(kind, "fatal");
    assert!(text.starts_with("a/2: "), "{text}");
}

#[tokio::test]
async fn a_listing_that_breaks_the_rules_is_refused_rather_than_believed() {
    let (_bucket, proxy, store) = behind_proxy("bad-listing").await;
    let entry = |key: &str| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>");
    let page = |truncated: bool, keys: &[&str]| {
        let entries: String = keys.iter().map(|key| entry(key)).collect();
        let text = format!(
            "<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{entries}</ListBucketResult>"
        );
        Fault::Answer(200, text)
    };
    proxy.strike(Method::GET, "list-type", page(false, &["p/2", "p/1"]));
    let (kind, text) = told(store.list("p/", None, 10).await);
    assert_eq!(kind, "fatal");
    assert!(
        text.contains("does not list in the order of the keys"),
        "{text}"
    );
    // A store that ignores start-after gives the same page for ever.
    proxy.strike(Method::GET, "list-type", page(true, &["p/1", "p/2"]));
    proxy.strike(Method::GET, "list-type", page(true, &["p/1", "p/2"]));
    assert_eq!(told(store.list("p/", None, 10).await).0, "fatal");
    proxy.strike(Method::GET, "list-type", page(true, &[]));
    let (kind, text) = told(store.list("p/", None, 10).await);
    assert_eq!(kind, "unavailable");
    assert!(
        text.contains("an empty page that is not the last"),
        "{text}"
    );
}
