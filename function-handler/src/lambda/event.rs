//! Payload of a Lambda request, and its HTTP form.

use std::borrow::Cow;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use satchel_protocol::bundle::{BundleRequest, EnvelopeError};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::RESPONSE_BYTES_MAX;
use crate::batches::Batches;
use crate::http::{self, CONTENT_TYPE};

/// A Lambda request. Its fields distinguish the forms.
#[derive(Debug)]
pub(super) enum Event<'a> {
    Bundle(BundleRequest),
    Http(HttpRequest<'a>),
}

/// Error of a payload that has none of the known forms.
#[derive(Debug, thiserror::Error)]
pub(super) enum EventError {
    #[error("the request is not a JSON object: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error("the request is neither a bundle (it has no field `satchel`) nor an HTTP request")]
    Unknown,
}

/// HTTP request in the form of API Gateway and Function URLs.
#[derive(Debug)]
pub(super) struct HttpRequest<'a> {
    method: Cow<'a, str>,
    body: Cow<'a, str>,
    is_base64: bool,
}

/// HTTP response in the form of API Gateway and Function URLs.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HttpResponse {
    status_code: u16,
    headers: Headers,
    body: String,
    is_base64_encoded: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Headers {
    content_type: &'static str,
    /// Decimal; API Gateway takes header values as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    satchel_terminal_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    satchel_terminal_index: Option<String>,
}

/// Fields that distinguish the forms, and fields of the HTTP forms.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    satchel: Option<serde::de::IgnoredAny>,
    #[serde(borrow)]
    request_context: Option<RequestContext<'a>>,
    /// Payload version 1.
    #[serde(borrow)]
    http_method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    body: Option<Cow<'a, str>>,
    is_base64_encoded: Option<bool>,
}

#[derive(Deserialize)]
struct RequestContext<'a> {
    /// Payload version 2, and Function URLs.
    #[serde(borrow)]
    http: Option<RequestContextHttp<'a>>,
}

#[derive(Deserialize)]
struct RequestContextHttp<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
}

impl<'a> Event<'a> {
    pub(super) fn read(payload: &'a str) -> Result<Self, EventError> {
        // A coordinator writes this field first, so its payloads are read only once.
        if payload.trim_ascii_start().starts_with(r#"{"satchel""#) {
            return Ok(Self::Bundle(BundleRequest::from_json(payload.as_bytes())?));
        }
        let fields: Fields<'a> = serde_json::from_str(payload)?;
        if fields.satchel.is_some() {
            return Ok(Self::Bundle(BundleRequest::from_json(payload.as_bytes())?));
        }
        let method = fields
            .request_context
            .and_then(|context| context.http)
            .map(|http| http.method)
            .or(fields.http_method)
            .ok_or(EventError::Unknown)?;
        Ok(Self::Http(HttpRequest {
            method,
            body: fields.body.unwrap_or_default(),
            is_base64: fields.is_base64_encoded.unwrap_or(false),
        }))
    }
}

impl HttpRequest<'_> {
    /// Serves the one batch inside.
    pub(super) async fn answer(self, batches: &Batches, cutoff: Option<Instant>) -> HttpResponse {
        let body = if self.is_base64 {
            match STANDARD.decode(self.body.as_bytes()) {
                Ok(body) => Bytes::from(body),
                Err(error) => {
                    return http::Answer::text(
                        StatusCode::BAD_REQUEST,
                        format!("invalid_request: the body is not base64: {error}"),
                    )
                    .into();
                }
            }
        } else {
            Bytes::copy_from_slice(self.body.as_bytes())
        };
        http::answer_plain(batches, &self.method, body, cutoff)
            .await
            .into()
    }
}

impl From<http::Answer> for HttpResponse {
    fn from(answer: http::Answer) -> Self {
        let is_base64_encoded = answer.content_type == CONTENT_TYPE;
        let body = if is_base64_encoded {
            STANDARD.encode(&answer.body)
        } else {
            String::from_utf8_lossy(&answer.body).into_owned()
        };
        // The JSON around the body is smaller than 1 KiB.
        if body.len() + 1024 > RESPONSE_BYTES_MAX {
            return http::Answer::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!(
                    "response_too_large: the response has {} bytes in base64, \
                     Lambda allows {RESPONSE_BYTES_MAX}",
                    body.len()
                ),
            )
            .into();
        }
        let terminal = answer.terminal;
        Self {
            status_code: answer.status.as_u16(),
            headers: Headers {
                content_type: answer.content_type,
                satchel_terminal_error: terminal.map(|terminal| terminal.code.to_string()),
                satchel_terminal_index: terminal
                    .and_then(|terminal| terminal.index)
                    .map(|index| index.to_string()),
            },
            body,
            is_base64_encoded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(payload: &str) -> String {
        match Event::read(payload) {
            Ok(Event::Bundle(request)) => format!("bundle {}", request.bundle),
            Ok(Event::Http(request)) => format!("http {}", request.method),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_fields_distinguish_the_forms() {
        assert_eq!(
            read(r#"{"satchel":1,"bundle":"b1","batches":[]}"#),
            "bundle b1"
        );
        assert_eq!(
            read(
                r#"{"version":"2.0","requestContext":{"http":{"method":"POST"}},
                    "body":"","isBase64Encoded":true}"#
            ),
            "http POST"
        );
        assert_eq!(
            read(r#"{"httpMethod":"GET","requestContext":{"stage":"x"},"body":null}"#),
            "http GET"
        );
    }

    #[test]
    fn another_payload_is_rejected_by_what_it_lacks() {
        assert_eq!(
            read("{}"),
            "the request is neither a bundle (it has no field `satchel`) nor an HTTP request"
        );
        assert_eq!(
            read(r#"{"satchel":9}"#),
            "the bundle has version 9, this side understands version 1"
        );
        assert!(read("[1]").starts_with("the request is not a JSON object: "));
    }

    #[test]
    fn an_answer_has_the_form_of_the_proxy_integration() {
        let response = HttpResponse::from(http::Answer {
            status: StatusCode::OK,
            content_type: CONTENT_TYPE,
            terminal: None,
            body: vec![1, 2, 3],
        });
        assert_eq!(
            serde_json::to_string(&response).unwrap(),
            concat!(
                r#"{"statusCode":200,"headers":{"content-type":"application/octet-stream"},"#,
                r#""body":"AQID","isBase64Encoded":true}"#
            )
        );
    }

    #[test]
    fn an_answer_over_lambdas_limit_becomes_an_error() {
        let response = HttpResponse::from(http::Answer {
            status: StatusCode::OK,
            content_type: CONTENT_TYPE,
            terminal: None,
            body: vec![0; 5 << 20],
        });
        assert_eq!(response.status_code, 500);
        assert!(response.body.starts_with("response_too_large: "));
    }
}
