//! `satchel dead-letters`.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

use crate::cli::address::encoded;
use crate::cli::client::Client;
use crate::cli::output;
use crate::cli::target::AdminArgs;
use crate::error::{Exit, Failure};

/// Number of dead letters per request.
const PAGE: usize = 500;

/// Commands on dead letters: messages whose processing failed for good.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// Print dead letters, one JSON object per line, oldest first
    List(ListArgs),
    /// Print one dead letter
    Show(OneArgs),
    /// Send the message to its address again, as a new message, and delete the dead letter
    Retry(OneArgs),
    /// Delete one dead letter
    Drop(OneArgs),
}

/// Arguments of `dead-letters list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only dead letters of this function, namespace/name
    #[arg(long, value_name = "FUNCTION")]
    function: Option<String>,

    /// Maximum number of dead letters
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,

    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of the commands on one dead letter.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// Id of the dead letter
    id: String,

    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs a command on dead letters.
pub(crate) async fn run(command: DeadLettersCommand) -> Result<(), Failure> {
    match command {
        DeadLettersCommand::List(args) => list(&args).await,
        DeadLettersCommand::Show(args) => show(&args).await,
        DeadLettersCommand::Retry(args) => {
            let path = format!("/api/dead-letters/{}/retry", encoded(&args.id));
            change(&args, Method::POST, &path).await
        }
        DeadLettersCommand::Drop(args) => {
            let path = format!("/api/dead-letters/{}", encoded(&args.id));
            change(&args, Method::DELETE, &path).await
        }
    }
}

async fn list(args: &ListArgs) -> Result<(), Failure> {
    let mut pages = Pages::new(args.admin.client()?, args.function.as_deref());
    let mut left = args.limit.unwrap_or(usize::MAX);
    while left > 0
        && let Some(page) = pages.next(left.min(PAGE)).await?
    {
        for letter in page.into_iter().take(left) {
            left -= 1;
            if !output::line(letter.to_string().as_bytes())? {
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn show(args: &OneArgs) -> Result<(), Failure> {
    let mut pages = Pages::new(args.admin.client()?, None);
    while let Some(page) = pages.next(PAGE).await? {
        let is_it = |letter: &&Value| letter["id"].as_str() == Some(&args.id);
        if let Some(letter) = page.iter().find(is_it) {
            output::line(format!("{letter:#}").as_bytes())?;
            return Ok(());
        }
    }
    let message = format!("there is no dead letter `{}`", args.id);
    Err(Failure::new(Exit::Refused, message))
}

async fn change(args: &OneArgs, method: Method, path: &str) -> Result<(), Failure> {
    let client = args.admin.client()?;
    client.send(client.request(method, path)).await?;
    Ok(())
}

/// Pages of the list of dead letters.
struct Pages {
    client: Client,
    function: Option<String>,
    /// Id after which the next page begins; none after the last page.
    after: Option<String>,
    ended: bool,
}

impl Pages {
    fn new(client: Client, function: Option<&str>) -> Self {
        Self {
            client,
            function: function.map(str::to_owned),
            after: None,
            ended: false,
        }
    }

    async fn next(&mut self, limit: usize) -> Result<Option<Vec<Value>>, Failure> {
        if self.ended {
            return Ok(None);
        }
        let mut path = format!("/api/dead-letters?limit={limit}");
        for (name, value) in [("function", &self.function), ("after", &self.after)] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", encoded(value)));
            }
        }
        let mut page = self
            .client
            .json(self.client.request(Method::GET, &path))
            .await?;
        self.after = page["next"].as_str().map(str::to_owned);
        self.ended = self.after.is_none();
        match page["dead_letters"].take() {
            Value::Array(letters) => Ok(Some(letters)),
            _ => Err(Failure::new(
                Exit::Environment,
                "the list of dead letters has an unknown form; are both sides of the same version?",
            )),
        }
    }
}
