//! Locations of durable state, and access to them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
#[cfg(feature = "aws")]
use std::time::Duration;

use satchel_log::{ObjectStore, StoreError};

use super::DirectoryStore;
use super::LogLocation;
use super::counted::{Counted, OnWritten};
#[cfg(feature = "aws")]
use super::s3::S3Store;
use super::s3::{S3Options, S3Url};
#[cfg(feature = "aws")]
use super::tabled;
use crate::error::{Exit, Failure};

/// First pause before a repeated check of a bucket. It doubles with each repetition.
#[cfg(feature = "aws")]
const CHECK_WAIT: Duration = Duration::from_millis(250);
/// Pause at which the check gives up, after about 15 s in total.
#[cfg(feature = "aws")]
const CHECK_WAIT_MAX: Duration = Duration::from_secs(8);

/// Location of a root of durable data, as `--state` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateLocation {
    /// Directory of this machine. Default of `satchel dev`: `<data-dir>/state`.
    Directory(PathBuf),
    /// Prefix in a bucket: `s3://bucket/prefix`.
    S3(S3Url),
}

/// Options for opening a location.
#[derive(Clone)]
#[cfg_attr(not(feature = "aws"), derive(Default))]
pub struct StoreOptions {
    /// Options of a bucket.
    pub s3: S3Options,
    /// Hook called with the size of every file that is written into a directory.
    pub on_written: Option<OnWritten>,
    /// Location of the log of a new root in a bucket; `None` for the bucket. An existing root
    /// knows its own, and another one is refused.
    pub log: Option<LogLocation>,
    /// True if the table of the log of a new root is created if there is none.
    pub create_log_table: bool,
    /// Hook called after every request to the table of the log.
    #[cfg(feature = "aws")]
    pub on_table_request: satchel_aws::log_table::OnTableRequest,
}

#[cfg(feature = "aws")]
impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            s3: S3Options::default(),
            on_written: None,
            log: None,
            create_log_table: false,
            on_table_request: satchel_aws::log_table::unobserved(),
        }
    }
}

/// Kind of a store, which determines what a commit costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// A directory or memory: a commit costs nothing.
    Local,
    /// A bucket: a commit is a PUT.
    Bucket,
    /// A bucket whose log is in a table: a commit is an item, which costs an eighth of a PUT.
    Table,
}

/// Open store of durable state.
#[derive(Clone)]
pub struct StateStore {
    /// Store of the objects.
    pub store: Arc<dyn ObjectStore>,
    /// Common prefix of all keys, without a trailing slash: the root's name for the log.
    pub prefix: String,
    /// The bucket, if the store is one.
    #[cfg(feature = "aws")]
    pub(super) bucket: Option<S3Store>,
}

impl StateLocation {
    /// Opens the location for reading. Creates nothing: a directory must exist. Credentials and
    /// region are those of the AWS SDKs' default chain.
    ///
    /// # Errors
    ///
    /// [`Exit::Environment`] if the location does not exist or cannot be reached.
    pub async fn open(&self, options: StoreOptions) -> Result<StateStore, Failure> {
        self.open_as(options, DirectoryStore::open_existing).await
    }

    /// Opens the location for an owner, or for a new root. Creates a missing directory. A bucket
    /// must exist.
    ///
    /// # Errors
    ///
    /// [`Exit::Environment`] if the location cannot be created or reached.
    pub async fn open_new(&self, options: StoreOptions) -> Result<StateStore, Failure> {
        self.open_as(options, DirectoryStore::open).await
    }

    async fn open_as(
        &self,
        options: StoreOptions,
        directory: impl FnOnce(PathBuf) -> std::io::Result<DirectoryStore>,
    ) -> Result<StateStore, Failure> {
        match self {
            Self::Directory(path) => {
                if let Some(log) = &options.log {
                    let text = format!("--commit-log {log} needs state in a bucket, not in {self}");
                    return Err(Failure::new(Exit::Usage, text));
                }
                let store = directory(path.clone()).map_err(|error| {
                    let context = "the directory of the state (--state or --data-dir)";
                    Failure::caused(Exit::Environment, context, error)
                })?;
                Ok(StateStore::of(match options.on_written {
                    Some(on_written) => Arc::new(Counted::new(store, on_written)),
                    None => Arc::new(store),
                }))
            }
            #[cfg(not(feature = "aws"))]
            Self::S3(url) => Err(Failure::needs_aws(url)),
            #[cfg(feature = "aws")]
            Self::S3(url) => {
                let store = S3Store::connect(&url.bucket, options.s3.clone()).await;
                let store =
                    store.map_err(|error| Failure::caused(Exit::Environment, url, error))?;
                let bucket = StateStore {
                    store: Arc::new(store.clone()),
                    prefix: url.prefix.clone(),
                    bucket: Some(store),
                };
                tabled::join(bucket, url, &options).await
            }
        }
    }
}

