//! The `satchel` binary: parses the command line, runs the command, and prints its error.

use std::process::ExitCode;

use satchel::cli::{self, ClientCommand, Command};
use satchel::config::{DevConfig, RunConfig};
use satchel::error::{Exit, Failure};
use satchel::open_files;

/// State consists of many small allocations that one thread makes and others free, for which this
/// allocator is made.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before any thread starts: this process may be the launcher of a handler.
    satchel::dev::lambda::exec_handler::run_if_asked();
    let outcome = match cli::parse().command {
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
    cli::init_logging(config.log_format, &config.process.log)?;
    open_files::raise_limit();
    // Boxed, because the future is large.
    until_shutdown(async |shutdown| Box::pin(satchel::dev::run(config, shutdown)).await)
}

#[cfg(not(feature = "aws"))]
fn run(_: RunConfig) -> Result<(), Failure> {
    Err(Failure::needs_aws("`satchel run`"))
}

#[cfg(feature = "aws")]
fn run(config: RunConfig) -> Result<(), Failure> {
    let config = config
        .validated()
        .map_err(|message| Failure::new(Exit::Usage, message))?;
    cli::init_logging(config.log_format, &config.process.log)?;
    open_files::raise_limit();
    until_shutdown(async |shutdown| Box::pin(satchel::run::run(config, shutdown)).await)
}

/// Runs a server until the process is asked to stop.
fn until_shutdown<S>(server: S) -> Result<(), Failure>
where
    S: AsyncFnOnce(std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) -> Result<(), Failure>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::caused(Exit::Environment, "starting the runtime", error))?;
    runtime.block_on(async {
        let shutdown = cli::shutdown_signal()
            .map_err(|error| Failure::caused(Exit::Environment, "waiting for signals", error))?;
        server(Box::pin(shutdown)).await
    })
}

fn client(command: ClientCommand) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::caused(Exit::Environment, "starting the runtime", error))?
        .block_on(cli::run(command))
}
