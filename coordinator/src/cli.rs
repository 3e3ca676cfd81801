//! The command line.
//!
//! | Exit code | |
//! |---|---|
//! | 0 | success, or a clean stop |
//! | 1 | the application answered with an error, which is on standard error |
//! | 2 | error in the command line or a module file |
//! | 3 | fenced by another owner |
//! | 4 | damaged or rejected durable data |
//! | 5 | environment: a port, credentials, a service that cannot be reached |

mod address;
mod addresses;
mod call;
mod client;
mod completions;
mod cost;
mod dead_letters;
mod graph;
mod health;
mod logging;
mod new;
mod output;
mod partitions;
mod pauses;
mod savepoint;
mod schema;
mod signals;
mod state;
mod state_drop;
mod status;
mod stream;
mod target;
mod timers;
mod top;
mod trace;
mod validate;
mod verify;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use crate::cli::logging::init_logging;
pub use crate::cli::signals::shutdown_signal;

use crate::cli::addresses::AddressCommand;
use crate::cli::call::CallArgs;
use crate::cli::completions::CompletionsArgs;
use crate::cli::cost::CostArgs;
use crate::cli::dead_letters::DeadLettersCommand;
use crate::cli::graph::GraphArgs;
use crate::cli::health::HealthArgs;
use crate::cli::new::NewArgs;
use crate::cli::partitions::PartitionsArgs;
use crate::cli::pauses::{FunctionCommand, IngressCommand};
use crate::cli::savepoint::SavepointCommand;
use crate::cli::schema::SchemaArgs;
use crate::cli::state::StateCommand;
use crate::cli::status::StatusArgs;
use crate::cli::stream::StreamCommand;
use crate::cli::timers::TimersCommand;
use crate::cli::top::TopArgs;
use crate::cli::trace::TraceArgs;
use crate::cli::validate::ValidateArgs;
use crate::cli::verify::VerifyArgs;
use crate::config::{self, DevConfig, RunConfig};
use crate::error::Failure;
use crate::replay::{self, InvokeArgs};

/// Version, commit and target of this binary.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("SATCHEL_BUILD"), ")");

/// Stateful functions on AWS Lambda.
#[derive(Debug, Parser)]
#[command(name = "satchel", version = VERSION, max_term_width = 100)]
pub struct Cli {
    /// Command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run an application on this machine, with local streams, local state and local handlers
    Dev(Box<DevConfig>),
    /// Run an application in production, with state in a bucket, Lambda, and standby processes
    Run(Box<RunConfig>),
    /// Commands that talk to a running application or work on files.
    #[command(flatten)]
    Client(Box<ClientCommand>),
}

/// Command that talks to a running application or works on files.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Create a project of your own: functions, their module file and their Terraform
    New(NewArgs),
    /// Check module files and print what runs where
    Validate(ValidateArgs),
    /// Print the JSON Schema of module files, for editors, or their reference
    Schema(SchemaArgs),
    /// Send a message to a function and print its reply
    Call(CallArgs),
    /// Send a message to a function and wait until it is durable
    Send(CallArgs),
    /// Check that a coordinator is alive, owner or standby; exit code 0 if it is
    Health(HealthArgs),
    /// Show the health of endpoints, functions, ingresses and egresses
    Status(StatusArgs),
    /// Show the console's overview in the terminal, live: warnings, rates, health, lag, partitions
    Top(TopArgs),
    /// Write to and read from local streams
    #[command(subcommand)]
    Stream(StreamCommand),
    /// List, retry and delete messages whose processing failed for good
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// List pending delayed messages
    #[command(subcommand)]
    Timers(TimersCommand),
    /// Print what happened to a message and to all that followed from it, or list recent traces
    Trace(TraceArgs),
    /// Show the partitions of a running application: key groups, load, size, messages between them
    Partitions(PartitionsArgs),
    /// Check a whole root of durable data and name every damaged, missing or foreign object
    Verify(VerifyArgs),
    /// Read, export and import durable state, without a running application
    #[command(subcommand)]
    State(StateCommand),
    /// Send a handler the request that a function got or would get, from durable state, without
    /// touching the application: under a debugger, or to see what it answers
    Invoke(Box<InvokeArgs>),
    /// Create, list and delete named states of an application
    #[command(subcommand)]
    Savepoint(SavepointCommand),
    /// List addresses, show the state, backlog and suspension of one, or resume it
    #[command(subcommand)]
    Address(AddressCommand),
    /// Pause and resume an ingress
    #[command(subcommand)]
    Ingress(IngressCommand),
    /// Pause and resume a function type
    #[command(subcommand)]
    Function(FunctionCommand),
    /// Print how many messages went between ingresses, functions, egresses and callers, one JSON
    /// object per line
    Graph(GraphArgs),
    /// Print what a load, or the running application, costs a month on AWS, by position
    Cost(Box<CostArgs>),
    /// Print a script that completes the command line in a shell
    Completions(CompletionsArgs),
}

/// Parses the command line of this process. Ends the process after an error, and after `--help`.
pub fn parse() -> Cli {
    let command = Cli::command();
    let matches = command.clone().get_matches();
    let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let settings = || {
        let (name, matches) = matches.subcommand()?;
        let command = command.find_subcommand(name)?;
        Some(config::settings(command, matches))
    };
    match &mut cli.command {
        Command::Dev(config) => config.process.settings = settings().unwrap_or_default(),
        Command::Run(config) => config.process.settings = settings().unwrap_or_default(),
        Command::Client(_) => {}
    }
    cli
}

/// Runs a command that talks to a running application or works on files. Prints the result to
/// standard output.
///
/// # Errors
///
/// The reason of the failure, with its exit code.
pub async fn run(command: ClientCommand) -> Result<(), Failure> {
    match command {
        ClientCommand::New(args) => new::run(&args),
        ClientCommand::Validate(args) => Box::pin(validate::run(args)).await,
        ClientCommand::Schema(args) => schema::run(&args),
        ClientCommand::Call(args) => call::run("call", args).await,
        ClientCommand::Send(args) => call::run("send", args).await,
        ClientCommand::Health(args) => health::run(&args).await,
        ClientCommand::Status(args) => status::run(&args).await,
        ClientCommand::Top(args) => Box::pin(top::run(&args)).await,
        ClientCommand::Stream(command) => stream::run(command).await,
        ClientCommand::DeadLetters(command) => dead_letters::run(command).await,
        ClientCommand::Timers(command) => timers::run(command).await,
        ClientCommand::Trace(args) => trace::run(args).await,
        ClientCommand::Partitions(args) => partitions::run(&args).await,
        ClientCommand::Verify(args) => Box::pin(verify::run(&args)).await,
        ClientCommand::State(command) => Box::pin(state::run(command)).await,
        ClientCommand::Invoke(args) => Box::pin(replay::run(&args)).await,
        ClientCommand::Savepoint(command) => Box::pin(savepoint::run(command)).await,
        ClientCommand::Address(command) => addresses::run(command).await,
        ClientCommand::Ingress(command) => pauses::run_ingress(command).await,
        ClientCommand::Function(command) => pauses::run_function(command).await,
        ClientCommand::Graph(args) => graph::run(&args).await,
        ClientCommand::Cost(args) => cost::run(&args).await,
        ClientCommand::Completions(args) => completions::run(&args),
    }
}
