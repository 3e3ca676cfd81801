//! Configuration and clients of AWS for endpoints.

use std::collections::HashMap;
use std::sync::Arc;

use satchel_aws::config::{AwsAccess, check_credentials};
use satchel_aws::lambda::LambdaFunction;
use satchel_aws::sigv4::Signer;

use crate::error::{Exit, Failure};
use crate::invoker::Invoker;
use crate::invoker::aws_lambda::AwsLambdaInvoker;
use crate::invoker::http::HttpInvoker;
use crate::module::{HttpAuth, LambdaEndpoint, Source};
use crate::runtime::dispatch::Destination;

/// AWS configurations of the modules of an application, each loaded once.
#[derive(Debug, Default)]
pub(crate) struct AwsConfigs(HashMap<AwsAccess, aws_config::SdkConfig>);

impl AwsConfigs {
    /// Returns the configuration for `access`, after a check that there are credentials. `source`
    /// is the place to name in an error.
    pub(crate) async fn get(
        &mut self,
        access: &AwsAccess,
        source: &dyn std::fmt::Display,
    ) -> Result<aws_config::SdkConfig, Failure> {
        if let Some(known) = self.0.get(access) {
            return Ok(known.clone());
        }
        let unusable = |error: satchel_aws::config::ConfigError| {
            Failure::caused(Exit::Environment, source, error)
        };
        let config = Box::pin(access.load()).await.map_err(unusable)?;
        Box::pin(check_credentials(&config))
            .await
            .map_err(unusable)?;
        self.0.insert(access.clone(), config.clone());
        Ok(config)
    }
}

/// Returns `invoker` with signed requests.
pub(super) async fn signed(
    invoker: HttpInvoker,
    auth: &HttpAuth,
    source: &Source,
    configs: &mut AwsConfigs,
) -> Result<HttpInvoker, Failure> {
    let config = configs.get(&auth.access, source).await?;
    let signer = Signer::new(&config, &auth.service)
        .map_err(|error| Failure::caused(Exit::Environment, source, error))?;
    Ok(invoker.signed_by(signer))
}

/// Makes the invoker of a function on AWS Lambda.
pub(crate) async fn lambda(
    source: &Source,
    lambda: &LambdaEndpoint,
    configs: &mut AwsConfigs,
) -> Result<Destination, Failure> {
    let function = lambda_function(source, lambda, configs).await?;
    Ok(Destination {
        name: lambda.function_name.as_str().into(),
        invoker: Arc::new(Invoker::AwsLambda(AwsLambdaInvoker::new(function))),
    })
}

/// Makes the client of the function that a Lambda endpoint names.
async fn lambda_function(
    source: &Source,
    lambda: &LambdaEndpoint,
    configs: &mut AwsConfigs,
) -> Result<LambdaFunction, Failure> {
    let config = configs.get(&lambda.access, source).await?;
    Ok(LambdaFunction::new(
        &config,
        &lambda.function_name,
        lambda.qualifier.clone(),
        lambda.timeout,
    ))
}
