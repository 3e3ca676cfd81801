//! The model against the arithmetic by hand. `tests/run/requests.rs` compares it with counted
//! requests.

use super::*;

fn idle() -> Load {
    Load {
        calls: 0.0,
        call_bytes: 2_000.0,
        streams: Streams {
            count: 0,
            shards: None,
            records_in: 0.0,
            records_out: 0.0,
            record_bytes: 1_000.0,
            read_interval_ms: 200.0,
        },
        function_ms: 12.0,
        function_memory_mb: 256.0,
        function_log_bytes: 0.0,
        message_bytes: 200.0,
        state_bytes: 1e6,
        log: CommitLog::S3,
        store_ms: 25.0,
        commit_pace_ms: 50.0,
        commit_interval_ms: 1_000.0,
        commit_depth: 2.0,
        max_linger_ms: 10.0,
        lease_renewal_ms: 3_333.0,
        lease_poll_ms: 1_000.0,
        partitions: 1,
        tasks: Tasks {
            count: 1,
            vcpu: 0.25,
            memory_gb: 0.5,
            architecture: Architecture::Arm,
            spot: false,
            public_address: true,
            load_balancer: false,
            peer: false,
            emf: false,
        },
    }
}

fn calls(rate: f64) -> Load {
    Load {
        calls: rate,
        ..idle()
    }
}

fn costs(load: &Load) -> Costs {
    estimate(load).priced(&Prices::LIST, load.tasks.architecture)
}

#[test]
fn an_idle_application_makes_no_request_to_s3_and_costs_little() {
    let usage = estimate(&idle());
    assert_eq!(
        (usage.s3_puts, usage.s3_gets, usage.s3_lists),
        (0.0, 0.0, 0.0)
    );
    let with = |count, spot| {
        let load = idle();
        let tasks = Tasks {
            count,
            spot,
            ..load.tasks
        };
        costs(&Load { tasks, ..load }).dollars
    };
    let (one, two, two_on_spot) = (with(1, false), with(2, false), with(2, true));
    assert!(
        one <= 13.0 && two <= 24.0 && two_on_spot <= 14.0,
        "{one} {two} {two_on_spot}"
    );
    assert!(
        one > 11.0 && two > 22.0 && two_on_spot > 11.0,
        "{one} {two} {two_on_spot}"
    );
}

#[test]
fn the_pace_bounds_the_commits_of_calls() {
    for (pace_ms, rate) in [(50.0, 100.0), (50.0, 800.0), (100.0, 800.0), (250.0, 100.0)] {
        let load = Load {
            commit_pace_ms: pace_ms,
            ..calls(rate)
        };
        let commits = commits::of(&load, rate, 0.0).per_second;
        // A timer is late by a millisecond, and hardly any pace passes without an event.
        let expected = 1e3 / (pace_ms + TIMER_MS);
        assert!(
            (commits - expected).abs() < 0.01 * expected,
            "{pace_ms} {rate}: {commits}"
        );
    }
}

#[test]
fn without_a_pace_the_store_bounds_the_commits_of_calls() {
    let commits = |rate, depth| {
        let load = Load {
            commit_pace_ms: 0.0,
            commit_depth: depth,
            ..calls(rate)
        };
        commits::of(&load, rate, 0.0).per_second
    };
    // Few calls: one commit each, but for those that come during another's.
    let few = commits(2.0, 2.0);
    assert!((1.9..2.05).contains(&few), "{few}");
    // One commit after the other.
    let alone = commits(1e6, 1.0);
    assert!((alone - 40.0).abs() < 0.02 * 40.0, "{alone}");
    // Two at a time, in the order of their numbers: the slower one of two neighbours holds up both,
    // so the gap is larger than half of the latency.
    let two = commits(1e6, 2.0);
    assert!((45.0..80.0 * 0.8).contains(&two), "{two}");
    // Half of the usual time of a commit passes between two, however deep they may lie.
    let eight = commits(1e6, 8.0);
    assert!(two < eight && eight < 80.0, "{two} {eight}");
}

#[test]
fn a_commit_takes_the_time_of_its_request_and_of_those_before_it() {
    let took_ms = |pace_ms| {
        let load = Load {
            commit_pace_ms: pace_ms,
            ..calls(800.0)
        };
        estimate(&load).commit_ms
    };
    let (paced, unpaced) = (took_ms(250.0), took_ms(0.0));
    assert!((paced - 25.0).abs() < 0.5, "{paced}");
    assert!(unpaced > paced + 1.0, "{unpaced}");
    assert_eq!(estimate(&idle()).commit_ms, 0.0);
}

#[test]
fn egress_is_committed_at_five_paces_and_positions_at_the_interval() {
    let load = idle();
    let egress = commits::of(&load, 0.0, 500.0).per_second;
    assert!((egress - 4.0).abs() < 0.03, "{egress}");
    let positions = Load {
        streams: Streams {
            count: 1,
            records_in: 1_000.0,
            ..load.streams
        },
        ..load
    };
    let lazy = commits::of(&positions, 0.0, 0.0).per_second;
    assert!((lazy - 1.0).abs() < 0.01, "{lazy}");
}

