//! `satchel.endpoints.v1/lambda`, and the fields that all endpoint kinds share.

use std::path::PathBuf;
use std::time::Duration;

use satchel_aws::config::AwsAccess;
use satchel_engine::address::FunctionType;
use satchel_engine::endpoint::{Endpoint, FunctionPattern, Linger, OnPoison, Retries};

use crate::module::aws;
use crate::module::fields::Fields;
use crate::module::http_endpoint::HttpEndpoint;
use crate::module::ingress::named_like_a_path;
use crate::module::problem::Source;
use crate::module::table::{Field, Form, Format, Kind, Word};

/// Lambda rejects larger requests (6 MB); the rest is room for the envelope around the batches.
const LAMBDA_PAYLOAD_MAX_BYTES: u64 = 6_000_000;

/// Lambda ends an invocation after 15 minutes.
const LAMBDA_TIMEOUT_MAX: Duration = Duration::from_secs(900);

/// A longer linger would outweigh what it saves.
const LINGER_MAX: Duration = Duration::from_secs(1);

const SHORTEST: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);

/// The kind `satchel.endpoints.v1/lambda`.
pub(crate) static LAMBDA: Kind = Kind {
    name: "satchel.endpoints.v1/lambda",
    summary: "Functions in a Lambda function, invoked with bundles: several batches, of different \
              addresses, in one request. With `satchel dev` the handler runs as processes on this \
              machine.",
    example: "kind: satchel.endpoints.v1/lambda
spec:
  functions: example/*
  functionName: greeter
  qualifier: live
  maxConcurrency: 100
  timeout: 1m
",
    fields: LAMBDA_FIELDS,
    read: |fields, application| application.endpoints.push(lambda(fields)),
};

const LAMBDA_FIELDS: &[Field] = &[
    FUNCTIONS,
    Field::required(
        "functionName",
        Form::Format(&FUNCTION_NAME),
        "Lambda function that serves them. With `satchel dev` and without `dev.command` it is also \
         the name of the binary to build and run.",
    ),
    Field::optional(
        "qualifier",
        Form::Text,
        "the unpublished version, `$LATEST`",
        "Version or alias of the Lambda function.",
    ),
    aws::REGION,
    aws::CREDENTIALS,
    Field::with_default(
        "maxBatchMessages",
        Form::Whole(1, 1_000_000),
        "1000",
        "Maximum number of messages in one batch, that is, of one address in one request.",
    ),
    Field::with_default(
        "maxBundleBatches",
        Form::Whole(1, 10_000),
        "500",
        "Maximum number of batches in one request.",
    ),
    Field::with_default(
        "maxBundleBytes",
        Form::Bytes(1_024, LAMBDA_PAYLOAD_MAX_BYTES),
        "5MiB",
        "Maximum size of one request, counted after base64. Lambda rejects requests over 6 MB.",
    ),
    Field::with_default(
        "maxConcurrency",
        Form::Whole(1, 100_000),
        "50",
        "Maximum number of invocations in flight.",
    ),
    MAX_LINGER,
    Field::with_default(
        "timeout",
        Form::Duration(SHORTEST, LAMBDA_TIMEOUT_MAX),
        "30s",
        "Maximum duration of one invocation. Set it above the timeout of the Lambda function.",
    ),
    RETRIES_FIELD,
    ON_POISON,
    Field::optional(
        "dev",
        Form::Mapping(DEV),
        "the binary `functionName` of the Cargo package in the directory of the module file, built \
         when it is needed",
        "Handler process under `satchel dev`. `satchel run` ignores it.",
    ),
];

/// The field `maxLinger` of endpoints that are invoked with bundles.
const MAX_LINGER: Field = Field::optional(
    "maxLinger",
    Form::Duration(Duration::ZERO, LINGER_MAX),
    "as long as an invocation takes, at most 10 ms, and only while batches come often enough for \
     another one in that time",
    "Maximum time that a batch waits for others, to share an invocation with them, while \
     invocations are in flight. A batch leaves at once while none is, and so does a bundle that is \
     full. A longer time saves invocations, and `0` saves latency: the messages of one bundle are \
     answered together, so the slowest of them holds up the others.",
);

/// The field `retries` of every endpoint.
pub(crate) const RETRIES_FIELD: Field = Field::optional(
    "retries",
    Form::Mapping(RETRIES),
    "the defaults of its fields",
    "Attempts for a message that fails. Failures of the endpoint itself, such as a refused \
     connection or the status 502, are retried without limit and count for no message.",
);

/// The field `onPoison` of every endpoint.
pub(crate) const ON_POISON: Field = Field::with_default(
    "onPoison",
    Form::Choice(&[
        Word {
            word: "dead-letter",
            meaning: "The message becomes a dead letter and its address continues.",
        },
        Word {
            word: "suspend",
            meaning: "The address is suspended, with the message at its head, until an operator \
                      resumes it or skips the message.",
        },
    ]),
    "dead-letter",
    "Treatment of a message whose last attempt has failed, or that was rejected for good and whose \
     caller does not wait.",
);

/// Word for attempts without limit.
const UNLIMITED: &str = "unlimited";

const RETRIES: &[Field] = &[
    Field::with_default(
        "maxAttempts",
        Form::WholeOr(1, 1_000_000, UNLIMITED),
        "8",
        "Maximum number of attempts for a message, counted while it is alone in its batch. With \
         `unlimited`, a message that always fails holds up its address until it succeeds.",
    ),
    Field::optional(
        "backoff",
        Form::Mapping(&[
            Field::with_default(
                "initial",
                Form::Duration(SHORTEST, DAY),
                "100ms",
                "Delay before the second attempt. It doubles with each further one.",
            ),
            Field::with_default(
                "max",
                Form::Duration(SHORTEST, DAY),
                "30s",
                "Maximum delay; the default is `initial` where that is longer.",
            ),
        ]),
        "the defaults of its fields",
        "Delays between attempts.",
    ),
];

const DEV: &[Field] = &[Field::required(
    "command",
    Form::List(&Form::Text, 1),
    "Command that starts the handler, in the directory of the module file: the program and its \
     arguments.",
)];

/// The field `functions` of every endpoint.
pub(crate) const FUNCTIONS: Field = Field::required(
    "functions",
    Form::OneOrMore(const { &Form::Format(&PATTERN) }),
    "Functions that the endpoint serves. An exact name takes precedence over a namespace.",
);

static PATTERN: Format = Format {
    name: "function pattern",
    pattern: r"[^*]+/(\*|\.{0,2}[^/*.][^/*]*|\.{3,}[^/*]*)",
    check: |text| parse_pattern(text).map(drop),
};

static FUNCTION_NAME: Format = Format {
    name: "name or ARN of a Lambda function",
    pattern: r"[A-Za-z0-9_:.$/\-]{1,170}",
    check: |text| parse_function_name(text).map(drop),
};

/// An endpoint of a module file.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointSpec {
    /// Position in the module file.
    pub source: Source,
    /// Functions and limits, for the engine.
    pub engine: Endpoint,
    /// Connection to the functions.
    pub adapter: EndpointAdapter,
}

/// Connection to the functions of an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub enum EndpointAdapter {
    /// `satchel.endpoints.v1/lambda`.
    Lambda(LambdaEndpoint),
    /// `io.statefun.endpoints.v1/http` and `io.statefun.endpoints.v2/http`.
    Http(HttpEndpoint),
}

/// A Lambda function; in `dev`, processes on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LambdaEndpoint {
    /// Name or ARN.
    pub function_name: String,
    /// Version or alias to invoke.
    pub qualifier: Option<String>,
    /// Region and credentials; unused in `dev`.
    pub access: AwsAccess,
    /// Maximum duration of one invocation.
    pub timeout: Duration,
    /// Command that starts a handler process in `dev`, in the directory of the module file. Without
    /// it, cargo builds the binary that has the function's name there.
    pub dev_command: Option<Vec<String>>,
}

/// Reads the spec of a `satchel.endpoints.v1/lambda`.
fn lambda(mut fields: Fields<'_, '_>) -> EndpointSpec {
    let source = fields.source();
    let functions = patterns(&mut fields);
    let function_name = fields.parsed("functionName", parse_function_name);
    let payload_max_bytes = fields.bytes("maxBundleBytes");
    EndpointSpec {
        source,
        engine: Endpoint {
            functions,
            batch_messages_max: fields.whole("maxBatchMessages") as usize,
            bundle_batches_max: fields.whole("maxBundleBatches") as usize,
            // The engine counts bytes before base64 makes four of three.
            bundle_bytes_max: (payload_max_bytes / 4 * 3) as usize,
            concurrency_max: fields.whole("maxConcurrency") as usize,
            linger: linger(&mut fields),
            retries: retries(fields.mapping("retries")),
            on_poison: on_poison(&mut fields),
        },
        adapter: EndpointAdapter::Lambda(LambdaEndpoint {
            function_name: function_name.unwrap_or_default(),
            qualifier: fields.optional_text("qualifier"),
            access: aws::access(&mut fields),
            timeout: fields.duration("timeout"),
            dev_command: dev_command(&mut fields),
        }),
    }
}

/// Reads `functions`.
pub(crate) fn patterns(fields: &mut Fields<'_, '_>) -> Vec<FunctionPattern> {
    let nodes = fields.one_or_more("functions").into_iter();
    nodes
        .filter_map(|node| fields.parse_of("functions", Some(node), parse_pattern))
        .collect()
}

fn parse_pattern(text: &str) -> Result<FunctionPattern, String> {
    let wrong = || {
        named_like_a_path(text).unwrap_or_else(|| {
            format!("`{text}` is not a function pattern: write `namespace/name` or `namespace/*`")
        })
    };
    let function: FunctionType = text.parse().map_err(|_| wrong())?;
    match (function.namespace(), function.name()) {
        (namespace, _) if namespace.contains('*') => Err(wrong()),
        (namespace, "*") => Ok(FunctionPattern::Namespace(namespace.to_owned())),
        (_, name) if name.contains('*') => Err(wrong()),
        _ => Ok(FunctionPattern::One(function)),
    }
}

/// Reads a name or ARN of a Lambda function, as the Invoke API accepts it.
fn parse_function_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_:.$/".contains(c);
    if text.len() > 170 || !text.chars().all(allowed) {
        return Err(format!(
            "`{text}` is not the name or ARN of a Lambda function"
        ));
    }
    Ok(text.to_owned())
}

/// Reads [`MAX_LINGER`].
fn linger(fields: &mut Fields<'_, '_>) -> Linger {
    match fields.written_duration("maxLinger") {
        Some(linger) => Linger::Fixed(linger.as_millis() as u64),
        None => Linger::Measured,
    }
}

/// Reads [`ON_POISON`].
pub(crate) fn on_poison(fields: &mut Fields<'_, '_>) -> OnPoison {
    match fields.choice("onPoison") {
        "suspend" => OnPoison::Suspend,
        _ => OnPoison::DeadLetter,
    }
}

/// Reads the fields of [`RETRIES_FIELD`].
pub(crate) fn retries(mut fields: Fields<'_, '_>) -> Retries {
    let attempts_max = match fields.whole_or("maxAttempts") {
        Some(attempts) => attempts as u32,
        None => u32::MAX,
    };
    let mut backoff = fields.mapping("backoff");
    let initial = backoff.duration("initial");
    let max = backoff.written_duration("max");
    let max = max.unwrap_or_else(|| backoff.default_duration("max").max(initial));
    if max < initial {
        backoff.problem_with("max", "must not be shorter than 'initial'");
    }
    Retries {
        attempts_max,
        backoff_initial_ms: initial.as_millis() as u64,
        backoff_max_ms: max.as_millis() as u64,
    }
}

fn dev_command(fields: &mut Fields<'_, '_>) -> Option<Vec<String>> {
    if !fields.is_present("dev") {
        return None;
    }
    let mut dev = fields.mapping("dev");
    let words = dev.list("command").iter();
    let command = words.filter_map(|word| dev.text_of("command", Some(word)));
    Some(command.collect())
}

/// Reads a path of a module file. Relative paths start at the file's directory, and `~/` at the
/// user's. The prefix `file:` of Java is allowed.
pub(crate) fn file_path(source: &Source, text: &str) -> Result<PathBuf, String> {
    if text.starts_with("classpath:") {
        return Err(format!(
            "`{text}` refers to a Java class path, which Satchel does not have: write the path of \
             a file"
        ));
    }
    let path = match text.strip_prefix("file:") {
        Some(path) => path.strip_prefix("//").unwrap_or(path),
        None => text,
    };
    if path.is_empty() {
        return Err(format!("`{text}` is not the path of a file"));
    }
    match (path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(path), Some(home)) => Ok(home.join(path)),
        _ => Ok(source.directory().join(path)),
    }
}
