//! Configuration of the SDK for a region and credentials.

use std::path::PathBuf;
use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_kinesis::config::{Credentials, ProvideCredentials, SharedCredentialsProvider};

use super::{AwsAccess, AwsCredentials, AwsRegion, ConfigError};
use crate::error_text::chain;

/// Maximum time to establish a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Name of a session without `sessionName`.
const SESSION_NAME: &str = "satchel";

impl AwsAccess {
    /// Builds the configuration of the SDK's clients. It allows one attempt per request, because
    /// the callers decide how to handle failures. Stall protection is off, because a stream of
    /// events may be silent. Sends no request, except for single sign-on or a profile that needs
    /// one.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoRegion`] if no region is configured.
    pub async fn load(&self) -> Result<SdkConfig, ConfigError> {
        let region = match &self.region {
            AwsRegion::Default => None,
            AwsRegion::Specific(region) | AwsRegion::CustomEndpoint { region, .. } => {
                Some(Region::new(region.clone()))
            }
        };
        let mut loader = loader();
        if let Some(region) = &region {
            loader = loader.region(region.clone());
        }
        if let AwsRegion::CustomEndpoint { endpoint, .. } = &self.region {
            loader = loader.endpoint_url(endpoint);
        }
        if let Some(provider) = self.provider(region).await {
            loader = loader.credentials_provider(provider);
        }
        let config = loader.load().await;
        if config.region().is_none() {
            return Err(ConfigError::NoRegion);
        }
        Ok(config)
    }

    /// Credentials provider, or none for the default one.
    async fn provider(&self, region: Option<Region>) -> Option<SharedCredentialsProvider> {
        let provider = match &self.credentials {
            AwsCredentials::Default => return None,
            AwsCredentials::Basic {
                access_key_id,
                secret_access_key,
            } => SharedCredentialsProvider::new(Credentials::new(
                access_key_id,
                secret_access_key.reveal(),
                None,
                None,
                "module file",
            )),
            AwsCredentials::Profile { name, path } => {
                SharedCredentialsProvider::new(profile(name, path.clone(), region))
            }
            AwsCredentials::AssumeRole {
                role_arn,
                session_name,
                external_id,
            } => {
                // The endpoint of the service is not that of STS.
                let mut base = loader();
                if let Some(region) = region {
                    base = base.region(region);
                }
                let base = base.load().await;
                let mut role = AssumeRoleProvider::builder(role_arn)
                    .session_name(session_name.as_deref().unwrap_or(SESSION_NAME))
                    .configure(&base);
                if let Some(external_id) = external_id {
                    role = role.external_id(external_id);
                }
                SharedCredentialsProvider::new(role.build().await)
            }
        };
        Some(provider)
    }
}

/// Fetches the credentials of `config` once, so that missing credentials are reported at startup.
///
/// # Errors
///
/// [`ConfigError::NoCredentials`] with the reason.
pub async fn check_credentials(config: &SdkConfig) -> Result<(), ConfigError> {
    let Some(provider) = config.credentials_provider() else {
        let why = "no credentials provider is configured".to_owned();
        return Err(ConfigError::NoCredentials(why));
    };
    match provider.provide_credentials().await {
        Ok(_) => Ok(()),
        Err(error) => Err(ConfigError::NoCredentials(chain(&error))),
    }
}

fn loader() -> ConfigLoader {
    aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .build(),
        )
}

/// Credentials of a profile. Its file replaces both default files of AWS, as in StateFun.
fn profile(
    name: &str,
    path: Option<PathBuf>,
    region: Option<Region>,
) -> ProfileFileCredentialsProvider {
    let mut builder = ProfileFileCredentialsProvider::builder()
        .configure(&ProviderConfig::default().with_region(region))
        .profile_name(name);
    if let Some(path) = path {
        let files = EnvConfigFiles::builder()
            .with_file(EnvConfigFileKind::Credentials, path)
            .build();
        builder = builder.profile_files(files);
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    async fn key_of(access: &AwsAccess) -> (String, String) {
        let config = access.load().await.unwrap();
        let provider = config.credentials_provider().unwrap();
        let credentials = provider.provide_credentials().await.unwrap();
        (
            credentials.access_key_id().to_owned(),
            credentials.secret_access_key().to_owned(),
        )
    }

    #[tokio::test]
    async fn a_key_of_the_module_file_and_an_endpoint_are_used_unchanged() {
        let access = AwsAccess {
            region: AwsRegion::CustomEndpoint {
                endpoint: "http://127.0.0.1:4567".to_owned(),
                region: "eu-central-1".to_owned(),
            },
            credentials: AwsCredentials::Basic {
                access_key_id: "AKIDEXAMPLE".to_owned(),
                secret_access_key: Secret::new("hunter2"),
            },
        };
        let config = access.load().await.unwrap();
        assert_eq!(config.region().unwrap().as_ref(), "eu-central-1");
        assert_eq!(config.endpoint_url(), Some("http://127.0.0.1:4567"));
        let expected = ("AKIDEXAMPLE".to_owned(), "hunter2".to_owned());
        assert_eq!(key_of(&access).await, expected);
        assert!(!format!("{access:?}").contains("hunter2"));
        check_credentials(&config).await.unwrap();
    }

    #[tokio::test]
    async fn a_profile_is_read_from_the_file_that_the_module_names() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let text = "[default]\naws_access_key_id = A\naws_secret_access_key = a\n\n\
            [other]\naws_access_key_id = B\naws_secret_access_key = b\n";
        std::fs::write(&path, text).unwrap();
        let access = |name: &str| AwsAccess {
            region: AwsRegion::Specific("eu-west-1".to_owned()),
            credentials: AwsCredentials::Profile {
                name: name.to_owned(),
                path: Some(path.clone()),
            },
        };
        let expected = ("B".to_owned(), "b".to_owned());
        assert_eq!(key_of(&access("other")).await, expected);
        let config = access("missing").load().await.unwrap();
        let error = check_credentials(&config).await.unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
    }
}
