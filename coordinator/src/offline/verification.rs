//! Looking at every object of a root.

use std::sync::Arc;

use satchel_log::{Application, Layout, LogError, StoreError};

use super::place::{RETRY, Root, failure, foreign, on_trouble};
use crate::cli::Failure;
use crate::store::SystemClock;

/// How often a root is looked at anew because its owner moved it and something seemed to be missing.
const LOOKS_MAX: u32 = 3;

/// How many keys are listed at once.
const PAGE: usize = 1000;

/// What a look at a whole root found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Objects that were read.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is damaged, missing or foreign; each names its object.
    pub findings: Vec<LogError>,
    /// Whether an owner wrote meanwhile.
    pub moved: bool,
}

/// Looks at every object of `root`, which must be of the application `expected` if that is given. Changes nothing.
///
/// Objects are listed, then read, while an owner may write and collect: what seems to be missing then is looked at anew.
///
/// # Errors
/// [`crate::cli::Exit::Environment`] if this is no root, or the store does not answer.
pub async fn verify(root: &Root, expected: Option<&str>) -> Result<Verified, Failure> {
    root.must_be_a_root().await?;
    let mut moved = false;
    let mut looks = 0;
    loop {
        let before = ends(root).await?;
        let verified = look(root, expected).await?;
        let moved_now = ends(root).await? != before;
        moved |= moved_now;
        looks += 1;
        if verified.findings.is_empty() || !moved_now || looks == LOOKS_MAX {
            return Ok(Verified { moved, ..verified });
        }
    }
}

async fn look(root: &Root, expected: Option<&str>) -> Result<Verified, Failure> {
    let looking = satchel_log::verify(
        Arc::clone(root.store()),
        root.prefix(),
        Arc::new(SystemClock),
        RETRY,
        on_trouble(),
    );
    let verification = looking.await.map_err(store_failure)?;
    let mut findings = verification.findings;
    let key = root.layout(0).application().to_owned();
    if let Some(application) = readable_application(root, &key).await? {
        let strays = strays(root, &key, application.partitions).await?;
        findings.splice(0..0, foreign(&application, expected, key));
        let marks = satchel_storage::unfinished(&root.opened.io(RETRY), root.prefix())
            .await
            .map_err(failure)?;
        findings.extend(strays.into_iter().map(|key| LogError::Unexpected {
            reason: if marks.contains(&key) {
                "a restore or an import has not come to its end".to_owned()
            } else {
                "no object of a root has such a name".to_owned()
            },
            key,
        }));
    }
    Ok(Verified {
        objects: verification.objects,
        bytes: verification.bytes,
        findings,
        moved: false,
    })
}

async fn readable_application(root: &Root, key: &str) -> Result<Option<Application>, Failure> {
    let object = root.store().get(key).await.map_err(store_failure)?;
    Ok(object.and_then(|object| Application::decode(&object).ok()))
}

/// Keys of the root that belong to no partition. Those of partitions are leapt over.
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
        let mut leapt = false;
        for object in listed {
            if let Some(prefix) = of_partition(&object.key) {
                // Greater than every key of the partition: a tilde is in no key.
                after = Some(format!("{prefix}~"));
                leapt = true;
                break;
            }
            if object.key != application {
                strays.push(object.key);
            }
        }
        if complete && !leapt {
            return Ok(strays);
        }
    }
}

/// The last objects of every kind that owners add to.
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
