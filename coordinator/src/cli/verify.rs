//! `satchel verify`.

use clap::Args;

use crate::cli::output;
use crate::config::{S3Args, application_name};
use crate::error::{Exit, Failure};
use crate::offline::{self, Root};
use crate::store::StateLocation;

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    root: RootArgs,
}

/// Arguments that name a root of durable data.
#[derive(Debug, Args)]
pub struct RootArgs {
    /// Location of the state: a directory (`satchel dev` uses <data-dir>/state) or
    /// s3://bucket/prefix
    #[arg(long, env = "SATCHEL_STATE", value_name = "LOCATION")]
    pub(crate) state: StateLocation,

    /// Application that must own the state [default: any]
    #[arg(
        long,
        env = "SATCHEL_APPLICATION",
        value_name = "NAME",
        value_parser = application_name
    )]
    pub(crate) application: Option<String>,

    #[command(flatten)]
    pub(crate) s3: S3Args,
}

impl RootArgs {
    /// Opens the root for reading.
    pub(crate) async fn open(&self) -> Result<Root, Failure> {
        let s3 = self.s3.options().map_err(Failure::usage)?;
        Root::open(&self.state, s3).await
    }
}

/// Checks every object of a root and prints the findings, one per line.
pub(crate) async fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let root = args.root.open().await?;
    let verified = offline::verify(&root, args.root.application.as_deref()).await?;
    if verified.moved {
        eprintln!("satchel: an owner wrote meanwhile; not all of its new objects were checked");
    }
    let (objects, bytes) = (verified.objects, verified.bytes);
    if verified.findings.is_empty() {
        let summary =
            format!("{objects} objects, {bytes} bytes: nothing is damaged, missing or foreign");
        output::line(summary.as_bytes())?;
        if let Some(placement) = verified.placement {
            output::line(format!("placement: {placement}").as_bytes())?;
        }
        return Ok(());
    }
    for finding in &verified.findings {
        if !output::line(finding.to_string().as_bytes())? {
            break;
        }
    }
    let count = verified.findings.len();
    Err(Failure::new(
        Exit::Damaged,
        format!(
            "{} is not whole: {count} findings in {objects} objects of {bytes} bytes",
            root.place()
        ),
    ))
}
