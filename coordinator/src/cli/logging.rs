//! Set-up of log lines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::error::Failure;

/// Module that logs an error for each connection whose certificate is refused. The endpoint's own
/// log has the reason, rate-limited.
const TLS_VERIFIER: &str = "rustls_platform_verifier";

/// Sends log lines that pass `filter` to standard error, in `format`. Only a terminal gets colours,
/// and none if `NO_COLOR` is set.
///
/// # Errors
///
/// The filter is invalid.
pub fn init_logging(format: LogFormat, filter: &str) -> Result<(), Failure> {
    let wrong = |error| Failure::usage(format!("--log: `{filter}`: {error}"));
    let mut parsed = EnvFilter::try_new(filter).map_err(wrong)?;
    if !filter.contains(TLS_VERIFIER) {
        let off = format!("{TLS_VERIFIER}=off").parse();
        parsed = parsed.add_directive(off.expect("it is a directive"));
    }
    let lines = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_ansi(is_coloured())
        .with_writer(std::io::stderr);
    let set = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    // A program that embeds this library may have set a logger before.
    if let Err(error) = set {
        tracing::debug!(%error, "logger already set");
    }
    Ok(())
}

fn is_coloured() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !refused
}
