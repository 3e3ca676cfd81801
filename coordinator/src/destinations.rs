//! Wiring of endpoints: from a module file to invokers.

#[cfg(feature = "aws")]
mod aws;
#[cfg(not(feature = "aws"))]
mod without_aws;

use std::sync::Arc;

use crate::error::{Exit, Failure};
use crate::invoker::Invoker;
use crate::invoker::http::{HttpEndpoint, HttpInvoker};
use crate::module::{EndpointSpec, HttpEndpoint as HttpModule};
use crate::runtime::dispatch::Destination;

#[cfg(feature = "aws")]
use aws::signed;
#[cfg(not(feature = "aws"))]
use without_aws::signed;

#[cfg(feature = "aws")]
pub(crate) use aws::{AwsConfigs, lambda, lambda_function};
#[cfg(not(feature = "aws"))]
pub(crate) use without_aws::AwsConfigs;

/// Makes the invoker of a function server over HTTP, which signs requests if the module says so.
pub(crate) async fn http(
    endpoint: &EndpointSpec,
    http: &HttpModule,
    configs: &mut AwsConfigs,
) -> Result<Destination, Failure> {
    let source = &endpoint.source;
    let invoker = HttpInvoker::new(&adapter(http))
        .map_err(|error| Failure::caused(Exit::Usage, source, error))?;
    let invoker = match &http.auth {
        None => invoker,
        Some(auth) => signed(invoker, auth, source, configs).await?,
    };
    Ok(Destination {
        name: http.place().into(),
        invoker: Arc::new(Invoker::Http(invoker)),
    })
}

fn adapter(http: &HttpModule) -> HttpEndpoint {
    HttpEndpoint {
        call: http.call,
        connect: http.connect,
        read: http.read,
        pool_idle: http.pool_idle,
        pool_size: http.pool_size,
        payload_max_bytes: usize::try_from(http.payload_max_bytes).unwrap_or(usize::MAX),
        trust_cacerts: http.tls.trust_cacerts.clone(),
        client_cert: http.tls.client.clone(),
        ..HttpEndpoint::new(&http.url_template)
    }
}
