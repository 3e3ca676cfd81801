//! Handler of fraud detection.

use fraud_detection::{Config, functions};

fn main() -> Result<std::process::ExitCode, satchel_sdk::Error> {
    Ok(satchel_function_handler::run(
        functions(Config::from_env()?),
    ))
}
