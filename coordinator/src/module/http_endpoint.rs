//! StateFun's HTTP endpoints and their transports.

use std::path::PathBuf;
use std::time::Duration;

use satchel_aws::config::AwsAccess;
use satchel_engine::endpoint::{Endpoint, OnPoison};

use crate::module::aws;
use crate::module::endpoint::{EndpointAdapter, EndpointSpec, RETRIES, file_path, patterns};
use crate::module::fields::Fields;

const ASYNC: &str = "io.statefun.transports.v1/async";
const OKHTTP: &str = "io.statefun.transports.v1/okhttp";

/// A service that speaks StateFun's protocol over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpEndpoint {
    /// Where a function is: `http://`, `https://` or `http+unix://` (up to the first path segment that ends in `.sock` the socket's
    /// file, after it the path to ask for), with `{function.name}` standing for the name.
    pub url_template: String,
    /// How long one request may take, its connection included.
    pub call: Duration,
    /// How long connecting may take.
    pub connect: Duration,
    /// How long the service may be silent while it answers, if that is bounded apart from `call` (`read` of okhttp).
    pub read: Option<Duration>,
    /// How long sending may stall, if that is bounded apart from `call` (`write` of okhttp).
    pub write: Option<Duration>,
    /// How long an idle connection is kept.
    pub pool_idle: Duration,
    /// How many connections are kept at most.
    pub pool_size: usize,
    /// The largest answer that is read.
    pub payload_max_bytes: u64,
    /// What makes the connection private.
    pub tls: Tls,
    /// How requests are signed, if they are.
    pub auth: Option<HttpAuth>,
}

impl HttpEndpoint {
    /// Where a function is, as metrics, logs and summaries may show it: a query may hold a key.
    pub fn place(&self) -> &str {
        let url = self.url_template.as_str();
        url.split_once(['?', '#']).map_or(url, |(place, _)| place)
    }
}

/// Requests are signed with AWS Signature Version 4, as a Function URL with the auth type `AWS_IAM` wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAuth {
    /// The service that they are signed for: `lambda` for a Function URL.
    pub service: String,
    /// The region that they are signed for, and who signs.
    pub access: AwsAccess,
}

/// Files for TLS, PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// The authorities to trust; without it, those of the system.
    pub trust_cacerts: Option<PathBuf>,
    /// The certificate and the key to show to the service.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Reads the spec of an `io.statefun.endpoints.v2/http`.
pub(crate) fn v2(mut fields: Fields<'_, '_>) -> EndpointSpec {
    let head = head(&mut fields);
    let transport = match fields.optional("transport") {
        None => ASYNC_DEFAULTS,
        Some(node) => transport(fields.inside(node, "transport")),
    };
    fields.finish();
    head.with(transport)
}

/// Reads the spec of an `io.statefun.endpoints.v1/http`, whose transport is okhttp with its `timeouts` beside the other fields.
pub(crate) fn v1(mut fields: Fields<'_, '_>) -> EndpointSpec {
    let head = head(&mut fields);
    let transport = okhttp(&mut fields);
    fields.finish();
    head.with(transport)
}

struct Head {
    spec: EndpointSpec,
    auth: Option<HttpAuth>,
}

impl Head {
    fn with(mut self, transport: HttpEndpoint) -> EndpointSpec {
        self.spec.engine.concurrency_max = transport.pool_size;
        if let EndpointAdapter::Http(http) = &mut self.spec.adapter {
            let url_template = std::mem::take(&mut http.url_template);
            *http = HttpEndpoint {
                url_template,
                auth: self.auth,
                ..transport
            };
        }
        self.spec
    }
}

fn head(fields: &mut Fields<'_, '_>) -> Head {
    let source = fields.source();
    let functions = patterns(fields);
    let url_template = fields.parsed("urlPathTemplate", parse_url);
    let auth = auth(fields);
    if auth.is_some()
        && url_template
            .as_ref()
            .is_some_and(|url| url.contains("+unix://"))
    {
        fields.problem_with("auth", "requests over a Unix socket cannot be signed");
    }
    let batch_messages_max = fields.whole("maxNumBatchRequests", 1_000, 1..=1_000_000);
    let spec = EndpointSpec {
        source,
        engine: Endpoint {
            functions,
            batch_messages_max: batch_messages_max as usize,
            bundle_batches_max: 1,
            bundle_bytes_max: ASYNC_DEFAULTS.payload_max_bytes as usize,
            concurrency_max: ASYNC_DEFAULTS.pool_size,
            retries: RETRIES,
            on_poison: OnPoison::DeadLetter,
        },
        adapter: EndpointAdapter::Http(HttpEndpoint {
            url_template: url_template.unwrap_or_default(),
            ..ASYNC_DEFAULTS
        }),
    };
    Head { spec, auth }
}

/// Reads `auth`, an extension of ours: how requests are signed.
fn auth(fields: &mut Fields<'_, '_>) -> Option<HttpAuth> {
    let node = fields.optional("auth")?;
    let mut fields = fields.inside(node, "auth");
    aws::variant(&mut fields, &["aws-iam"])?;
    let service = fields.optional_text("service");
    let access = aws::access(&mut fields);
    fields.finish();
    Some(HttpAuth {
        service: service.unwrap_or_else(|| "lambda".to_owned()),
        access,
    })
}

const ASYNC_DEFAULTS: HttpEndpoint = HttpEndpoint {
    url_template: String::new(),
    call: Duration::from_secs(120),
    connect: Duration::from_secs(20),
    read: None,
    write: None,
    pool_idle: Duration::from_secs(15),
    pool_size: 1_024,
    payload_max_bytes: 32 << 20,
    tls: Tls {
        trust_cacerts: None,
        client: None,
    },
    auth: None,
};

