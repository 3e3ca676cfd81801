//! Use of services, and its price by position.

use serde::Serialize;

use super::load::Architecture;
use super::prices::{MONTH_HOURS, MONTH_SECONDS, Prices};

/// Use of AWS services: rates per second, and what stands all month.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// PUT requests to S3, and others at their price except LIST, per second.
    pub s3_puts: f64,
    /// LIST requests per second.
    pub s3_lists: f64,
    /// GET requests per second.
    pub s3_gets: f64,
    /// Bytes stored in S3.
    pub s3_bytes: f64,
    /// Mean time from the seal of a commit until it and all before it are durable, in ms; 0 without
    /// commits. It has no price.
    pub commit_ms: f64,
    /// Write request units of leases and of the items of tasks beside them, per second.
    pub lease_writes: f64,
    /// Read request units per second: leases, and the next epoch if the log is in DynamoDB.
    pub lease_reads: f64,
    /// Write request units of the commit log in DynamoDB per second, deletions included.
    pub log_writes: f64,
    /// Read request units of the commit log in DynamoDB per second: items that are to be deleted.
    pub log_reads: f64,
    /// Bytes stored in DynamoDB.
    pub dynamodb_bytes: f64,
    /// Requests to functions per second.
    pub lambda_requests: f64,
    /// GB-seconds of functions per second.
    pub lambda_gb_seconds: f64,
    /// Provisioned shards.
    pub kinesis_shards: f64,
    /// Payload units written to provisioned streams per second.
    pub kinesis_units: f64,
    /// Streams on demand.
    pub kinesis_streams: f64,
    /// Bytes written to streams on demand per second, in whole KB for each record.
    pub kinesis_bytes_in: f64,
    /// Bytes read from streams on demand per second.
    pub kinesis_bytes_out: f64,
    /// vCPU of tasks at the full price.
    pub vcpu: f64,
    /// GB of memory of tasks at the full price.
    pub memory_gb: f64,
    /// vCPU of tasks on Spot.
    pub spot_vcpu: f64,
    /// GB of memory of tasks on Spot.
    pub spot_memory_gb: f64,
    /// Public IPv4 addresses.
    pub addresses: f64,
    /// Bytes of log per second.
    pub log_bytes: f64,
    /// Custom metrics.
    pub metrics: f64,
    /// Network load balancers.
    pub load_balancers: f64,
    /// Capacity units of network load balancers.
    pub load_balancer_units: f64,
}

/// A position of a monthly bill.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Position {
    /// Name.
    pub name: &'static str,
    /// Quantity of a month.
    pub quantity: f64,
    /// Unit of the quantity.
    pub unit: &'static str,
    /// Price of the month in US dollars.
    pub dollars: f64,
}

/// A monthly bill.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Costs {
    /// Positions, without those that are 0.
    pub positions: Vec<Position>,
    /// Sum in US dollars.
    pub dollars: f64,
}

impl Costs {
    /// Price of a position in US dollars; 0 if the bill does not have it.
    pub fn of(&self, name: &str) -> f64 {
        let found = self.positions.iter().find(|position| position.name == name);
        found.map_or(0.0, |position| position.dollars)
    }
}

impl Usage {
    /// Bill of a month in which the use is the same all the time.
    pub fn priced(&self, prices: &Prices, architecture: Architecture) -> Costs {
        let (gb_second, vcpu_hour, gb_hour) = match architecture {
            Architecture::Arm => (
                prices.lambda_arm_gb_second,
                prices.fargate_arm_vcpu_hour,
                prices.fargate_arm_gb_hour,
            ),
            Architecture::X86 => (
                prices.lambda_x86_gb_second,
                prices.fargate_x86_vcpu_hour,
                prices.fargate_x86_gb_hour,
            ),
        };
        let millions = |name, per_second: f64, price| Position {
            name,
            quantity: per_second * MONTH_SECONDS / 1e6,
            unit: "million",
            dollars: per_second * MONTH_SECONDS / 1e6 * price,
        };
        let gigabytes = |name, bytes: f64, unit, price| Position {
            name,
            quantity: bytes / 1e9,
            unit,
            dollars: bytes / 1e9 * price,
        };
        let hours = |name, count: f64, unit, price| Position {
            name,
            quantity: count,
            unit,
            dollars: count * MONTH_HOURS * price,
        };
        let spot = prices.fargate_spot_share;
        let month = MONTH_SECONDS;
        let positions = [
            millions("S3 PUT", self.s3_puts, prices.s3_put_million),
            millions("S3 LIST", self.s3_lists, prices.s3_put_million),
            millions("S3 GET", self.s3_gets, prices.s3_get_million),
            gigabytes("S3 storage", self.s3_bytes, "GB", prices.s3_gb_month),
            millions(
                "DynamoDB lease writes",
                self.lease_writes,
                prices.dynamodb_write_million,
            ),
            millions(
                "DynamoDB reads",
                self.lease_reads + self.log_reads,
                prices.dynamodb_read_million,
            ),
            millions(
                "DynamoDB log writes",
                self.log_writes,
                prices.dynamodb_write_million,
            ),
            gigabytes(
                "DynamoDB storage",
                self.dynamodb_bytes,
                "GB",
                prices.dynamodb_gb_month,
            ),
            millions(
                "Lambda requests",
                self.lambda_requests,
                prices.lambda_million,
            ),
            millions("Lambda GB-seconds", self.lambda_gb_seconds, gb_second * 1e6),
            hours(
                "Kinesis shards",
                self.kinesis_shards,
                "shards",
                prices.kinesis_shard_hour,
            ),
            millions(
                "Kinesis payload units",
                self.kinesis_units,
                prices.kinesis_units_million,
            ),
            hours(
                "Kinesis streams",
                self.kinesis_streams,
                "streams",
                prices.kinesis_stream_hour,
            ),
            gigabytes(
                "Kinesis in",
                self.kinesis_bytes_in * month,
                "GB",
                prices.kinesis_gb_in,
            ),
            gigabytes(
                "Kinesis out",
                self.kinesis_bytes_out * month,
                "GB",
                prices.kinesis_gb_out,
            ),
            hours("Fargate vCPU", self.vcpu, "vCPU", vcpu_hour),
            hours("Fargate memory", self.memory_gb, "GB", gb_hour),
            hours(
                "Fargate Spot vCPU",
                self.spot_vcpu,
                "vCPU",
                vcpu_hour * spot,
            ),
            hours(
                "Fargate Spot memory",
                self.spot_memory_gb,
                "GB",
                gb_hour * spot,
            ),
            hours("public IPv4", self.addresses, "addresses", prices.ipv4_hour),
            gigabytes("logs", self.log_bytes * month, "GB", prices.log_gb),
            Position {
                name: "custom metrics",
                quantity: self.metrics,
                unit: "metrics",
                dollars: self.metrics * prices.custom_metric,
            },
            hours(
                "load balancer",
                self.load_balancers,
                "balancers",
                prices.load_balancer_hour,
            ),
            hours(
                "load balancer units",
                self.load_balancer_units,
                "units",
                prices.load_balancer_unit_hour,
            ),
        ];
        let positions: Vec<Position> = positions
            .into_iter()
            .filter(|position| position.quantity > 0.0)
            .collect();
        Costs {
            dollars: positions.iter().map(|position| position.dollars).sum(),
            positions,
        }
    }
}
