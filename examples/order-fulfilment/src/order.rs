//! One order: whatever order its events come in, and however often, it ends the same.
//!
//! Each event is noted as a fact, once; what follows from the facts is done when the last of them is there.

use std::collections::BTreeMap;
use std::time::Duration;

use satchel_sdk::{Context, Error, Function, Message, State, Value};
use serde::{Deserialize, Serialize};

use crate::messages::{
    Fulfilment, GetOrder, Line, OrderEvent, OrderStatus, OrderView, PaymentTimeout, Reserve,
    Reserved,
};
use crate::{INVENTORY, emit};

/// By which the payment cancels the timeout.
const TIMEOUT_TOKEN: &str = "payment-timeout";

/// The function, with its timeout.
pub struct OrderFunction {
    payment_timeout: Duration,
}

/// What it takes.
#[derive(Debug, Message)]
pub enum OrderMessage {
    /// From the stream, or from outside.
    #[message(json)]
    Event(OrderEvent),
    /// From whoever wants to know.
    Get(GetOrder),
    /// From itself.
    PaymentTimeout(PaymentTimeout),
    /// From an item.
    Reserved(Reserved),
}

/// What an order remembers.
#[derive(State)]
pub struct Order {
    status: Value<OrderStatus>,
    lines: Value<Lines>,
    /// In cents.
    paid: Value<i64>,
}

/// The items of an order; those of quantity 0 were shipped before the order was known.
#[derive(Debug, Default, Clone, Serialize, Deserialize, Message)]
#[message(typename = "orders/lines")]
struct Lines {
    lines: BTreeMap<String, Line>,
}

impl OrderFunction {
    /// Cancels orders that are not paid within `payment_timeout`.
    pub fn new(payment_timeout: Duration) -> Self {
        Self { payment_timeout }
    }

    fn created(&self, ctx: &mut Context<Order>, items: BTreeMap<String, u32>) -> Result<(), Error> {
        if items.is_empty() || items.values().any(|quantity| *quantity == 0) {
            return Err("an order has items, at least one of each".into());
        }
        if status(ctx) != OrderStatus::Unknown {
            return Ok(());
        }
        let lines = &mut ctx.state.lines.get_mut_or_default().lines;
        // A shipment of something that was not ordered is none of ours.
        lines.retain(|item, _| items.contains_key(item));
        for (item, quantity) in items {
            lines.entry(item).or_default().quantity = quantity;
        }
        if ctx.state.paid.is_set() {
            confirm(ctx);
        } else {
            ctx.state.status.set(OrderStatus::AwaitingPayment);
            let me = ctx.self_address().clone();
            ctx.send_after(self.payment_timeout, me, &PaymentTimeout {})
                .with_token(TIMEOUT_TOKEN);
        }
        Ok(())
    }
}

impl Function for OrderFunction {
    type Message = OrderMessage;
    type State = Order;

    async fn invoke(&self, ctx: &mut Context<Order>, message: OrderMessage) -> Result<(), Error> {
        match message {
            OrderMessage::Event(event) => {
                match event {
                    OrderEvent::OrderCreated { items } => self.created(ctx, items)?,
                    OrderEvent::PaymentReceived { amount_cents } => paid(ctx, amount_cents)?,
                    OrderEvent::ItemShipped { item } => shipped(ctx, item),
                }
                if ctx.caller().is_some() {
                    ctx.reply(&view(ctx))?;
                }
            }
            OrderMessage::Get(GetOrder {}) => ctx.reply(&view(ctx))?,
            OrderMessage::PaymentTimeout(PaymentTimeout {}) => timed_out(ctx),
            OrderMessage::Reserved(Reserved { item }) => reserved(ctx, &item),
        }
        Ok(())
    }
}

fn paid(ctx: &mut Context<Order>, amount_cents: u64) -> Result<(), Error> {
    if ctx.state.paid.is_set() {
        return Ok(());
    }
    ctx.state.paid.set(i64::try_from(amount_cents)?);
    match status(ctx) {
        OrderStatus::AwaitingPayment => {
            ctx.cancel(TIMEOUT_TOKEN);
            confirm(ctx);
        }
        OrderStatus::Cancelled => {
            let order = id(ctx);
            emit(
                ctx,
                &Fulfilment::RefundDue {
                    order,
                    amount_cents,
                },
            );
        }
        // Before the order is created, it is enough to know.
        _ => {}
    }
    Ok(())
}

fn shipped(ctx: &mut Context<Order>, item: String) {
    let known = status(ctx) != OrderStatus::Unknown;
    let lines = &mut ctx.state.lines.get_mut_or_default().lines;
    if known && !lines.contains_key(&item) {
        return;
    }
    lines.entry(item).or_default().shipped = true;
    advance(ctx);
}

fn timed_out(ctx: &mut Context<Order>) {
    // The payment may have come while this message was on its way.
    if status(ctx) == OrderStatus::AwaitingPayment {
        ctx.state.status.set(OrderStatus::Cancelled);
        let order = id(ctx);
        emit(ctx, &Fulfilment::OrderCancelled { order });
    }
}

fn reserved(ctx: &mut Context<Order>, item: &str) {
    let lines = &mut ctx.state.lines.get_mut_or_default().lines;
    if let Some(line) = lines.get_mut(item) {
        line.reserved = true;
    }
    advance(ctx);
}

fn confirm(ctx: &mut Context<Order>) {
    ctx.state.status.set(OrderStatus::Confirmed);
    let order = id(ctx);
    emit(ctx, &Fulfilment::OrderConfirmed { order });
    for (item, quantity) in items(ctx) {
        ctx.send(INVENTORY.id(item), &Reserve { quantity });
    }
}

/// Goes on as far as the facts allow.
fn advance(ctx: &mut Context<Order>) {
    let lines = lines(ctx);
    if status(ctx) == OrderStatus::Confirmed && lines.values().all(|line| line.reserved) {
        ctx.state.status.set(OrderStatus::Shipping);
        let event = Fulfilment::ShipmentInitiated {
            order: id(ctx),
            items: items(ctx),
        };
        emit(ctx, &event);
    }
    if status(ctx) == OrderStatus::Shipping && lines.values().all(|line| line.shipped) {
        ctx.state.status.set(OrderStatus::Shipped);
    }
}

fn view(ctx: &Context<Order>) -> OrderView {
    OrderView {
        status: status(ctx),
        items: lines(ctx),
    }
}

fn status(ctx: &Context<Order>) -> OrderStatus {
    ctx.state.status.get_or_default()
}

fn lines(ctx: &Context<Order>) -> BTreeMap<String, Line> {
    ctx.state.lines.get_or_default().lines
}

fn items(ctx: &Context<Order>) -> BTreeMap<String, u32> {
    lines(ctx)
        .into_iter()
        .map(|(item, line)| (item, line.quantity))
        .collect()
}

fn id(ctx: &Context<Order>) -> String {
    ctx.self_address().id().to_owned()
}
