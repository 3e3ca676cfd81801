//! Egress to an EventBridge bus: any typed value as the detail of an event, at least once, without
//! an order.
//!
//! A detail must be a JSON object. A value that is one is used unchanged. Any other value is
//! wrapped in `{"typename":…,"value":…}`, or in `{"typename":…,"base64":…}` if it is not JSON. The
//! event's resources contain `satchel:<id>` with the record's id, by which a repeated event can be
//! recognized.

mod event;
#[cfg(feature = "sdk")]
mod service;

use super::content::Selector;

pub use event::Event;
#[cfg(feature = "sdk")]
pub use service::EventBridgeService;

/// Maximum size of a request, and thus of an event, in bytes.
pub(super) const EVENT_BYTES_MAX: usize = 1 << 20;

/// Settings of an egress to EventBridge, from its module file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventBridgeSettings {
    /// Name or ARN of the bus.
    pub event_bus: String,
    /// Source of the events.
    pub source: Selector,
    /// Detail type of the events.
    pub detail_type: Selector,
}
