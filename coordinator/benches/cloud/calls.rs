//! Calls.

use std::time::{Duration, Instant};

use satchel::cost::{MONTH_SECONDS, Prices};
use satchel_testkit::{Latencies, OpenLoop};

use crate::application::{Application, LOG_TABLE, Settings, call};
use crate::priced::{Priced, REQUESTS};

/// Rates in calls per second.
const RATES: [f64; 2] = [100.0, 800.0];

/// Time of the load before each measurement, in which connections open.
const WARM_UP: Duration = Duration::from_secs(2);

/// Measures one call at a time.
pub(crate) async fn alone(settings: &Settings, time: Duration) {
    let app = Application::start(settings).await;
    for number in 0..20 {
        app.call(number).await;
    }
    let place = if settings.log_in_table {
        "table"
    } else {
        "bucket"
    };
    println!("one call alone, default settings, commit log in a {place}");
    println!("{:<24} {:>8} {:>8} {:>8}", "", "calls", "p50 ms", "p99 ms");
    for (name, pause) in [
        ("after 200 ms of quiet", Duration::from_millis(200)),
        ("one after the other", Duration::ZERO),
    ] {
        let end = Instant::now() + time;
        let mut latencies = Vec::new();
        while Instant::now() < end {
            tokio::time::sleep(pause).await;
            let begun = Instant::now();
            app.call(latencies.len()).await;
            latencies.push(begun.elapsed());
        }
        let latencies = Latencies::of(latencies);
        println!(
            "{name:<24} {:>8} {:>8.1} {:>8.1}",
            latencies.count(),
            latencies.percentile_ms(0.5),
            latencies.percentile_ms(0.99)
        );
    }
    println!();
}

/// Measures the default settings.
pub(crate) async fn by_default(time: Duration) {
    println!("calls in an open loop, default settings");
    header();
    let app = Application::start(&Settings::default()).await;
    for rate in RATES {
        measure(&app, "default", rate, time).await;
    }
    println!();
}

/// Measures the default settings with several partitions in one process.
pub(crate) async fn partitions(time: Duration) {
    println!("calls in an open loop, partitions of one process");
    header();
    for partitions in [1, 4, 8] {
        let settings = Settings {
            arguments: vec![format!("--partitions={partitions}")],
            ..Settings::default()
        };
        let app = Application::start(&settings).await;
        for rate in RATES {
            measure(&app, &format!("{partitions} partitions"), rate, time).await;
        }
    }
    println!();
}

/// Measures each setting of the dial, the others at their defaults.
pub(crate) async fn dial(time: Duration) {
    println!("calls in an open loop, each setting");
    header();
    let paces = ["0ms", "20ms", "50ms", "100ms", "250ms"].map(|pace| {
        let settings = Settings {
            pace: Some(pace),
            ..Settings::default()
        };
        (format!("pace {pace}"), settings)
    });
    let depths = [1, 2, 4].map(|depth| {
        let settings = Settings {
            pace: Some("0ms"),
            depth: Some(depth),
            ..Settings::default()
        };
        (format!("pace 0ms, depth {depth}"), settings)
    });
    let lingers = ["0ms", "5ms", "10ms", "20ms"].map(|linger| {
        let settings = Settings {
            linger: Some(linger),
            ..Settings::default()
        };
        (format!("maxLinger {linger}"), settings)
    });
    for (name, settings) in paces.into_iter().chain(depths).chain(lingers) {
        let app = Application::start(&settings).await;
        for rate in RATES {
            measure(&app, &name, rate, time).await;
        }
    }
    println!();
}

/// Measures the commit log in a table.
pub(crate) async fn in_table(time: Duration) {
    let settings = Settings {
        log_in_table: true,
        ..Settings::default()
    };
    alone(&settings, time).await;
    println!("calls in an open loop, commit log in a table; dollars with deletions");
    println!(
        "{:<20} {:>8} {:>8} {:>8} {:>9} {:>9} {:>11}",
        "setting", "calls/s", "p50 ms", "p99 ms", "commits/s", "units/s", "$ log/month"
    );
    for pace in [None, Some("0ms"), Some("50ms")] {
        let settings = Settings {
            pace,
            ..settings.clone()
        };
        let app = Application::start(&settings).await;
        for rate in RATES {
            load(&app, rate, WARM_UP).await;
            let before = app.cloud.bill();
            let latencies = load(&app, rate, time).await;
            let bill = app.cloud.bill().since(&before);
            let seconds = bill.time.as_secs_f64();
            // Without the lease's renewals, which are in the other table. The deletions come an
            // hour later and cost as much again.
            let puts = bill.of_table(LOG_TABLE, "PutItem");
            let units = puts.write_units / seconds;
            let million = Prices::LIST.dynamodb_write_million;
            let month = units * MONTH_SECONDS * 2.0 * million / 1e6;
            println!(
                "{:<20} {:>8.0} {:>8.1} {:>8.1} {:>9.1} {:>9.1} {:>11.0}",
                pace.map_or("default".to_owned(), |pace| format!("pace {pace}")),
                latencies.count() as f64 / seconds,
                latencies.percentile_ms(0.5),
                latencies.percentile_ms(0.99),
                puts.requests as f64 / seconds,
                units,
                month,
            );
            app.quiet().await;
        }
    }
    println!();
}

fn header() {
    println!(
        "{:<20} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "setting",
        "calls/s",
        "p50 ms",
        "p99 ms",
        "PUT/s",
        "PUT/call",
        "Lambda/c",
        "$ req/M",
        "$ all/M",
        "$ S3/mo"
    );
}

async fn measure(app: &Application, name: &str, rate: f64, time: Duration) {
    load(app, rate, WARM_UP).await;
    let before = app.cloud.bill();
    let latencies = load(app, rate, time).await;
    let bill = app.cloud.bill().since(&before);
    let priced = Priced::of(&bill, latencies.count());
    let all = [&REQUESTS[..], &["Lambda GB-seconds"]].concat();
    println!(
        "{name:<20} {:>8.0} {:>8.1} {:>8.1} {:>8.2} {:>9.3} {:>9.3} {:>9.2} {:>9.2} {:>9.0}",
        priced.rate,
        latencies.percentile_ms(0.5),
        latencies.percentile_ms(0.99),
        priced.usage.s3_puts,
        priced.usage.s3_puts / priced.rate,
        priced.usage.lambda_requests / priced.rate,
        priced.per_million(&REQUESTS),
        priced.per_million(&all),
        priced.month(&["S3 PUT", "S3 LIST", "S3 GET"]),
    );
    app.quiet().await;
}

async fn load(app: &Application, rate: f64, time: Duration) -> Latencies {
    let load = OpenLoop {
        rate,
        time,
        seed: 1,
    };
    load.run(|number| call(app.client.clone(), number)).await
}
