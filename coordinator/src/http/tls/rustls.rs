//! TLS by rustls.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use super::TlsProblem;
use crate::bounded::{TEXT_BYTES_MAX, read};

/// Maximum duration of a handshake.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// TLS 1.2 and 1.3 with one certificate, read once. Cheap to clone.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl Tls {
    /// Loads the certificate chain and the private key from two PEM files.
    ///
    /// # Errors
    ///
    /// A file cannot be read or has the wrong content, or the key does not fit the certificate.
    pub fn load(certificates: &Path, key: &Path) -> Result<Self, TlsProblem> {
        let of_certificates = |what: String| TlsProblem {
            flag: "--tls-cert",
            file: certificates.to_owned(),
            what,
        };
        let of_key = |what: String| TlsProblem {
            flag: "--tls-key",
            file: key.to_owned(),
            what,
        };
        let pem = read(certificates, TEXT_BYTES_MAX)
            .map_err(|error| of_certificates(error.to_string()))?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let chain = chain.map_err(|error| of_certificates(error.to_string()))?;
        if chain.is_empty() {
            return Err(of_certificates(
                "the file contains no certificate (PEM, `BEGIN CERTIFICATE`)".to_owned(),
            ));
        }
        let pem = read(key, TEXT_BYTES_MAX).map_err(|error| of_key(error.to_string()))?;
        // The library's message about an unreadable key might quote the file, so it is dropped.
        let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
            of_key("the file contains no private key (PEM, `BEGIN PRIVATE KEY`)".to_owned())
        })?;
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_no_client_auth()
                    .with_single_cert(chain, private)
            });
        let mut config = config.map_err(|error| {
            of_key(format!(
                "the key does not fit the certificate of {}: {error}",
                certificates.display()
            ))
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Performs the handshake with a client.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        match tokio::time::timeout(HANDSHAKE_TIME_MAX, self.0.accept(stream)).await {
            Ok(accepted) => accepted,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(…)")
    }
}
