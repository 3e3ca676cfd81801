//! `satchel cost`.

mod running;

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::output;
use crate::cli::target::AdminArgs;
use crate::config::CommitPolicy;
use crate::cost::{
    Architecture, CommitLog, Costs, Load, PRICES_FOUND, Prices, Streams, Tasks, estimate,
};
use crate::error::Failure;
use crate::module::parse_duration;

/// Arguments of `cost`.
#[derive(Debug, Args)]
pub struct CostArgs {
    /// Calls and sends per second whose answer a client waits for
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0, value_parser = rate)]
    rate: f64,

    /// Bytes of a call and its answer together; they count at a load balancer
    #[arg(long, value_name = "BYTES", default_value_t = 2_000.0, value_parser = rate)]
    call_bytes: f64,

    /// Time that a function takes for a request, in ms
    #[arg(long, value_name = "MS", default_value_t = 12.0, value_parser = rate)]
    function_ms: f64,

    /// Memory of the function in MB
    #[arg(long, value_name = "MB", default_value_t = 256.0, value_parser = amount)]
    function_memory: f64,

    /// Bytes that each request to a function writes to its log. Lambda's own lines are about 300
    /// if the function's system log level is INFO.
    #[arg(long, value_name = "BYTES", default_value_t = 0.0, value_parser = rate)]
    function_log_bytes: f64,

    /// Number of Kinesis streams that are read or written
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    streams: u32,

    /// Shards of each stream, if it is provisioned [default: streams are on demand]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    shards: Option<u32>,

    /// Records read from streams per second
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0, value_parser = rate)]
    records_rate: f64,

    /// Records that functions write to streams per second
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0, value_parser = rate)]
    records_out_rate: f64,

    /// Size of a record in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1_000.0, value_parser = amount)]
    record_bytes: f64,

    /// Bytes that a message adds to a commit, compressed: its state, above all
    #[arg(long, value_name = "BYTES", default_value_t = 200.0, value_parser = rate)]
    message_bytes: f64,

    /// Size of all state in MB, compressed
    #[arg(long, value_name = "MB", default_value_t = 100.0, value_parser = rate)]
    state_mb: f64,

    /// Store of the commit log
    #[arg(long, value_enum, value_name = "STORE", default_value_t = LogStore::S3)]
    commit_log: LogStore,

    /// Time of a commit's request [default: 25ms with S3, 5ms with DynamoDB]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    store_latency: Option<Duration>,

    /// As `--commit-pace` of `run` [default: 50ms with S3, 25ms with DynamoDB]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    commit_pace: Option<Duration>,

    /// As `--commit-interval` of `run`
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    commit_interval: Duration,

    /// As `--commit-depth` of `run`
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 2,
        value_parser = clap::value_parser!(u32).range(1..=satchel_log::DEPTH_MAX as i64)
    )]
    commit_depth: u32,

    /// As `maxLinger` of the endpoint
    #[arg(long, value_name = "DURATION", default_value = "10ms", value_parser = parse_duration)]
    max_linger: Duration,

    /// Number of tasks on Fargate: the owner and its standbys, or the processes that share the
    /// partitions
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    tasks: u32,

    /// Number of partitions, as `--partitions` of `run`. With --peer they are spread over the tasks
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    partitions: u32,

    /// vCPU of a task
    #[arg(long, value_name = "NUMBER", default_value_t = 0.25, value_parser = amount)]
    task_cpu: f64,

    /// Memory of a task in GB
    #[arg(long, value_name = "GB", default_value_t = 0.5, value_parser = amount)]
    task_memory: f64,

    /// Run the tasks on Fargate Spot
    #[arg(long)]
    spot: bool,

    /// Run tasks and functions on x86 instead of ARM
    #[arg(long)]
    x86: bool,

    /// Give the tasks no public IPv4 addresses
    #[arg(long)]
    private: bool,

    /// Put a network load balancer in front of the tasks
    #[arg(long)]
    load_balancer: bool,

    /// Let the tasks forward requests to each other, as `--peer` of `run`
    #[arg(long)]
    peer: bool,

    /// Let the tasks write custom metrics into their logs, as `--emf` of `run`
    #[arg(long)]
    emf: bool,

    /// Print the bill of the running application instead: what its processes counted, a month at
    /// these rates, and what other settings would change
    #[arg(
        long,
        conflicts_with_all = [
            "rate", "call_bytes", "function_ms", "function_log_bytes", "streams", "shards",
            "records_rate", "records_out_rate", "record_bytes", "message_bytes", "state_mb",
            "commit_log", "store_latency", "commit_pace", "commit_interval", "commit_depth",
            "max_linger", "partitions", "task_cpu", "task_memory", "spot", "x86", "private",
            "load_balancer", "peer", "emf",
        ]
    )]
    of_running: bool,

    /// Time that the counts of --of-running cover
    #[arg(long, value_enum, value_name = "SPAN", default_value_t = Over::Today)]
    over: Over,

    #[command(flatten)]
    admin: AdminArgs,

    /// Form of the bill
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = CostFormat::Text)]
    format: CostFormat,
}

