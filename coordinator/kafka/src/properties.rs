//! Properties of a module file, which are those of Java's client, as settings of librdkafka.
//!
//! Most names are the same. Others are translated, or accepted with a warning because they have no
//! effect here. What would silently mean something else is refused by name.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::jaas::Login;

mod tables;

use tables::{FIXED, NO_EFFECT, RENAMED};

/// Settings of a client. `Debug` hides the values, which may be secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Settings of librdkafka, by name.
    pub client: BTreeMap<String, String>,
    /// Properties that were accepted and have no effect, each with the reason.
    pub warnings: Vec<String>,
    /// Identity for Amazon MSK, if clients sign in with IAM.
    pub iam: Option<Iam>,
    /// Interval at which a topic's partitions are listed.
    pub discovery_interval: Option<Duration>,
}

/// Credentials by which a client signs in to Amazon MSK with IAM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Iam {
    /// Profile of the AWS configuration files.
    pub profile: Option<String>,
    /// Role to assume.
    pub role_arn: Option<String>,
    /// Name of the session in the role's logs.
    pub session_name: Option<String>,
    /// External id that the role's trust policy may require.
    pub external_id: Option<String>,
}

/// A property that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the property `{name}`: {problem}")]
pub struct PropertyError {
    /// Name of the property.
    pub name: String,
    /// Description of the problem. It quotes no value that may be secret.
    pub problem: String,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("client", &self.client.keys())
            .field("iam", &self.iam)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Translates the properties of a client; of properties with the same name the last one counts.
    ///
    /// # Errors
    ///
    /// The first property that cannot be used.
    pub fn of<'a>(
        properties: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, PropertyError> {
        let properties: BTreeMap<&str, &str> = properties
            .into_iter()
            .map(|(name, value)| (name.trim(), value.trim()))
            .collect();
        let mut settings = Self::default();
        for (name, value) in &properties {
            settings
                .add(name, value, &properties)
                .map_err(|problem| PropertyError {
                    name: (*name).to_owned(),
                    problem,
                })?;
        }
        settings.check_login(&properties)?;
        Ok(settings)
    }

