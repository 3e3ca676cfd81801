//! Secrets Manager, for texts that must not be in a configuration.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::Builder;

use crate::error_text::describe;
use crate::secret::Secret;

/// Maximum duration of a request.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Fetches the text of the secret `name`, a name or an ARN. Needs `secretsmanager:GetSecretValue`,
/// and `kms:Decrypt` if the secret has its own key.
///
/// # Errors
/// The reason of the service, without any part of the secret.
pub async fn fetch(sdk: &SdkConfig, name: &str) -> Result<Secret, String> {
    let timeout = TimeoutConfig::builder().operation_timeout(ANSWER_MAX);
    let config = Builder::from(sdk).timeout_config(timeout.build()).build();
    let request = Client::from_conf(config).get_secret_value().secret_id(name);
    let answer = request.send().await.map_err(|error| describe(&error))?;
    answer
        .secret_string()
        .map(Secret::new)
        .ok_or_else(|| "the secret is binary; store it as a text".to_owned())
}
