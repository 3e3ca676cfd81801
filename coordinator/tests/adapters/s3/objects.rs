//! Small objects: the requirements of the log on any store.

use aws_sdk_s3::types::{ChecksumMode, ServerSideEncryption};
use futures::stream::{FuturesUnordered, iter};
use futures::{StreamExt, TryStreamExt};
use satchel::store::s3::{Encryption, S3Operation, S3Options, S3Outcome};
use satchel_log::{Created, ObjectMeta, ObjectStore};

use super::{Bucket, Counted, bytes, failure_of, keys, moto};
use bytes::Bytes;

#[tokio::test]
async fn the_first_create_wins_and_the_object_never_changes() {
    let bucket = Bucket::make("first-create").await;
    let store = bucket.store();
    assert_eq!(
        store.create("a/b/1", bytes("one")).await,
        Ok(Created::Stored)
    );
    assert_eq!(
        store.create("a/b/1", bytes("two")).await,
        Ok(Created::Exists)
    );
    assert_eq!(
        store.create("a/b/1", bytes("one")).await,
        Ok(Created::Exists)
    );
    assert_eq!(store.get("a/b/1").await, Ok(Some(bytes("one"))));
    assert_eq!(store.get("a/b/2").await, Ok(None));
    assert_eq!(
        store.create("a/empty", bytes("")).await,
        Ok(Created::Stored)
    );
    assert_eq!(store.get("a/empty").await, Ok(Some(bytes(""))));
}

#[tokio::test]
async fn deleting_an_exact_object_does_not_delete_its_successor() {
    let bucket = Bucket::make("exactly").await;
    let store = bucket.store();
    let (mine, other) = (bytes("mine"), bytes("other"));
    assert_eq!(store.delete_exactly("a/1", &mine).await, Ok(()), "none");
    store.create("a/1", mine.clone()).await.unwrap();
    assert_eq!(store.delete_exactly("a/1", &mine).await, Ok(()));
    assert_eq!(store.get("a/1").await, Ok(None));
    store.create("a/1", other.clone()).await.unwrap();
    assert_eq!(store.delete_exactly("a/1", &mine).await, Ok(()), "late");
    assert_eq!(store.get("a/1").await, Ok(Some(other)));
}

#[tokio::test]
async fn exactly_one_of_racing_creates_wins() {
    let bucket = Bucket::make("race").await;
    let stores = [(); 4].map(|()| bucket.store());
    for round in 0..25 {
        let writers = if round % 2 == 0 { 8 } else { 16 };
        let key = format!("race/{round}");
        let answers: Vec<Created> = (0..writers)
            .map(|racer: u8| {
                let (store, key) = (&stores[usize::from(racer) % stores.len()], &key);
                async move { store.create(key, Bytes::from(vec![racer; 100])).await }
            })
            .collect::<FuturesUnordered<_>>()
            .try_collect()
            .await
            .unwrap();
        let winners = answers.iter().filter(|answer| **answer == Created::Stored);
        assert_eq!(winners.count(), 1);
        let object = stores[0].get(&key).await.unwrap().unwrap();
        assert!(object.len() == 100 && object.iter().all(|byte| *byte == object[0]));
    }
}

#[tokio::test]
async fn a_range_is_cut_to_the_object() {
    let bucket = Bucket::make("ranges").await;
    let store = bucket.store();
    store.create("a", bytes("0123456789")).await.unwrap();
    store.create("empty", bytes("")).await.unwrap();
    for (key, range, part) in [
        ("a", 2..5, Some("234")),
        ("a", 0..10, Some("0123456789")),
        ("a", 8..50, Some("89")),
        ("a", 10..50, Some("")),
        ("a", 40..50, Some("")),
        ("a", 3..3, Some("")),
        ("a", 0..0, Some("")),
        ("a", 40..40, Some("")),
        ("a", 9..u64::MAX, Some("9")),
        ("empty", 0..7, Some("")),
        ("b", 0..1, None),
        ("b", 0..0, None),
    ] {
        let answer = store.get_range(key, range.clone()).await;
        assert_eq!(answer, Ok(part.map(bytes)), "{key} {range:?}");
    }
}

#[tokio::test]
async fn a_listing_is_ordered_paged_and_cut_to_its_prefix() {
    let bucket = Bucket::make("listing").await;
    let store = bucket.store();
    for key in [
        "p/log/02",
        "p/log/10",
        "p/log/01",
        "p/s/01/a-1",
        "p/s/01-x",
        "q/log/01",
    ] {
        store.create(key, bytes("1234")).await.unwrap();
    }
    assert_eq!(
        keys(&store, "p/log/", None, 10).await,
        ["p/log/01", "p/log/02", "p/log/10"]
    );
    assert_eq!(
        keys(&store, "p/log/", None, 2).await,
        ["p/log/01", "p/log/02"]
    );
    assert_eq!(
        keys(&store, "p/log/", Some("p/log/02"), 2).await,
        ["p/log/10"]
    );
    assert_eq!(
        keys(&store, "p/s/", None, 10).await,
        ["p/s/01-x", "p/s/01/a-1"]
    );
    assert_eq!(keys(&store, "none/", None, 10).await, Vec::<String>::new());
    assert_eq!(keys(&store, "p/log/", None, 0).await, Vec::<String>::new());
    let whole = ObjectMeta {
        key: "q/log/01".to_owned(),
        size: 4,
    };
    assert_eq!(store.list("q/", None, 10).await, Ok(vec![whole]));
    let (kind, text) = failure_of(store.list("p/log", None, 10).await);
    assert_eq!(kind, "fatal");
    assert!(text.contains("must end with a slash"), "{text}");
}

