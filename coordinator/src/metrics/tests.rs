//! Tests of the names and values of all metrics.

use std::collections::HashSet;

use satchel_aws::kinesis::KinesisObserver;
use satchel_engine::output::Stoppage;
use satchel_engine::position::ShardId;

use super::*;
use crate::store::s3::{S3Operation, S3Outcome, S3Request};

/// Returns the sorted samples of `metrics`, without comments, buckets and sums of times.
fn samples(metrics: &Metrics) -> Vec<String> {
    let text = metrics.encode();
    assert!(text.ends_with("# EOF\n"));
    let mut samples: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.contains("seconds_bucket"))
        // They differ between builds and machines.
        .filter(|line| !line.starts_with("process_") && !line.starts_with("satchel_build_info"))
        .map(str::to_owned)
        .collect();
    samples.sort();
    samples
}

fn observe_kinesis(metrics: &Metrics) {
    let shard = |shard: &str| ShardId {
        ingress: "example/in".into(),
        stream: "in".into(),
        shard: shard.into(),
    };
    metrics.lag(&shard("shardId-0"), 1_500);
    metrics.lag(&shard("shardId-1"), 10);
    metrics.reading_ended(&shard("shardId-1"));
    metrics.read(&shard("shardId-0"), 3, 30);
    metrics.dropped(&shard("shardId-0"), 2);
    metrics.retried("GetRecords", true);
}

fn observe_sqs(metrics: &Metrics) {
    use satchel_aws::sqs::SqsObserver;
    metrics.received("example/tasks", 4, 40);
    metrics.deleted("example/tasks", 3);
    SqsObserver::lag(metrics, "example/tasks", 2_500);
    metrics.backlog("example/tasks", 7, 1);
    SqsObserver::retried(metrics, "ReceiveMessage", false);
}

