//! Where a root of durable data lies.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use satchel_log::{Application, Layout, LogError, ObjectStore, OnTrouble, Retry, Trouble};

use crate::cli::{Exit, Failure};
use crate::store::s3::{S3Options, S3Url};
use crate::store::{DirectoryStore, S3Store};

/// How requests to the store are repeated: nobody waits longer than this for a command to say that the store cannot be reached.
pub(super) const RETRY: Retry = Retry {
    initial_ms: 100,
    max_ms: 2_000,
    give_up_ms: Some(15_000),
};

/// What `--state` names: a directory of this machine, or `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory; that of `satchel dev` is `<data-dir>/state`.
    Directory(PathBuf),
    /// A prefix in a bucket.
    S3(S3Url),
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

/// A place that was opened.
#[derive(Clone)]
pub struct Root {
    /// Where its objects are.
    pub store: Arc<dyn ObjectStore>,
    /// What all their keys begin with, without a slash at its end.
    pub prefix: String,
    /// The bucket, if it is one.
    pub(super) bucket: Option<S3Store>,
    place: Place,
}

impl Place {
    /// Opens it for reading. Nothing is made: a directory must exist.
    ///
    /// # Errors
    /// [`Exit::Environment`] if it does not exist or cannot be reached.
    pub async fn open(&self) -> Result<Root, Failure> {
        match self {
            Self::Directory(path) => {
                let store = DirectoryStore::open_existing(path).map_err(unopened)?;
                Ok(self.directory(store))
            }
            Self::S3(url) => self.connect(url).await,
        }
    }

    /// Opens it for a new root; a directory is made if there is none.
    ///
    /// # Errors
    /// [`Exit::Environment`] if it cannot be made or reached.
    pub async fn open_new(&self) -> Result<Root, Failure> {
        match self {
            Self::Directory(path) => {
                let store = DirectoryStore::open(path).map_err(unopened)?;
                Ok(self.directory(store))
            }
            Self::S3(url) => self.connect(url).await,
        }
    }

    fn directory(&self, store: DirectoryStore) -> Root {
        Root {
            store: Arc::new(store),
            prefix: String::new(),
            bucket: None,
            place: self.clone(),
        }
    }

    async fn connect(&self, url: &S3Url) -> Result<Root, Failure> {
        let store = S3Store::connect(&url.bucket, S3Options::default())
            .await
            .map_err(|error| Failure::new(Exit::Environment, error.to_string()))?;
        Ok(Root {
            store: Arc::new(store.clone()),
            prefix: url.prefix.clone(),
            bucket: Some(store),
            place: self.clone(),
        })
    }
}

impl Root {
    /// Where it lies, as it was written.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The names of one partition's objects.
    pub fn layout(&self, partition: u32) -> Layout {
        Layout::new(&self.prefix, partition)
    }

    /// Whose root it is.
    ///
    /// # Errors
    /// [`Exit::Environment`] if this is no root, or cannot be reached; [`Exit::Damaged`] if the record of it is damaged or lost, or names
    /// another application than `expected`.
    pub async fn application(&self, expected: Option<&str>) -> Result<Application, Failure> {
        let key = self.layout(0).application().to_owned();
        let Some(object) = self.read(&key).await? else {
            self.must_be_a_root().await?;
            let reason = "without it nothing tells whose root this is".to_owned();
            return Err(failure(LogError::Missing { key, reason }));
        };
        let application = Application::decode(&object).map_err(|defect| {
            failure(LogError::Damaged {
                key: key.clone(),
                defect,
            })
        })?;
        match foreign(&application, expected, key) {
            Some(error) => Err(failure(error)),
            None => Ok(application),
        }
    }

    /// Makes sure that there is anything of a root.
    pub(super) async fn must_be_a_root(&self) -> Result<(), Failure> {
        let key = self.layout(0).application().to_owned();
        if self.read(&key).await?.is_some() || self.holds_partitions().await? {
            return Ok(());
        }
        let mut message = format!("{} holds no durable state of an application", self.place);
        if let Place::Directory(path) = &self.place
            && is_root(&path.join("state"))
        {
            let within = path.join("state");
            message = format!("{message}; {} does", within.display());
        }
        Err(Failure::new(Exit::Environment, message))
    }

    /// Whether something lies where the partitions of a root would.
    pub(super) async fn holds_partitions(&self) -> Result<bool, Failure> {
        let partitions = match self.prefix.as_str() {
            "" => "partitions/".to_owned(),
            prefix => format!("{prefix}/partitions/"),
        };
        let listed = self.store.list(&partitions, None, 1).await;
        Ok(!listed.map_err(|error| failure(error.into()))?.is_empty())
    }

    async fn read(&self, key: &str) -> Result<Option<bytes::Bytes>, Failure> {
        let read = self.store.get(key).await;
        read.map_err(|error| failure(error.into()))
    }
}

/// What is wrong if the root must be of `expected`.
pub(super) fn foreign(
    application: &Application,
    expected: Option<&str>,
    key: String,
) -> Option<LogError> {
    let found = &application.application;
    let expected = expected.filter(|expected| expected != found)?;
    Some(LogError::Foreign {
        key,
        field: "application",
        found: format!("{found:?}"),
        expected: format!("{expected:?}"),
    })
}

/// How a command ends for the sake of the durable data or its store.
#[allow(clippy::needless_pass_by_value, reason = "what `map_err` takes")]
pub(super) fn failure(error: LogError) -> Failure {
    crate::runtime::node::log_failure(error)
}

/// Says once for each request that the store does not answer well.
pub(super) fn on_trouble() -> OnTrouble {
    Arc::new(|trouble: Trouble| {
        if trouble.attempts == 1 {
            eprintln!("satchel: {}; asking again", trouble.error);
        }
    })
}

fn is_root(path: &Path) -> bool {
    path.join("application").is_file()
}

#[allow(clippy::needless_pass_by_value, reason = "what `map_err` takes")]
fn unopened(error: std::io::Error) -> Failure {
    Failure::new(Exit::Environment, format!("the state (--state): {error}"))
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
