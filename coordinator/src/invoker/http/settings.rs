//! Settings of an HTTP endpoint, and what can be wrong with them.

use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "tls")]
use super::CertificateProblem;
use super::InvalidUrl;

/// Settings of an HTTP endpoint. The defaults of [`HttpEndpoint::new`] are StateFun's, but for the
/// time that idle connections are kept.
#[derive(Debug, Clone)]
pub struct HttpEndpoint {
    /// URL with the scheme `http`, `https`, `http+unix` or `https+unix`. `{function.name}` stands
    /// for the function's name without its namespace. A `+unix` URL contains the path of the
    /// socket, which ends in `.sock`, and then the path of the request.
    pub url_template: String,
    /// Maximum duration of a request, from connecting to the last byte of the answer.
    pub call: Duration,
    /// Maximum duration of connecting.
    pub connect: Duration,
    /// Maximum silence of the endpoint while its answer is awaited or read, if it is bounded apart
    /// from `call`.
    pub read: Option<Duration>,
    /// Time that an idle connection is kept; zero keeps none.
    pub pool_idle: Duration,
    /// Maximum number of idle connections.
    pub pool_size: usize,
    /// Maximum size of a request and of an answer in bytes.
    pub payload_max_bytes: usize,
    /// PEM file with the only trusted authorities, in the place of the system's.
    pub trust_cacerts: Option<PathBuf>,
    /// PEM files of the client certificate with its chain, and of its private key.
    pub client_cert: Option<ClientCertificate>,
}

/// PEM files of a client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate with its chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// File with the password of the key, if it is encrypted.
    pub password: Option<PathBuf>,
}

impl HttpEndpoint {
    /// Creates the settings for `url_template` with the defaults.
    pub fn new(url_template: impl Into<String>) -> Self {
        Self {
            url_template: url_template.into(),
            call: Duration::from_secs(120),
            connect: Duration::from_secs(20),
            read: None,
            pool_idle: Duration::from_secs(4),
            pool_size: 1024,
            payload_max_bytes: 32 << 20,
            trust_cacerts: None,
            client_cert: None,
        }
    }
}

/// Error in the settings of an [`HttpEndpoint`].
#[derive(Debug, thiserror::Error)]
pub enum HttpEndpointError {
    /// The URL has an unsupported form.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// A certificate or key file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A certificate or key file has the wrong content.
    #[error("{} is not a PEM file of the right kind: {source}", path.display())]
    Pem {
        /// Path of the file.
        path: PathBuf,
        /// Error of the parser.
        source: reqwest::Error,
    },
    /// A file of a certificate or key cannot be used.
    #[cfg(feature = "tls")]
    #[error("{}: {problem}", path.display())]
    Certificate {
        /// Path of the file.
        path: PathBuf,
        /// Reason, and what to do.
        problem: CertificateProblem,
    },
    /// The endpoint needs TLS, and this binary has none.
    #[cfg(not(feature = "tls"))]
    #[error(
        "an endpoint with https needs TLS, for which this satchel was built without support; \
         build it with the cargo feature `tls`, which is on by default"
    )]
    WithoutTls,
    /// The HTTP client rejects the settings.
    #[error("cannot create the HTTP client of the endpoint: {source}")]
    Client {
        /// Error of the client.
        source: reqwest::Error,
    },
}
