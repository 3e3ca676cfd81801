//! The endpoint kinds: where functions are served.

use std::path::PathBuf;
use std::time::Duration;

use satchel_aws::config::AwsAccess;
use satchel_engine::address::FunctionType;
use satchel_engine::endpoint::{Endpoint, FunctionPattern, OnPoison, Retries};

use crate::module::aws;
use crate::module::fields::Fields;
use crate::module::http_endpoint::HttpEndpoint;
use crate::module::problem::Source;
use crate::module::yaml::{Node, Value};

/// AWS refuses larger requests (6 MB); the rest is room for the envelope around the batches.
const LAMBDA_PAYLOAD_MAX_BYTES: u64 = 6_000_000;
/// AWS ends an invocation after 15 minutes.
const LAMBDA_TIMEOUT_MAX: Duration = Duration::from_secs(900);

/// An endpoint of a module file.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointSpec {
    /// Where it is written.
    pub source: Source,
    /// What the engine must know of it.
    pub engine: Endpoint,
    /// How it is reached.
    pub adapter: EndpointAdapter,
}

/// How an endpoint is reached.
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
    /// Its name or ARN.
    pub function_name: String,
    /// The version or alias to invoke.
    pub qualifier: Option<String>,
    /// Where Lambda is, and who asks it; of no meaning in `dev`.
    pub access: AwsAccess,
    /// How long one invocation may take.
    pub timeout: Duration,
    /// The command that starts a handler process in `dev`, run in the directory of the module file; without one, the binary named
    /// like the function is built there with cargo.
    pub dev_command: Option<Vec<String>>,
}

/// The retries of an endpoint whose kind says nothing about them.
pub(crate) const RETRIES: Retries = Retries {
    attempts_max: 8,
    backoff_initial_ms: 100,
    backoff_max_ms: 30_000,
};

/// Reads the spec of a `satchel.endpoints.v1/lambda`.
pub(crate) fn lambda(mut fields: Fields<'_, '_>) -> EndpointSpec {
    let source = fields.source();
    let functions = patterns(&mut fields);
    let function_name = fields.parsed("functionName", parse_function_name);
    let qualifier = fields.optional_text("qualifier");
    let access = aws::access(&mut fields);
    let batch_messages_max = fields.whole("maxBatchMessages", 1_000, 1..=1_000_000);
    let bundle_batches_max = fields.whole("maxBundleBatches", 500, 1..=10_000);
    let payload_max_bytes =
        fields.bytes("maxBundleBytes", 5 << 20, 1_024..=LAMBDA_PAYLOAD_MAX_BYTES);
    let concurrency_max = fields.whole("maxConcurrency", 50, 1..=100_000);
    let timeout = fields
        .optional_duration("timeout", Duration::from_millis(1)..=LAMBDA_TIMEOUT_MAX)
        .unwrap_or(Duration::from_secs(30));
    let retries = retries(&mut fields);
    let on_poison = on_poison(&mut fields);
    let dev_command = dev_command(&mut fields);
    fields.finish();
    EndpointSpec {
        source,
        engine: Endpoint {
            functions,
            batch_messages_max: batch_messages_max as usize,
            bundle_batches_max: bundle_batches_max as usize,
            // The engine counts bytes before base64 makes four of three.
            bundle_bytes_max: (payload_max_bytes / 4 * 3) as usize,
            concurrency_max: concurrency_max as usize,
            retries,
            on_poison,
        },
        adapter: EndpointAdapter::Lambda(LambdaEndpoint {
            function_name: function_name.unwrap_or_default(),
            qualifier,
            access,
            timeout,
            dev_command,
        }),
    }
}

/// Reads `functions`: one pattern, or a list of them.
pub(crate) fn patterns(fields: &mut Fields<'_, '_>) -> Vec<FunctionPattern> {
    let Some(node) = fields.required("functions") else {
        return Vec::new();
    };
    let nodes = match &node.value {
        Value::List(nodes) if nodes.is_empty() => {
            fields.problem_with("functions", "the list is empty");
            return Vec::new();
        }
        Value::List(nodes) => nodes.iter().collect::<Vec<&Node>>(),
        _ => vec![node],
    };
    nodes
        .into_iter()
        .filter_map(|node| fields.parse_of("functions", Some(node), parse_pattern))
        .collect()
}

fn parse_pattern(text: &str) -> Result<FunctionPattern, String> {
    let wrong = || format!("`{text}` names no functions: write `namespace/name` or `namespace/*`");
    let function: FunctionType = text.parse().map_err(|_| wrong())?;
    match (function.namespace(), function.name()) {
        (namespace, _) if namespace.contains('*') => Err(wrong()),
        (namespace, "*") => Ok(FunctionPattern::Namespace(namespace.to_owned())),
        (_, name) if name.contains('*') => Err(wrong()),
        _ => Ok(FunctionPattern::One(function)),
    }
}

/// Names and ARNs of Lambda functions, as the Invoke API takes them.
fn parse_function_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_:.$/".contains(c);
    if text.len() > 170 || !text.chars().all(allowed) {
        return Err(format!(
            "`{text}` is not the name or ARN of a Lambda function"
        ));
    }
    Ok(text.to_owned())
}

fn retries(fields: &mut Fields<'_, '_>) -> Retries {
    let Some(node) = fields.optional("retries") else {
        return RETRIES;
    };
    let mut fields = fields.inside(node, "retries");
    let attempts_max = fields.whole("maxAttempts", RETRIES.attempts_max.into(), 1..=1_000_000);
    let mut retries = Retries {
        attempts_max: attempts_max as u32,
        ..RETRIES
    };
    if let Some(node) = fields.optional("backoff") {
        let range = Duration::from_millis(1)..=Duration::from_secs(86_400);
        let mut backoff = fields.inside(node, "backoff");
        let initial = backoff.optional_duration("initial", range.clone());
        let max = backoff.optional_duration("max", range);
        let ms = |duration: Duration| duration.as_millis() as u64;
        retries.backoff_initial_ms = initial.map_or(RETRIES.backoff_initial_ms, ms);
        retries.backoff_max_ms =
            max.map_or(RETRIES.backoff_max_ms.max(retries.backoff_initial_ms), ms);
        if retries.backoff_initial_ms > retries.backoff_max_ms {
            backoff.problem_with("max", "the longest delay is shorter than the initial one");
        }
        backoff.finish();
    }
    fields.finish();
    retries
}

fn on_poison(fields: &mut Fields<'_, '_>) -> OnPoison {
    let node = fields.optional("onPoison");
    let parsed = fields.parse_of("onPoison", node, |text| match text {
        "dead-letter" => Ok(OnPoison::DeadLetter),
        "suspend" => Ok(OnPoison::Suspend),
        _ => Err(format!("`{text}` is neither `dead-letter` nor `suspend`")),
    });
    parsed.unwrap_or(OnPoison::DeadLetter)
}

fn dev_command(fields: &mut Fields<'_, '_>) -> Option<Vec<String>> {
    let node = fields.optional("dev")?;
    let mut dev = fields.inside(node, "dev");
    let words = dev.list("command");
    let command = words
        .iter()
        .filter_map(|word| dev.text_of("command", Some(word)))
        .collect();
    dev.finish();
    Some(command)
}

/// A path of a module file: relative ones are relative to the file's directory.
pub(crate) fn file_path(source: &Source, text: &str) -> Result<PathBuf, String> {
    if text.starts_with("classpath:") {
        return Err(format!(
            "`{text}` is in a Java class path, which does not exist here: name a file"
        ));
    }
    Ok(source.directory().join(text))
}
