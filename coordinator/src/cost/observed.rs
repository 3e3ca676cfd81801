//! The bill of a running application: what its processes counted, and the model with the load that
//! they observed.
//!
//! ```text
//!  Observed of each process ─┬─ counts ───► Usage ──► so far, and the counted part of the forecast
//!                            └─ rates ────► Load ───► model: the rest, and what dials change
//! ```

use serde::{Deserialize, Serialize};

use super::load::{Architecture, CommitLog, Load, Streams, Tasks};
use super::model::estimate;
use super::prices::{MONTH_SECONDS, PRICES_FOUND, Prices};
use super::usage::{Costs, Position, Usage};

/// Bytes of a call and its answer, which count at a load balancer only.
const CALL_BYTES: f64 = 2_000.0;

/// Bytes of a record whose size nothing counts.
const RECORD_BYTES: f64 = 1_000.0;

/// Paces that the bill is computed for, in ms.
const PACES_MS: [f64; 6] = [0.0, 25.0, 50.0, 100.0, 200.0, 500.0];

/// Lingers that the bill is computed for, in ms.
const LINGERS_MS: [f64; 5] = [0.0, 10.0, 25.0, 50.0, 100.0];

/// Depths that the bill is computed for.
const DEPTHS: [f64; 4] = [1.0, 2.0, 4.0, 8.0];

/// Counts of a process, in a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// Calls and sends that were answered.
    pub calls: u64,
    /// Records of streams that were read.
    pub records_in: u64,
    /// Bytes of records that were read from Kinesis.
    pub kinesis_bytes_in: u64,
    /// Records that egresses delivered.
    pub records_out: u64,
    /// Requests to S3 at the price of a PUT, except LIST.
    pub s3_puts: u64,
    /// LIST requests to S3.
    pub s3_lists: u64,
    /// GET requests to S3.
    pub s3_gets: u64,
    /// Files that were written into a directory of state.
    pub files: u64,
    /// Write request units of the log in DynamoDB.
    pub table_writes: u64,
    /// Read request units of the log in DynamoDB.
    pub table_reads: u64,
    /// Requests to endpoints.
    pub requests: u64,
    /// Part of them: those to Lambda functions.
    pub lambda_requests: u64,
    /// Time that the requests took together, in ms.
    pub request_ms: u64,
    /// Messages in these requests.
    pub messages: u64,
    /// Bytes of commits.
    pub commit_bytes: u64,
}

impl Counted {
    /// Returns what was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let less = |now: u64, before: u64| now.saturating_sub(before);
        Self {
            calls: less(self.calls, earlier.calls),
            records_in: less(self.records_in, earlier.records_in),
            kinesis_bytes_in: less(self.kinesis_bytes_in, earlier.kinesis_bytes_in),
            records_out: less(self.records_out, earlier.records_out),
            s3_puts: less(self.s3_puts, earlier.s3_puts),
            s3_lists: less(self.s3_lists, earlier.s3_lists),
            s3_gets: less(self.s3_gets, earlier.s3_gets),
            files: less(self.files, earlier.files),
            table_writes: less(self.table_writes, earlier.table_writes),
            table_reads: less(self.table_reads, earlier.table_reads),
            requests: less(self.requests, earlier.requests),
            lambda_requests: less(self.lambda_requests, earlier.lambda_requests),
            request_ms: less(self.request_ms, earlier.request_ms),
            messages: less(self.messages, earlier.messages),
            commit_bytes: less(self.commit_bytes, earlier.commit_bytes),
        }
    }
}

/// Settings of a process that determine its bill.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostSettings {
    /// Store of the durable state: `local`, `s3` or `dynamodb` (the log in a table).
    pub store: String,
    /// `--commit-pace`, in ms.
    pub commit_pace_ms: u64,
    /// `--commit-interval`, in ms.
    pub commit_interval_ms: u64,
    /// `--commit-depth`.
    pub commit_depth: u64,
    /// Longest `maxLinger` of an endpoint, in ms.
    pub max_linger_ms: u64,
    /// True if functions are in Lambda, or would be outside of `dev`.
    pub lambda: bool,
    /// Streams that ingresses read and egresses write.
    pub streams: u32,
    /// Partitions of the application.
    pub partitions: u32,
}

