//! `satchel health`.

use std::time::Duration;

use clap::Args;
use reqwest::Method;

use crate::cli::exit::Failure;
use crate::cli::target::AdminArgs;
use crate::module::parse_duration;

/// Arguments of `health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// How long the answer may take.
    #[arg(long, value_name = "DURATION", default_value = "4s", value_parser = parse_duration)]
    timeout: Duration,

    #[command(flatten)]
    admin: AdminArgs,
}

/// Asks `/healthz`: for container images without a shell, whose platform wants a command that tells by its exit code.
pub(crate) async fn run(args: &HealthArgs) -> Result<(), Failure> {
    let client = args.admin.client()?;
    let request = client
        .request(Method::GET, "/healthz")
        .timeout(args.timeout);
    client.send(request).await?;
    Ok(())
}
