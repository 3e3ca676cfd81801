//! Bills of what was counted.

use super::*;

fn observed(seconds: f64, counted: Counted, store: &str) -> Observed {
    Observed {
        process: "a".to_owned(),
        started: "2026-11-30T00:00:00.000Z".to_owned(),
        since: "2026-11-30T00:00:00.000Z".to_owned(),
        seconds,
        counted,
        state_bytes: 1_000_000,
        settings: CostSettings {
            store: store.to_owned(),
            commit_pace_ms: 50,
            commit_interval_ms: 1_000,
            commit_depth: 2,
            max_linger_ms: 10,
            lambda: true,
            streams: 0,
            partitions: 1,
        },
    }
}

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() < 1e-9 + other.abs() * 1e-9
}

#[test]
fn counted_requests_have_their_list_price_and_a_month_is_extrapolated() {
    let counted = Counted {
        s3_puts: 20_000,
        s3_gets: 1_000,
        lambda_requests: 10_000,
        requests: 10_000,
        request_ms: 120_000,
        ..Counted::default()
    };
    let bill = bill(
        &[observed(1_000.0, counted, "s3")],
        CostAssumptions::default(),
    )
    .unwrap();
    assert!(bill.paid);
    let so_far = |name| bill.so_far.of(name);
    assert!(close(so_far("S3 PUT"), 0.1), "{}", so_far("S3 PUT"));
    assert!(close(so_far("S3 GET"), 0.000_4));
    assert!(close(so_far("Lambda requests"), 0.002));
    // 10,000 requests of 12 ms with a quarter of a GB.
    let gb_seconds = 10_000.0 * 0.012 * 0.25 * Prices::LIST.lambda_arm_gb_second;
    assert!(close(so_far("Lambda GB-seconds"), gb_seconds));
    let puts = bill.month.positions.iter();
    let puts = puts.filter(|it| it.position.name == "S3 PUT");
    let puts: Vec<_> = puts.map(|it| (it.by, it.position.dollars)).collect();
    assert_eq!(puts.len(), 1);
    assert_eq!(puts[0].0, "count");
    assert!(close(puts[0].1, 0.1 * MONTH_SECONDS / 1_000.0));
    let by_model = bill.month.positions.iter().filter(|it| it.by == "model");
    let by_model: Vec<_> = by_model.map(|it| it.position.name).collect();
    assert!(by_model.contains(&"Fargate vCPU"), "{by_model:?}");
}

#[test]
fn processes_add_up_whatever_the_time_for_which_each_counts() {
    let counted = |s3_puts| Counted {
        s3_puts,
        ..Counted::default()
    };
    let processes = [
        observed(1_000.0, counted(1_000), "s3"),
        observed(10.0, counted(20), "s3"),
    ];
    let bill = bill(&processes, CostAssumptions::default()).unwrap();
    let puts = bill.month.positions.iter();
    let puts = puts.filter(|it| it.position.name == "S3 PUT");
    let puts: f64 = puts.map(|it| it.position.quantity).sum();
    assert!(close(puts, 3.0 * MONTH_SECONDS / 1e6), "{puts}");
    assert_eq!(super::bill(&[], CostAssumptions::default()), None);
}

#[test]
fn dials_change_the_bill_of_the_model_and_the_present_value_does_not() {
    let counted = Counted {
        calls: 100_000,
        messages: 100_000,
        requests: 50_000,
        lambda_requests: 50_000,
        request_ms: 600_000,
        commit_bytes: 20_000_000,
        files: 30_000,
        ..Counted::default()
    };
    let bill = bill(
        &[observed(1_000.0, counted, "local")],
        CostAssumptions::default(),
    );
    let bill = bill.unwrap();
    assert!(!bill.paid);
    assert!(bill.so_far.of("S3 PUT") > 0.0, "files count as PUT");
    assert!(
        bill.assumptions
            .iter()
            .any(|it| it.contains("nothing of this is paid"))
    );
    for dial in &bill.dials {
        let present = dial.options.iter().filter(|it| it.present);
        let present: Vec<_> = present.collect();
        assert_eq!(present.len(), 1, "{}", dial.dial);
        assert!(
            close(present[0].dollars, bill.month.dollars),
            "{}",
            dial.dial
        );
    }
    let pace = &bill.dials[0].options;
    let of = |value: f64| pace.iter().find(|it| it.value == value).unwrap().dollars;
    assert!(of(0.0) > of(50.0) && of(50.0) > of(500.0), "{pace:?}");
    let linger = bill.dials.iter().find(|it| it.dial == "maxLinger").unwrap();
    let of = |value: f64| linger.options.iter().find(|it| it.value == value).unwrap();
    assert!(of(0.0).dollars > of(100.0).dollars, "{linger:?}");
}