#[test]
fn every_observation_is_shown_under_its_name() {
    let metrics = Metrics::new();
    let half_second = Duration::from_millis(500);
    metrics.observe_http_request("traffic", "call", 504, half_second);
    metrics.observe_http_panic();
    metrics.observe_connection_opened("admin");
    metrics.observe_connection_opened("admin");
    metrics.observe_connection_closed("admin");
    metrics.observe_requests_waiting(3);
    metrics.observe_unclaimed_answer();
    metrics.endpoint("example/*").observe(2, 5, half_second);
    metrics.observe_invocation_failure("example/*", FailureKind::RequestTooLarge);
    metrics.observe_stale_answer();
    metrics.observe_peer_messages(1, 4, 3);
    metrics.observe_peer_messages(2, 0, 0);
    metrics.observe_partitions_owned(3);
    metrics.observe_partition_failed();
    metrics.observe_partitions_without_owner(2);
    metrics.observe_sealed(0, 9);
    metrics.observe_commit(0, 8, 1000, half_second);
    metrics.observe_dead_letters_made(2);
    metrics.observe_rejected(3);
    metrics.observe_gauges(&Gauges {
        received_ids: 12,
        peer_bytes: 90,
        dead_letters: 1,
        dead_letter_bytes: 78,
        pending_bytes: 77,
        ingress_paused: true,
        held: true,
        timers: 4,
        buckets: 256,
        buckets_loaded: 250,
        state_bytes: 1_000,
        ..Gauges::default()
    });
    metrics.observe_source("example/in", "stream in", true);
    metrics.observe_source("example/in", "stream out", false);
    let stoppage = || Stoppage {
        name: "example/greeter".to_owned(),
        reason: String::new(),
        since_ms: 1,
    };
    metrics.observe_stoppages(&Stoppages {
        suspended_functions: vec![stoppage()],
        paused_functions: vec![stoppage(), stoppage()],
        paused_ingresses: vec![stoppage(), stoppage(), stoppage()],
    });
    metrics.observe_time(1_500, -2_000);
    metrics.observe_bucket_loads(5);
    metrics.observe_buckets_dropped(2);
    metrics.observe_recovered(0.5);
    metrics.observe_story_events(7, 2);
    metrics.observe_stories(3, 900, 4);
    metrics.observe_otlp_exported("traces", 6);
    metrics.observe_otlp_dropped("metrics", "refused", 5);
    metrics.observe_egress_emitted("example/out", 6);
    metrics.observe_egress_acked("example/out", 5);
    metrics.observe_egress_refused("example/out");
    metrics.observe_egress_retried("example/out", 3, "throttled");
    metrics.observe_egress_stopped("example/out", "damaged", "the file differs");
    metrics.observe_egress_resumed("example/other");
    metrics.observe_function("example/greeter", 5, half_second);
    metrics.observe_function_failure("example/greeter", "function");
    metrics.observe_function_dead_letter("example/greeter");
    metrics.observe_other_dead_letters(3);
    metrics.observe_role(Role::Standby);
    metrics.observe_role(Role::Owner);
    for (operation, outcome, object_bytes) in [
        (S3Operation::PutObject, S3Outcome::Done, 300),
        (S3Operation::PutObject, S3Outcome::Refused, 0),
        (S3Operation::GetObject, S3Outcome::Done, 20),
    ] {
        metrics.observe_s3_request(S3Request {
            operation,
            outcome,
            object_bytes,
            elapsed: half_second,
        });
    }
    metrics.observe_file_written(11);
    observe_kinesis(&metrics);
    observe_sqs(&metrics);
    assert_eq!(
        samples(&metrics),
        [
            "satchel_bucket_loads_total 5",
            "satchel_buckets 256",
            "satchel_buckets_dropped_total 2",
            "satchel_buckets_loaded 250",
            "satchel_clock_jump_seconds -2.0",
            "satchel_commit_bytes_total{partition=\"0\"} 1000",
            "satchel_commit_seconds_count{partition=\"0\"} 1",
            "satchel_commit_seconds_sum{partition=\"0\"} 0.5",
            "satchel_commits_total{partition=\"0\"} 1",
            "satchel_dead_letter_bytes 78",
            "satchel_dead_letters_made_total 2",
            "satchel_dead_letters_present 1",
            "satchel_egress_acked_records_total{egress=\"example/out\"} 5",
            "satchel_egress_emitted_records_total{egress=\"example/out\"} 6",
            "satchel_egress_refused_records_total{egress=\"example/out\"} 1",
            "satchel_egress_retried_records_total{egress=\"example/out\"} 3",
            "satchel_egress_stopped{egress=\"example/other\"} 0",
            "satchel_egress_stopped{egress=\"example/out\"} 1",
            "satchel_fork_held 1",
            "satchel_forwarding_waiting 0",
            "satchel_function_dead_letters_total{function=\"(others)\"} 3",
            "satchel_function_dead_letters_total{function=\"example/greeter\"} 1",
            "satchel_function_failures_total{function=\"example/greeter\",kind=\"function\"} 1",
            "satchel_function_messages_total{function=\"example/greeter\"} 5",
            "satchel_function_seconds_count{function=\"example/greeter\"} 1",
            "satchel_function_seconds_sum{function=\"example/greeter\"} 0.5",
            "satchel_functions_paused 2",
            "satchel_functions_suspended 1",
            "satchel_http_connections{port=\"admin\"} 1",
            "satchel_http_panics_total 1",
            "satchel_http_request_seconds_count{port=\"traffic\",verb=\"call\"} 1",
            "satchel_http_request_seconds_sum{port=\"traffic\",verb=\"call\"} 0.5",
            "satchel_http_requests_total{port=\"traffic\",verb=\"call\",code=\"504\"} 1",
            "satchel_ingress_paused 1",
            "satchel_ingress_stopped{ingress=\"example/in\",source=\"stream in\"} 1",
            "satchel_ingress_stopped{ingress=\"example/in\",source=\"stream out\"} 0",
            "satchel_ingresses_paused 3",
            "satchel_invocation_batches_total{endpoint=\"example/*\"} 2",
            "satchel_invocation_bundles_total{endpoint=\"example/*\"} 1",
            "satchel_invocation_failures_total\
             {endpoint=\"example/*\",kind=\"request_too_large\"} 1",
            "satchel_invocation_messages_total{endpoint=\"example/*\"} 5",
            "satchel_invocation_seconds_count{endpoint=\"example/*\"} 1",
            "satchel_invocation_seconds_sum{endpoint=\"example/*\"} 0.5",
            "satchel_kinesis_dropped_records_total{ingress=\"example/in\",stream=\"in\"} 2",
            "satchel_kinesis_read_bytes_total{ingress=\"example/in\",stream=\"in\"} 30",
            "satchel_kinesis_read_records_total{ingress=\"example/in\",stream=\"in\"} 3",
            "satchel_kinesis_repeated_requests_total\
             {operation=\"GetRecords\",reason=\"throttled\"} 1",
            "satchel_kinesis_shard_lag_seconds\
             {ingress=\"example/in\",stream=\"in\",shard=\"shardId-0\"} 1.5",
            "satchel_lease_role{role=\"owner\"} 1",
            "satchel_lease_role{role=\"released\"} 0",
            "satchel_lease_role{role=\"standby\"} 0",
            "satchel_log_table_estimated_dollars_total 0.0",
            "satchel_messages_rejected_total 3",
            "satchel_otlp_dropped_total{signal=\"metrics\",reason=\"refused\"} 5",
            "satchel_otlp_exported_total{signal=\"traces\"} 6",
            "satchel_partition_durable_number{partition=\"0\"} 8",
            "satchel_partition_sealed_number{partition=\"0\"} 9",
            "satchel_partition_time_ahead_seconds 1.5",
            "satchel_partitions_failed_total 1",
            "satchel_partitions_owned 3",
            "satchel_partitions_without_owner 2",
            "satchel_peer_messages_sent_total{partition=\"1\"} 4",
            "satchel_peer_messages_taken_total{partition=\"1\"} 3",
            "satchel_peer_registered 0",
            "satchel_peer_waiting_bytes 90",
            "satchel_pending_bytes 77",
            "satchel_recovered_ratio 0.5",
            "satchel_requests_waiting 3",
            "satchel_s3_estimated_dollars_total 0.0000104",
            "satchel_s3_object_bytes_total{operation=\"GetObject\"} 20",
            "satchel_s3_object_bytes_total{operation=\"PutObject\"} 300",
            "satchel_s3_requests_total{operation=\"GetObject\",outcome=\"done\"} 1",
            "satchel_s3_requests_total{operation=\"PutObject\",outcome=\"done\"} 1",
            "satchel_s3_requests_total{operation=\"PutObject\",outcome=\"refused\"} 1",
            "satchel_sqs_backlog_messages{ingress=\"example/tasks\",state=\"in-flight\"} 1",
            "satchel_sqs_backlog_messages{ingress=\"example/tasks\",state=\"visible\"} 7",
            "satchel_sqs_deleted_messages_total{ingress=\"example/tasks\"} 3",
            "satchel_sqs_ids_kept 12",
            "satchel_sqs_lag_seconds{ingress=\"example/tasks\"} 2.5",
            "satchel_sqs_received_bytes_total{ingress=\"example/tasks\"} 40",
            "satchel_sqs_received_messages_total{ingress=\"example/tasks\"} 4",
            "satchel_sqs_repeated_requests_total{operation=\"ReceiveMessage\",reason=\"failed\"} 1",
            "satchel_stale_answers_dropped_total 1",
            "satchel_state_file_bytes_written_total 11",
            "satchel_state_files_written_total 1",
            "satchel_state_memory_bytes 1000",
            "satchel_timers_pending 4",
            "satchel_trace_events_dropped_total 2",
            "satchel_trace_events_total 7",
            "satchel_traces_evicted_total 4",
            "satchel_traces_kept 3",
            "satchel_traces_memory_bytes 900",
            "satchel_unclaimed_answers_total 1",
        ]
    );
}

