//! Use of services that a load causes.

use satchel_log::{Condensation, ITEM_BYTES_MAX, Options, SnapshotPolicy};

use super::load::{CommitLog, Load};
use super::prices::MONTH_SECONDS;
use super::usage::Usage;
use super::{bundling, commits};

/// Bytes that a commit has besides its changes: the frame, the counter, the time.
const COMMIT_BYTES: f64 = 350.0;

/// Bytes of an item of the commit log in DynamoDB besides the commit: names and keys.
const ITEM_BYTES: f64 = 120.0;

/// Bytes of items that one read request unit of DynamoDB covers.
const READ_UNIT_BYTES: f64 = 4_096.0;

/// Bytes of log that a task writes in a month: starts, takeovers and deployments.
const TASK_LOG_BYTES: f64 = 1e6;

/// Bytes of the metrics that a task writes into its log in a minute (`--emf`).
const METRIC_LINES_BYTES: f64 = 1_200.0;

/// Custom metrics of an application (`--emf`).
const METRICS: f64 = 10.0;

/// Interval in seconds at which a task renews its item beside the lease (`--peer`).
const MEMBER_SECONDS: f64 = 10.0;

/// Time for which replaced and deleted objects cost storage, in seconds: an hour until they are
/// deleted, and a day as noncurrent versions.
const KEPT_SECONDS: f64 = 25.0 * 3_600.0;

/// Size of a Kinesis payload unit in bytes.
const PAYLOAD_UNIT_BYTES: f64 = 25_000.0;

/// GB an hour of a network load balancer's capacity unit, in bytes per second.
const BALANCER_UNIT_BYTES: f64 = 1e9 / 3_600.0;

/// Returns the use that a load causes.
pub fn estimate(load: &Load) -> Usage {
    let mut usage = Usage::default();
    functions(load, &mut usage);
    store(load, &mut usage);
    streams(load, &mut usage);
    processes(load, &mut usage);
    usage
}

fn functions(load: &Load, usage: &mut Usage) {
    usage.lambda_requests = load.owners() * requests_of_owner(load) + stream_requests(load);
    // Billed in whole ms.
    let seconds = load.function_ms.ceil() / 1e3;
    let gigabytes = load.function_memory_mb / 1_024.0;
    usage.lambda_gb_seconds = usage.lambda_requests * seconds * gigabytes;
}

/// Requests per second of one process for calls.
fn requests_of_owner(load: &Load) -> f64 {
    if load.calls <= 0.0 {
        return 0.0;
    }
    let calls = load.calls / load.owners();
    bundling::requests(calls, load.function_ms, load.max_linger_ms)
}

/// Requests per second for records: those of one read share them.
fn stream_requests(load: &Load) -> f64 {
    let streams = &load.streams;
    if streams.records_in <= 0.0 {
        return 0.0;
    }
    // A read that finds records holds at least one.
    reads(load).min(streams.records_in)
}

/// Reads of shards per second. An on-demand stream begins with four shards.
fn reads(load: &Load) -> f64 {
    let streams = &load.streams;
    let shards = f64::from(streams.shards.unwrap_or(4));
    shards * 1e3 / streams.read_interval_ms
}

fn store(load: &Load, usage: &mut Usage) {
    let partitions = f64::from(load.partitions.max(1));
    let one = load.of_one_partition();
    // The answers of one request to a function come together, for any partitions of the process.
    let answers = requests_of_owner(load).min(one.calls);
    let commits = commits::of(&one, answers, one.streams.records_out);
    usage.commit_ms = commits.took_ms;
    // Records come with reads. Between two of them, nothing changes unless calls come.
    let of_one = match load.calls > 0.0 {
        true => commits.per_second,
        false => commits.per_second.min(stream_requests(load)),
    };
    let commits = of_one * partitions;
    if commits <= 0.0 {
        usage.s3_bytes = load.state_bytes;
        return;
    }
    let options = Options::default();
    let changes = load.messages() * load.message_bytes;
    let log_bytes = changes + commits * COMMIT_BYTES;
    let commit_bytes = log_bytes / commits;
    let copies = copies(load, commits, commit_bytes);
    let snapshots = snapshots(load, &options.snapshots, log_bytes, copies.reads);
    // Each snapshot is its segments, a manifest, and a record in the log.
    let segments = (snapshots.bytes / options.snapshots.segment_bytes as f64).max(1.0);
    usage.s3_puts = snapshots.per_second * (segments + 1.0) + copies.per_second;
    let records = commits + snapshots.per_second;
    match load.log {
        CommitLog::S3 => usage.s3_puts += records,
        CommitLog::DynamoDb => {
            let is_inline = commit_bytes + ITEM_BYTES <= ITEM_BYTES_MAX as f64;
            let item_bytes = if is_inline {
                commit_bytes + ITEM_BYTES
            } else {
                usage.s3_puts += records;
                ITEM_BYTES
            };
            // A deletion costs as much as the write.
            usage.log_writes = 2.0 * records * (item_bytes / 1_024.0).ceil();
            // Items are looked for before they are deleted.
            usage.log_reads = records * item_bytes / READ_UNIT_BYTES;
            let kept = options.grace_ms as f64 / 1e3;
            usage.dynamodb_bytes = records * kept * item_bytes;
        }
    }
    // The next epoch is read at least twice in each window, while there are commits.
    let reads_max = 2e3 / options.window_ms as f64;
    match load.log {
        CommitLog::S3 => usage.s3_gets = partitions * of_one.min(reads_max),
        CommitLog::DynamoDb => usage.lease_reads += partitions * of_one.min(reads_max),
    }
    let written = log_bytes + copies.bytes + snapshots.per_second * snapshots.bytes;
    usage.s3_bytes = load.state_bytes + written * KEPT_SECONDS;
}

