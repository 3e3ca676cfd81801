//! Requests to DynamoDB for the log, and their prices, for metrics.

use std::sync::Arc;
use std::time::Duration;

/// Bytes of items that one write request unit covers.
pub(super) const WRITE_UNIT_BYTES: u64 = 1 << 10;

/// Bytes of items that one read request unit covers in a consistent read.
const READ_UNIT_BYTES: u64 = 4 << 10;

/// List price of a million write request units on demand in us-east-1, in 10⁻⁹ US dollars a unit.
const WRITE_UNIT_NANODOLLARS: u64 = 625;

/// List price of a million read request units on demand in us-east-1, in 10⁻⁹ US dollars a unit.
const READ_UNIT_NANODOLLARS: u64 = 125;

/// Operation of the DynamoDB API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableOperation {
    /// Creates an item.
    PutItem,
    /// Reads an item.
    GetItem,
    /// Reads items in their order.
    Query,
    /// Deletes up to 25 items.
    BatchWriteItem,
    /// Deletes one item with a certain content.
    DeleteItem,
}

impl TableOperation {
    /// Name in the DynamoDB API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PutItem => "PutItem",
            Self::GetItem => "GetItem",
            Self::Query => "Query",
            Self::BatchWriteItem => "BatchWriteItem",
            Self::DeleteItem => "DeleteItem",
        }
    }

    fn reads(self) -> bool {
        matches!(self, Self::GetItem | Self::Query)
    }
}

/// Outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableOutcome {
    /// The request succeeded.
    Done,
    /// The condition did not hold: the item exists already.
    Refused,
    /// No answer, or one that asks for a retry, such as throttling.
    Unavailable,
    /// A final error.
    Fatal,
}

/// Completed request to DynamoDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRequest {
    /// Operation of the request.
    pub operation: TableOperation,
    /// Outcome of the request.
    pub outcome: TableOutcome,
    /// Request units, of writes or reads, computed from the sizes of the items. Of an item in a
    /// batch of deletions the size is not known: it counts as one unit.
    pub units: u64,
    /// Duration of the request.
    pub elapsed: Duration,
}

impl TableRequest {
    pub(super) fn new(
        operation: TableOperation,
        outcome: TableOutcome,
        bytes: u64,
        elapsed: Duration,
    ) -> Self {
        let unit_bytes = match operation.reads() {
            true => READ_UNIT_BYTES,
            false => WRITE_UNIT_BYTES,
        };
        let units = match outcome {
            TableOutcome::Done | TableOutcome::Refused => bytes.div_ceil(unit_bytes).max(1),
            TableOutcome::Unavailable | TableOutcome::Fatal => 0,
        };
        Self {
            operation,
            outcome,
            units,
            elapsed,
        }
    }

    /// Price of the request in 10⁻⁹ US dollars: the list price on demand in us-east-1 ($0.625 a
    /// million write units, $0.125 a million read units). Other regions differ.
    #[must_use]
    pub fn price_nanodollars(&self) -> u64 {
        let unit = match self.operation.reads() {
            true => READ_UNIT_NANODOLLARS,
            false => WRITE_UNIT_NANODOLLARS,
        };
        self.units * unit
    }
}

/// Hook called after every request, for metrics.
pub type OnTableRequest = Arc<dyn Fn(TableRequest) + Send + Sync>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_costs_by_the_size_of_its_items() {
        let price = |operation, outcome, bytes| {
            let request = TableRequest::new(operation, outcome, bytes, Duration::ZERO);
            (request.units, request.price_nanodollars())
        };
        let (put, get) = (TableOperation::PutItem, TableOperation::GetItem);
        assert_eq!(price(put, TableOutcome::Done, 300), (1, 625));
        assert_eq!(price(put, TableOutcome::Done, 4_096), (4, 2_500));
        assert_eq!(price(put, TableOutcome::Refused, 1_025), (2, 1_250));
        assert_eq!(price(put, TableOutcome::Unavailable, 300), (0, 0));
        assert_eq!(
            price(get, TableOutcome::Done, 0),
            (1, 125),
            "nothing is found"
        );
        let query = TableOperation::Query;
        assert_eq!(price(query, TableOutcome::Done, 1 << 20), (256, 32_000));
        let delete = TableOperation::BatchWriteItem;
        assert_eq!(price(delete, TableOutcome::Done, 25 << 10), (25, 15_625));
    }
}
