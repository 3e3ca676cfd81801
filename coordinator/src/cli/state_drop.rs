//! `satchel state drop`.

use std::time::Duration;

use clap::Args;
use reqwest::Method;
use satchel_engine::address::FunctionType;

use crate::cli::address::encoded;
use crate::cli::output;
use crate::cli::target::AdminArgs;
use crate::error::{Exit, Failure};

/// Maximum number of values that one request removes.
const PAGE: usize = 1000;

/// Pause before a request that waits for attempts in flight.
const PAUSE: Duration = Duration::from_millis(500);

/// Arguments of `state drop`.
#[derive(Debug, Args)]
pub struct DropArgs {
    /// Function, namespace/name
    #[arg(value_name = "FUNCTION")]
    function: FunctionType,

    /// Name of the state
    #[arg(value_name = "STATE")]
    state: String,

    /// Continue an interrupted drop
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,

    #[command(flatten)]
    admin: AdminArgs,
}

/// Drops the state request by request, and prints the number of removed values.
pub(crate) async fn run(args: &DropArgs) -> Result<(), Failure> {
    let client = args.admin.client()?;
    let path = format!(
        "/api/functions/{}/{}/states/{}/drop?limit={PAGE}",
        encoded(args.function.namespace()),
        encoded(args.function.name()),
        encoded(&args.state),
    );
    let mut total = 0;
    let mut cursor = args.cursor.clone();
    loop {
        let path = match &cursor {
            None => path.clone(),
            Some(cursor) => format!("{path}&cursor={}", encoded(cursor)),
        };
        let request = || client.request(Method::POST, &path);
        let answer = client.json_despite_overload(request).await;
        let answer = answer.map_err(|failure| interrupted(failure, total, cursor.as_deref()))?;
        let Some(dropped) = answer["dropped"].as_u64() else {
            return Err(Failure::new(
                Exit::Environment,
                "the answer has an unknown form; are both sides of the same version?",
            ));
        };
        total += dropped;
        let next = answer["next"].as_str().map(str::to_owned);
        if next.is_none() {
            let summary = serde_json::json!({"dropped": total});
            output::line(summary.to_string().as_bytes())?;
            return Ok(());
        }
        if dropped == 0 && next == cursor {
            tokio::time::sleep(PAUSE).await;
        }
        cursor = next;
    }
}

/// Adds to a failure what was done until then, and how to continue.
fn interrupted(failure: Failure, dropped: u64, cursor: Option<&str>) -> Failure {
    let Some(cursor) = cursor else {
        return failure;
    };
    Failure {
        message: format!(
            "{}; {dropped} values were dropped before, continue with --cursor {cursor}",
            failure.message
        ),
        ..failure
    }
}
