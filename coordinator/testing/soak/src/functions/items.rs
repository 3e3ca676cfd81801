//! Sequences from a stream. Each item passes through a collector back to a stream, in order and
//! without gaps.

use std::collections::BTreeMap;

use satchel_sdk::{Context, FunctionType, Functions, Message, Result, State, Value};
use serde::{Deserialize, Serialize};

use super::{EgressRecord, Item, emit, violation};

const COLLECTOR: FunctionType = FunctionType::new("soak/collector");

/// Number of collectors.
const COLLECTORS: usize = 3;

/// An item in the stream. Its partition key is the sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "soak/item")]
pub(crate) struct NewItem {
    /// Number, from 1.
    pub(crate) k: u64,
    /// The item was put again because the result of the first attempt is unknown.
    pub(crate) again: bool,
}

#[derive(State)]
struct Sequence {
    last: Value<i64>,
}

/// Last item of each sequence.
#[derive(Debug, Default, Serialize, Deserialize, Message)]
#[message(typename = "soak/lasts")]
struct Lasts {
    lasts: BTreeMap<String, u64>,
}

#[derive(State)]
struct Collected {
    lasts: Value<Lasts>,
}

pub(super) fn bind(functions: Functions) -> Functions {
    functions
        .bind("soak/sequence", sequence)
        .bind_type(COLLECTOR, Collector)
}

async fn sequence(ctx: &mut Context<Sequence>, item: NewItem) -> Result {
    let me = ctx.self_address().clone();
    let last = u64::try_from(ctx.state.last.get_or_default())?;
    if !follows(&item, last) {
        violation(&me, format!("{item:?} arrived after item {last}"));
    }
    ctx.state.last.set(i64::try_from(item.k)?);
    let collector = me.id().bytes().map(usize::from).sum::<usize>() % COLLECTORS;
    ctx.send(COLLECTOR.id(collector.to_string()), &item);
    Ok(())
}

struct Collector;

impl satchel_sdk::Function for Collector {
    type Message = NewItem;
    type State = Collected;

    async fn invoke(&self, ctx: &mut Context<Collected>, item: NewItem) -> Result {
        let me = ctx.self_address().clone();
        let sender = ctx
            .caller()
            .ok_or("the item has no sequence as its caller")?
            .clone();
        let lasts = &mut ctx.state.lasts.get_mut_or_default().lasts;
        let last = lasts.entry(sender.id().to_owned()).or_default();
        if !follows(&item, *last) {
            violation(
                &me,
                format!("{item:?} of {sender} arrived after item {last}"),
            );
        }
        *last = item.k;
        let NewItem { k, again } = item;
        let sequence = sender.id().to_owned();
        let item = Item { sequence, k, again };
        emit(ctx, sender.id(), &EgressRecord::Item(item));
        Ok(())
    }
}

/// True if an item may follow this one.
fn follows(item: &NewItem, last: u64) -> bool {
    item.k == last + 1 || (item.again && item.k == last)
}
