//! Endpoints that need AWS, in a binary without support for it.

use crate::error::Failure;
use crate::invoker::http::HttpInvoker;
use crate::module::{HttpAuth, Source};

/// No configuration.
#[derive(Debug, Default)]
pub(crate) struct AwsConfigs {}

/// Fails: requests are signed with credentials of AWS.
#[allow(
    clippy::unused_async,
    reason = "the signature is that of the feature `aws`"
)]
pub(super) async fn signed(
    _invoker: HttpInvoker,
    _auth: &HttpAuth,
    source: &Source,
    _configs: &mut AwsConfigs,
) -> Result<HttpInvoker, Failure> {
    Err(Failure::needs_aws(format!(
        "{source}: the signing of requests"
    )))
}