#[test]
fn a_hundred_calls_a_second_cost_at_most_265_dollars_of_commits() {
    let s3 = costs(&calls(100.0));
    assert!((255.0..=265.0).contains(&s3.of("S3 PUT")), "{s3:?}");
    let table = costs(&Load {
        log: CommitLog::DynamoDb,
        store_ms: 5.0,
        commit_pace_ms: 25.0,
        message_bytes: 100.0,
        ..calls(100.0)
    });
    let writes = table.of("DynamoDB log writes");
    assert!((115.0..=131.0).contains(&writes), "{table:?}");
}

#[test]
fn tasks_that_forward_requests_and_write_metrics_cost_what_that_needs() {
    let with = |peer, emf| {
        let load = idle();
        let tasks = Tasks {
            count: 2,
            peer,
            emf,
            ..load.tasks
        };
        costs(&Load { tasks, ..load })
    };
    let (plain, peer, emf) = (with(false, false), with(true, false), with(false, true));
    // Each of two tasks renews its item every ten seconds.
    let items = peer.of("DynamoDB lease writes") - plain.of("DynamoDB lease writes");
    let expected = 0.2 * MONTH_SECONDS * Prices::LIST.dynamodb_write_million / 1e6;
    assert!((items - expected).abs() < 1e-9, "{items}");
    assert_eq!(plain.of("custom metrics"), 0.0);
    assert!((emf.of("custom metrics") - 3.0).abs() < 1e-9, "{emf:?}");
    assert!(emf.of("logs") > plain.of("logs"), "{emf:?}");
}

#[test]
fn the_commits_of_a_process_are_bounded_however_many_partitions_it_has() {
    let commits = |partitions, tasks, peer| {
        let load = calls(800.0);
        let tasks = Tasks {
            count: tasks,
            peer,
            ..load.tasks
        };
        let load = Load {
            partitions,
            tasks,
            ..load
        };
        estimate(&load).s3_puts
    };
    let one = commits(1, 2, true);
    let alone = [commits(4, 2, false), commits(8, 2, false)];
    assert!(
        alone.iter().all(|it| (it - one).abs() < 0.1 * one),
        "{one} {alone:?}"
    );
    let spread = [
        commits(8, 2, true),
        commits(8, 4, true),
        commits(8, 20, true),
    ];
    for (of, owners) in spread.into_iter().zip([2.0, 4.0, 8.0]) {
        assert!(
            (of - owners * one).abs() < 0.1 * owners * one,
            "{one} {spread:?}"
        );
    }
}

#[test]
fn the_roster_is_read_once_a_second_by_each_task_with_the_items_of_all() {
    let with = |partitions| {
        let load = idle();
        let tasks = Tasks {
            count: 4,
            peer: true,
            ..load.tasks
        };
        estimate(&Load {
            partitions,
            tasks,
            ..load
        })
    };
    let (one, few, many) = (with(1), with(8), with(256));
    assert!((one.lease_reads - 3.0).abs() < 1e-9, "{one:?}");
    assert!((few.lease_reads - 4.0 * 5.0).abs() < 1e-9, "{few:?}");
    // A roster of more than 40 kB takes eleven units.
    assert!((many.lease_reads - 4.0 * 15.0).abs() < 5.0, "{many:?}");
    assert!((few.lease_writes - 4.0 / 3.333).abs() < 1e-9, "{few:?}");
}

#[test]
fn from_stream_to_stream_all_requests_cost_at_most_5_cents_a_million_messages() {
    let load = Load {
        streams: Streams {
            count: 2,
            shards: Some(4),
            records_in: 1_000.0,
            records_out: 1_000.0,
            ..idle().streams
        },
        ..idle()
    };
    let costs = costs(&load);
    let requests = [
        "S3 PUT",
        "S3 GET",
        "DynamoDB lease writes",
        "Lambda requests",
    ];
    let dollars: f64 = requests.iter().map(|position| costs.of(position)).sum();
    let per_million = dollars / (load.messages() * MONTH_SECONDS / 1e6);
    assert!(
        (0.02..=0.05).contains(&per_million),
        "{per_million}: {costs:?}"
    );
}

#[test]
fn a_load_that_makes_no_sense_is_refused_with_what_to_change() {
    let load = idle();
    let without_stream = Load {
        streams: Streams {
            records_in: 10.0,
            ..load.streams
        },
        ..load
    };
    let refused = without_stream.validate().unwrap_err();
    assert!(refused.contains("--streams"), "{refused}");
    let overloaded = Load {
        streams: Streams {
            count: 1,
            shards: Some(1),
            records_in: 2_000.0,
            ..load.streams
        },
        ..load
    };
    let refused = overloaded.validate().unwrap_err();
    assert!(refused.contains("--shards"), "{refused}");
    assert_eq!(load.validate(), Ok(()));
}

#[test]
fn the_bill_is_the_sum_of_its_positions_and_has_no_empty_ones() {
    let costs = costs(&calls(100.0));
    let sum: f64 = costs
        .positions
        .iter()
        .map(|position| position.dollars)
        .sum();
    assert!((sum - costs.dollars).abs() < 1e-9);
    assert!(
        costs
            .positions
            .iter()
            .all(|position| position.quantity > 0.0)
    );
    assert_eq!(costs.of("Kinesis in"), 0.0);
}
