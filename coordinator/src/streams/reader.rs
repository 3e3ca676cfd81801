//! Reading a stream from a place on, and following it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::streams::error::StreamError;
use crate::streams::frame::HEAD_BYTES;
use crate::streams::log::Log;
use crate::streams::record::{ReadFrom, Record, SequenceNumber};
use crate::streams::scan::{Scan, Step};
use crate::streams::stream::Stream;

/// How often a reader that waits looks whether another process appended.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Reads the records of one stream in order.
#[derive(Debug)]
pub struct Reader {
    stream: Stream,
    file: Arc<File>,
    path: PathBuf,
    place: Place,
    end: watch::Receiver<u64>,
}

/// The next record to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// Where its frame begins.
    offset: u64,
    /// How many records of that frame come before it.
    skip: usize,
}

impl Reader {
    pub(crate) async fn open(stream: Stream, from: ReadFrom) -> Result<Self, StreamError> {
        stream.refresh().await?;
        let end = stream.watch_end();
        let name = stream.name().to_owned();
        let located = stream.with_log(move |log| {
            let place = locate(&name, log, from)?;
            Ok((log.file(), log.path().to_owned(), place))
        });
        let (file, path, place) = located.await?;
        Ok(Self {
            stream,
            file,
            path,
            place,
            end,
        })
    }

    /// The next records: at most `records_max` (at least 1), and no further one after `bytes_max` bytes of data. None if all were read.
    /// Safe to cancel: the place changes only with the answer.
    ///
    /// # Errors
    /// Damage, or what the file system says.
    pub async fn next(
        &mut self,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, StreamError> {
        let end = *self.end.borrow_and_update();
        if end == self.place.offset {
            return Ok(Vec::new());
        }
        let (file, place) = (Arc::clone(&self.file), self.place);
        let (name, path) = (self.stream.name().to_owned(), self.path.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let read = read_on(&file, place, end, records_max.max(1), bytes_max);
            read.map_err(|error| error.of(&name, &path))
        });
        let (records, place) = reading.await.unwrap_or(Err(StreamError::Stopped))?;
        self.place = place;
        Ok(records)
    }

    /// Waits until there is more than was read. Safe to cancel.
    ///
    /// # Errors
    /// What was found wrong while looking for records of another process.
    pub async fn wait(&mut self) -> Result<(), StreamError> {
        loop {
            if *self.end.borrow_and_update() > self.place.offset {
                return Ok(());
            }
            match tokio::time::timeout(LOOK_INTERVAL, self.end.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(StreamError::Stopped),
                Err(_) => self.stream.refresh().await?,
            }
        }
    }

    /// The next records as [`Reader::next`] gives them, waiting until there are some.
    ///
    /// # Errors
    /// As for [`Reader::next`].
    pub async fn follow(
        &mut self,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, StreamError> {
        loop {
            let records = self.next(records_max, bytes_max).await?;
            if !records.is_empty() {
                return Ok(records);
            }
            self.wait().await?;
        }
    }
}

fn locate(stream: &str, log: &Log, from: ReadFrom) -> Result<Place, StreamError> {
    let at = |number: SequenceNumber, asked: SequenceNumber| {
        if number > log.next() {
            return Err(StreamError::UnknownPosition {
                stream: stream.to_owned(),
                sequence_number: asked.to_string(),
                next: log.next().to_string(),
            });
        }
        let begin = log.index().before_number(number);
        find(stream, log, begin, |record| {
            record.sequence_number >= number
        })
    };
    match from {
        ReadFrom::Earliest => Ok(Place {
            offset: HEAD_BYTES as u64,
            skip: 0,
        }),
        ReadFrom::Latest => Ok(Place {
            offset: log.end(),
            skip: 0,
        }),
        ReadFrom::At(number) => at(number, number),
        ReadFrom::After(number) => at(number.plus(1), number),
        ReadFrom::AtTime(time_ms) => {
            let begin = log.index().before_time(time_ms);
            find(stream, log, begin, |record| record.time_ms >= time_ms)
        }
    }
}

/// The first record from the frame at `begin` on that `is_it`, else the end.
fn find(
    stream: &str,
    log: &Log,
    begin: u64,
    is_it: impl Fn(&Record) -> bool,
) -> Result<Place, StreamError> {
    let file = log.file();
    let mut scan = Scan::new(&file, begin, log.end());
    loop {
        let step = step(&mut scan).map_err(|error| error.of(stream, log.path()))?;
        let Some((offset, records)) = step else {
            return Ok(Place {
                offset: log.end(),
                skip: 0,
            });
        };
        if let Some(skip) = records.iter().position(&is_it) {
            return Ok(Place { offset, skip });
        }
    }
}

fn read_on(
    file: &File,
    place: Place,
    end: u64,
    records_max: usize,
    bytes_max: usize,
) -> Result<(Vec<Record>, Place), ReadError> {
    let mut scan = Scan::new(file, place.offset, end);
    let mut read = Vec::new();
    let mut bytes = 0;
    let mut skip = place.skip;
    while let Some((offset, records)) = step(&mut scan)? {
        for (index, record) in records.into_iter().enumerate().skip(skip) {
            if read.len() == records_max || (!read.is_empty() && bytes >= bytes_max) {
                let place = Place {
                    offset,
                    skip: index,
                };
                return Ok((read, place));
            }
            bytes += record.data.len();
            read.push(record);
        }
        skip = 0;
    }
    let place = Place {
        offset: end,
        skip: 0,
    };
    Ok((read, place))
}

/// The next frame of what is known to be whole.
fn step(scan: &mut Scan<'_>) -> Result<Option<(u64, Vec<Record>)>, ReadError> {
    match scan.step() {
        Ok(Step::Frame(offset, frame)) => Ok(Some((offset, frame.records))),
        Ok(Step::End) => Ok(None),
        Ok(Step::Unfinished(offset)) => Err(ReadError::Damaged(
            offset,
            "the file is shorter than it was".to_owned(),
        )),
        Ok(Step::Damaged(offset, reason)) => Err(ReadError::Damaged(offset, reason)),
        Err(error) => Err(ReadError::Io(error)),
    }
}

enum ReadError {
    Io(std::io::Error),
    Damaged(u64, String),
}

impl ReadError {
    fn of(self, stream: &str, path: &Path) -> StreamError {
        match self {
            Self::Io(error) => StreamError::Io {
                stream: stream.to_owned(),
                action: "read its file",
                message: error.to_string(),
            },
            Self::Damaged(offset, reason) => StreamError::Damaged {
                stream: stream.to_owned(),
                path: path.to_owned(),
                offset,
                reason,
            },
        }
    }
}
