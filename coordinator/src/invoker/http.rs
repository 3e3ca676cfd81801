//! StateFun's request-reply protocol over HTTP: one batch per request, the answer on the same
//! connection.
//!
//! Semantics: Apache Flink Stateful Functions 3.3, `io.statefun.endpoints.v2/http`. Its runtime
//! retries inside the transport. This invoker sends one request and reports its outcome.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::join_all;
use prost::Message as _;
use reqwest::header::{
    ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER,
};
use reqwest::{Client, ClientBuilder, Response, StatusCode};
#[cfg(feature = "aws")]
use satchel_aws::sigv4::Signer;
use satchel_clock::retry_after_ms;
use satchel_engine::address::FunctionType;
use satchel_engine::invocation::{
    Batch, BatchOutcome, Bundle, BundleOutcome, Failure, FailureKind,
};
use satchel_protocol::effects::{InvalidAnswer, decode_answer};

use self::url::UrlTemplate;
use crate::error::chain;
mod rejection;
mod settings;
#[cfg(feature = "tls")]
mod tls;
mod url;

pub use self::settings::{ClientCertificate, HttpEndpoint, HttpEndpointError};
#[cfg(feature = "tls")]
pub use self::tls::CertificateProblem;
pub use self::url::InvalidUrl;

/// Content type of requests and answers.
const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Header with the W3C's trace context.
const TRACEPARENT: &str = "traceparent";

/// Idle time after which TCP probes a connection, so that a gateway does not drop it in silence
/// while a function runs.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Maximum length of the text of an error answer that is passed on, in characters.
const ERROR_TEXT_CHARS_MAX: usize = 500;

/// Invoker of one HTTP endpoint.
pub struct HttpInvoker {
    client: Client,
    /// Client that makes a new connection for each request.
    unpooled: Client,
    url: UrlTemplate,
    #[cfg(feature = "aws")]
    signer: Option<Signer>,
    timeouts: Timeouts,
    payload_max_bytes: usize,
}

/// Timeouts of a request. The message of one that expired names it.
#[derive(Debug, Clone, Copy)]
struct Timeouts {
    call: Duration,
    connect: Duration,
    read: Option<Duration>,
}

impl HttpInvoker {
    /// Creates an invoker with its own connection pool.
    ///
    /// # Errors
    ///
    /// Everything that [`HttpEndpointError`] names.
    pub fn new(endpoint: &HttpEndpoint) -> Result<Self, HttpEndpointError> {
        let url = UrlTemplate::parse(&endpoint.url_template)?;
        let pooled = client(endpoint, &url)?
            .pool_idle_timeout(endpoint.pool_idle)
            .pool_max_idle_per_host(match endpoint.pool_idle {
                Duration::ZERO => 0,
                _ => endpoint.pool_size,
            });
        let unpooled = client(endpoint, &url)?.pool_max_idle_per_host(0);
        let build = |builder: ClientBuilder| {
            let built = builder.build();
            built.map_err(|source| {
                #[cfg(feature = "tls")]
                if let Some(client) = &endpoint.client_cert
                    && let Some(refused) = tls::refused(client, &source)
                {
                    return refused;
                }
                HttpEndpointError::Client { source }
            })
        };
        Ok(Self {
            client: build(pooled)?,
            unpooled: build(unpooled)?,
            url,
            #[cfg(feature = "aws")]
            signer: None,
            timeouts: Timeouts {
                call: endpoint.call,
                connect: endpoint.connect,
                read: endpoint.read,
            },
            payload_max_bytes: endpoint.payload_max_bytes,
        })
    }

    /// Returns the same invoker, which signs every request.
    #[cfg(feature = "aws")]
    #[must_use]
    pub fn signed_by(mut self, signer: Signer) -> Self {
        self.signer = Some(signer);
        self
    }

    /// Sends every batch of `bundle` in its own request: the protocol has no bundles.
    pub async fn invoke(&self, bundle: Bundle) -> BundleOutcome {
        let [only] = bundle.batches.as_slice() else {
            let results = bundle.batches.iter().map(|batch| async {
                let outcome = self.invoke_batch(batch, bundle.new_connection).await;
                (batch.attempt, outcome)
            });
            return BundleOutcome::Answered(join_all(results).await);
        };
        match self.invoke_batch(only, bundle.new_connection).await {
            // A verdict is an answer of the function, so the request has succeeded.
            Err(failure) if failure.kind != FailureKind::Terminal => BundleOutcome::Failed(failure),
            answer => BundleOutcome::Answered(vec![(only.attempt, answer)]),
        }
    }

    async fn invoke_batch(&self, batch: &Batch, new_connection: bool) -> BatchOutcome {
        let call = self.timeouts.call;
        let answered = tokio::time::timeout(call, self.request(batch, new_connection));
        answered.await.unwrap_or_else(|_| {
            let message = format!("timed out after {call:?} (call)");
            Err(Failure::new(FailureKind::TimedOut, message))
        })
    }

