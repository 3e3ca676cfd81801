//! TLS of an endpoint: the authorities to trust, and the client's certificate and key.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::der::pem::PemLabel as _;
use pkcs8::der::{Decode as _, SecretDocument};
use pkcs8::{LineEnding, PrivateKeyInfoRef};
use reqwest::{Certificate, Identity};

use super::{ClientCertificate, HttpEndpointError};
use crate::bounded::{TEXT_BYTES_MAX, TOKEN_BYTES_MAX, read, read_text};

/// Command that brings a key into a form that this client reads.
const CONVERT: &str = "convert it with `openssl pkcs8 -topk8 -v2 aes-256-cbc`";

/// Reason why the files of a client certificate cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateProblem(String);

impl fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for CertificateProblem {}

/// Reads the authorities to trust.
pub(super) fn certificates(path: &Path) -> Result<Vec<Certificate>, HttpEndpointError> {
    let found = Certificate::from_pem_bundle(&read_file(path)?);
    let found = found.map_err(|source| HttpEndpointError::Pem {
        path: path.to_owned(),
        source,
    })?;
    match found.is_empty() {
        true => Err(problem(path, "it contains no certificate (PEM)")),
        false => Ok(found),
    }
}

/// Reads a client certificate and its key, which may be encrypted.
pub(super) fn identity(client: &ClientCertificate) -> Result<Identity, HttpEndpointError> {
    let mut pem = read_file(&client.certificate)?;
    pem.push(b'\n');
    pem.extend(key(client)?);
    Identity::from_pem(&pem).map_err(|source| HttpEndpointError::Pem {
        path: client.certificate.clone(),
        source,
    })
}

/// Reads the key as PEM, decrypted if it is encrypted.
fn key(client: &ClientCertificate) -> Result<Vec<u8>, HttpEndpointError> {
    let path = &client.key;
    let wrong = |what: String| problem(path, what);
    let pem = read_file(path)?;
    let text = String::from_utf8_lossy(&pem);
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(wrong(format!(
            "its encryption is the older one of OpenSSL: {CONVERT}"
        )));
    }
    let label = EncryptedPrivateKeyInfoRef::PEM_LABEL;
    let (begin, end) = (
        format!("-----BEGIN {label}-----"),
        format!("-----END {label}-----"),
    );
    let Some(start) = text.find(&begin) else {
        if client.password.is_some() {
            return Err(wrong(
                "it is not encrypted: remove 'client_key_password'".to_owned(),
            ));
        }
        return Ok(pem);
    };
    let Some(password) = &client.password else {
        return Err(wrong(
            "it is encrypted: name the file of its password in 'client_key_password'".to_owned(),
        ));
    };
    let password =
        read_text(password, TOKEN_BYTES_MAX).map_err(|source| HttpEndpointError::File {
            path: password.clone(),
            source,
        })?;
    let stop = text.find(&end).map_or(text.len(), |at| at + end.len());
    let (_, document) = SecretDocument::from_pem(text.get(start..stop).unwrap_or_default())
        .map_err(|error| wrong(format!("it is not PEM: {error}")))?;
    let encrypted = EncryptedPrivateKeyInfoRef::from_der(document.as_bytes())
        .map_err(|error| wrong(format!("its encryption is not known ({error}): {CONVERT}")))?;
    // Editors end a file with a line end, which belongs to no password.
    let decrypted = encrypted.decrypt(password.trim_end_matches(['\n', '\r']));
    let decrypted = decrypted.map_err(|error| match error {
        pkcs8::Error::EncryptedPrivateKey(pkcs8::pkcs5::Error::UnsupportedAlgorithm { .. }) => {
            wrong(format!("its encryption is not supported: {CONVERT}"))
        }
        _ => wrong(
            "it cannot be decrypted: is the password in 'client_key_password' its own?".to_owned(),
        ),
    })?;
    let pem = decrypted
        .to_pem(PrivateKeyInfoRef::PEM_LABEL, LineEnding::LF)
        .map_err(|error| wrong(format!("it is not a private key: {error}")))?;
    Ok(pem.as_bytes().to_vec())
}

/// Names what is wrong with a client certificate that the TLS client refuses.
pub(super) fn refused(
    client: &ClientCertificate,
    error: &reqwest::Error,
) -> Option<HttpEndpointError> {
    let path = &client.certificate;
    let text = super::chain(error);
    if text.contains("UnsupportedCertVersion") {
        return Some(problem(
            path,
            "it is an X.509 certificate of version 1, and TLS needs version 3: issue it again with \
             extensions, as `openssl x509 -req -extfile` does",
        ));
    }
    if text.contains("KeyMismatch") {
        let key = client.key.display();
        return Some(problem(
            path,
            format!("the key in {key} does not belong to it"),
        ));
    }
    text.contains("certificate")
        .then(|| problem(path, format!("it cannot be used: {text}")))
}

/// Adds to the text of a failed connection what to do about it.
pub(super) fn explained(text: String) -> String {
    let advice = if text.contains("CaUsedAsEndEntity") {
        "the server presents the certificate of an authority as its own; issue a server \
         certificate with that authority (basicConstraints CA:FALSE), and trust the authority by \
         'trust_cacerts'"
    } else if text.contains("UnknownIssuer") {
        "name the authority of the server's certificate in 'trust_cacerts'"
    } else {
        return text;
    };
    format!("{text}; {advice}")
}

fn problem(path: &Path, what: impl Into<String>) -> HttpEndpointError {
    HttpEndpointError::Certificate {
        path: path.to_owned(),
        problem: CertificateProblem(what.into()),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, HttpEndpointError> {
    read(path, TEXT_BYTES_MAX).map_err(|source| HttpEndpointError::File {
        path: PathBuf::from(path),
        source,
    })
}
