//! What `--state` names, and opening it: from a text to a store that an owner or a tool can work on.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use satchel_log::{ObjectStore, StoreError};

use super::counted::{Counted, OnWritten};
use super::s3::{S3Options, S3Url};
use super::{DirectoryStore, S3Store};
use crate::cli::{Exit, Failure};
use crate::metrics::Metrics;

/// How long the check of a bucket waits before it asks again, doubling, and from where on it gives up: after some 15 s.
const CHECK_WAIT: Duration = Duration::from_millis(250);
const CHECK_WAIT_MAX: Duration = Duration::from_secs(8);

/// Where a root of durable data lies: a directory of this machine, or `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory; that of `satchel dev` is `<data-dir>/state`.
    Directory(PathBuf),
    /// A prefix in a bucket.
    S3(S3Url),
}

/// How a place is opened.
#[derive(Clone, Default)]
pub struct PlaceOptions {
    /// How a bucket is used.
    pub s3: S3Options,
    /// Is told about every file that is written into a directory.
    pub on_written: Option<OnWritten>,
}

impl PlaceOptions {
    /// The same, with every request and every file counted.
    #[must_use]
    pub fn counted(mut self, metrics: &Metrics) -> Self {
        let of_s3 = metrics.clone();
        self.s3.on_request = Arc::new(move |request| of_s3.observe_s3_request(request));
        let of_files = metrics.clone();
        self.on_written = Some(Arc::new(move |bytes| of_files.observe_file_written(bytes)));
        self
    }
}

/// A place that was opened.
#[derive(Clone)]
pub struct Opened {
    /// Where its objects are.
    pub store: Arc<dyn ObjectStore>,
    /// What all their keys begin with, without a slash at its end: the root's name for the log.
    pub prefix: String,
    /// The bucket, if it is one.
    bucket: Option<S3Store>,
}

impl Place {
    /// Opens it for reading. Nothing is made: a directory must exist. Credentials and region are those of the AWS SDKs' default chain.
    ///
    /// # Errors
    /// [`Exit::Environment`] if it does not exist or cannot be reached.
    pub async fn open(&self, options: PlaceOptions) -> Result<Opened, Failure> {
        self.open_as(options, DirectoryStore::open_existing).await
    }

    /// Opens it for an owner, or for a new root; a directory is made if there is none. A bucket must exist.
    ///
    /// # Errors
    /// [`Exit::Environment`] if it cannot be made or reached.
    pub async fn open_new(&self, options: PlaceOptions) -> Result<Opened, Failure> {
        self.open_as(options, DirectoryStore::open).await
    }

    async fn open_as(
        &self,
        options: PlaceOptions,
        directory: impl FnOnce(PathBuf) -> std::io::Result<DirectoryStore>,
    ) -> Result<Opened, Failure> {
        match self {
            Self::Directory(path) => {
                let store = directory(path.clone()).map_err(|error| {
                    Failure::new(
                        Exit::Environment,
                        format!("the directory of the state (--state or --data-dir): {error}"),
                    )
                })?;
                let store: Arc<dyn ObjectStore> = match options.on_written {
                    Some(on_written) => Arc::new(Counted::new(store, on_written)),
                    None => Arc::new(store),
                };
                Ok(Opened {
                    store,
                    prefix: String::new(),
                    bucket: None,
                })
            }
            Self::S3(url) => {
                let store = S3Store::connect(&url.bucket, options.s3).await;
                let store = store
                    .map_err(|error| Failure::new(Exit::Environment, format!("{url}: {error}")))?;
                Ok(Opened {
                    store: Arc::new(store.clone()),
                    prefix: url.prefix.clone(),
                    bucket: Some(store),
                })
            }
        }
    }
}

impl Opened {
    /// A store that was opened elsewhere, whose root is its top.
    #[must_use]
    pub fn of(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            prefix: String::new(),
            bucket: None,
        }
    }

    /// Makes sure that the store refuses to create an object that exists, as far as that can be seen by trying it on the application's record; says
    /// whether it could be: a root that is new has none yet. A directory is known to refuse.
    ///
    /// # Errors
    /// As of [`S3Store::check_conditional_create`].
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
                    tracing::warn!(%error, "the store did not answer well; the request is repeated");
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                checked => return checked,
            }
        }
    }
}

impl FromStr for Place {
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
                "`{scheme}://` is not a kind of place that state can lie in: write a directory, or s3://bucket/prefix"
            )),
            None => Ok(Self::Directory(PathBuf::from(text))),
        }
    }
}

impl fmt::Display for Place {
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
    fn a_place_is_a_directory_or_a_prefix_in_a_bucket() {
        let directory = |path: &str| Ok(Place::Directory(PathBuf::from(path)));
        for path in ["a/b", "/a", ".", "s3:/a"] {
            assert_eq!(path.parse(), directory(path));
        }
        let s3: Place = "s3://my-bucket/a/b".parse().unwrap();
        assert_eq!(s3.to_string(), "s3://my-bucket/a/b");
        assert!(matches!(s3, Place::S3(url) if url.bucket == "my-bucket" && url.prefix == "a/b"));
    }

    #[test]
    fn what_is_no_place_is_refused_by_name() {
        for (text, named) in [
            ("", "write a directory"),
            ("s3://", "names no bucket"),
            ("gs://bucket/a", "`gs://`"),
        ] {
            let refused = text.parse::<Place>().unwrap_err();
            assert!(refused.contains(named), "{refused}");
        }
    }
}
