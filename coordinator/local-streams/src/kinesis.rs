//! The Kinesis API for local streams, as used by the AWS SDKs, boto3, and the Kinesis Producer and
//! Client Libraries.
//!
//! `POST /` with `X-Amz-Target: Kinesis_20131202.<operation>`, in JSON 1.1 or CBOR 1.1, over
//! HTTP/1.1 or HTTP/2 without TLS. Limits and error codes are those of Kinesis. Differences:
//!
//! - Signatures are neither verified nor logged. Every client that reaches the port may do
//!   everything, so the port belongs on a loopback address. Only requests of web pages, which also
//!   reach loopback ports, are refused with `AccessDeniedException`.
//! - Creating, splitting and merging are complete when the request is answered. Streams and
//!   consumers are `ACTIVE` at once, never `CREATING` or `UPDATING`.
//! - Encryption, enhanced monitoring, resource policies and tags by ARN are not supported. Requests
//!   for them get `UnknownOperationException`.

mod arguments;
mod bodies;
mod consumers;
mod control;
mod error;
mod event_stream;
mod listing;
mod reading;
mod subscription;
mod throughput;
mod token;
mod value;
mod writing;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::{Stream, StreamError, Streams, browsers};
use arguments::Arguments;
use bodies::Bodies;
use error::Refusal;
use throughput::{ShardKey, Throughput};
use value::{Encoding, Value};

/// Account that owns everything.
const ACCOUNT: &str = "000000000000";
/// Region of unsigned requests.
const REGION_DEFAULT: &str = "us-east-1";
/// Maximum time for requests in flight when the server stops.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// Optional differences from Kinesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Limits each shard to writes of 1,000 records and 1 MiB per second, and to 5 reads and 2 MiB
    /// per second.
    pub limit_throughput: bool,
    /// Duration of a subscription. It is five minutes in Kinesis.
    pub subscription: Duration,
}

impl Default for Options {
    /// Same as Kinesis.
    fn default() -> Self {
        Self {
            limit_throughput: true,
            subscription: Duration::from_secs(300),
        }
    }
}

/// Serves `streams` on `listener` until `stopping` becomes true or its sender is dropped.
/// Subscriptions end then. Other requests in flight have ten seconds to complete.
///
/// # Errors
/// An error of the listener.
pub async fn serve(
    listener: TcpListener,
    streams: Streams,
    options: Options,
    stopping: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut stopped = stopping.clone();
    let listener = listener.tap_io(|socket| {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY not set on a Kinesis API connection");
        }
    });
    let stopped = async move {
        // The sender is dropped, or the value is true: the server stops in both cases.
        let _ = stopped.wait_for(|stopping| *stopping).await;
    };
    let mut stopping_for_good = stopping.clone();
    let served =
        axum::serve(listener, router(streams, options, stopping)).with_graceful_shutdown(stopped);
    tokio::select! {
        served = async { served.await } => served,
        () = async {
            let _ = stopping_for_good.wait_for(|stopping| *stopping).await;
            tokio::time::sleep(STOP_TIME_MAX).await;
        } => Ok(()),
    }
}

/// The single route of the API. Subscriptions end when `stopping` becomes true or its sender is
/// dropped.
pub fn router(streams: Streams, options: Options, stopping: watch::Receiver<bool>) -> Router {
    let service = Service {
        streams,
        options,
        throughput: Throughput::new(options.limit_throughput),
        bodies: Bodies::default(),
        subscriptions: Mutex::default(),
        requests: AtomicU64::new(0),
        stopping,
    };
    Router::new().fallback(answer).with_state(Arc::new(service))
}

/// For each consumer and shard, the start of its subscription and the channel that ends it.
type Subscriptions = HashMap<(String, ShardKey), (Instant, watch::Sender<bool>)>;

struct Service {
    streams: Streams,
    options: Options,
    throughput: Throughput,
    bodies: Bodies,
    subscriptions: Mutex<Subscriptions>,
    requests: AtomicU64,
    stopping: watch::Receiver<bool>,
}

