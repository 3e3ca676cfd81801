//! Egress to a DynamoDB table: any typed value as an item, exactly once.
//!
//! A record becomes a `PutItem` request. Its key comes from the value. The fields of a JSON object
//! become attributes; any other value becomes the attribute `value` (binary if it is not JSON).
//! Satchel adds three attributes: `satchel_writer` (root, partition and egress), `satchel_number`
//! (the record's number in the outbox of that writer) and `satchel_type`.
//!
//! The put is conditional: the key has no item, or an item of another writer, or one of this writer
//! with a smaller number. A record that is sent again, late or by a former owner, therefore changes
//! nothing: the item of its key is from it or from a later record.
//!
//! Two limits remain. If an item is deleted while its record is sent again (seconds, after a
//! crash), the item reappears. If two partitions write a key, the last write wins.

mod item;
#[cfg(feature = "sdk")]
mod service;

use super::content::Selector;

pub use item::{Attribute, Item};
#[cfg(feature = "sdk")]
pub use service::DynamoDbService;

/// Settings of an egress to DynamoDB, from its module file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamoDbSettings {
    /// Name or ARN of the table.
    pub table: String,
    /// The partition key.
    pub partition_key: KeyAttribute,
    /// The sort key, if the table has one.
    pub sort_key: Option<KeyAttribute>,
}

/// One attribute of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAttribute {
    /// Its name in the table.
    pub name: String,
    /// Source of its value.
    pub from: Selector,
    /// True if the table stores it as a number instead of a string.
    pub is_number: bool,
}
