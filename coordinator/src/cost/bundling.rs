//! Requests to functions per second, by the rules of gathering.

use super::TIMER_MS;

/// Relative spread of the average gap between arrivals that the dispatcher measures, with a weight
/// of 1/16 for the latest one.
const GAP_SPREAD: f64 = 0.18;

/// Steps of the numeric integration.
const STEPS: u32 = 2_000;

/// Requests per second when messages arrive at `rate` a second, independently of each other, a
/// request takes `function_ms`, and messages gather for at most `max_linger_ms`.
///
/// While no request is under way, a message is sent at once. Else messages gather until the oldest
/// has waited for the linger, or the last request has returned. The dispatcher lets messages gather
/// only while it expects another one within the linger, by the average gap that it measures, which
/// varies around the true one.
pub(super) fn requests(rate: f64, function_ms: f64, max_linger_ms: f64) -> f64 {
    if rate <= 0.0 {
        return 0.0;
    }
    let linger_ms = max_linger_ms.min(function_ms);
    let gap_ms = 1e3 / rate;
    let gathers = normal((linger_ms - gap_ms) / (GAP_SPREAD * gap_ms));
    let alone = rate;
    let gathered = 1e3 / cycle_ms(rate, function_ms, linger_ms + TIMER_MS);
    if linger_ms < 2.0 {
        return alone;
    }
    gathers * gathered + (1.0 - gathers) * alone
}

/// Mean time between two requests, if messages gather for up to `linger_ms`.
///
/// After a request at time 0, the next message comes at `a`, exponentially distributed. If the
/// request has returned by then, the message is sent at once: the cycle is `a`. Else it ends at
/// `a + linger` or with the return.
fn cycle_ms(rate: f64, function_ms: f64, linger_ms: f64) -> f64 {
    let per_ms = rate / 1e3;
    let step = function_ms / f64::from(STEPS);
    let during: f64 = (0..STEPS)
        .map(|number| {
            let at = (f64::from(number) + 0.5) * step;
            let density = per_ms * (-per_ms * at).exp();
            density * (at + linger_ms).min(function_ms.max(at)) * step
        })
        .sum();
    // Beyond the return: the mean of the exponential distribution above `function_ms`.
    let after = (-per_ms * function_ms).exp() * (function_ms + 1.0 / per_ms);
    during + after
}

/// Cumulative distribution function of the standard normal distribution, to three digits.
fn normal(at: f64) -> f64 {
    1.0 / (1.0 + (-1.702 * at).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_messages_go_alone_and_many_share_requests() {
        assert!((requests(10.0, 12.0, 10.0) - 10.0).abs() < 0.1);
        let many = requests(800.0, 12.0, 10.0);
        assert!((8.0..11.0).contains(&(800.0 / many)), "{many}");
        assert_eq!(requests(800.0, 12.0, 0.0), 800.0);
        assert_eq!(requests(0.0, 12.0, 10.0), 0.0);
    }
}
