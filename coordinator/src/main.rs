//! The `satchel` binary: parses the command line, runs the command, tells how it ended.

use std::process::ExitCode;

use clap::Parser;
use satchel::cli::{self, Cli, ClientCommand, Command, Exit, Failure};
use satchel::config::DevConfig;

fn main() -> ExitCode {
    // Before any thread is started: this process may be the beginning of a handler.
    satchel::lambda::exec_handler::run_if_asked();
    let outcome = match Cli::parse().command {
        Command::Dev(config) => dev(*config),
        Command::Client(command) => client(command),
    };
    match outcome {
        Ok(()) => Exit::Clean.into(),
        Err(failure) => {
            eprintln!("satchel: {failure}");
            failure.exit.into()
        }
    }
}

fn dev(config: DevConfig) -> Result<(), Failure> {
    let config = config
        .validated()
        .map_err(|message| Failure::new(Exit::Usage, message))?;
    cli::init_logging(config.log_format, &config.log)?;
    satchel::module::Application::load(&config.paths, &|name| std::env::var(name).ok())
        .map_err(|problems| Failure::new(Exit::Usage, problems.to_string()))?;
    Err(Failure::new(
        Exit::Environment,
        "this build has no runtime to run the application with",
    ))
}

fn client(command: ClientCommand) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Environment, format!("the runtime: {error}")))?
        .block_on(cli::run(command))
}
