//! Region and credentials for AWS: `awsRegion` and `awsCredentials` of StateFun's kinds, and a role
//! to assume.

#[cfg(feature = "sdk")]
mod load;

use std::fmt;
use std::path::PathBuf;

use crate::secret::Secret;

#[cfg(feature = "sdk")]
pub use load::check_credentials;

/// Region and credentials of a module.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct AwsAccess {
    /// Region of the service.
    pub region: AwsRegion,
    /// Credentials of the requests.
    pub credentials: AwsCredentials,
}

/// AWS region of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum AwsRegion {
    /// The region that the environment configures.
    #[default]
    Default,
    /// A fixed region.
    Specific(String),
    /// A service at another endpoint.
    CustomEndpoint {
        /// URL of the endpoint.
        endpoint: String,
        /// Region for signing.
        region: String,
    },
}

/// Credentials for AWS.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum AwsCredentials {
    /// Credentials of the environment: variables, a profile, single sign-on, or the role of the
    /// container or machine.
    #[default]
    Default,
    /// An access key in the module file.
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
        /// `profilePath`: the file, if it is not a default one.
        path: Option<PathBuf>,
    },
    /// A role that is assumed with the credentials of the environment.
    AssumeRole {
        /// `roleArn`.
        role_arn: String,
        /// `sessionName`: name of the session in the role's logs.
        session_name: Option<String>,
        /// `externalId`: external id that the role's trust policy may require.
        external_id: Option<String>,
    },
}

impl fmt::Display for AwsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default credentials"),
            Self::Basic { .. } => f.write_str("the access key of the module file"),
            Self::Profile { name, .. } => write!(f, "the profile {name}"),
            Self::AssumeRole { role_arn, .. } => write!(f, "the role {role_arn}"),
        }
    }
}

/// Reason why AWS cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No region is configured.
    #[error(
        "no AWS region is configured; set AWS_REGION, `region` in the profile, \
        or `awsRegion` in the module file"
    )]
    NoRegion,
    /// No credentials are available.
    #[error("no AWS credentials: {0}")]
    NoCredentials(String),
}
