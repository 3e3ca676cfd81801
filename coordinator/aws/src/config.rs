//! Which AWS is asked, and as whom: what StateFun's kinds write as `awsRegion` and `awsCredentials`, and a role to assume.

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
use aws_sdk_kinesis::error::DisplayErrorContext;

use crate::secret::Secret;

/// Which AWS a module asks, and as whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct AwsAccess {
    /// Where the service is.
    pub region: AwsRegion,
    /// Who asks.
    pub credentials: AwsCredentials,
}

/// Which AWS region to ask.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum AwsRegion {
    /// What the environment says.
    #[default]
    Default,
    /// This one.
    Specific(String),
    /// A service at another place.
    CustomEndpoint {
        /// Its URL.
        endpoint: String,
        /// The region it says it is.
        region: String,
    },
}

/// Who asks AWS.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum AwsCredentials {
    /// What the environment says: its variables, a profile, single sign-on, the role of the container or machine.
    #[default]
    Default,
    /// A key from the module file.
    Basic {
        /// `accessKeyId`.
        access_key_id: String,
        /// `secretAccessKey`.
        secret_access_key: Secret,
    },
    /// A profile of the AWS configuration files.
    Profile {
        /// `profileName`.
        name: String,
        /// `profilePath`: the file, if not the usual one.
        path: Option<PathBuf>,
    },
    /// A role that is assumed by whom the environment says.
    AssumeRole {
        /// `roleArn`.
        role_arn: String,
        /// `sessionName`: how the session is called in the role's logs.
        session_name: Option<String>,
        /// `externalId`: what the role's trust asks for, if it does.
        external_id: Option<String>,
    },
}

/// Why AWS can not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nothing says which region is meant.
    #[error(
        "no AWS region is configured: set AWS_REGION, `region` in the profile, or `awsRegion` in the module file"
    )]
    NoRegion,
    /// There are no credentials.
    #[error("no AWS credentials: {0}")]
    NoCredentials(String),
}

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The name of a session whose module file gives it none.
const SESSION_NAME: &str = "satchel";

impl AwsAccess {
    /// The configuration for the SDK's clients. It makes one try per request: those who ask know best what to do when it fails; and a
    /// stream of events may be silent, so that stalls are theirs to judge too. Makes no request, except where single sign-on or a profile does.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoRegion`] when nothing says which region is meant.
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

    /// Where credentials come from, if not from where the environment says.
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
                // The endpoint of the service is not that of the service which lends roles.
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

/// Looks for the credentials of `config`, so that a process without any says so at once.
///
/// # Errors
///
/// [`ConfigError::NoCredentials`] with the reason.
pub async fn check_credentials(config: &SdkConfig) -> Result<(), ConfigError> {
    let Some(provider) = config.credentials_provider() else {
        let why = "no way to get them is configured".to_owned();
        return Err(ConfigError::NoCredentials(why));
    };
    match provider.provide_credentials().await {
        Ok(_) => Ok(()),
        Err(error) => Err(ConfigError::NoCredentials(
            DisplayErrorContext(&error).to_string(),
        )),
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

/// The credentials of a profile; its file stands for both of AWS's usual ones, as in StateFun.
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
    async fn a_key_of_the_module_file_and_an_endpoint_are_taken_as_they_are() {
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
        let text = "[default]\naws_access_key_id = A\naws_secret_access_key = a\n\n[other]\naws_access_key_id = B\naws_secret_access_key = b\n";
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
