//! Talks to both ports of a running application.

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

/// Where an application serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    traffic: String,
    admin: String,
}

impl Addresses {
    /// What `satchel dev` says when it serves.
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
    /// What `satchel run` logs when its ports are open.
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

/// Talks to a [`crate::Dev`], also after it was restarted. Cheap to clone.
///
/// Addresses are written `namespace/name/id`; the id may hold anything. Unless said otherwise, methods panic when the connection is lost,
/// and hand over any answer, good or bad.
#[derive(Debug, Clone)]
pub struct Client {
    addresses: Arc<RwLock<Addresses>>,
    http: reqwest::Client,
}

/// The connection was refused or lost, or no answer came in time: whether what was asked for happened is not known.
#[derive(Debug)]
pub struct Lost(reqwest::Error);

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Lost {}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The header `satchel-type`.
    pub typename: Option<String>,
    /// The header `content-type`.
    pub content_type: Option<String>,
    /// The header `retry-after`.
    pub retry_after: Option<String>,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// When it is something else.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON: {error}: {self:?}"))
    }

    /// The `code` of an error.
    ///
    /// # Panics
    ///
    /// When the body is no error.
    pub fn error_code(&self) -> String {
        let error = self.json();
        let code = error["error"]["code"].as_str();
        code.unwrap_or_else(|| panic!("no error: {self:?}"))
            .to_owned()
    }

    /// The `message` of an error.
    ///
    /// # Panics
    ///
    /// When the body is no error.
    pub fn error_message(&self) -> String {
        let error = self.json();
        let message = error["error"]["message"].as_str();
        message
            .unwrap_or_else(|| panic!("no error: {self:?}"))
            .to_owned()
    }
}

/// A record of a local stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the stream.
    pub sequence_number: String,
    /// Its key.
    pub key: String,
    /// When it was put, in ms since the Unix epoch.
    pub time_ms: u64,
    /// What it holds.
    pub data: Bytes,
}

impl Record {
    /// The data as JSON.
    ///
    /// # Panics
    ///
    /// When it is something else.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.data)
            .unwrap_or_else(|error| panic!("no JSON: {error}: {self:?}"))
    }
}

impl Client {
    pub(crate) fn new(addresses: Addresses) -> Self {
        let http = reqwest::Client::builder()
            // A proxy of the environment is for the world outside, not for this machine.
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

    /// One that goes its own way from now on.
    pub(crate) fn fork(&self) -> Self {
        let addresses = self.addresses.read();
        let addresses = addresses.unwrap_or_else(PoisonError::into_inner).clone();
        Self {
            addresses: Arc::new(RwLock::new(addresses)),
            http: self.http.clone(),
        }
    }

    /// Where traffic is served, such as `http://127.0.0.1:40123`.
    pub fn url(&self) -> String {
        let addresses = self.addresses.read();
        addresses
            .unwrap_or_else(PoisonError::into_inner)
            .traffic
            .clone()
    }

    /// Where administration is served.
    pub fn admin_url(&self) -> String {
        let addresses = self.addresses.read();
        addresses
            .unwrap_or_else(PoisonError::into_inner)
            .admin
            .clone()
    }

    /// Calls a function with JSON and waits for its reply.
    pub async fn call(&self, address: &str, body: &Value) -> Reply {
        found(self.to_call(address).json(body).send().await)
    }

    /// Sends JSON to a function.
    pub async fn send(&self, address: &str, body: &Value) -> Reply {
        found(self.to_send(address).json(body).send().await)
    }

    /// A call that is still to be described.
    pub fn to_call(&self, address: &str) -> Request {
        Request::new(self, "call", address)
    }

    /// A message that is still to be described.
    pub fn to_send(&self, address: &str) -> Request {
        Request::new(self, "send", address)
    }

    /// Puts a record into a local stream and returns its sequence number.
    ///
    /// # Panics
    ///
    /// When the connection is lost or the record is refused.
    pub async fn put(&self, stream: &str, key: &str, data: impl Into<Bytes>) -> String {
        let reply = found(self.try_put(stream, key, data).await);
        assert_eq!(reply.status, 200, "{reply:?}");
        let number = reply.json()["sequence_number"].as_str().map(str::to_owned);
        number.expect("a sequence number")
    }

    /// Puts a record into a local stream.
    ///
    /// # Errors
    ///
    /// When the connection is lost: the record may have been taken.
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

    /// The records that a local stream holds now, the oldest first.
    ///
    /// # Panics
    ///
    /// When it can not be read.
    pub async fn records(&self, stream: &str) -> Vec<Record> {
        let url = format!("{}/streams/{stream}?from=earliest", self.url());
        let reply = found(answer(self.http.get(url)).await);
        assert_eq!(reply.status, 200, "{reply:?}");
        let lines = std::str::from_utf8(&reply.body).expect("NDJSON is text");
        lines.lines().map(record).collect()
    }

    /// The records of a local stream once there are `count` of them; more are a panic, and so is waiting in vain.
    pub async fn records_when(&self, stream: &str, count: usize) -> Vec<Record> {
        let begun = Instant::now();
        let records = loop {
            let records = self.records(stream).await;
            if records.len() >= count {
                break records;
            }
            assert!(
                begun.elapsed() < LONG,
                "waited {LONG:?} in vain until {stream} holds {count} records: {records:?}"
            );
            tokio::time::sleep(EVERY).await;
        };
        assert_eq!(records.len(), count, "{records:?}");
        records
    }

    /// The first page of dead letters, as `GET /api/dead-letters` lists them.
    ///
    /// # Panics
    ///
    /// When they are not listed.
    pub async fn dead_letters(&self) -> Vec<Value> {
        let reply = self.admin(Method::GET, "/api/dead-letters").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let listed = reply.json()["dead_letters"].as_array().cloned();
        listed.expect("a list of dead letters")
    }

    /// Gives the message of a dead letter another chance.
    pub async fn retry_dead_letter(&self, id: &str) -> Reply {
        self.admin(Method::POST, &format!("/api/dead-letters/{id}/retry"))
            .await
    }

    /// Gives a dead letter up.
    pub async fn drop_dead_letter(&self, id: &str) -> Reply {
        self.admin(Method::DELETE, &format!("/api/dead-letters/{id}"))
            .await
    }

    /// An address with its state, backlog and suspension, as `GET /api/addresses/…` shows it.
    pub async fn address(&self, address: &str) -> Reply {
        let path = format!("/api/addresses/{}", encoded(address));
        self.admin(Method::GET, &path).await
    }

    /// Corrects a state of an address; `typename` is that of `value`.
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
        found(answer(request).await)
    }

