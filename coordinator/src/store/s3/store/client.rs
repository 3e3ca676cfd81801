//! SDK client with the settings that the log needs: one attempt per request, and checksums.

use std::sync::Arc;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Builder, ProvideCredentials, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_types::service_config::ServiceConfigKey;
use satchel_aws::server_date::ServerDate;
use satchel_log::StoreError;

use super::{S3Options, S3Store};
use crate::store::s3::Addressing;

impl S3Store {
    /// Opens a bucket with the AWS configuration of this process: environment, profile files, the
    /// role of the container or machine. Loads the credentials, so that missing ones are reported
    /// at once. Makes no request to S3.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fatal`] if there is no region, or no credentials.
    pub async fn connect(bucket: &str, options: S3Options) -> Result<Self, StoreError> {
        let sdk = aws_config::load_defaults(BehaviorVersion::latest()).await;
        let fatal = |reason: String| StoreError::Fatal {
            key: format!("s3://{bucket}"),
            reason,
        };
        let has_endpoint = endpoint(&sdk, &options).is_some();
        if sdk.region().is_none() && !has_endpoint {
            let reason = "no AWS region is configured: set AWS_REGION, or `region` in the profile";
            return Err(fatal(reason.to_owned()));
        }
        let no_credentials = |why: &str| {
            fatal(format!(
                "no AWS credentials: {why}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
                 name a profile in AWS_PROFILE, or give the container or machine a role"
            ))
        };
        let Some(provider) = sdk.credentials_provider() else {
            return Err(no_credentials("no provider of credentials is configured"));
        };
        if let Err(error) = provider.provide_credentials().await {
            return Err(no_credentials(&super::failure::chain(&error)));
        }
        Ok(Self::with_config(&sdk, bucket, options))
    }

    /// Opens a bucket with a given AWS configuration. Its retries, timeouts and checksums are
    /// replaced by those that the log needs. The default region is `us-east-1`, which other stores
    /// accept.
    #[must_use]
    pub fn with_config(sdk: &SdkConfig, bucket: &str, options: S3Options) -> Self {
        let endpoint = endpoint(sdk, &options);
        let path_style = match options.addressing {
            Addressing::Automatic => endpoint.is_some(),
            Addressing::Path => true,
            Addressing::VirtualHost => false,
        };
        let date = ServerDate::default();
        let mut config = Builder::from(sdk)
            .interceptor(date.clone())
            .force_path_style(path_style)
            // A retry after a first attempt that succeeded would find an object of another writer.
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(options.connect_timeout)
                    .build(),
            )
            // Every request has its own time limit.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .request_checksum_calculation(RequestChecksumCalculation::WhenSupported)
            // Enabled per request, where the checksum covers what is read: not for parts of an
            // object.
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some(endpoint) = endpoint {
            config = config.endpoint_url(endpoint);
        }
        if sdk.region().is_none() {
            config = config.region(Region::from_static("us-east-1"));
        }
        Self {
            client: Client::from_conf(config.build()),
            bucket: Arc::from(bucket),
            options: Arc::new(options),
            date,
        }
    }
}

/// Returns the configured endpoint of S3. The order is that of the AWS SDKs: the program's setting,
/// that for S3, that for all services.
fn endpoint(sdk: &SdkConfig, options: &S3Options) -> Option<String> {
    let for_s3 = || {
        let key = ServiceConfigKey::builder()
            .service_id("S3")
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url")
            .build()
            .ok()?;
        sdk.service_config()?.load_config(key)
    };
    options
        .endpoint_url
        .clone()
        .or_else(for_s3)
        .or_else(|| sdk.endpoint_url().map(str::to_owned))
}
