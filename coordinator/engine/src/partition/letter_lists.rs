//! Lists of dead letters, whose buckets may be absent. Each bucket is loaded in turn, and what the
//! list needs of it is copied, so that a list never needs two buckets in memory.

use std::collections::BTreeMap;

use super::Partition;
use crate::address::Address;
use crate::durable::DeadLetter;
use crate::input::DeadLetterFilter;
use crate::message::MessageId;
use crate::output::{Answer, DeadLetterView};
use crate::request::RequestId;

/// Size of the dead letters in one list, in bytes, above which it ends. It then has at least two.
/// It is not less than the size of a page of the HTTP API.
const LIST_BYTES_MAX: usize = 8 << 20;

/// A list of dead letters that is being built.
pub(super) struct LetterList {
    request: RequestId,
    /// The dead letters of the list by number, as far as their buckets were visited.
    wanted: BTreeMap<u64, Option<DeadLetterView>>,
}

impl Partition {
    /// Starts a list of the dead letters after `after`, oldest first.
    pub(super) fn list_dead_letters(
        &mut self,
        request: RequestId,
        filter: &DeadLetterFilter,
        after: Option<MessageId>,
        limit: usize,
    ) {
        let first = match after {
            None => 0,
            Some(after) => match self.tables.dead_letters.number_of(after) {
                Some(number) => number + 1,
                None => {
                    let answer = Answer::NotFound(format!("there is no dead letter {after}"));
                    return self.reply_when_durable(request, answer);
                }
            },
        };
        let letters = self.tables.dead_letters.since(first);
        let letters = letters.filter(|(_, entry)| filter.matches(entry));
        let (mut bytes, mut wanted) = (0, BTreeMap::new());
        for (number, entry) in letters.take(limit) {
            bytes += entry.listed_bytes;
            wanted.insert(number, None);
            if bytes > LIST_BYTES_MAX && wanted.len() > 1 {
                break;
            }
        }
        let absent = wanted
            .keys()
            .any(|number| self.absent_bucket_of_letter(*number).is_some());
        if !absent || self.admits(request) {
            self.letter_lists.push(LetterList { request, wanted });
            self.advance_letter_lists();
        }
    }

    /// Returns the bucket of a dead letter, if it is not in memory.
    pub(super) fn absent_bucket_of_letter(&self, number: u64) -> Option<u16> {
        let home = self.tables.dead_letters.get(number)?.home.as_ref()?;
        self.tables.absent_bucket_of(home)
    }

    /// Copies what the lists need of the buckets in memory, answers the complete lists, and
    /// requests the next bucket for the others.
    pub(super) fn advance_letter_lists(&mut self) {
        for mut list in std::mem::take(&mut self.letter_lists) {
            let mut next = None;
            for (number, found) in &mut list.wanted {
                if found.is_some() {
                    continue;
                }
                match self.absent_bucket_of_letter(*number) {
                    Some(bucket) => next = next.or(Some(bucket)),
                    None => *found = self.view_dead_letter(*number),
                }
            }
            match next {
                Some(bucket) => {
                    self.request_load(bucket);
                    self.letter_lists.push(list);
                }
                None => {
                    // One that was dropped in the meantime is in the list no more.
                    let views = list.wanted.into_values().flatten().collect();
                    self.reply_when_durable(list.request, Answer::DeadLetters(views));
                }
            }
        }
    }

    /// Answers the unfinished lists when the partition stops.
    pub(super) fn reject_letter_lists(&mut self) {
        for list in std::mem::take(&mut self.letter_lists) {
            self.answer(list.request, Answer::Stopping);
        }
    }

    fn view_dead_letter(&self, number: u64) -> Option<DeadLetterView> {
        let entry = self.tables.dead_letters.get(number)?;
        let letter = self.tables.dead_letter(number)?;
        Some(view(entry.address.clone(), letter))
    }
}

fn view(address: Option<Address>, letter: &DeadLetter) -> DeadLetterView {
    DeadLetterView {
        id: letter.id,
        address,
        source: letter.source.clone(),
        message: letter.argument.clone(),
        attempts: letter.attempts,
        reason: letter.reason.clone(),
        failed_at_ms: letter.failed_at_ms,
    }
}
