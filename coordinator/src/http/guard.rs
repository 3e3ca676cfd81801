//! Defence against browsers, which reach loopback ports on behalf of any web page.
//!
//! - A page whose author rebinds its name to 127.0.0.1 has the same origin as this port. Its
//!   requests carry its own name as `Host`, so other names than ours are rejected.
//! - Any page may send simple requests anywhere without a preflight. Such requests carry a foreign
//!   `Origin` (or `Sec-Fetch-Site`), so those that could change something are rejected.
//!
//! Ports for programs only ([`for_programs`]) reject requests of every page.
//!
//! A listener that is not on loopback is reached through load balancers and names that this process
//! cannot know, and a browser gives an attacker no access that it lacks. Nothing is checked there.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use crate::streams::browsers;

/// Check of requests that may come from browsers.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Allowed host names besides `localhost`. None disables the check.
    names: Option<Arc<[String]>>,
}

impl Guard {
    /// Creates the guard of a listener bound to `bound`, which also accepts `names` (`host`,
    /// without port).
    pub fn of(bound: SocketAddr, names: impl IntoIterator<Item = String>) -> Self {
        let names = names.into_iter().map(|name| normal(&name)).collect();
        Self {
            names: bound.ip().is_loopback().then_some(names),
        }
    }

    fn check(&self, request: &Request) -> Result<(), ApiError> {
        let Some(names) = &self.names else {
            return Ok(());
        };
        let headers = request.headers();
        let host = named_host(request.uri(), headers)?;
        for authority in host.iter().flatten() {
            let name = normal(authority.host());
            if !is_ip(&name) && !is_ours(&name, names) {
                return Err(ApiError::new(
                    StatusCode::FORBIDDEN,
                    "host_not_allowed",
                    format!(
                        "the host name {name:?} is not allowed: \
                         this port listens on loopback and accepts localhost and IP addresses"
                    ),
                ));
            }
        }
        if changes_nothing(request) {
            return Ok(());
        }
        check_origin(headers, host[0].as_ref(), names)
    }
}

/// Returns true if a request cannot change anything. Reading a stream creates a missing one.
fn changes_nothing(request: &Request) -> bool {
    let reads = [Method::GET, Method::HEAD, Method::OPTIONS];
    reads.contains(request.method()) && !request.uri().path().starts_with("/streams/")
}

/// Protects `routes` of a listener that only programs call: rejects requests of web pages, and on
/// loopback also requests to other host names.
pub(crate) fn for_programs(routes: Router, bound: SocketAddr) -> Router {
    without_pages(routes).layer(from_fn_with_state(Guard::of(bound, []), defend))
}

/// Protects `routes` that one local process calls at `bound`: rejects requests of web pages, and
/// those that name another host than `bound`. A page that rebinds its name to this address shows
/// its own name.
pub(crate) fn for_one_program(routes: Router, bound: SocketAddr) -> Router {
    without_pages(routes).layer(from_fn_with_state(bound, refuse_other_hosts))
}

async fn refuse_other_hosts(
    State(bound): State<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let named = match named_host(request.uri(), request.headers()) {
        Ok(named) => named,
        Err(refusal) => return refusal.into_response(),
    };
    let expected = bound.to_string();
    match named
        .iter()
        .flatten()
        .find(|name| name.as_str() != expected)
    {
        None => next.run(request).await,
        Some(other) => ApiError::new(
            StatusCode::FORBIDDEN,
            "host_not_allowed",
            format!("the host {other} is not allowed: this API is reached at {expected} only"),
        )
        .into_response(),
    }
}

/// Rejects requests of web pages to `routes`.
fn without_pages(routes: Router) -> Router {
    routes.layer(from_fn(refuse_pages))
}

async fn refuse_pages(request: Request, next: Next) -> Response {
    if browsers::is_from_web_page(request.headers()) {
        return origin_not_allowed(browsers::REFUSAL).into_response();
    }
    next.run(request).await
}

/// Rejects requests that fail the guard's check.
pub(crate) async fn defend(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.check(&request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Returns the authorities that a request names: that of `Host`, and that of a target which is a
/// whole URL.
fn named_host(uri: &Uri, headers: &HeaderMap) -> Result<[Option<Authority>; 2], ApiError> {
    let invalid = || {
        ApiError::bad_request(
            "invalid_header",
            "the header host is invalid: \
             it must occur once, as a host name or an IP address, with or without a port",
        )
    };
    let mut values = headers.get_all(HOST).iter();
    let host = match values.next() {
        // Only HTTP/1.0 allows requests without a host, and no browser uses it.
        None => None,
        Some(value) => {
            let authority = Authority::try_from(value.as_bytes()).map_err(|_| invalid())?;
            Some(authority)
        }
    };
    if values.next().is_some() {
        return Err(invalid());
    }
    Ok([host, uri.authority().cloned()])
}

fn check_origin(
    headers: &HeaderMap,
    host: Option<&Authority>,
    names: &[String],
) -> Result<(), ApiError> {
    let cross_site = headers
        .get("sec-fetch-site")
        .is_some_and(|site| site.as_bytes() == b"cross-site");
    let foreign = headers
        .get_all(ORIGIN)
        .iter()
        .any(|origin| !is_our_origin(origin.as_bytes(), host, names));
    if !cross_site && !foreign {
        return Ok(());
    }
    Err(origin_not_allowed(
        "a web page of another site sent this request; only pages of this machine may send it",
    ))
}

/// Rejects a request of a web page that was not served under the very name that it calls. Programs
/// name no origin.
pub(super) fn check_same_origin(uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let host = named_host(uri, headers)?;
    let is_own = |origin: &[u8]| {
        let origin = Uri::try_from(origin).ok();
        let origin = origin.as_ref().and_then(Uri::authority);
        origin.is_some() && origin == host[0].as_ref()
    };
    let mut origins = headers.get_all(ORIGIN).iter();
    if origins.all(|origin| is_own(origin.as_bytes())) {
        return Ok(());
    }
    Err(origin_not_allowed(
        "another web page sent this request; only the console of this port may change something",
    ))
}

fn origin_not_allowed(message: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "origin_not_allowed", message)
}

/// Returns true if a page of `origin` is one of this machine, or was served under the name that it
/// calls.
fn is_our_origin(origin: &[u8], host: Option<&Authority>, names: &[String]) -> bool {
    let Ok(origin) = Uri::try_from(origin) else {
        return false;
    };
    let Some(origin) = origin.authority() else {
        return false;
    };
    let name = normal(origin.host());
    let loopback = name
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_loopback());
    loopback || is_ours(&name, names) || host.is_some_and(|host| host == origin)
}

