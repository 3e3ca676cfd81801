//! Making the SDK's client the way the log needs it: one try per request, checksums, no opinion of its own.

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
use satchel_log::StoreError;

use super::{Addressing, S3Options, S3Store};

impl S3Store {
    /// Opens a bucket with the AWS configuration of this process: environment, profile files, the role of the container or machine.
    /// Looks for credentials, so that a process without any says so at once; makes no request to S3.
    ///
    /// # Errors
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
                "no AWS credentials: {why}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile in AWS_PROFILE, or give the container or machine a role"
            ))
        };
        let Some(provider) = sdk.credentials_provider() else {
            return Err(no_credentials("no way to get them is configured"));
        };
        if let Err(error) = provider.provide_credentials().await {
            return Err(no_credentials(&super::failure::chain(&error)));
        }
        Ok(Self::with_config(&sdk, bucket, options))
    }

    /// Opens a bucket with an AWS configuration that was made elsewhere. Its retries, timeouts and checksums are replaced by what the log
    /// needs. Without a region, `us-east-1` is meant, which stand-ins take.
    #[must_use]
    pub fn with_config(sdk: &SdkConfig, bucket: &str, options: S3Options) -> Self {
        let endpoint = endpoint(sdk, &options);
        let path_style = match options.addressing {
            Addressing::Automatic => endpoint.is_some(),
            Addressing::Path => true,
            Addressing::VirtualHost => false,
        };
        let mut config = Builder::from(sdk)
            .force_path_style(path_style)
            // An own repetition whose first try landed would show as somebody else's object.
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(options.connect_timeout)
                    .build(),
            )
            // Every request has a limit of its own.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .request_checksum_calculation(RequestChecksumCalculation::WhenSupported)
            // Asked for where the checksum is of what is read: not for parts of an object.
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
        }
    }
}

/// Where S3 is reached, if anything says so. The order is that of the AWS SDKs: what the program says, what is said for S3, what is said for
/// all services.
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
