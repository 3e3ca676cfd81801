//! How many files and sockets this process and those that it starts may have open.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What this process was started with, if it raised the limit.
static STARTED_WITH: OnceLock<Option<u64>> = OnceLock::new();

/// Raises the limit of open files of this process to the highest that the system allows it: the usual one, of programs that call
/// `select`, is less than the connections that one port serves.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    match set_current(limit.maximum) {
        Ok(()) => {
            STARTED_WITH.get_or_init(|| limit.current);
        }
        // With the limit as it is the process serves fewer clients, and no less well.
        Err(error) => tracing::debug!(%error, "the limit of open files could not be raised"),
    }
}

/// The limit that this process was started with, if it has raised it since. Processes that it starts are to have that one: some programs
/// use `select`, and others close every file that there could be.
pub(crate) fn before_it_was_raised() -> Option<u64> {
    STARTED_WITH.get().copied().flatten()
}

/// Sets the limit of this process; what happens if that fails is for the caller to say.
pub(crate) fn set_current(current: Option<u64>) -> rustix::io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum })
}
