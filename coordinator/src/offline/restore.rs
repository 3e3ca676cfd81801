//! Creating a fork: a new root with the content of another root, as it is, as it was at a moment,
//! or as a savepoint keeps it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use satchel_log::{Application, At};
use satchel_storage::fork::{Content, ReadError};
use satchel_storage::placement::recorded;

use super::moment::{note_of_moment, parse_at};
use super::new_root::{NewRoot, begin, create_failure};
use super::root::Root;
use super::states::read_failure;
use crate::clock::now_ms;
use crate::error::{Exit, Failure};
use crate::store::s3::S3Options;
use crate::store::{AskedPlacement, StateLocation, StateStore};

/// Number of times that the present state is read, and the time between two.
const TRIES: u32 = 3;
const BETWEEN_TRIES: Duration = Duration::from_millis(200);

/// Age of a moment at which every delta is durable or will never be seen, in ms.
const SETTLED_MS: u64 = 5_000;

/// Origin of a restore: `<root>`, or `<root>@<time or savepoint>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Root that is read. The restore does not change it.
    pub place: StateLocation,
    /// State of the root that is restored.
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
            // The name of a directory may contain the sign.
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

/// Root that a restore creates.
pub struct Fork<'a> {
    /// Place where the root is created.
    pub opened: &'a StateStore,
    /// The place as the user wrote it.
    pub place: &'a str,
    /// Application that will run on the root.
    pub application: &'a str,
    /// Placement that the root must have, as far as the user asks for one.
    pub placement: AskedPlacement,
}

/// Result of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Number of facts: states, messages, timers, records of the outbox and so on.
    pub facts: u64,
}

/// Creates the root `fork` from `origin`, with everything that belongs to the application: state,
/// mailboxes, timers, outbox, answers under idempotency keys, dead letters, positions.
///
/// The restore only reads the original, and an owner may be serving it. The fork begins held
/// ([`satchel_engine::durable::Hold`]), and keeps the placement and the partitions of its origin.
/// The restore resumes a fork that was left unfinished. It holds the whole content in memory until
/// it is written.
///
/// # Errors
/// [`Exit::Damaged`] if an object of the original is damaged or missing, if the history no longer
/// reaches back to the moment, or if the fork exists already; [`Exit::Environment`] if a store does
/// not answer.
pub async fn restore(
    origin: &Origin,
    s3: S3Options,
    fork: Fork<'_>,
    progress: impl FnMut(f64) + Send,
) -> Result<Restored, Failure> {
    let root = Root::open(&origin.place, s3).await?;
    let application = root.application(None).await?;
    let key = root.layout(0).application().to_owned();
    fork.placement.check(&key, &application)?;
    let content = read(origin, &root, &application, progress).await;
    let content = content.map_err(|error| match error {
        ReadError::History(error) => read_failure(error),
        error @ (ReadError::Malformed(_) | ReadError::NoCut { .. }) => {
            Failure::new(Exit::Damaged, format!("{origin}: {error}"))
        }
    })?;
    if let Some(note) = note_of_moment(origin.at, content.newest_ms, now_ms()) {
        tracing::warn!(origin = %origin, "{note}");
    }
    let writer = begin(NewRoot {
        opened: fork.opened,
        place: fork.place,
        application: fork.application,
        placement: recorded(&application),
        partitions: application.partitions,
        making: format!("a restore of {origin}"),
        not_before_ms: content.committed_at_ms,
    })
    .await?;
    let facts = content.fork(writer, &origin.text).await;
    let facts = facts.map_err(|error| create_failure(fork.place, error))?;
    Ok(Restored { facts })
}

/// Reads the content. Several partitions that are served while they are read one after the other
/// may be no cut. Then they are read again, and at last as of a moment before, which is one.
async fn read(
    origin: &Origin,
    root: &Root,
    application: &Application,
    mut progress: impl FnMut(f64) + Send,
) -> Result<Content, ReadError> {
    let source = root.source();
    for _ in 0..TRIES {
        let content = Content::read(&source, application, origin.at, &mut progress).await;
        match content {
            Err(ReadError::NoCut { .. }) if origin.at == At::Latest => {
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
            read => return read,
        }
    }
    let moment_ms = now_ms().saturating_sub(SETTLED_MS);
    tracing::info!(%origin, moment_ms, "partitions are served; a moment of theirs is read");
    Content::read(&source, application, At::Moment(moment_ms), progress).await
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
