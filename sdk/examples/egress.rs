//! Egress: a sensor's readings are averaged, and each high average becomes a record on a stream.
//!
//! The module file says where the egress leads:
//!
//! ```yaml
//! kind: io.statefun.kinesis.v1/egress
//! spec:
//!   id: sensors/alerts
//!   awsRegion: {type: default}
//! ```
//!
//! ```text
//! cargo run -p satchel-sdk --example egress
//! ```

use satchel_sdk::prelude::*;
use satchel_sdk::testing::Scenario;
use serde::{Deserialize, Serialize};

const ALERTS: EgressId = EgressId::new("sensors/alerts");

/// Average from which an alert is raised, in degrees Celsius.
const HIGH: f64 = 30.0;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Alert {
    sensor: String,
    average: f64,
}

#[derive(State)]
struct Readings {
    sum: Value<f64>,
    count: Value<i32>,
}

async fn sensor(ctx: &mut Context<Readings>, reading: f64) -> Result {
    let sum = ctx.state.sum.get_or_default() + reading;
    let count = ctx.state.count.get_or_default() + 1;
    ctx.state.sum.set(sum);
    ctx.state.count.set(count);
    let average = sum / f64::from(count);
    if average >= HIGH {
        let sensor = ctx.self_address().id().to_owned();
        // Records under one partition key stay in order.
        let record = KinesisRecord::new("alerts", &sensor).json(&Alert { sensor, average });
        ctx.egress(ALERTS, &record);
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let mut app = Scenario::new(Functions::new().bind("sensors/sensor", sensor));
    for reading in [20.0, 30.0, 46.0] {
        app.send("sensors/sensor/boiler", &reading);
    }
    app.run_to_rest().await?;

    let records: Vec<KinesisRecord> = app.egress(ALERTS);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].stream(), "alerts");
    let alert: Alert = records[0].value_as_json()?;
    assert_eq!((alert.sensor.as_str(), alert.average), ("boiler", 32.0));
    println!("{alert:?}");
    Ok(())
}

#[test]
fn the_example_runs() {
    main().expect("the example succeeds");
}
