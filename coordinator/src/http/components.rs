//! Lists of the administration port: endpoints, functions, ingresses, egresses, addresses.
//!
//! All but addresses are observations: they answer at once, also while nothing becomes durable.

mod bodies;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use satchel_engine::address::{Address, FunctionType};
use satchel_engine::durable::StateSpec;
use satchel_engine::input::Administration;
use satchel_engine::output::{AddressSummary, Answer, Stoppages};
use satchel_engine::partition::{FunctionFigures, Partition};
use satchel_engine::placement::{KeyGroup, Placement};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::admin::{Admin, Shared, function_filter, json_response, page_limit};
use super::error::ApiError;
use super::ingresses::StoppedIngress;
use super::target::query;
use crate::readiness::Readiness;

use self::bodies::{AddressEntry, EgressBody, EndpointBody, FunctionBody, IngressBody};

pub(super) use self::bodies::{FailingEndpoint, StoppedEgress};

/// Maximum time for a page of addresses. A filter may match nothing in many buckets, each of which
/// may have to be loaded.
const ADDRESSES_TIME_MAX: Duration = Duration::from_secs(2);

/// Routes of the lists.
pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/api/placement", get(show_placement))
        .route("/api/endpoints", get(list_endpoints))
        .route("/api/functions", get(list_functions))
        .route("/api/ingresses", get(list_ingresses))
        .route("/api/egresses", get(list_egresses))
        .route("/api/addresses", get(list_addresses))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    after: Option<String>,
    limit: Option<usize>,
}

/// Page of a list, with the value of `?after=` for the next page.
#[derive(Serialize)]
pub(super) struct Page<T> {
    #[serde(flatten)]
    items: BTreeMap<&'static str, Vec<T>>,
    next: Option<String>,
}

impl<T: Serialize> Page<T> {
    pub(super) fn of(name: &'static str, items: Vec<T>, next: Option<String>) -> Response {
        let items = BTreeMap::from([(name, items)]);
        json_response(StatusCode::OK, &Self { items, next })
    }
}

/// Placement of the addresses of the application.
#[derive(Serialize)]
struct PlacementBody {
    partitions: u32,
    placement: &'static str,
    key_groups: u16,
    hash_tags: bool,
}

async fn show_placement(State(admin): Shared, request: Request) -> Result<Response, ApiError> {
    admin.observe(request)?;
    let placement = admin.placement().await?;
    let body = PlacementBody {
        partitions: admin.requests.partitions(),
        placement: placement.kind.name(),
        key_groups: placement.key_groups,
        hash_tags: placement.has_hash_tags(),
    };
    Ok(json_response(StatusCode::OK, &body))
}

async fn list_endpoints(State(admin): Shared, request: Request) -> Result<Response, ApiError> {
    let page = admin.observe(request)?;
    let endpoints = admin.metrics.status().endpoints();
    let (endpoints, next) = page.of(endpoints)?;
    let bodies = endpoints.into_iter().map(EndpointBody::of).collect();
    Ok(Page::of("endpoints", bodies, next))
}

async fn list_ingresses(State(admin): Shared, request: Request) -> Result<Response, ApiError> {
    let page = admin.observe(request)?;
    let status = admin.metrics.status();
    let paused = match *admin.readiness.borrow() {
        Readiness::Held => Some("held"),
        _ => status.pause().map(|cause| cause.as_str()),
    };
    let (ingresses, next) = page.of(status.ingresses())?;
    let by_person = admin.stoppages.borrow().paused_ingresses.clone();
    let bodies = ingresses.into_iter().map(|view| {
        let is_paused = by_person.iter().any(|stoppage| stoppage.name == view.id);
        let paused = if is_paused { Some("person") } else { paused };
        let stopped = StoppedIngress::of(&admin.sources, &view.id);
        IngressBody::of(view, paused, stopped)
    });
    Ok(Page::of("ingresses", bodies.collect(), next))
}

async fn list_egresses(State(admin): Shared, request: Request) -> Result<Response, ApiError> {
    let page = admin.observe(request)?;
    let status = admin.metrics.status();
    let waiting = admin.observed(|partition| partition.outbox_sizes()).await?;
    let mut waiting_all: BTreeMap<Arc<str>, usize> = BTreeMap::new();
    for (egress, waiting) in waiting.into_iter().flat_map(|(_, sizes)| sizes) {
        *waiting_all.entry(egress).or_default() += waiting;
    }
    let (egresses, next) = page.of(status.egresses())?;
    let bodies = egresses.into_iter().map(|view| {
        let waiting = waiting_all.get(view.id.as_str()).copied().unwrap_or(0);
        EgressBody::of(view, waiting)
    });
    Ok(Page::of("egresses", bodies.collect(), next))
}

