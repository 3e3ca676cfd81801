//! Requests to DynamoDB for the log, with their request units, for metrics.

use std::sync::Arc;
use std::time::Duration;

/// Bytes of items that one write request unit covers.
pub(super) const WRITE_UNIT_BYTES: u64 = 1 << 10;

/// Bytes of items that one read request unit covers in a consistent read.
const READ_UNIT_BYTES: u64 = 4 << 10;

/// Write request units of an item of this many bytes.
pub(super) fn write_units(bytes: u64) -> u64 {
    bytes.div_ceil(WRITE_UNIT_BYTES).max(1)
}

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

    /// True if its units are read request units, false for write request units.
    #[must_use]
    pub fn is_read(self) -> bool {
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
        let unit_bytes = match operation.is_read() {
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
}

/// Hook called after every request, for metrics.
pub type OnTableRequest = Arc<dyn Fn(TableRequest) + Send + Sync>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_units_by_the_size_of_its_items() {
        let units = |operation, outcome, bytes| {
            TableRequest::new(operation, outcome, bytes, Duration::ZERO).units
        };
        let (put, get) = (TableOperation::PutItem, TableOperation::GetItem);
        assert_eq!(units(put, TableOutcome::Done, 300), 1);
        assert_eq!(units(put, TableOutcome::Done, 4_096), 4);
        assert_eq!(units(put, TableOutcome::Refused, 1_025), 2);
        assert_eq!(units(put, TableOutcome::Unavailable, 300), 0);
        assert_eq!(units(get, TableOutcome::Done, 0), 1, "nothing is found");
        assert_eq!(
            units(TableOperation::Query, TableOutcome::Done, 1 << 20),
            256
        );
        let delete = TableOperation::BatchWriteItem;
        assert_eq!(units(delete, TableOutcome::Done, 25 << 10), 25);
    }
}
