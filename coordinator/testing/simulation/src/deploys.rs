//! Versions: a process that starts may bring other settings, other functions, or lack an endpoint for a while. What is known of the results holds
//! all the same.

use satchel_engine::endpoint::{Endpoint, Endpoints, OnPoison};
use satchel_engine::partition::Config;
use satchel_log::Options;
use satchel_log_simulation::Random;

use crate::functions::{FRAIL, STEADY};
use crate::weather::{Weather, draw_config, draw_log};
use crate::world::World;

/// How many versions of the functions there are; a later one declares more states.
const VERSIONS: u64 = 3;

/// How often a process that starts brings another version.
pub(crate) fn draw(random: &Random, weather: &mut Weather) {
    if random.chance(400) {
        weather.deploys = 50 + random.below(500);
    }
}

impl World {
    /// A process is about to start, perhaps with another version than the one before.
    pub(crate) fn perhaps_deploy(&mut self) {
        if self.calm || !self.random.chance(self.weather.deploys) {
            return;
        }
        let lacks = self.random.chance(150);
        self.weather.config = another_config(&self.random, &self.weather.config, lacks);
        self.weather.log = another_log(&self.random, &self.weather);
        self.stage.version = self.random.below(VERSIONS);
        self.report.deploys += 1;
        let version = self.stage.version;
        self.say(|| {
            format!("version {version} of the functions is deployed, {FRAIL} is missing: {lacks}")
        });
    }

    /// From now on nothing is missing.
    pub(crate) fn deploy_whole(&mut self) {
        if !is_whole(&self.weather.config) {
            self.weather.config = another_config(&self.random, &self.weather.config, false);
        }
    }
}

/// Whether every function is served.
pub(crate) fn is_whole(config: &Config) -> bool {
    let function = crate::functions::address(FRAIL, "poison", "r").function;
    config.endpoints.serving(&function).is_some()
}

/// Other settings: all that may change from one owner to the next.
fn another_config(random: &Random, now: &Config, lacks: bool) -> Config {
    let drawn = draw_config(random);
    let endpoints = drawn
        .endpoints
        .iter()
        .map(|(_, endpoint)| endpoint)
        .filter(|endpoint| !lacks || !serves(endpoint, FRAIL));
    let mut endpoints: Vec<Endpoint> = endpoints.cloned().collect();
    for endpoint in &mut endpoints {
        // Of the frail, it is known who is told of the failure.
        if !serves(endpoint, FRAIL) && random.chance(300) {
            endpoint.on_poison = match endpoint.on_poison {
                OnPoison::Suspend => OnPoison::DeadLetter,
                OnPoison::DeadLetter if serves(endpoint, STEADY) => OnPoison::Suspend,
                OnPoison::DeadLetter => OnPoison::DeadLetter,
            };
        }
    }
    // The order of module files means nothing.
    if random.chance(300) {
        endpoints.reverse();
    }
    Config {
        buckets: now.buckets,
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

/// Another way of keeping the log. The grace is a promise of one owner to the others, so it stays; of the past at least as much is kept.
fn another_log(random: &Random, weather: &Weather) -> Options {
    let now = weather.log;
    let drawn = draw_log(random);
    let more_ms = random.below(5_000);
    Options {
        grace_ms: now.grace_ms,
        window_ms: drawn.window_ms.min(now.grace_ms / 6),
        retention_ms: match weather.retention_min_ms {
            0 => 0,
            least_ms => least_ms + more_ms,
        },
        ..drawn
    }
}
