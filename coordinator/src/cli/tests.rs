use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command};
use crate::config::{
    CommitArgs, CommitLogArgs, DevConfig, LogFormat, PlacementArgs, PortArgs, ProcessArgs,
    RestoreArgs, S3Args, S3Sse,
};
use crate::cost::{MONTH_SECONDS, Prices};

fn dev(arguments: &[&str]) -> Result<DevConfig, String> {
    let words = ["satchel", "dev"].iter().chain(arguments);
    let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    match cli.command {
        Command::Dev(config) => config.validated(),
        other => panic!("not dev: {other:?}"),
    }
}

#[test]
fn dev_without_arguments_has_the_documented_defaults() {
    let expected = DevConfig {
        paths: vec![PathBuf::from(".")],
        watch: false,
        release: false,
        data_dir: PathBuf::from(".satchel"),
        state: None,
        ephemeral: false,
        log_format: LogFormat::Text,
        kinesis_ingress: false,
        aws: false,
        kafka: false,
        kinesis_api: None,
        kinesis_unlimited: false,
        lambda_api: None,
        lambda_concurrency: None,
        process: ProcessArgs {
            application: "satchel".to_owned(),
            retention: None,
            idempotency_ttl: Duration::from_secs(86_400),
            commits: CommitArgs::default(),
            pending_limit: None,
            dead_letter_limit: 256 << 20,
            memory_limit: None,
            clock_jump_max: Duration::from_secs(600),
            log: "info".to_owned(),
            trace_messages: None,
            trace_memory: 32 << 20,
            emf: false,
            ports: PortArgs {
                http: "127.0.0.1:8080".parse().unwrap(),
                admin: "127.0.0.1:8081".parse().unwrap(),
                http_token_file: None,
                admin_token_file: None,
                tls_cert: None,
                tls_key: None,
                admin_tls: false,
            },
            fork: RestoreArgs::default(),
            commit_log: CommitLogArgs::default(),
            placement: PlacementArgs::default(),
            s3: S3Args::default(),
            settings: Vec::new(),
        },
    };
    assert_eq!(dev(&[]), Ok(expected));
}

#[test]
fn every_flag_of_dev_is_read() {
    let read = dev(&[
        "examples/a",
        "b.yaml",
        "--http=127.0.0.1:0",
        "--admin=[::1]:0",
        "--data-dir=/tmp/x",
        "--state=s3://my-bucket/orders",
        "--retention=7d",
        "--kinesis-ingress",
        "--aws",
        "--kafka",
        "--watch",
        "--release",
        "--lambda-api=127.0.0.1:9001",
        "--lambda-concurrency=3",
        "--application=orders-2",
        "--idempotency-ttl=1h",
        "--commit-pace=20ms",
        "--commit-interval=5ms",
        "--commit-depth=8",
        "--pending-limit=1MiB",
        "--dead-letter-limit=2MiB",
        "--log-format=json",
        "--log=debug",
        "--emf",
        "--admin-token-file=token",
        "--http-token-file=other",
        "--tls-cert=cert.pem",
        "--tls-key=key.pem",
        "--admin-tls",
        "--restore=s3://my-bucket/shop@monday",
        "--resume-io",
        "--drop-outbox",
        "--s3-sse=kms",
        "--s3-kms-key=alias/orders",
        "--s3-timeout=20s",
        "--s3-path-style",
        "--commit-log=dynamodb:orders-log",
        "--create-commit-log-table",
        "--partitions",
        "4",
        "--key-groups",
        "64",
        "--hash-tags",
    ]);
    let expected = DevConfig {
        paths: vec![PathBuf::from("examples/a"), PathBuf::from("b.yaml")],
        watch: true,
        release: true,
        data_dir: PathBuf::from("/tmp/x"),
        state: Some("s3://my-bucket/orders".parse().unwrap()),
        ephemeral: false,
        log_format: LogFormat::Json,
        kinesis_ingress: true,
        aws: true,
        kafka: true,
        kinesis_api: None,
        kinesis_unlimited: false,
        lambda_api: Some("127.0.0.1:9001".parse().unwrap()),
        lambda_concurrency: Some(3),
        process: ProcessArgs {
            application: "orders-2".to_owned(),
            retention: Some(Duration::from_secs(7 * 86_400)),
            idempotency_ttl: Duration::from_secs(3_600),
            commits: CommitArgs {
                commit_pace: Some(Duration::from_millis(20)),
                commit_interval: Some(Duration::from_millis(5)),
                commit_depth: Some(8),
            },
            pending_limit: Some(1 << 20),
            dead_letter_limit: 2 << 20,
            memory_limit: None,
            clock_jump_max: Duration::from_secs(600),
            log: "debug".to_owned(),
            trace_messages: None,
            trace_memory: 32 << 20,
            emf: true,
            ports: PortArgs {
                http: "127.0.0.1:0".parse().unwrap(),
                admin: "[::1]:0".parse().unwrap(),
                http_token_file: Some(PathBuf::from("other")),
                admin_token_file: Some(PathBuf::from("token")),
                tls_cert: Some(PathBuf::from("cert.pem")),
                tls_key: Some(PathBuf::from("key.pem")),
                admin_tls: true,
            },
            fork: RestoreArgs {
                restore: Some("s3://my-bucket/shop@monday".parse().unwrap()),
                resume_io: true,
                drop_outbox: true,
            },
            commit_log: CommitLogArgs {
                commit_log: Some("dynamodb:orders-log".parse().unwrap()),
                create_commit_log_table: true,
            },
            placement: PlacementArgs {
                partitions: Some(4),
                key_groups: Some(64),
                hash_tags: true,
            },
            settings: Vec::new(),
            s3: S3Args {
                s3_sse: S3Sse::Kms,
                s3_kms_key: Some("alias/orders".to_owned()),
                s3_timeout: Duration::from_secs(20),
                s3_path_style: true,
            },
        },
    };
    assert_eq!(read, Ok(expected));
    let half = dev(&["--tls-cert=cert.pem"]).unwrap_err();
    assert!(half.contains("--tls-key"), "{half}");
    assert!(dev(&["--ephemeral"]).unwrap().ephemeral);
}

