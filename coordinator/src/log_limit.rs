//! Rate limit of log lines: the first lines of an event are written, the rest is counted.
//!
//! ```text
//!  admit ──► written, with the number suppressed before it
//!        └─► counted ──► the next line, or a summary when the window is over (`take_due`)
//! ```
//!
//! Time is an argument, so that a test needs no clock.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Maximum number of events told apart at a time. More share one entry per kind of event.
const SUBJECTS_MAX: usize = 1000;

/// Maximum length of a reason that tells events apart, in characters.
const SHAPE_CHARACTERS_MAX: usize = 64;

/// Maximum length of a line of output that tells it from others, in characters.
const LINE_CHARACTERS_MAX: usize = 1000;

/// Event whose lines are limited together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Subject {
    /// Kind of event.
    pub(crate) event: &'static str,
    /// Endpoint, function or partition that the event is about.
    pub(crate) of: Arc<str>,
    /// Reason, without what differs between repetitions.
    pub(crate) reason: Arc<str>,
}

impl Subject {
    /// Creates the subject of an event. Digits of `reason` are ignored, because ports, ids and
    /// times differ between repetitions.
    pub(crate) fn new(event: &'static str, of: impl Into<Arc<str>>, reason: &str) -> Self {
        Self {
            event,
            of: of.into(),
            reason: shape(reason, SHAPE_CHARACTERS_MAX).into(),
        }
    }

    /// Creates the subject of a line of output of `of`. Digits are ignored.
    pub(crate) fn line(of: &str, line: &str) -> Self {
        Self {
            event: "line",
            of: of.into(),
            reason: shape(line, LINE_CHARACTERS_MAX).into(),
        }
    }

    fn others(event: &'static str) -> Self {
        Self {
            event,
            of: "others".into(),
            reason: "".into(),
        }
    }
}

/// Returns the beginning of a text, without digits.
fn shape(text: &str, characters_max: usize) -> String {
    let chars = text.chars().filter(|char| !char.is_ascii_digit());
    chars.take(characters_max).collect()
}

/// Lines of events that were suppressed and not reported yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suppressed {
    /// The event.
    pub(crate) subject: Subject,
    /// Number of suppressed lines.
    pub(crate) lines: u64,
}

/// Rate limit of log lines, per subject.
#[derive(Debug)]
pub(crate) struct LogLimit {
    window: Duration,
    windows: Mutex<HashMap<Subject, Window>>,
}

#[derive(Debug)]
struct Window {
    begun: Instant,
    written: u32,
    suppressed: u64,
}

impl LogLimit {
    /// Creates a limit that counts anew in each `window`.
    pub(crate) fn new(window: Duration) -> Self {
        Self {
            window,
            windows: Mutex::default(),
        }
    }

    /// Returns the number of lines suppressed since the last one if this line may be written: if it
    /// is among the first `burst` lines of its window.
    pub(crate) fn admit(&self, subject: Subject, burst: u32, now: Instant) -> Option<u64> {
        let mut windows = self.windows();
        let subject = if windows.contains_key(&subject) || self.has_room(&mut windows, now) {
            subject
        } else {
            Subject::others(subject.event)
        };
        match windows.entry(subject) {
            Entry::Vacant(entry) => {
                entry.insert(Window::starting(now));
                Some(0)
            }
            Entry::Occupied(mut entry) => {
                let window = entry.get_mut();
                if now.saturating_duration_since(window.begun) >= self.window {
                    let suppressed = window.suppressed;
                    *window = Window::starting(now);
                    return Some(suppressed);
                }
                if window.written < burst {
                    window.written += 1;
                    return Some(0);
                }
                window.suppressed += 1;
                None
            }
        }
    }

    /// Returns whether this subject would have an entry of its own.
    pub(crate) fn tells_apart(&self, subject: &Subject, now: Instant) -> bool {
        let mut windows = self.windows();
        windows.contains_key(subject) || self.has_room(&mut windows, now)
    }

    /// Returns whether there is room for another subject, for which windows that are over are
    /// forgotten.
    fn has_room(&self, windows: &mut HashMap<Subject, Window>, now: Instant) -> bool {
        if windows.len() >= SUBJECTS_MAX {
            windows.retain(|_, window| now.saturating_duration_since(window.begun) < self.window);
        }
        windows.len() < SUBJECTS_MAX
    }