    fn add(&mut self, name: &str, value: &str, all: &BTreeMap<&str, &str>) -> Result<(), String> {
        let of = |name: &str| all.get(name).copied().unwrap_or_default();
        if let Some((_, why)) = FIXED.iter().find(|(fixed, _)| *fixed == name) {
            if !why.is_empty() {
                self.warnings.push(format!("`{name}` has no effect: {why}"));
            }
            return Ok(());
        }
        if NO_EFFECT.contains(&name) {
            let why = "librdkafka, the client here, has no such setting";
            self.warnings.push(format!("`{name}` has no effect: {why}"));
            return Ok(());
        }
        if let Some((_, renamed)) = RENAMED.iter().find(|(java, _)| *java == name) {
            self.set(renamed, value);
            return Ok(());
        }
        match name {
            "flink.partition-discovery.interval-millis" | "partition.discovery.interval.ms" => {
                let millis: u64 = value.parse().map_err(|_| "not a number".to_owned())?;
                self.discovery_interval = Some(Duration::from_millis(millis.max(100)));
            }
            "buffer.memory" => {
                let bytes: u64 = value.parse().map_err(|_| "not a number".to_owned())?;
                self.set(
                    "queue.buffering.max.kbytes",
                    &(bytes / 1024).max(1).to_string(),
                );
            }
            "sasl.mechanism" | "sasl.mechanisms" => self.mechanism(value, all)?,
            "sasl.jaas.config" => self.login(value)?,
            "sasl.client.callback.handler.class" | "sasl.login.callback.handler.class" => {
                if !value.starts_with("software.amazon.msk.auth.iam.") {
                    return Err(
                        "a Java class cannot run here; the only one that is understood is \
                                Amazon MSK's, in package software.amazon.msk.auth.iam"
                            .to_owned(),
                    );
                }
            }
            "ssl.endpoint.identification.algorithm" => {
                let none = value.is_empty();
                self.set(name, if none { "none" } else { value });
            }
            "ssl.truststore.location" => match of("ssl.truststore.type") {
                "PEM" => self.set("ssl.ca.location", value),
                _ => return Err(KEY_STORE.replace("SETTING", "ssl.truststore.type: PEM")),
            },
            "ssl.keystore.location" => {
                let is_pkcs12 = value.ends_with(".p12") || value.ends_with(".pfx");
                match of("ssl.keystore.type") {
                    "PEM" => {
                        self.set("ssl.certificate.location", value);
                        self.set("ssl.key.location", value);
                    }
                    "PKCS12" => self.set(name, value),
                    "" if is_pkcs12 => self.set(name, value),
                    _ => return Err(KEY_STORE.replace("SETTING", "ssl.keystore.type: PKCS12")),
                }
            }
            "ssl.truststore.type" | "ssl.keystore.type" | "ssl.truststore.password" => {}
            _ => self.set(name, value),
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) {
        self.client.insert(name.to_owned(), value.to_owned());
    }

    fn mechanism(&mut self, value: &str, all: &BTreeMap<&str, &str>) -> Result<(), String> {
        let is_iam = |name: &&str| {
            let handler = all.get(*name).copied().unwrap_or_default();
            handler.starts_with("software.amazon.msk.auth.iam.")
        };
        let handlers = [
            "sasl.client.callback.handler.class",
            "sasl.login.callback.handler.class",
        ];
        match value {
            "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512" => self.set("sasl.mechanisms", value),
            "AWS_MSK_IAM" => self.sign_in_with_iam(),
            "OAUTHBEARER" if handlers.iter().any(is_iam) => self.sign_in_with_iam(),
            _ => {
                return Err(format!(
                    "`{value}` is not supported; use PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or \
                     AWS_MSK_IAM"
                ));
            }
        }
        Ok(())
    }

    fn sign_in_with_iam(&mut self) {
        self.set("sasl.mechanisms", "OAUTHBEARER");
        self.iam.get_or_insert_default();
    }

    fn login(&mut self, value: &str) -> Result<(), String> {
        let login = Login::parse(value)?;
        let option = |name: &str| login.options.get(name).cloned();
        match login.module.as_str() {
            "PlainLoginModule" | "ScramLoginModule" => {
                for (option_name, setting) in
                    [("username", "sasl.username"), ("password", "sasl.password")]
                {
                    let value = option(option_name)
                        .ok_or_else(|| format!("it has no option `{option_name}`"))?;
                    self.set(setting, &value);
                }
                Ok(())
            }
            "IAMLoginModule" => {
                self.iam = Some(Iam {
                    profile: option("awsProfileName"),
                    role_arn: option("awsRoleArn"),
                    session_name: option("awsRoleSessionName"),
                    external_id: option("awsRoleExternalId"),
                });
                Ok(())
            }
            // With Amazon MSK's handler, which takes the same options.
            "OAuthBearerLoginModule" => {
                self.iam = Some(Iam {
                    profile: option("awsProfileName"),
                    role_arn: option("awsRoleArn"),
                    session_name: option("awsRoleSessionName"),
                    external_id: option("awsRoleExternalId"),
                });
                Ok(())
            }
            module => Err(format!(
                "the login module {module} is not supported; use PlainLoginModule, \
                 ScramLoginModule or IAMLoginModule"
            )),
        }
    }

    /// Checks that a client which is to sign in can do so.
    fn check_login(&self, all: &BTreeMap<&str, &str>) -> Result<(), PropertyError> {
        let protocol = all.get("security.protocol").copied().unwrap_or_default();
        let wrong = |name: &str, problem: String| {
            let name = name.to_owned();
            Err(PropertyError { name, problem })
        };
        let mechanism = self.client.get("sasl.mechanisms");
        let signs_in = protocol.to_ascii_uppercase().starts_with("SASL_");
        match mechanism {
            None if signs_in => wrong(
                "sasl.mechanism",
                format!(
                    "required with `security.protocol: {protocol}`; without it clients use \
                     Kerberos, which is not supported"
                ),
            ),
            Some(mechanism) if !signs_in => wrong(
                "security.protocol",
                format!("`{mechanism}` needs SASL_SSL (or SASL_PLAINTEXT)"),
            ),
            Some(mechanism) if mechanism != "OAUTHBEARER" => {
                let missing = ["sasl.username", "sasl.password"]
                    .into_iter()
                    .find(|name| !self.client.contains_key(*name));
                match missing {
                    None => Ok(()),
                    Some(name) => wrong(
                        name,
                        format!("required by {mechanism}; `sasl.jaas.config` may hold it"),
                    ),
                }
            }
            _ => Ok(()),
        }
    }
}

const KEY_STORE: &str = "a key store of Java (JKS) cannot be read; convert it (`keytool \
     -importkeystore … -deststoretype PKCS12`, then `openssl pkcs12 … -out file.pem`) and set \
     `SETTING`, or librdkafka's `ssl.ca.location`, `ssl.certificate.location` and \
     `ssl.key.location` with PEM files";

#[cfg(test)]
mod tests;
