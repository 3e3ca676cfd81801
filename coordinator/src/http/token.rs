//! Secrets that let requests in.

use std::fmt;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::error::ApiError;

/// A secret that whoever asks must show, as `Authorization: Bearer …`; never printed, and compared in constant time.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// The token whose text is `secret`. An empty text would be no secret.
    pub fn new(secret: &str) -> Option<Self> {
        (!secret.is_empty()).then(|| Self(digest(secret.as_bytes())))
    }

    /// Lets a request with these headers in; `what` it wants to do is for the person who reads the refusal.
    pub(crate) fn authorize(&self, headers: &HeaderMap, what: &str) -> Result<(), ApiError> {
        let unauthorized =
            |why: String| Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", why));
        match bearer(headers) {
            None => unauthorized(format!(
                "{what} over this port needs the token, as `Authorization: Bearer …`"
            )),
            Some(shown) if !self.is(shown) => {
                unauthorized("the token is not the right one".to_owned())
            }
            Some(_) => Ok(()),
        }
    }

    /// Whether `shown` is the token; takes the same time whatever is shown, because digests are compared and not texts.
    fn is(&self, shown: &[u8]) -> bool {
        self.0.ct_eq(&digest(shown)).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Serves `routes` only to those who show the token; to everybody if there is none.
pub fn behind(token: Option<Token>, routes: Router) -> Router {
    match token {
        Some(token) => routes.layer(from_fn_with_state(token, demand)),
        None => routes,
    }
}

async fn demand(State(token): State<Token>, request: Request, next: Next) -> Response {
    match token.authorize(request.headers(), "what is asked") {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn digest(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}
