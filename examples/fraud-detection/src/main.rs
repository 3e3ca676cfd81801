//! Handler of fraud detection.

use fraud_detection::{Config, functions};

/// Small values come and go with every message, which glibc's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<std::process::ExitCode, satchel_sdk::Error> {
    Ok(satchel_function_handler::run(
        functions(Config::from_env()?),
    ))
}
