use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{data_from, open, ordinal, record};
use crate::{ReadFrom, StreamError, Streams};

/// The first file of a stream.
const FILE: &str = "segment-00000000000000000001";

/// Writes three acknowledged records. Returns the file and the end offset of each record.
async fn written(directory: &Path) -> (PathBuf, Vec<u64>) {
    let stream = open(directory).await;
    let file = directory.join("names").join(FILE);
    let mut ends = Vec::new();
    for data in ["first", "second", "third"] {
        stream.append(record("key", data, 7)).await.unwrap();
        ends.push(std::fs::metadata(&file).unwrap().len());
    }
    (file, ends)
}

async fn reopen(directory: &Path) -> Result<Vec<String>, StreamError> {
    let streams = Streams::durable(directory.to_owned());
    let stream = streams.stream("names").await?;
    Ok(data_from(&stream, ReadFrom::Earliest).await)
}

#[tokio::test]
async fn an_unfinished_record_at_the_end_is_cut_off_and_its_number_assigned_again() {
    let directory = tempfile::tempdir().unwrap();
    let (path, ends) = written(directory.path()).await;
    let whole = std::fs::read(&path).unwrap();
    // A crash may leave any prefix of a fourth record, which equals the third one but for its
    // offset.
    let stream = open(directory.path()).await;
    stream.append(record("key", "fourth", 7)).await.unwrap();
    drop(stream);
    let with_fourth = std::fs::read(&path).unwrap();
    for length in whole.len() + 1..with_fourth.len() {
        // The head from before the fourth record was acknowledged.
        let mut torn = with_fourth[..length].to_vec();
        torn[..32].copy_from_slice(&whole[..32]);
        std::fs::write(&path, &torn).unwrap();
        let read = reopen(directory.path()).await;
        assert_eq!(
            read.as_deref(),
            Ok(&["first", "second", "third"].map(str::to_owned)[..])
        );
        assert_eq!(std::fs::metadata(&path).unwrap().len(), ends[2], "cut off");
    }
    let stream = open(directory.path()).await;
    let again = stream.append(record("key", "again", 7)).await;
    assert_eq!(again.map(ordinal), Ok(4));
}

#[tokio::test]
async fn zeros_at_the_end_are_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let (path, ends) = written(directory.path()).await;
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(&[0; 5_000]).unwrap();
    let read = reopen(directory.path()).await;
    assert_eq!(read.map(|records| records.len()), Ok(3));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), ends[2]);
}

#[tokio::test]
async fn a_missing_acknowledged_record_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let (path, ends) = written(directory.path()).await;
    let whole = std::fs::read(&path).unwrap();
    for length in [ends[1], ends[1] + 1, ends[2] - 1] {
        std::fs::write(&path, &whole[..length as usize]).unwrap();
        let refused = reopen(directory.path()).await.unwrap_err();
        let StreamError::Damaged {
            stream,
            path: named,
            offset,
            reason,
        } = refused
        else {
            panic!("{refused}");
        };
        assert_eq!(
            (stream.as_str(), named, offset),
            ("names", path.clone(), ends[1])
        );
        assert!(
            reason.contains(&format!("up to byte {} were acknowledged", ends[2])),
            "{reason}"
        );
        assert_eq!(
            std::fs::metadata(&path).unwrap().len(),
            length,
            "left alone"
        );
    }
}

#[tokio::test]
async fn every_changed_byte_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let (path, _) = written(directory.path()).await;
    let whole = std::fs::read(&path).unwrap();
    for offset in 0..whole.len() {
        let mut changed = whole.clone();
        changed[offset] ^= 0x40;
        std::fs::write(&path, &changed).unwrap();
        let refused = reopen(directory.path()).await.unwrap_err();
        assert!(refused.is_damage(), "byte {offset}: {refused}");
        assert!(refused.to_string().contains(&path.display().to_string()));
    }
}

#[tokio::test]
async fn a_file_that_was_shortened_while_open_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let stream = open(directory.path()).await;
    stream.append(record("key", "first", 7)).await.unwrap();
    let path = directory.path().join("names").join(FILE);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length - 10).unwrap();
    let refused = stream.append(record("key", "second", 7)).await.unwrap_err();
    assert!(refused.is_damage(), "{refused}");
}

#[tokio::test]
async fn a_file_of_something_else_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("names")).unwrap();
    let path = directory.path().join("names").join(FILE);
    for content in [
        "short",
        "a text that is longer than the head of a stream is",
    ] {
        std::fs::write(&path, content).unwrap();
        let refused = reopen(directory.path()).await.unwrap_err();
        assert!(refused.is_damage(), "{refused}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
    }
}
