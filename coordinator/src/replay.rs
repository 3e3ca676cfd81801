//! Replay: the request that a function got or would get, built from a root, for a handler under a
//! debugger. Nothing is written in the root, and no running application hears of it.
//!
//! ```text
//!  root ─► offline::scene ─► Stage: a partition of its own ─► Batch ─► Courier ─► handler
//!                              ▲                                         │
//!                              └──────────── answer ◄────────────────────┘
//!                              └─► Verdict ─► text or JSON
//! ```
//!
//! The engine makes the batch and judges the answer, in a partition that lives only here, and the
//! invokers of the coordinator encode the request and decode the answer. So a replay cannot differ
//! from what an owner would do. Its attempt ids have an epoch that no owner reaches.

mod args;
mod courier;
mod report;
mod stage;

use satchel_engine::address::Address;
use satchel_engine::durable::DeadLetter;
use satchel_log::At;

pub use self::args::InvokeArgs;

use self::courier::{Courier, Route, Sent};
use self::report::Report;
use self::stage::{Delivered, Next, Stage};
use crate::clock::now_ms;
use crate::error::{Exit, Failure};
use crate::module::{Application, EndpointAdapter, EndpointSpec, format_rfc3339};
use crate::offline::{Root, Scene, dead_letter, scene};

/// Maximum number of requests of a replay. A function that lacks states is asked twice.
const REQUESTS_MAX: usize = 4;

/// Runs `satchel invoke`.
pub(crate) async fn run(args: &InvokeArgs) -> Result<(), Failure> {
    let application = modules(args)?;
    let root = args.root.open().await?;
    let (scene, delivered) = find(args, &root).await?;
    let address = delivered.address().clone();
    let endpoint = application
        .as_ref()
        .map(|application| serving(application, args, &address))
        .transpose()?;
    let is_http = matches!(
        endpoint.map(|endpoint| &endpoint.adapter),
        Some(EndpointAdapter::Http(_))
    );
    let destination = args.destination()?;
    let route = Route::of(&destination, is_http);
    let letters = scene.letters.clone();
    let at_ms = scene.at_ms;
    let stage = Stage::new(scene, delivered, application.as_ref(), endpoint);
    let mut answers = Vec::new();
    let Next::Ask(first) = stage.play(&answers)? else {
        return Err(nothing_to_send(&address, at_ms, &letters));
    };
    let mut report = Report::of(&stage, &first);
    report.print_request(args.json)?;
    let mut courier = Courier::open(destination, route, endpoint, args.timeout).await?;
    let mut batch = first;
    let verdict = loop {
        match courier.deliver(batch).await {
            Ok(Sent::Written(note)) => {
                eprintln!("satchel: {note}");
                return Ok(());
            }
            Ok(Sent::Answered(outcome)) => answers.push(outcome),
            Err(failure) => {
                courier.close().await;
                return Err(failure);
            }
        }
        match stage.play(&answers) {
            Ok(Next::Ask(again)) if answers.len() < REQUESTS_MAX => {
                report.declared(&again);
                batch = again;
            }
            Ok(Next::Ask(_)) => {
                courier.close().await;
                let message = format!("the function asks for states after {REQUESTS_MAX} requests");
                return Err(Failure::new(Exit::Refused, message));
            }
            Ok(Next::Over(verdict)) => break verdict,
            Err(failure) => {
                courier.close().await;
                return Err(failure);
            }
        }
    };
    courier.close().await;
    report.print_verdict(&verdict, args.json)?;
    match verdict.reason() {
        None => Ok(()),
        Some(reason) => Err(Failure::new(Exit::Refused, reason)),
    }
}

/// Reads the module files, if any are named.
fn modules(args: &InvokeArgs) -> Result<Option<Application>, Failure> {
    if args.module.is_empty() {
        return Ok(None);
    }
    let read = Application::load(&args.module, &|name| std::env::var(name).ok());
    let read = read.map_err(|problems| Failure::new(Exit::Usage, problems.to_string()))?;
    Ok(Some(read))
}

/// Returns the endpoint that serves the function of an address.
fn serving<'a>(
    application: &'a Application,
    args: &InvokeArgs,
    address: &Address,
) -> Result<&'a EndpointSpec, Failure> {
    let endpoints = application.endpoints.iter();
    let engine = endpoints.map(|endpoint| endpoint.engine.clone()).collect();
    let endpoints = satchel_engine::endpoint::Endpoints::new(engine);
    let index = endpoints.serving(&address.function).ok_or_else(|| {
        let files: Vec<String> = args
            .module
            .iter()
            .map(|it| it.display().to_string())
            .collect();
        Failure::usage(format!(
            "no endpoint in {} serves the function {}",
            files.join(", "),
            address.function
        ))
    })?;
    Ok(&application.endpoints[index.0 as usize])
}

/// Reads what the command line names: the scene, and the messages that are delivered in it.
async fn find(args: &InvokeArgs, root: &Root) -> Result<(Scene, Delivered), Failure> {
    let expected = args.root.application.as_deref();
    if let Some(At::Moment(moment_ms)) = args.at
        && moment_ms > now_ms()
    {
        return Err(Failure::usage("--at is in the future"));
    }
    if let Some(address) = &args.from {
        let at = args.at.unwrap_or(At::Latest);
        let scene = scene(root, expected, at, address).await?;
        let delivered = match args.message()? {
            Some(message) => Delivered::Given(address.clone(), message),
            None => Delivered::Pending(address.clone()),
        };
        return Ok((scene, delivered));
    }
    let id = args
        .dead_letter
        .expect("the group of arguments is required");
    let found = dead_letter(root, expected, At::Latest, id).await;
    let (address, letter) = match (found, args.at) {
        // It may have been retried or deleted since.
        (Err(failure), Some(at)) if failure.exit == Exit::Refused => {
            let then = dead_letter(root, expected, at, id).await;
            then.map_err(|_| failure)?
        }
        (found, _) => found?,
    };
    let at = match args.at {
        Some(at) => at,
        None if args.latest => At::Latest,
        None => At::Moment(letter.failed_at_ms),
    };
    let scene = scene(root, expected, at, &address)
        .await
        .map_err(|failure| too_old(failure, args, &letter))?;
    let delivered = match args.latest {
        true => Delivered::Retry(address, letter),
        false => Delivered::Letter(address, letter),
    };
    Ok((scene, delivered))
}

/// Adds to the failure of a history that is too short that there is the present.
fn too_old(failure: Failure, args: &InvokeArgs, letter: &DeadLetter) -> Failure {
    if failure.exit != Exit::Damaged || args.at.is_some() || args.latest {
        return failure;
    }
    let failed_at = format_rfc3339(letter.failed_at_ms);
    Failure {
        message: format!(
            "{}; the message failed at {failed_at}; --latest takes the present state, as a retry \
             would, and `--retention` keeps history",
            failure.message
        ),
        ..failure
    }
}

fn nothing_to_send(
    address: &Address,
    at_ms: u64,
    letters: &[satchel_engine::message::MessageId],
) -> Failure {
    let letters: Vec<String> = letters.iter().map(ToString::to_string).collect();
    let letters = match letters.is_empty() {
        true => String::new(),
        false => format!("; its dead letters are {}", letters.join(", ")),
    };
    Failure::new(
        Exit::Refused,
        format!(
            "no message waited for {address} at {}{letters}; processed messages are not kept: give \
             one with --message, or a dead letter with --dead-letter",
            format_rfc3339(at_ms)
        ),
    )
}
