//! `satchel dev`, with its data on a disk that becomes full.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use satchel_testkit::Setup;

use super::module::module;
use super::{Chaos, Plan, Running};
use crate::chaos::ChaosDriver;
use crate::clients::{Clients, Streams};
use crate::disk::Disk;
use crate::functions::VIOLATIONS;
use crate::metrics::Metrics;
use crate::retrying_client::RetryingClient;
use crate::sabotage::Sabotage;
use crate::supervisor::Supervisor;
use crate::verification::Root;
use crate::violations::Violations;

/// Pause of a process: minimum and additional random time.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));

/// Size of the disk when it is not full: more than a run of an hour writes. It uses only as much
/// memory as its content.
const DISK_MEBIBYTES: u64 = 8 * 1024;

/// Starts the process.
pub(super) fn begin(plan: &Plan) -> Result<Running, String> {
    if plan.sabotage == Some(Sabotage::AtLeastOnce) {
        return Err("local streams deliver exactly once: at-least-once is for `cloud`".to_owned());
    }
    let dir = &plan.logs;
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    let (file, violations) = (dir.join("machine.yaml"), dir.join("machine-violations"));
    fs::write(&file, module(Some(&plan.handler), "")).map_err(failed)?;
    let setup = Setup::of(&file)
        .env(VIOLATIONS, violations.display().to_string())
        .env("SATCHEL_PARTITIONS", plan.partitions.to_string());
    let disk = match plan.full_disk {
        true => Some(Disk::make(DISK_MEBIBYTES)?),
        false => None,
    };
    let setup = match &disk {
        Some(disk) => setup.data_at(disk.path().join("data")),
        None => setup,
    };
    let supervisor = Supervisor::begin("dev", &setup, dir.clone());
    let root = Root {
        state: setup.data_dir().join("state").display().to_string(),
        variables: Vec::new(),
    };
    let clients = Arc::new(Clients {
        sabotage: plan.sabotage,
        seed: plan.seed,
        http: RetryingClient::of(vec![supervisor.client()], None, plan.sabotage),
        streams: Streams::Machine,
        violations: Violations::of(plan.environment.name(), violations),
        metrics: Metrics::default(),
    });
    Ok(Running {
        chaos: Chaos::One(ChaosDriver::of(
            Arc::clone(&clients),
            vec![supervisor],
            disk,
            PAUSE,
        )),
        hot_keys: None,
        clients,
        fault_plan: None,
        root,
    })
}
