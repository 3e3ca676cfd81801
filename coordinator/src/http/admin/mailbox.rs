//! Messages of an address: `GET /api/addresses/{namespace}/{name}/{id}/messages`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use satchel_engine::input::Administration;
use satchel_engine::output::{Answer, MailboxView, MessageView};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Admin, Shared, json_response, page_limit};
use crate::http::error::ApiError;
use crate::http::render::{Timer, json_or_base64};
use crate::http::target::{Target, query};
use crate::module::format_rfc3339;

/// Route of the messages.
pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new().route(
        "/api/addresses/{namespace}/{name}/{id}/messages",
        get(list_messages),
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MailboxQuery {
    after: Option<u64>,
    limit: Option<usize>,
}

async fn list_messages(
    State(admin): Shared,
    Target(address): Target,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    admin.allow_reading(&parts.headers)?;
    let MailboxQuery { after, limit } = query(&parts)?;
    let asked = Administration::ShowMailbox {
        address,
        after,
        limit: page_limit(limit)?,
    };
    match admin.ask(asked).await? {
        Answer::Mailbox(view) => {
            let body = MailboxBody::of(*view, after.is_none());
            Ok(json_response(StatusCode::OK, &body))
        }
        other => Err(ApiError::of_answer(other)),
    }
}

/// Page of a mailbox, and what the address waits for.
#[derive(Serialize)]
struct MailboxBody {
    messages: Vec<MessageBody>,
    next: Option<u64>,
    in_flight: Option<FlightBody>,
    /// Time of the next attempt after a failure.
    next_try: Option<String>,
    suspended_since: Option<String>,
    timers: Vec<Timer>,
    timers_total: usize,
}

#[derive(Serialize)]
struct FlightBody {
    messages: usize,
    since: String,
}

#[derive(Serialize)]
struct MessageBody {
    number: u64,
    id: String,
    /// `namespace/name/id` of the sender; null for a record of an ingress and for a send.
    caller: Option<String>,
    typename: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    /// Size of the value.
    bytes: usize,
    in_flight: bool,
    /// State that a person corrects by it; null for a message.
    corrects: Option<String>,
}

impl MailboxBody {
    /// `is_first` says that the page begins with the front of the mailbox, where messages in flight
    /// are.
    fn of(view: MailboxView, is_first: bool) -> Self {
        let in_flight = view.in_flight.filter(|_| is_first);
        let in_flight = in_flight.map_or(0, |flight| flight.messages);
        let next = view.messages.last().filter(|_| view.more);
        let next = next.map(|last| last.number);
        let messages = view.messages.into_iter().enumerate();
        Self {
            next,
            messages: messages
                .map(|(index, message)| MessageBody::of(message, index < in_flight))
                .collect(),
            in_flight: view.in_flight.map(|flight| FlightBody {
                messages: flight.messages,
                since: format_rfc3339(flight.since_ms),
            }),
            next_try: view.next_try_ms.map(format_rfc3339),
            suspended_since: view.suspended_since_ms.map(format_rfc3339),
            timers: view.timers.into_iter().map(Timer::of).collect(),
            timers_total: view.timers_total,
        }
    }
}

impl MessageBody {
    fn of(view: MessageView, in_flight: bool) -> Self {
        let (value, base64) = json_or_base64(&view.message.typename, &view.message.value);
        Self {
            number: view.number,
            id: view.id.to_string(),
            caller: view.caller.map(|caller| caller.to_string()),
            typename: view.message.typename,
            value,
            base64,
            bytes: view.message.value.len(),
            in_flight,
            corrects: view.corrects.map(|state| state.to_string()),
        }
    }
}
