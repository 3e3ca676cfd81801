//! Serves [`satchel_sdk`] functions: on AWS Lambda, or over HTTP. A handler's `main` is one line:
//!
//! ```no_run
//! # mod shop { pub fn functions() -> satchel_sdk::Functions { satchel_sdk::Functions::new() } }
//! fn main() -> std::process::ExitCode {
//!     satchel_function_handler::run(shop::functions())
//! }
//! ```
//!
//! - Where the environment names a Lambda Runtime API (`AWS_LAMBDA_RUNTIME_API`: on AWS, and under `satchel dev`), the functions answer Lambda's
//!   requests: bundles from a Satchel coordinator, and StateFun's plain requests through API Gateway or a Function URL; see [`lambda`].
//! - Anywhere else they answer StateFun's request-reply protocol over HTTP, on the address given by the argument `--http ADDR`, else by
//!   the environment variable `SATCHEL_HTTP`, else on `127.0.0.1:8000`; see [`http`].
//!
//! Batches run concurrently, the messages of one batch in order. A batch whose function panics fails alone, which needs
//! panics that unwind: do not build handlers with `panic = "abort"`.

#![forbid(unsafe_code)]

pub mod http;
pub mod lambda;

mod batches;
mod command_line;
mod logging;

use std::process::ExitCode;

use satchel_sdk::Functions;

/// Serves the functions until the process is told to stop; sets up logging and an async runtime first.
///
/// Returns failure after saying why on the standard error output: when the command line is wrong, the address is taken, or the Lambda
/// Runtime API is gone.
pub fn run(functions: Functions) -> ExitCode {
    logging::init();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("no async runtime: {error}")),
    };
    let served = runtime.block_on(serve(functions));
    // A function that blocks for ever must not keep the process alive.
    runtime.shutdown_background();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.to_string()),
    }
}

/// What [`run`] does, inside an async runtime of the caller's, with logging left to the caller.
///
/// # Errors
///
/// When the command line is wrong, the address is taken, or the Lambda Runtime API is gone.
pub async fn serve(functions: Functions) -> Result<(), satchel_sdk::Error> {
    if std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some() {
        return lambda::run(functions).await;
    }
    let address =
        command_line::http_address(std::env::args().skip(1), std::env::var("SATCHEL_HTTP").ok())?;
    let listener = tokio::net::TcpListener::bind(address.as_str())
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    http::serve(listener, functions, http::stop_signal()).await?;
    Ok(())
}

fn failed(why: &str) -> ExitCode {
    eprintln!("satchel-function-handler: {why}");
    ExitCode::FAILURE
}
