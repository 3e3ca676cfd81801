//! Tokens for Amazon MSK with IAM: presigned requests of the action `kafka-cluster:Connect`.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::SdkConfig;
use aws_sdk_lambda::config::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::ConfigError;
use crate::error_text::chain;

/// Validity of a token. Brokers accept no longer one.
const VALIDITY: Duration = Duration::from_secs(15 * 60);

/// Age at which a token is replaced. Clients ask for a new one when four fifths of the validity are
/// over, and the one that they get must be valid for longer than the pause between two attempts.
const REPLACED_AFTER: Duration = Duration::from_secs(4 * 60);

/// Pause after a failure to make a token.
const RETRY_DELAY: Duration = Duration::from_secs(10);

/// Token with which a client signs in. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct MskToken {
    /// The token.
    pub value: String,
    /// Id of the access key.
    pub identity: String,
    /// End of its validity, in ms since the epoch.
    pub expires_at_ms: i64,
}

impl fmt::Debug for MskToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MskToken")
            .field("expires_at_ms", &self.expires_at_ms)
            .finish_non_exhaustive()
    }
}

/// Current token, which is replaced in time as long as this or a clone exists.
#[derive(Debug, Clone)]
pub struct MskTokens {
    current: Arc<RwLock<Result<MskToken, String>>>,
}

impl MskTokens {
    /// Makes the first token. Later ones are made in the background.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if there is no region or there are no credentials.
    pub async fn start(sdk: &SdkConfig) -> Result<Self, ConfigError> {
        let provider = sdk.credentials_provider().ok_or_else(|| {
            ConfigError::NoCredentials("no credentials provider is configured".to_owned())
        })?;
        let region = sdk.region().ok_or(ConfigError::NoRegion)?.to_string();
        let first = token(&provider, &region, SystemTime::now()).await;
        let first = first.map_err(ConfigError::NoCredentials)?;
        let current = Arc::new(RwLock::new(Ok(first)));
        let replaced = Arc::downgrade(&current);
        tokio::spawn(async move {
            let mut wait = REPLACED_AFTER;
            loop {
                tokio::time::sleep(wait).await;
                let made = token(&provider, &region, SystemTime::now()).await;
                let Some(current) = replaced.upgrade() else {
                    return;
                };
                wait = match &made {
                    Ok(_) => REPLACED_AFTER,
                    Err(error) => {
                        tracing::warn!(%error, "token for Amazon MSK not made; retrying");
                        RETRY_DELAY
                    }
                };
                let mut current = current.write().unwrap_or_else(PoisonError::into_inner);
                let is_valid = matches!(&*current, Ok(token) if !is_expired(token));
                if made.is_ok() || !is_valid {
                    *current = made;
                }
            }
        });
        Ok(Self { current })
    }

    /// Returns the current token.
    ///
    /// # Errors
    ///
    /// The reason why there is none.
    pub fn token(&self) -> Result<MskToken, String> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }
}

fn is_expired(token: &MskToken) -> bool {
    token.expires_at_ms <= millis(SystemTime::now())
}

fn millis(time: SystemTime) -> i64 {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

async fn token(
    provider: &SharedCredentialsProvider,
    region: &str,
    time: SystemTime,
) -> Result<MskToken, String> {
    let credentials = provider.provide_credentials().await;
    let credentials = credentials.map_err(|error| chain(&error))?;
    let identity = credentials.access_key_id().to_owned();
    let signing = credentials.into();
    let unsignable = |error: &dyn fmt::Display| format!("the request cannot be signed: {error}");
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(VALIDITY);
    let params = SigningParams::builder()
        .identity(&signing)
        .region(region)
        .name("kafka-cluster")
        .time(time)
        .settings(settings)
        .build()
        .map_err(|error| unsignable(&error))?
        .into();
    let mut url = format!("https://kafka.{region}.amazonaws.com/?Action=kafka-cluster%3AConnect");
    let body = SignableBody::Bytes(b"");
    let request = SignableRequest::new("GET", &url, std::iter::empty(), body)
        .map_err(|error| unsignable(&error))?;
    let (instructions, _) = sign(request, &params)
        .map_err(|error| unsignable(&error))?
        .into_parts();
    for (name, value) in instructions.params() {
        url.push('&');
        encode(&mut url, name);
        url.push('=');
        encode(&mut url, value);
    }
    url.push_str("&User-Agent=satchel");
    Ok(MskToken {
        value: URL_SAFE_NO_PAD.encode(url),
        identity,
        expires_at_ms: millis(time + VALIDITY),
    })
}

/// Appends the percent-encoded form of `text`, in which signatures have it.
fn encode(url: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                url.push(char::from(byte));
            }
            other => {
                url.push('%');
                let digit = |half: u8| char::from(b"0123456789ABCDEF"[usize::from(half)]);
                url.push(digit(other >> 4));
                url.push(digit(other & 15));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_lambda::config::Credentials;

    use super::*;

    #[tokio::test]
    async fn a_token_is_a_presigned_request_to_connect_which_is_valid_for_fifteen_minutes() {
        let key = Credentials::new(
            "AKIDEXAMPLE",
            "hunter2",
            Some("sess/ion".into()),
            None,
            "test",
        );
        let provider = SharedCredentialsProvider::new(key);
        // 2015-08-30T12:36:00Z
        let time = UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        let token = token(&provider, "eu-central-1", time).await.unwrap();
        assert_eq!(token.identity, "AKIDEXAMPLE");
        assert_eq!(token.expires_at_ms, (1_440_938_160 + 900) * 1_000);
        let url = String::from_utf8(URL_SAFE_NO_PAD.decode(&token.value).unwrap()).unwrap();
        let (address, query) = url.split_once('?').unwrap();
        assert_eq!(address, "https://kafka.eu-central-1.amazonaws.com/");
        let mut fields: Vec<(&str, &str)> = query
            .split('&')
            .map(|field| field.split_once('=').unwrap())
            .collect();
        fields.sort_unstable();
        let signature = fields.iter().find(|(name, _)| *name == "X-Amz-Signature");
        assert_eq!(signature.unwrap().1.len(), 64);
        fields.retain(|(name, _)| *name != "X-Amz-Signature");
        let credential = "AKIDEXAMPLE%2F20150830%2Feu-central-1%2Fkafka-cluster%2Faws4_request";
        let expected = [
            ("Action", "kafka-cluster%3AConnect"),
            ("User-Agent", "satchel"),
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", credential),
            ("X-Amz-Date", "20150830T123600Z"),
            ("X-Amz-Expires", "900"),
            ("X-Amz-Security-Token", "sess%2Fion"),
            ("X-Amz-SignedHeaders", "host"),
        ];
        assert_eq!(fields, expected);
        assert!(!format!("{token:?} {url}").contains("hunter2"));
    }
}
