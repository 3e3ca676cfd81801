//! `satchel address`.

use clap::{Args, Subcommand};
use reqwest::Method;

use crate::cli::address::AddressArg;
use crate::cli::output;
use crate::cli::target::AdminArgs;
use crate::error::Failure;

/// Commands on one address.
#[derive(Debug, Subcommand)]
pub enum AddressCommand {
    /// Print the state, backlog and suspension
    Get(AddressArgs),
    /// Resume a suspended address, beginning with the message that suspended it
    Resume(AddressArgs),
    /// Make a dead letter of the message that suspended an address, and resume the address
    Skip(AddressArgs),
}

/// Arguments of the commands on one address.
#[derive(Debug, Args)]
pub struct AddressArgs {
    /// Address namespace/name/id; the id is everything after the second `/`
    #[arg(value_name = "ADDRESS")]
    address: AddressArg,

    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs a command on one address.
pub(crate) async fn run(command: AddressCommand) -> Result<(), Failure> {
    match command {
        AddressCommand::Get(args) => {
            let client = args.admin.client()?;
            let path = format!("/api/addresses/{}", args.address.path());
            let address = client.json(client.request(Method::GET, &path)).await?;
            output::line(format!("{address:#}").as_bytes())?;
        }
        AddressCommand::Resume(args) => change(&args, "resume").await?,
        AddressCommand::Skip(args) => change(&args, "skip").await?,
    }
    Ok(())
}

async fn change(args: &AddressArgs, verb: &str) -> Result<(), Failure> {
    let client = args.admin.client()?;
    let path = format!("/api/addresses/{}/{verb}", args.address.path());
    client.send(client.request(Method::POST, &path)).await?;
    Ok(())
}
