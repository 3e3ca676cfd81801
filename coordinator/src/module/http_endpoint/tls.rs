//! Files for TLS of an HTTP endpoint.

use std::path::PathBuf;

use crate::module::endpoint::file_path;
use crate::module::fields::Fields;
use crate::module::table::{Field, Form};

pub(super) const TRUST_CACERTS: Field = Field::optional(
    "trust_cacerts",
    Form::Text,
    "the certificate authorities of the system",
    "PEM file of the certificate authorities to trust: a path, which may begin with `file:` or \
     `~/`. Relative to the module file, as are `client_cert`, `client_key` and \
     `client_key_password`.",
);

pub(super) const CLIENT_CERT: Field = Field::optional(
    "client_cert",
    Form::Text,
    "no client certificate",
    "PEM file of the client certificate. Requires `client_key`.",
);

pub(super) const CLIENT_KEY: Field = Field::optional(
    "client_key",
    Form::Text,
    "no client certificate",
    "PEM file of the client certificate's key. Requires `client_cert`.",
);

pub(super) const CLIENT_KEY_PASSWORD: Field = Field::optional(
    "client_key_password",
    Form::Text,
    "the key is not encrypted",
    "File that contains the password of the client key, which is encrypted in the form of \
     PKCS #8 (`ENCRYPTED PRIVATE KEY`).",
);

/// PEM files for TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Authorities to trust; without it, those of the system.
    pub trust_cacerts: Option<PathBuf>,
    /// Client certificate and its key.
    pub client: Option<ClientCertificate>,
}

/// Files of a client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate with its chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Password of the key, if it is encrypted.
    pub password: Option<PathBuf>,
}

/// Reads the fields of TLS.
pub(super) fn read(fields: &mut Fields<'_, '_>) -> Tls {
    let source = fields.source();
    let mut file = |name| fields.parsed(name, |text| file_path(&source, text));
    let trust_cacerts = file("trust_cacerts");
    let (cert, key) = (file("client_cert"), file("client_key"));
    let password = file("client_key_password");
    if password.is_some() && !fields.is_present("client_key") {
        fields.problem_with(
            "client_key_password",
            "a password also needs its 'client_key'",
        );
    }
    let client = match (cert, key) {
        (Some(certificate), Some(key)) => Some(ClientCertificate {
            certificate,
            key,
            password,
        }),
        (Some(_), None) => {
            fields.problem_with("client_cert", "a certificate also needs its 'client_key'");
            None
        }
        (None, Some(_)) => {
            fields.problem_with("client_key", "a key also needs its 'client_cert'");
            None
        }
        (None, None) => None,
    };
    Tls {
        trust_cacerts,
        client,
    }
}
