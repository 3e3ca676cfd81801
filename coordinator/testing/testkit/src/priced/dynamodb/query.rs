//! Reads: `GetItem` and `Query`.

use std::cmp::Ordering;
use std::ops::Bound;

use serde_json::{Map, Value};

use super::attribute::{Attribute, Item, item, item_bytes, item_to_json};
use super::condition::{Condition, Operand};
use super::requests::{Call, read_units};
use super::table::{Key, Table};
use super::{Outcome, Refused, Tables};
use crate::priced::bill::Usage;

/// Maximum size of a page in bytes. The item that exceeds it ends the page.
const PAGE_BYTES: usize = 1 << 20;

impl Tables {
    pub(super) fn get(&mut self, call: &mut Call) -> Outcome {
        let name = call.text("TableName")?;
        let key = call.item("Key")?;
        let consistent = call.flag("ConsistentRead", false)?;
        let projection = call.projection()?;
        call.finish()?;
        let table = self.table(&name)?;
        let found = table.items.get(&table.key_of(&key)?);
        let bytes = found.map_or(0, item_bytes);
        let mut body = Map::new();
        if let Some(found) = found {
            body.insert("Item".to_owned(), projected(found, projection.as_deref()));
        }
        let usage = Usage {
            read_units: read_units(bytes, consistent),
            ..Usage::default()
        };
        Ok(call.answer(&name, body, usage))
    }

    pub(super) fn query(&mut self, call: &mut Call) -> Outcome {
        let name = call.text("TableName")?;
        let consistent = call.flag("ConsistentRead", false)?;
        let forward = call.flag("ScanIndexForward", true)?;
        let limit = call.count("Limit")?.unwrap_or(usize::MAX);
        let condition = call.condition("KeyConditionExpression")?;
        let condition = condition.ok_or_else(|| Refused::invalid("no key condition"))?;
        let filter = call.condition("FilterExpression")?;
        let projection = call.projection()?;
        let counts_only = match call.text_or_empty("Select")?.as_str() {
            "" | "ALL_ATTRIBUTES" | "SPECIFIC_ATTRIBUTES" => false,
            "COUNT" => true,
            other => return Err(Refused::unknown(format!("the selection {other}"))),
        };
        let from = match call.take("ExclusiveStartKey") {
            None => None,
            Some(Value::Object(fields)) => Some(item(&fields)?),
            Some(other) => return Err(Refused::invalid(format!("the start key {other}"))),
        };
        call.finish()?;
        let table = self.table(&name)?;
        let from = from.map(|from| table.key_of(&from)).transpose()?;
        let page = page(table, &condition, from, forward, limit)?;
        let (mut kept, mut bytes, scanned) = (Vec::new(), 0, page.items.len());
        for item in page.items {
            bytes += item_bytes(item);
            if filter.as_ref().is_none_or(|filter| filter.holds(item)) {
                kept.push(projected(item, projection.as_deref()));
            }
        }
        let mut body = Map::new();
        body.insert("Count".to_owned(), kept.len().into());
        body.insert("ScannedCount".to_owned(), scanned.into());
        if !counts_only {
            body.insert("Items".to_owned(), kept.into());
        }
        if let Some(last) = page.last {
            let last = item_to_json(&table.key_attributes(&last));
            body.insert("LastEvaluatedKey".to_owned(), last);
        }
        let usage = Usage {
            read_units: read_units(bytes, consistent),
            ..Usage::default()
        };
        Ok(call.answer(&name, body, usage))
    }
}

/// Page of a query.
struct Page<'t> {
    items: Vec<&'t Item>,
    /// Key of the last item, if the page ended before the items did.
    last: Option<Key>,
}

