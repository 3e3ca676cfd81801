//! Configuration of a process: the command line, then `SATCHEL_*` variables, then defaults.

mod commit_log;
mod commits;
mod dev;
mod placement;
mod ports;
mod process;
mod restore;
mod root;
mod run;
mod s3;
mod settings;

use std::time::Duration;

use clap::ValueEnum;

use crate::module::format_duration;

pub use commit_log::CommitLogArgs;
pub use commits::{CommitArgs, CommitPolicy};
pub use dev::DevConfig;
pub use placement::PlacementArgs;
pub use ports::PortArgs;
pub use process::ProcessArgs;
pub(crate) use process::application_name;
pub use restore::RestoreArgs;
pub use root::RootArgs;
pub use run::RunConfig;
pub use s3::{S3Args, S3Sse};
pub use settings::Setting;
pub(crate) use settings::settings;

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Checks that the value of `flag` is from `least` to `most`.
fn check_duration(
    flag: &str,
    duration: Duration,
    (least, most): (Duration, Duration),
) -> Result<(), String> {
    if duration < least {
        let least = format_duration(least);
        return Err(format!("{flag} must be at least {least}"));
    }
    if duration > most {
        let most = format_duration(most);
        return Err(format!("{flag} must be at most {most}"));
    }
    Ok(())
}