/// Store of the commit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogStore {
    /// One object for each commit
    S3,
    /// One item for each commit
    Dynamodb,
}

/// Time that counts cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Over {
    /// Since midnight (UTC), or the start of the process
    Today,
    /// The last five minutes
    Recent,
}

/// Form of the bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CostFormat {
    /// A table for people
    Text,
    /// One JSON object
    Json,
}

/// Prints the monthly bill of a load, or of the running application.
pub(crate) async fn run(args: &CostArgs) -> Result<(), Failure> {
    if args.of_running {
        return running::run(args).await;
    }
    let load = args.load();
    load.validate().map_err(Failure::usage)?;
    let costs = estimate(&load).priced(&Prices::LIST, load.tasks.architecture);
    let assumptions = assumptions(&load);
    let text = match args.format {
        CostFormat::Text => text(&load, &costs, &assumptions),
        CostFormat::Json => json!({
            "dollarsPerMonth": costs.dollars,
            "dollarsPerMillionMessages": per_million(&load, &costs),
            "positions": costs.positions,
            "assumptions": assumptions,
        })
        .to_string(),
    };
    output::line(text.as_bytes()).map(drop)
}

impl CostArgs {
    fn load(&self) -> Load {
        let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
        let (log, latency_ms, policy) = match self.commit_log {
            LogStore::S3 => (CommitLog::S3, 25.0, CommitPolicy::BUCKET),
            LogStore::Dynamodb => (CommitLog::DynamoDb, 5.0, CommitPolicy::TABLE),
        };
        let pace_ms = millis(policy.pace);
        Load {
            calls: self.rate,
            call_bytes: self.call_bytes,
            streams: Streams {
                count: self.streams,
                shards: self.shards,
                records_in: self.records_rate,
                records_out: self.records_out_rate,
                record_bytes: self.record_bytes,
                read_interval_ms: 200.0,
            },
            function_ms: self.function_ms,
            function_memory_mb: self.function_memory,
            function_log_bytes: self.function_log_bytes,
            message_bytes: self.message_bytes,
            state_bytes: self.state_mb * 1e6,
            log,
            store_ms: self.store_latency.map_or(latency_ms, millis),
            commit_pace_ms: self.commit_pace.map_or(pace_ms, millis),
            commit_interval_ms: millis(self.commit_interval),
            commit_depth: f64::from(self.commit_depth),
            max_linger_ms: millis(self.max_linger),
            lease_renewal_ms: 3_333.0,
            lease_poll_ms: 1_000.0,
            partitions: self.partitions,
            tasks: Tasks {
                count: self.tasks,
                vcpu: self.task_cpu,
                memory_gb: self.task_memory,
                architecture: if self.x86 {
                    Architecture::X86
                } else {
                    Architecture::Arm
                },
                spot: self.spot,
                public_address: !self.private,
                load_balancer: self.load_balancer,
                peer: self.peer,
                emf: self.emf,
            },
        }
    }
}

fn per_million(load: &Load, costs: &Costs) -> Option<f64> {
    let millions = load.messages() * crate::cost::MONTH_SECONDS / 1e6;
    (millions > 0.0).then(|| costs.dollars / millions)
}

fn text(load: &Load, costs: &Costs, assumptions: &[String]) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{:<24} {:>14} {:<10} {:>10}", "", "a month", "", "$");
    for position in &costs.positions {
        let quantity = position.quantity;
        let digits = if quantity < 10.0 { 3 } else { 1 };
        let _ = writeln!(
            text,
            "{:<24} {quantity:>14.digits$} {:<10} {:>10.2}",
            position.name, position.unit, position.dollars
        );
    }
    let _ = writeln!(text, "{:<50} {:>10.2}", "sum", costs.dollars);
    if let Some(dollars) = per_million(load, costs) {
        let _ = writeln!(text, "{:<50} {dollars:>10.3}", "for a million messages");
    }
    let _ = writeln!(text, "\nassumptions:");
    for assumption in assumptions {
        let _ = writeln!(text, "- {assumption}");
    }
    text
}

