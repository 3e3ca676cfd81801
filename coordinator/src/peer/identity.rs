//! Key of this process, and the two sides of a connection that both processes authenticate.
//!
//! There is no certificate authority. A connection is accepted by the SHA-256 of the certificate
//! that the other side shows, whose private key it proves to hold in the handshake.

use std::fmt;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use satchel_engine::hex::Hex;
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime,
};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};

use crate::error::{Exit, Failure};

/// Name in every certificate. No side checks it.
pub(super) const NAME: &str = "satchel-peer";

/// Protocol of a connection.
const PROTOCOL: &[u8] = b"h2";

/// Key of this process and its certificate. The private key is never printed or stored.
pub(crate) struct Identity {
    certificate: CertificateDer<'static>,
    private: PrivateKeyDer<'static>,
    key: String,
    provider: Arc<CryptoProvider>,
}

impl Identity {
    /// Makes a new key.
    ///
    /// # Errors
    ///
    /// The cryptographic library fails (exit code 5).
    pub(crate) fn generate() -> Result<Self, Failure> {
        let failed = |error| Failure::caused(Exit::Environment, "making the peer key", error);
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([NAME.to_owned()]).map_err(failed)?;
        let certificate = cert.der().clone();
        Ok(Self {
            key: fingerprint(&certificate),
            certificate,
            private: PrivatePkcs8KeyDer::from(signing_key.serialize_der()).into(),
            provider: Arc::new(default_provider()),
        })
    }

    /// SHA-256 of the certificate, in hexadecimal.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Returns the side that connects to the process with this key.
    ///
    /// # Errors
    ///
    /// The cryptographic library rejects the own key.
    pub(super) fn connects_to(&self, key: &str) -> Result<ClientConfig, Error> {
        let pinned = Pinned {
            key: Some(key.to_owned()),
            provider: Arc::clone(&self.provider),
        };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(pinned))
            .with_client_auth_cert(vec![self.certificate.clone()], self.private.clone_key())?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(config)
    }

    /// Returns a side that connects to the process with this key and shows no certificate.
    #[cfg(test)]
    pub(super) fn anonymous(&self, key: &str) -> ClientConfig {
        let pinned = Pinned {
            key: Some(key.to_owned()),
            provider: Arc::clone(&self.provider),
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_protocol_versions(&[&TLS13]).unwrap();
        let mut config = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(pinned))
            .with_no_client_auth();
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config
    }

    /// Returns the side that accepts connections. It demands a certificate; the caller decides
    /// about its [`fingerprint`] after the handshake, because that needs the lease table.
    ///
    /// # Errors
    ///
    /// The cryptographic library rejects the own key.
    pub(super) fn accepts(&self) -> Result<ServerConfig, Error> {
        let any = Pinned {
            key: None,
            provider: Arc::clone(&self.provider),
        };
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(any))
            .with_single_cert(vec![self.certificate.clone()], self.private.clone_key())?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // A resumed session would show no certificate.
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.key)
    }
}

/// Returns the SHA-256 of a certificate, in hexadecimal.
pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    Hex(&Sha256::digest(certificate.as_ref())).to_string()
}

/// Accepts the certificate with one fingerprint, or any, from a side that holds its private key.
#[derive(Debug)]
struct Pinned {
    key: Option<String>,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        match &self.key {
            Some(key) if *key != fingerprint(certificate) => Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            )),
            _ => Ok(()),
        }
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// Error of TLS 1.2, which neither side offers.
fn only_tls13() -> Error {
    Error::General("peer connections use TLS 1.3".to_owned())
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}
