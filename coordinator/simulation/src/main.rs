//! Runs seeds of the simulation.

use std::process::ExitCode;
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
    let mut total = Report::default();
    let Some(end) = arguments.seed.checked_add(arguments.seeds) else {
        eprintln!("there are not so many seeds");
        return ExitCode::from(2);
    };
    for seed in arguments.seed..end {
        let plan = Plan { seed, mutant };
        match run(&plan, arguments.trace) {
            Ok((report, trace)) => {
                trace.iter().for_each(|line| println!("{line}"));
                total.add(&report);
            }
            Err(failure) => {
                tell(&plan, &failure, arguments.trace);
                return ExitCode::from(1);
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{} seeds in {seconds:.1} s, no law broken: {total:?}",
        arguments.seeds
    );
    ExitCode::SUCCESS
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
