//! Samples of the last minutes, and the rates between them.

use std::collections::VecDeque;

use serde_json::Value;

/// Number of samples that are kept, one a second.
const SAMPLES_MAX: usize = 300;

/// Longest time between two samples whose difference is a rate, in ms. After a gap nothing is known
/// of each second.
const GAP_MS_MAX: f64 = 5_000.0;

/// Samples of `/api/live`, oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    samples: VecDeque<Value>,
}

impl History {
    /// Adds a sample, unless it is not later than the last one, as those that a server repeats to a
    /// new listener.
    pub(super) fn add(&mut self, sample: Value) {
        let at_ms = |sample: &Value| sample["at_ms"].as_f64();
        let Some(now_ms) = at_ms(&sample) else {
            return;
        };
        if self
            .last()
            .and_then(at_ms)
            .is_some_and(|last_ms| last_ms >= now_ms)
        {
            return;
        }
        self.samples.push_back(sample);
        if self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
    }

    /// The latest sample.
    pub(super) fn last(&self) -> Option<&Value> {
        self.samples.back()
    }

    /// Number of samples.
    pub(super) fn len(&self) -> usize {
        self.samples.len()
    }

    /// Growth of a counter a second, for each sample but the first. A counter that became smaller
    /// is that of a new owner, and one that is missing was not told.
    pub(super) fn rates(&self, name: &str) -> Vec<Option<f64>> {
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        pairs
            .map(|(before, now)| {
                let passed_ms = now["at_ms"].as_f64()? - before["at_ms"].as_f64()?;
                let grown = now[name].as_f64()? - before[name].as_f64()?;
                let is_known = grown >= 0.0 && passed_ms > 0.0 && passed_ms < GAP_MS_MAX;
                is_known.then(|| grown * 1_000.0 / passed_ms)
            })
            .collect()
    }

    /// Values of a gauge.
    pub(super) fn levels(&self, name: &str) -> Vec<Option<f64>> {
        let samples = self.samples.iter();
        samples.map(|sample| sample[name].as_f64()).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rates_are_known_between_samples_of_one_owner_that_follow_each_other() {
        let mut history = History::default();
        let samples = [
            (1_000, json!(10)),
            (2_000, json!(10)),
            (2_500, json!(40)),
            // The same again, as after a new connection.
            (2_000, json!(10)),
            (2_500, json!(40)),
            // A restart.
            (3_500, json!(5)),
            // The partitions did not answer in time.
            (4_500, Value::Null),
            (5_500, json!(7)),
            // A gap.
            (60_000, json!(7_000)),
        ];
        for (at_ms, processed) in samples {
            history.add(json!({"at_ms": at_ms, "processed": processed}));
        }
        history.add(json!({"processed": 9}));
        assert_eq!(history.len(), 7);
        let rates = [Some(0.0), Some(60.0), None, None, None, None];
        assert_eq!(history.rates("processed"), rates);
        assert_eq!(history.rates("of another version"), [None; 6]);
        assert_eq!(history.levels("processed")[3], Some(5.0));
        assert_eq!(history.levels("processed")[4], None);
    }

    #[test]
    fn a_history_is_bounded() {
        let mut history = History::default();
        for at_ms in 0..1_000 {
            history.add(json!({"at_ms": at_ms}));
        }
        assert_eq!(history.len(), SAMPLES_MAX);
        assert_eq!(history.last().unwrap()["at_ms"], 999);
    }
}
