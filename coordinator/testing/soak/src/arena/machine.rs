//! `satchel dev`, with its data on a disk that gets full.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use satchel_testkit::Setup;

use super::module::module;
use super::{Plan, Running};
use crate::crew::Crew;
use crate::disk::Disk;
use crate::door::Door;
use crate::functions::VIOLATIONS;
use crate::outside::{Outside, Streams};
use crate::sabotage::Sabotage;
use crate::slot::Slot;
use crate::tally::Tally;
use crate::verification::Root;
use crate::violations::Violations;

const SLEEP: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));

/// The size of the disk, when it is not full: more than a run of an hour leaves on it. It takes as much memory as what it holds.
const DISK_MEBIBYTES: u64 = 8 * 1024;

/// Starts the process.
pub(super) fn begin(plan: &Plan) -> Result<Running, String> {
    if plan.sabotage == Some(Sabotage::AtLeastOnce) {
        return Err(
            "local streams take every record once: at-least-once is for the cloud".to_owned(),
        );
    }
    let dir = &plan.logs;
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    let (file, violations) = (dir.join("machine.yaml"), dir.join("machine-violations"));
    fs::write(&file, module(Some(&plan.handler), "")).map_err(failed)?;
    let setup = Setup::of(&file).env(VIOLATIONS, violations.display().to_string());
    let disk = match plan.full_disk {
        true => Some(Disk::make(DISK_MEBIBYTES)?),
        false => None,
    };
    let setup = match &disk {
        Some(disk) => setup.data_at(disk.path().join("data")),
        None => setup,
    };
    let slot = Slot::begin("dev", &setup, dir.clone());
    let root = Root {
        state: setup.data_dir().join("state").display().to_string(),
        environment: Vec::new(),
    };
    let outside = Arc::new(Outside {
        sabotage: plan.sabotage,
        seed: plan.seed,
        door: Door::of(vec![slot.client()], None, plan.sabotage),
        streams: Streams::Machine,
        violations: Violations::of(plan.arena.name(), violations),
        tally: Tally::default(),
    });
    Ok(Running {
        crew: Crew::of(Arc::clone(&outside), vec![slot], disk, SLEEP),
        outside,
        weather: None,
        root,
    })
}
