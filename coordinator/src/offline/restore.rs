//! A new root with the content of another one, as it is, was at a moment, or as a savepoint keeps it: a fork.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use satchel_log::{At, Source};
use satchel_storage::{Content, ReadError};

use super::filling::{NewRoot, begin, unmade};
use super::moment::parse_at;
use super::past::unread;
use super::place::{RETRY, Root, on_trouble};
use crate::cli::{Exit, Failure};
use crate::store::s3::S3Options;
use crate::store::{Opened, Place, SystemClock};

/// What is restored: `<root>`, or `<root>@<time or savepoint>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The root that is read; it stays as it is.
    pub place: Place,
    /// Which of its states.
    pub at: At,
    text: String,
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let of = |place: &str, at| {
            Ok(Self {
                place: place.parse()?,
                at,
                text: text.to_owned(),
            })
        };
        match text.rsplit_once('@') {
            // A name of a directory may hold the sign.
            Some((place, at)) if !at.contains('/') => of(place, parse_at(at)?),
            _ => of(text, At::Latest),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The root that a restore makes.
pub struct Fork<'a> {
    /// Where it is made.
    pub opened: &'a Opened,
    /// How people call that place.
    pub place: &'a str,
    /// The application that will run on it.
    pub application: &'a str,
}

/// What was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Facts: states, messages, timers, records of the outbox and so on.
    pub facts: u64,
}

/// Makes the root `fork` of `origin`, with everything that belongs to the application: state, mailboxes, timers, outbox, answers under idempotency
/// keys, dead letters, positions. The original is only read; its owner may be at work. The fork is held ([`satchel_engine::durable::Hold`]). A fork that was left
/// unfinished is gone on with.
///
/// The content is in memory once, until it is written.
///
/// # Errors
/// [`Exit::Damaged`] if something of the original is damaged or missing or can not be reached any more, or if the fork exists already;
/// [`Exit::Environment`] if a store does not answer.
pub async fn restore(
    origin: &Origin,
    s3: S3Options,
    fork: Fork<'_>,
    progress: impl FnMut(f64) + Send,
) -> Result<Restored, Failure> {
    let root = Root::open(&origin.place, s3).await?;
    let application = root.application(None).await?;
    if application.partitions != 1 {
        let message = format!(
            "{} has {} partitions: this version restores roots of one",
            origin.place, application.partitions
        );
        return Err(Failure::new(Exit::Damaged, message));
    }
    let source = Source {
        store: Arc::clone(root.store()),
        root: root.prefix().to_owned(),
        clock: Arc::new(SystemClock),
        retry: RETRY,
        on_trouble: on_trouble(),
    };
    let content = Content::read(&source, &application, origin.at, progress).await;
    let content = content.map_err(|error| match error {
        ReadError::History(error) => unread(error),
        ReadError::Malformed(problem) => {
            Failure::new(Exit::Damaged, format!("{origin}: {problem}"))
        }
    })?;
    let filling = begin(NewRoot {
        opened: fork.opened,
        place: fork.place,
        application: fork.application,
        making: format!("a restore of {origin}"),
        not_before_ms: content.committed_at_ms,
    })
    .await?;
    let facts = content.fork(filling, &origin.text).await;
    let facts = facts.map_err(|error| unmade(fork.place, error))?;
    Ok(Restored { facts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_root_and_a_time_or_a_savepoint_of_it() {
        let read = |text: &str| -> Result<(String, At), String> {
            let origin: Origin = text.parse()?;
            assert_eq!(origin.to_string(), text);
            Ok((origin.place.to_string(), origin.at))
        };
        let savepoint = At::Savepoint("before-monday".parse().unwrap());
        for (text, place, at) in [
            ("a/state", "a/state", At::Latest),
            ("me@home/state", "me@home/state", At::Latest),
            ("s3://roots/a@before-monday", "s3://roots/a", savepoint),
            ("a/state@1970-01-01T00:00:07Z", "a/state", At::Moment(7_000)),
        ] {
            assert_eq!(read(text), Ok((place.to_owned(), at)));
        }
        assert!(read("a@").is_err());
        assert!(read("a@.b").is_err());
        assert!(read("@monday").is_err());
        assert!(read("gs://a/b@monday").is_err());
    }
}
