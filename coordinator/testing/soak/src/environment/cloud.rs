//! `satchel run`, an owner and a standby, over emulated AWS services.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use satchel_testkit::{Cloud, Service};

use super::module::module;
use super::{Chaos, Plan, Running, TOKEN};
use crate::chaos::ChaosDriver;
use crate::clients::{Clients, ITEMS, Streams};
use crate::fault_plan::FaultPlan;
use crate::functions::{OUT, VIOLATIONS};
use crate::metrics::Metrics;
use crate::retrying_client::RetryingClient;
use crate::sabotage::Sabotage;
use crate::supervisor::Supervisor;
use crate::verification::Root;
use crate::violations::Violations;

/// Pause of a process: minimum and additional random time.
///
/// It exceeds the lease time of 2 s. It stays below the 10 s (two of lease time, seven, and the
/// request timeout) after which the next owner reads which records of this process arrived. A
/// process that is paused between checking its ownership and sending a request sends it when it
/// resumes. Exactly-once delivery is promised only if that request lands before the next owner
/// reads.
const PAUSE: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(4));

/// Starts the emulators and both processes.
pub(super) async fn begin(plan: &Plan) -> Result<Running, String> {
    let dir = &plan.logs;
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    let (file, token, violations) = (
        dir.join("cloud.yaml"),
        dir.join("token"),
        dir.join("cloud-violations"),
    );
    let delivery = match plan.sabotage {
        Some(Sabotage::AtLeastOnce) => "at-least-once",
        _ => "exactly-once",
    };
    // Several partitions recognize their records by ids.
    let envelope = if plan.partitions > 1 { "json" } else { "none" };
    let egress_fields =
        format!("  delivery: {delivery}\n  requestTimeout: 1s\n  envelope: {envelope}\n");
    fs::write(&file, module(None, &egress_fields)).map_err(failed)?;
    fs::write(&token, TOKEN).map_err(failed)?;
    let violations_path = violations.display().to_string();
    let variables = [(VIOLATIONS, &*violations_path)];
    let cloud = Cloud::start(&file, &plan.handler, &variables).await;
    cloud.create_stream(ITEMS, 2).await;
    cloud.create_stream(OUT, 2).await;
    let services = [
        (Service::S3, cloud.moto()),
        (Service::DYNAMODB, cloud.moto()),
        (Service::KINESIS, cloud.kinesis()),
        (Service::LAMBDA, cloud.lambda()),
    ];
    let fault_plan = FaultPlan::over(&services, plan.seed).await;
    let setup = cloud
        .setup(&file)
        .env("SATCHEL_ADMIN_TOKEN_FILE", token.display().to_string())
        .env("SATCHEL_S3_TIMEOUT", "2s")
        .env("SATCHEL_PARTITIONS", plan.partitions.to_string());
    let setup = match plan.log_in_table {
        true => setup
            .env("SATCHEL_COMMIT_LOG", "dynamodb:commits")
            .env("SATCHEL_CREATE_COMMIT_LOG_TABLE", "true"),
        false => setup,
    };
    let setup = fault_plan
        .endpoints()
        .fold(setup, |setup, (name, url)| setup.env(name, url));
    let supervisors = ["run-a", "run-b"].map(|name| Supervisor::begin(name, &setup, dir.clone()));
    let processes = supervisors.iter().map(Supervisor::client).collect();
    let variables = cloud.environment().into_iter();
    let root = Root {
        state: setup.state().ok_or("a run without --state")?.to_owned(),
        variables: variables
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    };
    let clients = Arc::new(Clients {
        sabotage: plan.sabotage,
        seed: plan.seed,
        http: RetryingClient::of(processes, Some(TOKEN.to_owned()), plan.sabotage),
        streams: Streams::Cloud(Arc::new(cloud)),
        violations: Violations::of(plan.environment.name(), violations),
        metrics: Metrics::default(),
    });
    Ok(Running {
        chaos: Chaos::One(ChaosDriver::of(
            Arc::clone(&clients),
            supervisors.into(),
            None,
            PAUSE,
        )),
        hot_keys: None,
        clients,
        fault_plan: Some(fault_plan),
        root,
    })
}