    /// Takes what was suppressed in windows that are over, and forgets quiet subjects.
    pub(crate) fn take_due(&self, now: Instant) -> Vec<Suppressed> {
        let mut due = Vec::new();
        self.windows().retain(|subject, window| {
            if now.saturating_duration_since(window.begun) < self.window {
                return true;
            }
            if window.suppressed == 0 {
                return false;
            }
            due.push(Suppressed {
                subject: subject.clone(),
                lines: window.suppressed,
            });
            // The summary is the line of the next window.
            *window = Window::starting(now);
            window.written = u32::MAX;
            true
        });
        due.sort_by(|one, other| one.subject.of.cmp(&other.subject.of));
        due
    }

    fn windows(&self) -> MutexGuard<'_, HashMap<Subject, Window>> {
        // A map is consistent after each method.
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn starting(begun: Instant) -> Self {
        Self {
            begun,
            written: 1,
            suppressed: 0,
        }
    }
}

/// Rate limit of the lines of one event: one at most in each pause.
#[derive(Debug)]
pub(crate) struct Seldom {
    pause: Duration,
    written: Option<Instant>,
    suppressed: u64,
}

impl Seldom {
    /// Creates a limit of one line in each `pause`.
    pub(crate) fn new(pause: Duration) -> Self {
        Self {
            pause,
            written: None,
            suppressed: 0,
        }
    }

    /// Returns the number of lines suppressed since the last one if this line may be written.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        let recent = |at: Instant| now.saturating_duration_since(at) < self.pause;
        if self.written.is_some_and(recent) {
            self.suppressed += 1;
            return None;
        }
        self.written = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(30);

    fn refused(port: u16) -> Subject {
        let reason = format!("connection refused by 127.0.0.1:{port}");
        Subject::new("endpoint failed", "greeter", &reason)
    }

    #[test]
    fn the_first_lines_of_a_window_are_written_and_the_rest_is_counted_in_the_next_one() {
        let limit = LogLimit::new(WINDOW);
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(limit.admit(refused(1), 2, at(0)), Some(0));
        assert_eq!(
            limit.admit(refused(2), 2, at(1)),
            Some(0),
            "the same but for digits"
        );
        for second in 2..30 {
            assert_eq!(limit.admit(refused(3), 2, at(second)), None);
        }
        let other = Subject::new("endpoint failed", "counter", "connection refused");
        assert_eq!(limit.admit(other, 2, at(29)), Some(0), "another endpoint");
        assert_eq!(limit.admit(refused(4), 2, at(30)), Some(28));
        assert_eq!(limit.admit(refused(4), 2, at(31)), Some(0));
        assert_eq!(limit.admit(refused(4), 2, at(32)), None);
    }

    #[test]
    fn what_was_suppressed_is_reported_when_nothing_follows_and_a_quiet_subject_is_forgotten() {
        let limit = LogLimit::new(WINDOW);
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        for _ in 0..5 {
            limit.admit(refused(1), 1, at(0));
        }
        assert_eq!(limit.take_due(at(29)), []);
        let four = Suppressed {
            subject: refused(1),
            lines: 4,
        };
        assert_eq!(limit.take_due(at(30)), [four]);
        assert_eq!(
            limit.admit(refused(1), 1, at(31)),
            None,
            "the summary was a line"
        );
        assert_eq!(limit.take_due(at(60))[0].lines, 1);
        assert_eq!(limit.take_due(at(90)), []);
        assert!(limit.windows().is_empty());
    }

    #[test]
    fn one_line_is_written_in_each_pause_with_the_number_of_those_that_were_not() {
        let mut seldom = Seldom::new(WINDOW);
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(seldom.admit(at(0)), Some(0));
        assert_eq!((seldom.admit(at(1)), seldom.admit(at(29))), (None, None));
        assert_eq!(seldom.admit(at(30)), Some(2));
        assert_eq!(seldom.admit(at(59)), None);
        assert_eq!(seldom.admit(at(90)), Some(1));
    }

    #[test]
    fn the_number_of_subjects_is_bounded() {
        let limit = LogLimit::new(WINDOW);
        let now = Instant::now();
        let written = (0..10 * SUBJECTS_MAX)
            .filter(|number| {
                let function = format!("f{number}");
                limit
                    .admit(Subject::new("dead letter", function, "x"), 1, now)
                    .is_some()
            })
            .count();
        assert_eq!(written, SUBJECTS_MAX + 1, "the last one is for the others");
        assert_eq!(limit.windows().len(), SUBJECTS_MAX + 1);
        let new = || Subject::new("dead letter", "new", "x");
        assert!(!limit.tells_apart(&new(), now));
        let later = now + WINDOW;
        assert!(limit.tells_apart(&new(), later), "the others are over");
        assert_eq!(limit.admit(new(), 1, later), Some(0));
        assert_eq!(limit.windows().len(), 1);
    }
}
