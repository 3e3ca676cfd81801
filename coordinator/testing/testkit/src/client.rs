//! Client for both ports of a running application.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde_json::Value;

use crate::LONG;
use crate::waiting::EVERY;

/// Base URLs of an application's ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    traffic: String,
    admin: String,
}

impl Addresses {
    /// Reads the addresses from the banner of `satchel dev`.
    pub(crate) fn in_banner(printed: &str) -> Option<Self> {
        let url = |name: &str| {
            printed.lines().find_map(|line| {
                let (first, rest) = line.strip_prefix("  ")?.split_once(' ')?;
                let rest = rest.trim();
                (first == name && rest.starts_with("http://")).then(|| rest.to_owned())
            })
        };
        Some(Self {
            traffic: url("traffic")?,
            admin: url("admin")?,
        })
    }
}

impl Addresses {
    /// Reads the addresses from the log of `satchel run`.
    pub(crate) fn in_log(printed: &str) -> Option<Self> {
        let lines = printed.lines();
        let mut lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find_map(|line| {
            let fields = &line["fields"];
            let url = |name: &str| Some(format!("http://{}", fields[name].as_str()?));
            (fields["message"] == "ports open").then_some(())?;
            Some(Self {
                traffic: url("traffic")?,
                admin: url("admin")?,
            })
        })
    }
}

/// Client of a [`crate::Dev`] that follows it over restarts. Cheap to clone.
///
/// Addresses are written `namespace/name/id`; the id may contain any character. Unless stated
/// otherwise, methods panic when the connection is lost, and return every answer, including errors.
#[derive(Debug, Clone)]
pub struct Client {
    addresses: Arc<RwLock<Addresses>>,
    http: reqwest::Client,
}

/// The connection was refused or lost, or no answer arrived in time. The request may or may not
/// have taken effect.
#[derive(Debug)]
pub struct Lost(reqwest::Error);

impl Lost {
    /// True if no connection was made, so that the request had no effect.
    pub fn is_refused(&self) -> bool {
        self.0.is_connect() || self.0.is_builder()
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Lost {}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Value of the header `satchel-type`.
    pub typename: Option<String>,
    /// Value of the header `content-type`.
    pub content_type: Option<String>,
    /// Value of the header `retry-after`.
    pub retry_after: Option<String>,
    /// Response body.
    pub body: Bytes,
}

impl Reply {
    /// The body parsed as JSON.
    ///
    /// # Panics
    ///
    /// When it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON: {error}: {self:?}"))
    }

    /// The `code` of an error.
    ///
    /// # Panics
    ///
    /// When the body is not an error.
    pub fn error_code(&self) -> String {
        let error = self.json();
        let code = error["error"]["code"].as_str();
        code.unwrap_or_else(|| panic!("not an error: {self:?}"))
            .to_owned()
    }

    /// The `message` of an error.
    ///
    /// # Panics
    ///
    /// When the body is not an error.
    pub fn error_message(&self) -> String {
        let error = self.json();
        let message = error["error"]["message"].as_str();
        message
            .unwrap_or_else(|| panic!("not an error: {self:?}"))
            .to_owned()
    }
}

/// A record of a local stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Sequence number in the stream.
    pub sequence_number: String,
    /// Partition key.
    pub key: String,
    /// Arrival time in ms since the Unix epoch.
    pub time_ms: u64,
    /// Payload.
    pub data: Bytes,
}

impl Record {
    /// The payload parsed as JSON.
    ///
    /// # Panics
    ///
    /// When it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.data)
            .unwrap_or_else(|error| panic!("not JSON: {error}: {self:?}"))
    }
}

impl Client {
    pub(crate) fn new(addresses: Addresses) -> Self {
        let http = reqwest::Client::builder()
            // A proxy from the environment must not be used for loopback addresses.
            .no_proxy()
            .tcp_nodelay(true)
            .timeout(LONG)
            .build();
        Self {
            addresses: Arc::new(RwLock::new(addresses)),
            http: http.expect("a client without TLS files can be made"),
        }
    }

