//! Handler of order fulfilment.

use order_fulfilment::{Config, functions};

fn main() -> Result<std::process::ExitCode, satchel_sdk::Error> {
    Ok(satchel_function_handler::run(
        functions(Config::from_env()?),
    ))
}
