//! `satchel run`, an owner and a standby, over stand-ins for AWS.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use satchel_testkit::{Cloud, Service};

use super::module::module;
use super::{Plan, Running};
use crate::crew::Crew;
use crate::door::Door;
use crate::functions::{OUT, VIOLATIONS};
use crate::outside::{ITEMS, Outside, Streams};
use crate::sabotage::Sabotage;
use crate::slot::Slot;
use crate::tally::Tally;
use crate::verification::Root;
use crate::violations::Violations;
use crate::weather::Weather;

/// Longer than the lease of two seconds. Shorter than the ten after which the next owner looks what became of the records of this one (two of lease, seven
/// and the timeout of requests): a process that falls asleep between looking whether it owns and sending a request sends it when it wakes, and
/// exactly once is promised only if it lands before that look.
const SLEEP: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(4));

/// Who may administer.
const TOKEN: &str = "the-token-of-the-soak";

/// Starts the stand-ins and both processes.
pub(super) async fn begin(plan: &Plan) -> Result<Running, String> {
    let dir = &plan.logs;
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    let (file, token, violations) = (
        dir.join("cloud.yaml"),
        dir.join("token"),
        dir.join("cloud-violations"),
    );
    let delivery = match plan.sabotage {
        Some(Sabotage::AtLeastOnce) => "at-least-once",
        _ => "exactly-once",
    };
    let of_egress = format!("  delivery: {delivery}\n  requestTimeout: 1s\n");
    fs::write(&file, module(None, &of_egress)).map_err(failed)?;
    fs::write(&token, TOKEN).map_err(failed)?;
    let told = violations.display().to_string();
    let cloud = Cloud::start(&file, &plan.handler, &[(VIOLATIONS, &told)]).await;
    cloud.create_stream(ITEMS, 2).await;
    cloud.create_stream(OUT, 2).await;
    let services = [
        (Service::S3, cloud.moto()),
        (Service::DYNAMODB, cloud.moto()),
        (Service::KINESIS, cloud.kinesis()),
        (Service::LAMBDA, cloud.lambda()),
    ];
    let weather = Weather::over(&services, plan.seed).await;
    let setup = cloud
        .setup(&file)
        .env("SATCHEL_ADMIN_TOKEN_FILE", token.display().to_string())
        .env("SATCHEL_S3_TIMEOUT", "2s");
    let setup = weather
        .endpoints()
        .fold(setup, |setup, (name, url)| setup.env(name, url));
    let slots = ["run-a", "run-b"].map(|name| Slot::begin(name, &setup, dir.clone()));
    let clients = slots.iter().map(Slot::client).collect();
    let environment = cloud.environment().into_iter();
    let root = Root {
        state: setup.state().ok_or("a run without --state")?.to_owned(),
        environment: environment
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    };
    let outside = Arc::new(Outside {
        sabotage: plan.sabotage,
        seed: plan.seed,
        door: Door::of(clients, Some(TOKEN.to_owned()), plan.sabotage),
        streams: Streams::Cloud(Arc::new(cloud)),
        violations: Violations::of(plan.arena.name(), violations),
        tally: Tally::default(),
    });
    Ok(Running {
        crew: Crew::of(Arc::clone(&outside), slots.into(), None, SLEEP),
        outside,
        weather: Some(weather),
        root,
    })
}
