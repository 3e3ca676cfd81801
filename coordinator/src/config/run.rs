//! Configuration of `satchel run`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{BoolishValueParser, NonEmptyStringValueParser};

use super::{LogFormat, ProcessArgs, check_duration};
use crate::module::parse_duration;
use crate::store::StateLocation;

/// Configuration of `satchel run`, parsed by clap and then checked with [`RunConfig::validated`].
/// Holds no secrets, only their locations.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct RunConfig {
    /// Module files, or directories that contain a module.yaml; SATCHEL_MODULE separates several
    /// with commas
    #[arg(
        long = "module",
        env = "SATCHEL_MODULE",
        value_name = "FILE",
        required = true,
        num_args = 1..,
        value_delimiter = ','
    )]
    pub modules: Vec<PathBuf>,

    /// Location of the state: s3://bucket/prefix, or a directory that no other machine uses
    #[arg(long, env = "SATCHEL_STATE", value_name = "LOCATION")]
    pub state: StateLocation,

    /// DynamoDB table that determines the owner (partition key `pk`, a string); required for state
    /// in a bucket
    #[arg(
        long,
        env = "SATCHEL_LEASE_TABLE",
        value_name = "TABLE",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub lease_table: Option<String>,

    /// Create the lease table if it does not exist
    #[arg(
        long,
        env = "SATCHEL_CREATE_LEASE_TABLE",
        value_parser = BoolishValueParser::new()
    )]
    pub create_lease_table: bool,

    /// A standby takes over after the owner has been silent this long
    #[arg(
        long,
        env = "SATCHEL_LEASE_TIME",
        value_name = "DURATION",
        default_value = "10s",
        value_parser = parse_duration
    )]
    pub lease_time: Duration,

    /// Address at which other processes of the application reach this administration port
    /// [default: that of --admin, or the machine's own if --admin is a wildcard]
    #[arg(long, env = "SATCHEL_ADVERTISE", value_name = "HOST:PORT")]
    pub advertise: Option<String>,

    /// Address of the peer port, over which the processes of the application forward requests to
    /// the owner, so that a load balancer may send them to any process; port 0 picks a free port
    /// [default: none, a standby answers 503]
    ///
    /// Needs --lease-table. Processes authenticate one another: each makes a key at its start, and
    /// the lease table names the keys.
    #[arg(long, env = "SATCHEL_PEER", value_name = "ADDRESS:PORT")]
    pub peer: Option<SocketAddr>,

    /// Address at which other processes of the application reach the peer port [default: that of
    /// --peer, or the machine's own if --peer is a wildcard]
    #[arg(
        long,
        env = "SATCHEL_PEER_ADDRESS",
        value_name = "HOST:PORT",
        requires = "peer"
    )]
    pub peer_address: Option<String>,

    /// Complete a stop this long after the signal: most of it for work in flight, the rest for
    /// commits and the release of the lease
    ///
    /// Must be shorter than the grace period of the platform (ECS: stopTimeout, 30 s by default).
    #[arg(
        long,
        env = "SATCHEL_STOP_TIMEOUT",
        value_name = "DURATION",
        default_value = "25s",
        value_parser = parse_duration
    )]
    pub stop_timeout: Duration,

    /// Format of log lines
    #[arg(
        long,
        env = "SATCHEL_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "json"
    )]
    pub log_format: LogFormat,

    /// Secret of AWS Secrets Manager (name or ARN) with the token for traffic
    #[arg(
        long,
        env = "SATCHEL_HTTP_TOKEN_SECRET",
        value_name = "SECRET",
        conflicts_with = "http_token_file"
    )]
    pub http_token_secret: Option<String>,

    /// Secret of AWS Secrets Manager (name or ARN) with the token for administration
    #[arg(
        long,
        env = "SATCHEL_ADMIN_TOKEN_SECRET",
        value_name = "SECRET",
        conflicts_with = "admin_token_file"
    )]
    pub admin_token_secret: Option<String>,

    /// Settings shared with `satchel dev`.
    #[command(flatten)]
    pub process: ProcessArgs,
}

