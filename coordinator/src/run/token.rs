//! Tokens of the ports, from files or from AWS Secrets Manager.

use std::path::Path;

use satchel_aws::config::AwsAccess;
use satchel_aws::secrets;

use crate::assemble::Tokens;
use crate::config::RunConfig;
use crate::destinations::AwsConfigs;
use crate::error::{Exit, Failure};
use crate::http::Token;
use crate::servers::token_of;

/// Reads the tokens that the configuration names.
pub(super) async fn tokens(
    config: &RunConfig,
    configs: &mut AwsConfigs,
) -> Result<Tokens, Failure> {
    let ports = &config.process.ports;
    Ok(Tokens {
        traffic: token(
            ("--http-token-file", ports.http_token_file.as_deref()),
            ("--http-token-secret", config.http_token_secret.as_deref()),
            configs,
        )
        .await?,
        admin: token(
            ("--admin-token-file", ports.admin_token_file.as_deref()),
            ("--admin-token-secret", config.admin_token_secret.as_deref()),
            configs,
        )
        .await?,
    })
}

async fn token(
    (file_flag, file): (&str, Option<&Path>),
    (secret_flag, secret): (&str, Option<&str>),
    configs: &mut AwsConfigs,
) -> Result<Option<Token>, Failure> {
    if let Some(file) = file {
        return token_of(file_flag, file).map(Some);
    }
    let Some(name) = secret else {
        return Ok(None);
    };
    let flag = format!("{secret_flag} {name}");
    let sdk = configs.get(&AwsAccess::default(), &flag).await?;
    let wrong =
        |what: &dyn std::fmt::Display| Failure::new(Exit::Environment, format!("{flag}: {what}"));
    let secret = Box::pin(secrets::fetch(&sdk, name))
        .await
        .map_err(|why| wrong(&why))?;
    let token = Token::new(secret.reveal().trim());
    token.map(Some).ok_or_else(|| wrong(&"the secret is empty"))
}
