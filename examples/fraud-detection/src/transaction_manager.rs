//! *Transaction Manager*, one for each transaction: gathers features, has them scored, alerts.

use satchel_sdk::egress::KinesisRecord;
use satchel_sdk::{Address, Context, Message, Result, State, Value};
use serde::{Deserialize, Serialize};

use crate::messages::{
    Alert, CountFrauds, Features, FraudCount, MerchantScore, Score, ScoreMerchant, Transaction,
    Verdict,
};
use crate::{FRAUD_COUNT, MERCHANT_SCORER, MODEL};

/// Lowest score that raises an alert.
pub const ALERT_FROM: f64 = 50.0;

/// Its messages.
#[derive(Debug, Message)]
pub enum ManagerMessage {
    /// Sent by the stream, or by a caller outside.
    #[message(json)]
    Transaction(Transaction),
    /// Sent by the account.
    FraudCount(FraudCount),
    /// Sent by the merchant.
    MerchantScore(MerchantScore),
    /// Sent by the model.
    Score(Score),
}

/// State of a transaction.
#[derive(State)]
pub struct Managed {
    transaction: Value<Transaction>,
    fraud_count: Value<FraudCount>,
    merchant_score: Value<MerchantScore>,
    asked_by: Value<Askers>,
    /// Kept for a day, so that a repeated record is judged once.
    #[state(expire_after_write = "1d")]
    verdict: Value<Verdict>,
}

/// Callers that wait for the verdict.
#[derive(Debug, Default, Serialize, Deserialize, Message)]
#[message(typename = "fraud/askers")]
struct Askers {
    addresses: Vec<Address>,
}

/// Handles one message for one transaction.
///
/// # Errors
///
/// Never: every transaction can be judged.
pub async fn manage(ctx: &mut Context<Managed>, message: ManagerMessage) -> Result {
    match message {
        ManagerMessage::Transaction(transaction) => begin(ctx, transaction),
        ManagerMessage::FraudCount(count) => {
            ctx.state.fraud_count.set(count);
            ask_the_model(ctx);
        }
        ManagerMessage::MerchantScore(score) => {
            ctx.state.merchant_score.set(score);
            ask_the_model(ctx);
        }
        ManagerMessage::Score(score) => judge(ctx, &score),
    }
    Ok(())
}

fn begin(ctx: &mut Context<Managed>, transaction: Transaction) {
    if let Some(caller) = ctx.caller().cloned() {
        if let Some(verdict) = ctx.state.verdict.get().cloned() {
            ctx.send(caller, &verdict);
        } else {
            let askers = ctx.state.asked_by.get_mut_or_default();
            askers.addresses.push(caller);
        }
    }
    if ctx.state.transaction.is_set() || ctx.state.verdict.is_set() {
        return;
    }
    ctx.send(FRAUD_COUNT.id(&transaction.account), &CountFrauds {});
    ctx.send(MERCHANT_SCORER.id(&transaction.merchant), &ScoreMerchant {});
    ctx.state.transaction.set(transaction);
}

/// Asks the model as soon as both features are known, in whichever order they arrive.
fn ask_the_model(ctx: &mut Context<Managed>) {
    let state = &ctx.state;
    let (Some(transaction), Some(count), Some(merchant)) = (
        state.transaction.get(),
        state.fraud_count.get(),
        state.merchant_score.get(),
    ) else {
        return;
    };
    let features = Features {
        fraud_count: count.count,
        merchant_trust: merchant.trust,
        amount_cents: transaction.amount_cents,
    };
    let id = ctx.self_address().id().to_owned();
    ctx.send(MODEL.id(id), &features);
}

fn judge(ctx: &mut Context<Managed>, score: &Score) {
    let Some(transaction) = ctx.state.transaction.take() else {
        return;
    };
    ctx.state.fraud_count.clear();
    ctx.state.merchant_score.clear();

    let verdict = Verdict {
        score: score.score,
        alert: score.score >= ALERT_FROM,
    };
    if verdict.alert {
        let record = KinesisRecord::new("alerts", &transaction.account).json(&Alert {
            transaction: ctx.self_address().id().to_owned(),
            account: transaction.account,
            merchant: transaction.merchant,
            amount_cents: transaction.amount_cents,
            score: score.score,
        });
        ctx.egress("fraud/alerts", &record);
    }
    for asker in ctx.state.asked_by.take().unwrap_or_default().addresses {
        ctx.send(asker, &verdict);
    }
    ctx.state.verdict.set(verdict);
}
