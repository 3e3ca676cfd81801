//! List prices of this program: everything in it that has a price takes it from here.
//!
//! `infra/bill.py` and `infra/acceptance/budget.py` run without this program and have copies of
//! some. `infra/test` compares them.

/// When and where the prices were found.
pub const PRICES_FOUND: &str = "list prices of us-east-1, as found by November 2026 on the price \
     pages of the services (aws.amazon.com/<service>/pricing); no free tier, no discount, no taxes";

/// Hours of a month, as AWS counts.
pub const MONTH_HOURS: f64 = 730.0;

/// Seconds of a month.
pub const MONTH_SECONDS: f64 = MONTH_HOURS * 3600.0;

/// Prices in US dollars.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prices {
    /// S3 Standard: a million PUT, COPY, POST or LIST requests.
    pub s3_put_million: f64,
    /// S3 Standard: a million GET requests.
    pub s3_get_million: f64,
    /// S3 Standard: a GB stored for a month.
    pub s3_gb_month: f64,
    /// DynamoDB on demand: a million write request units of 1 KB.
    pub dynamodb_write_million: f64,
    /// DynamoDB on demand: a million read request units of 4 KB.
    pub dynamodb_read_million: f64,
    /// DynamoDB: a GB stored for a month.
    pub dynamodb_gb_month: f64,
    /// Lambda: a million requests.
    pub lambda_million: f64,
    /// Lambda on ARM: a GB-second.
    pub lambda_arm_gb_second: f64,
    /// Lambda on x86: a GB-second.
    pub lambda_x86_gb_second: f64,
    /// Kinesis, provisioned: a shard for an hour.
    pub kinesis_shard_hour: f64,
    /// Kinesis, provisioned: a million payload units of 25 KB written.
    pub kinesis_units_million: f64,
    /// Kinesis on demand: a stream for an hour.
    pub kinesis_stream_hour: f64,
    /// Kinesis on demand: a GB written.
    pub kinesis_gb_in: f64,
    /// Kinesis on demand: a GB read.
    pub kinesis_gb_out: f64,
    /// Fargate on ARM: a vCPU for an hour.
    pub fargate_arm_vcpu_hour: f64,
    /// Fargate on ARM: a GB of memory for an hour.
    pub fargate_arm_gb_hour: f64,
    /// Fargate on x86: a vCPU for an hour.
    pub fargate_x86_vcpu_hour: f64,
    /// Fargate on x86: a GB of memory for an hour.
    pub fargate_x86_gb_hour: f64,
    /// Fargate Spot: its share of Fargate's price. It varies.
    pub fargate_spot_share: f64,
    /// A public IPv4 address for an hour.
    pub ipv4_hour: f64,
    /// CloudWatch Logs: a GB ingested.
    pub log_gb: f64,
    /// CloudWatch: a custom metric for a month, of the first 10,000.
    pub custom_metric: f64,
    /// A network load balancer for an hour.
    pub load_balancer_hour: f64,
    /// A capacity unit of a network load balancer for an hour: for TCP, 800 new connections a
    /// second, 100,000 active ones, 1 GB an hour.
    pub load_balancer_unit_hour: f64,
}

impl Prices {
    /// Prices as [`PRICES_FOUND`] says.
    pub const LIST: Self = Self {
        s3_put_million: 5.00,
        s3_get_million: 0.40,
        s3_gb_month: 0.023,
        dynamodb_write_million: 0.625,
        dynamodb_read_million: 0.125,
        dynamodb_gb_month: 0.25,
        lambda_million: 0.20,
        lambda_arm_gb_second: 0.000_013_333_4,
        lambda_x86_gb_second: 0.000_016_666_7,
        kinesis_shard_hour: 0.015,
        kinesis_units_million: 0.014,
        kinesis_stream_hour: 0.04,
        kinesis_gb_in: 0.08,
        kinesis_gb_out: 0.04,
        fargate_arm_vcpu_hour: 0.032_38,
        fargate_arm_gb_hour: 0.003_56,
        fargate_x86_vcpu_hour: 0.040_48,
        fargate_x86_gb_hour: 0.004_445,
        fargate_spot_share: 0.318_4,
        ipv4_hour: 0.005,
        log_gb: 0.50,
        custom_metric: 0.30,
        load_balancer_hour: 0.022_5,
        load_balancer_unit_hour: 0.006,
    };
}