/// A decoded request.
struct Call {
    region: String,
    encoding: Encoding,
    arguments: Arguments,
}

async fn answer(State(service): State<Arc<Service>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let content_type = parts.headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|text| text.to_str().ok());
    let encoding = content_type.and_then(Encoding::of);
    let admitted = check_origin(&parts.method, &parts.headers);
    let outcome = match (admitted, encoding, operation(&parts.headers)) {
        (Ok(()), Some(encoding), Ok(operation)) => match service.bodies.read(body).await {
            Ok((body, _permits)) => {
                let region = region(&parts.headers);
                service.perform(&operation, region, encoding, &body).await
            }
            Err(refusal) => Err(refusal),
        },
        (Ok(()), None, _) => Err(Refusal {
            status: StatusCode::NOT_FOUND,
            ..Refusal::new(
                "UnknownOperationException",
                "requests are application/x-amz-json-1.1 or application/x-amz-cbor-1.1",
            )
        }),
        (Err(refusal), _, _) | (_, _, Err(refusal)) => Err(refusal),
    };
    let encoding = encoding.unwrap_or(Encoding::Json);
    let number = service.requests.fetch_add(1, Ordering::Relaxed);
    let (status, content_type, body) = match outcome {
        Ok(Answer::Value(value)) => {
            let body = match value {
                // Operations without a result are answered with an empty body.
                Value::Null => Vec::new(),
                value => encoding.encode(&value),
            };
            (StatusCode::OK, encoding.content_type(), Body::from(body))
        }
        Ok(Answer::Events(body)) => (StatusCode::OK, "application/vnd.amazon.eventstream", body),
        Err(refusal) => {
            if refusal.status.is_server_error() {
                tracing::warn!(error = refusal.message, "Kinesis API request failed");
            }
            let body = encoding.encode(&refusal.body());
            (refusal.status, encoding.content_type(), Body::from(body))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        content_type.parse().expect("it is plain ASCII"),
    );
    let id = format!("{:08x}-0000-4000-8000-{number:012x}", std::process::id());
    headers.insert("x-amzn-requestid", id.parse().expect("it is plain ASCII"));
    response
}

enum Answer {
    Value(Value),
    Events(Body),
}

impl Service {
    async fn perform(
        self: &Arc<Self>,
        operation: &str,
        region: String,
        encoding: Encoding,
        body: &Bytes,
    ) -> Result<Answer, Refusal> {
        let body = encoding.decode(body).map_err(Refusal::serialization)?;
        let call = Call {
            region,
            encoding,
            arguments: Arguments::new(body)?,
        };
        let value = match operation {
            "PutRecord" => self.put_record(&call).await?,
            "PutRecords" => self.put_records(call).await?,
            "GetShardIterator" => self.get_shard_iterator(&call).await?,
            "GetRecords" => self.get_records(&call).await?,
            "SubscribeToShard" => return self.subscribe(call).await.map(Answer::Events),
            "ListShards" => self.list_shards(&call).await?,
            "DescribeStream" => self.describe_stream(&call).await?,
            "DescribeStreamSummary" => self.describe_stream_summary(&call).await?,
            "ListStreams" => self.list_streams(&call).await?,
            "DescribeLimits" => self.describe_limits().await?,
            "CreateStream" => self.create_stream(call).await?,
            "DeleteStream" => self.delete_stream(&call).await?,
            "SplitShard" => self.split_shard(&call).await?,
            "MergeShards" => self.merge_shards(&call).await?,
            "UpdateShardCount" => self.update_shard_count(&call).await?,
            "UpdateMaxRecordSize" => self.update_max_record_size(&call).await?,
            "IncreaseStreamRetentionPeriod" => self.change_retention(&call, true).await?,
            "DecreaseStreamRetentionPeriod" => self.change_retention(&call, false).await?,
            "AddTagsToStream" => self.add_tags(call).await?,
            "RemoveTagsFromStream" => self.remove_tags(call).await?,
            "ListTagsForStream" => self.list_tags(&call).await?,
            "RegisterStreamConsumer" => self.register_consumer(&call).await?,
            "DeregisterStreamConsumer" => self.deregister_consumer(&call).await?,
            "DescribeStreamConsumer" => self.describe_consumer(&call).await?,
            "ListStreamConsumers" => self.list_consumers(&call).await?,
            other => return Err(unknown_operation(other)),
        };
        Ok(Answer::Value(value))
    }

