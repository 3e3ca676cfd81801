//! Which application a command asks, and by what right.

use std::path::PathBuf;

use clap::Args;

use crate::cli::client::Client;
use crate::cli::exit::Failure;

/// Where the application serves traffic.
#[derive(Debug, Args)]
pub(crate) struct TrafficArgs {
    /// Where the application serves traffic.
    #[arg(long, env = "SATCHEL_URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,

    /// A file that holds the token for traffic, where the application asks for one.
    #[arg(long, env = "SATCHEL_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl TrafficArgs {
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Client::new(&self.url, self.token_file.as_deref())
    }
}

/// Where the application serves administration.
#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// Where the application serves administration.
    #[arg(
        long,
        env = "SATCHEL_ADMIN_URL",
        default_value = "http://127.0.0.1:8081"
    )]
    admin_url: String,

    /// A file that holds the token for administration, where the application asks for one.
    #[arg(long, env = "SATCHEL_ADMIN_TOKEN_FILE", value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
}

impl AdminArgs {
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Client::new(&self.admin_url, self.admin_token_file.as_deref())
    }
}
