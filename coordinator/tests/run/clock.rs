//! A start on a machine whose clock differs from that of S3 or of DynamoDB.

use std::time::SystemTime;

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use satchel_testkit::{Fault, Proxy, Service};

use super::refusals::rejected;
use super::*;

/// Services whose `Date` is compared, with their names in messages.
const SERVICES: [(Service, &str); 2] = [
    (Service::S3, "the store of the state"),
    (Service::DYNAMODB, "the lease table"),
];

/// Starts a stand-in for a service whose clock is ahead of this machine's by `ahead`.
async fn ahead_by(ahead: Duration, upstream: &str) -> Proxy {
    let proxy = Proxy::start(upstream).await;
    proxy.decide_with(move |_| {
        let date = DateTime::from(SystemTime::now() + ahead);
        let date = date.fmt(DateTimeFormat::HttpDate).unwrap();
        Some(Fault::DateAnswer(date))
    });
    proxy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_off_by_minutes_is_named_and_by_a_quarter_of_an_hour_refused() {
    let aws = Aws::with_greeter().await;
    for (service, name) in SERVICES {
        let behind = format!("s behind the `Date` that {name} answers with");
        let proxy = ahead_by(Duration::from_secs(20 * 60), aws.moto.endpoint()).await;
        let setup = aws.setup("10s").env(service.variable, proxy.endpoint());
        rejected(setup, 5, &[&behind, "set the clock, such as by NTP"]).await;

        let proxy = ahead_by(Duration::from_secs(2 * 60), aws.moto.endpoint()).await;
        let setup = aws.setup("10s").env(service.variable, proxy.endpoint());
        let mut app = setup.start().await;
        let ended = app.terminate().await;
        assert_eq!(ended.code, Some(0), "{}", ended.printed);
        assert!(ended.printed.contains(&behind), "{}", ended.printed);
    }
    aws.stop().await;
}
