//! Limit of open files and sockets, of this process and of those that it starts.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Limit before this process raised it.
static STARTED_WITH: OnceLock<Option<u64>> = OnceLock::new();

/// Raises the limit of open files of this process to the maximum that the system allows. The
/// usual limit, made for programs that call `select`, is less than the connections of one port.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    match set_current(limit.maximum) {
        Ok(()) => {
            STARTED_WITH.get_or_init(|| limit.current);
        }
        // The process then serves fewer clients.
        Err(error) => tracing::debug!(%error, "limit of open files not raised"),
    }
}

/// Returns the limit that this process was started with, if it has raised it. Processes that it
/// starts get that limit: some programs use `select`, and others close every file that could be
/// open.
pub(crate) fn before_it_was_raised() -> Option<u64> {
    STARTED_WITH.get().copied().flatten()
}

/// Sets the limit of this process.
pub(crate) fn set_current(current: Option<u64>) -> rustix::io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum })
}
