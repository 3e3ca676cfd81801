//! A table: its keys and items.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Refused;
use super::attribute::{Attribute, Item, item_bytes};
use super::requests::Call;

/// Maximum size of an item in bytes.
const ITEM_BYTES_MAX: usize = 400 << 10;

/// Key of an item: the partition key and the sort key, if the table has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) partition: Attribute,
    pub(super) sort: Option<Attribute>,
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        // Keys of one table have values of the same types.
        let order =
            |one: &Attribute, other: &Attribute| one.order(other).unwrap_or(Ordering::Equal);
        order(&self.partition, &other.partition).then_with(|| match (&self.sort, &other.sort) {
            (Some(one), Some(other)) => order(one, other),
            _ => self.sort.is_some().cmp(&other.sort.is_some()),
        })
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Name and type of a key's attribute.
#[derive(Debug, Clone)]
pub(super) struct KeyAttribute {
    pub(super) name: String,
    kind: String,
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) partition: KeyAttribute,
    pub(super) sort: Option<KeyAttribute>,
    pub(super) items: BTreeMap<Key, Item>,
    /// Attribute by which items expire.
    pub(super) expires: Option<String>,
}

impl Table {
    /// The table that a request wants to create.
    pub(super) fn of(call: &mut Call) -> Result<Self, Refused> {
        let definitions = call.list("AttributeDefinitions")?;
        let schema = call.list("KeySchema")?;
        let key = |role: &str| {
            let element = schema.iter().find(|element| element["KeyType"] == role)?;
            let name = element["AttributeName"].as_str()?.to_owned();
            let mut definitions = definitions.iter();
            let defined = definitions.find(|defined| defined["AttributeName"] == *name)?;
            let kind = defined["AttributeType"].as_str()?.to_owned();
            ["S", "N", "B"]
                .contains(&kind.as_str())
                .then_some(KeyAttribute { name, kind })
        };
        let partition = key("HASH");
        let sort = key("RANGE");
        if schema.len() != usize::from(partition.is_some()) + usize::from(sort.is_some()) {
            return Err(Refused::invalid("a key without a definition"));
        }
        Ok(Self {
            partition: partition.ok_or_else(|| Refused::invalid("no partition key"))?,
            sort,
            items: BTreeMap::new(),
            expires: None,
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.items.values().map(item_bytes).sum::<usize>() as u64
    }

    pub(super) fn description(&self, name: &str) -> Value {
        let keys = [
            (Some(&self.partition), "HASH"),
            (self.sort.as_ref(), "RANGE"),
        ];
        let keys = keys.into_iter();
        let keys: Vec<_> = keys.filter_map(|(key, role)| Some((key?, role))).collect();
        let schema: Vec<Value> = keys
            .iter()
            .map(|(key, role)| json!({"AttributeName": key.name, "KeyType": role}))
            .collect();
        let definitions: Vec<Value> = keys
            .iter()
            .map(|(key, _)| json!({"AttributeName": key.name, "AttributeType": key.kind}))
            .collect();
        json!({
            "TableName": name,
            "TableStatus": "ACTIVE",
            "KeySchema": schema,
            "AttributeDefinitions": definitions,
            "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
            "ItemCount": self.items.len(),
            "TableSizeBytes": self.bytes(),
        })
    }

    /// The key in an item, which may have further attributes.
    pub(super) fn key_in(&self, item: &Item) -> Result<Key, Refused> {
        let value = |attribute: &KeyAttribute| {
            let value = item.get(&attribute.name).filter(|value| {
                let kind = match value {
                    Attribute::Text(text) if !text.is_empty() => "S",
                    Attribute::Number(_) => "N",
                    Attribute::Binary(bytes) if !bytes.is_empty() => "B",
                    _ => "",
                };
                kind == attribute.kind
            });
            value.cloned().ok_or_else(|| {
                Refused::invalid(format!(
                    "One or more parameter values were invalid: missing, empty or mistyped key {}",
                    attribute.name
                ))
            })
        };
        Ok(Key {
            partition: value(&self.partition)?,
            sort: self.sort.as_ref().map(value).transpose()?,
        })
    }

    /// The key in the field `Key` of a request.
    pub(super) fn key_of(&self, fields: &Item) -> Result<Key, Refused> {
        if fields.len() != 1 + usize::from(self.sort.is_some()) {
            let text = "The provided key element does not match the schema";
            return Err(Refused::invalid(text));
        }
        self.key_in(fields)
    }

    /// Attributes of a key.
    pub(super) fn key_attributes(&self, key: &Key) -> Item {
        let mut attributes = Item::from([(self.partition.name.clone(), key.partition.clone())]);
        if let (Some(attribute), Some(value)) = (&self.sort, &key.sort) {
            attributes.insert(attribute.name.clone(), value.clone());
        }
        attributes
    }

    pub(super) fn check_size(item: &Item) -> Result<(), Refused> {
        match item_bytes(item) {
            bytes if bytes > ITEM_BYTES_MAX => Err(Refused::invalid(format!(
                "Item size has exceeded the maximum allowed size ({bytes} bytes)"
            ))),
            _ => Ok(()),
        }
    }
}
