//! Counted use of the services, by operation.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

/// A service of the stand-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PricedService {
    /// Amazon S3.
    S3,
    /// Amazon DynamoDB.
    DynamoDb,
    /// AWS Lambda.
    Lambda,
    /// Amazon Kinesis Data Streams.
    Kinesis,
}

impl fmt::Display for PricedService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::S3 => "S3",
            Self::DynamoDb => "DynamoDB",
            Self::Lambda => "Lambda",
            Self::Kinesis => "Kinesis",
        })
    }
}

/// Use of one operation.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Requests, including those that failed, without those that were throttled.
    pub requests: u64,
    /// The subset of the requests that was answered with an error, such as a failed condition.
    pub refused: u64,
    /// Requests that were rejected because there were too many. They are not billed.
    pub throttled: u64,
    /// Bytes of the requests' bodies.
    pub bytes_in: u64,
    /// Bytes of the answers' bodies.
    pub bytes_out: u64,
    /// Read request units (DynamoDB).
    pub read_units: f64,
    /// Write request units (DynamoDB).
    pub write_units: f64,
    /// Billed time of functions, in ms (Lambda).
    pub billed_ms: u64,
    /// Billed time of functions times their memory, in GB-seconds (Lambda).
    pub gigabyte_seconds: f64,
    /// Records written or read (Kinesis).
    pub records: u64,
    /// Bytes of the records as on-demand streams bill them (Kinesis): each record written counts
    /// in whole KiB, records read count as they are.
    pub record_bytes: u64,
    /// Payload units of the records written, 25 KB each, as provisioned streams bill them
    /// (Kinesis).
    pub payload_units: u64,
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.refused += other.refused;
        self.throttled += other.throttled;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.read_units += other.read_units;
        self.write_units += other.write_units;
        self.billed_ms += other.billed_ms;
        self.gigabyte_seconds += other.gigabyte_seconds;
        self.records += other.records;
        self.record_bytes += other.record_bytes;
        self.payload_units += other.payload_units;
    }
}

impl Usage {
    fn since(self, earlier: Self) -> Self {
        Self {
            requests: self.requests - earlier.requests,
            refused: self.refused - earlier.refused,
            throttled: self.throttled - earlier.throttled,
            bytes_in: self.bytes_in - earlier.bytes_in,
            bytes_out: self.bytes_out - earlier.bytes_out,
            read_units: self.read_units - earlier.read_units,
            write_units: self.write_units - earlier.write_units,
            billed_ms: self.billed_ms - earlier.billed_ms,
            gigabyte_seconds: self.gigabyte_seconds - earlier.gigabyte_seconds,
            records: self.records - earlier.records,
            record_bytes: self.record_bytes - earlier.record_bytes,
            payload_units: self.payload_units - earlier.payload_units,
        }
    }
}

/// Counted use of all services, from their start or between two moments. It has quantities; prices
/// are the coordinator's (`satchel::cost`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bill {
    /// Time that it covers.
    pub time: Duration,
    /// Bytes of the objects in S3 at its end.
    pub stored_bytes: u64,
    /// Bytes of the items in DynamoDB at its end.
    pub item_bytes: u64,
    pub(super) operations: BTreeMap<(PricedService, String), Usage>,
    /// Use of DynamoDB by table and operation, without transactions.
    pub(super) tables: BTreeMap<(String, String), Usage>,
}

impl Bill {
    /// Use since an earlier bill of the same stand-in.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            time: self.time - earlier.time,
            operations: each_since(&self.operations, &earlier.operations),
            tables: each_since(&self.tables, &earlier.tables),
            ..*self
        }
    }

    /// Use of one operation, such as `PutObject`.
    pub fn of(&self, service: PricedService, operation: &str) -> Usage {
        let key = (service, operation.to_owned());
        self.operations.get(&key).copied().unwrap_or_default()
    }

    /// Use of all operations of a service.
    pub fn all_of(&self, service: PricedService) -> Usage {
        let mut sum = Usage::default();
        for ((of, _), usage) in &self.operations {
            if *of == service {
                sum += *usage;
            }
        }
        sum
    }

    /// Use of one operation on one table of DynamoDB, such as `PutItem`.
    pub fn of_table(&self, name: &str, operation: &str) -> Usage {
        let key = (name.to_owned(), operation.to_owned());
        self.tables.get(&key).copied().unwrap_or_default()
    }

    /// Use of all operations on one table of DynamoDB, without transactions.
    pub fn all_of_table(&self, name: &str) -> Usage {
        let mut sum = Usage::default();
        for ((of, _), usage) in &self.tables {
            if of == name {
                sum += *usage;
            }
        }
        sum
    }

    /// Operations that were used, with their use, in order of service and name.
    pub fn operations(&self) -> impl Iterator<Item = (PricedService, &str, Usage)> {
        let used = self.operations.iter();
        let used = used.filter(|(_, usage)| **usage != Usage::default());
        used.map(|((service, operation), usage)| (*service, operation.as_str(), *usage))
    }

    /// Requests per second of one operation.
    pub fn rate(&self, service: PricedService, operation: &str) -> f64 {
        self.of(service, operation).requests as f64 / self.time.as_secs_f64()
    }
}

fn each_since<K: Ord + Clone>(
    all: &BTreeMap<K, Usage>,
    earlier: &BTreeMap<K, Usage>,
) -> BTreeMap<K, Usage> {
    let used = all.iter().map(|(key, usage)| {
        let before = earlier.get(key).copied().unwrap_or_default();
        (key.clone(), usage.since(before))
    });
    used.collect()
}

impl fmt::Display for Bill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "in {:.1} s:", self.time.as_secs_f64())?;
        for (service, operation, usage) in self.operations() {
            let per_second = usage.requests as f64 / self.time.as_secs_f64();
            write!(
                f,
                "  {service:<9} {operation:<24} {:>8} requests, {per_second:.2}/s",
                usage.requests
            )?;
            if usage.refused + usage.throttled > 0 {
                let Usage {
                    refused, throttled, ..
                } = usage;
                write!(f, "; {refused} refused, {throttled} throttled")?;
            }
            if usage.read_units + usage.write_units > 0.0 {
                let (read, write) = (usage.read_units, usage.write_units);
                write!(f, "; {read} read and {write} write units")?;
            }
            if usage.billed_ms > 0 {
                write!(f, "; {:.3} GB-s", usage.gigabyte_seconds)?;
            }
            if usage.records > 0 {
                write!(f, "; {} records", usage.records)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
