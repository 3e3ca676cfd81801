# The checks of this repository. `just` lists them; `just all` runs what CI runs.
# The steps themselves are in .ci/run, which needs neither just nor anything but Rust and Python 3.
# The long forms are described in coordinator/docs/testing.md.

_list:
    @just --list

# All steps of CI, also after one has failed
all:
    .ci/run

# Formatting
format:
    .ci/run format

# The lock file fits the manifests
lock:
    .ci/run lock

# Lints, as errors
clippy:
    .ci/run clippy

# Rustdoc, warnings as errors
docs:
    .ci/run docs

# All tests
test:
    .ci/run test

# The simulation's seeds, and every mutant
simulate:
    .ci/run simulate

# The Terraform modules, where Terraform is installed
infra:
    .ci/run infra

# Licences, bans, sources and advisories of dependencies
audit:
    .ci/run audit

# An example on this machine
dev example="greeter":
    cargo dev examples/{{ example }}

# Many seeds of the simulation
simulate-long seeds="10000":
    cargo run --release --bin simulate -- --seeds {{ seeds }}

# One seed of the simulation with everything that happens
simulate-trace seed:
    cargo run --release --bin simulate -- --seed {{ seed }} --trace

# One mutant of the simulation, which must be found
mutant name seeds="1000":
    cargo run --release --bin simulate -- --mutant {{ name }} --seeds {{ seeds }}

# Many seeds of the log's own simulation, in memory
log-simulation-long seeds="1..10000":
    SATCHEL_SIMULATION_SEEDS={{ seeds }} cargo test --release -p satchel-log --test simulation

# The same over a directory and over a stand-in for S3
log-simulation-stores seeds="1..1000":
    SATCHEL_SIMULATION_SEEDS={{ seeds }} cargo test -p satchel \
        --test adapters -- log_over_directory s3::log

# Many takeovers under load
takeovers count="50":
    SATCHEL_TEST_TAKEOVERS={{ count }} cargo test -p satchel --test dev crashes::takeovers

# Back pressure for a long time
back-pressure seconds="600":
    SATCHEL_TEST_PRESSURE_SECONDS={{ seconds }} cargo test -p satchel --test limits back_pressure

# Owners and standbys under load, with a kill every few seconds
run-load seconds="120" rate="5000" kill_every="10":
    cargo build --release -p satchel -p greeter
    SATCHEL_BIN={{ justfile_directory() }}/target/release/satchel \
    GREETER_BIN={{ justfile_directory() }}/target/release/greeter \
    RUN_LOAD_SECONDS={{ seconds }} RUN_LOAD_RATE={{ rate }} RUN_LOAD_KILL_EVERY={{ kill_every }} \
        cargo test -p satchel --test run load -- --nocapture

# Real processes under trouble
soak minutes="30" *arguments:
    cargo run --release -p satchel-soak --bin soak -- --minutes {{ minutes }} {{ arguments }}

# Every decoder against almost-right inputs
fuzz seconds="60" *arguments:
    cargo run --release -p satchel-fuzz --bin fuzz -- --seconds {{ seconds }} {{ arguments }}

# The Kinesis API beside other servers of it (needs Node)
kinesis-servers:
    .ci/run kinesis-servers

# The console in headless Chromium (needs Node)
console:
    .ci/run console

# The administration port and its description, with schemathesis
api:
    .ci/run api

# Kafka against a broker, which needs Java and Maven
kafka:
    .ci/run kafka

# Functions in JavaScript, Go and Java, where their tools are
languages:
    .ci/run languages

# Functions in all languages under random commands and kills, for a long time
smoke messages="100000" kills="20":
    SATCHEL_SMOKE_MESSAGES={{ messages }} SATCHEL_SMOKE_KILLS={{ kills }} \
        cargo test --workspace --test smoke -- --include-ignored --test-threads 1 --nocapture

# The Terraform modules; fails where Terraform or its provider is missing
infra-full:
    infra/test

# A real account of AWS, for less than $2, such as `just acceptance eu-central-1`
acceptance region *arguments:
    infra/acceptance/run --region {{region}} {{arguments}}

# Calls and records a second, and their CPU time, on this machine
bench:
    cargo run --release -p satchel-throughput

# What durable state costs on this machine
bench-state:
    cargo bench -p satchel --bench state
    cargo bench -p satchel-storage
    cargo bench -p satchel-engine
