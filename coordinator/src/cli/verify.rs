//! `satchel verify`.

use clap::Args;

use crate::cli::output;
use crate::config::RootArgs;
use crate::error::{Exit, Failure};
use crate::offline;

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    root: RootArgs,
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
