//! `fuzz`: runs all or some targets, limited by number of inputs or by time.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use satchel_fuzz::supervisor::{Finding, SILENCE_MAX, supervise};
use satchel_fuzz::targets::{BROKEN, TARGETS, find};
use satchel_fuzz::worker::{self, Work};

/// Fuzz every decoder with mutations of valid inputs.
///
/// Exit code 0: all decoders survived; 1: one did not; 2: any other failure.
#[derive(Debug, Parser)]
#[command(name = "fuzz")]
struct Arguments {
    /// Run only this target; may be given several times
    #[arg(long = "target", value_name = "NAME")]
    targets: Vec<String>,

    /// Print the names of all targets, one per line
    #[arg(long)]
    list: bool,

    /// Maximum number of inputs per target
    #[arg(long, default_value_t = u64::MAX, value_name = "COUNT")]
    executions: u64,

    /// Maximum time per target, in seconds
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    seconds: u64,

    /// Seed of the inputs [default: from the clock]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    /// Run as the worker of this target
    #[arg(long, hide = true)]
    worker: Option<String>,

    /// File into which a worker writes each input before decoding it
    #[arg(long, hide = true)]
    trace: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        for target in TARGETS {
            println!("{}", target.name);
        }
        return ExitCode::SUCCESS;
    }
    let outcome = match &arguments.worker {
        Some(target) => work(target, &arguments),
        None => supervise_all(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("fuzz: {error}");
        ExitCode::from(2)
    })
}

fn work(target: &str, arguments: &Arguments) -> Result<ExitCode, String> {
    let target = find(target).ok_or_else(|| format!("unknown target `{target}`"))?;
    let work = plan(arguments, arguments.trace.clone().unwrap_or_default());
    worker::run(target, &work).map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn supervise_all(arguments: &Arguments) -> Result<ExitCode, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    for name in &arguments.targets {
        find(name).ok_or_else(|| format!("unknown target `{name}`; --list prints all"))?;
    }
    let named = |name: &str| arguments.targets.iter().any(|wanted| wanted == name);
    let all = arguments.targets.is_empty();
    let broken = BROKEN.iter().filter(|target| named(target.name));
    let wanted = TARGETS.iter().filter(|target| all || named(target.name));
    let mut found = 0;
    for target in wanted.chain(broken) {
        let trace =
            std::env::temp_dir().join(format!("fuzz-{}-{}", target.name, std::process::id()));
        let work = plan(arguments, trace);
        match supervise(&program, target.name, &work, SILENCE_MAX) {
            Ok(done) => println!(
                "{:<16} {:>10} executions {:>6} outcomes {:>7.1} s",
                target.name,
                done.executions,
                done.outcomes,
                done.time.as_secs_f64()
            ),
            Err(finding) => {
                found += 1;
                let file = save(target.name, &finding)?;
                println!(
                    "{:<16} seed {}: {finding}; saved to {file}",
                    target.name, work.seed
                );
            }
        }
        // The trace is not needed any more.
        let _ = std::fs::remove_file(&work.trace);
    }
    Ok(ExitCode::from(u8::from(found > 0)))
}

fn plan(arguments: &Arguments, trace: PathBuf) -> Work {
    let from_clock = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_nanos() as u64)
    };
    Work {
        seed: arguments.seed.unwrap_or_else(from_clock),
        executions: arguments.executions,
        time: Duration::from_secs(arguments.seconds),
        trace,
    }
}

/// Saves the input of a finding to a file, which can be copied into the corpus.
fn save(target: &str, finding: &Finding) -> Result<String, String> {
    let hash = xxhash_rust::xxh3::xxh3_64(&finding.input);
    let file = std::env::temp_dir().join(format!("fuzz-{target}-{hash:016x}"));
    std::fs::write(&file, &finding.input)
        .map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file.display().to_string())
}
