//! Where the state lies: opened, and filled if it is to be that of another root.

use std::sync::Arc;

use satchel_log::{MemoryStore, Options};

use super::Shared;
use crate::cli::Failure;
use crate::config::DevConfig;
use crate::offline::{Fork, restore};
use crate::requests::Readiness;
use crate::store::{Opened, Place, PlaceOptions};

/// How old a sight of the unclaimed next epoch may be, and how long a condemned object is kept: on one machine a process that was
/// stopped and goes on has the same clocks, so minutes are enough where a root that is shared by machines keeps an hour.
const WINDOW_MS: u64 = 10_000;
const GRACE_MS: u64 = 120_000;

/// Opens the state, and makes it of another root if that is asked for.
pub(super) async fn open(config: &DevConfig, shared: &Shared) -> Result<Opened, Failure> {
    let s3 = config.s3.options().map_err(Failure::usage)?;
    let opened = if config.ephemeral {
        Opened::of(Arc::new(MemoryStore::new()))
    } else {
        let options = PlaceOptions {
            s3: s3.clone(),
            on_written: None,
        };
        let options = options.counted(&shared.metrics);
        config.state().open_new(options).await?
    };
    if let Some(origin) = &config.fork.restore {
        let place = if config.ephemeral {
            "memory".to_owned()
        } else {
            config.state().to_string()
        };
        let fork = Fork {
            opened: &opened,
            place: &place,
            application: &config.application,
        };
        let progress = |recovered| {
            let starting = Readiness::Starting { recovered };
            shared.readiness.send_replace(starting);
        };
        let restored = restore(origin, s3, fork, progress).await?;
        eprintln!(
            "satchel: {} facts of {origin} are in {place}",
            restored.facts
        );
    }
    Ok(opened)
}

pub(super) fn log_options(config: &DevConfig) -> Options {
    let options = Options {
        depth: config.commit_depth,
        retention_ms: u64::try_from(config.retention.as_millis()).unwrap_or(u64::MAX),
        ..Options::default()
    };
    match config.state() {
        Place::Directory(_) => Options {
            window_ms: WINDOW_MS,
            grace_ms: GRACE_MS,
            ..options
        },
        // Whoever shares a bucket may be on another machine, with clocks of its own.
        Place::S3(_) => options,
    }
}
