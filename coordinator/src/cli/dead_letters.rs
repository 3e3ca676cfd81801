//! `satchel dead-letters`.

use clap::{ArgGroup, Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value};

use crate::cli::address::encoded;
use crate::cli::client::Client;
use crate::cli::output;
use crate::cli::target::AdminArgs;
use crate::clock::now_ms;
use crate::error::{Exit, Failure};
use crate::module::{format_rfc3339, parse_duration, parse_rfc3339};

/// Number of dead letters per request.
const PAGE: usize = 500;

/// Commands on dead letters: messages whose processing failed for good.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// Print dead letters, one JSON object per line, oldest first
    List(ListArgs),
    /// Print one dead letter
    Show(OneArgs),
    /// Send messages to their addresses again, as new messages, and delete the dead letters
    Retry(ChangeArgs),
    /// Delete dead letters
    Drop(ChangeArgs),
}

/// Conditions on dead letters, which must all hold.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Conditions {
    /// Only dead letters of this function, namespace/name
    #[arg(long, value_name = "FUNCTION")]
    function: Option<String>,

    /// Only dead letters whose reason contains this text
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Only messages that failed since this time, such as 2026-02-01T04:15:00Z (RFC 3339), or in
    /// the last DURATION, such as 2h
    #[arg(long, value_name = "TIME|DURATION", value_parser = since)]
    since: Option<Since>,
}

/// Time from which dead letters are selected, as RFC 3339.
#[derive(Debug, Clone)]
struct Since(String);

/// Arguments of `dead-letters list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    conditions: Conditions,

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

/// Arguments of the commands that change dead letters.
#[derive(Debug, Args)]
#[command(group(
    ArgGroup::new("selection")
        .args(["id", "all", "function", "reason", "since"])
        .required(true)
        .multiple(true)
))]
pub struct ChangeArgs {
    /// Id of the dead letter, if one is meant
    #[arg(conflicts_with_all = ["all", "function", "reason", "since", "cursor"])]
    id: Option<String>,

    /// All dead letters
    #[arg(long, conflicts_with_all = ["function", "reason", "since"])]
    all: bool,

    #[command(flatten)]
    conditions: Conditions,

    /// Continue a command that was interrupted, with the same conditions
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,

    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs a command on dead letters.
pub(crate) async fn run(command: DeadLettersCommand) -> Result<(), Failure> {
    match command {
        DeadLettersCommand::List(args) => list(&args).await,
        DeadLettersCommand::Show(args) => show(&args).await,
        DeadLettersCommand::Retry(args) => match &args.id {
            Some(id) => {
                let path = format!("/api/dead-letters/{}/retry", encoded(id));
                change(&args, Method::POST, &path).await
            }
            None => change_many(&args, "retry", "retried").await,
        },
        DeadLettersCommand::Drop(args) => match &args.id {
            Some(id) => {
                let path = format!("/api/dead-letters/{}", encoded(id));
                change(&args, Method::DELETE, &path).await
            }
            None => change_many(&args, "drop", "dropped").await,
        },
    }
}

/// Reads a time, or a duration before now.
fn since(text: &str) -> Result<Since, String> {
    if parse_rfc3339(text).is_some() {
        return Ok(Since(text.to_owned()));
    }
    let ago = parse_duration(text).map_err(|_| {
        format!(
            "`{text}` is neither a time, such as 2026-02-01T04:15:00Z (RFC 3339), \
             nor a duration, such as 2h"
        )
    })?;
    let ago_ms = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
    Ok(Since(format_rfc3339(now_ms().saturating_sub(ago_ms))))
}

async fn list(args: &ListArgs) -> Result<(), Failure> {
    let mut pages = Pages::new(args.admin.client()?, args.conditions.query());
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
    let mut pages = Pages::new(args.admin.client()?, String::new());
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

async fn change(args: &ChangeArgs, method: Method, path: &str) -> Result<(), Failure> {
    let client = args.admin.client()?;
    client.send(client.request(method, path)).await?;
    Ok(())
}

/// Changes all dead letters that are selected, request by request, and prints their number.
async fn change_many(args: &ChangeArgs, verb: &str, done: &str) -> Result<(), Failure> {
    let client = args.admin.client()?;
    let all = if args.all { "&all=true" } else { "" };
    let selected = format!(
        "/api/dead-letters/{verb}?limit={PAGE}{all}{}",
        args.conditions.query()
    );
    let (mut changed, mut skipped) = (0, 0);
    let mut cursor = args.cursor.clone();
    loop {
        let path = match &cursor {
            None => selected.clone(),
            Some(cursor) => format!("{selected}&cursor={}", encoded(cursor)),
        };
        let request = || client.request(Method::POST, &path);
        let answer = client.json_despite_overload(request).await;
        let answer =
            answer.map_err(|failure| interrupted(failure, changed, done, cursor.as_deref()))?;
        let (Some(more), Some(kept)) = (answer["changed"].as_u64(), answer["skipped"].as_u64())
        else {
            return Err(unknown_form());
        };
        changed += more;
        skipped += kept;
        cursor = answer["next"].as_str().map(str::to_owned);
        if cursor.is_none() {
            let mut summary = Map::new();
            summary.insert(done.to_owned(), changed.into());
            summary.insert("skipped".to_owned(), skipped.into());
            output::line(Value::Object(summary).to_string().as_bytes())?;
            return Ok(());
        }
    }
}

/// Adds to a failure what was done until then, and how to continue.
fn interrupted(failure: Failure, changed: u64, done: &str, cursor: Option<&str>) -> Failure {
    let Some(cursor) = cursor else {
        return failure;
    };
    Failure {
        message: format!(
            "{}; {changed} dead letters were {done} before, continue with --cursor {cursor}",
            failure.message
        ),
        ..failure
    }
}

impl Conditions {
    /// Parameters of a query, each with a leading `&`.
    fn query(&self) -> String {
        let since = self.since.as_ref().map(|since| &since.0);
        let conditions = [
            ("function", self.function.as_ref()),
            ("reason", self.reason.as_ref()),
            ("since", since),
        ];
        let given = conditions
            .into_iter()
            .filter_map(|(name, value)| Some(format!("&{name}={}", encoded(value?))));
        given.collect()
    }
}

/// Pages of the list of dead letters.
struct Pages {
    client: Client,
    /// Parameters that every page's query has.
    conditions: String,
    /// Id after which the next page begins; none after the last page.
    after: Option<String>,
    ended: bool,
}

impl Pages {
    fn new(client: Client, conditions: String) -> Self {
        Self {
            client,
            conditions,
            after: None,
            ended: false,
        }
    }

    async fn next(&mut self, limit: usize) -> Result<Option<Vec<Value>>, Failure> {
        if self.ended {
            return Ok(None);
        }
        let mut path = format!("/api/dead-letters?limit={limit}{}", self.conditions);
        if let Some(after) = &self.after {
            path.push_str(&format!("&after={}", encoded(after)));
        }
        let mut page = self
            .client
            .json(self.client.request(Method::GET, &path))
            .await?;
        self.after = page["next"].as_str().map(str::to_owned);
        self.ended = self.after.is_none();
        match page["dead_letters"].take() {
            Value::Array(letters) => Ok(Some(letters)),
            _ => Err(unknown_form()),
        }
    }
}

fn unknown_form() -> Failure {
    Failure::new(
        Exit::Environment,
        "the answer about dead letters has an unknown form; are both sides of the same version?",
    )
}
