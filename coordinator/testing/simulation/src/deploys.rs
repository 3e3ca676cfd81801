//! Versions of the application: a process that starts may bring other settings and other functions,
//! or lack an endpoint for a while. The known results hold all the same.

use satchel_engine::endpoint::{Endpoint, Endpoints, OnPoison};
use satchel_engine::output::Delta;
use satchel_engine::partition::Config;
use satchel_log::Options;
use satchel_log_simulation::Random;

use crate::fault_plan::{FaultPlan, draw_config, draw_log};
use crate::functions::{FRAIL, STEADY, lifetime_ms};
use crate::process::{ProcessId, expiry};
use crate::world::World;

/// Number of versions of the functions. A later version declares more states.
const VERSIONS: u64 = 3;

/// Draws how often a process that starts brings another version.
pub(crate) fn draw(random: &Random, faults: &mut FaultPlan) {
    if random.chance(400) {
        faults.deploys = 50 + random.below(500);
    }
}

impl World {
    /// Changes the version that the next process brings, at random.
    pub(crate) fn perhaps_deploy(&mut self) {
        if self.faults_ended || !self.random.chance(self.faults.deploys) {
            return;
        }
        let lacks = self.random.chance(150);
        self.faults.config = another_config(&self.random, &self.faults.config, lacks);
        self.faults.log = another_log(&self.random, &self.faults);
        self.stage.version = self.random.below(VERSIONS);
        self.stage.misfits = self.random.chance(300);
        self.report.deploys += 1;
        let (version, misfits) = (self.stage.version, self.stage.misfits);
        self.record(|| {
            format!(
                "version {version} of the functions is deployed, {FRAIL} is missing: {lacks}, \
                 with other types: {misfits}"
            )
        });
    }

    /// Checks that no value outlives what the version that wrote it declares. Only an SDK that
    /// names its fingerprint declares before it writes.
    pub(crate) fn check_lifetimes(&mut self, id: ProcessId, delta: &Delta) {
        if !self.stage.names_cause {
            return;
        }
        for change in &delta.changes {
            let written = change.value.as_ref();
            let written = written.and_then(|value| expiry(&change.key, value));
            let Some((value, at_ms)) = written else {
                continue;
            };
            let latest_ms = lifetime_ms(&value).map(|ms| delta.committed_at_ms + ms);
            if latest_ms.is_some_and(|latest_ms| at_ms > latest_ms) {
                self.stage.violations.push(format!(
                    "process {id} keeps {value} until {at_ms}, which may live until {latest_ms:?}"
                ));
            }
        }
    }

    /// Makes sure that no endpoint is missing, and every type fits, from now on.
    pub(crate) fn deploy_whole(&mut self) {
        self.stage.misfits = false;
        if !is_whole(&self.faults.config) {
            self.faults.config = another_config(&self.random, &self.faults.config, false);
        }
    }
}

/// Returns true if every function has an endpoint.
pub(crate) fn is_whole(config: &Config) -> bool {
    let function = crate::functions::address(FRAIL, "poison", "r").function;
    config.endpoints.serving(&function).is_some()
}

/// Draws other settings within what may change from one owner to the next.
fn another_config(random: &Random, now: &Config, lacks: bool) -> Config {
    let drawn = draw_config(random);
    let endpoints = drawn
        .endpoints
        .iter()
        .map(|(_, endpoint)| endpoint)
        .filter(|endpoint| !lacks || !serves(endpoint, FRAIL));
    let mut endpoints: Vec<Endpoint> = endpoints.cloned().collect();
    for endpoint in &mut endpoints {
        // The checks rely on dead letters for failures of frail functions.
        if !serves(endpoint, FRAIL) && random.chance(300) {
            endpoint.on_poison = match endpoint.on_poison {
                OnPoison::Suspend => OnPoison::DeadLetter,
                OnPoison::DeadLetter if serves(endpoint, STEADY) => OnPoison::Suspend,
                OnPoison::DeadLetter => OnPoison::DeadLetter,
            };
        }
    }
    // The order of module files has no meaning.
    if random.chance(300) {
        endpoints.reverse();
    }
    Config {
        placement: now.placement,
        idempotency_ttl_ms: now.idempotency_ttl_ms,
        endpoints: Endpoints::new(endpoints),
        ..drawn
    }
}

fn serves(endpoint: &Endpoint, namespace: &str) -> bool {
    endpoint.functions.iter().any(|pattern| match pattern {
        satchel_engine::endpoint::FunctionPattern::Namespace(known) => known == namespace,
        satchel_engine::endpoint::FunctionPattern::One(_) => false,
    })
}

/// Draws other options of the log. The grace is a promise of one owner to the others, so it stays.
/// Retention stays at least as long as the promised minimum.
fn another_log(random: &Random, faults: &FaultPlan) -> Options {
    let now = faults.log;
    let drawn = draw_log(random);
    let more_ms = random.below(5_000);
    Options {
        grace_ms: now.grace_ms,
        window_ms: drawn.window_ms.min(now.grace_ms / 6),
        retention_ms: match faults.retention_min_ms {
            0 => 0,
            least_ms => least_ms + more_ms,
        },
        ..drawn
    }
}