    async fn request(&self, batch: &Batch, new_connection: bool) -> BatchOutcome {
        let client = if new_connection {
            &self.unpooled
        } else {
            &self.client
        };
        let response = self.send(client, &batch.target.function, batch).await?;
        let status = response.status();
        if !status.is_success() {
            if rejection::is_rejection(&response) {
                return Err(rejection::read(response).await);
            }
            return Err(refusal(response).await);
        }
        let kind = response.headers().get(CONTENT_TYPE);
        if let Some(other) = kind.filter(|kind| !is_octet_stream(kind)) {
            return Err(not_the_protocol(format!(
                "the answer has content type {other:?} instead of application/octet-stream"
            )));
        }
        // A `FromFunction` without effects may be encoded as zero bytes, as the Python SDK does. An
        // empty answer without a content type more likely came from an intermediary.
        let may_be_empty = kind.is_some();
        check_encoding(response.headers())?;
        let body = self.read(response).await?;
        if body.is_empty() && !may_be_empty {
            return Err(not_the_protocol(format!(
                "the answer, with status {status}, has neither a body nor a content type"
            )));
        }
        decode_answer(body).map_err(|error| match error {
            InvalidAnswer::Malformed(_) => not_the_protocol(error.to_string()),
            InvalidAnswer::TooManyEffects => function_failure(error.to_string()),
        })
    }

    async fn send(
        &self,
        client: &Client,
        function: &FunctionType,
        batch: &Batch,
    ) -> Result<Response, Failure> {
        let body = batch.to_wire().encode_to_vec();
        if body.len() > self.payload_max_bytes {
            return Err(Failure::new(
                FailureKind::RequestTooLarge,
                format!(
                    "the request has {} bytes, and {} are allowed (payload_max_bytes)",
                    body.len(),
                    self.payload_max_bytes
                ),
            ));
        }
        let url = self.url.of(function);
        #[cfg(feature = "aws")]
        let signature = self.sign(url.as_str(), &body).await?;
        let request = client
            .post(url)
            .header(CONTENT_TYPE, OCTET_STREAM)
            .header(ACCEPT, OCTET_STREAM);
        let request = match batch.trace() {
            Some(trace) => request.header(TRACEPARENT, trace.to_string()),
            None => request,
        };
        #[cfg(feature = "aws")]
        let request = signature
            .into_iter()
            .fold(request, |request, (name, value)| {
                request.header(name, value)
            });
        request
            .body(body)
            .send()
            .await
            .map_err(|error| self.transport_failure(error, FailureKind::ConnectionLost))
    }

    /// Returns the headers that sign a request; none without a signer.
    #[cfg(feature = "aws")]
    async fn sign(&self, url: &str, body: &[u8]) -> Result<Vec<(String, String)>, Failure> {
        let Some(signer) = &self.signer else {
            return Ok(Vec::new());
        };
        let signed = signer.sign("POST", url, &[], body).await;
        signed.map_err(|error| Failure::new(FailureKind::Unavailable, error.to_string()))
    }

