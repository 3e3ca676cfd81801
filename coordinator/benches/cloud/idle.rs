//! Price of partitions without work.

use std::time::Duration;

use satchel_testkit::{PricedService, resident_bytes};

use crate::application::{Application, Settings};

/// Time over which requests are counted.
const TIME: Duration = Duration::from_secs(10);

/// Measures one process with more and more partitions.
pub(crate) async fn measure() {
    println!("partitions without work, one process");
    println!(
        "{:<12} {:>8} {:>16} {:>8} {:>8} {:>14}",
        "partitions", "MiB", "KiB/partition", "PUT/s", "GET/s", "DynamoDB/s"
    );
    let mut first = None;
    for partitions in [1_u32, 8, 32, 64] {
        let settings = Settings {
            arguments: vec![format!("--partitions={partitions}")],
            ..Settings::default()
        };
        let app = Application::start(&settings).await;
        // Nearly every partition is called, so that what it needs is there.
        for number in 0..4 * partitions as usize {
            app.call(number).await;
        }
        app.quiet().await;
        let before = app.cloud.bill();
        tokio::time::sleep(TIME).await;
        let bill = app.cloud.bill().since(&before);
        let bytes = resident_bytes(app.app.pid()) as f64;
        let (of_one, more) = match first {
            None => (bytes, 0.0),
            Some(of_one) => (of_one, f64::from(partitions - 1)),
        };
        first = Some(of_one);
        let each = if more > 0.0 {
            (bytes - of_one) / more
        } else {
            0.0
        };
        let seconds = bill.time.as_secs_f64();
        let rate = |operation| bill.of(PricedService::S3, operation).requests as f64 / seconds;
        let table = bill.all_of(PricedService::DynamoDb).requests as f64 / seconds;
        println!(
            "{partitions:<12} {:>8.1} {:>16.0} {:>8.2} {:>8.2} {:>14.2}",
            bytes / 1_048_576.0,
            each / 1_024.0,
            rate("PutObject"),
            rate("GetObject"),
            table
        );
    }
    println!();
}
