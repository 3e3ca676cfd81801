//! The command line.
//!
//! | Exit code | |
//! |---|---|
//! | 0 | done, or a clean stop |
//! | 1 | the application answered with an error, which stands on standard error |
//! | 2 | usage, or a module file |
//! | 3 | fenced by another owner |
//! | 4 | damaged or refused durable data |
//! | 5 | environment: a port, credentials, a service that cannot be reached |

mod address;
mod addresses;
mod call;
mod client;
mod dead_letters;
mod exit;
mod health;
mod logging;
mod output;
mod savepoint;
mod schema;
mod signals;
mod state;
mod stream;
mod target;
mod timers;
mod validate;
pub(crate) mod value;
mod verify;

#[cfg(test)]
mod tests;

use clap::{Parser, Subcommand};

pub use crate::cli::exit::{Exit, Failure};
pub use crate::cli::logging::init_logging;
pub use crate::cli::signals::shutdown_signal;

use crate::cli::addresses::AddressCommand;
use crate::cli::call::CallArgs;
use crate::cli::dead_letters::DeadLettersCommand;
use crate::cli::health::HealthArgs;
use crate::cli::savepoint::SavepointCommand;
use crate::cli::schema::SchemaArgs;
use crate::cli::state::StateCommand;
use crate::cli::stream::StreamCommand;
use crate::cli::timers::TimersCommand;
use crate::cli::validate::ValidateArgs;
use crate::cli::verify::VerifyArgs;
use crate::config::{DevConfig, RunConfig};

/// Stateful functions on AWS Lambda.
#[derive(Debug, Parser)]
#[command(name = "satchel", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run an application on this machine: local streams, local state, handlers as local processes.
    Dev(Box<DevConfig>),
    /// Run an application in production: state in a bucket, Lambda, several processes of which one owns.
    Run(Box<RunConfig>),
    /// What talks to a running application, or works on files.
    #[command(flatten)]
    Client(Box<ClientCommand>),
}

/// A command that talks to a running application, or works on files.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Check module files and tell what runs where.
    Validate(ValidateArgs),
    /// Print the JSON Schema of module files, for editors, or their reference.
    Schema(SchemaArgs),
    /// Send a message to a function and print its reply.
    Call(CallArgs),
    /// Send a message to a function; done when it is durable.
    Send(CallArgs),
    /// Ask a coordinator whether it lives, owner or standby; exit code 0 if it does.
    Health(HealthArgs),
    /// Local streams.
    #[command(subcommand)]
    Stream(StreamCommand),
    /// Messages that were given up on.
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// Delayed messages that are pending.
    #[command(subcommand)]
    Timers(TimersCommand),
    /// Read a whole root of durable data and name every object in it that is damaged, missing or foreign.
    Verify(VerifyArgs),
    /// Durable state, without a running application.
    #[command(subcommand)]
    State(StateCommand),
    /// States of an application that are kept under a name.
    #[command(subcommand)]
    Savepoint(SavepointCommand),
    /// One address: its state, backlog and suspension.
    #[command(subcommand)]
    Address(AddressCommand),
}

/// Runs a command that talks to a running application, or works on files; what it gives goes to standard output.
///
/// # Errors
/// What went wrong and the exit code for it.
pub async fn run(command: ClientCommand) -> Result<(), Failure> {
    match command {
        ClientCommand::Validate(args) => Box::pin(validate::run(args)).await,
        ClientCommand::Schema(args) => schema::run(&args),
        ClientCommand::Call(args) => call::run("call", args).await,
        ClientCommand::Send(args) => call::run("send", args).await,
        ClientCommand::Health(args) => health::run(&args).await,
        ClientCommand::Stream(command) => stream::run(command).await,
        ClientCommand::DeadLetters(command) => dead_letters::run(command).await,
        ClientCommand::Timers(command) => timers::run(command).await,
        ClientCommand::Verify(args) => Box::pin(verify::run(&args)).await,
        ClientCommand::State(command) => Box::pin(state::run(command)).await,
        ClientCommand::Savepoint(command) => Box::pin(savepoint::run(command)).await,
        ClientCommand::Address(command) => addresses::run(command).await,
    }
}