/// Name of a sample: what precedes its labels or its value.
fn name_of(line: &str) -> &str {
    let end = line.find(['{', ' ']).unwrap_or(line.len());
    &line[..end]
}

#[test]
fn every_metric_has_a_help_text_and_a_type_and_belongs_to_this_software_or_to_the_process() {
    let metrics = Metrics::new();
    metrics.observe_function("example/greeter", 1, Duration::from_millis(1));
    metrics.observe_role(Role::Owner);
    let text = metrics.encode();
    let described = |kind: &str| -> HashSet<&str> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(kind));
        lines.filter_map(|line| line.split(' ').next()).collect()
    };
    let (helped, typed) = (described("# HELP "), described("# TYPE "));
    assert_eq!(helped, typed);
    for help in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (_, help) = help.split_once(' ').unwrap();
        assert!(help.len() > 10 || help == "Threads.", "{help}");
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = name_of(line);
        assert!(
            name.starts_with("satchel_") || name.starts_with("process_"),
            "{line}"
        );
        let suffixes = ["_total", "_count", "_sum", "_bucket"];
        let base = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
        assert!(helped.contains(name) || base.is_some_and(|base| helped.contains(base)));
    }
    for name in [
        "process_cpu_seconds_total",
        "process_start_time_seconds",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_threads",
        "process_open_fds",
        "process_max_fds",
        "satchel_build_info",
    ] {
        let mut lines = text.lines().filter(|line| name_of(line) == name);
        let value = lines.next().and_then(|line| line.rsplit_once(' '));
        let value: f64 = value.unwrap_or_else(|| panic!("{name}")).1.parse().unwrap();
        assert!(value > 0.0 || name == "process_cpu_seconds_total", "{name}");
        assert_eq!(lines.next(), None, "{name} once");
    }
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&version));
}

#[test]
fn functions_beyond_the_limit_share_one_label_unless_a_module_names_them() {
    let metrics = Metrics::new();
    metrics.declare_functions(["example/named".to_owned()]);
    for number in 0..10 * functions::FUNCTIONS_MAX {
        let function = format!("example/f{number}");
        metrics.observe_function(&function, 1, Duration::from_millis(1));
        metrics.observe_function_failure(&function, "function");
        metrics.observe_function_dead_letter(&function);
    }
    let text = metrics.encode();
    for name in [
        "satchel_function_messages_total",
        "satchel_function_failures_total",
        "satchel_function_dead_letters_total",
        "satchel_function_seconds_count",
    ] {
        let samples = text.lines().filter(|line| name_of(line) == name);
        assert_eq!(samples.count(), functions::FUNCTIONS_MAX, "{name}");
    }
    metrics.observe_function("example/named", 1, Duration::from_millis(1));
    let named = "satchel_function_messages_total{function=\"example/named\"} 1";
    assert!(metrics.encode().lines().any(|line| line == named));
    // One of them is the named function.
    let others = 9 * functions::FUNCTIONS_MAX + 1;
    let shared = format!("satchel_function_messages_total{{function=\"(others)\"}} {others}");
    assert!(text.lines().any(|line| line == shared));
}
