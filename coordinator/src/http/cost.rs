//! The bill of the running application: `GET /api/cost`.
//!
//! Each process gives its own figures. The process that a client reached computes the bill of all.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use serde::{Deserialize, Serialize};

use super::admin::{Admin, Shared, json_response};
use super::error::ApiError;
use super::target::query;
use crate::cost::{CostAssumptions, CostSettings, Observed, ObservedCosts, bill};
use crate::metrics::{self, Span};
use crate::module::format_rfc3339;

/// Maximum of `?function_memory=`, in MB: that of Lambda.
const FUNCTION_MEMORY_MAX: f64 = 10_240.0;

/// Maximum of `?tasks=`.
const TASKS_MAX: u32 = 1_000;

/// Route of the bill.
pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new().route("/api/cost", get(show))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CostQuery {
    over: Option<Over>,
    function_memory: Option<f64>,
    tasks: Option<u32>,
}

/// Span of the counts.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Over {
    /// Since midnight (UTC), or the start of the process.
    Today,
    /// The last five minutes.
    Recent,
}

/// Bill, and the figures of each process.
#[derive(Serialize)]
pub(crate) struct CostBody {
    #[serde(flatten)]
    costs: Option<ObservedCosts>,
    processes: Vec<Observed>,
}

impl CostQuery {
    fn assumptions(&self) -> Result<CostAssumptions, ApiError> {
        let usual = CostAssumptions::default();
        let memory = self.function_memory.unwrap_or(usual.function_memory_mb);
        let tasks = self.tasks.unwrap_or(usual.tasks);
        if !(1.0..=FUNCTION_MEMORY_MAX).contains(&memory) {
            let message =
                format!("function_memory={memory} is not from 1 to {FUNCTION_MEMORY_MAX} MB");
            return Err(ApiError::bad_request("invalid_query", message));
        }
        if tasks > TASKS_MAX {
            let message = format!("tasks={tasks} is more than {TASKS_MAX}");
            return Err(ApiError::bad_request("invalid_query", message));
        }
        Ok(CostAssumptions {
            function_memory_mb: memory,
            tasks,
        })
    }
}

async fn show(State(admin): Shared, request: Request) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    admin.allow_reading(&parts.headers)?;
    let query: CostQuery = query(&parts)?;
    let given = query.assumptions()?;
    ApiError::not_serving(*admin.readiness.borrow())?;
    let span = match query.over {
        Some(Over::Recent) => Span::Recent,
        Some(Over::Today) | None => Span::Today,
    };
    let processes: Vec<Observed> = admin.observed_costs(span).await?.into_iter().collect();
    Ok(json_response(
        StatusCode::OK,
        &whole(processes, given).await,
    ))
}

/// Computes the bill of all processes from the answers of each to the same request.
#[cfg(feature = "aws")]
pub(crate) async fn of_all(
    processes: Vec<Observed>,
    parts: &axum::http::request::Parts,
) -> CostBody {
    // The own answer has checked the query.
    let query = query::<CostQuery>(parts).ok();
    let given = query.and_then(|query| query.assumptions().ok());
    whole(processes, given.unwrap_or_default()).await
}

/// The model takes some milliseconds, in which other requests must not wait.
async fn whole(processes: Vec<Observed>, given: CostAssumptions) -> CostBody {
    let computed = tokio::task::spawn_blocking(move || CostBody {
        costs: bill(&processes, given),
        processes,
    });
    computed.await.expect("the model does not panic")
}

impl Admin {
    /// Returns the figures of this process; none before its state is open.
    async fn observed_costs(&self, span: Span) -> Result<Option<Observed>, ApiError> {
        let Some(settings) = self.metrics.cost_settings() else {
            return Ok(None);
        };
        let gauges = self.observed(|partition| partition.gauges()).await?;
        let gauges = metrics::total(gauges.iter().map(|(_, gauges)| gauges));
        let metered = self.metrics.metered(span);
        let ms = metered.now_ms.saturating_sub(metered.since_ms);
        Ok(Some(Observed {
            process: self.process.to_string(),
            started: format_rfc3339(metered.started_ms),
            since: format_rfc3339(metered.since_ms),
            seconds: ms as f64 / 1_000.0,
            counted: metered.counted,
            state_bytes: gauges.state_bytes as u64,
            settings: CostSettings {
                partitions: self.requests.partitions(),
                ..settings
            },
        }))
    }
}
