//! Bearer tokens.

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

/// Secret that requests must carry as `Authorization: Bearer …`. It is never printed, and compared
/// in constant time.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// Creates the token with the text `secret`, which must not be empty.
    pub fn new(secret: &str) -> Option<Self> {
        (!secret.is_empty()).then(|| Self(digest(secret.as_bytes())))
    }

    /// Checks the token of a request with these headers. `what` describes the request, for the
    /// error message.
    pub(crate) fn authorize(&self, headers: &HeaderMap, what: &str) -> Result<(), ApiError> {
        let unauthorized =
            |why: String| Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", why));
        match bearer(headers) {
            None => unauthorized(format!(
                "{what} over this port needs the token, as `Authorization: Bearer …`"
            )),
            Some(shown) if !self.is(shown) => unauthorized("the token is wrong".to_owned()),
            Some(_) => Ok(()),
        }
    }

    /// Returns true if `shown` is the token. Compares digests, so that the time does not depend on
    /// the text.
    fn is(&self, shown: &[u8]) -> bool {
        self.0.ct_eq(&digest(shown)).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Requires the token for `routes`, if there is one.
pub fn behind(token: Option<Token>, routes: Router) -> Router {
    match token {
        Some(token) => routes.layer(from_fn_with_state(token, demand)),
        None => routes,
    }
}

async fn demand(State(token): State<Token>, request: Request, next: Next) -> Response {
    match token.authorize(request.headers(), "this request") {
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
