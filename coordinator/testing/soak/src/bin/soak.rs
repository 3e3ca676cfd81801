//! `soak`: everything real, under trouble, for as long as one likes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use satchel_soak::{Arena, Plan, Report, Sabotage, run};
use tokio::signal::unix::{SignalKind, signal};

/// Names the handler's executable, if it is not to be built with cargo; as `SATCHEL_BIN` does for satchel.
const HANDLER: &str = "SOAK_HANDLER_BIN";

/// Runs real processes, handlers and stand-ins under kills, pauses, stops, bad connections and full disks, and checks workloads whose result is
/// known. Exit code 0 if nothing was violated, 1 if something was, 2 for anything else.
#[derive(Debug, Parser)]
#[command(name = "soak")]
struct Arguments {
    /// For how long there is trouble, in each arena.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,

    /// How often there is trouble.
    #[arg(long, default_value = "5s", value_parser = satchel_sdk::parse_duration, value_name = "DURATION")]
    kill_every: Duration,

    /// After how much trouble everything must settle and is checked.
    #[arg(long, default_value = "2m", value_parser = satchel_sdk::parse_duration, value_name = "DURATION")]
    round: Duration,

    /// How many operations a second there are.
    #[arg(long, default_value_t = 120.0)]
    rate: f64,

    /// What decides about everything but time; drawn from the clock if none is given.
    #[arg(long)]
    seed: Option<u64>,

    /// `cloud`: satchel run over stand-ins for AWS; `machine`: satchel dev on a disk that gets full; `both`, one after the other.
    #[arg(long, default_value = "both")]
    arena: Arenas,

    /// With `both`: at the same time.
    #[arg(long)]
    side_by_side: bool,

    /// Leaves out the full disk, for machines that do not let one have a small disk of one's own.
    #[arg(long)]
    without_full_disk: bool,

    /// Puts a defect in, which must be found: without-keys, at-least-once (cloud), lost-records or lost-egress.
    #[arg(long, value_name = "NAME")]
    sabotage: Option<Sabotage>,

    /// Where everything that processes print is kept; else a new directory, which goes away if nothing was violated.
    #[arg(long, value_name = "DIRECTORY")]
    logs: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Arenas {
    Cloud,
    Machine,
    Both,
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
            () = broken_off() => Err("broken off".to_owned()),
        }
    };
    // What is missing says so in a panic, which is no violation.
    match catch_unwind(AssertUnwindSafe(|| runtime.block_on(soaking))) {
        Ok(Ok(violated)) => ExitCode::from(u8::from(violated)),
        Ok(Err(error)) => {
            eprintln!("soak: {error}");
            ExitCode::from(2)
        }
        Err(_) => ExitCode::from(2),
    }
}

/// Waits until somebody wants it to end, so that it ends what it started.
async fn broken_off() {
    let Ok(mut terminated) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}

/// Whether something was violated.
async fn soak(arguments: Arguments) -> Result<bool, String> {
    let kept = tempfile::Builder::new().prefix("soak-").tempdir();
    let kept = kept.map_err(|error| format!("no directory for logs: {error}"))?;
    let logs = arguments.logs.clone();
    let logs = logs.unwrap_or_else(|| kept.path().to_owned());
    std::fs::create_dir_all(&logs).map_err(|error| format!("{}: {error}", logs.display()))?;
    let plan = plan(&arguments, &logs)?;
    println!(
        "soak: seed {}, what processes print is kept in {}",
        plan.seed,
        logs.display()
    );
    let of = |arena| Plan {
        arena,
        ..plan.clone()
    };
    let (cloud, machine) = (of(Arena::Cloud), of(Arena::Machine));
    let reports: Vec<Report> = match arguments.arena {
        Arenas::Cloud => vec![run(&cloud).await?],
        Arenas::Machine => vec![run(&machine).await?],
        Arenas::Both if arguments.side_by_side => {
            let (cloud, machine) = tokio::join!(run(&cloud), run(&machine));
            vec![cloud?, machine?]
        }
        Arenas::Both => vec![run(&cloud).await?, run(&machine).await?],
    };
    for report in &reports {
        print!("soak: {report}");
    }
    let violated = reports.iter().any(|report| !report.violations.is_empty());
    if violated {
        let _ = kept.keep();
        println!(
            "soak: VIOLATED; what processes printed is in {}",
            logs.display()
        );
    } else {
        println!("soak: nothing was violated");
    }
    Ok(violated)
}

fn plan(arguments: &Arguments, logs: &Path) -> Result<Plan, String> {
    if !(arguments.rate > 0.0 && arguments.minutes > 0.0) || arguments.kill_every.is_zero() {
        return Err("--minutes, --rate and --kill-every must be more than nothing".to_owned());
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(1, |now| now.as_secs());
    // Both are built now, so that no build comes in between.
    satchel_testkit::satchel();
    let handler = match std::env::var_os(HANDLER).filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => satchel_testkit::binary("satchel-soak", "soak-handler"),
    };
    Ok(Plan {
        arena: Arena::Cloud,
        time: Duration::from_secs_f64(arguments.minutes * 60.0),
        kill_every: arguments.kill_every,
        round: arguments.round.max(arguments.kill_every),
        rate: arguments.rate,
        seed: arguments.seed.unwrap_or(now),
        handler,
        logs: logs.to_owned(),
        full_disk: !arguments.without_full_disk,
        sabotage: arguments.sabotage,
    })
}
