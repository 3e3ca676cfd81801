//! Web pages, which reach loopback ports on behalf of whoever wrote them.

use axum::http::HeaderMap;
use axum::http::header::ORIGIN;

/// What a web page is told that sent a request to a port for programs.
pub const REFUSAL: &str = "a web page sent this request; only programs may call this port";

/// Whether a web page sent a request with these headers, of whatever site: browsers say so, programs do not. A person who types the
/// address into a browser is no page.
pub fn sent_by_a_page(headers: &HeaderMap) -> bool {
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
            assert_eq!(sent_by_a_page(&headers), page, "{header:?}");
        }
    }
}
