//! The table item of a lease.

use std::collections::HashMap;
use std::hash::BuildHasher;

use aws_sdk_dynamodb::types::AttributeValue;
use satchel_engine::lease::members::MemberItem;
use satchel_engine::lease::{LeaseItem, PeerPort};
use satchel_engine::spread::roster::Roster;

/// Format version of new items.
const FORMAT: u64 = 1;

/// Attribute that names the item: the table's partition key.
pub(crate) const KEY: &str = "pk";

/// Attribute of a member's item with the id of its process.
pub(crate) const MEMBER: &str = "member";

/// Attribute of a member's item with the time after which the table may delete it.
pub(crate) const EXPIRES: &str = "expires";

/// Attribute of the roster with its content as JSON.
const ROSTER: &str = "roster";

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
    /// The content of the roster is not what this program writes.
    #[error("its attribute `roster`: {0}")]
    Roster(String),
}

/// Attributes of the item named `key`. `updated` is the current calendar time, for people.
///
/// The attributes are `pk` (S, the partition key), `format` (N), `owner` (S), `epoch` (N),
/// `counter` (N), `lease_ms` (N), `released` (BOOL), `address` (S, absent if there is none),
/// `peer_address` and `peer_key` (S, absent if there is no peer port) and `updated` (S, never
/// compared).
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
    if let Some(peer) = &item.peer {
        insert_peer(&mut attributes, peer);
    }
    attributes
}

fn insert_peer(attributes: &mut HashMap<String, AttributeValue>, peer: &PeerPort) {
    let address = AttributeValue::S(peer.address.clone());
    attributes.insert("peer_address".to_owned(), address);
    attributes.insert("peer_key".to_owned(), AttributeValue::S(peer.key.clone()));
}

/// Decodes an item. Unknown attributes are ignored, because a form that gives them a meaning has
/// another version.
///
/// # Errors
/// [`Malformed`].
pub(crate) fn from_attributes<S: BuildHasher>(
    attributes: &HashMap<String, AttributeValue, S>,
) -> Result<LeaseItem, Malformed> {
    let number = |name: &'static str| number(attributes, name);
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
        peer: peer(attributes),
    })
}

fn peer<S: BuildHasher>(attributes: &HashMap<String, AttributeValue, S>) -> Option<PeerPort> {
    let text = |name: &str| attributes.get(name)?.as_s().ok().cloned();
    Some(PeerPort {
        address: text("peer_address")?,
        key: text("peer_key")?,
    })
}

/// Attributes of a member's item named `key`. `expires_s` is a calendar time in seconds since the
/// epoch, after which the table may delete the item.
///
/// The attributes are `pk` (S), `format` (N), `member` (S, the id of the process), `peer_address`,
/// `peer_key` and `software` (S), `counter` and `renewal_ms` (N), `left` (BOOL), `congested` (BOOL,
/// absent in items of processes that know of one partition only), `expires` (N, for the table's
/// time to live) and `updated` (S, never compared).
pub(crate) fn member_to_attributes(
    member: &MemberItem,
    key: &str,
    (updated, expires_s): (String, u64),
) -> HashMap<String, AttributeValue> {
    let number = |number: u64| AttributeValue::N(number.to_string());
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let mut attributes = HashMap::from([
        (KEY.to_owned(), text(key)),
        ("format".to_owned(), number(FORMAT)),
        (MEMBER.to_owned(), text(&member.id)),
        ("software".to_owned(), text(&member.software)),
        ("counter".to_owned(), number(member.counter)),
        ("renewal_ms".to_owned(), number(member.renewal_ms)),
        ("left".to_owned(), AttributeValue::Bool(member.left)),
        (
            "congested".to_owned(),
            AttributeValue::Bool(member.congested),
        ),
        (EXPIRES.to_owned(), number(expires_s)),
        ("updated".to_owned(), AttributeValue::S(updated)),
    ]);
    insert_peer(&mut attributes, &member.peer);
    attributes
}

/// Decodes a member's item, as [`from_attributes`].
///
/// # Errors
/// [`Malformed`].
pub(crate) fn member_from_attributes<S: BuildHasher>(
    attributes: &HashMap<String, AttributeValue, S>,
) -> Result<MemberItem, Malformed> {
    let number = |name: &'static str| number(attributes, name);
    let found = number("format")?;
    if found != FORMAT {
        return Err(Malformed::Version { found });
    }
    let text = |name: &'static str| {
        let text = attributes.get(name).and_then(|value| value.as_s().ok());
        text.cloned().ok_or(Malformed::Attribute(name))
    };
    let flag = |name| attributes.get(name).and_then(|flag| flag.as_bool().ok());
    Ok(MemberItem {
        id: text(MEMBER)?,
        peer: peer(attributes).ok_or(Malformed::Attribute("peer_key"))?,
        software: text("software")?,
        counter: number("counter")?,
        renewal_ms: number("renewal_ms")?,
        left: *flag("left").ok_or(Malformed::Attribute("left"))?,
        congested: flag("congested").copied().unwrap_or_default(),
    })
}

