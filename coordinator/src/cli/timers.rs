//! `satchel timers`.

use clap::{Args, Subcommand};
use reqwest::Method;

use crate::cli::address::encoded;
use crate::cli::output;
use crate::cli::target::AdminArgs;
use crate::error::Failure;

/// Commands on pending delayed messages.
#[derive(Debug, Subcommand)]
pub enum TimersCommand {
    /// Print timers, one JSON object per line, in the order of their due times
    List(ListArgs),
}

/// Arguments of `timers list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only timers of this function, namespace/name
    #[arg(long, value_name = "FUNCTION")]
    function: Option<String>,

    /// Maximum number of timers
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
