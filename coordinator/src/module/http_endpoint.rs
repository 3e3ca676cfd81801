//! StateFun's HTTP endpoints and their transports.

mod tls;

use std::time::Duration;

use satchel_aws::config::AwsAccess;
use satchel_engine::endpoint::{Endpoint, Linger};

use crate::module::aws;
use crate::module::endpoint::{
    EndpointAdapter, EndpointSpec, FUNCTIONS, ON_POISON, RETRIES_FIELD, on_poison, patterns,
    retries,
};
use crate::module::fields::Fields;
use crate::module::problem::Source;
use crate::module::table::{Field, Form, Format, Kind, Tagged, Variant};

pub use tls::{ClientCertificate, Tls};

const ASYNC: &str = "io.statefun.transports.v1/async";
const OKHTTP: &str = "io.statefun.transports.v1/okhttp";

/// The kind `io.statefun.endpoints.v2/http`.
pub(crate) static V2: Kind = Kind {
    name: "io.statefun.endpoints.v2/http",
    summary: "Functions behind HTTP, with StateFun's protocol: one batch, of one address, in one \
              request.",
    example: "kind: io.statefun.endpoints.v2/http
spec:
  functions: example/*
  urlPathTemplate: http://localhost:8000/{function.name}
  transport:
    type: io.statefun.transports.v1/async
    call: 1m
",
    fields: &[
        FUNCTIONS,
        URL,
        AUTH,
        BATCH,
        RETRIES_EXTENSION,
        ON_POISON_EXTENSION,
        Field::with_default(
            "transport",
            Form::Tagged(&TRANSPORT),
            ASYNC,
            "HTTP client of the endpoint.",
        ),
    ],
    read: |fields, application| application.endpoints.push(v2(fields)),
};

/// The kind `io.statefun.endpoints.v1/http`.
pub(crate) static V1: Kind = Kind {
    name: "io.statefun.endpoints.v1/http",
    summary: "The older form of the HTTP endpoint, with the timeouts of the okhttp transport.",
    example: "kind: io.statefun.endpoints.v1/http
spec:
  functions: example/*
  urlPathTemplate: http://localhost:8000/statefun
  timeouts:
    call: 1min
",
    fields: &[
        FUNCTIONS,
        URL,
        AUTH,
        BATCH,
        RETRIES_EXTENSION,
        ON_POISON_EXTENSION,
        OKHTTP_TIMEOUTS,
    ],
    read: |fields, application| application.endpoints.push(v1(fields)),
};

const URL: Field = Field::required(
    "urlPathTemplate",
    Form::Format(&URL_TEMPLATE),
    "URL of a function: `http://`, `https://`, `http+unix://` or `https+unix://`. \
     `{function.name}` stands for the function's name. For a Unix socket, the path up to the first \
     segment that ends in `.sock` is the socket's file, and the rest is the path of the request; \
     with TLS, its server is named `localhost`.",
);

const BATCH: Field = Field::with_default(
    "maxNumBatchRequests",
    Form::Whole(1, 1_000_000),
    "1000",
    "Maximum number of messages in one batch, that is, in one request.",
);

const AUTH: Field = Field::optional(
    "auth",
    Form::Tagged(&SIGNATURE),
    "requests are not signed",
    "Signature of requests. Not available for Unix sockets.",
)
.extension();

const RETRIES_EXTENSION: Field = RETRIES_FIELD.extension();

const ON_POISON_EXTENSION: Field = ON_POISON.extension();

static SIGNATURE: Tagged = Tagged {
    title: "HTTP authentication",
    untagged: None,
    variants: &[Variant {
        word: "aws-iam",
        fields: &[
            Field::with_default(
                "service",
                Form::Text,
                "lambda",
                "Service for which requests are signed. `lambda` is right for a Function URL.",
            ),
            aws::REGION,
            aws::CREDENTIALS,
        ],
        meaning: "AWS Signature Version 4, which a Function URL with auth type `AWS_IAM` requires.",
    }],
};

static TRANSPORT: Tagged = Tagged {
    title: "HTTP transport",
    untagged: Some(ASYNC),
    variants: &[
        Variant {
            word: ASYNC,
            fields: ASYNC_FIELDS,
            meaning: "The default, also of a `transport` without `type`.",
        },
        Variant {
            word: OKHTTP,
            fields: &[OKHTTP_TIMEOUTS, TRANSPORT_BATCH],
            meaning: "StateFun's synchronous client, with its timeouts. Its pool and sizes are the \
                      defaults of the asynchronous transport.",
        },
    ],
};

const ASYNC_FIELDS: &[Field] = &[
    timeout(
        "call",
        "2m",
        "Maximum duration of one request, connecting included.",
    ),
    timeout("connect", "20s", "Maximum duration of connecting."),
    Field::optional(
        "timeouts",
        Form::Mapping(&[
            Field::optional("call", TIMEOUT, "`call` of the transport", "As `call`."),
            Field::optional(
                "connect",
                TIMEOUT,
                "`connect` of the transport",
                "As `connect`.",
            ),
            Field::optional("read", TIMEOUT, "no effect", WITHOUT_READ),
            Field::optional("write", TIMEOUT, "no effect", WITHOUT_WRITE),
        ]),
        "no effect",
        "Another place for `call` and `connect`, each of which may stand in one of the two places.",
    ),
    TRANSPORT_BATCH,
    Field::with_default(
        "pool_ttl",
        Form::Duration(Duration::ZERO, Duration::from_secs(86_400)),
        "4s",
        "Time for which an idle connection is kept; with `0`, each request makes a new one. \
         StateFun's default is `15s`, longer than common servers keep one: Node.js closes it after \
         5 s.",
    ),
    Field::with_default(
        "pool_size",
        Form::Whole(1, 1_000_000),
        "1024",
        "Maximum number of requests in flight, and of idle connections that are kept.",
    ),
    Field::with_default(
        "payload_max_bytes",
        Form::Bytes(1, 1 << 31),
        "32MiB",
        "Maximum size of a request, and of an answer, unpacked if it is compressed with gzip. A \
         batch that does not fit is sent in parts; a message that does not fit alone is a dead \
         letter.",
    ),
    tls::TRUST_CACERTS,
    tls::CLIENT_CERT,
    tls::CLIENT_KEY,
    tls::CLIENT_KEY_PASSWORD,
];

const OKHTTP_TIMEOUTS: Field = Field::optional(
    "timeouts",
    Form::Mapping(&[
        timeout(
            "call",
            "1m",
            "Maximum duration of one request, connecting included.",
        ),
        timeout("connect", "10s", "Maximum duration of connecting."),
        timeout(
            "read",
            "10s",
            "Maximum time for which the service may be silent while it answers.",
        ),
        Field::optional("write", TIMEOUT, "no effect", WITHOUT_WRITE),
    ]),
    "the defaults of its fields",
    "Timeouts of requests.",
);

/// Field that StateFun ignores within a transport.
const TRANSPORT_BATCH: Field = Field::optional(
    "maxNumBatchRequests",
    Form::Whole(1, 1_000_000),
    "no effect",
    "Accepted with a warning: StateFun ignores it here. It belongs to the endpoint itself.",
);

const WITHOUT_READ: &str =
    "Accepted with a warning: the asynchronous transport bounds the whole request by `call`.";
const WITHOUT_WRITE: &str =
    "Accepted with a warning: the sending of a request is bounded by `call`.";

const TIMEOUT: Form = Form::Duration(Duration::from_millis(1), Duration::from_secs(86_400));

const fn timeout(name: &'static str, default: &'static str, meaning: &'static str) -> Field {
    Field::with_default(name, TIMEOUT, default, meaning)
}

static URL_TEMPLATE: Format = Format {
    name: "URL template",
    pattern: r"[hH][tT][tT][pP][sS]?(\+[uU][nN][iI][xX])?://\S+",
    check: |text| parse_url(text).map(drop),
};

/// A service that speaks StateFun's protocol over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpEndpoint {
    /// URL of a function: `http://`, `https://`, `http+unix://` or `https+unix://`.
    ///
    /// `{function.name}` stands for the name. For the latter two, the path up to the first segment
    /// that ends in `.sock` is the socket's file, and the rest is the path of the request.
    pub url_template: String,
    /// Maximum duration of one request, connecting included.
    pub call: Duration,
    /// Maximum duration of connecting.
    pub connect: Duration,
    /// Maximum silence of the service while it answers, if bounded apart from `call` (okhttp).
    pub read: Option<Duration>,
    /// Time for which an idle connection is kept; zero keeps none.
    pub pool_idle: Duration,
    /// Maximum number of connections that are kept.
    pub pool_size: usize,
    /// Maximum size of a request and of an answer, in bytes.
    pub payload_max_bytes: u64,
    /// Files for TLS.
    pub tls: Tls,
    /// Signature of requests, if any.
    pub auth: Option<HttpAuth>,
}

impl HttpEndpoint {
    /// URL of a function as metrics, logs and summaries may show it: without the query, which may
    /// hold a key.
    pub fn place(&self) -> &str {
        let url = self.url_template.as_str();
        url.split_once(['?', '#']).map_or(url, |(place, _)| place)
    }
}

/// AWS Signature Version 4 of requests, as a Function URL with the auth type `AWS_IAM` requires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAuth {
    /// Service for which requests are signed: `lambda` for a Function URL.
    pub service: String,
    /// Region for which requests are signed, and the signer's credentials.
    pub access: AwsAccess,
}

fn v2(mut fields: Fields<'_, '_>) -> EndpointSpec {
    let spec = head(&mut fields);
    let (kind, mut transport) = fields.tagged("transport");
    let transport = match kind {
        OKHTTP => {
            transport.warn_of("maxNumBatchRequests", MISPLACED);
            okhttp(transport.mapping("timeouts"))
        }
        _ => asynchronous(&mut transport),
    };
    with_transport(spec, transport)
}

/// Warning of a field that belongs to the endpoint.
const MISPLACED: &str = "StateFun ignores it in a transport; write it beside 'transport'";

fn v1(mut fields: Fields<'_, '_>) -> EndpointSpec {
    let spec = head(&mut fields);
    let transport = okhttp(fields.mapping("timeouts"));
    with_transport(spec, transport)
}

/// Parts that both versions share: everything but the transport.
struct Head {
    engine: Endpoint,
    source: Source,
    url_template: String,
    auth: Option<HttpAuth>,
}

fn head(fields: &mut Fields<'_, '_>) -> Head {
    let source = fields.source();
    let functions = patterns(fields);
    let url_template = fields.parsed("urlPathTemplate", parse_url);
    let url_template = url_template.unwrap_or_default();
    let auth = auth(fields);
    if auth.is_some() && is_unix(&url_template) {
        fields.problem_with("auth", "requests over a Unix socket cannot be signed");
    }
    let engine = Endpoint {
        functions,
        batch_messages_max: fields.whole("maxNumBatchRequests") as usize,
        bundle_batches_max: 1,
        // The transport has both: its size of payloads, and of its pool.
        bundle_bytes_max: 0,
        concurrency_max: 0,
        linger: Linger::Fixed(0),
        retries: retries(fields.mapping("retries")),
        on_poison: on_poison(fields),
    };
    Head {
        engine,
        source,
        url_template,
        auth,
    }
}

fn with_transport(head: Head, transport: HttpEndpoint) -> EndpointSpec {
    EndpointSpec {
        source: head.source,
        engine: Endpoint {
            bundle_bytes_max: usize::try_from(transport.payload_max_bytes).unwrap_or(usize::MAX),
            concurrency_max: transport.pool_size,
            ..head.engine
        },
        adapter: EndpointAdapter::Http(HttpEndpoint {
            url_template: head.url_template,
            auth: head.auth,
            ..transport
        }),
    }
}

fn auth(fields: &mut Fields<'_, '_>) -> Option<HttpAuth> {
    if !fields.is_present("auth") {
        return None;
    }
    let (_, mut fields) = fields.tagged("auth");
    Some(HttpAuth {
        service: fields.text("service"),
        access: aws::access(&mut fields),
    })
}

fn asynchronous(fields: &mut Fields<'_, '_>) -> HttpEndpoint {
    let mut call = fields.written_duration("call");
    let mut connect = fields.written_duration("connect");
    fields.warn_of("maxNumBatchRequests", MISPLACED);
    let mut timeouts = fields.mapping("timeouts");
    let why = "the asynchronous transport bounds the whole request by 'call'";
    timeouts.warn_of("read", why);
    timeouts.warn_of("write", why);
    for (name, direct) in [("call", &mut call), ("connect", &mut connect)] {
        let nested = timeouts.written_duration(name);
        if direct.is_some() && nested.is_some() {
            timeouts.problem_with(name, "stands both here and directly under transport");
        }
        *direct = direct.or(nested);
    }
    HttpEndpoint {
        url_template: String::new(),
        call: call.unwrap_or_else(|| fields.default_duration("call")),
        connect: connect.unwrap_or_else(|| fields.default_duration("connect")),
        read: None,
        pool_idle: fields.duration("pool_ttl"),
        pool_size: fields.whole("pool_size") as usize,
        payload_max_bytes: fields.bytes("payload_max_bytes"),
        tls: tls::read(fields),
        auth: None,
    }
}

fn okhttp(mut timeouts: Fields<'_, '_>) -> HttpEndpoint {
    let pool = asynchronous(&mut timeouts.empty(ASYNC_FIELDS));
    timeouts.warn_of("write", "the sending of a request is bounded by 'call'");
    timeouts.written_duration("write");
    HttpEndpoint {
        call: timeouts.duration("call"),
        connect: timeouts.duration("connect"),
        read: Some(timeouts.duration("read")),
        ..pool
    }
}

fn is_unix(url: &str) -> bool {
    let scheme = url.split("://").next().unwrap_or_default();
    scheme.to_ascii_lowercase().ends_with("+unix")
}

/// Checks a URL template. No error quotes the URL, which may hold secrets.
fn parse_url(text: &str) -> Result<String, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("not a URL: write http://host:port/path, https://… or \
             http+unix:///path/to/file.sock/path"
            .to_owned());
    };
    let rest = rest.replace("{function.name}", "");
    if rest.contains(['{', '}']) {
        return Err("the URL contains a placeholder other than `{function.name}`".to_owned());
    }
    if rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("not a URL: it contains a blank".to_owned());
    }
    match scheme.to_ascii_lowercase().as_str() {
        "http" | "https" => match rest.split(['/', '?', '#']).next() {
            Some(host) if host.contains('@') => Err(
                "the URL must not contain a user or a password, because metrics and logs show it"
                    .to_owned(),
            ),
            Some(host) if !host.is_empty() => Ok(text.to_owned()),
            _ => Err("the URL names no host".to_owned()),
        },
        "http+unix" | "https+unix" => {
            if rest.split('/').any(|segment| segment.ends_with(".sock")) {
                Ok(text.to_owned())
            } else {
                Err("the URL names no socket: the name of its file must end in `.sock`".to_owned())
            }
        }
        _ => Err(format!(
            "the scheme `{scheme}` is not one of http, https, http+unix, https+unix"
        )),
    }
}
