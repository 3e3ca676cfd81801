//! *Model*: the likelihood of a fraud. A weighted sum takes the place of a trained model.

use satchel_sdk::{Context, Result};

use crate::messages::{Features, Score};

/// Maximum of the fraud count. Higher counts weigh the same.
const FRAUD_COUNT_MAX: u64 = 5;

/// Maximum of the amount: 10,000 in the currency's unit. Higher amounts weigh the same.
const AMOUNT_CENTS_MAX: u64 = 1_000_000;

/// Replies to features with a score.
///
/// # Errors
///
/// Never: all features have a score.
pub async fn score(_: &mut Context, features: Features) -> Result<Score> {
    Ok(Score {
        score: fraud_score(&features),
    })
}

fn fraud_score(features: &Features) -> f64 {
    let distrust = 1.0 - features.merchant_trust / 100.0;
    let frauds = share(features.fraud_count, FRAUD_COUNT_MAX);
    let amount = share(features.amount_cents, AMOUNT_CENTS_MAX);
    // Rounded to one decimal, so that scores are easy to read.
    (1000.0 * (0.4 * distrust + 0.4 * frauds + 0.2 * amount)).round() / 10.0
}

fn share(value: u64, max: u64) -> f64 {
    value.min(max) as f64 / max as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_has_its_weight_and_its_limit() {
        let score = |fraud_count, merchant_trust, amount_cents| {
            fraud_score(&Features {
                fraud_count,
                merchant_trust,
                amount_cents,
            })
        };
        assert_eq!(score(0, 100.0, 0), 0.0);
        assert_eq!(score(0, 0.0, 0), 40.0);
        assert_eq!(score(5, 100.0, 0), 40.0);
        assert_eq!(score(99, 100.0, 0), 40.0);
        assert_eq!(score(0, 100.0, 1_000_000), 20.0);
        assert_eq!(score(99, 0.0, u64::MAX), 100.0);
    }
}
