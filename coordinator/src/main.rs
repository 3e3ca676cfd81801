//! The `satchel` binary: parses the command line, runs the command, tells how it ended.

use std::process::ExitCode;

use clap::Parser;
use satchel::cli::{self, Cli, ClientCommand, Command, Exit, Failure};
use satchel::config::{DevConfig, RunConfig};
use satchel::open_files;

/// State is many small allocations that one thread makes and others free, which this allocator was made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before any thread is started: this process may be the beginning of a handler.
    satchel::dev::lambda::exec_handler::run_if_asked();
    let outcome = match Cli::parse().command {
        Command::Dev(config) => dev(*config),
        Command::Run(config) => run(*config),
        Command::Client(command) => client(*command),
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
    open_files::raise_limit();
    until_shutdown(async |shutdown| satchel::dev::run(config, shutdown).await)
}

fn run(config: RunConfig) -> Result<(), Failure> {
    let config = config
        .validated()
        .map_err(|message| Failure::new(Exit::Usage, message))?;
    cli::init_logging(config.log_format, &config.log)?;
    open_files::raise_limit();
    until_shutdown(async |shutdown| Box::pin(satchel::run::run(config, shutdown)).await)
}

/// Runs a server, which is told when the process is asked to stop.
fn until_shutdown<S>(server: S) -> Result<(), Failure>
where
    S: AsyncFnOnce(std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) -> Result<(), Failure>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Environment, format!("the runtime: {error}")))?;
    runtime.block_on(async {
        let shutdown = cli::shutdown_signal()
            .map_err(|error| Failure::new(Exit::Environment, format!("signals: {error}")))?;
        server(Box::pin(shutdown)).await
    })
}

fn client(command: ClientCommand) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Environment, format!("the runtime: {error}")))?
        .block_on(cli::run(command))
}
