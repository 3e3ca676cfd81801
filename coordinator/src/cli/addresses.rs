//! `satchel address`.

use clap::{Args, Subcommand};
use reqwest::Method;

use crate::cli::address::{AddressArg, encoded};
use crate::cli::output;
use crate::cli::target::AdminArgs;
use crate::error::Failure;

/// Number of addresses per request.
const PAGE: usize = 500;

/// Commands on addresses.
#[derive(Debug, Subcommand)]
pub enum AddressCommand {
    /// Print addresses with their backlog and suspension, one JSON object per line
    List(ListArgs),
    /// Print the state, backlog and suspension
    Get(AddressArgs),
    /// Print the messages in the mailbox, in their order, one JSON object per line
    Messages(MessagesArgs),
    /// Resume a suspended address, beginning with the message that suspended it
    Resume(AddressArgs),
    /// Make a dead letter of the message that suspended an address, and resume the address
    Skip(AddressArgs),
}

/// Arguments of `address list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only addresses of this function, namespace/name
    #[arg(long, value_name = "FUNCTION")]
    function: Option<String>,

    /// Only addresses whose id begins with this text
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,

    /// Maximum number of addresses
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,

    #[command(flatten)]
    admin: AdminArgs,
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

/// Arguments of `address messages`.
#[derive(Debug, Args)]
pub struct MessagesArgs {
    /// Maximum number of messages
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,

    #[command(flatten)]
    address: AddressArgs,
}

/// Runs a command on addresses.
pub(crate) async fn run(command: AddressCommand) -> Result<(), Failure> {
    match command {
        AddressCommand::List(args) => list(&args).await?,
        AddressCommand::Get(args) => {
            let client = args.admin.client()?;
            let path = format!("/api/addresses/{}", args.address.path());
            let address = client.json(client.request(Method::GET, &path)).await?;
            output::line(format!("{address:#}").as_bytes())?;
        }
        AddressCommand::Messages(args) => messages(&args).await?,
        AddressCommand::Resume(args) => change(&args, "resume").await?,
        AddressCommand::Skip(args) => change(&args, "skip").await?,
    }
    Ok(())
}

async fn list(args: &ListArgs) -> Result<(), Failure> {
    let client = args.admin.client()?;
    let mut filters = String::new();
    for (name, value) in [("function", &args.function), ("prefix", &args.prefix)] {
        if let Some(value) = value {
            filters.push_str(&format!("&{name}={}", encoded(value)));
        }
    }
    let mut after = String::new();
    let mut left = args.limit;
    while left > 0 {
        let path = format!("/api/addresses?limit={}{filters}{after}", left.min(PAGE));
        let page = client.json(client.request(Method::GET, &path)).await?;
        for address in page["addresses"].as_array().into_iter().flatten() {
            left = left.saturating_sub(1);
            if !output::line(address.to_string().as_bytes())? {
                return Ok(());
            }
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", encoded(next)),
            None => break,
        }
    }
    Ok(())
}

async fn messages(args: &MessagesArgs) -> Result<(), Failure> {
    let client = args.address.admin.client()?;
    let path = args.address.address.path();
    let mut after = String::new();
    let mut left = args.limit;
    while left > 0 {
        let limit = left.min(PAGE);
        let path = format!("/api/addresses/{path}/messages?limit={limit}{after}");
        let page = client.json(client.request(Method::GET, &path)).await?;
        for message in page["messages"].as_array().into_iter().flatten() {
            left = left.saturating_sub(1);
            if !output::line(message.to_string().as_bytes())? {
                return Ok(());
            }
        }
        match page["next"].as_u64() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    Ok(())
}

async fn change(args: &AddressArgs, verb: &str) -> Result<(), Failure> {
    let client = args.admin.client()?;
    let path = format!("/api/addresses/{}/{verb}", args.address.path());
    client.send(client.request(Method::POST, &path)).await?;
    Ok(())
}
