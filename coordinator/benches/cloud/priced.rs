//! The price of what was counted.

use satchel::cost::{Architecture, Costs, MONTH_SECONDS, Prices, Usage};
use satchel_testkit::{Bill, PricedService};

use crate::application::LOG_TABLE;
use PricedService::{DynamoDb, Kinesis, Lambda, S3};

/// A counted bill with its price.
pub(crate) struct Priced {
    /// Messages per second.
    pub(crate) rate: f64,
    pub(crate) usage: Usage,
    costs: Costs,
}

impl Priced {
    /// Prices a bill during which this many messages were processed.
    pub(crate) fn of(bill: &Bill, messages: usize) -> Self {
        let seconds = bill.time.as_secs_f64();
        let rate = |service, operations: &[&str]| {
            let requests = operations
                .iter()
                .map(|operation| bill.of(service, operation).requests);
            requests.sum::<u64>() as f64 / seconds
        };
        let puts = [
            "PutObject",
            "CreateMultipartUpload",
            "UploadPart",
            "CompleteMultipartUpload",
        ];
        let table = bill.all_of(DynamoDb);
        let log = bill.all_of_table(LOG_TABLE);
        let functions = bill.of(Lambda, "Invoke");
        let written = bill.of(Kinesis, "PutRecords");
        let usage = Usage {
            s3_puts: rate(S3, &puts),
            s3_lists: rate(S3, &["ListObjectsV2"]),
            s3_gets: rate(S3, &["GetObject"]),
            lease_writes: (table.write_units - log.write_units) / seconds,
            log_writes: log.write_units / seconds,
            lease_reads: table.read_units / seconds,
            lambda_requests: functions.requests as f64 / seconds,
            lambda_gb_seconds: functions.gigabyte_seconds / seconds,
            kinesis_units: written.payload_units as f64 / seconds,
            ..Usage::default()
        };
        Self {
            rate: messages as f64 / seconds,
            costs: usage.priced(&Prices::LIST, Architecture::Arm),
            usage,
        }
    }

    /// Dollars a month of some positions.
    pub(crate) fn month(&self, positions: &[&str]) -> f64 {
        positions
            .iter()
            .map(|position| self.costs.of(position))
            .sum()
    }

    /// Dollars for a million messages of some positions.
    pub(crate) fn per_million(&self, positions: &[&str]) -> f64 {
        self.month(positions) / (self.rate * MONTH_SECONDS / 1e6)
    }
}

/// Requests that the coordinator makes, without the time of functions and the records' own price.
pub(crate) const REQUESTS: [&str; 6] = [
    "S3 PUT",
    "S3 LIST",
    "S3 GET",
    "DynamoDB lease writes",
    "DynamoDB reads",
    "Lambda requests",
];
