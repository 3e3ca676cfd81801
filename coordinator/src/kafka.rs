//! Brokers of a module file: the settings of clients, and the tokens with which they sign in.

use std::sync::Arc;

use satchel_aws::config::{AwsAccess, AwsCredentials, AwsRegion};
use satchel_aws::msk::MskTokens;
use satchel_kafka::properties::{Iam, Settings};
use satchel_kafka::{Connection, Token, TokenSource};

use crate::error::Failure;
use crate::module::{KafkaProperties, Source};

/// Brokers, and the way to connect to them.
#[derive(Clone)]
pub(crate) struct Brokers {
    connection: Connection,
    /// Identity in AWS by which clients sign in, if they sign in with IAM.
    iam: Option<AwsAccess>,
}

impl Brokers {
    /// Translates and checks the properties of a client. Connects to nothing. Properties without
    /// effect are logged.
    ///
    /// # Errors
    ///
    /// A property that cannot be used, with the place in the module file.
    pub(crate) fn of(
        address: &str,
        properties: &KafkaProperties,
        source: &Source,
    ) -> Result<Self, Failure> {
        let wrong = |problem: String| Failure::usage(format!("{source}: {problem}"));
        let settings = Settings::of(properties.iter());
        let settings = settings.map_err(|error| wrong(error.to_string()))?;
        for warning in &settings.warnings {
            tracing::warn!(place = %source, "{warning}");
        }
        let iam = settings.iam.as_ref().map(|iam| access(iam, address));
        let connection = Connection::new(address, settings);
        connection.check().map_err(wrong)?;
        Ok(Self { connection, iam })
    }

    /// Makes everything ready for a client. Fetches credentials if clients sign in with IAM.
    ///
    /// # Errors
    ///
    /// The reason why there are none.
    pub(crate) async fn connect(&self) -> Result<Connection, String> {
        let mut connection = self.connection.clone();
        if let Some(access) = &self.iam {
            let unusable = |error: satchel_aws::config::ConfigError| {
                format!("signing in with {}: {error}", access.credentials)
            };
            // Boxed, because the future that finds credentials is large.
            let config = Box::pin(access.load()).await.map_err(unusable)?;
            let tokens = MskTokens::start(&config).await.map_err(unusable)?;
            connection.tokens = Some(Arc::new(Tokens(tokens)));
        }
        Ok(connection)
    }
}

/// Tokens of Amazon MSK for clients of Kafka.
struct Tokens(MskTokens);

impl TokenSource for Tokens {
    fn token(&self) -> Result<Token, String> {
        let token = self.0.token()?;
        Ok(Token {
            value: token.value,
            principal: token.identity,
            expires_at_ms: token.expires_at_ms,
        })
    }
}

/// Region and credentials for tokens. The region is that of the brokers, if their names have one.
fn access(iam: &Iam, address: &str) -> AwsAccess {
    let credentials = match (&iam.role_arn, &iam.profile) {
        (Some(role_arn), _) => AwsCredentials::AssumeRole {
            role_arn: role_arn.clone(),
            session_name: iam.session_name.clone(),
            external_id: iam.external_id.clone(),
        },
        (None, Some(name)) => AwsCredentials::Profile {
            name: name.clone(),
            path: None,
        },
        (None, None) => AwsCredentials::Default,
    };
    AwsAccess {
        region: region_of(address).map_or(AwsRegion::Default, AwsRegion::Specific),
        credentials,
    }
}

/// Region in the name of a broker of Amazon MSK, such as
/// `b-1.orders.a1b2c3.c2.kafka.eu-central-1.amazonaws.com:9098`.
fn region_of(address: &str) -> Option<String> {
    let host = address.split(',').next()?.rsplit_once(':')?.0;
    let labels: Vec<&str> = host.split('.').collect();
    let service = labels
        .iter()
        .position(|label| matches!(*label, "kafka" | "kafka-serverless"))?;
    let region = labels.get(service + 1)?;
    (labels.get(service + 2) == Some(&"amazonaws")).then(|| (*region).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_of_tokens_is_that_in_the_names_of_the_brokers() {
        let one = "b-1.orders.a1b2c3.c2.kafka.eu-central-1.amazonaws.com:9098";
        let several = format!("{one},b-2.orders.a1b2c3.c2.kafka.eu-central-1.amazonaws.com:9098");
        let serverless = "boot-x.c1.kafka-serverless.us-east-1.amazonaws.com:9098";
        let china = "b-1.x.c2.kafka.cn-north-1.amazonaws.com.cn:9098";
        let regions = [
            one,
            &several,
            serverless,
            china,
            "kafka.example.com:9098",
            "kafka:9092",
        ]
        .map(region_of);
        let expected = ["eu-central-1", "eu-central-1", "us-east-1", "cn-north-1"];
        let expected = expected.map(|region| Some(region.to_owned()));
        assert_eq!(regions[..4], expected);
        assert_eq!(regions[4..], [None, None]);
    }
}
