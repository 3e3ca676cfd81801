//! `satchel health`.

use std::time::Duration;

use clap::Args;
use reqwest::Method;

use crate::cli::target::AdminArgs;
use crate::error::Failure;
use crate::module::parse_duration;

/// Arguments of `health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Maximum time to wait for the answer
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "4s",
        value_parser = parse_duration
    )]
    timeout: Duration,

    #[command(flatten)]
    admin: AdminArgs,
}

/// Requests `/healthz`, for platforms that check a container without a shell by the exit code of a
/// command.
pub(crate) async fn run(args: &HealthArgs) -> Result<(), Failure> {
    let client = args.admin.client()?;
    let request = client
        .request(Method::GET, "/healthz")
        .timeout(args.timeout);
    client.send(request).await?;
    Ok(())
}
