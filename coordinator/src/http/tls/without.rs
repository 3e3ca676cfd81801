//! TLS of a binary without support for it.

use std::io;
use std::path::Path;

use tokio::net::TcpStream;

use super::TlsProblem;

/// TLS that cannot be enabled.
#[derive(Debug, Clone)]
pub enum Tls {}

impl Tls {
    /// Fails.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn load(certificates: &Path, _key: &Path) -> Result<Self, TlsProblem> {
        Err(TlsProblem {
            flag: "--tls-cert",
            file: certificates.to_owned(),
            what: "this satchel was built without TLS; build it with the cargo feature `tls`, \
                   which is on by default"
                .to_owned(),
        })
    }

    /// Unreachable, because there is no value of this type.
    #[allow(
        clippy::unused_async,
        reason = "the signature is that of the feature `tls`"
    )]
    pub(crate) async fn accept(&self, _: TcpStream) -> io::Result<TcpStream> {
        match *self {}
    }
}
