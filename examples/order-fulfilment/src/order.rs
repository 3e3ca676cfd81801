//! One order. Its end does not depend on the order and the repetition of its events.
//!
//! Each event is recorded as a fact, once. An action happens when the last fact it needs is there.

use std::collections::BTreeMap;
use std::time::Duration;

use satchel_sdk::{Context, Error, Function, Message, State, TerminalError, Value};
use serde::{Deserialize, Serialize};

use crate::messages::{
    Fulfilment, GetOrder, Line, OrderEvent, OrderStatus, OrderView, PaymentTimeout, Reserve,
    Reserved,
};
use crate::{INVENTORY, emit};

/// Token by which the payment cancels the timeout.
const TIMEOUT_TOKEN: &str = "payment-timeout";

/// The function with its timeout.
pub struct OrderFunction {
    payment_timeout: Duration,
}

/// Its messages.
#[derive(Debug, Message)]
pub enum OrderMessage {
    /// Sent by the stream, or by a caller outside.
    #[message(json)]
    Event(OrderEvent),
    /// Sent by any caller.
    Get(GetOrder),
    /// Sent by itself.
    PaymentTimeout(PaymentTimeout),
    /// Sent by an item.
    Reserved(Reserved),
}

/// State of an order.
#[derive(State)]
pub struct Order {
    status: Value<OrderStatus>,
    lines: Value<Lines>,
    /// Amount in cents.
    paid: Value<i64>,
}

/// Items of an order. An item of quantity 0 was shipped before the order was created.
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
            let error = TerminalError::new(400, "an order has items, at least one of each");
            return Err(error.into());
        }
        if status(ctx) != OrderStatus::Unknown {
            return Ok(());
        }
        let lines = &mut ctx.state.lines.get_mut_or_default().lines;
        // A shipment of an item that was not ordered does not belong to this order.
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
        // Before the order is created, the fact is only recorded.
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
    // The payment may have arrived while this message was on its way.
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

/// Advances the order as far as the facts allow.
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
