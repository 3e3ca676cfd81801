//! *Model*: how likely a transaction is a fraud. A weighted sum stands where a trained model would.

use satchel_sdk::{Context, Result};

use crate::messages::{Features, Score};

/// From this many confirmed frauds on, the count says no more.
const FRAUD_COUNT_MAX: u64 = 5;

/// From this amount on, the amount says no more: 10,000 in the currency's unit.
const AMOUNT_CENTS_MAX: u64 = 1_000_000;

/// Answers features with a score.
///
/// # Errors
///
/// When there is no caller to answer.
pub async fn score(ctx: &mut Context, features: Features) -> Result {
    ctx.reply(&Score {
        score: fraud_score(&features),
    })?;
    Ok(())
}

fn fraud_score(features: &Features) -> f64 {
    let distrust = 1.0 - features.merchant_trust / 100.0;
    let frauds = share(features.fraud_count, FRAUD_COUNT_MAX);
    let amount = share(features.amount_cents, AMOUNT_CENTS_MAX);
    // To one decimal, so that scores read well.
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
