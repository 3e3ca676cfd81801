//! Changes of many dead letters: retry or drop all that match a filter.
//!
//! A change takes as many requests as it needs, each bounded in the letters that it visits and
//! changes and in the bytes that it queues again. The answer says where the next request continues.
//! A request waits for the bucket of the first dead letter that it changes, and ends before one
//! whose bucket is not in memory. Only dead letters that existed when the first request came are
//! changed, so a message that fails again is not retried again. Repeating a request whose answer
//! was lost is harmless.

use super::Partition;
use crate::input::{DeadLetterChange, DeadLetterCursor, DeadLetterFilter};
use crate::output::{Answer, DeadLettersChanged};
use crate::tables::DeadLetterEntry;

/// Maximum number of dead letters that a request visits.
const VISITED_MAX: usize = 10_000;

/// Size of the retried messages, in bytes, above which a request retries no more.
const RETRIED_BYTES_MAX: usize = 8 << 20;

impl DeadLetterFilter {
    /// Returns whether a dead letter matches.
    pub(super) fn matches(&self, letter: &DeadLetterEntry) -> bool {
        let address = letter.address.as_ref();
        let is_of = |name: &str| address.is_some_and(|it| it.function.is_called(name));
        self.function.as_deref().is_none_or(is_of)
            && self
                .since_ms
                .is_none_or(|since_ms| letter.failed_at_ms >= since_ms)
            && self
                .reason
                .as_deref()
                .is_none_or(|reason| letter.reason.contains(reason))
    }
}

impl Partition {
    /// Changes the next dead letters that match.
    pub(super) fn change_dead_letters(
        &mut self,
        change: DeadLetterChange,
        filter: &DeadLetterFilter,
        cursor: Option<DeadLetterCursor>,
        limit: usize,
    ) -> Answer {
        let cursor = cursor.unwrap_or(DeadLetterCursor {
            next: 0,
            end: self.tables.next_number,
        });
        let (matching, mut next) = self.matching_dead_letters(filter, cursor, limit);
        let (mut changed, mut skipped, mut bytes) = (0, 0, 0);
        for number in matching {
            if self.absent_bucket_of_letter(number).is_some() {
                // The next request waits for its bucket.
                next = Some(number);
                break;
            }
            let bytes_before = self.pending_bytes;
            let done = match change {
                DeadLetterChange::Drop => self.drop_numbered(number),
                DeadLetterChange::Retry => {
                    if bytes_before > self.config.pending_bytes_max {
                        if changed + skipped == 0 {
                            return Answer::Overloaded;
                        }
                        next = Some(number);
                        break;
                    }
                    if bytes > RETRIED_BYTES_MAX {
                        next = Some(number);
                        break;
                    }
                    self.retry_numbered(number)
                }
            };
            bytes += self.pending_bytes.saturating_sub(bytes_before);
            if done {
                changed += 1;
            } else {
                skipped += 1;
            }
        }
        Answer::DeadLettersChanged(DeadLettersChanged {
            changed,
            skipped,
            cursor: next.map(|next| DeadLetterCursor { next, ..cursor }),
        })
    }

    /// Returns the number of the dead letter that the request of this cursor changes first.
    pub(super) fn next_dead_letter_to_change(
        &self,
        filter: &DeadLetterFilter,
        cursor: Option<DeadLetterCursor>,
    ) -> Option<u64> {
        let cursor = cursor.unwrap_or(DeadLetterCursor {
            next: 0,
            end: self.tables.next_number,
        });
        let (matching, _) = self.matching_dead_letters(filter, cursor, 1);
        matching.first().copied()
    }

    /// Returns the numbers of the next matching dead letters, and the number of the first that was
    /// not visited, if one is left.
    fn matching_dead_letters(
        &self,
        filter: &DeadLetterFilter,
        cursor: DeadLetterCursor,
        limit: usize,
    ) -> (Vec<u64>, Option<u64>) {
        let letters = self.tables.dead_letters.since(cursor.next);
        let letters = letters.take_while(|(number, _)| *number < cursor.end);
        let mut matching = Vec::new();
        for (visited, (number, entry)) in letters.enumerate() {
            if visited == VISITED_MAX || matching.len() == limit {
                return (matching, Some(number));
            }
            if filter.matches(entry) {
                matching.push(number);
            }
        }
        (matching, None)
    }
}
