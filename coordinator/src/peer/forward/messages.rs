//! Forwarded requests and their answers, as messages between two processes.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use satchel_aws::lease::PeerPort;

use super::super::identity::NAME;
use super::{ANSWER_BYTES_MAX, CLIENT_HEADER, Elsewhere, NOT_MINE, OUTCOME_HEADER, OWNER_HEADER};

/// Headers that concern one connection, or that only the process checks which the client reached.
const OF_THE_CONNECTION: [HeaderName; 9] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Returns the headers that the other side of this process gets.
fn passed(headers: &HeaderMap) -> HeaderMap {
    let named = headers.get_all(header::CONNECTION).iter();
    let named = named.filter_map(|value| value.to_str().ok());
    let named: Vec<&str> = named
        .flat_map(|text| text.split(','))
        .map(str::trim)
        .collect();
    let passed = headers.iter().filter(|(name, _)| {
        let text = name.as_str();
        !OF_THE_CONNECTION.contains(name)
            && !text.starts_with("satchel-peer-")
            && !text.starts_with("proxy-")
            && text != "keep-alive"
            && !named.iter().any(|named| named.eq_ignore_ascii_case(text))
    });
    passed
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

pub(super) fn to_peer(request: &Elsewhere) -> Result<Request, axum::http::Error> {
    let path = request.parts.uri.path_and_query();
    let path = path.map_or("/", |path| path.as_str());
    let uri = Uri::builder()
        .scheme("https")
        .authority(NAME)
        .path_and_query(format!("{}{path}", request.surface))
        .build()?;
    let mut sent = axum::http::Request::builder()
        .method(request.parts.method.clone())
        .uri(uri)
        .body(Body::from(request.body.clone()))?;
    *sent.headers_mut() = passed(&request.parts.headers);
    if let Some(client) = request.client {
        let client = HeaderValue::try_from(client.address().to_string())?;
        sent.headers_mut().insert(CLIENT_HEADER, client);
    }
    Ok(sent)
}

/// Returns the whole answer of another process as one of this process: a client must not see the
/// beginning of an answer whose rest is lost.
pub(super) async fn from_peer(
    answer: axum::http::Response<Incoming>,
) -> Result<Response, axum::Error> {
    let (parts, body) = answer.into_parts();
    let body = to_bytes(Body::new(body), ANSWER_BYTES_MAX).await?;
    let mut response = (parts.status, body).into_response();
    *response.headers_mut() = passed(&parts.headers);
    Ok(response)
}

pub(super) fn not_mine(knows: Option<PeerPort>) -> Response {
    let mut response = StatusCode::MISDIRECTED_REQUEST.into_response();
    let headers = response.headers_mut();
    headers.insert(OUTCOME_HEADER, HeaderValue::from_static(NOT_MINE));
    let owner = knows.map(|knows| format!("{} {}", knows.address, knows.key));
    if let Some(Ok(owner)) = owner.map(HeaderValue::try_from) {
        headers.insert(OWNER_HEADER, owner);
    }
    response
}

pub(super) fn owner_of(headers: &HeaderMap) -> Option<PeerPort> {
    let owner = headers.get(OWNER_HEADER)?.to_str().ok()?;
    let (address, key) = owner.split_once(' ')?;
    Some(PeerPort {
        address: address.to_owned(),
        key: key.to_owned(),
    })
}