/// Attributes of the roster's item named `key`: `pk` (S), `format` (N), `version` (N, the number of
/// changes so far), `roster` (S, JSON) and `updated` (S, never compared).
pub(crate) fn roster_to_attributes(
    (roster, version): (&Roster, u64),
    key: &str,
    updated: String,
) -> Result<HashMap<String, AttributeValue>, Malformed> {
    let json = serde_json::to_string(roster);
    let json = json.map_err(|error| Malformed::Roster(error.to_string()))?;
    let number = |number: u64| AttributeValue::N(number.to_string());
    Ok(HashMap::from([
        (KEY.to_owned(), AttributeValue::S(key.to_owned())),
        ("format".to_owned(), number(FORMAT)),
        ("version".to_owned(), number(version)),
        (ROSTER.to_owned(), AttributeValue::S(json)),
        ("updated".to_owned(), AttributeValue::S(updated)),
    ]))
}

/// Decodes the roster and its version, as [`from_attributes`].
///
/// # Errors
/// [`Malformed`].
pub(crate) fn roster_from_attributes<S: BuildHasher>(
    attributes: &HashMap<String, AttributeValue, S>,
) -> Result<(Roster, u64), Malformed> {
    let found = number(attributes, "format")?;
    if found != FORMAT {
        return Err(Malformed::Version { found });
    }
    let json = attributes.get(ROSTER).and_then(|json| json.as_s().ok());
    let json = json.ok_or(Malformed::Attribute(ROSTER))?;
    let roster = serde_json::from_str(json);
    let roster = roster.map_err(|error| Malformed::Roster(error.to_string()))?;
    Ok((roster, number(attributes, "version")?))
}

fn number<S: BuildHasher>(
    attributes: &HashMap<String, AttributeValue, S>,
    name: &'static str,
) -> Result<u64, Malformed> {
    let value = attributes.get(name).and_then(|value| value.as_n().ok());
    value
        .and_then(|text| text.parse::<u64>().ok())
        .ok_or(Malformed::Attribute(name))
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
            peer: Some(peer_port()),
        }
    }

    fn peer_port() -> PeerPort {
        PeerPort {
            address: "10.0.0.7:8082".to_owned(),
            key: "ab".repeat(32),
        }
    }

    #[test]
    fn a_member_reads_back() {
        for left in [false, true] {
            let member = MemberItem {
                id: "0f".repeat(16),
                peer: peer_port(),
                software: "0.1.0".to_owned(),
                counter: 3,
                renewal_ms: 10_000,
                left,
                congested: !left,
            };
            let updated = ("2026-11-21".to_owned(), 1_795_000_000);
            let mut attributes = member_to_attributes(&member, "shop#s3://b/p#member#ab", updated);
            assert_eq!(member_from_attributes(&attributes), Ok(member));
            // As a process writes it that knows of one partition only.
            attributes.remove("congested");
            assert_eq!(
                member_from_attributes(&attributes).map(|it| it.congested),
                Ok(false)
            );
            attributes.remove("peer_key");
            let refused = member_from_attributes(&attributes);
            assert_eq!(refused, Err(Malformed::Attribute("peer_key")));
        }
    }

    #[test]
    fn a_roster_reads_back_and_another_format_or_content_is_refused_by_name() {
        let mut roster = Roster::new(3);
        roster.partitions[1].frozen = true;
        let attributes = roster_to_attributes((&roster, 7), "key", String::new());
        let mut attributes = attributes.unwrap();
        assert_eq!(roster_from_attributes(&attributes), Ok((roster, 7)));
        let content = |text: &str| AttributeValue::S(text.to_owned());
        attributes.insert(ROSTER.to_owned(), content("{}"));
        let refused = roster_from_attributes(&attributes).unwrap_err().to_string();
        assert!(
            refused.starts_with("its attribute `roster`: missing field"),
            "{refused}"
        );
        attributes.insert("format".to_owned(), AttributeValue::N("2".to_owned()));
        let refused = roster_from_attributes(&attributes);
        assert_eq!(refused, Err(Malformed::Version { found: 2 }));
    }

    #[test]
    fn an_item_of_a_process_without_a_peer_port_is_read_and_such_a_process_reads_ours() {
        let mut attributes = to_attributes(&item(), "key", String::new());
        let ours = attributes.keys().filter(|name| name.starts_with("peer_"));
        assert_eq!(ours.count(), 2);
        attributes.retain(|name, _| !name.starts_with("peer_"));
        let read = from_attributes(&attributes).unwrap();
        assert_eq!(
            read,
            LeaseItem {
                peer: None,
                ..item()
            }
        );
    }

    #[test]
    fn an_item_reads_back_with_and_without_an_address() {
        for item in [
            item(),
            LeaseItem {
                address: None,
                peer: None,
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
