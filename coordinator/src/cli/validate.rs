//! `satchel validate`.

use std::path::PathBuf;

use clap::Args;

#[cfg(feature = "aws")]
use crate::check::{Finding, Further, check};
use crate::cli::output;
use crate::config::{S3Args, application_name};
use crate::destinations;
#[cfg(feature = "aws")]
use crate::error::Exit;
use crate::error::Failure;
use crate::module::Application;
#[cfg(feature = "aws")]
use crate::store::StoreOptions;
use crate::store::{LogLocation, StateLocation};

/// Arguments of `validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Module files, or directories that contain a module.yaml
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// Also try everything that a start of `satchel run` does in AWS, and name what is missing
    ///
    /// Uses the credentials of this process. Prints a line for each missing function, stream,
    /// table, bucket or permission. Changes nothing, except for an object beside the state that is
    /// written and removed again: permissions to write are tried with requests that the service
    /// must refuse.
    #[arg(long)]
    check_aws: bool,

    /// With --check-aws: location of the state of `satchel run`
    #[arg(long, env = "SATCHEL_STATE", value_name = "LOCATION")]
    state: Option<StateLocation>,

    /// With --check-aws: location of the commit log of a new root. An existing root knows its own.
    #[arg(long, env = "SATCHEL_COMMIT_LOG", value_name = "LOCATION")]
    commit_log: Option<LogLocation>,

    /// With --check-aws: lease table of `satchel run`
    #[arg(long, env = "SATCHEL_LEASE_TABLE", value_name = "TABLE")]
    lease_table: Option<String>,

    /// With --check-aws: name of the application, as of `satchel run`
    #[arg(
        long,
        env = "SATCHEL_APPLICATION",
        value_name = "NAME",
        default_value = "satchel",
        value_parser = application_name
    )]
    application: String,

    /// With --check-aws: stream that Kinesis egresses write to; may be repeated
    #[arg(long, value_name = "STREAM")]
    egress_stream: Vec<String>,

    /// With --check-aws: secret with the token of the traffic port
    #[arg(long, env = "SATCHEL_HTTP_TOKEN_SECRET", value_name = "NAME")]
    http_token_secret: Option<String>,

    /// With --check-aws: secret with the token of the administration port
    #[arg(long, env = "SATCHEL_ADMIN_TOKEN_SECRET", value_name = "NAME")]
    admin_token_secret: Option<String>,

    #[command(flatten)]
    s3: S3Args,
}

/// Checks module files and everything else that a start takes from this machine, and prints what
/// runs where.
pub(crate) async fn run(args: ValidateArgs) -> Result<(), Failure> {
    let application = Application::load(&args.files, &|name| std::env::var(name).ok())
        .map_err(|problems| Failure::usage(problems.to_string()))?;
    for warning in &application.warnings {
        eprintln!("warning: {warning}");
    }
    for line in application.summary() {
        if !output::line(line.as_bytes())? {
            break;
        }
    }
    let problems = destinations::check(&application);
    if !problems.is_empty() {
        return Err(Failure::usage(problems.join("\n")));
    }
    if !args.check_aws {
        return Ok(());
    }
    Box::pin(check_aws(args, &application)).await
}

#[cfg(not(feature = "aws"))]
#[allow(
    clippy::unused_async,
    reason = "the signature is that of the feature `aws`"
)]
async fn check_aws(_: ValidateArgs, _: &Application) -> Result<(), Failure> {
    Err(Failure::needs_aws("--check-aws"))
}

#[cfg(feature = "aws")]
async fn check_aws(args: ValidateArgs, application: &Application) -> Result<(), Failure> {
    let options = StoreOptions {
        s3: args.s3.options().map_err(Failure::usage)?,
        log: args.commit_log,
        ..StoreOptions::default()
    };
    let secrets = [
        ("--http-token-secret", args.http_token_secret),
        ("--admin-token-secret", args.admin_token_secret),
    ];
    let further = Further {
        application: args.application,
        state: args.state.map(|place| (place, options)),
        lease_table: args.lease_table,
        egress_streams: args.egress_stream,
        secrets: secrets
            .into_iter()
            .filter_map(|(flag, name)| Some((flag, name?)))
            .collect(),
    };
    let findings = check(application, &further).await;
    let mut problems = Vec::new();
    for Finding {
        what,
        problems: found,
    } in findings
    {
        if found.is_empty() {
            output::line(format!("ok: {what}").as_bytes())?;
        }
        problems.extend(
            found
                .into_iter()
                .map(|problem| format!("{what}: {problem}")),
        );
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Environment, problems.join("\n")))
}
