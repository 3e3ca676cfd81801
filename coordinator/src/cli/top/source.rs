//! Answers of the application, cleaned and bounded.

use std::time::Duration;

use futures::join;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::cli::address::encoded;
use crate::cli::client::{Client, describe};
use crate::cli::output::printable;
use crate::clock::now_ms;
use crate::error::{Exit, Failure};

/// Maximum time for one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Maximum time without a sample, of which one comes each second.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Pause before live figures are asked for again.
const PAUSE: Duration = Duration::from_secs(2);

/// Entries of one page, and of all pages of a list.
const PAGE: usize = 1_000;
const ENTRIES_MAX: usize = 5_000;

/// Dead letters that are shown. They hold messages, so a page of them is larger than others.
const DEAD_LETTERS_MAX: usize = 200;

/// Maximum size of an answer, and of an event, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
const EVENT_BYTES_MAX: usize = 1 << 20;

/// An answer, or the reason why there is none.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Answer {
    /// It was not asked for, or this version or form of the application has no such answer.
    #[default]
    Absent,
    /// An object, or the entries of all pages of a list.
    Loaded(Value),
    /// Reason, as the application gave it.
    Failed(String),
}

impl Answer {
    /// The value, or null.
    pub(super) fn value(&self) -> &Value {
        match self {
            Self::Loaded(value) => value,
            Self::Absent | Self::Failed(_) => &Value::Null,
        }
    }

    /// The entries of a list; none if it was not loaded.
    pub(super) fn entries(&self) -> &[Value] {
        self.value().as_array().map_or(&[], Vec::as_slice)
    }
}

/// Everything that is shown, except for live figures.
#[derive(Debug, Clone, Default)]
pub(super) struct Loaded {
    /// Time of the load, in ms since 1970.
    pub(super) at_ms: u64,
    /// `/api/process`.
    pub(super) process: Answer,
    /// `/readyz`.
    pub(super) readiness: Answer,
    /// `/api/endpoints`.
    pub(super) endpoints: Answer,
    /// `/api/functions`.
    pub(super) functions: Answer,
    /// `/api/ingresses`.
    pub(super) ingresses: Answer,
    /// `/api/egresses`.
    pub(super) egresses: Answer,
    /// `/api/partitions`.
    pub(super) partitions: Answer,
    /// `/api/members`, where partitions are spread over processes.
    pub(super) members: Answer,
    /// Oldest dead letters.
    pub(super) dead_letters: Answer,
}

/// Lists that are expensive, and are loaded only when they are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Functions, whose figures are sums over all addresses in memory.
    pub(super) functions: bool,
    /// Dead letters, with their messages.
    pub(super) dead_letters: bool,
}

/// Reason why nothing was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unloaded {
    /// No process answers at the URL.
    Lost(String),
    /// The process demands another token, or none of its answers can be read.
    Refused(String),
}

impl Unloaded {
    /// The reason as text.
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Lost(reason) | Self::Refused(reason) => reason,
        }
    }
}

impl From<Unloaded> for Failure {
    fn from(unloaded: Unloaded) -> Self {
        let exit = match &unloaded {
            Unloaded::Lost(_) => Exit::Environment,
            Unloaded::Refused(_) => Exit::Refused,
        };
        Self::new(exit, unloaded.reason())
    }
}

/// News for what is shown.
#[derive(Debug)]
pub(super) enum News {
    /// The lists were loaded, or not.
    Lists(Box<Result<Loaded, Unloaded>>),
    /// A sample of live figures.
    Sample(Value),
    /// Live figures do not come any more, or not yet.
    Silent,
}

/// An application that is asked.
pub(super) struct Source {
    client: Client,
    /// Time until live figures are asked for again.
    pub(super) pause: Duration,
}

/// Failure of one request.
enum Missing {
    /// No answer came.
    Lost(String),
    /// The answer is an error.
    Refused(StatusCode, String),
}

impl Source {
    pub(super) fn new(client: Client) -> Self {
        let pause = PAUSE;
        Self { client, pause }
    }

