//! Faults: conflicts, throttling, lost and late answers, and damage in transit, and how the store
//! reports them.

use std::time::Duration;

use hyper::http::Method;
use satchel::store::S3Store;
use satchel::store::s3::S3Options;
use satchel_log::{Created, ObjectStore};
use tokio::sync::oneshot;

use super::{Bucket, bytes, failure_of, moto, noise};
use satchel_testkit::{Fault, Proxy};

async fn behind_proxy(bucket: &str) -> (Bucket, Proxy, S3Store) {
    let bucket = Bucket::make(bucket).await;
    let proxy = Proxy::start(moto().endpoint()).await;
    let store = bucket.store_at(&proxy.endpoint(), S3Options::default());
    (bucket, proxy, store)
}

#[tokio::test]
async fn a_replaced_object_is_not_deleted_and_a_failed_deletion_is_reported() {
    let (bucket, proxy, store) = behind_proxy("exactly-behind-a-proxy").await;
    let mine = bytes("mine");
    store.create("a/1", mine.clone()).await.unwrap();
    let rejected = Fault::error(412, "PreconditionFailed");
    proxy.fail_next(Method::DELETE, "a/1", rejected);
    assert_eq!(store.delete_exactly("a/1", &mine).await, Ok(()));
    assert_eq!(
        bucket.store().get("a/1").await,
        Ok(Some(mine.clone())),
        "S3 reported a different object"
    );
    proxy.fail_next(Method::DELETE, "a/1", Fault::error(503, "SlowDown"));
    let (kind, text) = failure_of(store.delete_exactly("a/1", &mine).await);
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
        let fault = |method| proxy.fail_next(method, "named", Fault::error(status, code));
        fault(Method::PUT);
        let put = failure_of(store.create("log/1", bytes("x")).await);
        fault(Method::GET);
        let get = failure_of(store.get("log/1").await);
        fault(Method::GET);
        let range = failure_of(store.get_range("log/1", 1..3).await);
        fault(Method::GET);
        let list = failure_of(store.list("log/", None, 10).await);
        fault(Method::POST);
        let delete = failure_of(store.delete(&gone).await);
        for ((actual, text), key, operation) in [
            (put, "log/1", "PutObject"),
            (get, "log/1", "GetObject"),
            (range, "log/1", "GetObject"),
            (list, "log/", "ListObjectsV2"),
            (delete, "log/1", "DeleteObjects"),
        ] {
            assert_eq!(actual, kind, "{text}");
            let expected = format!(
                "{operation} in bucket named: {code}: injected by the test (status {status})"
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
    proxy.fail_next(Method::PUT, "log/1", Fault::LoseAnswer);
    let (kind, text) = failure_of(store.create("log/1", bytes("mine")).await);
    assert_eq!(kind, "unavailable", "{text}");
    assert_eq!(
        store.create("log/1", bytes("mine")).await,
        Ok(Created::Exists)
    );
    assert_eq!(store.get("log/1").await, Ok(Some(bytes("mine"))));
}

#[tokio::test]
async fn a_create_whose_request_was_lost_can_be_repeated() {
    let (_bucket, proxy, store) = behind_proxy("lost-request").await;
    proxy.fail_next(Method::PUT, "log/1", Fault::LoseRequest);
    let (kind, text) = failure_of(store.create("log/1", bytes("mine")).await);
    assert_eq!(kind, "unavailable", "{text}");
    assert_eq!(
        store.create("log/1", bytes("mine")).await,
        Ok(Created::Stored)
    );
}

#[tokio::test]
async fn a_late_answer_leaves_the_outcome_unknown() {
    let (bucket, proxy, unlimited) = behind_proxy("late-answer").await;
    let options = S3Options {
        timeout: Duration::from_millis(200),
        ..S3Options::default()
    };
    let hasty = bucket.store_at(&proxy.endpoint(), options);
    // The answer never arrives while this end is held.
    let (_hold, held) = oneshot::channel();
    proxy.fail_next(Method::PUT, "log/1", Fault::HoldAnswer(held));
    let (kind, text) = failure_of(hasty.create("log/1", bytes("mine")).await);
    assert_eq!(
        (kind, text.as_str()),
        (
            "unavailable",
            "log/1: the store is not available: PutObject in bucket late-answer: \
             no answer within 200 ms"
        )
    );
    // The proxy holds back the answer, not the effect, which may follow.
    satchel_testkit::until_true("the effect happens", async || {
        unlimited.get("log/1").await == Ok(Some(bytes("mine")))
    })
    .await;
    assert_eq!(
        unlimited.create("log/1", bytes("mine")).await,
        Ok(Created::Exists)
    );
}

#[tokio::test]
async fn truncated_and_damaged_answers_are_rejected() {
    let (_bucket, proxy, store) = behind_proxy("damaged").await;
    let object = noise(100_000);
    store.create("log/1", object.clone()).await.unwrap();
    for (fault, expected) in [
        (Fault::CutAnswer, "GetObject in bucket damaged: "),
        (Fault::DamageAnswer, "checksum"),
    ] {
        proxy.fail_next(Method::GET, "log/1", fault);
        let (kind, text) = failure_of(store.get("log/1").await);
        assert_eq!(kind, "unavailable", "{text}");
        assert!(text.contains(expected), "{text}");
    }
    assert_eq!(store.get("log/1").await, Ok(Some(object.clone())));
    proxy.fail_next(Method::GET, "log/1", Fault::CutAnswer);
    assert_eq!(
        failure_of(store.get_range("log/1", 10..90_000).await).0,
        "unavailable"
    );
    let part = store.get_range("log/1", 10..90_000).await;
    assert_eq!(part, Ok(Some(object.slice(10..90_000))));
}

#[tokio::test]
async fn one_object_that_could_not_be_deleted_is_an_error() {
    let (_bucket, proxy, store) = behind_proxy("delete").await;
    let gone = ["a/1".to_owned(), "a/2".to_owned()];
    let partly = |code: &str| {
        Fault::Answer(
            200,
            format!(
                "<DeleteResult><Error><Key>a/2</Key><Code>{code}</Code>\
                 <Message>so it is</Message></Error></DeleteResult>"
            ),
        )
    };
    for (code, kind) in [
        ("AccessDenied", "fatal"),
        ("InternalError", "unavailable"),
        ("SlowDown", "unavailable"),
    ] {
        proxy.fail_next(Method::POST, "delete", partly(code));
        let (actual, text) = failure_of(store.delete(&gone).await);
        assert_eq!(actual, kind);
        let expected = format!("DeleteObjects in bucket delete: {code}: so it is");
        assert!(
            text.starts_with("a/2: ") && text.ends_with(&expected),
            "{text}"
        );
    }
    proxy.fail_next(Method::POST, "delete", partly("NoSuchKey"));
    assert_eq!(store.delete(&gone).await, Ok(()));
}

#[tokio::test]
async fn a_fatal_error_about_one_key_is_not_hidden_by_a_transient_one() {
    let (_bucket, proxy, store) = behind_proxy("delete-both").await;
    let text = "<DeleteResult>
        <Error><Key>a/1</Key><Code>InternalError</Code><Message>m</Message></Error>
        <Error><Key>a/2</Key><Code>AccessDenied</Code><Message>m</Message></Error>
    </DeleteResult>";
    proxy.fail_next(Method::POST, "delete", Fault::Answer(200, text.to_owned()));
    let (kind, text) = failure_of(store.delete(&["a/1".to_owned(), "a/2".to_owned()]).await);
    assert_eq!(kind, "fatal");
    assert!(text.starts_with("a/2: "), "{text}");
}

#[tokio::test]
async fn an_inconsistent_listing_is_rejected() {
    let (_bucket, proxy, store) = behind_proxy("bad-listing").await;
    let entry = |key: &str| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>");
    let page = |truncated: bool, keys: &[&str]| {
        let entries: String = keys.iter().map(|key| entry(key)).collect();
        let text = format!(
            "<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{entries}</ListBucketResult>"
        );
        Fault::Answer(200, text)
    };
    proxy.fail_next(Method::GET, "list-type", page(false, &["p/2", "p/1"]));
    let (kind, text) = failure_of(store.list("p/", None, 10).await);
    assert_eq!(kind, "fatal");
    assert!(
        text.contains("does not list in the order of the keys"),
        "{text}"
    );
    // A store that ignores start-after returns the same page forever.
    proxy.fail_next(Method::GET, "list-type", page(true, &["p/1", "p/2"]));
    proxy.fail_next(Method::GET, "list-type", page(true, &["p/1", "p/2"]));
    assert_eq!(failure_of(store.list("p/", None, 10).await).0, "fatal");
    proxy.fail_next(Method::GET, "list-type", page(true, &[]));
    let (kind, text) = failure_of(store.list("p/", None, 10).await);
    assert_eq!(kind, "unavailable");
    assert!(
        text.contains("an empty page that is not the last"),
        "{text}"
    );
}

#[tokio::test]
async fn a_listing_continues_behind_an_empty_page_by_its_token() {
    let (_bucket, proxy, store) = behind_proxy("empty-pages").await;
    for key in ["p/1", "p/2", "p/3"] {
        store.create(key, bytes("x")).await.unwrap();
    }
    // As S3 may answer where many objects were deleted.
    let page = |next: &str, entries: &str| {
        let text = format!(
            "<ListBucketResult><IsTruncated>true</IsTruncated>{entries}\
             <NextContinuationToken>{next}</NextContinuationToken></ListBucketResult>"
        );
        Fault::Answer(200, text)
    };
    let first = "<Contents><Key>p/1</Key><Size>1</Size></Contents>";
    proxy.seen();
    proxy.fail_next(Method::GET, "start-after=p%2F0", page("a%2Fb", first));
    proxy.fail_next(Method::GET, "continuation-token=a%252Fb", page("two", ""));
    let last = "<ListBucketResult><IsTruncated>false</IsTruncated>\
                <Contents><Key>p/3</Key><Size>1</Size></Contents></ListBucketResult>";
    let last = Fault::Answer(200, last.to_owned());
    proxy.fail_next(Method::GET, "continuation-token=two", last);
    let listed = store.list("p/", Some("p/0"), 10).await.unwrap();
    let keys: Vec<&str> = listed.iter().map(|object| &*object.key).collect();
    assert_eq!(keys, ["p/1", "p/3"]);
    let seen = proxy.seen();
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert!(!seen[1].contains("start-after"), "{seen:?}");

    // A store whose listing never ends is refused, and not asked forever.
    proxy.decide_with(move |_| Some(page("again", "")));
    let (kind, text) = failure_of(store.list("p/", None, 10).await);
    assert_eq!(kind, "fatal");
    assert!(text.contains("lists empty pages without end"), "{text}");
    assert_eq!(proxy.seen().len(), 1_001);
}

#[tokio::test]
async fn the_calendar_of_the_store_is_known_from_its_answers() {
    let (_bucket, proxy, store) = behind_proxy("dated").await;
    assert_eq!(store.calendar_ahead_ms(), None);
    store.create("a", bytes("x")).await.unwrap();
    let ahead_ms = store.calendar_ahead_ms().unwrap();
    assert!(ahead_ms.abs() < 10_000, "{ahead_ms}");
    let date = "Thu, 01 Jan 2026 00:00:00 GMT".to_owned();
    proxy.fail_next(Method::GET, "a", Fault::DateAnswer(date));
    store.get("a").await.unwrap();
    let ahead_ms = store.calendar_ahead_ms().unwrap();
    assert!(ahead_ms > 24 * 3_600_000, "{ahead_ms}");
}
