//! Where the partitions are, for people: `GET /api/members`, and what people may change.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::sync::watch;

use super::{Membership, Stage};
use crate::clock::boot_ms;

/// What this process knows of the application's processes.
pub(in crate::run) type SharedView = watch::Sender<Option<Arc<MembersBody>>>;

/// Processes and partitions of an application.
#[derive(Debug, Serialize)]
pub(in crate::run) struct MembersBody {
    /// Id of the process that answers.
    process: Arc<str>,
    members: Vec<MemberBody>,
    partitions: Vec<PlaceBody>,
}

#[derive(Debug, Serialize)]
struct MemberBody {
    process: Arc<str>,
    peer: String,
    weight: u32,
    draining: bool,
    /// Time since its counter moved, as this process sees it, in ms.
    silent_ms: Option<u64>,
    partitions: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct PlaceBody {
    partition: u32,
    owner: Option<Arc<str>>,
    /// Stage in the process that answers, if it owns the partition.
    stage: Option<&'static str>,
    released: bool,
    since_ms: u64,
    claims: u64,
    offered_to: Option<Arc<str>>,
    pinned_to: Option<Arc<str>>,
    frozen: bool,
}

/// Routes `GET /api/members`: the processes of the application and where its partitions are, as
/// this process knows them.
pub(in crate::run) fn routes(view: &SharedView) -> Router {
    Router::new()
        .route("/api/members", get(members))
        .with_state(view.subscribe())
}

async fn members(State(view): State<watch::Receiver<Option<Arc<MembersBody>>>>) -> Response {
    let known = view.borrow().clone();
    match known.map(|known| serde_json::to_vec(&*known)) {
        Some(Ok(body)) => ([(CONTENT_TYPE, "application/json")], body).into_response(),
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

impl Membership<'_> {
    /// Shows where the partitions are.
    pub(super) fn show(&self) {
        let Some((roster, _)) = &self.roster else {
            return;
        };
        let now_ms = boot_ms();
        let owned = |id: &Arc<str>| {
            let items = roster.partitions.iter();
            let owned = items.filter(|item| !item.released && item.owner.as_ref() == Some(id));
            owned.map(|item| item.number).collect()
        };
        let members = roster.members.iter().map(|member| MemberBody {
            process: Arc::clone(&member.id),
            peer: member.peer.address.clone(),
            weight: member.weight,
            draining: member.draining,
            silent_ms: self
                .counters
                .get(&member.id)
                .map(|(_, since_ms)| now_ms.saturating_sub(*since_ms)),
            partitions: owned(&member.id),
        });
        let partitions = roster.partitions.iter().map(|item| PlaceBody {
            partition: item.number,
            owner: item.owner.clone(),
            stage: self.lives.get(&item.number).map(|life| match life.stage {
                Stage::Arriving => "arriving",
                Stage::Serving => "serving",
                Stage::Leaving => "leaving",
            }),
            released: item.released,
            since_ms: item.since_ms,
            claims: item.claims,
            offered_to: item.offer.as_ref().map(|offer| Arc::clone(&offer.to)),
            pinned_to: item.pinned.clone(),
            frozen: item.frozen,
        });
        self.view.send_replace(Some(Arc::new(MembersBody {
            process: Arc::clone(&self.me.id),
            members: members.collect(),
            partitions: partitions.collect(),
        })));
    }
}