#[test]
fn every_flag_of_a_server_has_its_environment_variable() {
    let cli = Cli::command();
    for server in ["dev", "run"] {
        let command = cli.find_subcommand(server).unwrap();
        let flags = command.get_arguments();
        let flags = flags.filter(|flag| flag.get_long().is_some() && flag.get_id() != "help");
        let mut count = 0;
        for flag in flags {
            let name = flag.get_long().unwrap().to_uppercase().replace('-', "_");
            let variable = flag.get_env().map(|variable| variable.to_str().unwrap());
            assert_eq!(variable, Some(format!("SATCHEL_{name}").as_str()));
            count += 1;
        }
        assert!(count >= 15, "{server} has {count}");
    }
}

#[test]
fn wrong_values_are_refused_with_the_flag() {
    let wrong = [
        (&["--http", "localhost"][..], "--http"),
        (&["--commit-depth", "0"], "--commit-depth"),
        (&["--commit-pace", "6s"], "--commit-pace"),
        (&["--idempotency-ttl", "soon"], "--idempotency-ttl"),
        (&["--idempotency-ttl", "1ms"], "--idempotency-ttl"),
        (&["--commit-interval", "0s"], "--commit-interval"),
        (&["--pending-limit", "9"], "--pending-limit"),
        (&["--application", "../x"], "--application"),
        (&["--http", "127.0.0.1:8081"], "--http and --admin"),
        (&["--log-format", "xml"], "--log-format"),
        (&["--state", "gs://a/b"], "`gs://`"),
        (&["--state", "a", "--ephemeral"], "--ephemeral"),
        (&["--s3-kms-key", "a"], "--s3-kms-key"),
        (&["--drop-outbox"], "--drop-outbox"),
        (&["--restore", "a@.b"], "--restore"),
        (&["--s3-timeout", "1ms"], "--s3-timeout"),
    ];
    for (arguments, told) in wrong {
        let refused = dev(arguments).unwrap_err();
        assert!(refused.contains(told), "{arguments:?}: {refused}");
    }
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_bounds_in_the_help_of_the_pace_follow_from_the_prices() {
    let run = Cli::command();
    let run = run.find_subcommand("run").unwrap();
    let mut arguments = run.get_arguments();
    let pace = arguments.find(|argument| argument.get_id() == "commit_pace");
    let help = pace.unwrap().get_long_help().unwrap().to_string();
    let month = |pace_ms: f64, million: f64| MONTH_SECONDS * 1e3 / pace_ms * million / 1e6;
    let put = Prices::LIST.s3_put_million;
    // A small item, and its deletion.
    let item = 2.0 * Prices::LIST.dynamodb_write_million;
    for (pace_ms, million) in [(50.0, put), (100.0, put), (1e3, put), (25.0, item)] {
        let dollars = format!("${:.0}", month(pace_ms, million));
        assert!(help.contains(&dollars), "{pace_ms} ms, {dollars}: {help}");
    }
    assert!(help.contains(&format!("${put} a million PUTs")), "{help}");
}
