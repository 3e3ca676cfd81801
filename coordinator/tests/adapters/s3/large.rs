//! Objects in parts.

use hyper::http::Method;
use satchel::store::s3::{S3Operation, S3Options, S3Outcome};
use satchel_log::{Created, ObjectStore};
use satchel_testkit::{Fault, Proxy, until_true};
use tokio::sync::oneshot;

use super::{Bucket, Counted, bytes, failure_of, moto, noise};

/// Three parts of at most 8 MiB.
const LARGE: usize = (16 << 20) + 12_345;

#[tokio::test]
async fn a_large_object_is_stored_in_parts_once_and_read_whole() {
    let bucket = Bucket::make("large").await;
    let counted = Counted::default();
    let store = bucket.store_at(moto().endpoint(), counted.options());
    let object = noise(LARGE);
    assert_eq!(
        store.create("s/1", object.clone()).await,
        Ok(Created::Stored)
    );
    let mut requests = counted.take();
    // The parts arrive in any order.
    requests.sort_unstable();
    let part = |bytes| (S3Operation::UploadPart, S3Outcome::Done, bytes);
    assert_eq!(
        requests,
        [
            (S3Operation::GetObject, S3Outcome::Refused, 0),
            (S3Operation::CreateMultipartUpload, S3Outcome::Done, 0),
            part(12_345),
            part(8 << 20),
            part(8 << 20),
            (S3Operation::CompleteMultipartUpload, S3Outcome::Done, 0),
        ]
    );
    assert!(store.get("s/1").await.unwrap().unwrap() == object);
    let seam = (8 << 20) - 5..(8 << 20) + 5;
    let part = store.get_range("s/1", seam.clone()).await.unwrap();
    assert_eq!(
        part,
        Some(object.slice(seam.start as usize..seam.end as usize))
    );

    // Repeated, or by another writer: nothing is uploaded.
    counted.take();
    assert_eq!(
        store.create("s/1", noise(LARGE + 1)).await,
        Ok(Created::Exists)
    );
    assert_eq!(
        counted.take(),
        [(S3Operation::GetObject, S3Outcome::Done, 1)]
    );
    assert!(store.get("s/1").await.unwrap().unwrap() == object);
    assert_eq!(bucket.open_uploads().await, 0);
}

#[tokio::test]
async fn an_object_that_appears_during_the_upload_is_not_replaced() {
    let bucket = Bucket::make("overtaken").await;
    let proxy = Proxy::start(moto().endpoint()).await;
    let store = bucket.store_at(&proxy.endpoint(), S3Options::default());
    let (arrived, has_arrived) = oneshot::channel();
    let (resume, may_resume) = oneshot::channel();
    proxy.fail_next(
        Method::POST,
        "uploadId=",
        Fault::HoldRequest(arrived, may_resume),
    );
    let slow = tokio::spawn(async move { store.create("s/1", noise(LARGE)).await });
    has_arrived.await.unwrap();
    let quick = bucket.store();
    assert_eq!(
        quick.create("s/1", bytes("quick")).await,
        Ok(Created::Stored)
    );
    resume.send(()).unwrap();
    assert_eq!(slow.await.unwrap(), Ok(Created::Exists));
    assert_eq!(quick.get("s/1").await, Ok(Some(bytes("quick"))));
    assert_eq!(bucket.open_uploads().await, 0);
}