/// Copies of small log objects.
struct Copies {
    per_second: f64,
    /// Bytes that they write per second.
    bytes: f64,
    /// Number by which the objects that a takeover reads grow per second.
    reads: f64,
}

fn copies(load: &Load, commits: f64, commit_bytes: f64) -> Copies {
    let settings = Condensation::default();
    if load.log == CommitLog::DynamoDb {
        // One request reads many items.
        return Copies {
            per_second: 0.0,
            bytes: 0.0,
            reads: 0.0,
        };
    }
    if commit_bytes > settings.object_bytes_max as f64 {
        return Copies {
            per_second: 0.0,
            bytes: 0.0,
            reads: commits,
        };
    }
    let per_second = commits / settings.objects as f64;
    Copies {
        per_second,
        // Nearly all is copied in a run, and then with the other runs.
        bytes: 2.0 * commits * commit_bytes,
        reads: per_second / settings.runs as f64,
    }
}

/// Snapshots of a load.
struct Snapshots {
    per_second: f64,
    /// Bytes of each.
    bytes: f64,
}

fn snapshots(load: &Load, policy: &SnapshotPolicy, log_bytes: f64, reads: f64) -> Snapshots {
    // Without knowledge of which keys change, all state is written anew.
    let bytes = load.state_bytes;
    let weight = log_bytes + reads * policy.object_bytes as f64;
    let due = (bytes * policy.log_percent as f64 / 100.0)
        .max(policy.floor_bytes as f64)
        .min(policy.tail_bytes_max as f64);
    Snapshots {
        per_second: weight / due,
        bytes,
    }
}

fn streams(load: &Load, usage: &mut Usage) {
    let streams = &load.streams;
    let count = f64::from(streams.count);
    match streams.shards {
        Some(shards) => {
            usage.kinesis_shards = count * f64::from(shards);
            let units = (streams.record_bytes / PAYLOAD_UNIT_BYTES).ceil().max(1.0);
            usage.kinesis_units = streams.records_out * units;
        }
        None => {
            usage.kinesis_streams = count;
            let billed = (streams.record_bytes / 1_024.0).ceil().max(1.0) * 1_024.0;
            usage.kinesis_bytes_in = streams.records_out * billed;
            usage.kinesis_bytes_out = streams.records_in * streams.record_bytes;
        }
    }
}

fn processes(load: &Load, usage: &mut Usage) {
    let tasks = &load.tasks;
    let count = f64::from(tasks.count);
    let (vcpu, memory_gb) = (count * tasks.vcpu, count * tasks.memory_gb);
    if tasks.spot {
        (usage.spot_vcpu, usage.spot_memory_gb) = (vcpu, memory_gb);
    } else {
        (usage.vcpu, usage.memory_gb) = (vcpu, memory_gb);
    }
    if tasks.public_address {
        usage.addresses = count;
    }
    if load.is_spread() {
        // Each renews its item, and reads the roster and the items of all.
        usage.lease_writes = count * 1e3 / load.lease_renewal_ms;
        let roster_bytes = 300.0 + 170.0 * f64::from(load.partitions) + 250.0 * count;
        let read_units = (roster_bytes / READ_UNIT_BYTES).ceil() + count;
        usage.lease_reads += count * read_units * 1e3 / load.lease_poll_ms;
    } else if count > 0.0 {
        usage.lease_writes = 1e3 / load.lease_renewal_ms;
        usage.lease_reads += (count - 1.0) * 1e3 / load.lease_poll_ms;
        if tasks.peer {
            usage.lease_writes += count / MEMBER_SECONDS;
        }
    }
    let mut task_log_bytes = TASK_LOG_BYTES / MONTH_SECONDS;
    if tasks.emf && count > 0.0 {
        usage.metrics = METRICS;
        task_log_bytes += METRIC_LINES_BYTES / 60.0;
    }
    usage.log_bytes = count * task_log_bytes + usage.lambda_requests * load.function_log_bytes;
    if tasks.load_balancer {
        usage.load_balancers = 1.0;
        // Clients keep their connections.
        usage.load_balancer_units = load.calls * load.call_bytes / BALANCER_UNIT_BYTES;
    }
}