#[tokio::test]
async fn more_objects_than_a_page_are_listed_and_deleted_and_requests_are_reported() {
    const OBJECTS: usize = 1003;
    let bucket = Bucket::make("pages").await;
    let counted = Counted::default();
    let store = bucket.store_at(moto().endpoint(), counted.options());
    let names: Vec<String> = (0..OBJECTS).map(|n| format!("p/{n:05}")).collect();
    iter(&names)
        .map(|name| store.create(name, bytes("x")))
        .buffer_unordered(16)
        .try_for_each(|created| async move {
            assert_eq!(created, Created::Stored);
            Ok(())
        })
        .await
        .unwrap();
    let put = (S3Operation::PutObject, S3Outcome::Done, 1);
    assert_eq!(counted.take(), [put; OBJECTS]);

    let list = (S3Operation::ListObjectsV2, S3Outcome::Done, 0);
    assert_eq!(keys(&store, "p/", None, 1000).await, names[..1000]);
    assert_eq!(counted.take(), [list]);
    assert_eq!(keys(&store, "p/", None, 1002).await, names[..1002]);
    assert_eq!(counted.take(), [list; 2]);
    assert_eq!(keys(&store, "p/", None, 5000).await, names);
    assert_eq!(counted.take(), [list; 2]);
    assert_eq!(keys(&store, "p/", Some(&names[1]), 5000).await, names[2..]);
    counted.take();

    // A missing object is not an error; neither is a repeated deletion.
    let mut gone = names.clone();
    gone.push("p/never".to_owned());
    let delete = (S3Operation::DeleteObjects, S3Outcome::Done, 0);
    for _ in 0..2 {
        assert_eq!(store.delete(&gone).await, Ok(()));
        assert_eq!(counted.take(), [delete; 2]);
    }
    assert_eq!(keys(&store, "p/", None, 10).await, Vec::<String>::new());
    counted.take();
    assert_eq!(store.delete(&[]).await, Ok(()));
    assert_eq!(counted.take(), []);
}

#[tokio::test]
async fn rejections_are_distinguished_from_failures() {
    let bucket = Bucket::make("outcomes").await;
    let counted = Counted::default();
    let store = bucket.store_at(moto().endpoint(), counted.options());
    store.create("a", bytes("123")).await.unwrap();
    store.create("a", bytes("1")).await.unwrap();
    store.get("a").await.unwrap();
    store.get("b").await.unwrap();
    store.get_range("a", 7..9).await.unwrap();
    assert_eq!(
        counted.take(),
        [
            (S3Operation::PutObject, S3Outcome::Done, 3),
            (S3Operation::PutObject, S3Outcome::Refused, 0),
            (S3Operation::GetObject, S3Outcome::Done, 3),
            (S3Operation::GetObject, S3Outcome::Refused, 0),
            (S3Operation::GetObject, S3Outcome::Refused, 0),
        ]
    );
}

#[tokio::test]
async fn objects_are_encrypted_and_carry_a_checksum_as_configured() {
    let bucket = Bucket::make("encryption").await;
    let kms = Encryption::Kms {
        key_id: Some("alias/of-the-test".to_owned()),
    };
    for (key, encryption, algorithm) in [
        ("s3", Encryption::S3, ServerSideEncryption::Aes256),
        ("kms", kms, ServerSideEncryption::AwsKms),
    ] {
        let options = S3Options {
            encryption,
            ..S3Options::default()
        };
        let store = bucket.store_at(moto().endpoint(), options);
        // In one part, and in several.
        for (name, object) in [
            ("small", bytes("123456789")),
            ("large", super::noise(17 << 20)),
        ] {
            let key = format!("{key}/{name}");
            store.create(&key, object).await.unwrap();
            let head = bucket.client.head_object().bucket(&bucket.name).key(&key);
            let head = head.send().await.unwrap();
            assert_eq!(head.server_side_encryption(), Some(&algorithm), "{key}");
            if algorithm == ServerSideEncryption::AwsKms {
                assert_eq!(head.ssekms_key_id(), Some("alias/of-the-test"), "{key}");
                // moto loses this for objects in parts.
                let bucket_key = (name == "small").then_some(true);
                assert_eq!(head.bucket_key_enabled(), bucket_key, "{key}");
            }
            let get = bucket.client.get_object().bucket(&bucket.name).key(&key);
            let get = get.checksum_mode(ChecksumMode::Enabled).send().await;
            let checksum = get.unwrap().checksum_crc32_c.unwrap();
            if name == "small" {
                // The check value of CRC-32C, 0xE3069283.
                assert_eq!(checksum, "4waSgw==", "{key}");
            } else {
                assert!(checksum.ends_with("-3"), "{checksum}: of three parts");
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_is_not_portable_is_rejected_without_a_request() {
    let bucket = Bucket::make("keys").await;
    let counted = Counted::default();
    let store = bucket.store_at(moto().endpoint(), counted.options());
    for key in [
        "", "a//b", "/a", "a/../b", ".a", "a b", "a\u{e4}", "a?b", "a\0",
    ] {
        for answer in [
            store.get(key).await.map(drop),
            store.get_range(key, 0..1).await.map(drop),
            store.create(key, bytes("x")).await.map(drop),
            store.delete(&[key.to_owned()]).await,
        ] {
            assert_eq!(failure_of(answer).0, "fatal", "{key:?}");
        }
    }
    assert_eq!(counted.take(), []);
}