impl RunConfig {
    /// Checks the values that clap cannot check one by one.
    ///
    /// # Errors
    ///
    /// The first value, or combination of values, that is wrong, with the names of its flags.
    pub fn validated(self) -> Result<Self, String> {
        self.process.validate()?;
        self.process.commit_log.validate(Some(&self.state))?;
        if matches!(self.state, StateLocation::S3(_)) && self.lease_table.is_none() {
            return Err("--state in a bucket is shared by machines: \
                 set --lease-table, by which they agree on the owner"
                .to_owned());
        }
        if self.create_lease_table && self.lease_table.is_none() {
            return Err("--create-lease-table needs --lease-table".to_owned());
        }
        let second = Duration::from_secs(1);
        check_duration("--lease-time", self.lease_time, (second, second * 600))?;
        check_duration("--stop-timeout", self.stop_timeout, (second, second * 3600))?;
        if let Some(address) = &self.advertise {
            check_host_and_port(address).map_err(|why| format!("--advertise {address}: {why}"))?;
        }
        if let Some(address) = &self.peer_address {
            check_host_and_port(address)
                .map_err(|why| format!("--peer-address {address}: {why}"))?;
        }
        if let Some(peer) = self.peer {
            if self.lease_table.is_none() {
                return Err("--peer needs --lease-table, which names the processes".to_owned());
            }
            let ports = &self.process.ports;
            let taken = [(ports.http, "--http"), (ports.admin, "--admin")];
            let taken = taken.iter().find(|(port, _)| *port == peer);
            if let Some((_, flag)) = taken.filter(|_| peer.port() != 0) {
                return Err(format!(
                    "--peer and {flag} are both {peer}: use different ports"
                ));
            }
        }
        Ok(self)
    }

    /// Time that work in flight has after a signal. The rest of the stop time is for the commit
    /// and the lease.
    pub fn drain_limit(&self) -> Duration {
        self.stop_timeout * 4 / 5
    }
}

fn check_host_and_port(text: &str) -> Result<(), String> {
    let wrong = || "write host:port".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    if host.is_empty() || port == 0 || !host.chars().all(allowed) {
        return Err(wrong());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: RunConfig,
    }

    fn parse(arguments: &[&str]) -> Result<RunConfig, String> {
        let line = ["satchel", "--module", "module.yaml"];
        let line = line.into_iter().chain(arguments.iter().copied());
        let line = Line::try_parse_from(line).map_err(|error| error.to_string())?;
        line.run.validated()
    }

    const BUCKET: [&str; 4] = ["--state", "s3://bucket/shop", "--lease-table", "leases"];

    fn refusal(further: &[&str]) -> String {
        parse(&[&BUCKET, further].concat()).expect_err("it should be refused")
    }

    #[test]
    fn what_fits_together_is_taken() {
        let config = parse(&BUCKET).unwrap();
        assert_eq!(config.lease_time, Duration::from_secs(10));
        assert_eq!(config.stop_timeout, Duration::from_secs(25));
        assert_eq!(config.drain_limit(), Duration::from_secs(20));
        assert_eq!(config.log_format, LogFormat::Json);
        let config = parse(&["other.yaml", "--state", "state"]).unwrap();
        assert_eq!(config.modules.len(), 2);
    }

    #[test]
    fn what_does_not_is_refused_by_its_flags() {
        let refused = parse(&["--state", "s3://bucket/shop"]).unwrap_err();
        assert!(refused.contains("--lease-table"), "{refused}");
        let refused = parse(&["--state", "state", "--peer", "127.0.0.1:0"]).unwrap_err();
        assert!(refused.contains("--lease-table"), "{refused}");
        for (further, named) in [
            (&["--lease-time", "10ms"][..], "--lease-time"),
            (&["--stop-timeout", "0ms"], "--stop-timeout"),
            (&["--advertise", "10.0.0.1"], "--advertise"),
            (&["--advertise", "http://a:1"], "--advertise"),
            (&["--pending-limit", "1KiB"], "--pending-limit"),
            (&["--peer-address", "10.0.0.1:8082"], "--peer"),
            (&["--peer", "127.0.0.1:8081"], "--admin"),
            (
                &["--peer", "127.0.0.1:0", "--peer-address", "10.0.0.1"],
                "--peer-address",
            ),
            (&["--s3-kms-key", "k"], "--s3-kms-key"),
            (
                &["--admin-token-file", "a", "--admin-token-secret", "b"],
                "--admin-token",
            ),
        ] {
            let refused = refusal(further);
            assert!(refused.contains(named), "{refused}");
        }
    }
}