    /// Erases a state of an address.
    pub async fn delete_state(&self, address: &str, state: &str) -> Reply {
        let path = format!("/api/addresses/{}/state/{state}", encoded(address));
        self.admin(Method::DELETE, &path).await
    }

    /// Lets a suspended address go on.
    pub async fn resume(&self, address: &str) -> Reply {
        let path = format!("/api/addresses/{}/resume", encoded(address));
        self.admin(Method::POST, &path).await
    }

    /// Any request without a body to the administration port.
    pub async fn admin(&self, method: Method, path: &str) -> Reply {
        found(self.try_admin(method, path, None).await)
    }

    /// Any request without a body to the administration port, with this token.
    ///
    /// # Errors
    ///
    /// When the connection is lost: it may have been taken.
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

    /// Whether `/readyz` says that the application serves; not while nobody listens.
    pub async fn is_ready(&self) -> bool {
        let request = self.http.get(format!("{}/readyz", self.admin_url()));
        answer(request).await.is_ok_and(|reply| reply.status == 200)
    }

    /// The value of a sample of `/metrics`, such as `satchel_requests_waiting`.
    pub async fn metric(&self, sample: &str) -> Option<f64> {
        let reply = self.admin(Method::GET, "/metrics").await;
        let text = String::from_utf8_lossy(&reply.body);
        text.lines().find_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            (name == sample).then(|| value.parse().ok())?
        })
    }
}

/// A call or a message, being described.
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

    /// With JSON as its body.
    pub fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into();
        self
    }

    /// With this value of this type as its body.
    pub fn value(mut self, typename: &str, body: impl Into<Bytes>) -> Self {
        self.headers.push(("satchel-type", typename.to_owned()));
        self.body = body.into();
        self
    }

    /// With this `Idempotency-Key`.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.headers.push(("idempotency-key", key.into()));
        self
    }

    /// With this header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With this `?timeout=`, such as `500ms`.
    pub fn timeout(mut self, timeout: &str) -> Self {
        self.timeout = Some(timeout.to_owned());
        self
    }

    /// Sends it, once.
    ///
    /// # Errors
    ///
    /// When the connection is lost: it may have been taken.
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

    /// Sends it again and again, over crashes and restarts, until an answer comes that is neither 503 nor 504. Without a key it may take
    /// effect more than once.
    ///
    /// # Panics
    ///
    /// When no answer comes for [`LONG`].
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

fn found(outcome: Result<Reply, Lost>) -> Reply {
    outcome.unwrap_or_else(|lost| panic!("no answer: {lost}"))
}

/// `namespace/name/id` as a path: only the first two slashes are separators.
fn encoded(address: &str) -> String {
    let parts: Vec<&str> = address.splitn(3, '/').collect();
    assert_eq!(parts.len(), 3, "`{address}` is no namespace/name/id");
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
        serde_json::from_str(line).unwrap_or_else(|error| panic!("no record: {error}: {line}"));
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