    /// URL of the administration port.
    pub(super) fn url(&self) -> String {
        printable(self.client.base())
    }

    /// Loads everything that is wanted.
    pub(super) async fn load(&self, wanted: Wanted) -> Result<Loaded, Unloaded> {
        // First alone: it tells whether anything can be read.
        let process = match self.get("/api/process").await {
            Ok(process) => Answer::Loaded(process),
            Err(Missing::Lost(reason)) => return Err(Unloaded::Lost(reason)),
            Err(Missing::Refused(status, reason)) => match status {
                // A version without this path.
                StatusCode::NOT_FOUND => Answer::Absent,
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    let reason = format!("{}: {reason}", self.url());
                    return Err(Unloaded::Refused(reason));
                }
                _ => Answer::Failed(reason),
            },
        };
        let readiness = match self.readiness().await {
            Ok(readiness) => Answer::Loaded(readiness),
            Err(Missing::Lost(reason)) => return Err(Unloaded::Lost(reason)),
            Err(Missing::Refused(_, reason)) => {
                let what = "this is not the administration port of a Satchel process";
                let reason = format!("{}: {what}: {reason}", self.url());
                return Err(Unloaded::Refused(reason));
            }
        };
        let spread = process.value()["spread"] == true;
        let (endpoints, functions, ingresses, egresses, partitions, members, dead_letters) = join!(
            self.list("endpoints", true),
            self.list("functions", wanted.functions),
            self.list("ingresses", true),
            self.list("egresses", true),
            self.object("/api/partitions", true),
            self.object("/api/members", spread),
            self.dead_letters(wanted.dead_letters),
        );
        Ok(Loaded {
            at_ms: now_ms(),
            process,
            readiness,
            endpoints,
            functions,
            ingresses,
            egresses,
            partitions,
            members,
            dead_letters,
        })
    }

    /// Loads all pages of a list, up to [`ENTRIES_MAX`] entries.
    async fn list(&self, name: &str, wanted: bool) -> Answer {
        if !wanted {
            return Answer::Absent;
        }
        let mut entries = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let cursor = match &after {
                Some(after) => format!("&after={}", encoded(after)),
                None => String::new(),
            };
            let page = match self.get(&format!("/api/{name}?limit={PAGE}{cursor}")).await {
                Ok(page) => page,
                Err(missing) => return missing.into(),
            };
            let next = page["next"].as_str().map(str::to_owned);
            entries.extend(taken(page, name));
            if next.is_none() || next == after || entries.len() >= ENTRIES_MAX {
                return Answer::Loaded(Value::Array(entries));
            }
            after = next;
        }
    }

    async fn object(&self, path: &str, wanted: bool) -> Answer {
        if !wanted {
            return Answer::Absent;
        }
        match self.get(path).await {
            Ok(object) => Answer::Loaded(object),
            Err(missing) => missing.into(),
        }
    }

    async fn dead_letters(&self, wanted: bool) -> Answer {
        if !wanted {
            return Answer::Absent;
        }
        let path = format!("/api/dead-letters?limit={DEAD_LETTERS_MAX}");
        match self.get(&path).await {
            Ok(page) => Answer::Loaded(Value::Array(taken(page, "dead_letters"))),
            Err(missing) => missing.into(),
        }
    }

    /// Gets the JSON at a path, with printable texts only.
    async fn get(&self, path: &str) -> Result<Value, Missing> {
        let (status, body) = self.fetch(path).await?;
        if !status.is_success() {
            let reason = printable(&describe(status, &body));
            return Err(Missing::Refused(status, reason));
        }
        match serde_json::from_slice(&body) {
            Ok(value) => Ok(cleaned(value)),
            Err(error) => {
                let reason = format!("the answer of {path} is not JSON: {error}");
                Err(Missing::Refused(status, printable(&reason)))
            }
        }
    }

    /// Gets the readiness, also of a process that does not serve.
    async fn readiness(&self) -> Result<Value, Missing> {
        let (status, body) = self.fetch("/readyz").await?;
        match serde_json::from_slice::<Value>(&body) {
            Ok(readiness) if readiness["state"].is_string() => Ok(cleaned(readiness)),
            _ => Err(Missing::Refused(
                status,
                printable(&describe(status, &body)),
            )),
        }
    }

    /// Gets a status and a body.
    async fn fetch(&self, path: &str) -> Result<(StatusCode, Vec<u8>), Missing> {
        let lost = |error: &reqwest::Error| {
            let failure = self.client.lost(error);
            Missing::Lost(printable(&failure.message))
        };
        let received = timeout(ANSWER_TIME_MAX, async {
            let request = self.client.request(Method::GET, path);
            let mut response = request.send().await.map_err(|error| lost(&error))?;
            let status = response.status();
            let mut body = Vec::new();
            while let Some(part) = response.chunk().await.map_err(|error| lost(&error))? {
                body.extend_from_slice(&part);
                if body.len() > ANSWER_BYTES_MAX {
                    let mib = ANSWER_BYTES_MAX >> 20;
                    let reason = format!("the answer of {path} is larger than {mib} MiB");
                    return Err(Missing::Refused(status, reason));
                }
            }
            Ok((status, body))
        });
        received.await.unwrap_or_else(|_| {
            let seconds = ANSWER_TIME_MAX.as_secs();
            let reason = format!("{} did not answer within {seconds} s", self.url());
            Err(Missing::Lost(reason))
        })
    }

    /// Sends samples of live figures while they are received. Connects again when they end.
    pub(super) async fn follow(&self, news: mpsc::Sender<News>) {
        loop {
            self.follow_once(&news).await;
            if news.send(News::Silent).await.is_err() {
                return;
            }
            sleep(self.pause).await;
        }
    }

    async fn follow_once(&self, news: &mpsc::Sender<News>) {
        let request = self.client.request(Method::GET, "/api/live");
        let Ok(Ok(mut response)) = timeout(ANSWER_TIME_MAX, request.send()).await else {
            return;
        };
        if !response.status().is_success() {
            return;
        }
        let mut events = Vec::new();
        while let Some(samples) = next_samples(&mut response, &mut events).await {
            for sample in samples {
                if news.send(News::Sample(sample)).await.is_err() {
                    return;
                }
            }
        }
    }
}