async fn list_functions(State(admin): Shared, request: Request) -> Result<Response, ApiError> {
    let page = admin.observe(request)?;
    let (functions, declared) = admin.functions().await?;
    let after = page.after.as_deref();
    let stoppages = admin.stoppages.borrow().clone();
    let mut bodies: Vec<FunctionBody> = functions
        .into_iter()
        .map(|(function, figures)| {
            let states = declared.get(&function).map_or(&[][..], Vec::as_slice);
            let endpoint = admin.metrics.status().endpoint_of(&function);
            let stopped = stop_of(&stoppages, &function);
            FunctionBody::of(&function, endpoint, &figures, states, stopped)
        })
        .filter(|body| after.is_none_or(|after| *body.function > *after))
        .collect();
    bodies.sort_by(|one, other| one.function.cmp(&other.function));
    let more = bodies.len() > page.limit;
    bodies.truncate(page.limit);
    let next = bodies.last().filter(|_| more);
    let next = next.map(|last| last.function.clone());
    Ok(Page::of("functions", bodies, next))
}

/// Describes why a function stands still as a whole.
fn stop_of(stoppages: &Stoppages, function: &FunctionType) -> Option<String> {
    let name = function.to_string();
    let lists = [
        ("suspended", &stoppages.suspended_functions),
        ("paused", &stoppages.paused_functions),
    ];
    lists.into_iter().find_map(|(state, list)| {
        let stoppage = list.iter().find(|stoppage| stoppage.name == name)?;
        Some(match stoppage.reason.as_str() {
            "" => state.to_owned(),
            reason => format!("{state}: {reason}"),
        })
    })
}

/// The process lost its partition after the check of its readiness.
fn gone() -> ApiError {
    ApiError::unavailable("stopping", 1, "the process is starting or stopping")
}

/// Functions with their figures, and the states that they declared.
type Functions = (
    BTreeMap<FunctionType, FunctionFigures>,
    BTreeMap<FunctionType, Vec<StateSpec>>,
);

impl Admin {
    /// Checks that a client may read from this process, and parses the query of a list.
    pub(super) fn observe(&self, request: Request) -> Result<Paging, ApiError> {
        let (parts, _) = request.into_parts();
        self.allow_reading(&parts.headers)?;
        let query: PageQuery = query(&parts)?;
        let readiness = *self.readiness.borrow();
        ApiError::not_serving(readiness)?;
        Ok(Paging {
            after: query.after,
            limit: page_limit(query.limit)?,
        })
    }

    /// Returns the figures of all functions: those that are named, declared states, or have an
    /// address in memory. Visits one bucket at a time, so that the partition is not held up.
    async fn functions(&self) -> Result<Functions, ApiError> {
        let status = self.metrics.status();
        let buckets = self.placement().await?.key_groups;
        let declared = self.observed(|partition| partition.declared_states());
        let declared = declared.await?.into_iter();
        let declared: BTreeMap<_, _> = declared.flat_map(|(_, declared)| declared).collect();
        let named = status.named_functions();
        let known = named.into_iter().chain(declared.keys().cloned());
        let mut functions: BTreeMap<FunctionType, FunctionFigures> = known
            .map(|function| (function, FunctionFigures::default()))
            .collect();
        for bucket in 0..buckets {
            let owner = self.requests.owner_of_key_group(KeyGroup(bucket));
            let figures = move |partition: &Partition| partition.function_figures(bucket);
            let figures = match status.observe_one(owner, figures).await {
                Some(figures) => figures,
                // Another process has them.
                None if self.requests.is_spread() => continue,
                None => return Err(gone()),
            };
            for (function, figures) in figures {
                functions.entry(function).or_default().add(&figures);
            }
        }
        Ok((functions, declared))
    }

    /// Returns what `read` finds in each partition of this process, with its number.
    ///
    /// # Errors
    ///
    /// This process should have all partitions, and has none.
    pub(super) async fn observed<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Partition) -> T + Clone + Send + 'static,
    ) -> Result<Vec<(u32, T)>, ApiError> {
        let found = self.metrics.status().observe(read).await;
        match found.is_empty() && !self.requests.is_spread() {
            true => Err(gone()),
            false => Ok(found),
        }
    }

    async fn placement(&self) -> Result<Placement, ApiError> {
        if let Some(placement) = self.requests.placement() {
            return Ok(placement);
        }
        let status = self.metrics.status();
        let placement = status.observe_one(0, |partition| partition.placement());
        placement.await.ok_or_else(gone)
    }
}

/// Query of a list.
pub(super) struct Paging {
    pub(super) after: Option<String>,
    pub(super) limit: usize,
}

impl Paging {
    /// Returns the page of a list whose order does not change, by positions.
    pub(super) fn of<T>(&self, items: Vec<T>) -> Result<(Vec<T>, Option<String>), ApiError> {
        let skipped = match self.after.as_deref().map(str::parse::<usize>) {
            None => 0,
            Some(Ok(after)) => after,
            Some(Err(_)) => return Err(invalid_after()),
        };
        let end = skipped.saturating_add(self.limit);
        let next = (items.len() > end).then(|| end.to_string());
        let page = items.into_iter().skip(skipped).take(self.limit);
        Ok((page.collect(), next))
    }
}

