//! *Merchant Scorer*, one for each merchant: asks the scoring service.

use std::time::Duration;

use satchel_sdk::{Context, Error, Function};

use crate::messages::{MerchantScore, ScoreMerchant};
use crate::scoring_service::MerchantScores;

/// Number of requests to the service before the message fails.
///
/// Satchel then retries the message with a growing back-off.
const ATTEMPTS: u32 = 3;

/// Pause before the second request. It doubles before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The function with its client.
pub struct MerchantScorer<S> {
    scores: S,
}

impl<S: MerchantScores> MerchantScorer<S> {
    /// Uses `scores` as the service.
    pub fn new(scores: S) -> Self {
        Self { scores }
    }

    async fn ask(&self, merchant: &str, idempotency_key: Option<&str>) -> Result<f64, Error> {
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            match self.scores.trust(merchant, idempotency_key).await {
                Ok(trust) => return Ok(trust),
                Err(error) if attempt == ATTEMPTS => {
                    return Err(
                        format!("the scoring service failed {ATTEMPTS} times: {error}").into(),
                    );
                }
                Err(_) => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    attempt += 1;
                }
            }
        }
    }
}

impl<S: MerchantScores> Function for MerchantScorer<S> {
    type Message = ScoreMerchant;
    type State = ();

    async fn invoke(&self, ctx: &mut Context, _: ScoreMerchant) -> Result<(), Error> {
        let merchant = ctx.self_address().id();
        let trust = self.ask(merchant, ctx.idempotency_key()).await?;
        ctx.reply(&MerchantScore { trust })?;
        Ok(())
    }
}
