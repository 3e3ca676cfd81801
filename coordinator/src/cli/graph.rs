//! `satchel graph`.

use clap::Args;
use reqwest::Method;

use crate::cli::output;
use crate::cli::target::AdminArgs;
use crate::error::Failure;

/// Arguments of `graph`.
#[derive(Debug, Args)]
pub struct GraphArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Prints the edges between ingresses, functions, egresses and callers.
pub(crate) async fn run(args: &GraphArgs) -> Result<(), Failure> {
    let client = args.admin.client()?;
    let body = client
        .json(client.request(Method::GET, "/api/graph"))
        .await?;
    for edge in body["edges"].as_array().into_iter().flatten() {
        if !output::line(edge.to_string().as_bytes())? {
            break;
        }
    }
    Ok(())
}
