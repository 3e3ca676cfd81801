//! Whether what a module file names is there and may be used, found out without changing anything.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_kinesis::error::{DisplayErrorContext, ProvideErrorMetadata};

use crate::lease::{Claimant, Condition, LeaseItem, LeaseTable, Write};

/// How long one question may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Whether the stream is there (`kinesis:DescribeStreamSummary`).
///
/// # Errors
/// Why not.
pub async fn kinesis_stream(sdk: &SdkConfig, stream: &str) -> Result<(), String> {
    let limits = TimeoutConfig::builder().operation_timeout(ANSWER_MAX);
    let config = aws_sdk_kinesis::config::Builder::from(sdk).timeout_config(limits.build());
    let client = aws_sdk_kinesis::Client::from_conf(config.build());
    let request = client.describe_stream_summary().stream_name(stream);
    match Box::pin(request.send()).await {
        Ok(_) => Ok(()),
        Err(error) => Err(match (error.code(), error.message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            _ => DisplayErrorContext(&error).to_string(),
        }),
    }
}

/// Whether the table is there and a lease in it could be read and written. The write is one whose condition cannot hold, so nothing changes.
///
/// # Errors
/// Why not.
pub async fn lease_table(table: &LeaseTable) -> Result<(), String> {
    let stated = |error: crate::lease::TableError| error.to_string();
    Box::pin(table.look()).await.map_err(stated)?;
    // Nobody is called like that.
    let nobody = Claimant {
        id: "satchel validate".to_owned(),
        address: None,
    };
    let write = Write {
        condition: Condition::Mine {
            owner: nobody.id.clone(),
            epoch: 0,
        },
        item: LeaseItem {
            owner: nobody.id,
            epoch: 0,
            counter: 0,
            lease_ms: 0,
            released: true,
            address: nobody.address,
        },
    };
    match Box::pin(table.write(&write)).await {
        Ok(_) => Ok(()),
        Err(error) => Err(stated(error)),
    }
}