impl StateStore {
    /// Wraps a store whose root is at its top.
    #[must_use]
    pub fn of(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            prefix: String::new(),
            #[cfg(feature = "aws")]
            bucket: None,
        }
    }

    /// Store of the objects besides the log, which may lie in a table.
    #[cfg(feature = "aws")]
    pub(crate) fn objects(&self) -> Arc<dyn ObjectStore> {
        match &self.bucket {
            Some(bucket) => Arc::new(bucket.clone()),
            None => Arc::clone(&self.store),
        }
    }

    /// Returns the kind of the store.
    pub fn kind(&self) -> StoreKind {
        #[cfg(feature = "aws")]
        let is_bucket = self.bucket.is_some();
        #[cfg(not(feature = "aws"))]
        let is_bucket = false;
        match self.store.table_location() {
            Some(_) => StoreKind::Table,
            None if is_bucket => StoreKind::Bucket,
            None => StoreKind::Local,
        }
    }

    /// Returns by how much the calendar of this machine was ahead of the store's at its last
    /// answer, in ms. A directory has no calendar of its own.
    pub fn calendar_ahead_ms(&self) -> Option<i64> {
        #[cfg(feature = "aws")]
        let ahead_ms = self.bucket.as_ref().and_then(S3Store::calendar_ahead_ms);
        #[cfg(not(feature = "aws"))]
        let ahead_ms = None;
        ahead_ms
    }

    /// Checks that the store refuses to create an object that exists, with the application's
    /// record as the object. Returns false if there was no such object yet, in a new root. A
    /// directory is known to refuse.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fatal`] if the store cannot hold a root; else as for its requests.
    #[cfg(feature = "aws")]
    pub async fn check_conditional_create(&self) -> Result<bool, StoreError> {
        let Some(bucket) = &self.bucket else {
            return Ok(true);
        };
        let layout = satchel_log::Layout::new(&self.prefix, 0);
        let key = layout.application();
        let mut wait = CHECK_WAIT;
        loop {
            match bucket.check_conditional_create(key).await {
                Err(error) if error.is_retryable() && wait < CHECK_WAIT_MAX => {
                    tracing::warn!(%error, "store request failed; retrying");
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                checked => return checked,
            }
        }
    }

    /// Returns true: a directory is known to refuse to create an object that exists.
    ///
    /// # Errors
    ///
    /// None without the feature `aws`.
    #[cfg(not(feature = "aws"))]
    #[allow(
        clippy::unused_async,
        reason = "the signature is that of the feature `aws`"
    )]
    pub async fn check_conditional_create(&self) -> Result<bool, StoreError> {
        Ok(true)
    }
}

impl FromStr for StateLocation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("write a directory, or s3://bucket/prefix".to_owned());
        }
        match text.split_once("://") {
            Some(("s3", _)) => match text.parse() {
                Ok(url) => Ok(Self::S3(url)),
                Err(error) => Err(format!("{error}")),
            },
            Some((scheme, _)) => Err(format!(
                "state cannot be at `{scheme}://`: write a directory, or s3://bucket/prefix"
            )),
            None => Ok(Self::Directory(PathBuf::from(text))),
        }
    }
}

impl fmt::Display for StateLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::S3(url) => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_directory_or_a_prefix_in_a_bucket() {
        let directory = |path: &str| Ok(StateLocation::Directory(PathBuf::from(path)));
        for path in ["a/b", "/a", ".", "s3:/a"] {
            assert_eq!(path.parse(), directory(path));
        }
        let s3: StateLocation = "s3://my-bucket/a/b".parse().unwrap();
        assert_eq!(s3.to_string(), "s3://my-bucket/a/b");
        assert!(
            matches!(s3, StateLocation::S3(url) if url.bucket == "my-bucket" && url.prefix == "a/b")
        );
    }

    #[test]
    fn other_schemes_are_refused_by_name() {
        for (text, named) in [
            ("", "write a directory"),
            ("s3://", "names no bucket"),
            ("gs://bucket/a", "`gs://`"),
        ] {
            let refused = text.parse::<StateLocation>().unwrap_err();
            assert!(refused.contains(named), "{refused}");
        }
    }
}
