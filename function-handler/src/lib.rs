//! Serves [`satchel_sdk`] functions on AWS Lambda or over HTTP.
//!
//! The `main` of a handler is one line:
//!
//! ```no_run
//! # mod shop { pub fn functions() -> satchel_sdk::Functions { satchel_sdk::Functions::new() } }
//! fn main() -> std::process::ExitCode {
//!     satchel_function_handler::run(shop::functions())
//! }
//! ```
//!
//! - If the environment names a Lambda Runtime API (`AWS_LAMBDA_RUNTIME_API`: on AWS, and under
//!   `satchel dev`), the process serves Lambda requests: bundles from a Satchel coordinator, and
//!   StateFun's plain requests through API Gateway or a Function URL. See [`lambda`].
//! - Otherwise it serves StateFun's request-reply protocol over HTTP. The address is that of the
//!   argument `--http ADDR`, else of the environment variable `SATCHEL_HTTP`, else
//!   `127.0.0.1:8000`. See [`http`].
//!
//! Batches run concurrently, and the messages of one batch in order. A batch whose function panics
//! fails alone. This needs panics that unwind: do not build handlers with `panic = "abort"`.

#![forbid(unsafe_code)]

pub mod http;
pub mod lambda;

mod batches;
mod command_line;
mod logging;

use std::process::ExitCode;

use satchel_sdk::Functions;

/// Sets up logging and an async runtime, and serves the functions until SIGTERM or Ctrl-C.
///
/// Returns failure when the command line is wrong, the address is in use, or the Lambda Runtime API
/// is unreachable. The reason is then on the standard error output.
pub fn run(functions: Functions) -> ExitCode {
    logging::init();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start the async runtime: {error}")),
    };
    let served = runtime.block_on(serve(functions));
    // A function that blocks without end must not keep the process alive.
    runtime.shutdown_background();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.to_string()),
    }
}

/// Serves the functions as [`run`] does, inside the caller's async runtime and without logging.
///
/// # Errors
///
/// When the command line is wrong, the address is in use, or the Lambda Runtime API is unreachable.
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
