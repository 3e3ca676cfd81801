//! HTTP client of a running application.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

use crate::bounded::{TOKEN_BYTES_MAX, read_text};
use crate::error::{Exit, Failure};

/// Maximum time for which an overloaded application is asked again.
const OVERLOAD_MAX: Duration = Duration::from_secs(60);

/// Pause before an overloaded application is asked again.
const OVERLOAD_PAUSE: Duration = Duration::from_secs(1);

/// Connection to a running application.
pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
    token: Option<String>,
}

impl Client {
    /// Creates a client of the application at `base`, such as `http://127.0.0.1:8080`, which sends
    /// the token in `token_file`.
    pub(crate) fn new(base: &str, token_file: Option<&Path>) -> Result<Self, Failure> {
        let base = base.trim_end_matches('/');
        if !base.starts_with("http://") && !base.starts_with("https://") {
            return Err(Failure::usage(format!(
                "`{base}` is not a URL: write http://host:port"
            )));
        }
        #[cfg(not(feature = "tls"))]
        if base.starts_with("https://") {
            return Err(Failure::needs_tls(base));
        }
        let http = reqwest::Client::builder()
            // A proxy in the environment is meant for other machines.
            .no_proxy()
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(10))
            .redirect(reqwest::redirect::Policy::none())
            .build();
        let http = http.map_err(|error| Failure::from_source(Exit::Environment, error))?;
        let read = |file: &Path| {
            let text = read_text(file, TOKEN_BYTES_MAX)
                .map_err(|error| Failure::caused(Exit::Environment, file.display(), error))?;
            Ok::<_, Failure>(text.trim().to_owned())
        };
        Ok(Self {
            base: base.to_owned(),
            http,
            token: token_file.map(read).transpose()?,
        })
    }

    /// URL of the application.
    #[cfg(feature = "top")]
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Builds a request for `path`, which begins with `/` and is percent-encoded.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request and returns a successful answer.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| self.lost(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        Err(refusal(status, &body))
    }

    /// Sends a request and returns the JSON of a successful answer.
    pub(crate) async fn json(&self, request: RequestBuilder) -> Result<Value, Failure> {
        let response = self.send(request).await?;
        let body = response.bytes().await.map_err(|error| self.lost(&error))?;
        self.parse(&body)
    }

    /// Sends the request that `request` builds and returns the JSON of a successful answer. Repeats
    /// it while the application refuses it because too much is queued, up to [`OVERLOAD_MAX`].
    pub(crate) async fn json_despite_overload(
        &self,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<Value, Failure> {
        let begun = Instant::now();
        loop {
            let sent = request().send().await;
            let response = sent.map_err(|error| self.lost(&error))?;
            let status = response.status();
            let body = response.bytes().await.map_err(|error| self.lost(&error))?;
            if status.is_success() {
                return self.parse(&body);
            }
            let overloaded = error_code(&body).as_deref() == Some("overloaded");
            if !overloaded || begun.elapsed() > OVERLOAD_MAX {
                return Err(refusal(status, &body));
            }
            tokio::time::sleep(OVERLOAD_PAUSE).await;
        }
    }

    fn parse(&self, body: &[u8]) -> Result<Value, Failure> {
        serde_json::from_slice(body).map_err(|error| {
            let context = format!("the answer of {} is not JSON", self.base);
            Failure::caused(Exit::Environment, context, error)
        })
    }

    /// Returns the answer of `/readyz`, also of a process that does not serve.
    pub(crate) async fn readiness(&self) -> Result<Value, Failure> {
        let request = self.request(Method::GET, "/readyz");
        let response = request.send().await.map_err(|error| self.lost(&error))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| self.lost(&error))?;
        match serde_json::from_slice::<Value>(&body) {
            Ok(readiness) if readiness["state"].is_string() => Ok(readiness),
            _ => Err(Failure::new(Exit::Refused, describe(status, &body))),
        }
    }

    /// Returns the failure of a lost connection.
    pub(crate) fn lost(&self, error: &reqwest::Error) -> Failure {
        let base = &self.base;
        if error.is_timeout() && !error.is_connect() {
            let message = format!("{base} did not answer in time");
            return Failure::new(Exit::Environment, message);
        }
        // The innermost cause is the most helpful one: connection refused, no such host.
        let mut cause: &dyn Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        let message = format!("{base} cannot be reached: {cause}; is `satchel dev` running?");
        Failure::new(Exit::Environment, message)
    }
}

/// Failure of an answer with this status.
fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    let exit = match status {
        // Not ready, or on standby: the request had no effect.
        StatusCode::SERVICE_UNAVAILABLE => Exit::Environment,
        _ => Exit::Refused,
    };
    Failure::new(exit, describe(status, body))
}

/// Code of an error in our form.
fn error_code(body: &[u8]) -> Option<String> {
    let error: Value = serde_json::from_slice(body).ok()?;
    Some(error.get("error")?.get("code")?.as_str()?.to_owned())
}

/// Formats an error in our form as `message (code, status)`, and any other as it is.
pub(crate) fn describe(status: StatusCode, body: &[u8]) -> String {
    let error: Option<Value> = serde_json::from_slice(body).ok();
    let field = |name: &str| error.as_ref()?.get("error")?.get(name)?.as_str();
    match (field("code"), field("message")) {
        (Some(code), Some(message)) => format!("{message} ({code}, HTTP {})", status.as_u16()),
        _ => {
            let text: String = String::from_utf8_lossy(body).chars().take(500).collect();
            format!("HTTP {status}: {text}")
        }
    }
}
