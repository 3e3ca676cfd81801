//! TLS of a port.

use std::path::PathBuf;

#[cfg(feature = "tls")]
mod rustls;
#[cfg(not(feature = "tls"))]
mod without;

#[cfg(feature = "tls")]
pub use rustls::Tls;
#[cfg(not(feature = "tls"))]
pub use without::Tls;

/// Error in a TLS setting. It never shows the content of a file.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {}: {what}", file.display())]
pub struct TlsProblem {
    /// Flag that names the file.
    pub flag: &'static str,
    /// File with the problem.
    pub file: PathBuf,
    /// Description of the problem.
    pub what: String,
}
