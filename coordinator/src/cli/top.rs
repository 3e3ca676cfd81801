//! `satchel top`: the overview of a running application in the terminal.
//!
//! ```text
//!  /api/…, /readyz ──► Source::load ──┐            ┌─► draw ──► terminal
//!  /api/live ────────► Source::follow ┴─► App ─────┤
//!  keys ─────────────────────────────────►         └─► plain ─► standard output (--once)
//! ```
//!
//! Every text of the application is cleaned where it is read ([`source`]), so that nothing but
//! printable characters can reach the terminal. [`app`], [`sheets`], [`warnings`] and [`draw`] do
//! no I/O.

use std::time::Duration;

use clap::Args;

use crate::cli::target::AdminArgs;
use crate::error::Failure;
use crate::module::parse_duration;

#[cfg(feature = "top")]
mod app;
#[cfg(feature = "top")]
mod draw;
#[cfg(feature = "top")]
mod format;
#[cfg(feature = "top")]
mod history;
#[cfg(feature = "top")]
mod plain;
#[cfg(feature = "top")]
mod screen;
#[cfg(feature = "top")]
mod sheets;
#[cfg(feature = "top")]
mod source;
#[cfg(feature = "top")]
mod table;
#[cfg(all(test, feature = "top"))]
mod tests;
#[cfg(feature = "top")]
mod warnings;

/// Arguments of `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Print everything once as plain text, as is done where standard output is no terminal
    #[arg(long)]
    once: bool,

    /// Time between two loads of the lists; rates come every second
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "2s",
        value_parser = interval
    )]
    interval: Duration,

    #[command(flatten)]
    admin: AdminArgs,
}

/// Reads an interval.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    let allowed = Duration::from_millis(200)..=Duration::from_secs(3_600);
    match allowed.contains(&interval) {
        true => Ok(interval),
        false => Err("it must be from 200ms to 1h".to_owned()),
    }
}

/// Shows the overview until a key or a signal ends it, or prints it once.
#[cfg(feature = "top")]
pub(crate) async fn run(args: &TopArgs) -> Result<(), Failure> {
    use std::io::IsTerminal as _;
    let source = source::Source::new(args.admin.client()?);
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if args.once || dumb || !std::io::stdout().is_terminal() {
        return plain::run(&source).await;
    }
    screen::run(&source, args.interval).await
}

/// Refuses the command.
#[cfg(not(feature = "top"))]
pub(crate) async fn run(_: &TopArgs) -> Result<(), Failure> {
    Err(Failure::needs_top())
}
