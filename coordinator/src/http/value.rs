//! Typed values in requests and answers: the body has the raw bytes, a header the typename.

use std::fmt;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use percent_encoding::{CONTROLS, percent_encode};
use satchel_protocol::reqreply::TypedValue;
use satchel_protocol::types::{BuiltIn, JSON_TYPENAME, typed_value};
use serde::de::IgnoredAny;

use super::body::{BodyLimits, BodyShare};
use super::error::ApiError;

/// Header with the typename of a value.
pub(crate) const TYPENAME_HEADER: &str = "satchel-type";

/// Prefix of content types that contain a typename.
const VENDOR_PREFIX: &str = "application/vnd.";

/// Prefix of built-in types. Their values are protobuf, even where the bytes happen to be JSON
/// (`\r1234` is an `int`).
const BUILT_IN_PREFIX: &str = "io.statefun.types/";

/// Value of a request, with its share of the bytes in flight to the partitions.
///
/// Taking the value out returns the share.
#[derive(Debug)]
pub(crate) struct SentValue {
    value: TypedValue,
    _share: BodyShare,
}

impl From<SentValue> for TypedValue {
    fn from(sent: SentValue) -> Self {
        sent.value
    }
}

/// Reads the value of a request.
///
/// # Errors
///
/// 400 for an invalid typename or invalid JSON, 408, 413 and 503 beyond the limits.
pub(crate) async fn read_value(
    parts: &Parts,
    body: Body,
    limits: BodyLimits,
) -> Result<SentValue, ApiError> {
    let typename = typename(&parts.headers)?;
    let (bytes, share) = limits.read(&parts.extensions, body).await?;
    if typename == JSON_TYPENAME {
        check_json(&bytes)?;
    }
    Ok(SentValue {
        value: typed_value(typename, bytes),
        _share: share,
    })
}

/// Reads the value of a request to StateFun's playground: of the type that its content type names,
/// else text.
///
/// # Errors
///
/// As [`read_value`], and 400 for a text that is not UTF-8.
pub(crate) async fn read_text_or_value(
    parts: &Parts,
    body: Body,
    limits: BodyLimits,
) -> Result<SentValue, ApiError> {
    if vendor_typename(&parts.headers)?.is_some() {
        return read_value(parts, body, limits).await;
    }
    let (bytes, share) = limits.read(&parts.extensions, body).await?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        ApiError::bad_request(
            "invalid_text",
            format!(
                "the body is not UTF-8 text: {error}; a body of another type needs its typename, \
                 in content type application/vnd.<typename>"
            ),
        )
    })?;
    Ok(SentValue {
        value: typed_value(String::TYPENAME, text.to_owned().to_wire()),
        _share: share,
    })
}

/// Makes an answer of `value`.
pub(crate) fn value_response(value: TypedValue) -> Response {
    let typename = header_text(&value.typename);
    let content_type = if is_json(&value.typename, &value.value) {
        HeaderValue::from_static("application/json")
    } else if typename.is_empty() {
        HeaderValue::from_static("application/octet-stream")
    } else {
        header_value(&format!("{VENDOR_PREFIX}{typename}"))
    };
    let headers = [
        (CONTENT_TYPE.as_str(), content_type),
        (TYPENAME_HEADER, header_value(&typename)),
    ];
    (StatusCode::OK, headers, value.value).into_response()
}

/// Returns true if the bytes of a value are JSON text.
pub(crate) fn is_json(typename: &str, bytes: &[u8]) -> bool {
    !typename.starts_with(BUILT_IN_PREFIX) && check_json(bytes).is_ok()
}

/// Returns the only value of a header, if there is one.
///
/// # Errors
///
/// 400 if the header occurs several times, or contains other characters than visible ASCII and
/// blanks.
pub(crate) fn single_header<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(invalid_header(name, &"it occurs more than once"));
    }
    value
        .to_str()
        .map(|text| Some(text.trim()))
        .map_err(|_| invalid_header(name, &"it contains other than visible ASCII characters"))
}

/// 400: a header is invalid.
pub(crate) fn invalid_header(name: &str, why: &dyn fmt::Display) -> ApiError {
    ApiError::bad_request(
        "invalid_header",
        format!("the header {name} is invalid: {why}"),
    )
}

fn typename(headers: &HeaderMap) -> Result<String, ApiError> {
    if let Some(typename) = vendor_typename(headers)? {
        return named(CONTENT_TYPE.as_str(), typename);
    }
    match single_header(headers, TYPENAME_HEADER)? {
        Some(typename) => named(TYPENAME_HEADER, typename),
        None => Ok(JSON_TYPENAME.to_owned()),
    }
}

