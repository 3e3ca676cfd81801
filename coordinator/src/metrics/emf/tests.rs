//! The lines against the specification of the embedded metric format.

use std::collections::BTreeMap;

use satchel_engine::partition::Gauges;

use super::*;

/// Units of CloudWatch that the specification allows and that this module uses.
const UNITS: [&str; 4] = ["Count", "Milliseconds", "Bytes", "Percent"];

/// Metrics of one line, with their values.
type Parsed = BTreeMap<String, Vec<f64>>;

/// Reads a line as CloudWatch Logs does, by the specification: metadata with exactly its members, a
/// directive with at most 100 metrics and 30 dimensions, and a target on the root for each.
fn parse(line: &str) -> (String, Parsed) {
    assert!(!line.contains('\n'));
    assert!(line.len() < 256 << 10);
    let root: Value = serde_json::from_str(line).unwrap();
    let root = root.as_object().unwrap();
    let metadata = root["_aws"].as_object().unwrap();
    assert_eq!(
        metadata.keys().collect::<Vec<_>>(),
        ["CloudWatchMetrics", "Timestamp"]
    );
    assert!(metadata["Timestamp"].is_u64());
    let mut parsed = Parsed::new();
    let mut application = None;
    let directives = metadata["CloudWatchMetrics"].as_array().unwrap();
    assert_eq!(directives.len(), 1);
    for directive in directives {
        let directive = directive.as_object().unwrap();
        assert_eq!(
            directive.keys().collect::<Vec<_>>(),
            ["Dimensions", "Metrics", "Namespace"]
        );
        assert_eq!(directive["Namespace"], "Satchel");
        for set in directive["Dimensions"].as_array().unwrap() {
            let set = set.as_array().unwrap();
            assert!(set.len() <= 30);
            for dimension in set {
                let target = root[dimension.as_str().unwrap()].as_str().unwrap();
                assert!((1..=1024).contains(&target.len()));
                application = Some(target.to_owned());
            }
        }
        let metrics = directive["Metrics"].as_array().unwrap();
        assert!(metrics.len() <= 100);
        for metric in metrics {
            let metric = metric.as_object().unwrap();
            assert_eq!(metric.keys().collect::<Vec<_>>(), ["Name", "Unit"]);
            assert!(UNITS.contains(&metric["Unit"].as_str().unwrap()));
            let name = metric["Name"].as_str().unwrap();
            let values = match &root[name] {
                Value::Array(values) => values.clone(),
                value => vec![value.clone()],
            };
            assert!((1..=100).contains(&values.len()), "{name}");
            let values = values.iter().map(|value| value.as_f64().unwrap());
            let known = parsed.insert(name.to_owned(), values.collect());
            assert!(known.is_none(), "{name} is defined twice");
        }
    }
    // Every member of the root is used.
    assert_eq!(root.len(), parsed.len() + 2);
    (application.unwrap(), parsed)
}

/// A reporter whose lines are kept.
fn reporter(
    metrics: &Metrics,
    readiness: &watch::Sender<Readiness>,
) -> (EmfReporter, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&lines);
    let options = EmfOptions {
        application: "orders".to_owned(),
        memory_limit_bytes: Some(1 << 40),
        readiness: readiness.subscribe(),
        interval: Duration::from_millis(100),
        writer: Arc::new(move |line| kept.lock().unwrap().push(line.to_owned())),
    };
    (EmfReporter::start(metrics, options), lines)
}

fn take(lines: &Mutex<Vec<String>>) -> Vec<Parsed> {
    let lines = std::mem::take(&mut *lines.lock().unwrap());
    let parsed = lines.iter().map(|line| {
        let (application, metrics) = parse(line);
        assert_eq!(application, "orders");
        metrics
    });
    parsed.collect()
}

/// Waits for the lines of at least one more interval after those taken.
async fn later(lines: &Mutex<Vec<String>>) -> Vec<Parsed> {
    while lines.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    take(lines)
}

