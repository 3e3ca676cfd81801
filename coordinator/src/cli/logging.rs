//! Log lines.

use tracing_subscriber::EnvFilter;

use crate::cli::exit::Failure;
use crate::config::LogFormat;

/// Writes log lines to standard error from now on, in `format`, those that `filter` lets through.
///
/// # Errors
/// A filter that cannot be understood.
pub fn init_logging(format: LogFormat, filter: &str) -> Result<(), Failure> {
    let parsed = EnvFilter::try_new(filter)
        .map_err(|error| Failure::usage(format!("--log: `{filter}`: {error}")))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(std::io::stderr);
    let set = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    // Someone who embeds this library may have chosen a logger before.
    if let Err(error) = set {
        tracing::debug!(%error, "the logger was set before");
    }
    Ok(())
}
