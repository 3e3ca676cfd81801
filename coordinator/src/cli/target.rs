//! Application that a command talks to, and token for it.

use std::path::PathBuf;

use clap::Args;

use crate::cli::client::Client;
use crate::error::Failure;

/// Traffic port of the application.
#[derive(Debug, Args)]
pub(crate) struct TrafficArgs {
    /// URL of the traffic port
    #[arg(long, env = "SATCHEL_URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,

    /// File with the token for traffic, if the application requires one
    #[arg(long, env = "SATCHEL_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl TrafficArgs {
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Client::new(&self.url, self.token_file.as_deref())
    }
}

/// Administration port of the application.
#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// URL of the administration port
    #[arg(
        long,
        env = "SATCHEL_ADMIN_URL",
        default_value = "http://127.0.0.1:8081"
    )]
    admin_url: String,

    /// File with the token for administration, if the application requires one
    #[arg(long, env = "SATCHEL_ADMIN_TOKEN_FILE", value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
}

impl AdminArgs {
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Client::new(&self.admin_url, self.admin_token_file.as_deref())
    }
}
