//! Costs of an application on AWS: a model of its requests, and their list prices. Pure.
//!
//! ```text
//!  Load ──estimate──► Usage (per second, what stands all month) ──priced──► Costs, by position
//!                       ▲
//!        counted at stand-ins, in tests and in the bench `cloud`
//!
//!  Observed, of each running process ──bill──► so far, a month's forecast, what dials change
//! ```
//!
//! The model follows the rules of the engine: when commits are sealed
//! (`coordinator/engine/src/partition/commits.rs`), how long messages gather for a request
//! (`coordinator/engine/src/dispatcher/waiting.rs`), when snapshots are taken
//! (`coordinator/log/src/snapshotter.rs`). A test compares it with requests that were counted.

/// Time by which a timer is late on average, in ms.
const TIMER_MS: f64 = 1.0;

mod bundling;
mod commits;
mod load;
mod model;
mod observed;
mod prices;
mod usage;

pub use self::load::{Architecture, CommitLog, Load, Streams, Tasks};
pub use self::model::estimate;
pub use self::observed::{
    CostAssumptions, CostSettings, Counted, Dial, DialOption, Forecast, ForecastPosition, Observed,
    ObservedCosts, ObservedLoad, bill,
};
pub use self::prices::{MONTH_HOURS, MONTH_SECONDS, PRICES_FOUND, Prices};
pub use self::usage::{Costs, Position, Usage};

#[cfg(test)]
mod tests;
