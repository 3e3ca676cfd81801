//! Who may use the ports, and how they are encrypted.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

/// Flags about the ports. Holds no secrets, only where they are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
pub struct PortArgs {
    /// A file that holds the token for traffic. With it, calls, sends and local streams need it, as `Authorization: Bearer …`.
    #[arg(long, env = "SATCHEL_HTTP_TOKEN_FILE", value_name = "FILE")]
    pub http_token_file: Option<PathBuf>,

    /// A PEM file with the certificate, and those between it and the root: traffic is served over TLS (1.2, 1.3). Read once.
    #[arg(
        long,
        env = "SATCHEL_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub tls_cert: Option<PathBuf>,

    /// A PEM file with the certificate's private key.
    #[arg(
        long,
        env = "SATCHEL_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub tls_key: Option<PathBuf>,

    /// Serve administration over TLS too, with the same certificate.
    #[arg(long, env = "SATCHEL_ADMIN_TLS", value_parser = BoolishValueParser::new(), requires = "tls_cert")]
    pub admin_tls: bool,
}
