use std::os::unix::fs::PermissionsExt;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::*;

fn store() -> (tempfile::TempDir, DirectoryStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = DirectoryStore::open(directory.path().join("root")).unwrap();
    (directory, store)
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn keys(
    store: &DirectoryStore,
    prefix: &str,
    after: Option<&str>,
    max: usize,
) -> Vec<String> {
    let listed = store.list(prefix, after, max).await.unwrap();
    listed.into_iter().map(|object| object.key).collect()
}

#[tokio::test]
async fn the_first_create_wins_and_the_object_never_changes() {
    let (_directory, store) = store();
    assert_eq!(
        store.create("a/b/1", bytes("one")).await,
        Ok(Created::Stored)
    );
    assert_eq!(
        store.create("a/b/1", bytes("two")).await,
        Ok(Created::Exists)
    );
    assert_eq!(store.get("a/b/1").await, Ok(Some(bytes("one"))));
    assert_eq!(store.get("a/b/2").await, Ok(None));
    assert_eq!(store.get("c/1").await, Ok(None));
}

#[tokio::test]
async fn of_many_racing_creates_through_several_stores_exactly_one_wins() {
    let (_directory, store) = store();
    for round in 0..20 {
        let key = format!("race/{round}");
        let answers: Vec<Created> = (0..16)
            .map(|racer| {
                let (store, key) = (DirectoryStore::open(store.path()).unwrap(), key.clone());
                async move {
                    // Opening sweeps: a racer whose temporary file was swept away must be able to
                    // write it again.
                    loop {
                        match store.create(&key, Bytes::from(vec![racer; 100])).await {
                            Ok(created) => return created,
                            Err(error) => assert!(error.is_retryable(), "{error}"),
                        }
                    }
                }
            })
            .collect::<FuturesUnordered<_>>()
            .collect()
            .await;
        let winners = answers.iter().filter(|answer| **answer == Created::Stored);
        assert_eq!(winners.count(), 1);
        let object = store.get(&key).await.unwrap().unwrap();
        assert!(object.len() == 100 && object.iter().all(|byte| *byte == object[0]));
    }
}

#[tokio::test]
async fn a_listing_is_ordered_paged_and_cut_to_its_prefix() {
    let (_directory, store) = store();
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
    assert_eq!(
        store.list("q/", None, 10).await,
        Ok(vec![ObjectMeta {
            key: "q/log/01".to_owned(),
            size: 4
        }])
    );
}

#[tokio::test]
async fn a_range_is_cut_to_the_object() {
    let (_directory, store) = store();
    store.create("a", bytes("0123456789")).await.unwrap();
    assert_eq!(store.get_range("a", 2..5).await, Ok(Some(bytes("234"))));
    assert_eq!(store.get_range("a", 8..50).await, Ok(Some(bytes("89"))));
    assert_eq!(store.get_range("a", 40..50).await, Ok(Some(bytes(""))));
    assert_eq!(store.get_range("b", 0..1).await, Ok(None));
}

#[tokio::test]
async fn what_is_deleted_is_gone_and_deleting_it_again_is_no_error() {
    let (_directory, store) = store();
    store.create("a/1", bytes("1")).await.unwrap();
    store.create("a/2", bytes("2")).await.unwrap();
    let gone = ["a/1".to_owned(), "a/3".to_owned(), "b/1".to_owned()];
    assert_eq!(store.delete(&gone).await, Ok(()));
    assert_eq!(store.delete(&gone).await, Ok(()));
    assert_eq!(keys(&store, "a/", None, 10).await, ["a/2"]);
}

#[tokio::test]
async fn who_deletes_one_object_exactly_takes_nothing_from_the_next_of_its_key() {
    let (_directory, store) = store();
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
async fn no_key_leads_out_of_the_directory() {
    let (directory, store) = store();
    fs::write(directory.path().join("outside"), "secret").unwrap();
    for key in [
        "../outside",
        "a/../../outside",
        "/etc/passwd",
        "",
        "a//b",
        ".",
        ".temporary/x",
        "a\\b",
        "a\0b",
    ] {
        let refused = |result: Result<(), StoreError>| {
            assert!(matches!(result, Err(StoreError::Fatal { .. })), "{key:?}");
        };
        refused(store.get(key).await.map(drop));
        refused(store.create(key, bytes("x")).await.map(drop));
        refused(store.delete(&[key.to_owned()]).await);
    }
    assert_eq!(
        fs::read_to_string(directory.path().join("outside")).unwrap(),
        "secret"
    );
}

#[tokio::test]
async fn leftover_temporary_files_are_invisible_and_swept_at_the_next_start() {
    let (_directory, store) = store();
    let leftover = store.path().join(TEMPORARY).join("123-left");
    fs::write(&leftover, "half an obj").unwrap();
    store.create("a/1", bytes("1")).await.unwrap();
    assert_eq!(keys(&store, "", None, 10).await, ["a/1"]);
    let again = DirectoryStore::open(store.path()).unwrap();
    assert!(!leftover.exists());
    assert_eq!(again.get("a/1").await, Ok(Some(bytes("1"))));
    let temporary = fs::read_dir(store.path().join(TEMPORARY)).unwrap();
    assert_eq!(temporary.count(), 0);
}

#[test]
fn a_full_disk_is_worth_another_try_and_missing_permission_is_not() {
    let full = failed("log/1", &io::Error::from(ErrorKind::StorageFull));
    assert!(full.is_retryable());
    assert!(
        full.to_string()
            .starts_with("log/1: the store is not available: no space left")
    );
    let denied = failed("log/1", &io::Error::from(ErrorKind::PermissionDenied));
    assert!(!denied.is_retryable());
}

#[tokio::test]
async fn opening_a_directory_that_cannot_be_made_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    let error = DirectoryStore::open(file.join("root")).unwrap_err();
    assert!(error.to_string().contains("file/root"), "{error}");
}

#[tokio::test]
async fn what_is_not_a_file_is_named_and_never_waited_for() {
    let (_directory, store) = store();
    store.create("a/file", bytes("one")).await.unwrap();
    let of = |name: &str| store.path().join("a").join(name);
    std::fs::create_dir(of("directory")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(of("fifo"))
        .status();
    assert!(made.unwrap().success());
    std::os::unix::fs::symlink("/dev/zero", of("device")).unwrap();
    for (name, what) in [
        ("directory", "a directory"),
        ("fifo", "a FIFO"),
        ("device", "a device"),
    ] {
        let key = format!("a/{name}");
        let expected = format!(
            "{} is {what}, not the file of an object",
            of(name).display()
        );
        for error in [
            store.get(&key).await.unwrap_err(),
            store.get_range(&key, 0..1).await.unwrap_err(),
        ] {
            assert!(!error.is_retryable(), "{error}");
            assert!(error.to_string().contains(&expected), "{error}");
        }
        // An object cannot be stored there either.
        assert_eq!(store.create(&key, bytes("two")).await, Ok(Created::Exists));
    }
}

#[tokio::test]
async fn an_object_larger_than_any_is_refused_before_it_is_read() {
    let (_directory, store) = store();
    store.create("a/sparse", bytes("one")).await.unwrap();
    let file = File::options()
        .write(true)
        .open(store.path().join("a/sparse"));
    file.unwrap().set_len(OBJECT_BYTES_MAX + 1).unwrap();
    let error = store.get("a/sparse").await.unwrap_err();
    assert!(!error.is_retryable());
    assert!(
        error.to_string().contains("it has 8589934593 bytes"),
        "{error}"
    );
    let start = store.get_range("a/sparse", 0..3).await.unwrap();
    assert_eq!(start, Some(bytes("one")));
}
