//! The table item of a lease.

use std::collections::HashMap;
use std::hash::BuildHasher;

use aws_sdk_dynamodb::types::AttributeValue;
use satchel_engine::lease::LeaseItem;

/// Format version of new items.
const FORMAT: u64 = 1;

/// Attribute that names the item: the table's partition key.
pub(crate) const KEY: &str = "pk";

/// Reason why an item cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The item was written by newer software.
    #[error("its format is version {found}; this program reads version {FORMAT}")]
    Version {
        /// Version of the item.
        found: u64,
    },
    /// An attribute is missing or of another type.
    #[error("its attribute `{0}` is missing or of another type")]
    Attribute(&'static str),
}

/// Attributes of the item named `key`. `updated` is the current calendar time, for people.
///
/// The attributes are `pk` (S, the partition key), `format` (N), `owner` (S), `epoch` (N),
/// `counter` (N), `lease_ms` (N), `released` (BOOL), `address` (S, absent if there is none) and
/// `updated` (S, never compared).
pub(crate) fn to_attributes(
    item: &LeaseItem,
    key: &str,
    updated: String,
) -> HashMap<String, AttributeValue> {
    let number = |number: u64| AttributeValue::N(number.to_string());
    let mut attributes = HashMap::from([
        (KEY.to_owned(), AttributeValue::S(key.to_owned())),
        ("format".to_owned(), number(FORMAT)),
        ("owner".to_owned(), AttributeValue::S(item.owner.clone())),
        ("epoch".to_owned(), number(item.epoch)),
        ("counter".to_owned(), number(item.counter)),
        ("lease_ms".to_owned(), number(item.lease_ms)),
        ("released".to_owned(), AttributeValue::Bool(item.released)),
        ("updated".to_owned(), AttributeValue::S(updated)),
    ]);
    if let Some(address) = &item.address {
        attributes.insert("address".to_owned(), AttributeValue::S(address.clone()));
    }
    attributes
}

/// Decodes an item. Unknown attributes are ignored, because a form that gives them a meaning has
/// another version.
///
/// # Errors
/// [`Malformed`].
pub(crate) fn from_attributes<S: BuildHasher>(
    attributes: &HashMap<String, AttributeValue, S>,
) -> Result<LeaseItem, Malformed> {
    let number = |name: &'static str| {
        let value = attributes.get(name).and_then(|value| value.as_n().ok());
        value
            .and_then(|text| text.parse::<u64>().ok())
            .ok_or(Malformed::Attribute(name))
    };
    let found = number("format")?;
    if found != FORMAT {
        return Err(Malformed::Version { found });
    }
    let text = |name: &'static str| attributes.get(name).and_then(|value| value.as_s().ok());
    let released = attributes
        .get("released")
        .and_then(|value| value.as_bool().ok());
    Ok(LeaseItem {
        owner: text("owner").ok_or(Malformed::Attribute("owner"))?.clone(),
        epoch: number("epoch")?,
        counter: number("counter")?,
        lease_ms: number("lease_ms")?,
        released: *released.ok_or(Malformed::Attribute("released"))?,
        address: text("address").cloned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn item() -> LeaseItem {
        LeaseItem {
            owner: "0f".repeat(16),
            epoch: 7,
            counter: 42,
            lease_ms: 10_000,
            released: false,
            address: Some("10.0.0.7:8081".to_owned()),
        }
    }

    #[test]
    fn an_item_reads_back_with_and_without_an_address() {
        for item in [
            item(),
            LeaseItem {
                address: None,
                released: true,
                ..item()
            },
        ] {
            let attributes = to_attributes(&item, "shop#s3://b/p#0", "2026-11-21".to_owned());
            assert_eq!(from_attributes(&attributes), Ok(item));
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_its_version_and_a_broken_one_by_the_attribute() {
        let mut attributes = to_attributes(&item(), "key", String::new());
        attributes.remove("epoch");
        assert_eq!(
            from_attributes(&attributes),
            Err(Malformed::Attribute("epoch"))
        );
        attributes.insert("format".to_owned(), AttributeValue::N("2".to_owned()));
        let refused = from_attributes(&attributes).unwrap_err();
        assert_eq!(refused, Malformed::Version { found: 2 });
        assert_eq!(
            refused.to_string(),
            "its format is version 2; this program reads version 1"
        );
    }
}