/// Figures of one process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// Random name of the process.
    pub process: String,
    /// Start of the process, RFC 3339.
    pub started: String,
    /// Beginning of the counts, RFC 3339.
    pub since: String,
    /// Time of the counts, in seconds.
    pub seconds: f64,
    /// The counts.
    pub counted: Counted,
    /// Approximate size of the state in memory, in bytes.
    pub state_bytes: u64,
    /// Settings.
    pub settings: CostSettings,
}

/// Facts of the bill that no process knows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CostAssumptions {
    /// Memory of the Lambda functions in MB.
    pub function_memory_mb: f64,
    /// Tasks on Fargate: the owner and its standbys, or the processes that share the partitions.
    pub tasks: u32,
}

impl Default for CostAssumptions {
    fn default() -> Self {
        Self {
            function_memory_mb: 256.0,
            tasks: 2,
        }
    }
}

/// Bill of a running application.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ObservedCosts {
    /// True if the counted requests are paid: the state is in AWS.
    pub paid: bool,
    /// Counted use so far, at list prices.
    pub so_far: Costs,
    /// Bill of a month at the counted rates, and by the model where nothing is counted.
    pub month: Forecast,
    /// Load per second that was observed.
    pub load: ObservedLoad,
    /// Bills of a month with other settings.
    pub dials: Vec<Dial>,
    /// Assumptions behind the figures.
    pub assumptions: Vec<String>,
}

/// Bill of a month.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    /// Sum in US dollars.
    pub dollars: f64,
    /// Positions.
    pub positions: Vec<ForecastPosition>,
}

/// Position of a forecast.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ForecastPosition {
    /// The position.
    #[serde(flatten)]
    pub position: Position,
    /// Origin: `count` or `model`.
    pub by: &'static str,
}

/// Load per second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ObservedLoad {
    /// Calls and sends.
    pub calls: f64,
    /// Records of streams.
    pub records_in: f64,
    /// Records of egresses.
    pub records_out: f64,
    /// Requests to endpoints.
    pub requests: f64,
    /// Mean time of such a request in ms.
    pub function_ms: f64,
    /// Bytes of commits for each message.
    pub message_bytes: f64,
}

/// Setting, and the bill of a month with other values of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Dial {
    /// Name of the setting.
    pub dial: &'static str,
    /// Unit of its values; empty for a number.
    pub unit: &'static str,
    /// Bills, by value.
    pub options: Vec<DialOption>,
}

/// Value of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DialOption {
    /// The value.
    pub value: f64,
    /// True for the present value.
    pub present: bool,
    /// Bill of a month in US dollars.
    pub dollars: f64,
    /// Mean time from the seal of a commit until it is durable, in ms, by the model.
    pub commit_ms: f64,
}

