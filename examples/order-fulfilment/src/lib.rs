//! Takes orders through payment, reservation and shipment.
//!
//! ```text
//!  order-events ──► orders/order ──Reserve──► orders/inventory ◄── stock-counts
//!                   (per order)  ◄─Reserved──   (per item)
//!                     │    ▲ │                     │
//!                     │    └─┘ payment timeout     │
//!                     ▼                            ▼
//!      OrderConfirmed, ShipmentInitiated,    InventoryUpdated
//!      OrderCancelled, RefundDue
//!                     └────────► fulfilment ◄──────┘
//! ```

pub mod inventory;
pub mod messages;
pub mod order;

use std::time::Duration;

use satchel_sdk::egress::KinesisRecord;
use satchel_sdk::{Context, EgressId, Error, FunctionType, Functions, parse_duration};

use crate::inventory::Inventory;
use crate::messages::Fulfilment;
use crate::order::OrderFunction;

/// One order each.
pub const ORDER: FunctionType = FunctionType::new("orders/order");
/// One item each.
pub const INVENTORY: FunctionType = FunctionType::new("orders/inventory");
/// Where the [`Fulfilment`] events go.
pub const FULFILMENT: EgressId = EgressId::new("orders/fulfilment");

/// What can be set from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How long an order waits for its payment.
    pub payment_timeout: Duration,
    /// How many of each item there are before the first count.
    pub initial_stock: u32,
}

impl Config {
    /// Reads `PAYMENT_TIMEOUT` (default `15m`) and `INITIAL_STOCK` (default 100).
    ///
    /// # Errors
    ///
    /// When the one is not a duration, or the other not a whole number.
    pub fn from_env() -> Result<Self, Error> {
        let mut config = Self::default();
        if let Ok(text) = std::env::var("PAYMENT_TIMEOUT") {
            config.payment_timeout =
                parse_duration(&text).map_err(|error| format!("PAYMENT_TIMEOUT: {error}"))?;
        }
        if let Ok(text) = std::env::var("INITIAL_STOCK") {
            config.initial_stock = text
                .parse()
                .map_err(|error| format!("INITIAL_STOCK {text:?}: {error}"))?;
        }
        Ok(config)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            payment_timeout: Duration::from_secs(15 * 60),
            initial_stock: 100,
        }
    }
}

/// The functions of this application.
pub fn functions(config: Config) -> Functions {
    let Config {
        payment_timeout,
        initial_stock,
    } = config;
    Functions::new()
        .bind_type(ORDER, OrderFunction::new(payment_timeout))
        .bind_type(INVENTORY, Inventory::new(initial_stock))
}

/// Tells the world. The key is the id of the order or item, so that what is told of one stays in order.
fn emit<S>(ctx: &mut Context<S>, event: &Fulfilment) {
    let key = ctx.self_address().id().to_owned();
    ctx.egress(
        FULFILMENT,
        &KinesisRecord::new("fulfilment", key).json(event),
    );
}
