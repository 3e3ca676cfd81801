//! Fraud detection as a user runs it, killed in the middle.
//!
//! The same scenarios run with the real `satchel dev`, and with the real `satchel run` on stand-ins
//! for AWS. Handlers are real processes in both.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod environment;
mod scenarios;

mod in_dev {
    use crate::environment::App;
    use crate::scenarios;

    #[tokio::test]
    async fn confirmed_frauds_count_towards_alerts_over_a_kill() {
        scenarios::confirmed_frauds(App::in_dev(&[]).await).await;
    }

    #[tokio::test]
    async fn a_confirmed_fraud_counts_until_its_window_ends_even_after_a_kill() {
        scenarios::window(App::in_dev(&[("FRAUD_WINDOW", "5s")]).await).await;
    }

    #[tokio::test]
    async fn a_scoring_service_that_fails_sometimes_delays_verdicts_and_loses_none() {
        let service = scenarios::FailingService::start().await;
        let variables = [("SCORING_SERVICE_URL", service.url())];
        scenarios::failing_service(App::in_dev(&variables).await).await;
    }
}

mod in_production {
    use crate::environment::App;
    use crate::scenarios;

    #[tokio::test]
    async fn confirmed_frauds_count_towards_alerts_over_a_kill() {
        scenarios::confirmed_frauds(App::in_production(&[]).await).await;
    }

    #[tokio::test]
    async fn a_confirmed_fraud_counts_until_its_window_ends_even_after_a_kill() {
        scenarios::window(App::in_production(&[("FRAUD_WINDOW", "5s")]).await).await;
    }

    #[tokio::test]
    async fn a_scoring_service_that_fails_sometimes_delays_verdicts_and_loses_none() {
        let service = scenarios::FailingService::start().await;
        let variables = [("SCORING_SERVICE_URL", service.url())];
        scenarios::failing_service(App::in_production(&variables).await).await;
    }
}