/// Returns the typename in the content type, if it has the prefix of one.
fn vendor_typename(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let content_type = single_header(headers, CONTENT_TYPE.as_str())?;
    Ok(content_type.and_then(|content_type| {
        let (prefix, typename) = content_type.split_at_checked(VENDOR_PREFIX.len())?;
        let typename = typename.split(';').next().unwrap_or_default().trim();
        prefix
            .eq_ignore_ascii_case(VENDOR_PREFIX)
            .then_some(typename)
    }))
}

fn named(header: &str, typename: &str) -> Result<String, ApiError> {
    if typename.is_empty() {
        return Err(invalid_header(header, &"its typename is empty"));
    }
    Ok(typename.to_owned())
}

fn check_json(bytes: &[u8]) -> Result<(), ApiError> {
    let invalid = |why: &dyn fmt::Display| {
        ApiError::bad_request(
            "invalid_json",
            format!(
                "the body is not JSON: {why}; a body of another type needs its typename, \
                 in content type application/vnd.<typename> or in header {TYPENAME_HEADER}"
            ),
        )
    };
    // The parser below skips strings without validating them as UTF-8.
    std::str::from_utf8(bytes).map_err(|error| invalid(&error))?;
    serde_json::from_slice::<IgnoredAny>(bytes)
        .map(|_| ())
        .map_err(|error| invalid(&error))
}

/// Converts `typename` to the text of a header. A function may use any text; control characters are
/// percent-encoded.
fn header_text(typename: &str) -> String {
    percent_encode(typename.as_bytes(), CONTROLS).to_string()
}

fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text)
        .expect("control characters and all beyond ASCII are percent-encoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn the_typename_is_read_from_the_raw_content_type_then_the_header_then_is_json() {
        for (pairs, expected) in [
            (&[][..], "satchel/json"),
            (&[("content-type", "application/json")], "satchel/json"),
            (
                &[("content-type", "application/x-www-form-urlencoded")],
                "satchel/json",
            ),
            (
                &[("content-type", "application/vnd.example/greet")],
                "example/greet",
            ),
            (
                &[(
                    "content-type",
                    "application/vnd.example/greet; charset=utf-8",
                )],
                "example/greet",
            ),
            (
                &[("content-type", "Application/VND.Example/Greet")],
                "Example/Greet",
            ),
            (
                &[("content-type", "application/vnd.io.statefun.types/int")],
                "io.statefun.types/int",
            ),
            (&[("satchel-type", "example/greet")], "example/greet"),
            (
                &[
                    ("content-type", "application/vnd.a/b"),
                    ("satchel-type", "c/d"),
                ],
                "a/b",
            ),
            (
                &[
                    ("content-type", "application/octet-stream"),
                    ("satchel-type", "c/d"),
                ],
                "c/d",
            ),
        ] {
            assert_eq!(
                typename(&headers(pairs)),
                Ok(expected.to_owned()),
                "{pairs:?}"
            );
        }
    }

    #[test]
    fn a_typename_that_is_empty_or_there_twice_is_refused() {
        for pairs in [
            &[("content-type", "application/vnd.")][..],
            &[("content-type", "application/vnd. ; charset=utf-8")],
            &[("satchel-type", "")],
            &[("satchel-type", "a/b"), ("satchel-type", "a/b")],
        ] {
            assert!(typename(&headers(pairs)).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn an_answer_always_carries_its_typename() {
        for (typename, value, content_type, header) in [
            (
                "satchel/json",
                &b"{\"a\":1}"[..],
                "application/json",
                "satchel/json",
            ),
            (
                "example/greeting",
                b" [1] ",
                "application/json",
                "example/greeting",
            ),
            (
                "example/raw",
                b"{",
                "application/vnd.example/raw",
                "example/raw",
            ),
            (
                "example/raw",
                b"\"\xff\"",
                "application/vnd.example/raw",
                "example/raw",
            ),
            (
                "io.statefun.types/int",
                b"\r1234",
                "application/vnd.io.statefun.types/int",
                "io.statefun.types/int",
            ),
            (
                "io.statefun.types/int",
                b"",
                "application/vnd.io.statefun.types/int",
                "io.statefun.types/int",
            ),
            ("", b"", "application/octet-stream", ""),
            (
                "a\r\nb: \u{e9}",
                b"x",
                "application/vnd.a%0D%0Ab: %C3%A9",
                "a%0D%0Ab: %C3%A9",
            ),
        ] {
            let response = value_response(typed_value(typename, value.to_vec()));
            assert_eq!(
                response.headers()["content-type"],
                content_type,
                "{typename}"
            );
            assert_eq!(response.headers()["satchel-type"], header, "{typename}");
        }
    }
}
