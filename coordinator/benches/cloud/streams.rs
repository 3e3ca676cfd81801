//! Records from stream to stream.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use satchel_testkit::{Latencies, PricedCloud};

use crate::application::{Application, Settings};
use crate::priced::{Priced, REQUESTS};

/// Records per second.
const RATE: usize = 1_000;

/// Interval between two puts.
const TICK: Duration = Duration::from_millis(20);

/// Time of the load before the measurement.
const WARM_UP: Duration = Duration::from_secs(5);

pub(crate) const STREAMS: &str = "
---
kind: io.statefun.kinesis.v1/ingress
spec:
  id: example/names
  awsRegion: {type: default}
  startupPosition: {type: earliest}
  streams:
    - stream: names
      valueType: example/name
      targets: [example/greeter]
---
kind: io.statefun.kinesis.v1/egress
spec:
  id: example/greetings
  awsRegion: {type: default}
";

/// Measures the default settings.
pub(crate) async fn measure(time: Duration) {
    let settings = Settings {
        documents: STREAMS,
        ..Settings::default()
    };
    let app = Application::start(&settings).await;
    put(&app.cloud, WARM_UP, RATE).await;
    let before = app.cloud.bill();
    let mut greetings = app.cloud.follow("greetings").await;
    let mut skip = greetings.next().await.len();
    let records = put(&app.cloud, time, RATE).await;
    let bill = app.cloud.bill().since(&before);
    let warm_up = records_of(WARM_UP, RATE);
    let mut latencies = Vec::new();
    while skip < warm_up || latencies.len() < records {
        for greeting in greetings.next().await {
            if skip < warm_up {
                skip += 1;
                continue;
            }
            let text = greeting.json()["greeting"].to_string();
            let put_ms = text
                .split('#')
                .nth(1)
                .and_then(|time| time.parse::<u64>().ok());
            let took_ms = greeting.time_ms - put_ms.expect("a greeting holds the time");
            latencies.push(Duration::from_millis(took_ms));
        }
    }
    let latencies = Latencies::of(latencies);
    let priced = Priced::of(&bill, records);
    println!("{RATE} records/s from a stream of 4 shards to another, default settings");
    println!(
        "{:>9} {:>8} {:>8} {:>8} {:>9} {:>9} {:>10} {:>9}",
        "records/s", "p50 ms", "p99 ms", "PUT/s", "Lambda/s", "PutRec/s", "GetRec/s", "$ req/M"
    );
    let kinesis = |operation| bill.rate(satchel_testkit::PricedService::Kinesis, operation);
    println!(
        "{:>9.0} {:>8.0} {:>8.0} {:>8.2} {:>9.2} {:>9.2} {:>10.2} {:>9.4}",
        priced.rate,
        latencies.percentile_ms(0.5),
        latencies.percentile_ms(0.99),
        priced.usage.s3_puts,
        priced.usage.lambda_requests,
        kinesis("PutRecords"),
        kinesis("GetRecords"),
        priced.per_million(&REQUESTS),
    );
    println!();
}

fn records_of(time: Duration, rate: usize) -> usize {
    let ticks = time.as_millis() / TICK.as_millis();
    ticks as usize * rate / 50
}

/// Puts records at this rate per second for this time. Returns their number.
pub(crate) async fn put(cloud: &PricedCloud, time: Duration, rate: usize) -> usize {
    let mut ticks = tokio::time::interval(TICK);
    let per_tick = rate / 50;
    let count = records_of(time, rate);
    for first in (0..count).step_by(per_tick) {
        ticks.tick().await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ms = now.expect("it is after 1970").as_millis();
        let records = (first..first + per_tick).map(|number| {
            let name = format!(r##"{{"name":"#{now_ms}#"}}"##);
            (format!("guest-{}", number % 10_000), name.into_bytes())
        });
        cloud.put_all("names", records.collect()).await;
    }
    ticks.tick().await;
    count
}
