//! Short soak: less than a minute of faults, all environments at the same time. The command `soak`
//! is the long form.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::time::Duration;

use satchel_soak::{Disk, Environment, Plan, Report, Sabotage, run};

/// Environment variable that skips the full disk.
const WITHOUT_FULL_DISK: &str = "SOAK_WITHOUT_FULL_DISK";

/// Environment variable that makes a machine without a disk that can be filled a failure.
///
/// By default the full disk is skipped there.
const FULL_DISK_REQUIRED: &str = "SOAK_FULL_DISK_REQUIRED";

/// True if the disk is to be filled.
fn full_disk() -> bool {
    if std::env::var_os(WITHOUT_FULL_DISK).is_some() {
        eprintln!("full disk skipped: {WITHOUT_FULL_DISK} is set");
        return false;
    }
    match Disk::make(4) {
        Ok(_) => true,
        Err(lack) if std::env::var_os(FULL_DISK_REQUIRED).is_some() => panic!("{lack}"),
        Err(lack) => {
            eprintln!("full disk skipped: {lack}");
            false
        }
    }
}

fn plan(environment: Environment, logs: PathBuf) -> Plan {
    Plan {
        environment,
        time: Duration::from_secs(24),
        kill_every: Duration::from_secs(3),
        round: Duration::from_secs(12),
        rate: 60.0,
        seed: 1,
        handler: env!("CARGO_BIN_EXE_soak-handler").into(),
        logs,
        log_in_table: false,
        partitions: match environment {
            Environment::Cloud => 1,
            Environment::Machine => 3,
            Environment::Spread => 8,
        },
        processes: 3,
        change_every: Duration::from_secs(7),
        full_disk: full_disk(),
        sabotage: None,
    }
}

fn counted(report: &Report, name: &str) -> u64 {
    report.counts.get(name).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_short_run_violates_nothing_in_any_environment() {
    let logs = tempfile::Builder::new().prefix("soak-").tempdir().unwrap();
    let plan = |environment| plan(environment, logs.path().to_owned());
    let (cloud, machine) = (plan(Environment::Cloud), plan(Environment::Machine));
    let spread = Plan {
        time: Duration::from_secs(32),
        round: Duration::from_secs(16),
        kill_every: Duration::from_secs(6),
        change_every: Duration::from_secs(7),
        rate: 40.0,
        ..plan(Environment::Spread)
    };
    let (cloud, machine, spread) = tokio::join!(run(&cloud), run(&machine), run(&spread));
    for report in [cloud.unwrap(), machine.unwrap(), spread.unwrap()] {
        println!("{report}");
        if !report.violations.is_empty() {
            panic!("{report}the logs are in {}", logs.keep().display());
        }
        // The run must have been meaningful.
        assert_eq!(report.rounds, 2, "{report}");
        assert!(counted(&report, "kills") > 0, "{report}");
        if report.environment == Environment::Spread {
            for name in [
                "joins",
                "leaves with exit code 0",
                "moves of partitions",
                "hot calls answered",
                "linearizability: operations",
            ] {
                assert!(counted(&report, name) > 0, "{name}: {report}");
            }
            assert_eq!(counted(&report, "linearizability: keys"), 8, "{report}");
        } else {
            assert!(counted(&report, "takeovers") > 1, "{report}");
        }
        assert!(counted(&report, "rejections") > 0, "{report}");
        for workload in [
            "alarms",
            "asking",
            "bank",
            "counters",
            "gathering",
            "items",
            "judging",
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
        // What is sent twice may also fail twice; the second dead letter has no owner.
        (Sabotage::WithoutKeys, &["twice", "dead letters exist"][..]),
        (Sabotage::LostRecords, &["item"]),
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
        let is_found = found.iter().any(|text| violations.contains(text));
        assert!(is_found, "{sabotage}: {report}");
    }
}

#[test]
fn a_disk_is_full_until_it_is_freed() {
    if !full_disk() {
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
