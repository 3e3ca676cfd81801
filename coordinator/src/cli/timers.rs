//! `satchel timers`.

use clap::{Args, Subcommand};
use reqwest::Method;

use crate::cli::address::encoded;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::cli::target::AdminArgs;

/// Commands on delayed messages that are pending.
#[derive(Debug, Subcommand)]
pub enum TimersCommand {
    /// Print them, one JSON object a line, by the time at which they are due.
    List(ListArgs),
}

/// Arguments of `timers list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those that this function set: namespace/name.
    #[arg(long, value_name = "FUNCTION")]
    function: Option<String>,

    /// At most so many.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,

    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs a command on delayed messages.
pub(crate) async fn run(command: TimersCommand) -> Result<(), Failure> {
    let TimersCommand::List(args) = command;
    let client = args.admin.client()?;
    let mut path = format!("/api/timers?limit={}", args.limit);
    if let Some(function) = &args.function {
        path = format!("{path}&function={}", encoded(function));
    }
    let body = client.json(client.request(Method::GET, &path)).await?;
    for timer in body["timers"].as_array().into_iter().flatten() {
        if !output::line(timer.to_string().as_bytes())? {
            break;
        }
    }
    Ok(())
}