fn invalid_after() -> ApiError {
    let message = "after is not a value of `next` in an earlier page of this list";
    ApiError::bad_request("invalid_query", message)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddressQuery {
    function: Option<String>,
    prefix: Option<String>,
    condition: Option<Condition>,
    after: Option<String>,
    limit: Option<usize>,
}

/// Condition of an address that is listed.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Condition {
    /// A message suspended it.
    Suspended,
    /// The last attempt of the message at its head failed.
    Failing,
    /// It has pending messages.
    Waiting,
}

impl Condition {
    fn holds(self, summary: &AddressSummary) -> bool {
        match self {
            Self::Suspended => summary.suspended.is_some(),
            Self::Failing => summary.failing.is_some(),
            Self::Waiting => summary.backlog_messages > 0,
        }
    }
}

async fn list_addresses(State(admin): Shared, request: Request) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    admin.allow_reading(&parts.headers)?;
    let query: AddressQuery = query(&parts)?;
    let limit = page_limit(query.limit)?;
    let function = function_filter(query.function)?;
    let prefix: Arc<str> = query.prefix.unwrap_or_default().into();
    let mut cursor = match query.after {
        None => Cursor::default(),
        Some(text) => text.parse().map_err(|()| invalid_after())?,
    };
    let end = Instant::now() + ADDRESSES_TIME_MAX;
    let mut found: Vec<AddressEntry> = Vec::new();
    let next = loop {
        let wanted = limit - found.len();
        let asked = Administration::ListAddresses {
            bucket: cursor.bucket,
            function: function.clone(),
            prefix: Arc::clone(&prefix),
            after: cursor.after.take(),
            limit: wanted,
        };
        let summaries = match admin.ask(asked).await? {
            Answer::Addresses(summaries) => summaries,
            // All buckets were visited.
            Answer::NotFound(_) => break None,
            other => return Err(ApiError::of_answer(other)),
        };
        let full = summaries.len() >= wanted;
        let last = summaries.last().map(|last| last.address.clone());
        let condition = query.condition;
        let fit = |summary: &AddressSummary| condition.is_none_or(|it| it.holds(summary));
        let summaries = summaries.into_iter().filter(fit);
        found.extend(summaries.map(AddressEntry::of));
        match full {
            true => cursor.after = last,
            false => cursor.bucket += 1,
        }
        if found.len() >= limit {
            break Some(cursor);
        }
        if Instant::now() >= end {
            break Some(cursor);
        }
    };
    let next = next.map(|cursor| cursor.to_string());
    Ok(Page::of("addresses", found, next))
}

/// Position in the list of addresses: a bucket, and the last address of it that was listed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cursor {
    bucket: u16,
    after: Option<Address>,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.bucket)?;
        if let Some(Address { function, id }) = &self.after {
            for part in [function.namespace(), function.name(), id] {
                write!(f, "/{}", utf8_percent_encode(part, NON_ALPHANUMERIC))?;
            }
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('/');
        let bucket = parts.next().and_then(|bucket| bucket.parse().ok());
        let bucket = bucket.ok_or(())?;
        let decode = |part: &str| {
            let decoded = percent_decode_str(part).decode_utf8();
            decoded.map(String::from).map_err(|_| ())
        };
        let parts = parts.map(decode).collect::<Result<Vec<_>, ()>>()?;
        let after = match &parts[..] {
            [] => None,
            [namespace, name, id] => {
                let function = FunctionType::new(namespace, name);
                Some(Address::new(function, id.as_str()))
            }
            _ => return Err(()),
        };
        Ok(Self { bucket, after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_whatever_the_address() {
        for cursor in [
            Cursor::default(),
            Cursor {
                bucket: 255,
                after: None,
            },
            Cursor {
                bucket: 7,
                after: Some(Address::new(FunctionType::new("a/b", "c"), "d/ü %2F&?")),
            },
        ] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in ["", "x", "65536", "1/a", "1/a/b/c/d", "1/a/b/%ff"] {
            assert_eq!(text.parse::<Cursor>(), Err(()), "{text}");
        }
    }

    #[test]
    fn a_list_is_cut_into_pages_by_position() {
        let page = |after: Option<&str>, limit| {
            let paging = Paging {
                after: after.map(str::to_owned),
                limit,
            };
            paging.of(vec![1, 2, 3])
        };
        assert_eq!(page(None, 2).unwrap(), (vec![1, 2], Some("2".to_owned())));
        assert_eq!(page(Some("2"), 2).unwrap(), (vec![3], None));
        assert_eq!(page(None, 3).unwrap(), (vec![1, 2, 3], None));
        assert_eq!(page(Some("9"), 3).unwrap(), (vec![], None));
        assert!(page(Some("x"), 3).is_err());
    }
}
