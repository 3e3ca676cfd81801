//! Flags about the ports: addresses, tokens and encryption.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

/// Settings of the ports. Holds no secrets, only their locations.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Ports")]
pub struct PortArgs {
    /// Address of the traffic port (calls, sends, and in `dev` local streams); port 0 picks a free
    /// port
    #[arg(
        long,
        env = "SATCHEL_HTTP",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8080"
    )]
    pub http: SocketAddr,

    /// Address of the administration port; port 0 picks a free port
    #[arg(
        long,
        env = "SATCHEL_ADMIN",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8081"
    )]
    pub admin: SocketAddr,

    /// File with the token for traffic: calls, sends and local streams then need the header
    /// `Authorization: Bearer <token>`
    #[arg(long, env = "SATCHEL_HTTP_TOKEN_FILE", value_name = "FILE")]
    pub http_token_file: Option<PathBuf>,

    /// File with the token for administration
    ///
    /// With a token, changes need it, and so do reads from other machines. Without one, an
    /// administration port that other machines can reach serves only health and metrics, and `run`
    /// accepts no changes.
    #[arg(long, env = "SATCHEL_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,

    /// PEM file with the certificate and its intermediates: traffic is served over TLS 1.2 or 1.3
    ///
    /// The file is read once, at the start.
    #[arg(
        long,
        env = "SATCHEL_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub tls_cert: Option<PathBuf>,

    /// PEM file with the private key of the certificate
    #[arg(
        long,
        env = "SATCHEL_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub tls_key: Option<PathBuf>,

    /// Serve administration over TLS too, with the same certificate
    #[arg(
        long,
        env = "SATCHEL_ADMIN_TLS",
        value_parser = BoolishValueParser::new(),
        requires = "tls_cert"
    )]
    pub admin_tls: bool,
}

impl PortArgs {
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.http == self.admin && self.http.port() != 0 {
            return Err(format!(
                "--http and --admin are both {}: use different ports",
                self.http
            ));
        }
        Ok(())
    }
}
