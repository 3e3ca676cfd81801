//! `satchel call` and `satchel send`.

use std::io::Read;
use std::time::Duration;

use clap::Args;
use reqwest::Method;
use reqwest::header::HeaderValue;

use crate::cli::address::{AddressArg, encoded};
use crate::cli::output;
use crate::cli::target::TrafficArgs;
use crate::error::{Exit, Failure};
use crate::module::{format_duration, parse_duration};
use crate::typed_json;

/// Additional wait, longer than the application takes to report a timeout.
const GRACE: Duration = Duration::from_secs(10);

/// Arguments of `call` and `send`.
#[derive(Debug, Args)]
pub struct CallArgs {
    /// Target address namespace/name/id; the id is everything after the second `/`
    #[arg(value_name = "ADDRESS")]
    address: AddressArg,

    /// Message as JSON; `-` reads it from standard input
    #[arg(value_name = "JSON")]
    message: String,

    #[command(flatten)]
    traffic: TrafficArgs,

    /// Typename of the message [default: JSON, for any function that accepts JSON]
    ///
    /// Values of StateFun's built-in types (io.statefun.types/int, …) are written as JSON too.
    #[arg(long = "type", value_name = "TYPENAME")]
    typename: Option<String>,

    /// Key under which the same request can be repeated without taking effect again
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,

    /// Maximum time to wait for the answer
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "30s",
        value_parser = parse_duration
    )]
    timeout: Duration,
}

/// Calls or sends, and prints the reply to a call.
pub(crate) async fn run(verb: &str, args: CallArgs) -> Result<(), Failure> {
    let message = match args.message.as_str() {
        "-" => read_stdin()?,
        text => text.to_owned(),
    };
    let typename = args.typename.as_deref();
    let body = typed_json::encode(typename, &message)
        .map_err(|error| Failure::usage(format!("the message is {error}")))?;
    let client = args.traffic.client()?;
    let timeout = encoded(&format_duration(args.timeout));
    let path = format!("/{verb}/{}?timeout={timeout}", args.address.path());
    let mut request = client
        .request(Method::POST, &path)
        .timeout(args.timeout + GRACE)
        .body(body);
    request = match typename {
        Some(typename) => request.header("satchel-type", header("--type", typename)?),
        None => request.header("content-type", "application/json"),
    };
    if let Some(key) = &args.idempotency_key {
        request = request.header("idempotency-key", header("--idempotency-key", key)?);
    }
    let response = client.send(request).await?;
    let typename = response.headers().get("satchel-type");
    let typename = typename.and_then(|typename| typename.to_str().ok());
    let typename = typename.map(str::to_owned);
    let reply = response
        .bytes()
        .await
        .map_err(|error| client.lost(&error))?;
    if verb == "call" {
        output::line(&typed_json::show(typename.as_deref(), &reply))?;
    }
    Ok(())
}

/// Converts the value of a flag to a header, which carries it unchanged.
pub(crate) fn header(flag: &str, text: &str) -> Result<HeaderValue, Failure> {
    let refused = || {
        Failure::usage(format!(
            "{flag}: `{}` contains a control character, or begins or ends with a blank: \
             a header cannot carry it",
            text.escape_debug()
        ))
    };
    if text.trim() != text {
        return Err(refused());
    }
    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| refused())
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().lock().read_to_string(&mut text);
    read.map_err(|error| Failure::caused(Exit::Usage, "standard input", error))?;
    Ok(text)
}
