//! Opening a root in a bucket whose log may lie in a table of DynamoDB.

use std::sync::Arc;

use aws_config::BehaviorVersion;
use satchel_aws::log_table::DynamoLogTable;
use satchel_log::{Application, Layout, Retry, TableLocation, TabledStore};

use super::LogLocation;
use super::location::{StateStore, StoreOptions};
use super::s3::S3Url;
use crate::error::{Exit, Failure};

/// Retries of the read of the record, before anything else is known of the root.
const RETRY: Retry = Retry {
    initial_ms: 250,
    max_ms: 4_000,
    give_up_ms: Some(15_000),
};

/// Joins the store of a bucket and the table that holds its log, if there is one: that of the
/// application's record, or else, for a new root, that of the options.
///
/// # Errors [`Exit::Damaged`] if the record names another table than the options, or the root was
/// copied from elsewhere; [`Exit::Environment`] if the bucket cannot be reached.
pub(super) async fn join(
    bucket: StateStore,
    url: &S3Url,
    options: &StoreOptions,
) -> Result<StateStore, Failure> {
    let asked = options.log.as_ref().map(|log| log.of_root(url));
    let record = read_record(&bucket).await?;
    let (location, partitions) = match (&record, asked) {
        (None, None) => return Ok(bucket),
        (None, Some(asked)) => (asked, 1),
        (Some(record), asked) => {
            if asked.is_some() {
                let key = Layout::new(&bucket.prefix, 0).application().to_owned();
                record.check_log(&key, asked.as_ref())?;
            }
            match &record.log {
                None => return Ok(bucket),
                Some(location) => (location.clone(), record.partitions),
            }
        }
    };
    let log = known(&location, url)?;
    let LogLocation::DynamoDb(name) = &log;
    let sdk = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let table = DynamoLogTable::new(&sdk, name, options.on_table_request.clone());
    if options.create_log_table && record.is_none() {
        let created = Box::pin(table.create()).await;
        created.map_err(|error| {
            Failure::caused(Exit::Environment, "--create-commit-log-table", error)
        })?;
    }
    let store = TabledStore::new(
        bucket.store.clone(),
        Arc::new(table),
        &bucket.prefix,
        partitions,
        location,
    );
    Ok(StateStore {
        store: Arc::new(store),
        ..bucket
    })
}

/// Reads the application's record. One that cannot be decoded is left to whoever uses the root: an
/// owner refuses it, and a verification names it.
async fn read_record(bucket: &StateStore) -> Result<Option<Application>, Failure> {
    let layout = Layout::new(&bucket.prefix, 0);
    let record = bucket.io(RETRY).get_record(layout.application()).await;
    let record = record.map_err(|error| Failure::from(satchel_log::LogError::from(error)))?;
    Ok(record.and_then(|record| Application::decode(&record).ok()))
}

fn known(location: &TableLocation, url: &S3Url) -> Result<LogLocation, Failure> {
    if location.key != url.to_string() {
        return Err(Failure::new(
            Exit::Damaged,
            format!(
                "{url} is a copy of the root {}: the log of that root is in table {} under its \
                 name, and this copy has none; restore it from a savepoint of the original instead",
                location.key, location.table
            ),
        ));
    }
    LogLocation::from_record(location).ok_or_else(|| {
        Failure::new(
            Exit::Damaged,
            format!("{url}: its log is {location}, of a kind that this program does not know"),
        )
    })
}