impl From<Missing> for Answer {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Lost(reason) => Self::Failed(reason),
            // A version without this path.
            Missing::Refused(StatusCode::NOT_FOUND, _) => Self::Absent,
            Missing::Refused(_, reason) => Self::Failed(reason),
        }
    }
}

/// Reads a part of a response and returns the samples that are complete then; none at its end.
async fn next_samples(response: &mut Response, events: &mut Vec<u8>) -> Option<Vec<Value>> {
    let part = timeout(SILENCE_MAX, response.chunk()).await.ok()?.ok()??;
    events.extend_from_slice(&part);
    let samples = complete(events);
    (events.len() <= EVENT_BYTES_MAX).then_some(samples)
}

/// Takes the complete events from the front of `events`, and returns their data.
fn complete(events: &mut Vec<u8>) -> Vec<Value> {
    let mut samples = Vec::new();
    while let Some(end) = events.windows(2).position(|it| it == b"\n\n") {
        let event: Vec<u8> = events.drain(..end + 2).collect();
        let mut lines = event.split(|byte| *byte == b'\n');
        let data = lines.find_map(|line| line.strip_prefix(b"data: "));
        let sample = data.and_then(|data| serde_json::from_slice(data).ok());
        samples.extend(sample.map(cleaned));
    }
    samples
}

/// Takes the entries of a list out of its page.
fn taken(mut page: Value, name: &str) -> Vec<Value> {
    match page.get_mut(name).map(Value::take) {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    }
}

/// Replaces what is not printable in all texts of a value.
fn cleaned(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(printable(&text)),
        Value::Array(items) => items.into_iter().map(cleaned).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter();
            let fields = fields.map(|(name, it)| (printable(&name), cleaned(it)));
            Value::Object(fields.collect())
        }
        other => other,
    }
}
