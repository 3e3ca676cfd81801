//! `satchel validate`.

use std::path::PathBuf;

use clap::Args;

use crate::check::{Around, check};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::config::S3Args;
use crate::module::Application;
use crate::store::{Place, PlaceOptions};

/// Arguments of `validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Module files, or directories that contain a module.yaml.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// Also check with AWS that every named function, stream, table and bucket exists and may be
    /// used with this process's credentials. The only change is an object beside the state, which
    /// is written and removed again.
    #[arg(long)]
    check_aws: bool,

    /// With --check-aws: check this place for the state of `satchel run`.
    #[arg(long, env = "SATCHEL_STATE", value_name = "PLACE")]
    state: Option<Place>,

    /// With --check-aws: check this table for the leases of `satchel run`.
    #[arg(long, env = "SATCHEL_LEASE_TABLE", value_name = "TABLE")]
    lease_table: Option<String>,

    #[command(flatten)]
    s3: S3Args,
}

/// Checks module files and prints a summary of their components.
pub(crate) async fn run(args: ValidateArgs) -> Result<(), Failure> {
    let application = Application::load(&args.files, &|name| std::env::var(name).ok())
        .map_err(|problems| Failure::usage(problems.to_string()))?;
    for line in application.summary() {
        if !output::line(line.as_bytes())? {
            break;
        }
    }
    if !args.check_aws {
        return Ok(());
    }
    let options = PlaceOptions {
        s3: args.s3.options().map_err(Failure::usage)?,
        on_written: None,
    };
    let around = Around {
        state: args.state.map(|place| (place, options)),
        lease_table: args.lease_table,
    };
    let findings = check(&application, &around).await;
    let mut problems = Vec::new();
    for finding in findings {
        match finding.problem {
            None => {
                output::line(format!("ok: {}", finding.what).as_bytes())?;
            }
            Some(problem) => problems.push(format!("{}: {problem}", finding.what)),
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Environment, problems.join("\n")))
}