/// Returns the bill of an application whose processes observed this. `None` without a process.
#[must_use]
pub fn bill(processes: &[Observed], given: CostAssumptions) -> Option<ObservedCosts> {
    let settings = &processes.first()?.settings;
    let rate = |of: fn(&Counted) -> u64| -> f64 {
        let rates = processes.iter().map(|one| {
            let seconds = one.seconds.max(1.0);
            of(&one.counted) as f64 / seconds
        });
        rates.sum()
    };
    let paid = settings.store != "local";
    let observed = observed_load(&rate);
    let load = model_load((processes, settings), &observed, given);
    let counted = Usage {
        // Where nothing is paid, each file would be an object.
        s3_puts: rate(|it| it.s3_puts) + if paid { 0.0 } else { rate(|it| it.files) },
        s3_lists: rate(|it| it.s3_lists),
        s3_gets: rate(|it| it.s3_gets),
        log_writes: rate(|it| it.table_writes),
        log_reads: rate(|it| it.table_reads),
        lambda_requests: rate(|it| it.lambda_requests),
        lambda_gb_seconds: rate(|it| it.lambda_requests) * observed.function_ms.ceil() / 1e3
            * given.function_memory_mb
            / 1_024.0,
        kinesis_bytes_out: rate(|it| it.kinesis_bytes_in),
        ..Usage::default()
    };
    let of_month = priced(&counted);
    let modelled = modelled(&load, settings);
    let month = forecast(&of_month, &priced(&modelled));
    let present = priced(&modelled).dollars;
    let option = |changed: Load, value: f64, is_present: bool| {
        let usage = self::modelled(&changed, settings);
        DialOption {
            value,
            present: is_present,
            dollars: month.dollars + priced(&usage).dollars - present,
            commit_ms: usage.commit_ms,
        }
    };
    let dial = |name, unit, values: &[f64], now: f64, set: fn(&Load, f64) -> Load| {
        let mut values: Vec<f64> = values.iter().copied().filter(|it| *it != now).collect();
        values.push(now);
        values.sort_by(f64::total_cmp);
        let options = values.into_iter();
        Dial {
            dial: name,
            unit,
            options: options
                .map(|value| option(set(&load, value), value, value == now))
                .collect(),
        }
    };
    let mut dials = vec![
        dial(
            "--commit-pace",
            "ms",
            &PACES_MS,
            load.commit_pace_ms,
            |load, value| Load {
                commit_pace_ms: value,
                ..*load
            },
        ),
        dial(
            "--commit-depth",
            "",
            &DEPTHS,
            load.commit_depth,
            |load, value| Load {
                commit_depth: value,
                ..*load
            },
        ),
    ];
    if settings.lambda {
        let now = load.max_linger_ms;
        dials.push(dial("maxLinger", "ms", &LINGERS_MS, now, |load, value| {
            Load {
                max_linger_ms: value,
                ..*load
            }
        }));
    }
    let seconds = processes.iter().map(|one| one.seconds);
    let longest = seconds.fold(0.0, f64::max);
    Some(ObservedCosts {
        paid,
        so_far: part_of_month(of_month, longest),
        month,
        load: observed,
        dials,
        assumptions: assumptions(settings, given, &load),
    })
}

fn observed_load(rate: &impl Fn(fn(&Counted) -> u64) -> f64) -> ObservedLoad {
    let share = |of: f64, all: f64| if all > 0.0 { of / all } else { 0.0 };
    let requests = rate(|it| it.requests);
    ObservedLoad {
        calls: rate(|it| it.calls),
        records_in: rate(|it| it.records_in),
        records_out: rate(|it| it.records_out),
        requests,
        function_ms: share(rate(|it| it.request_ms), requests),
        message_bytes: share(rate(|it| it.commit_bytes), rate(|it| it.messages)),
    }
}

fn model_load(
    (processes, settings): (&[Observed], &CostSettings),
    observed: &ObservedLoad,
    given: CostAssumptions,
) -> Load {
    let (log, store_ms) = match &*settings.store {
        "dynamodb" => (CommitLog::DynamoDb, 5.0),
        _ => (CommitLog::S3, 25.0),
    };
    let state_bytes: u64 = processes.iter().map(|one| one.state_bytes).sum();
    Load {
        calls: observed.calls,
        call_bytes: CALL_BYTES,
        streams: Streams {
            count: settings.streams,
            shards: None,
            records_in: observed.records_in,
            records_out: observed.records_out,
            record_bytes: RECORD_BYTES,
            read_interval_ms: 200.0,
        },
        // A function that was never asked takes some time too.
        function_ms: observed.function_ms.max(1.0),
        function_memory_mb: given.function_memory_mb,
        function_log_bytes: 0.0,
        message_bytes: observed.message_bytes,
        state_bytes: state_bytes as f64,
        log,
        store_ms,
        commit_pace_ms: settings.commit_pace_ms as f64,
        commit_interval_ms: settings.commit_interval_ms as f64,
        commit_depth: settings.commit_depth as f64,
        max_linger_ms: settings.max_linger_ms as f64,
        lease_renewal_ms: 3_333.0,
        lease_poll_ms: 1_000.0,
        partitions: settings.partitions.max(1),
        tasks: Tasks {
            count: given.tasks,
            vcpu: 0.25,
            memory_gb: 0.5,
            architecture: Architecture::Arm,
            spot: false,
            public_address: true,
            load_balancer: false,
            peer: processes.len() > 1,
            emf: false,
        },
    }
}

