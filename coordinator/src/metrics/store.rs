//! Metrics of the store.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
#[cfg(feature = "aws")]
use std::sync::atomic::Ordering;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

#[cfg(feature = "aws")]
use satchel_aws::log_table::{TableOutcome, TableRequest};

use super::{Metrics, Names};
#[cfg(feature = "aws")]
use crate::cost::Prices;
use crate::store::StoreOptions;
use crate::store::s3::{S3Outcome, S3Request};

impl Metrics {
    /// Returns `options` with hooks that count every request and every file.
    #[must_use]
    pub fn counting(&self, mut options: StoreOptions) -> StoreOptions {
        let of_s3 = self.clone();
        options.s3.on_request = Arc::new(move |request| of_s3.observe_s3_request(request));
        let of_files = self.clone();
        options.on_written = Some(Arc::new(move |bytes| of_files.observe_file_written(bytes)));
        #[cfg(feature = "aws")]
        {
            let of_table = self.clone();
            options.on_table_request = Arc::new(move |one| of_table.observe_table_request(one));
        }
        options
    }

    /// Counts a request to the table of the log, with its outcome, request units and list price.
    #[cfg(feature = "aws")]
    pub fn observe_table_request(&self, request: TableRequest) {
        let store = &self.0.store;
        let meter = match request.operation.is_read() {
            true => &self.0.meter.table_reads,
            false => &self.0.meter.table_writes,
        };
        meter.fetch_add(request.units, Ordering::Relaxed);
        let operation = request.operation.name();
        let outcome = match request.outcome {
            TableOutcome::Done => "done",
            TableOutcome::Refused => "refused",
            TableOutcome::Unavailable => "unavailable",
            TableOutcome::Fatal => "fatal",
        };
        store
            .table_requests
            .get_or_create(&RequestLabels { operation, outcome })
            .inc();
        store
            .table_units
            .get_or_create(&OperationLabel { operation })
            .inc_by(request.units);
        let million = match request.operation.is_read() {
            true => Prices::LIST.dynamodb_read_million,
            false => Prices::LIST.dynamodb_write_million,
        };
        store
            .table_dollars
            .inc_by(request.units as f64 * million / 1e6);
    }

    /// Counts a request to S3, with its outcome and list price.
    pub fn observe_s3_request(&self, request: S3Request) {
        self.0.emf.requested();
        self.0.meter.s3_requested(request.operation);
        let store = &self.0.store;
        let operation = request.operation.name();
        let outcome = match request.outcome {
            S3Outcome::Done => "done",
            S3Outcome::Refused => "refused",
            S3Outcome::Unavailable => "unavailable",
            S3Outcome::Fatal => "fatal",
        };
        store
            .s3_requests
            .get_or_create(&RequestLabels { operation, outcome })
            .inc();
        store
            .s3_bytes
            .get_or_create(&OperationLabel { operation })
            .inc_by(request.object_bytes);
        let dollars = request.operation.price_nanodollars() as f64 * 1e-9;
        store.s3_dollars.inc_by(dollars);
    }

    /// Counts a file of `bytes` bytes written into the directory of the state.
    pub fn observe_file_written(&self, bytes: u64) {
        self.0.store.files.inc();
        self.0.store.file_bytes.inc_by(bytes);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    operation: &'static str,
}

pub(super) struct StoreFamilies {
    s3_requests: Family<RequestLabels, Counter>,
    s3_bytes: Family<OperationLabel, Counter>,
    s3_dollars: Counter<f64, AtomicU64>,
    #[cfg(feature = "aws")]
    table_requests: Family<RequestLabels, Counter>,
    #[cfg(feature = "aws")]
    table_units: Family<OperationLabel, Counter>,
    #[cfg(feature = "aws")]
    table_dollars: Counter<f64, AtomicU64>,
    files: Counter,
    file_bytes: Counter,
}

impl StoreFamilies {
    /// Number of files written into the directory of the state.
    pub(super) fn files_written(&self) -> u64 {
        self.files.get()
    }

    pub(super) fn register(names: &mut Names) -> Self {
        Self {
            s3_requests: names.add(
                "s3_requests",
                "Requests to S3 for the durable state, by operation and outcome; \
                 commits cause the PutObject requests",
            ),
            s3_bytes: names.add(
                "s3_object_bytes",
                "Bytes of objects that these requests carried",
            ),
            s3_dollars: names.add(
                "s3_estimated_dollars",
                "List price of these requests (S3 Standard, us-east-1) in US dollars, \
                 without storage and transfer",
            ),
            #[cfg(feature = "aws")]
            table_requests: names.add(
                "log_table_requests",
                "Requests to the DynamoDB table of the log, by operation and outcome; \
                 commits cause the PutItem requests",
            ),
            #[cfg(feature = "aws")]
            table_units: names.add(
                "log_table_request_units",
                "Request units of these requests, computed from the sizes of the items; \
                 an item in a batch of deletions counts as one",
            ),
            #[cfg(feature = "aws")]
            table_dollars: names.add(
                "log_table_estimated_dollars",
                "List price of these requests (on demand, us-east-1) in US dollars, \
                 without storage",
            ),
            files: names.add(
                "state_files_written",
                "Files written into the directory of the durable state",
            ),
            file_bytes: names.add("state_file_bytes_written", "Bytes of these files"),
        }
    }
}