fn is_ours(name: &str, names: &[String]) -> bool {
    name == "localhost"
        || name.ends_with(".localhost")
        || names.iter().any(|allowed| allowed == name)
}

fn is_ip(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok()
}

/// Normalizes a host name to lower case without a trailing dot, and an IPv6 address to the form
/// without brackets.
fn normal(name: &str) -> String {
    name.trim_start_matches('[')
        .trim_end_matches([']', '.'])
        .to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn guard() -> Guard {
        Guard::of(
            "127.0.0.1:8080".parse().unwrap(),
            ["Satchel.Internal".to_owned()],
        )
    }

    fn passes(guard: &Guard, method: &str, target: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        guard.check(&request.body(Body::empty()).unwrap()).is_ok()
    }

    #[test]
    fn only_names_of_this_machine_and_addresses_are_answered() {
        for (host, expected) in [
            ("localhost", true),
            ("LOCALHOST:8080", true),
            ("localhost.", true),
            ("app.localhost:1", true),
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("192.168.1.7", true),
            ("satchel.internal:8080", true),
            ("evil.example", false),
            ("evil.example:8080", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("evillocalhost", false),
            ("", false),
            ("a b", false),
        ] {
            assert_eq!(
                passes(&guard(), "GET", "/", &[("host", host)]),
                expected,
                "{host:?}"
            );
        }
        assert!(passes(&guard(), "GET", "/", &[]));
        assert!(!passes(
            &guard(),
            "GET",
            "/",
            &[("host", "localhost"), ("host", "localhost")]
        ));
        assert!(!passes(
            &guard(),
            "GET",
            "http://evil.example/",
            &[("host", "localhost")]
        ));
    }

    #[test]
    fn a_write_from_a_page_of_another_site_is_refused() {
        for (headers, expected) in [
            (&[][..], true),
            (&[("origin", "http://localhost:3000")], true),
            (&[("origin", "http://127.0.0.1:3000")], true),
            (&[("origin", "http://[::1]")], true),
            (&[("origin", "https://satchel.internal")], true),
            (&[("origin", "http://evil.example")], false),
            (&[("origin", "http://6.6.6.6")], false),
            (&[("origin", "null")], false),
            (&[("origin", "")], false),
            (
                &[
                    ("origin", "http://localhost"),
                    ("sec-fetch-site", "cross-site"),
                ],
                false,
            ),
            (&[("sec-fetch-site", "same-origin")], true),
        ] {
            let headers = [&[("host", "127.0.0.1:8080")], headers].concat();
            for method in ["POST", "PUT", "DELETE", "PATCH"] {
                assert_eq!(
                    passes(&guard(), method, "/", &headers),
                    expected,
                    "{method} {headers:?}"
                );
            }
            assert!(passes(&guard(), "GET", "/", &headers), "{headers:?}");
            // Reading a stream may make it.
            for method in ["GET", "HEAD", "POST"] {
                assert_eq!(
                    passes(&guard(), method, "/streams/orders", &headers),
                    expected,
                    "{method} {headers:?}"
                );
            }
        }
        let own_page = [
            ("host", "192.168.1.7:81"),
            ("origin", "http://192.168.1.7:81"),
        ];
        assert!(passes(&guard(), "POST", "/", &own_page));
    }

    #[test]
    fn only_pages_of_the_very_name_and_port_change_something() {
        for (origin, expected) in [
            (None, true),
            (Some("http://127.0.0.1:8081"), true),
            (Some("https://127.0.0.1:8081"), true),
            (Some("http://localhost:8081"), false),
            (Some("http://127.0.0.1:3000"), false),
            (Some("http://evil.example"), false),
            (Some("null"), false),
            (Some(""), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, "127.0.0.1:8081".parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().unwrap());
            }
            let checked = check_same_origin(&Uri::from_static("/"), &headers);
            assert_eq!(checked.is_ok(), expected, "{origin:?}");
        }
    }

    #[test]
    fn a_listener_for_others_checks_nothing() {
        let guard = Guard::of("0.0.0.0:8080".parse().unwrap(), []);
        let headers = [
            ("host", "satchel.example"),
            ("origin", "http://other.example"),
        ];
        assert!(passes(&guard, "POST", "/", &headers));
    }
}