fn transport(mut fields: Fields<'_, '_>) -> HttpEndpoint {
    let kind = match fields.optional("type") {
        None => Some(ASYNC),
        node => fields.parse_of("type", node, |text| {
            let known = [ASYNC, OKHTTP];
            known.into_iter().find(|kind| *kind == text).ok_or_else(|| {
                let hint = crate::module::problem::hint(text, known);
                format!("unknown transport '{text}'{hint}")
            })
        }),
    };
    let transport = match kind {
        Some(OKHTTP) => okhttp(&mut fields),
        Some(_) => asynchronous(&mut fields),
        // Which fields are known depends on the type.
        None => return ASYNC_DEFAULTS,
    };
    fields.finish();
    transport
}

fn timeout_range() -> std::ops::RangeInclusive<Duration> {
    Duration::from_millis(1)..=Duration::from_secs(86_400)
}

fn asynchronous(fields: &mut Fields<'_, '_>) -> HttpEndpoint {
    let mut call = fields.optional_duration("call", timeout_range());
    let mut connect = fields.optional_duration("connect", timeout_range());
    if let Some(node) = fields.optional("timeouts") {
        let mut timeouts = fields.inside(node, "timeouts");
        let nested_call = timeouts.optional_duration("call", timeout_range());
        let nested_connect = timeouts.optional_duration("connect", timeout_range());
        let twice = "is written both here and directly under transport";
        if call.is_some() && nested_call.is_some() {
            timeouts.problem_with("call", twice);
        }
        if connect.is_some() && nested_connect.is_some() {
            timeouts.problem_with("connect", twice);
        }
        call = call.or(nested_call);
        connect = connect.or(nested_connect);
        timeouts.finish();
    }
    let pool_idle = fields.optional_duration("pool_ttl", timeout_range());
    let pool_size = fields.whole("pool_size", ASYNC_DEFAULTS.pool_size as u64, 1..=1_000_000);
    let payload_max_bytes = fields.bytes(
        "payload_max_bytes",
        ASYNC_DEFAULTS.payload_max_bytes,
        1..=1 << 31,
    );
    HttpEndpoint {
        call: call.unwrap_or(ASYNC_DEFAULTS.call),
        connect: connect.unwrap_or(ASYNC_DEFAULTS.connect),
        pool_idle: pool_idle.unwrap_or(ASYNC_DEFAULTS.pool_idle),
        pool_size: pool_size as usize,
        payload_max_bytes,
        tls: tls(fields),
        ..ASYNC_DEFAULTS
    }
}

fn tls(fields: &mut Fields<'_, '_>) -> Tls {
    let source = fields.source();
    let mut file = |name: &'static str| {
        let node = fields.optional(name);
        fields.parse_of(name, node, |text| file_path(&source, text))
    };
    let trust_cacerts = file("trust_cacerts");
    let (cert, key) = (file("client_cert"), file("client_key"));
    if fields.optional("client_key_password").is_some() {
        let message =
            "encrypted keys are not supported: decrypt 'client_key' and leave the password out";
        fields.problem_with("client_key_password", message);
    }
    let client = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (Some(_), None) => {
            fields.problem_with("client_cert", "a certificate needs its 'client_key'");
            None
        }
        (None, Some(_)) => {
            fields.problem_with("client_key", "a key needs its 'client_cert'");
            None
        }
        (None, None) => None,
    };
    Tls {
        trust_cacerts,
        client,
    }
}

fn okhttp(fields: &mut Fields<'_, '_>) -> HttpEndpoint {
    let mut transport = HttpEndpoint {
        call: Duration::from_secs(60),
        connect: Duration::from_secs(10),
        read: Some(Duration::from_secs(10)),
        write: Some(Duration::from_secs(10)),
        ..ASYNC_DEFAULTS
    };
    if let Some(node) = fields.optional("timeouts") {
        let mut timeouts = fields.inside(node, "timeouts");
        let mut timeout = |name| timeouts.optional_duration(name, timeout_range());
        transport.call = timeout("call").unwrap_or(transport.call);
        transport.connect = timeout("connect").unwrap_or(transport.connect);
        transport.read = timeout("read").or(transport.read);
        transport.write = timeout("write").or(transport.write);
        timeouts.finish();
    }
    transport
}

/// No refusal quotes the URL: it may hold secrets, and the line of the module file is told anyway.
fn parse_url(text: &str) -> Result<String, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(
            "not a URL: write http://host:port/path, https://… or http+unix:///path/to/file.sock/path"
                .to_owned(),
        );
    };
    let rest = rest.replace("{function.name}", "");
    if rest.contains(['{', '}']) {
        return Err("the URL has a placeholder other than `{function.name}`".to_owned());
    }
    if rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("not a URL: it has a blank in it".to_owned());
    }
    match scheme.to_ascii_lowercase().as_str() {
        "http" | "https" => match rest.split(['/', '?', '#']).next() {
            Some(host) if host.contains('@') => Err(
                "a user or a password cannot stand in the URL, which metrics and logs show"
                    .to_owned(),
            ),
            Some(host) if !host.is_empty() => Ok(text.to_owned()),
            _ => Err("the URL names no host".to_owned()),
        },
        "http+unix" => {
            if rest.split('/').any(|segment| segment.ends_with(".sock")) {
                Ok(text.to_owned())
            } else {
                Err("the URL names no socket: its file must end in `.sock`".to_owned())
            }
        }
        "https+unix" => Err("TLS over a Unix socket (https+unix) is not supported".to_owned()),
        _ => Err(format!(
            "the scheme `{scheme}` is not one of http, https, http+unix"
        )),
    }
}
