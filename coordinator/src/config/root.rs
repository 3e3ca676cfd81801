//! Flags that name the root that an offline command works on.

use clap::Args;

use super::{S3Args, application_name};
use crate::error::Failure;
use crate::offline::Root;
use crate::store::StateLocation;

/// Arguments that name a root of durable data.
#[derive(Debug, Args)]
pub struct RootArgs {
    /// Location of the state: a directory (`satchel dev` uses DATA-DIR/state) or
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