fn assumptions(load: &Load) -> Vec<String> {
    let usage = estimate(load);
    let mut assumptions = vec![
        PRICES_FOUND.to_owned(),
        "the load is the same all month (730 h); calls come independently of each other, each to \
         an address that is not busy"
            .to_owned(),
        format!(
            "a commit's request takes {} ms on average, in one of a hundred cases about three \
             times as long; {:.2} PUT and {:.2} writes of the log a second follow from pace, \
             interval and depth",
            load.store_ms, usage.s3_puts, usage.log_writes
        ),
    ];
    if load.messages() > 0.0 {
        assumptions.push(format!(
            "{:.2} requests to functions a second: {:.1} messages share one",
            usage.lambda_requests,
            load.messages() / usage.lambda_requests
        ));
        assumptions.push(
            "replaced and deleted objects are stored for 25 h (an hour until they are deleted, a \
             day as noncurrent versions); a snapshot writes all state anew"
                .to_owned(),
        );
    }
    if load.partitions > 1 {
        assumptions.push(format!(
            "the load is spread evenly over {} partitions, and no message crosses from one to \
             another; the commits of a process share its pace",
            load.partitions
        ));
    }
    if load.streams.count > 0 {
        assumptions.push(
            "streams are read by polling, every 200 ms for each shard while records come (an \
             on-demand stream has 4 shards); extended retention is not used; records that others \
             write are on their bill"
                .to_owned(),
        );
    }
    if load.tasks.spot {
        assumptions.push(format!(
            "Fargate Spot at {:.1} % of the price; it varies",
            Prices::LIST.fargate_spot_share * 100.0
        ));
    }
    if load.tasks.load_balancer {
        assumptions.push("clients of the load balancer keep their connections".to_owned());
    }
    let metrics = match load.tasks.emf {
        true => "",
        false => "custom metrics, ",
    };
    assumptions.push(format!(
        "data transfer, container images, {metrics}alarms, dashboards and other egresses are not \
         included"
    ));
    assumptions
}

/// Parses a number that is not negative.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && (0.0..=1e9).contains(&number) => Ok(number),
        _ => Err("not a number from 0 to 1000000000".to_owned()),
    }
}

/// Parses a number that is larger than 0.
fn amount(text: &str) -> Result<f64, String> {
    rate(text).and_then(|number| match number > 0.0 {
        true => Ok(number),
        false => Err("must be larger than 0".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cost {
        #[command(flatten)]
        args: CostArgs,
    }

    fn load(arguments: &[&str]) -> Result<Load, String> {
        let parsed = Cost::try_parse_from([&["cost"], arguments].concat());
        let load = parsed.map_err(|error| error.to_string())?.args.load();
        load.validate().map(|()| load)
    }

    #[test]
    fn the_bill_of_a_hundred_calls_a_second_names_its_positions_and_assumptions() {
        let load = load(&["--rate", "100", "--function-ms", "12"]).unwrap();
        let costs = estimate(&load).priced(&Prices::LIST, load.tasks.architecture);
        let text = text(&load, &costs, &assumptions(&load));
        for part in [
            "S3 PUT",
            "Lambda GB-seconds",
            "public IPv4",
            "sum",
            "us-east-1",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn the_log_in_dynamodb_has_a_pace_of_its_own_unless_one_is_given() {
        let paces = |arguments: &[&str]| load(arguments).unwrap().commit_pace_ms;
        assert_eq!(paces(&[]), 50.0);
        assert_eq!(paces(&["--commit-log", "dynamodb"]), 25.0);
        assert_eq!(
            paces(&["--commit-log", "dynamodb", "--commit-pace", "100ms"]),
            100.0
        );
    }

    #[test]
    fn bad_input_is_refused_by_name() {
        for (arguments, named) in [
            (&["--rate=-1"][..], "--rate"),
            (&["--rate", "NaN"], "--rate"),
            (&["--function-memory", "0"], "--function-memory"),
            (&["--commit-depth", "9"], "--commit-depth"),
            (&["--commit-log", "tape"], "--commit-log"),
            (&["--records-rate", "5"], "--streams"),
            (&["--commit-pace", "soon"], "--commit-pace"),
            (&["--rate", "5", "--function-ms", "0"], "--function-ms"),
        ] {
            let refused = load(arguments).unwrap_err();
            assert!(refused.contains(named), "{arguments:?}: {refused}");
        }
    }
}
