//! Everything that the functions tell one another and the world.

use satchel_sdk::Message;
use serde::{Deserialize, Serialize};

/// A card was used. From the stream `transactions`; the record's key is the transaction's id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "fraud/transaction")]
pub struct Transaction {
    /// Whose card.
    pub account: String,
    /// Where.
    pub merchant: String,
    /// How much, in cents.
    pub amount_cents: u64,
}

/// A transaction turned out to be a fraud. From the stream `fraud-confirmations`; the record's key is the account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "fraud/confirmation")]
pub struct FraudConfirmed {
    /// Which transaction.
    pub transaction: String,
}

/// Asks an account for its [`FraudCount`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "fraud/count-frauds")]
pub struct CountFrauds {}

/// How many frauds of an account were confirmed within the window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "fraud/fraud-count")]
pub struct FraudCount {
    /// The number.
    pub count: u64,
}

/// The window of a confirmed fraud is over; an account sends it to itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "fraud/window-over")]
pub struct WindowOver {
    /// Which transaction.
    pub transaction: String,
}

/// Asks a merchant for its [`MerchantScore`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "fraud/score-merchant")]
pub struct ScoreMerchant {}

/// How far a merchant is trusted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "fraud/merchant-score")]
pub struct MerchantScore {
    /// From 0, not at all, to 100.
    pub trust: f64,
}

/// What the model looks at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "fraud/features")]
pub struct Features {
    /// Confirmed frauds of the account within the window.
    pub fraud_count: u64,
    /// From 0, not at all, to 100.
    pub merchant_trust: f64,
    /// In cents.
    pub amount_cents: u64,
}

/// What the model says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "fraud/score")]
pub struct Score {
    /// From 0, harmless, to 100.
    pub score: f64,
}

/// How a transaction was judged: the answer to whoever sent it by `/call`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "fraud/verdict")]
pub struct Verdict {
    /// From 0, harmless, to 100.
    pub score: f64,
    /// Whether an alert was raised.
    pub alert: bool,
}

/// A transaction that looks fraudulent. To the stream `alerts`; the record's key is the account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Its id.
    pub transaction: String,
    /// Whose card.
    pub account: String,
    /// Where.
    pub merchant: String,
    /// How much, in cents.
    pub amount_cents: u64,
    /// From 0, harmless, to 100.
    pub score: f64,
}
