//! Runs seeds of the simulation.

use std::num::NonZero;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use satchel_simulation::{Failure, Mutant, Plan, Report, run};

/// As the coordinator's: worlds are made of many small pieces.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs the coordinator in a simulated world, one seed after the other. Exit code 0: no law was broken; 1: one was; 2: anything else.
#[derive(Parser)]
#[command(name = "simulate")]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds to run.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Runs a deliberately broken variant.
    #[arg(long)]
    mutant: Option<String>,
    /// Prints the names of all mutants, one a line.
    #[arg(long)]
    list_mutants: bool,
    /// How many seeds are run at once, each by one thread; as many as there are cores, unless this says otherwise.
    #[arg(long)]
    threads: Option<usize>,
    /// Prints everything that happens.
    #[arg(long)]
    trace: bool,
}

/// How many lines of the trace of a failing seed are printed.
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
                eprintln!("there is no mutant {name:?}; --list-mutants names them");
                return ExitCode::from(2);
            }
        },
    };
    // A panic is a broken law like any other, and told like one.
    std::panic::set_hook(Box::new(|_| {}));
    run_seeds(&arguments, mutant)
}

fn run_seeds(arguments: &Arguments, mutant: Option<Mutant>) -> ExitCode {
    let begun = Instant::now();
    let Some(end) = arguments.seed.checked_add(arguments.seeds) else {
        eprintln!("there are not so many seeds");
        return ExitCode::from(2);
    };
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = match arguments.trace {
        // Traces would be mixed.
        true => 1,
        false => arguments.threads.unwrap_or(cores).max(1),
    };
    let seeds = Seeds {
        next: AtomicU64::new(arguments.seed),
        end: AtomicU64::new(end),
        mutant,
        trace: arguments.trace,
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
        tell(&plan, &failure, arguments.trace);
        return ExitCode::from(1);
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{} seeds in {seconds:.1} s, no law broken: {total:?}",
        arguments.seeds
    );
    ExitCode::SUCCESS
}

/// The seeds that are to be run, each by one thread.
struct Seeds {
    next: AtomicU64,
    /// The first that is not run: once one has failed, that one, so that the lowest is found.
    end: AtomicU64,
    mutant: Option<Mutant>,
    trace: bool,
}

/// What one thread has done.
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
            match run(&plan, self.trace) {
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

fn tell(plan: &Plan, failure: &Failure, all: bool) {
    // The run is repeated with its trace, unless it was traced; being the same is part of the promise.
    let told = if all {
        failure.clone()
    } else {
        run(plan, true).err().unwrap_or_else(|| failure.clone())
    };
    let skip = if all {
        0
    } else {
        told.trace.len().saturating_sub(LINES)
    };
    told.trace
        .iter()
        .skip(skip)
        .for_each(|line| println!("{line}"));
    let mutant = plan.mutant.map_or(String::new(), |mutant| {
        format!(" --mutant {}", mutant.name())
    });
    println!("seed {} breaks a law: {}", plan.seed, failure.what);
    if told.what != failure.what {
        println!("and run again, it differs: {}", told.what);
    }
    println!(
        "to replay it: cargo run --release --bin simulate -- --seed {}{mutant} --trace",
        plan.seed
    );
}
