//! Runs seeds of the simulation.

use std::num::NonZero;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use satchel_simulation::{Failure, Mutant, Plan, Report, run, run_peers};

/// Same allocator as the coordinator: a world consists of many small allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Run the coordinator in a simulated world, one seed after the other.
///
/// Exit code 0: no law was broken; 1: a law was broken; 2: any other error.
#[derive(Parser)]
#[command(name = "simulate")]
struct Arguments {
    /// First seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of seeds
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Run a deliberately broken variant
    #[arg(long)]
    mutant: Option<String>,
    /// Print the names of all mutants, one per line
    #[arg(long)]
    list_mutants: bool,
    /// Number of seeds that run at once, one per thread [default: number of cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Run only worlds of several partitions, and one for each seed
    #[arg(long)]
    peers: bool,
    /// Print every event
    #[arg(long)]
    trace: bool,
}

/// Number of trace lines printed for a failing seed.
const LINES: usize = 80;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list_mutants {
        for (name, _) in Mutant::ALL {
            println!("{name}");
        }
        return ExitCode::SUCCESS;
    }
    let mutant = match &arguments.mutant {
        None => None,
        Some(name) => match Mutant::named(name) {
            Some(mutant) => Some(mutant),
            None => {
                eprintln!("unknown mutant {name:?}; --list-mutants prints all names");
                return ExitCode::from(2);
            }
        },
    };
    // A panic is a broken law like any other, and reported like one.
    std::panic::set_hook(Box::new(|_| {}));
    run_seeds(&arguments, mutant)
}

fn run_seeds(arguments: &Arguments, mutant: Option<Mutant>) -> ExitCode {
    let begun = Instant::now();
    let Some(end) = arguments.seed.checked_add(arguments.seeds) else {
        eprintln!("--seed plus --seeds exceeds the largest seed");
        return ExitCode::from(2);
    };
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = match arguments.trace {
        // Parallel runs would mix their traces.
        true => 1,
        false => arguments.threads.unwrap_or(cores).max(1),
    };
    let seeds = Seeds {
        next: AtomicU64::new(arguments.seed),
        end: AtomicU64::new(end),
        mutant,
        trace: arguments.trace,
        peers: arguments.peers,
    };
    let done: Vec<Done> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..threads).map(|_| scope.spawn(|| seeds.run())).collect();
        let done = runs.into_iter().map(|run| run.join());
        done.map(|done| done.expect("a panic of a run is caught"))
            .collect()
    });
    let mut total = Report::default();
    done.iter().for_each(|done| total.add(&done.report));
    let failures = done.into_iter().filter_map(|done| done.failure);
    if let Some((plan, failure)) = failures.min_by_key(|(plan, _)| plan.seed) {
        report_failure(&plan, &failure, arguments);
        return ExitCode::from(1);
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{} seeds in {seconds:.1} s, no law broken: {total:?}",
        arguments.seeds
    );
    ExitCode::SUCCESS
}

/// Seeds to run, one per thread at a time.
struct Seeds {
    next: AtomicU64,
    /// First seed that is not run. Once a seed has failed this is that seed, so that the lowest one
    /// is found.
    end: AtomicU64,
    mutant: Option<Mutant>,
    trace: bool,
    peers: bool,
}

/// Results of one thread.
#[derive(Default)]
struct Done {
    report: Report,
    failure: Option<(Plan, Failure)>,
}

impl Seeds {
    fn run(&self) -> Done {
        let mut done = Done::default();
        loop {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.end.load(Ordering::Relaxed) {
                return done;
            }
            let plan = Plan {
                seed,
                mutant: self.mutant,
            };
            match perform(&plan, self.trace, self.peers) {
                Ok((report, trace)) => {
                    trace.iter().for_each(|line| println!("{line}"));
                    done.report.add(&report);
                }
                Err(failure) => {
                    self.end.fetch_min(seed, Ordering::Relaxed);
                    done.failure = Some((plan, failure));
                    return done;
                }
            }
        }
    }
}

fn perform(plan: &Plan, trace: bool, peers: bool) -> Result<(Report, Vec<String>), Failure> {
    match peers {
        true => run_peers(plan, trace),
        false => run(plan, trace),
    }
}

fn report_failure(plan: &Plan, failure: &Failure, arguments: &Arguments) {
    let all = arguments.trace;
    // The failing run is repeated with its trace, unless it was traced already. A repeated run must
    // be the same.
    let repeated = if all {
        failure.clone()
    } else {
        let repeated = perform(plan, true, arguments.peers).err();
        repeated.unwrap_or_else(|| failure.clone())
    };
    let skip = if all {
        0
    } else {
        repeated.trace.len().saturating_sub(LINES)
    };
    repeated
        .trace
        .iter()
        .skip(skip)
        .for_each(|line| println!("{line}"));
    let mutant = plan.mutant.map_or(String::new(), |mutant| {
        format!(" --mutant {}", mutant.name())
    });
    println!("seed {} breaks a law: {}", plan.seed, failure.what);
    if repeated.what != failure.what {
        println!("the repeated run differs: {}", repeated.what);
    }
    println!(
        "to replay it: cargo run --release --bin simulate -- --seed {}{mutant}{} --trace",
        plan.seed,
        if arguments.peers { " --peers" } else { "" }
    );
}
