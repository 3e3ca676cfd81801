//! `satchel run`, several processes that share the partitions of an application, over stand-ins
//! for AWS services in this process.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use satchel_testkit::{PricedCloud, PricedFunction, PricedOptions, PricedService, Service};

use super::module::module;
use super::{Chaos, Plan, Running, TOKEN};
use crate::clients::{Clients, ITEMS, Streams};
use crate::fault_plan::FaultPlan;
use crate::functions::{OUT, functions, write_violations_to};
use crate::hot_keys::HotKeys;
use crate::metrics::Metrics;
use crate::peer_links::PeerLinks;
use crate::retrying_client::RetryingClient;
use crate::spread_chaos::{Intervals, SpreadChaos};
use crate::supervisor::Supervisor;
use crate::verification::Root;
use crate::violations::Violations;

/// Lease time of the processes.
const LEASE_TIME: Duration = Duration::from_secs(2);

/// Time in which a process that leaves gives its partitions away and forwards requests. The clients
/// of the soak do not turn away from it, so it uses all of it.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Memory of the functions in MB. It only concerns the bill, which is not read.
const MEMORY_MB: u32 = 128;

/// Range of the peer ports, below those that the system gives to connections.
const PORTS: (u16, u16) = (20_000, 30_000);

/// Starts the stand-ins and the processes. One more process is prepared, which joins later.
pub(super) async fn begin(plan: &Plan) -> Result<Running, String> {
    if plan.partitions < 2 || plan.processes < 2 {
        return Err("`spread` needs at least 2 partitions and 2 processes".to_owned());
    }
    let dir = &plan.logs;
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    let (file, token, violations) = (
        dir.join("spread.yaml"),
        dir.join("spread-token"),
        dir.join("spread-violations"),
    );
    let egress_fields = "  delivery: exactly-once\n  requestTimeout: 1s\n  envelope: json\n";
    fs::write(&file, module(None, egress_fields)).map_err(failed)?;
    fs::write(&token, TOKEN).map_err(failed)?;
    write_violations_to(&violations);
    let function = || PricedFunction::new(functions(), MEMORY_MB);
    let options = PricedOptions::new()
        .seed(plan.seed)
        .unlimited_streams()
        .function("soak", function())
        .function("soak-frail", function());
    let cloud = PricedCloud::start(options);
    cloud.create_stream(ITEMS, 2).await;
    cloud.create_stream(OUT, 2).await;
    let services = [
        (Service::S3, PricedService::S3),
        (Service::DYNAMODB, PricedService::DynamoDb),
        (Service::KINESIS, PricedService::Kinesis),
        (Service::LAMBDA, PricedService::Lambda),
    ];
    let services = services.map(|(service, priced)| (service, cloud.endpoint(priced)));
    let services: Vec<_> = services.iter().map(|(it, url)| (*it, &**url)).collect();
    let fault_plan = FaultPlan::over(&services, plan.seed).await;
    let setup = cloud
        .setup(&file)
        .env("SATCHEL_LEASE_TIME", format!("{}s", LEASE_TIME.as_secs()))
        .env(
            "SATCHEL_STOP_TIMEOUT",
            format!("{}s", STOP_TIMEOUT.as_secs()),
        )
        .env("SATCHEL_ADMIN_TOKEN_FILE", token.display().to_string())
        .env("SATCHEL_S3_TIMEOUT", "2s")
        .env("SATCHEL_PARTITIONS", plan.partitions.to_string());
    let setup = match plan.log_in_table {
        true => setup
            .env("SATCHEL_COMMIT_LOG", "dynamodb:commits")
            .env("SATCHEL_CREATE_COMMIT_LOG_TABLE", "true"),
        false => setup,
    };
    let setup = fault_plan
        .endpoints()
        .fold(setup, |setup, (name, url)| setup.env(name, url));
    let ports = free_ports(usize::from(plan.processes) + 1)?;
    let links = PeerLinks::over(&ports).await.map_err(failed)?;
    let slots = ports.iter().zip(links.addresses()).enumerate();
    let supervisors = slots.map(|(at, (port, address))| {
        let setup = setup
            .clone()
            .env("SATCHEL_PEER", port.to_string())
            .env("SATCHEL_PEER_ADDRESS", address.to_string());
        let name = format!("spread-{at}");
        match at < usize::from(plan.processes) {
            true => Supervisor::begin(&name, &setup, dir.clone()),
            false => Supervisor::absent(&name, &setup, dir.clone()),
        }
    });
    let supervisors: Vec<Supervisor> = supervisors.collect();
    let variables = cloud.environment().into_iter();
    let root = Root {
        state: setup.state().ok_or("a run without --state")?.to_owned(),
        variables: variables
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    };
    let processes = supervisors.iter().map(Supervisor::client).collect();
    let http = RetryingClient::of(processes, Some(TOKEN.to_owned()), plan.sabotage);
    let clients = Arc::new(Clients {
        sabotage: plan.sabotage,
        seed: plan.seed,
        http: http.in_turn(),
        streams: Streams::Priced(Arc::new(cloud)),
        violations: Violations::of(plan.environment.name(), violations),
        metrics: Metrics::default(),
    });
    let intervals = Intervals {
        kill: plan.kill_every,
        change: plan.change_every,
    };
    let chaos = SpreadChaos::of(Arc::clone(&clients), supervisors, (links, TOKEN), intervals);
    Ok(Running {
        chaos: Chaos::Spread(chaos),
        hot_keys: Some(HotKeys::of(plan.partitions)),
        clients,
        fault_plan: Some(fault_plan),
        root,
    })
}

/// Ports that are free now, from a place that differs between the processes of this machine.
fn free_ports(count: usize) -> Result<Vec<SocketAddr>, String> {
    let (first, end) = PORTS;
    let range = u32::from(end - first);
    let begin = std::process::id().wrapping_mul(37) % range;
    let all = (0..range).map(|step| first + ((begin + step) % range) as u16);
    let addresses = all.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let free = addresses.filter(|address| TcpListener::bind(address).is_ok());
    let free: Vec<SocketAddr> = free.take(count).collect();
    match free.len() == count {
        true => Ok(free),
        false => Err(format!(
            "{count} free ports from {first} to {end} are needed"
        )),
    }
}
