//! Messages between the functions, and records of the streams.

use std::collections::BTreeMap;

use satchel_sdk::Message;
use serde::{Deserialize, Serialize};

/// Event of an order, reported by other systems. Comes from the stream `order-events`; the record's
/// key is the order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "orders/event")]
#[serde(tag = "type")]
pub enum OrderEvent {
    /// A customer ordered.
    OrderCreated {
        /// Quantity of each item.
        items: BTreeMap<String, u32>,
    },
    /// A customer paid.
    PaymentReceived {
        /// Amount in cents.
        amount_cents: u64,
    },
    /// The warehouse shipped one of the items.
    ItemShipped {
        /// Name of the item.
        item: String,
    },
}

/// Request to an order for its [`OrderView`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "orders/get")]
pub struct GetOrder {}

/// Present state of an order: the reply to [`GetOrder`], and to an [`OrderEvent`] with a caller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "orders/view")]
pub struct OrderView {
    /// Status of the order.
    pub status: OrderStatus,
    /// Quantity and progress of each item.
    pub items: BTreeMap<String, Line>,
}

/// Status of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Message)]
#[message(typename = "orders/status")]
pub enum OrderStatus {
    /// Not created. Other events may have arrived already.
    #[default]
    Unknown,
    /// Created and not paid.
    AwaitingPayment,
    /// Paid. Its items are being reserved.
    Confirmed,
    /// All items are reserved, and leave the warehouse.
    Shipping,
    /// All items are shipped.
    Shipped,
    /// Not paid in time.
    Cancelled,
}

/// One item of an order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Line {
    /// Quantity.
    pub quantity: u32,
    /// True if the inventory has reserved the quantity.
    pub reserved: bool,
    /// True if the item was shipped.
    pub shipped: bool,
}

/// The payment did not arrive in time. An order sends it to itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "orders/payment-timeout")]
pub struct PaymentTimeout {}

/// Request to an item to reserve a quantity for the calling order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "orders/reserve")]
pub struct Reserve {
    /// Quantity.
    pub quantity: u32,
}

/// Reply to [`Reserve`]: the quantity is reserved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "orders/reserved")]
pub struct Reserved {
    /// Name of the item.
    pub item: String,
}

/// Count of the stock without reservations. Comes from the stream `stock-counts`; the record's key
/// is the item.
///
/// A total and not a difference, so that a repeated count changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "orders/stock-counted")]
pub struct StockCounted {
    /// Quantity in stock.
    pub stock: u32,
}

/// Event of the application, on the stream `fulfilment`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Fulfilment {
    /// The order exists and is paid.
    OrderConfirmed {
        /// Id of the order.
        order: String,
    },
    /// The stock of an item has changed.
    InventoryUpdated {
        /// Name of the item.
        item: String,
        /// Quantity left.
        stock: u32,
    },
    /// All items are reserved: the warehouse can ship them.
    ShipmentInitiated {
        /// Id of the order.
        order: String,
        /// Quantity of each item.
        items: BTreeMap<String, u32>,
    },
    /// The order was not paid in time.
    OrderCancelled {
        /// Id of the order.
        order: String,
    },
    /// A payment arrived for a cancelled order.
    RefundDue {
        /// Id of the order.
        order: String,
        /// Amount in cents.
        amount_cents: u64,
    },
}