#[tokio::test]
async fn a_line_is_written_at_the_start_after_each_interval_and_at_the_end() {
    let metrics = Metrics::new();
    let readiness = watch::Sender::new(Readiness::Standby);
    let (reporter, lines) = reporter(&metrics, &readiness);
    let first = take(&lines);
    assert_eq!(first.len(), 1);
    let names: Vec<&str> = first[0].keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "CommitsMade",
            "DeadLettersMade",
            "EndpointsDown",
            "MemoryUsed",
            "MessagesWaiting",
            "Owners",
            "RequestsMade",
            "Starts",
        ]
    );
    assert_eq!(first[0]["Starts"], [1.0]);
    assert_eq!(first[0]["Owners"], [0.0]);

    readiness.send_replace(Readiness::Serving);
    metrics.observe_dead_letters_made(2);
    metrics.observe_partitions_without_owner(3);
    metrics.observe_gauges(&Gauges {
        pending_bytes: 77,
        ..Gauges::default()
    });
    for ms in [5, 40, 10] {
        metrics.observe_commit(0, 1, 100, Duration::from_millis(ms));
    }
    let second = later(&lines).await;
    assert!(!second[0].contains_key("Starts"));
    assert_eq!(second[0]["Owners"], [1.0]);
    assert_eq!(second[0]["PartitionsWithoutOwner"], [3.0]);
    assert_eq!(second[0]["DeadLettersMade"], [2.0]);
    assert_eq!(second[0]["MessagesWaiting"], [77.0]);
    assert_eq!(second[0]["CommitsMade"], [3.0]);
    let latencies = &second[0]["CommitLatency"];
    assert_eq!(latencies.len(), 3);
    for (latency, ms) in latencies.iter().zip([5.0, 10.0, 40.0]) {
        assert!((latency / ms - 1.0).abs() < 0.021, "{latencies:?}");
    }
    assert!(second[0]["MemoryUsed"][0] < 100.0);

    // What happened in the last, incomplete minute is not lost.
    metrics.observe_dead_letters_made(1);
    drop(reporter);
    let last = take(&lines);
    let made = last.iter().map(|line| line["DeadLettersMade"][0]);
    assert_eq!(made.sum::<f64>(), 1.0);
    assert_eq!(last[0]["CommitsMade"], [0.0]);
    assert!(!last[0].contains_key("CommitLatency"));
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(
        take(&lines).is_empty(),
        "a reporter ends when it is dropped"
    );
}

#[test]
fn every_metric_has_its_name_and_unit() {
    let figures = Figures {
        starts: true,
        ingress_lag_ms: Some(1_500),
        commit_latencies_ms: vec![1.5],
        memory_used_percent: Some(12.5),
        partitions_without_owner: Some(1),
        ..Figures::default()
    };
    let line = figures.line("orders", 1);
    parse(&line);
    let root: Value = serde_json::from_str(&line).unwrap();
    let definitions = root["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array();
    let units: BTreeMap<&str, &str> = definitions
        .unwrap()
        .iter()
        .map(|metric| {
            (
                metric["Name"].as_str().unwrap(),
                metric["Unit"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("CommitLatency", "Milliseconds"),
        ("CommitsMade", "Count"),
        ("DeadLettersMade", "Count"),
        ("EndpointsDown", "Count"),
        ("IngressLag", "Milliseconds"),
        ("MemoryUsed", "Percent"),
        ("MessagesWaiting", "Bytes"),
        ("Owners", "Count"),
        ("PartitionsWithoutOwner", "Count"),
        ("RequestsMade", "Count"),
        ("Starts", "Count"),
    ];
    assert_eq!(units.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn many_latencies_are_told_by_a_hundred_with_the_same_percentiles() {
    let mut latencies = Latencies::default();
    for ms in 1..=1_000 {
        latencies.add(f64::from(ms));
    }
    latencies.add(0.0);
    latencies.add(5e9);
    let values = latencies.values();
    assert_eq!(values.len(), 100);
    assert!(values.is_sorted());
    for (value, ms) in [(values[49], 500.0), (values[98], 990.0)] {
        assert!((value / ms - 1.0).abs() < 0.03, "{value} instead of {ms}");
    }
    assert!((values[99] - 5e9).abs() < 1.0, "the maximum is exact");
    assert!(Latencies::default().values().is_empty());
}
