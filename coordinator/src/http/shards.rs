//! Positions of the shards that the partitions read: `GET /api/shards`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use satchel_engine::position::{ShardId, ShardPosition};
use serde::{Deserialize, Serialize};

use super::admin::{Admin, Shared, page_limit};
use super::components::{Page, Paging};
use super::error::ApiError;
use super::target::query;
use crate::module::format_rfc3339;
use crate::readiness::Readiness;

/// Route of the positions.
pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new().route("/api/shards", get(list_shards))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShardQuery {
    ingress: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

async fn list_shards(State(admin): Shared, request: Request) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    admin.allow_reading(&parts.headers)?;
    let query: ShardQuery = query(&parts)?;
    ApiError::not_serving(*admin.readiness.borrow())?;
    let paging = Paging {
        after: query.after,
        limit: page_limit(query.limit)?,
    };
    let found = admin.observed(|partition| partition.shard_positions());
    let found = found.await?.into_iter().flat_map(|(partition, shards)| {
        let shards = shards.into_iter();
        shards.map(move |(shard, position)| (shard, partition, position))
    });
    let wanted = |shard: &ShardId| match &query.ingress {
        Some(ingress) => *shard.ingress == **ingress,
        None => true,
    };
    // The partition that reads a shard of another one's stream lists it.
    let mut found: Vec<_> = found
        .filter(|(shard, _, position)| wanted(shard) && *position != ShardPosition::Elsewhere)
        .collect();
    found.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
    let (page, next) = paging.of(found)?;
    let bodies = page.into_iter().map(|shard| ShardBody::of(&admin, shard));
    Ok(Page::of("shards", bodies.collect(), next))
}

/// A shard and how far it is applied.
#[derive(Serialize)]
struct ShardBody {
    /// Partition and shard: a shard that was read to its end may be known to two partitions.
    id: String,
    ingress: String,
    stream: String,
    shard: String,
    /// Partition that reads it.
    partition: u32,
    /// `reads`, `paused`, `held`, `stopped` or `ended`.
    state: &'static str,
    position: PositionBody,
    lag_seconds: Option<f64>,
}

/// Applied position.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum PositionBody {
    Beginning,
    Since {
        at: String,
    },
    After {
        sequence: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        sub_sequence: Option<u64>,
    },
    End,
}

impl ShardBody {
    fn of(admin: &Admin, (shard, partition, position): (ShardId, u32, ShardPosition)) -> Self {
        let status = admin.metrics.status();
        let stoppages = admin.stoppages.borrow();
        let mut paused = stoppages.paused_ingresses.iter();
        let stopped = admin.sources.stopped();
        // A source is named with its kind, such as `stream names`.
        let is_stopped = stopped.iter().any(|source| {
            let stream = source.id.name.split_once(' ').map(|(_, stream)| stream);
            source.id.ingress == shard.ingress && stream == Some(&*shard.stream)
        });
        let state = match position {
            ShardPosition::End => "ended",
            _ if *admin.readiness.borrow() == Readiness::Held => "held",
            _ if is_stopped => "stopped",
            _ if status.pause().is_some() || paused.any(|it| *it.name == *shard.ingress) => {
                "paused"
            }
            _ => "reads",
        };
        let lag_ms = status.shard_lag_ms(&shard.ingress, &shard.shard);
        let lag_ms = lag_ms.filter(|_| state != "ended");
        Self {
            id: format!("{partition} {shard}"),
            ingress: shard.ingress.to_string(),
            stream: shard.stream.to_string(),
            shard: shard.shard.to_string(),
            partition,
            state,
            position: PositionBody::of(position),
            lag_seconds: lag_ms.map(|lag_ms| lag_ms as f64 / 1_000.0),
        }
    }
}

impl PositionBody {
    fn of(position: ShardPosition) -> Self {
        match position {
            ShardPosition::Beginning => Self::Beginning,
            ShardPosition::Since { time_ms } => Self::Since {
                at: format_rfc3339(time_ms),
            },
            ShardPosition::After {
                sequence,
                sub_sequence,
            }
            | ShardPosition::Quiet {
                sequence,
                sub_sequence,
                ..
            } => Self::After {
                sequence: sequence.to_string(),
                // The highest number stands for all records under the sequence number.
                sub_sequence: Some(sub_sequence).filter(|it| (1..u64::MAX).contains(it)),
            },
            ShardPosition::End | ShardPosition::Elsewhere => Self::End,
        }
    }
}