fn page<'t>(
    table: &'t Table,
    condition: &Condition,
    from: Option<Key>,
    forward: bool,
    limit: usize,
) -> Result<Page<'t>, Refused> {
    if limit == 0 {
        return Err(Refused::invalid("Limit must be at least 1"));
    }
    let partition = partition(table, condition)?;
    let (least, most) = bounds(condition);
    // Without a sort value, a key is before all others of its partition.
    let first = Key {
        partition: partition.clone(),
        sort: least,
    };
    let is_beyond = |key: &Key| match (&key.sort, &most) {
        (Some(sort), Some(most)) => sort.order(most) == Some(Ordering::Greater),
        _ => false,
    };
    if !forward && from.as_ref().is_some_and(|from| *from < first) {
        return Ok(Page {
            items: Vec::new(),
            last: None,
        });
    }
    let (low, high) = match (from, forward) {
        (Some(from), true) => (Bound::Excluded(from), Bound::Unbounded),
        (Some(from), false) => (Bound::Included(first), Bound::Excluded(from)),
        (None, _) => (Bound::Included(first), Bound::Unbounded),
    };
    let within = table.items.range((low, high));
    let mut within: Box<dyn Iterator<Item = (&Key, &Item)>> = Box::new(
        within
            .take_while(|(key, _)| key.partition == partition && !is_beyond(key))
            .filter(|(_, item)| condition.holds(item)),
    );
    if !forward {
        let reversed: Vec<_> = within.collect();
        within = Box::new(reversed.into_iter().rev());
    }
    let mut page = Page {
        items: Vec::new(),
        last: None,
    };
    let mut bytes = 0;
    for (key, item) in within {
        page.items.push(item);
        bytes += item_bytes(item);
        if page.items.len() == limit || bytes > PAGE_BYTES {
            page.last = Some(key.clone());
            break;
        }
    }
    Ok(page)
}

/// Bounds of the sort key in a key condition, which save looking at the other items.
fn bounds(condition: &Condition) -> (Option<Attribute>, Option<Attribute>) {
    match condition {
        Condition::And(one, other) => {
            let (of_one, of_other) = (bounds(one), bounds(other));
            (of_one.0.or(of_other.0), of_one.1.or(of_other.1))
        }
        Condition::Between(_, Operand::Value(least), Operand::Value(most)) => {
            (Some(least.clone()), Some(most.clone()))
        }
        Condition::Compare(_, ">" | ">=", Operand::Value(least)) => (Some(least.clone()), None),
        Condition::Compare(_, "<" | "<=", Operand::Value(most)) => (None, Some(most.clone())),
        _ => (None, None),
    }
}

/// The partition that a key condition names. The rest of the condition must be about the sort key.
fn partition(table: &Table, condition: &Condition) -> Result<Attribute, Refused> {
    let of_partition = |condition: &Condition| match condition {
        Condition::Compare(Operand::Name(name), "=", Operand::Value(value))
            if *name == table.partition.name =>
        {
            Some(value.clone())
        }
        _ => None,
    };
    let of_sort = |condition: &Condition| {
        let (Condition::Compare(Operand::Name(name), _, Operand::Value(_))
        | Condition::BeginsWith(Operand::Name(name), Operand::Value(_))
        | Condition::Between(Operand::Name(name), Operand::Value(_), Operand::Value(_))) =
            condition
        else {
            return false;
        };
        let not_equal = matches!(condition, Condition::Compare(_, "<>", _));
        table.sort.as_ref().is_some_and(|sort| sort.name == *name) && !not_equal
    };
    let partition = match condition {
        Condition::And(one, other) if of_sort(other) => of_partition(one),
        Condition::And(one, other) if of_sort(one) => of_partition(other),
        condition => of_partition(condition),
    };
    partition.ok_or_else(|| Refused::invalid("Query key condition not supported"))
}

fn projected(item: &Item, names: Option<&[String]>) -> Value {
    match names {
        None => item_to_json(item),
        Some(names) => {
            let kept = item.iter().filter(|(name, _)| names.contains(name));
            let kept = kept.map(|(name, value)| (name.clone(), value.clone()));
            item_to_json(&kept.collect())
        }
    }
}
