//! Where a record goes: what StateFun does, the record's key becomes the id of every target.

use bytes::Bytes;
use satchel_engine::address::{Address, FunctionType};
use satchel_engine::input::Unroutable;
use satchel_protocol::reqreply::TypedValue;
use satchel_protocol::types::typed_value;

/// How the records of one stream become messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routing {
    /// The typename that the records' bytes are given.
    pub value_type: String,
    /// The functions that get each record.
    pub targets: Vec<FunctionType>,
}

impl Routing {
    /// The messages of a record, or why it becomes none.
    ///
    /// # Errors
    ///
    /// [`Unroutable`] when the key is empty: there is no address without an id.
    pub fn route(&self, key: &str, data: &Bytes) -> Result<Vec<(Address, TypedValue)>, Unroutable> {
        let value = || typed_value(self.value_type.clone(), data.clone());
        if key.is_empty() {
            return Err(Unroutable {
                value: value(),
                reason: "the record has no key, and its key is the id of the address it goes to"
                    .to_owned(),
            });
        }
        let targets = self.targets.iter();
        Ok(targets
            .map(|target| (Address::new(target.clone(), key), value()))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routing() -> Routing {
        Routing {
            value_type: "example/name".to_owned(),
            targets: vec![
                "example/greeter".parse().unwrap(),
                "example/counter".parse().unwrap(),
            ],
        }
    }

    #[test]
    fn the_key_is_the_id_at_every_target() {
        let data = Bytes::from_static(b"{}");
        let messages = routing().route("bob", &data).unwrap();
        let addresses: Vec<_> = messages
            .iter()
            .map(|(address, _)| address.to_string())
            .collect();
        assert_eq!(addresses, ["example/greeter/bob", "example/counter/bob"]);
        assert!(
            messages
                .iter()
                .all(|(_, value)| *value == typed_value("example/name", data.clone()))
        );
    }

    #[test]
    fn a_record_without_a_key_goes_nowhere_and_says_why() {
        let unroutable = routing().route("", &Bytes::from_static(b"{}")).unwrap_err();
        assert!(unroutable.reason.contains("no key"));
        assert_eq!(unroutable.value.value, "{}");
    }
}