/// Use by the model. Requests to endpoints that are not in Lambda have no price.
fn modelled(load: &Load, settings: &CostSettings) -> Usage {
    let mut usage = estimate(load);
    if !settings.lambda {
        usage.lambda_requests = 0.0;
        usage.lambda_gb_seconds = 0.0;
    }
    usage
}

fn priced(usage: &Usage) -> Costs {
    usage.priced(&Prices::LIST, Architecture::Arm)
}

/// Takes counted positions as they are, and the others from the model.
fn forecast(counted: &Costs, modelled: &Costs) -> Forecast {
    // What is counted is counted as a whole: the model adds nothing to these.
    const COUNTED: [&str; 6] = [
        "S3 PUT",
        "S3 LIST",
        "S3 GET",
        "DynamoDB log writes",
        "Lambda requests",
        "Lambda GB-seconds",
    ];
    let counts = counted.positions.iter().map(|position| ForecastPosition {
        position: position.clone(),
        by: "count",
    });
    let others = modelled.positions.iter().filter(|position| {
        let is_counted = COUNTED.contains(&position.name);
        !is_counted && counted.of(position.name) == 0.0
    });
    let others = others.map(|position| ForecastPosition {
        position: position.clone(),
        by: "model",
    });
    let positions: Vec<_> = counts.chain(others).collect();
    Forecast {
        dollars: positions.iter().map(|it| it.position.dollars).sum(),
        positions,
    }
}

/// Part of a monthly bill that `seconds` cost.
fn part_of_month(costs: Costs, seconds: f64) -> Costs {
    let share = seconds / MONTH_SECONDS;
    let positions = costs.positions.into_iter().map(|position| Position {
        quantity: position.quantity * share,
        dollars: position.dollars * share,
        ..position
    });
    Costs {
        positions: positions.collect(),
        dollars: costs.dollars * share,
    }
}

fn assumptions(settings: &CostSettings, given: CostAssumptions, load: &Load) -> Vec<String> {
    let mut assumptions = vec![PRICES_FOUND.to_owned()];
    if settings.store == "local" {
        assumptions.push(
            "nothing of this is paid: it is what the same would cost on AWS with the state in S3, \
             each file counted as one PUT; the commits of `run` are further apart than those here, \
             unless --commit-pace is set"
                .to_owned(),
        );
    }
    if settings.lambda {
        assumptions.push(format!(
            "Lambda functions have {} MB; the time of a request counts from its start here, which \
             is more than Lambda bills",
            given.function_memory_mb
        ));
    } else {
        assumptions.push("requests to HTTP endpoints have no price here".to_owned());
    }
    assumptions.push(format!(
        "{} tasks on Fargate with 0.25 vCPU, 0.5 GB and a public address each; leases, tasks, \
         storage and streams follow the model of `satchel cost`, streams are on demand",
        given.tasks
    ));
    assumptions.push(format!(
        "the load stays the same all month (730 h); a commit's request takes {} ms",
        load.store_ms
    ));
    assumptions.push(
        "requests to SQS, SNS, EventBridge and DynamoDB of ingresses and egresses, data transfer \
         and logs of functions are not included"
            .to_owned(),
    );
    assumptions
}

#[cfg(test)]
mod tests;