    /// Reads the body, unpacked if it is compressed with gzip, and stops once it is too large.
    async fn read(&self, mut response: Response) -> Result<Bytes, Failure> {
        let max = self.payload_max_bytes;
        let too_large = || {
            function_failure(format!(
                "the answer is larger than {max} bytes (payload_max_bytes)"
            ))
        };
        if response
            .content_length()
            .is_some_and(|bytes| bytes > max as u64)
        {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        loop {
            let chunk = response.chunk().await;
            match chunk.map_err(|error| self.transport_failure(error, FailureKind::Ambiguous))? {
                Some(chunk) if body.len() + chunk.len() > max => return Err(too_large()),
                Some(chunk) => body.extend_from_slice(&chunk),
                None => return Ok(body.freeze()),
            }
        }
    }

    /// Converts an error of the transport, of the kind `otherwise` if it is neither of connecting
    /// nor a time-out. Callers see the text, and dead letters keep it, so it omits the URL, whose
    /// query may contain a key.
    fn transport_failure(&self, error: reqwest::Error, otherwise: FailureKind) -> Failure {
        let error = error.without_url();
        let timeouts = self.timeouts;
        if (error.is_connect() || error.is_dns()) && error.is_timeout() {
            Failure::new(
                FailureKind::Unavailable,
                format!(
                    "cannot connect: timed out after {:?} (connect)",
                    timeouts.connect
                ),
            )
        } else if error.is_connect() || error.is_dns() {
            Failure::new(
                FailureKind::Unavailable,
                explained(format!("cannot connect: {}", chain(&error))),
            )
        } else if error.is_timeout() {
            // The client knows of no other timeout: `call` is bounded around it.
            let read = timeouts.read.unwrap_or(timeouts.call);
            Failure::new(
                FailureKind::TimedOut,
                format!("timed out after {read:?} without a byte of the answer (read)"),
            )
        } else {
            Failure::new(otherwise, format!("no answer: {}", chain(&error)))
        }
    }
}

/// Begins a client with everything but its pool.
fn client(endpoint: &HttpEndpoint, url: &UrlTemplate) -> Result<ClientBuilder, HttpEndpointError> {
    // The environment's proxy and redirects would send state to places that no module file names. A
    // retry would hide an attempt from the dispatcher.
    let mut builder = Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .tcp_nodelay(true)
        .tcp_keepalive(KEEPALIVE)
        .connect_timeout(endpoint.connect);
    if let Some(read) = endpoint.read {
        builder = builder.read_timeout(read);
    }
    #[cfg(feature = "tls")]
    {
        if let Some(path) = &endpoint.trust_cacerts {
            builder = builder.tls_certs_only(tls::certificates(path)?);
        }
        if let Some(client) = &endpoint.client_cert {
            builder = builder.identity(tls::identity(client)?);
        }
    }
    #[cfg(not(feature = "tls"))]
    if url.is_encrypted() {
        return Err(HttpEndpointError::WithoutTls);
    }
    if let Some(socket) = url.socket() {
        builder = builder.unix_socket(socket);
    }
    Ok(builder)
}

impl fmt::Debug for HttpInvoker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpInvoker")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// Checks that the body is readable: the client unpacks gzip, which it offers, and then removes the
/// header.
fn check_encoding(headers: &HeaderMap) -> Result<(), Failure> {
    match headers.get(CONTENT_ENCODING) {
        Some(other) if !other.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(not_the_protocol(format!(
                "the answer has content encoding {other:?}; only gzip is offered and unpacked"
            )))
        }
        _ => Ok(()),
    }
}

/// Converts an answer with another status than 2xx. Only a function answers in StateFun's content
/// type. Otherwise most statuses come from a gateway before the function; 400 and 500 may be the
/// function's, or that of whatever stands in its place.
async fn refusal(response: Response) -> Failure {
    let status = response.status();
    let content_type = response.headers().get(CONTENT_TYPE);
    let kind = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => FailureKind::Throttled,
        StatusCode::PAYLOAD_TOO_LARGE => FailureKind::RequestTooLarge,
        _ if content_type.is_some_and(is_octet_stream) => FailureKind::Function,
        StatusCode::BAD_REQUEST | StatusCode::INTERNAL_SERVER_ERROR => FailureKind::Ambiguous,
        _ => FailureKind::Unavailable,
    };
    let asked_ms = asked_wait_ms(response.headers());
    let text = error_text(response, ERROR_TEXT_CHARS_MAX).await;
    let message = if text.is_empty() {
        format!("the endpoint answered {status}")
    } else {
        format!("the endpoint answered {status}: {text}")
    };
    let throttled = kind == FailureKind::Throttled;
    Failure::new(kind, message).retry_after(asked_ms.filter(|_| throttled))
}

/// Returns the time that an answer asks to wait, in ms.
fn asked_wait_ms(headers: &HeaderMap) -> Option<u64> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|it: &HeaderValue| it.to_str().ok())
    };
    retry_after_ms(text(RETRY_AFTER)?, text(DATE))
}

/// Returns the beginning of the body, at most `chars_max` characters, if it is text. Reads no more
/// than that.
async fn error_text(mut response: Response, chars_max: usize) -> String {
    let bytes_max = 4 * chars_max;
    let mut body = Vec::new();
    while body.len() < bytes_max {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) | Err(_) => break,
        }
    }
    body.truncate(bytes_max);
    let text = match std::str::from_utf8(&body) {
        Ok(text) => text,
        // The limit may cut the last character in two.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&body[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return String::new(),
    };
    text.trim()
        .chars()
        .filter(|char| !char.is_control() || *char == '\n')
        .take(chars_max)
        .collect()
}

fn is_octet_stream(kind: &HeaderValue) -> bool {
    let essence = kind.as_bytes().split(|byte| *byte == b';').next();
    essence.is_some_and(|essence| {
        essence
            .trim_ascii()
            .eq_ignore_ascii_case(OCTET_STREAM.as_bytes())
    })
}

fn function_failure(message: String) -> Failure {
    Failure::new(FailureKind::Function, message)
}

/// An answer that is not of the protocol comes from a broken function or from a gateway in its
/// place.
fn not_the_protocol(message: String) -> Failure {
    Failure::new(FailureKind::Ambiguous, message)
}

#[cfg(feature = "tls")]
use tls::explained;

/// Returns the text of a failed connection as it is: without TLS there is nothing to explain.
#[cfg(not(feature = "tls"))]
fn explained(text: String) -> String {
    text
}
