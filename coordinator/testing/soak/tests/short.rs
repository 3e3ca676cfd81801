//! Short soak: less than a minute of faults, both environments at the same time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::time::Duration;

use satchel_soak::{Disk, Environment, Plan, Report, Sabotage, run};

/// Skips the full disk, for machines that do not allow a small disk of one's own.
const WITHOUT_FULL_DISK: &str = "SOAK_WITHOUT_FULL_DISK";

fn plan(environment: Environment, logs: PathBuf) -> Plan {
    Plan {
        environment,
        time: Duration::from_secs(40),
        kill_every: Duration::from_secs(4),
        round: Duration::from_secs(20),
        rate: 60.0,
        seed: 1,
        handler: env!("CARGO_BIN_EXE_soak-handler").into(),
        logs,
        full_disk: std::env::var_os(WITHOUT_FULL_DISK).is_none(),
        sabotage: None,
    }
}

fn counted(report: &Report, name: &str) -> u64 {
    report.counts.get(name).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_minute_of_faults_violates_nothing_in_the_cloud_and_on_one_machine() {
    let logs = tempfile::Builder::new().prefix("soak-").tempdir().unwrap();
    let (cloud, machine) = (
        plan(Environment::Cloud, logs.path().to_owned()),
        plan(Environment::Machine, logs.path().to_owned()),
    );
    let (cloud, machine) = tokio::join!(run(&cloud), run(&machine));
    for report in [cloud.unwrap(), machine.unwrap()] {
        println!("{report}");
        if !report.violations.is_empty() {
            panic!("{report}the logs are in {}", logs.keep().display());
        }
        // The run must have been meaningful.
        assert_eq!(report.rounds, 2, "{report}");
        assert!(counted(&report, "kills") > 0, "{report}");
        assert!(counted(&report, "takeovers") > 1, "{report}");
        for workload in [
            "alarms",
            "asking",
            "bank",
            "counters",
            "gathering",
            "items",
            "poison",
        ] {
            let name = format!("operations: {workload}");
            assert!(counted(&report, &name) > 0, "{name}: {report}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_injected_defect_is_found() {
    for (sabotage, found) in [
        (Sabotage::WithoutKeys, "twice"),
        (Sabotage::LostRecords, "item"),
    ] {
        let logs = tempfile::tempdir().unwrap();
        let plan = Plan {
            sabotage: Some(sabotage),
            time: Duration::from_secs(20),
            round: Duration::from_secs(10),
            ..plan(Environment::Machine, logs.path().to_owned())
        };
        let report = run(&plan).await.unwrap();
        let violations = report.violations.join("\n");
        assert!(violations.contains(found), "{sabotage}: {report}");
    }
}

#[test]
fn a_disk_is_full_until_it_is_freed() {
    if std::env::var_os(WITHOUT_FULL_DISK).is_some() {
        eprintln!("skipped: {WITHOUT_FULL_DISK} is set");
        return;
    }
    let mut disk = Disk::make(4).unwrap();
    let file = disk.path().join("file");
    std::fs::write(&file, [1; 1 << 20]).unwrap();
    disk.fill().unwrap();
    let rejected = std::fs::write(disk.path().join("other"), [1; 4096]).unwrap_err();
    assert_eq!(rejected.kind(), std::io::ErrorKind::StorageFull);
    disk.free().unwrap();
    std::fs::write(disk.path().join("other"), [1; 4096]).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), [1; 1 << 20]);
    let path = disk.path().to_owned();
    drop(disk);
    assert!(!path.exists());
}
