//! A root of durable data that a tool works on.

use std::path::Path;
use std::sync::Arc;

use satchel_log::{Application, Layout, LogError, ObjectStore, OnTrouble, Retry, Trouble};

use crate::cli::{Exit, Failure};
use crate::store::s3::S3Options;
use crate::store::unfinished::refused;
use crate::store::{Opened, Place, PlaceOptions};

/// How requests to the store are repeated: nobody waits longer than this for a command to say that the store cannot be reached.
pub(super) const RETRY: Retry = Retry {
    initial_ms: 100,
    max_ms: 2_000,
    give_up_ms: Some(15_000),
};

/// A root that was opened.
#[derive(Clone)]
pub struct Root {
    pub(super) opened: Opened,
    place: Place,
}

impl Root {
    /// Opens it for reading. Nothing is made: a directory must exist.
    ///
    /// # Errors
    /// [`Exit::Environment`] if it does not exist or cannot be reached.
    pub async fn open(place: &Place, s3: S3Options) -> Result<Self, Failure> {
        let opened = place.open(options(s3)).await?;
        Ok(Self {
            opened,
            place: place.clone(),
        })
    }

    /// Opens it for a new root; a directory is made if there is none.
    ///
    /// # Errors
    /// [`Exit::Environment`] if it cannot be made or reached.
    pub async fn open_new(place: &Place, s3: S3Options) -> Result<Self, Failure> {
        let opened = place.open_new(options(s3)).await?;
        Ok(Self {
            opened,
            place: place.clone(),
        })
    }

    /// Where its objects are.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.opened.store
    }

    /// What all their keys begin with, without a slash at its end.
    pub fn prefix(&self) -> &str {
        &self.opened.prefix
    }

    /// Where it lies, as it was written.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The names of one partition's objects.
    pub fn layout(&self, partition: u32) -> Layout {
        Layout::new(self.prefix(), partition)
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
        let io = self.opened.io(RETRY);
        let whole = satchel_storage::refuse_unfinished(&io, self.prefix()).await;
        whole.map_err(refused)?;
        match foreign(&application, expected, key) {
            Some(error) => Err(failure(error)),
            None => Ok(application),
        }
    }

    /// Makes sure that there is anything of a root.
    pub(super) async fn must_be_a_root(&self) -> Result<(), Failure> {
        let key = self.layout(0).application().to_owned();
        if self.read(&key).await?.is_some() || holds_partitions(&self.opened).await? {
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

    async fn read(&self, key: &str) -> Result<Option<bytes::Bytes>, Failure> {
        let read = self.store().get(key).await;
        read.map_err(|error| failure(error.into()))
    }
}

/// Whether something lies where the partitions of a root would.
pub(super) async fn holds_partitions(opened: &Opened) -> Result<bool, Failure> {
    let partitions = match opened.prefix.as_str() {
        "" => "partitions/".to_owned(),
        prefix => format!("{prefix}/partitions/"),
    };
    let listed = opened.store.list(&partitions, None, 1).await;
    Ok(!listed.map_err(|error| failure(error.into()))?.is_empty())
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

fn options(s3: S3Options) -> PlaceOptions {
    PlaceOptions {
        s3,
        on_written: None,
    }
}
