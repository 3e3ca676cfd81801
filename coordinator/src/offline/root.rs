//! Access to the root that an offline tool works on.

use std::path::Path;
use std::sync::Arc;

use satchel_log::{
    Application, Layout, LogError, ObjectStore, OnStoreFailure, RECORD_BYTES_MAX, Retry, Source,
    StoreFailure,
};

use super::savepoint::SavepointRoot;
use crate::clock::SystemClock;
use crate::error::{Exit, Failure};
use crate::store::s3::S3Options;
use crate::store::unfinished::refused;
use crate::store::{StateLocation, StateStore, StoreOptions};

/// Retry policy of offline tools: a command that cannot reach the store says so after 15 seconds.
pub(super) const RETRY: Retry = Retry {
    initial_ms: 100,
    max_ms: 2_000,
    give_up_ms: Some(15_000),
};

/// Open root of durable data.
#[derive(Clone)]
pub struct Root {
    pub(super) opened: StateStore,
    place: StateLocation,
}

impl Root {
    /// Opens an existing root. A directory must exist.
    ///
    /// # Errors
    /// [`Exit::Environment`] if the place does not exist or cannot be reached.
    pub async fn open(place: &StateLocation, s3: S3Options) -> Result<Self, Failure> {
        let opened = place.open(options(s3)).await?;
        Ok(Self {
            opened,
            place: place.clone(),
        })
    }

    /// Opens a place for a new root, and creates its directory if there is none.
    ///
    /// # Errors
    /// [`Exit::Environment`] if the place cannot be created or reached.
    pub async fn open_new(place: &StateLocation, s3: S3Options) -> Result<Self, Failure> {
        let opened = place.open_new(options(s3)).await?;
        Ok(Self {
            opened,
            place: place.clone(),
        })
    }

    /// Store that holds the objects.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.opened.store
    }

    /// Common prefix of all keys, without a trailing slash.
    pub fn prefix(&self) -> &str {
        &self.opened.prefix
    }

    /// Place of the root, as the user wrote it.
    pub fn place(&self) -> &StateLocation {
        &self.place
    }

    /// Names of the objects of one partition.
    pub fn layout(&self, partition: u32) -> Layout {
        Layout::new(self.prefix(), partition)
    }

    /// Source to read the durable state from.
    pub(super) fn source(&self) -> Source {
        Source {
            store: Arc::clone(self.store()),
            root: self.prefix().to_owned(),
            clock: Arc::new(SystemClock),
            retry: RETRY,
            on_store_failure: on_store_failure(),
        }
    }

    /// Root for work on savepoints.
    pub fn savepoints(&self) -> SavepointRoot {
        SavepointRoot {
            source: self.source(),
            place: self.place.to_string(),
        }
    }

    /// Reads the record of the application that owns the root.
    ///
    /// # Errors [`Exit::Environment`] if this is no root, or cannot be reached; [`Exit::Damaged`]
    /// if the record is damaged or lost, if it names another application than `expected`, or if the
    /// root is unfinished.
    pub async fn application(&self, expected: Option<&str>) -> Result<Application, Failure> {
        let key = self.layout(0).application().to_owned();
        let Some(object) = self.read(&key).await? else {
            self.must_be_a_root().await?;
            let reason = "without it the application of this root is unknown".to_owned();
            return Err(failure(LogError::Missing { key, reason }));
        };
        let application = Application::decode(&object).map_err(|defect| {
            failure(LogError::Damaged {
                key: key.clone(),
                defect,
            })
        })?;
        let io = self.opened.io(RETRY);
        let whole = satchel_storage::fork::refuse_unfinished(&io, self.prefix()).await;
        whole.map_err(refused)?;
        match foreign(&application, expected, key) {
            Some(error) => Err(failure(error)),
            None => Ok(application),
        }
    }

    /// Fails unless the place holds a root, or parts of one.
    pub(super) async fn must_be_a_root(&self) -> Result<(), Failure> {
        let key = self.layout(0).application().to_owned();
        if self.read(&key).await?.is_some() || holds_partitions(&self.opened).await? {
            return Ok(());
        }
        let mut message = format!("{} holds no durable state of an application", self.place);
        if let StateLocation::Directory(path) = &self.place
            && is_root(&path.join("state"))
        {
            let within = path.join("state");
            message = format!("{message}; {} does", within.display());
        }
        Err(Failure::new(Exit::Environment, message))
    }

    async fn read(&self, key: &str) -> Result<Option<bytes::Bytes>, Failure> {
        let read = self.store().get_range(key, 0..RECORD_BYTES_MAX + 1).await;
        read.map_err(|error| failure(error.into()))
    }
}

/// Returns whether the place holds objects of partitions.
pub(super) async fn holds_partitions(opened: &StateStore) -> Result<bool, Failure> {
    let partitions = match opened.prefix.as_str() {
        "" => "partitions/".to_owned(),
        prefix => format!("{prefix}/partitions/"),
    };
    let listed = opened.store.list(&partitions, None, 1).await;
    Ok(!listed.map_err(|error| failure(error.into()))?.is_empty())
}

/// Returns an error if the root does not belong to the application `expected`.
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

/// Returns how a command ends after an error of the durable state or its store.
#[allow(clippy::needless_pass_by_value, reason = "what `map_err` takes")]
pub(super) fn failure(error: LogError) -> Failure {
    error.into()
}

/// Prints the first failure of each request to the store.
pub(super) fn on_store_failure() -> OnStoreFailure {
    Arc::new(|trouble: StoreFailure| {
        if trouble.attempts == 1 {
            eprintln!("satchel: {}; retrying", trouble.error);
        }
    })
}

fn is_root(path: &Path) -> bool {
    path.join("application").is_file()
}

fn options(s3: S3Options) -> StoreOptions {
    StoreOptions {
        s3,
        ..StoreOptions::default()
    }
}
