//! `fuzz`: all targets, or some, for so many inputs or so long.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use satchel_fuzz::supervisor::{Finding, SILENCE_MAX, supervise};
use satchel_fuzz::targets::{BROKEN, TARGETS, find};
use satchel_fuzz::worker::{self, Work};

/// Feeds every decoder with inputs that are almost right. Exit code 0 if all survived, 1 if one did not, 2 for anything else.
#[derive(Debug, Parser)]
#[command(name = "fuzz")]
struct Arguments {
    /// Only these targets; may be given several times.
    #[arg(long = "target", value_name = "NAME")]
    targets: Vec<String>,

    /// Print the targets' names, one a line.
    #[arg(long)]
    list: bool,

    /// At most so many inputs for each target.
    #[arg(long, default_value_t = u64::MAX, value_name = "COUNT")]
    executions: u64,

    /// At most so long for each target.
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    seconds: u64,

    /// The seed of the inputs; drawn from the clock if none is given.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    /// Be the worker of this target.
    #[arg(long, hide = true)]
    worker: Option<String>,

    /// Where a worker writes down its inputs.
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
    let target = find(target).ok_or_else(|| format!("there is no target `{target}`"))?;
    let work = plan(arguments, arguments.trace.clone().unwrap_or_default());
    worker::run(target, &work).map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn supervise_all(arguments: &Arguments) -> Result<ExitCode, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    for name in &arguments.targets {
        find(name).ok_or_else(|| format!("there is no target `{name}`; --list prints them"))?;
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
                let file = keep(target.name, &finding)?;
                println!(
                    "{:<16} seed {}: {finding}; kept in {file}",
                    target.name, work.seed
                );
            }
        }
        // Whatever is left of it is of no use.
        let _ = std::fs::remove_file(&work.trace);
    }
    Ok(ExitCode::from(u8::from(found > 0)))
}

fn plan(arguments: &Arguments, trace: PathBuf) -> Work {
    let drawn = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_nanos() as u64)
    };
    Work {
        seed: arguments.seed.unwrap_or_else(drawn),
        executions: arguments.executions,
        time: Duration::from_secs(arguments.seconds),
        trace,
    }
}

/// Writes the input where it can be copied from into the corpus.
fn keep(target: &str, finding: &Finding) -> Result<String, String> {
    let hash = xxhash_rust::xxh3::xxh3_64(&finding.input);
    let file = std::env::temp_dir().join(format!("fuzz-{target}-{hash:016x}"));
    std::fs::write(&file, &finding.input)
        .map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file.display().to_string())
}
