//! URL of an endpoint, with a placeholder for the function.

use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;
use satchel_engine::address::FunctionType;

/// Placeholder of the function's name.
const PLACEHOLDER: &str = "{function.name}";

/// Maximum length of the path of a Unix socket (`sun_path` on Linux, without its final zero).
const SOCKET_BYTES_MAX: usize = 107;

/// Characters that are escaped in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Error in the URL of an endpoint. It omits the URL itself, which may contain secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the URL of an endpoint: {reason}")]
pub struct InvalidUrl {
    reason: String,
}

/// URL with a placeholder that each request fills with its function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UrlTemplate {
    http: String,
    /// The URL of all functions, if the template has no placeholder.
    only: Option<Url>,
    socket: Option<PathBuf>,
}

impl UrlTemplate {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let invalid = |reason: &str| InvalidUrl {
            reason: reason.to_owned(),
        };
        let mut template = match text.split_once("://") {
            Some(("http" | "https", _)) => Self {
                http: text.to_owned(),
                only: None,
                socket: None,
            },
            Some(("http+unix", path)) => Self::unix("http", path).map_err(invalid)?,
            Some(("https+unix", path)) => Self::unix("https", path).map_err(invalid)?,
            _ => {
                return Err(invalid(
                    "it must begin with http://, https://, http+unix:// or https+unix://",
                ));
            }
        };
        // A name is escaped to letters, digits, `%` and the like: if one is valid, all are.
        match Url::parse(&template.http.replace(PLACEHOLDER, "name")) {
            Ok(url) if !template.http.contains(PLACEHOLDER) => template.only = Some(url),
            Ok(_) => {}
            Err(error) => return Err(invalid(&error.to_string())),
        }
        Ok(template)
    }

    /// Splits `/run/functions.sock/path` after the segment that ends in `.sock`, as StateFun does.
    fn unix(scheme: &str, path: &str) -> Result<Self, &'static str> {
        if !path.starts_with('/') {
            return Err(
                "the path of the socket must be absolute: http+unix:///run/functions.sock/path",
            );
        }
        let Some(socket_end) = path
            .match_indices(".sock")
            .map(|(at, found)| at + found.len())
            .find(|end| path[*end..].is_empty() || path[*end..].starts_with('/'))
        else {
            return Err("the path must contain a socket whose name ends in `.sock`");
        };
        let (socket, rest) = path.split_at(socket_end);
        if socket.len() > SOCKET_BYTES_MAX {
            return Err("the path of the socket is longer than the 107 bytes that systems allow");
        }
        if socket.contains(PLACEHOLDER) {
            return Err(
                "`{function.name}` may follow the path of the socket, but not be part of it",
            );
        }
        Ok(Self {
            http: format!("{scheme}://localhost{rest}"),
            only: None,
            socket: Some(socket.into()),
        })
    }

    /// Returns true if requests need TLS.
    #[cfg(not(feature = "tls"))]
    pub(super) fn is_encrypted(&self) -> bool {
        self.http.starts_with("https:")
    }

    /// Unix socket to connect to, in the place of the URL's host.
    pub(super) fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// Returns the URL for `function`.
    pub(super) fn of(&self, function: &FunctionType) -> Url {
        if let Some(only) = &self.only {
            return only.clone();
        }
        let url = Url::parse(&self.text_of(function));
        url.expect("a name is escaped to what `parse` has accepted")
    }

    fn text_of(&self, function: &FunctionType) -> String {
        let name = utf8_percent_encode(function.name(), SEGMENT).to_string();
        self.http.replace(PLACEHOLDER, &name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeter() -> FunctionType {
        FunctionType::new("example", "greeter v2")
    }

    #[test]
    fn the_functions_name_takes_the_place_of_its_placeholder() {
        let url = UrlTemplate::parse("https://functions:8443/f/{function.name}?x=1").unwrap();
        assert_eq!(
            url.text_of(&greeter()),
            "https://functions:8443/f/greeter%20v2?x=1"
        );
        assert_eq!(url.socket(), None);
    }

    #[test]
    fn a_unix_url_is_a_socket_and_a_path() {
        let url = UrlTemplate::parse("http+unix:///run/x.socket/f.sock/{function.name}").unwrap();
        assert_eq!(url.socket(), Some(Path::new("/run/x.socket/f.sock")));
        assert_eq!(url.text_of(&greeter()), "http://localhost/greeter%20v2");
        let url = UrlTemplate::parse("https+unix:///run/f.sock").unwrap();
        assert_eq!(url.text_of(&greeter()), "https://localhost");
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_its_reason() {
        for (text, reason) in [
            ("ftp://functions", "it must begin with http://"),
            ("functions:8080", "it must begin with http://"),
            ("http://", "empty host"),
            ("http+unix://run/f.sock", "must be absolute"),
            ("http+unix:///run/f", "ends in `.sock`"),
            ("http+unix:///run/{function.name}.sock", "not be part of it"),
            (
                &format!("http+unix:///{}.sock", "x".repeat(102)),
                "longer than the 107 bytes",
            ),
        ] {
            let error = UrlTemplate::parse(text).unwrap_err().to_string();
            assert!(error.starts_with("not the URL"), "{error}");
            assert!(!error.contains(text), "{error}");
            assert!(error.contains(reason), "{error}");
        }
    }
}
