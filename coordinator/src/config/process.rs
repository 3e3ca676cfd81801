//! Flags that `satchel dev` and `satchel run` share.

use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::{
    CommitArgs, CommitLogArgs, PlacementArgs, PortArgs, RestoreArgs, S3Args, Setting,
    check_duration,
};
use crate::module::{parse_bytes, parse_duration};

/// Minimum of `--pending-limit` and `--dead-letter-limit`, in bytes.
const LIMIT_MIN: u64 = 1 << 20;

/// Settings of every process that serves an application. Holds no secrets, only their locations.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct ProcessArgs {
    /// Name of the application that owns the state
    #[arg(
        long,
        env = "SATCHEL_APPLICATION",
        value_name = "NAME",
        default_value = "satchel",
        value_parser = application_name
    )]
    pub application: String,

    /// Keep history for point-in-time reads and restores this long, such as 7d [default: none]
    #[arg(
        long,
        env = "SATCHEL_RETENTION",
        value_name = "DURATION",
        value_parser = parse_duration
    )]
    pub retention: Option<Duration>,

    /// Keep the answer to an idempotency key this long
    #[arg(
        long,
        env = "SATCHEL_IDEMPOTENCY_TTL",
        value_name = "DURATION",
        default_value = "24h",
        value_parser = parse_duration
    )]
    pub idempotency_ttl: Duration,

    /// Pause ingress and reject requests with 503 while more than SIZE of messages is queued
    /// [default: an eighth of the container's memory, 256MiB without such a limit]
    #[arg(
        long,
        env = "SATCHEL_PENDING_LIMIT",
        value_name = "SIZE",
        value_parser = parse_bytes
    )]
    pub pending_limit: Option<u64>,

    /// Pause ingress and reject requests with 503 while the dead letters have more than SIZE, until
    /// an operator retries or drops some
    #[arg(
        long,
        env = "SATCHEL_DEAD_LETTER_LIMIT",
        value_name = "SIZE",
        default_value = "256MiB",
        value_parser = parse_bytes
    )]
    pub dead_letter_limit: u64,

    /// Evict the least recently used state from memory above SIZE, and load it again when it is
    /// needed [default: half of the container's memory, no limit without such a limit]
    #[arg(
        long,
        env = "SATCHEL_MEMORY_LIMIT",
        value_name = "SIZE",
        value_parser = parse_bytes
    )]
    pub memory_limit: Option<u64>,

    /// Do not follow a jump of this machine's calendar that is longer, until the process is
    /// restarted
    #[arg(
        long,
        env = "SATCHEL_CLOCK_JUMP_MAX",
        value_name = "DURATION",
        default_value = "10m",
        value_parser = parse_duration
    )]
    pub clock_jump_max: Duration,

    /// Log level, or directives of tracing such as `info,satchel=debug`
    #[arg(
        long,
        env = "SATCHEL_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub log: String,

    /// Keep the stories of this share of messages in memory, from 0 to 1, with all that follows
    /// from them: see `satchel trace` [default: 1 for `dev`, 0 for `run`]
    ///
    /// A message whose trace context says that it is sampled is kept too, unless SHARE is 0.
    #[arg(
        long,
        env = "SATCHEL_TRACE_MESSAGES",
        value_name = "SHARE",
        value_parser = parse_share
    )]
    pub trace_messages: Option<f64>,

    /// Forget the oldest stories when all of them take more than SIZE
    #[arg(
        long,
        env = "SATCHEL_TRACE_MEMORY",
        value_name = "SIZE",
        default_value = "32MiB",
        value_parser = parse_bytes
    )]
    pub trace_memory: u64,

    /// Write metrics in CloudWatch's embedded metric format to standard output, one line a minute
    ///
    /// CloudWatch Logs takes the metrics from the log of the container, without an agent.
    #[arg(long, env = "SATCHEL_EMF", value_parser = BoolishValueParser::new())]
    pub emf: bool,

    /// Addresses, tokens and encryption of the ports.
    #[command(flatten)]
    pub ports: PortArgs,

    /// Rate and depth of commits.
    #[command(flatten)]
    pub commits: CommitArgs,

    /// Initial state of the application.
    #[command(flatten)]
    pub fork: RestoreArgs,

    /// Location of the commit log.
    #[command(flatten)]
    pub commit_log: CommitLogArgs,

    /// Placement of addresses.
    #[command(flatten)]
    pub placement: PlacementArgs,

    /// Access to state in a bucket.
    #[command(flatten)]
    pub s3: S3Args,

    /// All flags of the command line, for people.
    #[arg(skip)]
    pub settings: Vec<Setting>,
}

impl ProcessArgs {
    /// Checks the values that clap cannot check one by one.
    ///
    /// # Errors
    ///
    /// The first value, or combination of values, that is wrong, with the names of its flags.
    pub(super) fn validate(&self) -> Result<(), String> {
        self.ports.validate()?;
        self.fork.hold_policy()?;
        self.s3.options()?;
        let ttl = (Duration::from_secs(1), Duration::MAX);
        check_duration("--idempotency-ttl", self.idempotency_ttl, ttl)?;
        self.commits.validate()?;
        self.placement.validate()?;
        for (flag, limit) in [
            ("--pending-limit", self.pending_limit),
            ("--dead-letter-limit", Some(self.dead_letter_limit)),
            ("--trace-memory", Some(self.trace_memory)),
        ] {
            if limit.is_some_and(|limit| limit < LIMIT_MIN) {
                return Err(format!("{flag} must be at least 1MiB"));
            }
        }
        Ok(())
    }
}

/// Parses a share from 0 to 1.
fn parse_share(text: &str) -> Result<f64, String> {
    let share: Option<f64> = text.parse().ok();
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("`{text}` is not a share: write a number from 0 to 1, such as 0.01"))
}

/// Checks that a name is safe in file names, bucket prefixes and metrics.
pub(crate) fn application_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins || text.len() > 64 || !text.chars().all(allowed) {
        return Err(format!(
            "`{text}` is not a name for an application: use 1 to 64 letters, digits, `_` or `-`, \
             and begin with a letter or digit"
        ));
    }
    Ok(text.to_owned())
}
