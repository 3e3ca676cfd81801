//! StateFun's HTTP endpoints and their transports.

use std::path::PathBuf;
use std::time::Duration;

use satchel_aws::config::AwsAccess;
use satchel_engine::endpoint::Endpoint;

use crate::module::aws;
use crate::module::endpoint::{
    EndpointAdapter, EndpointSpec, FUNCTIONS, ON_POISON, RETRIES_FIELD, file_path, on_poison,
    patterns, retries,
};
use crate::module::fields::Fields;
use crate::module::problem::Source;
use crate::module::table::{Field, Form, Format, Kind, Tagged, Variant};

const ASYNC: &str = "io.statefun.transports.v1/async";
const OKHTTP: &str = "io.statefun.transports.v1/okhttp";

/// Maximum size of a batch in one request, in bytes.
const REQUEST_BYTES_MAX: usize = 32 << 20;

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
    "URL of a function: `http://`, `https://` or `http+unix://`. `{function.name}` stands for the \
     function's name. For `http+unix://` the path up to the first segment that ends in `.sock` is \
     the socket's file, and the rest is the path of the request.",
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
    "Signature of requests. Not available for `http+unix://`.",
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
            fields: &[OKHTTP_TIMEOUTS],
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
        ]),
        "no effect",
        "Another place for `call` and `connect`, each of which may stand in one of the two places.",
    ),
    timeout(
        "pool_ttl",
        "4s",
        "Time for which an idle connection is kept. StateFun's default is `15s`, \
         longer than common servers keep one: Node.js closes it after 5 s.",
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
        "Maximum size of an answer, after it was unpacked if it is compressed with gzip.",
    ),
    Field::optional(
        "trust_cacerts",
        Form::Text,
        "the certificate authorities of the system",
        "PEM file of the certificate authorities to trust. Relative to the module file, as are \
         `client_cert` and `client_key`.",
    ),
    Field::optional(
        "client_cert",
        Form::Text,
        "no client certificate",
        "PEM file of the client certificate. Requires `client_key`.",
    ),
    Field::optional(
        "client_key",
        Form::Text,
        "no client certificate",
        "PEM file of the client certificate's key, not encrypted. Requires `client_cert`.",
    ),
    Field::optional(
        "client_key_password",
        Form::Unsupported(
            "encrypted keys are not supported: decrypt the file of 'client_key' and remove this \
             field",
        ),
        "the key is not encrypted",
        "Password of the client key.",
    ),
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
        timeout(
            "write",
            "10s",
            "Accepted for compatibility; `call` bounds the sending of a request.",
        ),
    ]),
    "the defaults of its fields",
    "Timeouts of requests.",
);

const TIMEOUT: Form = Form::Duration(Duration::from_millis(1), Duration::from_secs(86_400));

const fn timeout(name: &'static str, default: &'static str, meaning: &'static str) -> Field {
    Field::with_default(name, TIMEOUT, default, meaning)
}

static URL_TEMPLATE: Format = Format {
    name: "URL template",
    pattern: r"[hH][tT][tT][pP]([sS]|\+[uU][nN][iI][xX])?://\S+",
    check: |text| parse_url(text).map(drop),
};

/// A service that speaks StateFun's protocol over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpEndpoint {
    /// URL of a function: `http://`, `https://` or `http+unix://`.
    ///
    /// `{function.name}` stands for the name. For `http+unix://` the path up to the first segment
    /// that ends in `.sock` is the socket's file, and the rest is the path of the request.
    pub url_template: String,
    /// Maximum duration of one request, connecting included.
    pub call: Duration,
    /// Maximum duration of connecting.
    pub connect: Duration,
    /// Maximum silence of the service while it answers, if bounded apart from `call` (okhttp).
    pub read: Option<Duration>,
    /// Maximum stall while sending, if bounded apart from `call` (okhttp).
    pub write: Option<Duration>,
    /// Time for which an idle connection is kept.
    pub pool_idle: Duration,
    /// Maximum number of connections that are kept.
    pub pool_size: usize,
    /// Maximum size of an answer, in bytes.
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

/// PEM files for TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Authorities to trust; without it, those of the system.
    pub trust_cacerts: Option<PathBuf>,
    /// Client certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

fn v2(mut fields: Fields<'_, '_>) -> EndpointSpec {
    let spec = head(&mut fields);
    let (kind, mut transport) = fields.tagged("transport");
    let transport = match kind {
        OKHTTP => okhttp(transport.mapping("timeouts")),
        _ => asynchronous(&mut transport),
    };
    with_transport(spec, transport)
}

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
    if auth.is_some() && url_template.contains("+unix://") {
        fields.problem_with("auth", "requests over a Unix socket cannot be signed");
    }
    let engine = Endpoint {
        functions,
        batch_messages_max: fields.whole("maxNumBatchRequests") as usize,
        bundle_batches_max: 1,
        bundle_bytes_max: REQUEST_BYTES_MAX,
        // The size of the pool, which the transport has.
        concurrency_max: 0,
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
    let mut timeouts = fields.mapping("timeouts");
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
        write: None,
        pool_idle: fields.duration("pool_ttl"),
        pool_size: fields.whole("pool_size") as usize,
        payload_max_bytes: fields.bytes("payload_max_bytes"),
        tls: tls(fields),
        auth: None,
    }
}

fn tls(fields: &mut Fields<'_, '_>) -> Tls {
    let source = fields.source();
    let mut file = |name| fields.parsed(name, |text| file_path(&source, text));
    let trust_cacerts = file("trust_cacerts");
    let (cert, key) = (file("client_cert"), file("client_key"));
    fields.refuse("client_key_password");
    let client = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (Some(_), None) => {
            fields.problem_with("client_cert", "a certificate also needs its 'client_key'");
            None
        }
        (None, Some(_)) => {
            fields.problem_with("client_key", "a key also needs its 'client_cert'");
            None
        }
        (None, None) => None,
    };
    Tls {
        trust_cacerts,
        client,
    }
}

fn okhttp(mut timeouts: Fields<'_, '_>) -> HttpEndpoint {
    let pool = asynchronous(&mut timeouts.empty(ASYNC_FIELDS));
    HttpEndpoint {
        call: timeouts.duration("call"),
        connect: timeouts.duration("connect"),
        read: Some(timeouts.duration("read")),
        write: Some(timeouts.duration("write")),
        ..pool
    }
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
        "http+unix" => {
            if rest.split('/').any(|segment| segment.ends_with(".sock")) {
                Ok(text.to_owned())
            } else {
                Err("the URL names no socket: the name of its file must end in `.sock`".to_owned())
            }
        }
        "https+unix" => Err("TLS over a Unix socket (https+unix) is not supported".to_owned()),
        _ => Err(format!(
            "the scheme `{scheme}` is not one of http, https, http+unix"
        )),
    }
}
