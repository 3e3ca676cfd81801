//! Commits per second, by the rules of sealing.

use std::collections::VecDeque;

use super::TIMER_MS;
use super::load::Load;

/// The pace of a commit that holds nothing more urgent than egress, in multiples of the commit
/// pace.
const EGRESS_PACES: f64 = 5.0;

/// A store that answers sooner gains nothing from a delta that waits for more changes, in ms.
const LINGER_FROM_LATENCY_MS: f64 = 4.0;

/// Maximum time for which a delta waits for more changes while another is on its way, in ms.
const LINGER_MAX_MS: f64 = 100.0;

/// Weight of the latest commit in the average of their times.
const LATENCY_WEIGHT: f64 = 1.0 / 8.0;

/// Standard deviation of the logarithm of the store's latency: the 99th percentile is 3.2 times the
/// median.
const LATENCY_SPREAD: f64 = 0.5;

/// Number of commits that the model walks through. The result varies by less than 1 % with the
/// sequence of latencies.
const WALK: u32 = 20_000;

/// Commits of a load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Commits {
    pub(super) per_second: f64,
    /// Mean time from the seal until the commit and all before it are durable, in ms.
    pub(super) took_ms: f64,
}

const NONE: Commits = Commits {
    per_second: 0.0,
    took_ms: 0.0,
};

/// Returns the commits of `answers` and `egress_events` per second.
pub(super) fn of(load: &Load, answers: f64, egress_events: f64) -> Commits {
    // Answers are urgent; egress alone waits longer, and rides along with answers.
    let prompt = walk(load, load.commit_pace_ms, answers);
    let egress = walk(load, load.commit_pace_ms * EGRESS_PACES, egress_events);
    // Positions and acknowledgements alone wait for the interval after the first of them.
    let changes = load.messages() + egress_events;
    let lazy = match changes > 0.0 {
        true => Commits {
            per_second: 1e3 / (load.commit_interval_ms.max(load.commit_pace_ms) + 1e3 / changes),
            took_ms: load.store_ms,
        },
        false => NONE,
    };
    let most = |one: Commits, other: Commits| match one.per_second >= other.per_second {
        true => one,
        false => other,
    };
    most(most(prompt, egress), lazy)
}

/// Walks through commits at `pace_ms` that `events` per second cause, independently of each other.
///
/// A commit is sealed at the first event after the last one, one pace after that at the earliest.
/// While others are on their way, it waits for half of the usual time of a commit, or until all are
/// durable. It waits in any case while there are as many as the depth. A commit is durable after
/// all before it, so that one slow request delays several.
fn walk(load: &Load, pace_ms: f64, events: f64) -> Commits {
    if events <= 0.0 {
        return NONE;
    }
    let event_ms = 1e3 / events;
    let mut draws = Draws(0);
    // Times of the seal and of durability, oldest first.
    let mut on_their_way: VecDeque<(f64, f64)> = VecDeque::new();
    let (mut sealed_ms, mut durable_ms) = (0.0_f64, 0.0_f64);
    let (mut usual_ms, mut took_ms) = (load.store_ms, 0.0);
    for _ in 0..WALK {
        // Events have no memory: the next one comes as if the last one had just come.
        let event = sealed_ms + draws.exponential() * event_ms;
        let paced = sealed_ms + pace_ms;
        let mut at = if event < paced {
            paced + TIMER_MS
        } else {
            event
        };
        while let Some(&(sealed, durable)) = on_their_way.front() {
            if durable > at {
                let has_room = (on_their_way.len() as f64) < load.commit_depth;
                let due = sealed_ms + pace_ms.max(linger_ms(usual_ms)) + TIMER_MS;
                if has_room && due <= durable {
                    at = at.max(due);
                    break;
                }
                at = durable;
            }
            on_their_way.pop_front();
            usual_ms += (durable - sealed - usual_ms) * LATENCY_WEIGHT;
        }
        sealed_ms = at;
        durable_ms = durable_ms.max(at + draws.latency() * load.store_ms);
        took_ms += durable_ms - at;
        on_their_way.push_back((at, durable_ms));
    }
    Commits {
        per_second: f64::from(WALK) * 1e3 / sealed_ms,
        took_ms: took_ms / f64::from(WALK),
    }
}

fn linger_ms(usual_ms: f64) -> f64 {
    match usual_ms < LINGER_FROM_LATENCY_MS {
        true => 0.0,
        false => (usual_ms / 2.0).min(LINGER_MAX_MS),
    }
}

/// A fixed sequence of draws (SplitMix64), so that equal loads have equal bills.
struct Draws(u64);

impl Draws {
    /// Above 0 and below 1.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((mixed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Exponentially distributed, with the mean 1.
    fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }

    /// Log-normally distributed, with the mean 1 and [`LATENCY_SPREAD`].
    fn latency(&mut self) -> f64 {
        // The method of Box and Muller.
        let radius = (2.0 * self.exponential()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.uniform()).cos();
        (LATENCY_SPREAD * normal - LATENCY_SPREAD * LATENCY_SPREAD / 2.0).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_means_and_the_spread_that_they_should_have() {
        let mut draws = Draws(0);
        let mean = |draws: &mut dyn FnMut() -> f64| {
            let sum: f64 = (0..WALK).map(|_| draws()).sum();
            sum / f64::from(WALK)
        };
        let exponential = mean(&mut || draws.exponential());
        let latency = mean(&mut || draws.latency());
        let deviation = mean(&mut || draws.latency().ln().powi(2));
        let expected = LATENCY_SPREAD.powi(2) + (LATENCY_SPREAD.powi(2) / 2.0).powi(2);
        assert!((exponential - 1.0).abs() < 0.02, "{exponential}");
        assert!((latency - 1.0).abs() < 0.02, "{latency}");
        assert!((deviation - expected).abs() < 0.02, "{deviation}");
    }
}