    pub(crate) fn follow(&self, addresses: Addresses) {
        *self
            .addresses
            .write()
            .unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// Returns an independent client that keeps the current addresses.
    pub(crate) fn fork(&self) -> Self {
        let addresses = self.addresses.read();
        let addresses = addresses.unwrap_or_else(PoisonError::into_inner).clone();
        Self {
            addresses: Arc::new(RwLock::new(addresses)),
            http: self.http.clone(),
        }
    }

    /// Base URL of the traffic port, such as `http://127.0.0.1:40123`.
    pub fn url(&self) -> String {
        let addresses = self.addresses.read();
        addresses
            .unwrap_or_else(PoisonError::into_inner)
            .traffic
            .clone()
    }

    /// Base URL of the administration port.
    pub fn admin_url(&self) -> String {
        let addresses = self.addresses.read();
        addresses
            .unwrap_or_else(PoisonError::into_inner)
            .admin
            .clone()
    }

    /// Calls a function with JSON and waits for its reply.
    pub async fn call(&self, address: &str, body: &Value) -> Reply {
        expect_reply(self.to_call(address).json(body).send().await)
    }

    /// Sends JSON to a function.
    pub async fn send(&self, address: &str, body: &Value) -> Reply {
        expect_reply(self.to_send(address).json(body).send().await)
    }

    /// Starts to build a call.
    pub fn to_call(&self, address: &str) -> Request {
        Request::new(self, "call", address)
    }

    /// Starts to build a message.
    pub fn to_send(&self, address: &str) -> Request {
        Request::new(self, "send", address)
    }

    /// Puts a record into a local stream and returns its sequence number.
    ///
    /// # Panics
    ///
    /// When the connection is lost or the record is rejected.
    pub async fn put(&self, stream: &str, key: &str, data: impl Into<Bytes>) -> String {
        let reply = expect_reply(self.try_put(stream, key, data).await);
        assert_eq!(reply.status, 200, "{reply:?}");
        let number = reply.json()["sequence_number"].as_str().map(str::to_owned);
        number.expect("a sequence number")
    }

    /// Puts a record into a local stream.
    ///
    /// # Errors
    ///
    /// When the connection is lost; the record may have been stored.
    pub async fn try_put(
        &self,
        stream: &str,
        key: &str,
        data: impl Into<Bytes>,
    ) -> Result<Reply, Lost> {
        let url = format!("{}/streams/{stream}", self.url());
        let request = self.http.post(url).header("satchel-key", key);
        answer(request.body(data.into())).await
    }

    /// Current records of a local stream, oldest first.
    ///
    /// # Panics
    ///
    /// When the stream cannot be read.
    pub async fn records(&self, stream: &str) -> Vec<Record> {
        let read = self.try_records(stream, None).await;
        read.unwrap_or_else(|lost| panic!("no answer: {lost}"))
    }

    /// Current records of a local stream from a sequence number on, or all.
    ///
    /// # Errors
    ///
    /// When the connection is lost.
    ///
    /// # Panics
    ///
    /// When the stream cannot be read.
    pub async fn try_records(&self, stream: &str, from: Option<&str>) -> Result<Vec<Record>, Lost> {
        let from = from.unwrap_or("earliest");
        let url = format!("{}/streams/{stream}?from={from}", self.url());
        let reply = answer(self.http.get(url)).await?;
        assert_eq!(reply.status, 200, "{reply:?}");
        let lines = std::str::from_utf8(&reply.body).expect("NDJSON is text");
        Ok(lines.lines().map(record).collect())
    }

    /// Waits until a local stream contains `count` records, and returns them. Panics when there are
    /// more, or after [`LONG`].
    pub async fn records_when(&self, stream: &str, count: usize) -> Vec<Record> {
        let begun = Instant::now();
        let records = loop {
            let records = self.records(stream).await;
            if records.len() >= count {
                break records;
            }
            assert!(
                begun.elapsed() < LONG,
                "waited {LONG:?} until {stream} contains {count} records: {records:?}"
            );
            tokio::time::sleep(EVERY).await;
        };
        assert_eq!(records.len(), count, "{records:?}");
        records
    }

    /// First page of dead letters, as listed by `GET /api/dead-letters`.
    ///
    /// # Panics
    ///
    /// When the request fails.
    pub async fn dead_letters(&self) -> Vec<Value> {
        let reply = self.admin(Method::GET, "/api/dead-letters").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let listed = reply.json()["dead_letters"].as_array().cloned();
        listed.expect("a list of dead letters")
    }

    /// Retries the message of a dead letter.
    pub async fn retry_dead_letter(&self, id: &str) -> Reply {
        self.admin(Method::POST, &format!("/api/dead-letters/{id}/retry"))
            .await
    }

    /// Drops a dead letter.
    pub async fn drop_dead_letter(&self, id: &str) -> Reply {
        self.admin(Method::DELETE, &format!("/api/dead-letters/{id}"))
            .await
    }

    /// An address with its state, backlog and suspension, as shown by `GET /api/addresses/…`.
    pub async fn address(&self, address: &str) -> Reply {
        let path = format!("/api/addresses/{}", encoded(address));
        self.admin(Method::GET, &path).await
    }

    /// Overwrites a state value of an address; `typename` is the type of `value`.
    pub async fn put_state(
        &self,
        address: &str,
        state: &str,
        typename: &str,
        value: impl Into<Bytes>,
    ) -> Reply {
        let path = format!("/api/addresses/{}/state/{state}", encoded(address));
        let request = self
            .http
            .put(format!("{}{path}", self.admin_url()))
            .header("satchel-type", typename)
            .body(value.into());
        expect_reply(answer(request).await)
    }

    /// Erases a state value of an address.
    pub async fn delete_state(&self, address: &str, state: &str) -> Reply {
        let path = format!("/api/addresses/{}/state/{state}", encoded(address));
        self.admin(Method::DELETE, &path).await
    }

    /// Resumes a suspended address.
    pub async fn resume(&self, address: &str) -> Reply {
        let path = format!("/api/addresses/{}/resume", encoded(address));
        self.admin(Method::POST, &path).await
    }

    /// Sends a request without a body to the administration port.
    pub async fn admin(&self, method: Method, path: &str) -> Reply {
        expect_reply(self.try_admin(method, path, None).await)
    }

    /// Sends a request without a body to the administration port, with an optional token.
    ///
    /// # Errors
    ///
    /// When the connection is lost; the request may have taken effect.
    pub async fn try_admin(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
    ) -> Result<Reply, Lost> {
        let url = format!("{}{path}", self.admin_url());
        let mut request = self.http.request(method, url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        answer(request).await
    }

    /// True if `/readyz` reports that the application serves; false while no process listens.
    pub async fn is_ready(&self) -> bool {
        let request = self.http.get(format!("{}/readyz", self.admin_url()));
        answer(request).await.is_ok_and(|reply| reply.status == 200)
    }

    /// Value of a sample of `/metrics`, such as `satchel_requests_waiting`.
    pub async fn metric(&self, sample: &str) -> Option<f64> {
        let reply = self.admin(Method::GET, "/metrics").await;
        let text = String::from_utf8_lossy(&reply.body);
        text.lines().find_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            (name == sample).then(|| value.parse().ok())?
        })
    }
}

