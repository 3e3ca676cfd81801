//! Commits per second, by the rules of sealing.

use super::load::Load;

/// The pace of a commit that holds nothing more urgent than egress, in multiples of the commit
/// pace.
const EGRESS_PACES: f64 = 5.0;

/// A store that answers sooner gains nothing from a delta that waits for more changes, in ms.
const LINGER_FROM_LATENCY_MS: f64 = 4.0;

/// Maximum time for which a delta waits for more changes while another is on its way, in ms.
const LINGER_MAX_MS: f64 = 100.0;

/// Commits per second.
///
/// A commit that an event needs is sealed one gap after the last commit, or at the first such event
/// after that. Events come independently of each other, so the mean time between two commits is
/// the gap and the mean time until the next event, if none came during the gap.
pub(super) fn per_second(load: &Load, answers: f64, egress_events: f64) -> f64 {
    // Answers are urgent; egress alone waits longer, and rides along with answers.
    let prompt = rate(gap_ms(load, 1.0), answers);
    let egress = if egress_events > 0.0 {
        rate(gap_ms(load, EGRESS_PACES), egress_events)
    } else {
        0.0
    };
    // Positions and acknowledgements alone.
    let lazy = if load.messages() + egress_events > 0.0 {
        let interval_ms = load.commit_interval_ms.max(load.commit_pace_ms);
        rate(interval_ms, load.messages() + egress_events)
    } else {
        0.0
    };
    prompt.max(egress).max(lazy)
}

/// Minimum time between two commits in ms, at `paces` times the pace.
fn gap_ms(load: &Load, paces: f64) -> f64 {
    let latency_ms = load.store_ms;
    let pace_ms = load.commit_pace_ms * paces;
    // While a commit is on its way, the next one waits for a share of the latency; and no more
    // than the depth are on their way.
    let linger_ms = if latency_ms < LINGER_FROM_LATENCY_MS {
        0.0
    } else {
        (latency_ms / 2.0).min(LINGER_MAX_MS)
    };
    let room_ms = latency_ms / load.commit_depth;
    pace_ms.max(linger_ms).max(room_ms)
}

/// Rate of commits that are at least `gap_ms` apart and are caused by `events` per second.
fn rate(gap_ms: f64, events: f64) -> f64 {
    if events <= 0.0 {
        return 0.0;
    }
    let gap = gap_ms / 1e3;
    1.0 / (gap + (-events * gap).exp() / events)
}
