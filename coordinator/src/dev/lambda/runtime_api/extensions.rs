//! The Extensions API, for extensions inside the handler process, such as the one that
//! `lambda_runtime`'s graceful shutdown registers.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use super::{ReadBody, Session, Shared, accepted, broken, epoch_ms, function_error, read, refusal};

/// Header with the identifier of a registered extension.
const IDENTIFIER: &str = "lambda-extension-identifier";

/// Maximum number of events queued for an extension.
const EVENTS_MAX: usize = 64;

/// Extensions of one process.
#[derive(Default)]
pub(super) struct Extensions(Mutex<HashMap<Uuid, Extension>>);

struct Extension {
    events: Vec<EventKind>,
    send: mpsc::Sender<Value>,
    /// None while a call waits on it.
    receive: Option<mpsc::Receiver<Value>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum EventKind {
    Invoke,
    Shutdown,
}

impl Extensions {
    pub(super) fn announce_invoke(&self, request: &str, deadline_ms: &str, arn: &str, trace: &str) {
        self.announce(EventKind::Invoke, || {
            json!({
                "eventType": "INVOKE",
                "deadlineMs": deadline_ms.parse::<u64>().unwrap_or(u64::MAX),
                "requestId": request,
                "invokedFunctionArn": arn,
                "tracing": {"type": "X-Amzn-Trace-Id", "value": trace},
            })
        });
    }

    pub(super) fn announce_shutdown(&self, grace: Duration) {
        let deadline = epoch_ms(Instant::now() + grace);
        self.announce(EventKind::Shutdown, || {
            json!({
                "eventType": "SHUTDOWN",
                "shutdownReason": "spindown",
                "deadlineMs": u64::try_from(deadline).unwrap_or(u64::MAX),
            })
        });
    }

    fn announce(&self, kind: EventKind, event: impl Fn() -> Value) {
        for extension in self.lock().values() {
            if extension.events.contains(&kind) && extension.send.try_send(event()).is_err() {
                tracing::debug!(
                    ?kind,
                    "events of an extension dropped; it does not fetch them"
                );
            }
        }
    }

    fn register(&self, events: Vec<EventKind>) -> Uuid {
        let identifier = Uuid::new_v4();
        let (send, receive) = mpsc::channel(EVENTS_MAX);
        let extension = Extension {
            events,
            send,
            receive: Some(receive),
        };
        self.lock().insert(identifier, extension);
        identifier
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Extension>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) async fn register(State(session): Shared, headers: HeaderMap, body: Body) -> Response {
    #[derive(Deserialize)]
    struct Registration {
        #[serde(default)]
        events: Vec<EventKind>,
    }
    if !headers.contains_key("lambda-extension-name") {
        return refusal(
            StatusCode::BAD_REQUEST,
            "Extension.InvalidExtensionName",
            "the header Lambda-Extension-Name is missing",
        );
    }
    let ReadBody::Whole(body) = read(body).await else {
        return broken();
    };
    let registration = match serde_json::from_slice::<Registration>(&body) {
        Ok(registration) => registration,
        Err(error) => {
            return refusal(
                StatusCode::BAD_REQUEST,
                "Extension.InvalidEventType",
                &error.to_string(),
            );
        }
    };
    let identifier = session.extensions.register(registration.events);
    let about = json!({
        "functionName": session.function.name(),
        "functionVersion": "$LATEST",
        "handler": session.function.name(),
    });
    let headers = [
        (IDENTIFIER, identifier.to_string()),
        ("content-type", "application/json".to_owned()),
    ];
    (headers, about.to_string()).into_response()
}

/// Waits for an event for the extension.
pub(super) async fn next(State(session): Shared, headers: HeaderMap) -> Response {
    let (identifier, receive) = match session.receiver_of(&headers) {
        Ok(found) => found,
        Err(refusal) => return *refusal,
    };
    let mut receive = Returned {
        extensions: &session.extensions,
        identifier,
        receive: Some(receive),
    };
    let event = match &mut receive.receive {
        Some(events) => events.recv().await,
        None => None,
    };
    match event {
        Some(event) => {
            let headers = [
                (
                    "lambda-extension-event-identifier",
                    Uuid::new_v4().to_string(),
                ),
                ("content-type", "application/json".to_owned()),
            ];
            (headers, event.to_string()).into_response()
        }
        // The sender lives as long as the calling process.
        None => std::future::pending().await,
    }
}

pub(super) async fn init_error(State(session): Shared, headers: HeaderMap, body: Body) -> Response {
    let error = match read(body).await {
        ReadBody::Whole(body) => function_error(&headers, body, "Extension.InitError"),
        ReadBody::TooLarge { .. } | ReadBody::Broken => return broken(),
    };
    session.init_failed(format!("its extension failed: {error}"));
    accepted()
}

pub(super) async fn exit_error(State(session): Shared, headers: HeaderMap, body: Body) -> Response {
    let error = match read(body).await {
        ReadBody::Whole(body) => function_error(&headers, body, "Extension.ExitError"),
        ReadBody::TooLarge { .. } | ReadBody::Broken => return broken(),
    };
    tracing::warn!(function = session.function.name(), %error, "extension of a handler failed");
    accepted()
}

impl Session {
    /// Takes the events of the extension that the headers name, until they are returned.
    fn receiver_of(
        &self,
        headers: &HeaderMap,
    ) -> Result<(Uuid, mpsc::Receiver<Value>), Box<Response>> {
        let forbidden =
            |kind: &str, message: &str| Box::new(refusal(StatusCode::FORBIDDEN, kind, message));
        let Some(identifier) = headers.get(IDENTIFIER) else {
            return Err(forbidden(
                "Extension.MissingExtensionIdentifier",
                "the header Lambda-Extension-Identifier is missing",
            ));
        };
        let identifier = identifier.to_str().ok().and_then(|text| text.parse().ok());
        let mut extensions = self.extensions.lock();
        let extension =
            identifier.and_then(|identifier| Some((identifier, extensions.get_mut(&identifier)?)));
        let Some((identifier, extension)) = extension else {
            return Err(forbidden(
                "Extension.UnknownExtensionIdentifier",
                "no extension of this process has registered under this identifier",
            ));
        };
        match extension.receive.take() {
            Some(receive) => Ok((identifier, receive)),
            None => Err(forbidden(
                "Extension.InvalidExtensionState",
                "another call of this extension waits for its next event",
            )),
        }
    }
}

/// Returns the events when the call that waits on them ends in any way. The extension calls again.
struct Returned<'a> {
    extensions: &'a Extensions,
    identifier: Uuid,
    receive: Option<mpsc::Receiver<Value>>,
}

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        if let Some(extension) = self.extensions.lock().get_mut(&self.identifier) {
            extension.receive = self.receive.take();
        }
    }
}
