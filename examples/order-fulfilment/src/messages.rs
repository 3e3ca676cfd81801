//! Everything that the functions tell one another and the world.

use std::collections::BTreeMap;

use satchel_sdk::Message;
use serde::{Deserialize, Serialize};

/// What happened to an order, told by other systems. From the stream `order-events`; the record's key is the order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "orders/event")]
#[serde(tag = "type")]
pub enum OrderEvent {
    /// Somebody ordered.
    OrderCreated {
        /// What, and how many of each.
        items: BTreeMap<String, u32>,
    },
    /// Somebody paid.
    PaymentReceived {
        /// How much, in cents.
        amount_cents: u64,
    },
    /// The warehouse shipped one of the items.
    ItemShipped {
        /// Which.
        item: String,
    },
}

/// Asks an order for its [`OrderView`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "orders/get")]
pub struct GetOrder {}

/// An order as it stands: the answer to [`GetOrder`], and to an [`OrderEvent`] that was sent by `/call`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "orders/view")]
pub struct OrderView {
    /// How far it is.
    pub status: OrderStatus,
    /// What was ordered, and how far each item is.
    pub items: BTreeMap<String, Line>,
}

/// How far an order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Message)]
#[message(typename = "orders/status")]
pub enum OrderStatus {
    /// Not created, although other events may have come already.
    #[default]
    Unknown,
    /// Created and not paid.
    AwaitingPayment,
    /// Paid; its items are being reserved.
    Confirmed,
    /// All items are reserved; they are on their way out of the warehouse.
    Shipping,
    /// All items are shipped.
    Shipped,
    /// It was not paid in time.
    Cancelled,
}

/// One item of an order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Line {
    /// How many.
    pub quantity: u32,
    /// Whether the inventory has put them aside.
    pub reserved: bool,
    /// Whether they were shipped.
    pub shipped: bool,
}

/// The payment did not come in time; an order sends it to itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "orders/payment-timeout")]
pub struct PaymentTimeout {}

/// Asks an item to put some aside for the order that asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "orders/reserve")]
pub struct Reserve {
    /// How many.
    pub quantity: u32,
}

/// What was asked for by [`Reserve`] is put aside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "orders/reserved")]
pub struct Reserved {
    /// Of which item.
    pub item: String,
}

/// Somebody counted what is on the shelf, reservations not included. From the stream `stock-counts`; the record's key is the item.
///
/// A number and not a difference, so that a count that comes twice changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "orders/stock-counted")]
pub struct StockCounted {
    /// How many there are.
    pub stock: u32,
}

/// What the application tells the world, on the stream `fulfilment`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Fulfilment {
    /// The order exists and is paid.
    OrderConfirmed {
        /// Which order.
        order: String,
    },
    /// There are more or fewer of an item than before.
    InventoryUpdated {
        /// Which item.
        item: String,
        /// How many are left.
        stock: u32,
    },
    /// Everything is put aside: the warehouse can ship it.
    ShipmentInitiated {
        /// Which order.
        order: String,
        /// What, and how many of each.
        items: BTreeMap<String, u32>,
    },
    /// The order was not paid in time.
    OrderCancelled {
        /// Which order.
        order: String,
    },
    /// A payment came for an order that was cancelled.
    RefundDue {
        /// Which order.
        order: String,
        /// How much, in cents.
        amount_cents: u64,
    },
}
