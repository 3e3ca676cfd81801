//! `soak`: the real system under faults, for any length of time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use satchel_sdk::parse_duration;
use satchel_soak::{Environment, Plan, Report, Sabotage, run};
use tokio::signal::unix::{SignalKind, signal};

/// Environment variable with the handler's executable. Without it cargo builds the handler.
/// `SATCHEL_BIN` does the same for satchel.
const HANDLER: &str = "SOAK_HANDLER_BIN";

/// Run real processes and handlers under kills, pauses, stops, network faults and full disks, and
/// check workloads whose results are known.
///
/// Exit code 0: no violations; 1: violations; 2: any other failure.
#[derive(Debug, Parser)]
#[command(name = "soak")]
struct Arguments {
    /// Minutes of faults in each environment
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,

    /// Interval between two kills [default: 5s, in `spread` 15s]
    #[arg(long, value_parser = parse_duration, value_name = "DURATION")]
    kill_every: Option<Duration>,

    /// Interval between a join and a leave of a process, in `spread`
    #[arg(long, default_value = "60s", value_parser = parse_duration, value_name = "DURATION")]
    change_every: Duration,

    /// Number of processes, in `spread`; at times there is one more
    #[arg(long, default_value_t = 3, value_name = "COUNT")]
    processes: u16,

    /// Length of a round, after which everything must settle and is checked
    #[arg(long, default_value = "2m", value_parser = parse_duration, value_name = "DURATION")]
    round: Duration,

    /// Operations per second
    #[arg(long, default_value_t = 120.0)]
    rate: f64,

    /// Seed of every decision except time [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,

    /// Environment: `cloud` is satchel run over emulated AWS services, `machine` is satchel dev on
    /// a disk that becomes full, `both` is one after the other, `spread` is satchel run with the
    /// partitions on several processes
    #[arg(long, alias = "arena", default_value = "both")]
    environment: Environments,

    /// With `both`: run at the same time
    #[arg(long)]
    side_by_side: bool,

    /// Do not fill the disk, for machines that do not allow a small disk of one's own
    #[arg(long)]
    without_full_disk: bool,

    /// Commit log of `cloud` and `spread`: in S3, or in DynamoDB
    #[arg(long, value_name = "STORE", default_value = "s3")]
    log: CommitLog,

    /// Number of partitions of the application [default: 1, in `spread` 8]
    #[arg(long, value_name = "COUNT")]
    partitions: Option<u16>,

    /// Inject a defect, which must be found: without-keys, at-least-once (cloud), lost-records,
    /// lost-egress or stale-reads (spread)
    #[arg(long, value_name = "NAME")]
    sabotage: Option<Sabotage>,

    /// Keep the output of all processes in DIRECTORY [default: a new directory, removed if nothing
    /// was violated]
    #[arg(long, value_name = "DIRECTORY")]
    logs: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CommitLog {
    S3,
    #[value(name = "dynamodb")]
    DynamoDb,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Environments {
    Cloud,
    Machine,
    Both,
    Spread,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("soak: no async runtime: {error}");
            return ExitCode::from(2);
        }
    };
    let soaking = async {
        tokio::select! {
            outcome = soak(arguments) => outcome,
            () = interrupted() => Err("interrupted".to_owned()),
        }
    };
    // A missing dependency is reported by a panic, which is not a violation.
    match catch_unwind(AssertUnwindSafe(|| runtime.block_on(soaking))) {
        Ok(Ok(violated)) => ExitCode::from(u8::from(violated)),
        Ok(Err(error)) => {
            eprintln!("soak: {error}");
            ExitCode::from(2)
        }
        Err(_) => ExitCode::from(2),
    }
}

/// Waits for SIGINT or SIGTERM, so that the processes it started are ended.
async fn interrupted() {
    let Ok(mut terminated) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}

/// Returns true if something was violated.
async fn soak(arguments: Arguments) -> Result<bool, String> {
    let kept = tempfile::Builder::new().prefix("soak-").tempdir();
    let kept = kept.map_err(|error| format!("no directory for logs: {error}"))?;
    let logs = arguments.logs.clone();
    let logs = logs.unwrap_or_else(|| kept.path().to_owned());
    std::fs::create_dir_all(&logs).map_err(|error| format!("{}: {error}", logs.display()))?;
    let plan = plan(&arguments, &logs)?;
    println!(
        "soak: seed {}, process output in {}",
        plan.seed,
        logs.display()
    );
    let of = |environment| Plan {
        environment,
        ..plan.clone()
    };
    let (cloud, machine) = (of(Environment::Cloud), of(Environment::Machine));
    let reports: Vec<Report> = match arguments.environment {
        Environments::Cloud => vec![run(&cloud).await?],
        Environments::Machine => vec![run(&machine).await?],
        Environments::Spread => vec![run(&of(Environment::Spread)).await?],
        Environments::Both if arguments.side_by_side => {
            let (cloud, machine) = tokio::join!(run(&cloud), run(&machine));
            vec![cloud?, machine?]
        }
        Environments::Both => vec![run(&cloud).await?, run(&machine).await?],
    };
    for report in &reports {
        print!("soak: {report}");
    }
    let violated = reports.iter().any(|report| !report.violations.is_empty());
    if violated {
        let _ = kept.keep();
        println!("soak: VIOLATED; process output in {}", logs.display());
    } else {
        println!("soak: no violations");
    }
    Ok(violated)
}

fn plan(arguments: &Arguments, logs: &Path) -> Result<Plan, String> {
    let spread = arguments.environment == Environments::Spread;
    let kill_every = arguments.kill_every;
    let kill_every = kill_every.unwrap_or(Duration::from_secs(if spread { 15 } else { 5 }));
    let intervals = [kill_every, arguments.change_every];
    if !(arguments.rate > 0.0 && arguments.minutes > 0.0) || intervals.iter().any(Duration::is_zero)
    {
        return Err(
            "--minutes, --rate, --kill-every and --change-every must be greater than 0".to_owned(),
        );
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(1, |now| now.as_secs());
    // Both are built in advance, so that no build delays the run.
    satchel_testkit::satchel();
    let handler = match std::env::var_os(HANDLER).filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => satchel_testkit::binary("soak-handler"),
    };
    Ok(Plan {
        environment: Environment::Cloud,
        time: Duration::from_secs_f64(arguments.minutes * 60.0),
        kill_every,
        change_every: arguments.change_every,
        processes: arguments.processes,
        round: arguments.round.max(kill_every),
        rate: arguments.rate,
        seed: arguments.seed.unwrap_or(now),
        handler,
        logs: logs.to_owned(),
        log_in_table: arguments.log == CommitLog::DynamoDb,
        partitions: arguments.partitions.unwrap_or(if spread { 8 } else { 1 }),
        full_disk: !arguments.without_full_disk,
        sabotage: arguments.sabotage,
    })
}
