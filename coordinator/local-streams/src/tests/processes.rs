//! Streams whose process is killed or meets a full disk. The test starts itself again as that
//! process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{data_from, open, ordinal, ordinals, read_all, record};
use crate::{Appended, NewRecord, ReadFrom, StreamError};

/// Environment variable that makes a copy of this test act as the other process, in this directory.
const OTHER_PROCESS: &str = "SATCHEL_TEST_STREAMS_DIRECTORY";

/// Starts the test `name` of this binary as another process, through a shell that first runs
/// `before`.
fn start_other(name: &str, directory: &Path, before: &str) -> Child {
    Command::new("sh")
        .arg("-c")
        .arg(format!("{before}\nexec \"$0\" \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .arg(format!("tests::processes::{name}"))
        .env(OTHER_PROCESS, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn acknowledged_records_survive_kill_9_in_the_middle_of_appends() {
    if let Some(directory) = std::env::var_os(OTHER_PROCESS) {
        return append_until_killed(Path::new(&directory)).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let name = "acknowledged_records_survive_kill_9_in_the_middle_of_appends";
    let mut acknowledged = 0;
    for round in 0..5 {
        let mut other = start_other(name, directory.path(), "");
        let lines = BufReader::new(other.stdout.take().unwrap()).lines();
        let mut enough = 0;
        for line in lines {
            let line = line.unwrap();
            if let Some(last) = line.strip_prefix("acknowledged ") {
                acknowledged = last.parse().unwrap();
                enough += 1;
            }
            if enough == 10 + round * 7 {
                other.kill().unwrap();
            }
        }
        assert!(!other.wait().unwrap().success());

        // The content is a prefix of what was sent, each record once, with everything that was
        // acknowledged.
        let stream = open(directory.path()).await;
        let records = read_all(&stream, ReadFrom::Earliest).await;
        let sent: Vec<u64> = records
            .iter()
            .map(|record| record.key.parse().unwrap())
            .collect();
        let expected: Vec<u64> = (1..=sent.len() as u64).collect();
        assert_eq!(sent, expected);
        assert!(
            sent.len() as u64 >= acknowledged,
            "{} < {acknowledged}",
            sent.len()
        );
    }
}

/// Appends records 1, 2, … as an exactly-once producer that starts from the beginning, and prints
/// acknowledged numbers.
async fn append_until_killed(directory: &Path) {
    let stream = open(directory).await;
    for next in 1.. {
        let records = vec![NewRecord {
            key: next.to_string(),
            explicit_hash_key: None,
            data: vec![7; 30_000].into(),
            time_ms: 0,
        }];
        if stream.append_from("outbox", next, records).await.unwrap() != Appended::Known {
            println!("acknowledged {next}");
        }
    }
}

#[tokio::test]
async fn after_a_full_disk_a_producer_must_resend_the_failed_append_before_later_ones() {
    if let Some(directory) = std::env::var_os(OTHER_PROCESS) {
        return meet_a_full_disk(Path::new(&directory)).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let name = "after_a_full_disk_a_producer_must_resend_the_failed_append_before_later_ones";
    // No file may exceed some tens of kilobytes. Writing more fails as on a full disk.
    let other = start_other(name, directory.path(), "trap '' XFSZ; ulimit -f 64");
    let output = other.wait_with_output().unwrap();
    let output_text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && output_text.contains("1 passed"),
        "{output_text}"
    );

    let stream = open(directory.path()).await;
    let data = data_from(&stream, ReadFrom::Earliest).await;
    let expected = [
        "four",
        "small",
        "five, smaller",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
    ];
    assert_eq!(data, expected);
}

async fn meet_a_full_disk(directory: &Path) {
    let stream = open(directory).await;
    let send =
        |number, data: &str| stream.append_from("outbox", number, vec![record("k", data, 0)]);
    assert_eq!(ordinals(send(4, "four").await), Ok(Some(vec![1])));
    let failed = send(5, &"x".repeat(1 << 20)).await.unwrap_err();
    assert!(matches!(failed, StreamError::Io { .. }), "{failed}");
    // Other producers continue. A later number of the same producer would make the failed one look
    // applied.
    let small = stream.append(record("k", "small", 0)).await;
    assert_eq!(small.map(ordinal), Ok(2));
    let refused = send(6, "six").await.unwrap_err();
    let expected = StreamError::OutOfOrder {
        stream: "names".to_owned(),
        producer: "outbox".to_owned(),
        number: 6,
        failed: 5,
    };
    assert_eq!(refused, expected);
    let five = send(5, "five, smaller").await;
    assert_eq!(ordinals(five), Ok(Some(vec![3])));
    assert_eq!(ordinals(send(6, "six").await), Ok(Some(vec![4])));

    // The same holds for a group, of which the first record is known already.
    let send_all = |records: &[(u64, &str)]| {
        let records = records.iter();
        let records = records.map(|(number, data)| (*number, record("k", data, 0)));
        stream.append_numbered("outbox", records.collect())
    };
    let large = "x".repeat(1 << 20);
    let failed = send_all(&[(6, "six"), (7, &large), (8, "eight")]).await;
    assert!(matches!(failed, Err(StreamError::Io { .. })), "{failed:?}");
    let refused = send_all(&[(8, "eight"), (9, "nine")]).await.unwrap_err();
    let expected = StreamError::OutOfOrder {
        stream: "names".to_owned(),
        producer: "outbox".to_owned(),
        number: 8,
        failed: 7,
    };
    assert_eq!(refused, expected);
    let seven = send_all(&[(6, "six"), (7, "seven"), (8, "eight")]).await;
    assert_eq!(ordinals(seven), Ok(Some(vec![5, 6])));
    let rest = send_all(&[(8, "eight"), (9, "nine"), (10, "ten")]).await;
    assert_eq!(ordinals(rest), Ok(Some(vec![7, 8])));
}