    /// Stream that a request names by `StreamName` or `StreamARN`.
    async fn stream(&self, call: &Call) -> Result<Stream, Refusal> {
        let named = call.arguments.text("StreamName")?;
        let name = match (named, call.arguments.text("StreamARN")?) {
            (Some(name), None) => name,
            (named, Some(arn)) => {
                let name = stream_of_arn(arn)?;
                if named.is_some_and(|named| named != name) {
                    return Err(Refusal::argument(
                        "StreamName and StreamARN name different streams",
                    ));
                }
                name
            }
            (None, None) => return Err(arguments::missing("StreamName")),
        };
        self.stream_named(name).await
    }

    async fn stream_named(&self, name: &str) -> Result<Stream, Refusal> {
        self.streams
            .existing(name)
            .await
            .map_err(|error| match error {
                StreamError::Missing(name) => {
                    Refusal::not_found(format!("Stream {name} under account {ACCOUNT} not found."))
                }
                error => error.into(),
            })
    }
}

impl Call {
    fn stream_arn(&self, stream: &str) -> String {
        format!("arn:aws:kinesis:{}:{ACCOUNT}:stream/{stream}", self.region)
    }
}

/// Name of the stream in an ARN of the stream or of one of its consumers.
fn stream_of_arn(arn: &str) -> Result<&str, Refusal> {
    let mut parts = arn.splitn(6, ':');
    let service = (parts.next(), parts.next(), parts.next());
    let resource = parts
        .nth(2)
        .and_then(|resource| resource.strip_prefix("stream/"));
    match (service, resource) {
        ((Some("arn"), Some(_), Some("kinesis")), Some(resource)) => {
            Ok(resource.split('/').next().unwrap_or(resource))
        }
        _ => Err(Refusal::validation(format!(
            "`{arn}` is not the ARN of a stream; \
            write arn:aws:kinesis:REGION:{ACCOUNT}:stream/NAME"
        ))),
    }
}

/// Refuses requests of web pages. Browsers name the page in every `POST`, but not in every `GET`,
/// so other methods are refused too.
fn check_origin(method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    let denied = |why| {
        Err(Refusal {
            status: StatusCode::FORBIDDEN,
            ..Refusal::new("AccessDeniedException", why)
        })
    };
    if browsers::is_from_web_page(headers) {
        denied(browsers::REFUSAL)
    } else if method != Method::POST {
        denied("every Kinesis operation is a POST request")
    } else {
        Ok(())
    }
}

fn operation(headers: &HeaderMap) -> Result<String, Refusal> {
    let target = headers.get("x-amz-target");
    let target = target
        .and_then(|target| target.to_str().ok())
        .unwrap_or_default();
    match target.split_once('.') {
        Some(("Kinesis_20131202", operation)) => Ok(operation.to_owned()),
        _ => Err(unknown_operation(target)),
    }
}

fn unknown_operation(operation: &str) -> Refusal {
    Refusal::new(
        "UnknownOperationException",
        format!("local streams do not know the operation `{operation}`"),
    )
}

/// The region that the request was signed for. Nothing else of the signature is looked at.
fn region(headers: &HeaderMap) -> String {
    let signed = headers.get(header::AUTHORIZATION);
    let signed = signed
        .and_then(|signed| signed.to_str().ok())
        .unwrap_or_default();
    // …Credential=<key>/<date>/<region>/kinesis/aws4_request, …
    let scope = signed.split("Credential=").nth(1).unwrap_or_default();
    let region = scope.split('/').nth(2).unwrap_or_default();
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '-';
    match region {
        region if !region.is_empty() && region.chars().all(valid) => region.to_owned(),
        _ => REGION_DEFAULT.to_owned(),
    }
}
