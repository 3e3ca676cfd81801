//! The token for administration, from where the configuration says.

use satchel_aws::config::AwsAccess;
use satchel_aws::secrets;

use crate::cli::{Exit, Failure};
use crate::config::RunConfig;
use crate::destinations::AwsConfigs;
use crate::http::AdminToken;
use crate::servers::token_of;

/// The token, if the configuration names one.
pub(super) async fn of(
    config: &RunConfig,
    configs: &mut AwsConfigs,
) -> Result<Option<AdminToken>, Failure> {
    if let Some(file) = &config.admin_token_file {
        return token_of(file).map(Some);
    }
    let Some(name) = &config.admin_token_secret else {
        return Ok(None);
    };
    let flag = format!("--admin-token-secret {name}");
    let sdk = configs.get(&AwsAccess::default(), &flag).await?;
    let wrong =
        |what: &dyn std::fmt::Display| Failure::new(Exit::Environment, format!("{flag}: {what}"));
    let secret = Box::pin(secrets::fetch(&sdk, name))
        .await
        .map_err(|why| wrong(&why))?;
    let token = AdminToken::new(secret.reveal().trim());
    token.map(Some).ok_or_else(|| wrong(&"the secret is empty"))
}