/// Builder of a call or a message.
#[derive(Debug, Clone)]
pub struct Request {
    client: Client,
    path: String,
    timeout: Option<String>,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Request {
    fn new(client: &Client, verb: &str, address: &str) -> Self {
        Self {
            client: client.clone(),
            path: format!("/{verb}/{}", encoded(address)),
            timeout: None,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// Sets a JSON body.
    pub fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into();
        self
    }

    /// Sets a value of this type as the body.
    pub fn value(mut self, typename: &str, body: impl Into<Bytes>) -> Self {
        self.headers.push(("satchel-type", typename.to_owned()));
        self.body = body.into();
        self
    }

    /// Sets the `Idempotency-Key`.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.headers.push(("idempotency-key", key.into()));
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sets `?timeout=`, such as `500ms`.
    pub fn timeout(mut self, timeout: &str) -> Self {
        self.timeout = Some(timeout.to_owned());
        self
    }

    /// Sends the request once.
    ///
    /// # Errors
    ///
    /// When the connection is lost; the request may have taken effect.
    pub async fn send(&self) -> Result<Reply, Lost> {
        let mut url = format!("{}{}", self.client.url(), self.path);
        if let Some(timeout) = &self.timeout {
            url.push_str("?timeout=");
            url.push_str(timeout);
        }
        let mut request = self.client.http.post(url);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        answer(request.body(self.body.clone())).await
    }

    /// Repeats the request over crashes and restarts until the answer is neither 503 nor 504.
    /// Without an idempotency key it may take effect more than once.
    ///
    /// # Panics
    ///
    /// When no answer arrives within [`LONG`].
    pub async fn send_until_answered(&self) -> Reply {
        let begun = Instant::now();
        loop {
            let outcome = self.send().await;
            if let Ok(reply) = &outcome
                && ![503, 504].contains(&reply.status)
            {
                return reply.clone();
            }
            assert!(begun.elapsed() < LONG, "no answer to {self:?}: {outcome:?}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

async fn answer(request: RequestBuilder) -> Result<Reply, Lost> {
    let response = request.send().await.map_err(Lost)?;
    let header = |name: &str| {
        let value = response.headers().get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    Ok(Reply {
        status: response.status().as_u16(),
        typename: header("satchel-type"),
        content_type: header("content-type"),
        retry_after: header("retry-after"),
        body: response.bytes().await.map_err(Lost)?,
    })
}

fn expect_reply(outcome: Result<Reply, Lost>) -> Reply {
    outcome.unwrap_or_else(|lost| panic!("no answer: {lost}"))
}

/// `namespace/name/id` as a path: only the first two slashes are separators.
fn encoded(address: &str) -> String {
    let parts: Vec<&str> = address.splitn(3, '/').collect();
    assert_eq!(parts.len(), 3, "`{address}` is not namespace/name/id");
    let encoded = parts
        .into_iter()
        .map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string());
    encoded.collect::<Vec<_>>().join("/")
}

fn record(line: &str) -> Record {
    #[derive(Deserialize)]
    struct Line {
        sequence_number: String,
        key: String,
        time: u64,
        data: Option<String>,
        base64: Option<String>,
    }
    let line: Line =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("not a record: {error}: {line}"));
    let data = match (line.data, line.base64) {
        (Some(text), _) => text.into(),
        (None, Some(base64)) => STANDARD.decode(base64).expect("base64").into(),
        (None, None) => panic!("a record without data: {}", line.sequence_number),
    };
    Record {
        sequence_number: line.sequence_number,
        key: line.key,
        time_ms: line.time,
        data,
    }
}
