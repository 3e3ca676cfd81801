//! Watch of the module files: with `--watch`, an application starts again when they change.
//!
//! Files are polled, like the sources of handlers. A change counts once the files stayed the same
//! for an interval and are valid; otherwise their problems are printed, and the application
//! continues as it is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::module::Application;

/// Polling interval.
const INTERVAL: Duration = Duration::from_millis(500);

/// Module files, with the modification time and size of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Modules {
    paths: Vec<PathBuf>,
    files: BTreeMap<PathBuf, Option<(SystemTime, u64)>>,
}

impl Modules {
    /// Reads what the module files are now. Call this before they are loaded.
    pub(super) fn of(paths: &[PathBuf]) -> Self {
        let files = Application::files(paths).into_iter().map(|file| {
            let metadata = file.metadata().ok();
            let seen = metadata.and_then(|it| Some((it.modified().ok()?, it.len())));
            (file, seen)
        });
        Self {
            files: files.collect(),
            paths: paths.to_vec(),
        }
    }

    /// Waits until the module files have changed, and are valid.
    pub(super) async fn changed(mut self) {
        loop {
            let changed = self.settled().await;
            match Application::load(&changed.paths, &|name| std::env::var(name).ok()) {
                Ok(_) => return,
                Err(problems) => eprintln!(
                    "satchel: the module files have changed and are invalid; \
                     the application continues as it is\n{problems}"
                ),
            }
            self = changed;
        }
    }

    /// Waits until the files differ from these and stay the same for an interval.
    async fn settled(&self) -> Self {
        let mut last = self.clone();
        loop {
            tokio::time::sleep(INTERVAL).await;
            let now = Self::of(&self.paths);
            if now != *self && now == last {
                return now;
            }
            last = now;
        }
    }
}
