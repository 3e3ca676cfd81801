//! Signing of HTTP requests (AWS Signature Version 4), for Function URLs and other endpoints with
//! `AWS_IAM` authentication.

use std::fmt;
use std::time::SystemTime;

use aws_config::SdkConfig;
use aws_sdk_lambda::config::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{
    PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4::SigningParams;

use crate::config::ConfigError;
use crate::error_text::chain;

/// Signs requests to one service in one region. Renews its credentials itself. Cheap to clone.
#[derive(Clone)]
pub struct Signer {
    credentials: SharedCredentialsProvider,
    region: String,
    service: String,
}

/// Reason why a request was not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// No credentials are available.
    #[error("no AWS credentials: {0}")]
    NoCredentials(String),
    /// The request cannot be signed.
    #[error("the request cannot be signed: {0}")]
    Unsignable(String),
}

impl Signer {
    /// Signs for `service` (`lambda` for a Function URL) with the region and credentials of `sdk`.
    ///
    /// # Errors
    /// [`ConfigError`] if `sdk` has no region or no credentials provider.
    pub fn new(sdk: &SdkConfig, service: impl Into<String>) -> Result<Self, ConfigError> {
        let credentials = sdk.credentials_provider().ok_or_else(|| {
            ConfigError::NoCredentials("no credentials provider is configured".to_owned())
        })?;
        Ok(Self {
            credentials,
            region: sdk.region().ok_or(ConfigError::NoRegion)?.to_string(),
            service: service.into(),
        })
    }

    /// Returns the headers to add to a request for `url` with these headers and this body. The
    /// header `host` is signed as the URL has it.
    ///
    /// # Errors
    /// [`SignError`].
    pub async fn sign(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Vec<(String, String)>, SignError> {
        self.sign_at(SystemTime::now(), method, url, headers, body)
            .await
    }

    async fn sign_at(
        &self,
        time: SystemTime,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Vec<(String, String)>, SignError> {
        let credentials = self.credentials.provide_credentials().await;
        let identity = credentials
            .map_err(|error| SignError::NoCredentials(chain(&error)))?
            .into();
        let unsignable = |error: &dyn fmt::Display| SignError::Unsignable(error.to_string());
        let mut settings = SigningSettings::default();
        // All services except S3 require these settings.
        settings.percent_encoding_mode = PercentEncodingMode::Double;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Enabled;
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(&self.service)
            .time(time)
            .settings(settings)
            .build()
            .map_err(|error| unsignable(&error))?
            .into();
        let request = SignableRequest::new(
            method,
            url,
            headers.iter().copied(),
            SignableBody::Bytes(body),
        )
        .map_err(|error| unsignable(&error))?;
        let (instructions, _) = sign(request, &params)
            .map_err(|error| unsignable(&error))?
            .into_parts();
        let added = instructions.headers();
        Ok(added
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect())
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("region", &self.region)
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::time::Duration;

    use super::*;
    use crate::config::{AwsAccess, AwsCredentials, AwsRegion};
    use crate::secret::Secret;

    /// The published example of AWS ("Signature Version 4 test suite": post-vanilla).
    #[tokio::test]
    async fn the_signature_is_that_of_the_published_example() {
        let access = AwsAccess {
            region: AwsRegion::Specific("us-east-1".to_owned()),
            credentials: AwsCredentials::Basic {
                access_key_id: "AKIDEXAMPLE".to_owned(),
                secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            },
        };
        let signer = Signer::new(&access.load().await.unwrap(), "service").unwrap();
        // 2015-08-30T12:36:00Z
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        let added = signer
            .sign_at(time, "POST", "https://example.amazonaws.com/", &[], b"")
            .await
            .unwrap();
        let header = |name: &str| {
            let found = added.iter().find(|(added, _)| added == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(header("x-amz-date"), Some("20150830T123600Z"));
        assert_eq!(
            header("authorization"),
            Some(
                "AWS4-HMAC-SHA256 \
                Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                 SignedHeaders=host;x-amz-date, \
                 Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
            )
        );
        assert!(!format!("{signer:?}").contains("EXAMPLEKEY"));
    }
}
