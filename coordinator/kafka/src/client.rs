//! Settings, tokens and diagnostics, which consumers and producers of librdkafka share.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};

use crate::log_interval::LogInterval;
use crate::properties::Settings;

/// Setting of producers that librdkafka calls experimental at each start.
pub(crate) const GAPLESS: &str = "enable.gapless.guarantee";

/// Maximum time of a request whose answer is waited for.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Brokers, and the way to connect to them.
#[derive(Clone)]
pub struct Connection {
    /// Brokers to connect to first, `host:port` with commas between them.
    pub address: String,
    /// Properties of the module file.
    pub settings: Settings,
    /// Source of tokens, if clients sign in with them.
    pub tokens: Option<Arc<dyn TokenSource>>,
    /// Rate limit of the log lines of all clients, of which a session of transactions is one.
    log: Arc<Mutex<LogInterval>>,
}

/// Source of tokens for the mechanism OAUTHBEARER.
pub trait TokenSource: Send + Sync {
    /// Returns a valid token without waiting.
    ///
    /// # Errors
    ///
    /// The reason why there is none.
    fn token(&self) -> Result<Token, String>;
}

/// Token by which a client signs in.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The token.
    pub value: String,
    /// Name of the identity, for logs of the brokers.
    pub principal: String,
    /// End of its validity, in ms since the epoch.
    pub expires_at_ms: i64,
}

impl Connection {
    /// Connects to `address`, without tokens.
    pub fn new(address: &str, settings: Settings) -> Self {
        Self {
            address: address.to_owned(),
            settings,
            tokens: None,
            log: Arc::default(),
        }
    }

    /// Checks the names and values of the settings. Sends nothing.
    ///
    /// # Errors
    ///
    /// The setting, and what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        let config = self.config(&[], &[]);
        config.create_native_config().map(drop).map_err(described)
    }

    /// Settings of a client: those of the module file over `defaults`, and `fixed` over both.
    pub(crate) fn config(&self, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Info);
        config.set("client.id", "satchel");
        config.set("log.connection.close", "false");
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        for (name, value) in &self.settings.client {
            config.set(name, value);
        }
        for (name, value) in fixed {
            config.set(*name, *value);
        }
        config.set("bootstrap.servers", &self.address);
        config
    }
}

/// Describes a client that cannot be made, without values that may be secret.
pub(crate) fn described(error: ClientError) -> String {
    match error {
        ClientError::ClientConfig(_, problem, name, value) => {
            let hidden = match value.is_empty() {
                true => problem,
                false => problem.replace(&value, "…"),
            };
            format!("the property `{name}`: {hidden}")
        }
        other => other.to_string(),
    }
}

/// Code of an error, if it has one.
pub(crate) fn code(error: &ClientError) -> Option<RDKafkaErrorCode> {
    match error {
        ClientError::Transaction(error) => Some(error.code()),
        other => other.rdkafka_error_code(),
    }
}

/// Returns whether brokers deny access, for good or until an operator permits it.
pub(crate) fn is_denied(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::UnsupportedSASLMechanism
            | RDKafkaErrorCode::IllegalSASLState
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::SSL
    )
}

/// Returns whether a topic does not exist.
pub(crate) fn is_missing(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownPartition
    )
}

/// Age from which an error explains nothing any more.
const EXPLAINS_FOR: Duration = Duration::from_secs(15);

/// Error that librdkafka reported on its own.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// True if the brokers deny access, or are not trusted.
    pub(crate) is_denial: bool,
    /// Description for people.
    pub(crate) reason: String,
    at: Instant,
}

/// Log and last error of one client.
pub(crate) struct Diagnostics {
    /// Id of the ingress or egress.
    of: Arc<str>,
    tokens: Option<Arc<dyn TokenSource>>,
    last: Mutex<Option<Failure>>,
    log: Arc<Mutex<LogInterval>>,
}

impl Diagnostics {
    pub(crate) fn new(of: Arc<str>, connection: &Connection) -> Self {
        Self {
            of,
            tokens: connection.tokens.clone(),
            last: Mutex::default(),
            log: Arc::clone(&connection.log),
        }
    }

    /// Takes the last error that librdkafka reported on its own. A denial is kept over what it
    /// causes.
    pub(crate) fn take_last(&self) -> Option<Failure> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.take().filter(|last| last.at.elapsed() < EXPLAINS_FOR)
    }

    fn admits(&self) -> bool {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.admits()
    }

    pub(crate) fn logged(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let of = &*self.of;
        let is_known = facility == "CONFWARN" && message.contains(GAPLESS);
        match level {
            _ if is_known => {}
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning
                if self.admits() =>
            {
                tracing::warn!(of, facility, message, "Kafka client");
            }
            _ => tracing::debug!(of, facility, message, "Kafka client"),
        }
    }

    pub(crate) fn failed(&self, error: &ClientError, reason: &str) {
        if self.admits() {
            tracing::warn!(of = &*self.of, %error, reason, "Kafka client; retrying");
        }
        let failure = Failure {
            is_denial: code(error).is_some_and(is_denied),
            reason: reason.to_owned(),
            at: Instant::now(),
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let explains = |last: &Failure| last.is_denial && last.at.elapsed() < EXPLAINS_FOR;
        if failure.is_denial || !last.as_ref().is_some_and(explains) {
            *last = Some(failure);
        }
    }

    pub(crate) fn token(&self) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let Some(tokens) = &self.tokens else {
            return Err("this client signs in without tokens".into());
        };
        let token = tokens.token()?;
        Ok(OAuthToken {
            token: token.value,
            principal_name: token.principal,
            lifetime_ms: token.expires_at_ms,
        })
    }
}

/// Implements the callbacks of all clients by a field `diagnostics`.
macro_rules! diagnosed {
    () => {
        const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

        fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
            self.diagnostics.logged(level, facility, message);
        }

        fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
            self.diagnostics.failed(&error, reason);
        }

        fn generate_oauth_token(
            &self,
            _config: Option<&str>,
        ) -> Result<rdkafka::client::OAuthToken, Box<dyn std::error::Error>> {
            self.diagnostics.token()
        }
    };
}

pub(crate) use diagnosed;

/// Runs a request that blocks.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(properties: &[(&str, &str)]) -> Result<(), String> {
        let settings = Settings::of(properties.iter().copied()).unwrap();
        Connection::new("127.0.0.1:9092", settings).check()
    }

    #[test]
    fn an_unknown_property_or_value_is_refused_by_name_without_the_value() {
        check(&[
            ("fetch.max.bytes", "1000000"),
            ("ssl.ca.location", "/ca.pem"),
        ])
        .unwrap();
        let unknown = check(&[("fetch.max.bites", "hunter2")]).unwrap_err();
        assert_eq!(
            unknown,
            "the property `fetch.max.bites`: No such configuration property: \"fetch.max.bites\""
        );
        let wrong = check(&[("security.protocol", "hunter2")]).unwrap_err();
        assert!(
            wrong.contains("`security.protocol`") && !wrong.contains("hunter2"),
            "{wrong}"
        );
    }
}
