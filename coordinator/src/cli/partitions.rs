//! `satchel partitions`.

use clap::Args;
use reqwest::Method;

use crate::cli::output;
use crate::cli::target::AdminArgs;
use crate::error::Failure;

/// Arguments of `partitions`.
#[derive(Debug, Args)]
pub struct PartitionsArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Prints the partitions, one JSON object per line.
pub(crate) async fn run(args: &PartitionsArgs) -> Result<(), Failure> {
    let client = args.admin.client()?;
    let body = client.json(client.request(Method::GET, "/api/partitions"));
    let body = body.await?;
    for partition in body["partitions"].as_array().into_iter().flatten() {
        if !output::line(partition.to_string().as_bytes())? {
            break;
        }
    }
    Ok(())
}
