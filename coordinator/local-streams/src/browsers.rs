//! Requests from web pages, which a browser sends to loopback ports on behalf of any site.

use axum::http::HeaderMap;
use axum::http::header::ORIGIN;

/// Error text for a web page that sent a request to a port for programs.
pub const REFUSAL: &str = "a web page sent this request; only programs may call this port";

/// True if a web page of any site sent a request with these headers. Browsers mark such requests,
/// programs do not. An address typed into a browser does not count as a page.
pub fn is_from_web_page(headers: &HeaderMap) -> bool {
    let sites = headers.get_all("sec-fetch-site");
    headers.contains_key(ORIGIN) || sites.iter().any(|site| site.as_bytes() != b"none")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn pages_are_known_by_what_browsers_say_of_them() {
        for (header, page) in [
            (("origin", "https://evil.example"), true),
            (("origin", "null"), true),
            (("origin", "http://localhost:3000"), true),
            (("sec-fetch-site", "cross-site"), true),
            (("sec-fetch-site", "same-origin"), true),
            (("sec-fetch-site", "none"), false),
            (("user-agent", "aws-sdk"), false),
        ] {
            let headers = HeaderMap::from_iter([(
                header.0.parse().unwrap(),
                HeaderValue::from_static(header.1),
            )]);
            assert_eq!(is_from_web_page(&headers), page, "{header:?}");
        }
    }
}
