//! Addresses in paths: `…/{namespace}/{name}/{id}`.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use satchel_engine::address::{Address, FunctionType};

use super::error::ApiError;

/// Address in a path, with percent-decoded parts: an id or a namespace may contain `/` as `%2F`.
#[derive(Debug)]
pub(crate) struct Target(pub(crate) Address);

impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let params = PathParams::from_request_parts(parts, state).await?;
        let empty = ["namespace", "name", "id"]
            .into_iter()
            .find(|part| params.get(part).is_empty());
        if let Some(part) = empty {
            return Err(ApiError::bad_request(
                "invalid_address",
                format!("the {part} in the path is empty; an address is namespace/name/id"),
            ));
        }
        let name = params.get("name");
        if name.contains('/') {
            return Err(ApiError::bad_request(
                "invalid_address",
                format!("the function name {name:?} contains a `/`; only namespaces and ids may"),
            ));
        }
        if !FunctionType::is_segment(name) {
            return Err(ApiError::bad_request(
                "invalid_address",
                format!("no function is named {name:?}"),
            ));
        }
        let function = FunctionType::new(params.get("namespace"), name);
        Ok(Self(Address::new(function, params.get("id"))))
    }
}

/// Parameters of a path, percent-decoded.
#[derive(Debug)]
pub(crate) struct PathParams(RawPathParams);

impl PathParams {
    /// Returns the parameter `name` of the matched route.
    pub(crate) fn get(&self, name: &str) -> &str {
        // A route without this parameter yields an empty one, which is no valid name.
        self.0
            .iter()
            .find_map(|(key, value)| (key == name).then_some(value))
            .unwrap_or_default()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathParams {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        match RawPathParams::from_request_parts(parts, state).await {
            Ok(params) => Ok(Self(params)),
            Err(rejection) => Err(ApiError::bad_request(
                "invalid_path",
                format!("the path cannot be decoded: {}", rejection.body_text()),
            )),
        }
    }
}

/// Parses the parameters of a query as the fields of `Q`.
///
/// # Errors
///
/// 400 for unknown or malformed parameters.
pub(crate) fn query<Q: serde::de::DeserializeOwned>(parts: &Parts) -> Result<Q, ApiError> {
    axum::extract::Query::try_from_uri(&parts.uri)
        .map(|axum::extract::Query(query)| query)
        .map_err(|rejection| {
            let text = rejection.body_text();
            ApiError::bad_request("invalid_query", text)
        })
}
