//! Scores card transactions, and raises an alert for suspicious ones.
//!
//! ```text
//!  transactions ──► fraud/transaction-manager ──CountFrauds──► fraud/count ◄── fraud-confirmations
//!                     (per transaction)     ◄──FraudCount───   (per account)
//!                        │ ▲   │ ▲
//!               Features │ │   │ └─MerchantScore── fraud/merchant-scorer ──► scoring service
//!                        ▼ │   └───ScoreMerchant─►  (per merchant)
//!                     fraud/model
//!                        │ score over the threshold
//!                        ▼
//!                      alerts
//! ```

pub mod fraud_count;
pub mod merchant_scorer;
pub mod messages;
pub mod model;
pub mod scoring_service;
pub mod transaction_manager;

use std::time::Duration;

use satchel_sdk::{Error, FunctionType, Functions, parse_duration};

use crate::fraud_count::CountFunction;
use crate::merchant_scorer::MerchantScorer;
use crate::scoring_service::{HttpScores, LocalScores};

/// One instance for each transaction. Gathers the features for the model, and judges.
pub const TRANSACTION_MANAGER: FunctionType = FunctionType::new("fraud/transaction-manager");
/// One instance for each account. Counts the frauds confirmed lately.
pub const FRAUD_COUNT: FunctionType = FunctionType::new("fraud/count");
/// One instance for each merchant. Knows the trust in it.
pub const MERCHANT_SCORER: FunctionType = FunctionType::new("fraud/merchant-scorer");
/// Turns features into a score. Has no state.
pub const MODEL: FunctionType = FunctionType::new("fraud/model");

/// Settings of the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Time for which a confirmed fraud counts.
    pub window: Duration,
    /// URL of the scoring service. `None` for the stand-in inside this process.
    pub scoring_service_url: Option<String>,
}

impl Config {
    /// Reads `FRAUD_WINDOW` (default `30d`) and `SCORING_SERVICE_URL` (default none).
    ///
    /// # Errors
    ///
    /// When the window is not a duration.
    pub fn from_env() -> Result<Self, Error> {
        let window = match std::env::var("FRAUD_WINDOW") {
            Ok(text) => parse_duration(&text).map_err(|error| format!("FRAUD_WINDOW: {error}"))?,
            Err(_) => Self::default().window,
        };
        let scoring_service_url = std::env::var("SCORING_SERVICE_URL").ok();
        Ok(Self {
            window,
            scoring_service_url,
        })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(30 * 24 * 60 * 60),
            scoring_service_url: None,
        }
    }
}

/// Functions of this application.
pub fn functions(config: Config) -> Functions {
    let functions = Functions::new()
        .bind(TRANSACTION_MANAGER, transaction_manager::manage)
        .bind(MODEL, model::score)
        .bind_type(FRAUD_COUNT, CountFunction::new(config.window));
    match config.scoring_service_url {
        Some(url) => {
            functions.bind_type(MERCHANT_SCORER, MerchantScorer::new(HttpScores::new(url)))
        }
        None => functions.bind_type(MERCHANT_SCORER, MerchantScorer::new(LocalScores)),
    }
}
