//! Messages between the functions, and records of the streams.

use satchel_sdk::Message;
use serde::{Deserialize, Serialize};

/// A card was used. Comes from the stream `transactions`; the record's key is the transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "fraud/transaction")]
pub struct Transaction {
    /// Account of the card.
    pub account: String,
    /// Merchant that was paid.
    pub merchant: String,
    /// Amount in cents.
    pub amount_cents: u64,
}

/// A transaction turned out to be a fraud. Comes from the stream `fraud-confirmations`, with the
/// account as the record's key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "fraud/confirmation")]
pub struct FraudConfirmed {
    /// Id of the transaction.
    pub transaction: String,
}

/// Request to an account for its [`FraudCount`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "fraud/count-frauds")]
pub struct CountFrauds {}

/// Number of frauds of an account that were confirmed within the window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "fraud/fraud-count")]
pub struct FraudCount {
    /// The number.
    pub count: u64,
}

/// The window of a confirmed fraud is over. An account sends it to itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "fraud/window-over")]
pub struct WindowOver {
    /// Id of the transaction.
    pub transaction: String,
}

/// Request to a merchant for its [`MerchantScore`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "fraud/score-merchant")]
pub struct ScoreMerchant {}

/// Trust in a merchant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "fraud/merchant-score")]
pub struct MerchantScore {
    /// Trust from 0 (none) to 100.
    pub trust: f64,
}

/// Input of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "fraud/features")]
pub struct Features {
    /// Number of frauds of the account confirmed within the window.
    pub fraud_count: u64,
    /// Trust from 0 (none) to 100.
    pub merchant_trust: f64,
    /// Amount in cents.
    pub amount_cents: u64,
}

/// Output of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "fraud/score")]
pub struct Score {
    /// Suspicion from 0 (harmless) to 100.
    pub score: f64,
}

/// Judgement of a transaction: the reply to a caller that sent it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "fraud/verdict")]
pub struct Verdict {
    /// Suspicion from 0 (harmless) to 100.
    pub score: f64,
    /// True if an alert was raised.
    pub alert: bool,
}

/// A suspicious transaction. Goes to the stream `alerts`; the record's key is the account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Id of the transaction.
    pub transaction: String,
    /// Account of the card.
    pub account: String,
    /// Merchant that was paid.
    pub merchant: String,
    /// Amount in cents.
    pub amount_cents: u64,
    /// Suspicion from 0 (harmless) to 100.
    pub score: f64,
}
