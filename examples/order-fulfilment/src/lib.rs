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

/// One instance for each order.
pub const ORDER: FunctionType = FunctionType::new("orders/order");
/// One instance for each item.
pub const INVENTORY: FunctionType = FunctionType::new("orders/inventory");
/// Egress of the [`Fulfilment`] events.
pub const FULFILMENT: EgressId = EgressId::new("orders/fulfilment");

/// Settings of the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Time that an order waits for its payment.
    pub payment_timeout: Duration,
    /// Stock of each item before the first count.
    pub initial_stock: u32,
}

impl Config {
    /// Reads `PAYMENT_TIMEOUT` (default `15m`) and `INITIAL_STOCK` (default 100).
    ///
    /// # Errors
    ///
    /// When the first is not a duration, or the second not a whole number.
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

/// Functions of this application.
pub fn functions(config: Config) -> Functions {
    let Config {
        payment_timeout,
        initial_stock,
    } = config;
    Functions::new()
        .bind_type(ORDER, OrderFunction::new(payment_timeout))
        .bind_type(INVENTORY, Inventory::new(initial_stock))
}

/// Emits an event. Its key is the id of the order or item, so events of one stay in order.
fn emit<S>(ctx: &mut Context<S>, event: &Fulfilment) {
    let key = ctx.self_address().id().to_owned();
    ctx.egress(
        FULFILMENT,
        &KinesisRecord::new("fulfilment", key).json(event),
    );
}
