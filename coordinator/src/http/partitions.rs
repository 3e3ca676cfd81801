//! Partitions of this process: `GET /api/partitions`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use satchel_engine::partition::{Counts, Gauges};
use serde::Serialize;

use super::admin::{Admin, Shared, json_response};
use super::error::ApiError;
use crate::requests::Requests;

/// Route of the list.
pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new().route("/api/partitions", get(list))
}

#[derive(Serialize)]
struct Partitions {
    partitions: Vec<PartitionBody>,
}

/// A partition: its range, what waits in it, and what it has done since its owner took it over.
#[derive(Serialize)]
struct PartitionBody {
    partition: u32,
    /// First and last key group.
    key_groups: [u16; 2],
    sealed: u64,
    durable: u64,
    in_flight: usize,
    pending_bytes: usize,
    outbox: usize,
    timers: usize,
    dead_letters: usize,
    state_bytes: usize,
    processed: u64,
    sent_to_peers: u64,
    taken_from_peers: u64,
    peer_waiting_bytes: usize,
    paused: bool,
}

async fn list(State(admin): Shared, request: Request) -> Result<Response, ApiError> {
    admin.allow_reading(request.headers())?;
    let readiness = *admin.readiness.borrow();
    ApiError::not_serving(readiness)?;
    let observed = admin.observed(|partition| (partition.gauges(), partition.counts().clone()));
    let partitions = observed.await?.into_iter();
    let partitions = partitions.map(|(partition, (gauges, counts))| {
        PartitionBody::of(&admin.requests, partition, &gauges, &counts)
    });
    let partitions = partitions.collect();
    Ok(json_response(StatusCode::OK, &Partitions { partitions }))
}

impl PartitionBody {
    fn of(requests: &Requests, partition: u32, gauges: &Gauges, counts: &Counts) -> Self {
        let range = requests.range_of(partition);
        let range = range.map(|range| [range.first().0, range.end() - 1]);
        Self {
            partition,
            // The only partition has all of them.
            key_groups: range.unwrap_or_else(|| {
                let last = gauges.buckets.saturating_sub(1);
                [0, u16::try_from(last).unwrap_or(u16::MAX)]
            }),
            sealed: gauges.sealed,
            durable: gauges.durable,
            in_flight: gauges.in_flight,
            pending_bytes: gauges.pending_bytes,
            outbox: gauges.outbox,
            timers: gauges.timers,
            dead_letters: gauges.dead_letters,
            state_bytes: gauges.state_bytes,
            processed: counts.processed,
            sent_to_peers: counts.sent_to_peers,
            taken_from_peers: counts.taken_from_peers,
            peer_waiting_bytes: gauges.peer_bytes,
            paused: gauges.ingress_paused,
        }
    }
}
