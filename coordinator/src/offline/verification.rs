//! Verification of every object of a root.

use std::sync::Arc;

use satchel_engine::placement::Placement;
use satchel_log::{Application, Layout, LogError, RECORD_BYTES_MAX, StoreError};
use satchel_storage::placement::recorded;

use super::root::{RETRY, Root, failure, foreign, on_store_failure};
use crate::clock::SystemClock;
use crate::error::Failure;

/// Maximum number of passes over a root whose owner writes meanwhile.
const PASSES_MAX: u32 = 3;

/// Number of keys in one listing.
const PAGE: usize = 1000;

/// Result of a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Number of objects read.
    pub objects: u64,
    /// Bytes of these objects.
    pub bytes: u64,
    /// Placement of the addresses, if the record of the root could be read.
    pub placement: Option<Placement>,
    /// Objects that are damaged, missing or foreign; each finding names its object.
    pub findings: Vec<LogError>,
    /// True if an owner wrote meanwhile.
    pub moved: bool,
}

/// Verifies every object of `root` without changing any. The root must belong to the application
/// `expected`, if one is given.
///
/// Objects are listed first and read later, and an owner may write and delete meanwhile. If
/// findings coincide with an owner's writes, the verification runs again.
///
/// # Errors
/// [`crate::error::Exit::Environment`] if this is no root, or the store does not answer.
pub async fn verify(root: &Root, expected: Option<&str>) -> Result<Verified, Failure> {
    root.must_be_a_root().await?;
    let mut moved = false;
    let mut passes = 0;
    loop {
        let before = ends(root).await?;
        let verified = verify_once(root, expected).await?;
        let moved_now = ends(root).await? != before;
        moved |= moved_now;
        passes += 1;
        if verified.findings.is_empty() || !moved_now || passes == PASSES_MAX {
            return Ok(Verified { moved, ..verified });
        }
    }
}

async fn verify_once(root: &Root, expected: Option<&str>) -> Result<Verified, Failure> {
    let verifying = satchel_log::verify(
        Arc::clone(root.store()),
        root.prefix(),
        Arc::new(SystemClock),
        RETRY,
        on_store_failure(),
    );
    let verification = verifying.await.map_err(store_failure)?;
    let mut findings = verification.findings;
    let mut placement = None;
    let key = root.layout(0).application().to_owned();
    if let Some(application) = readable_application(root, &key).await? {
        placement = Some(recorded(&application));
        let strays = strays(root, &key, application.partitions).await?;
        findings.splice(0..0, foreign(&application, expected, key));
        let marks = satchel_storage::fork::unfinished_marks(&root.opened.io(RETRY), root.prefix())
            .await
            .map_err(failure)?;
        findings.extend(strays.into_iter().map(|key| LogError::Unexpected {
            reason: if marks.contains(&key) {
                "a restore or an import is unfinished".to_owned()
            } else {
                "no object of a root has this name".to_owned()
            },
            key,
        }));
    }
    Ok(Verified {
        objects: verification.objects,
        bytes: verification.bytes,
        placement,
        findings,
        moved: false,
    })
}

async fn readable_application(root: &Root, key: &str) -> Result<Option<Application>, Failure> {
    let object = root.store().get_range(key, 0..RECORD_BYTES_MAX + 1).await;
    let object = object.map_err(store_failure)?;
    Ok(object.and_then(|object| Application::decode(&object).ok()))
}

/// Returns the keys of the root that belong to no partition. The listing skips partitions.
async fn strays(root: &Root, application: &str, partitions: u32) -> Result<Vec<String>, Failure> {
    let top = match root.prefix() {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    };
    let of_partition = |key: &str| {
        let rest = key.strip_prefix(&top)?.strip_prefix("partitions/")?;
        let (partition, _) = rest.split_once('/')?;
        let number: u32 = partition.parse().ok()?;
        let layout = Layout::new(root.prefix(), number);
        let prefix = layout.partition_prefix();
        (number < partitions && key.starts_with(prefix)).then(|| prefix.to_owned())
    };
    let mut strays = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let listed = root.store().list(&top, after.as_deref(), PAGE).await;
        let listed = listed.map_err(store_failure)?;
        let Some(last) = listed.last() else {
            return Ok(strays);
        };
        let complete = listed.len() < PAGE;
        after = Some(last.key.clone());
        let mut skipped = false;
        for object in listed {
            if let Some(prefix) = of_partition(&object.key) {
                // This is greater than every key of the partition: no key contains a tilde.
                after = Some(format!("{prefix}~"));
                skipped = true;
                break;
            }
            if object.key != application {
                strays.push(object.key);
            }
        }
        if complete && !skipped {
            return Ok(strays);
        }
    }
}

/// Returns the last object of every kind that owners add.
async fn ends(root: &Root) -> Result<Vec<Option<String>>, Failure> {
    let key = root.layout(0).application().to_owned();
    let partitions = readable_application(root, &key)
        .await?
        .map_or(0, |application| application.partitions);
    let mut ends = Vec::new();
    for partition in 0..partitions {
        let layout = root.layout(partition);
        for prefix in [
            layout.epochs_prefix(),
            layout.log_prefix(),
            layout.manifests_prefix(),
        ] {
            ends.push(last_key(root, &prefix).await?);
        }
    }
    Ok(ends)
}

async fn last_key(root: &Root, prefix: &str) -> Result<Option<String>, Failure> {
    let mut last: Option<String> = None;
    loop {
        let listed = root.store().list(prefix, last.as_deref(), PAGE).await;
        let listed = listed.map_err(store_failure)?;
        let complete = listed.len() < PAGE;
        last = listed
            .into_iter()
            .next_back()
            .map(|object| object.key)
            .or(last);
        if complete {
            return Ok(last);
        }
    }
}

fn store_failure(error: StoreError) -> Failure {
    failure(error.into())
}