#[tokio::test]
async fn a_failed_upload_leaves_nothing_behind() {
    let bucket = Bucket::make("failed-upload").await;
    let proxy = Proxy::start(moto().endpoint()).await;
    let store = bucket.store_at(&proxy.endpoint(), S3Options::default());
    let put = Method::PUT;
    let post = Method::POST;
    for (method, part, fault, kind, expected) in [
        (
            &post,
            "?uploads",
            Fault::error(503, "SlowDown"),
            "unavailable",
            "CreateMultipartUpload in bucket failed-upload: SlowDown",
        ),
        (
            &post,
            "?uploads",
            Fault::error(403, "AccessDenied"),
            "fatal",
            "CreateMultipartUpload in bucket failed-upload: AccessDenied",
        ),
        (
            &put,
            "partNumber=2",
            Fault::error(503, "SlowDown"),
            "unavailable",
            "UploadPart in bucket failed-upload: SlowDown",
        ),
        (
            &put,
            "partNumber=2",
            Fault::LoseAnswer,
            "unavailable",
            "UploadPart in bucket failed-upload: ",
        ),
        (
            &put,
            "partNumber=3",
            Fault::error(404, "NoSuchUpload"),
            "unavailable",
            "UploadPart in bucket failed-upload: NoSuchUpload",
        ),
        (
            &post,
            "uploadId=",
            Fault::error(409, "ConditionalRequestConflict"),
            "conflict",
            "CompleteMultipartUpload in bucket failed-upload: ConditionalRequestConflict",
        ),
        (
            &post,
            "uploadId=",
            Fault::LoseRequest,
            "unavailable",
            "CompleteMultipartUpload in bucket failed-upload: ",
        ),
        // S3 may detect an error after it has sent status 200.
        (
            &post,
            "uploadId=",
            Fault::error(200, "InternalError"),
            "unavailable",
            "CompleteMultipartUpload in bucket failed-upload: InternalError",
        ),
    ] {
        proxy.fail_next(method.clone(), part, fault);
        let (actual, text) = failure_of(store.create("s/1", noise(LARGE)).await);
        assert_eq!(actual, kind, "{text}");
        assert!(
            text.starts_with("s/1: ") && text.contains(expected),
            "{expected}: {text}"
        );
        assert_eq!(bucket.open_uploads().await, 0, "{text}");
        assert_eq!(bucket.store().get("s/1").await, Ok(None), "{text}");
    }
    assert_eq!(store.create("s/1", noise(LARGE)).await, Ok(Created::Stored));
    assert!(store.get("s/1").await.unwrap().unwrap() == noise(LARGE));
}

#[tokio::test]
async fn a_large_object_whose_answer_was_lost_is_found_by_the_retry_without_an_upload() {
    let bucket = Bucket::make("lost-completion").await;
    let proxy = Proxy::start(moto().endpoint()).await;
    let store = bucket.store_at(&proxy.endpoint(), S3Options::default());
    proxy.fail_next(Method::POST, "uploadId=", Fault::LoseAnswer);
    let (kind, text) = failure_of(store.create("s/1", noise(LARGE)).await);
    assert_eq!(kind, "unavailable", "{text}");
    proxy.seen();
    assert_eq!(store.create("s/1", noise(LARGE)).await, Ok(Created::Exists));
    assert_eq!(proxy.seen(), ["GET /lost-completion/s/1?x-id=GetObject"]);
    assert!(store.get("s/1").await.unwrap().unwrap() == noise(LARGE));
    assert_eq!(bucket.open_uploads().await, 0);
}

#[tokio::test]
async fn an_abandoned_upload_is_aborted() {
    let bucket = Bucket::make("given-up").await;
    let proxy = Proxy::start(moto().endpoint()).await;
    let store = bucket.store_at(&proxy.endpoint(), S3Options::default());
    let (arrived, has_arrived) = oneshot::channel();
    let (_resume, never) = oneshot::channel();
    proxy.fail_next(
        Method::POST,
        "uploadId=",
        Fault::HoldRequest(arrived, never),
    );
    let upload = tokio::spawn(async move { store.create("s/1", noise(LARGE)).await });
    has_arrived.await.unwrap();
    assert_eq!(bucket.open_uploads().await, 1);
    upload.abort();
    until_true("the upload is aborted", async || {
        bucket.open_uploads().await == 0
    })
    .await;
    assert_eq!(bucket.store().get("s/1").await, Ok(None));
}
