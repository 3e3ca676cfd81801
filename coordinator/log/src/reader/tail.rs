//! The log from a number to its end: the valid records, in number order.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;

use crate::condensed::CondensedName;
use crate::control::{Condemned, Effect};
use crate::error::LogError;
use crate::io::PAGE;
use crate::keys::number_in;
use crate::manifest::Manifest;
use crate::owner::Owner;
use crate::reader::{Halt, PartitionReader};
use crate::record::{Header, Kind, Record};
use crate::store::ObjectMeta;
use crate::writer::DEPTH_MAX;

/// Factor by which more log objects than segments are read at once.
/// [`crate::Options::parallel_reads`] is meant for segments, and log objects are much smaller.
const SMALLER: usize = 4;

/// Validity of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The record is of the owner in force at its number, or is a takeover.
    Valid,
    /// The record is a late write of a former owner. It is ignored.
    Void,
}

/// Judges the record `header` where `in_force` owns the log, and updates `in_force`.
pub(crate) fn judge(in_force: &mut Owner, header: &Header) -> Result<Verdict, String> {
    let owner = header.owner;
    match header.kind {
        Kind::Takeover if owner.epoch > in_force.epoch => {
            *in_force = owner;
            Ok(Verdict::Valid)
        }
        Kind::Delta | Kind::Control if owner == *in_force => Ok(Verdict::Valid),
        Kind::Delta | Kind::Control if owner.epoch > in_force.epoch => Err(format!(
            "it is of epoch {}, whose takeover is not in the log before it",
            owner.epoch
        )),
        _ => Ok(Verdict::Void),
    }
}

/// The log from a replay start on.
pub(crate) struct Tail {
    /// The first number without an object.
    pub(crate) end: u64,
    pub(crate) in_force: Owner,
    /// Valid records with the sizes of their objects in bytes.
    pub(crate) valid: Vec<(Record, u64)>,
    pub(crate) void: u64,
    /// Number of objects that were read.
    pub(crate) reads: u64,
    pub(crate) bytes: u64,
    pub(crate) committed_at_ms: u64,
    pub(crate) clean: bool,
    /// The manifests that records of this tail put in effect, in order.
    pub(crate) effects: Vec<Effect>,
    condemned: Vec<Condemned>,
}

impl Tail {
    fn new(from: u64, before: Owner) -> Self {
        Self {
            end: from,
            in_force: before,
            valid: Vec::new(),
            void: 0,
            reads: 0,
            bytes: 0,
            committed_at_ms: 0,
            // Nothing was ever committed, so nothing can have been cut off.
            clean: true,
            effects: Vec::new(),
            condemned: Vec::new(),
        }
    }

    /// Appends the object at the end of the tail.
    pub(crate) fn push(
        &mut self,
        key: &str,
        object: &Bytes,
        partition: u32,
    ) -> Result<(), LogError> {
        let record = Record::decode(object, partition, self.end)
            .map_err(|defect| LogError::damaged(key, defect))?;
        let verdict =
            judge(&mut self.in_force, &record.header).map_err(|reason| LogError::Unexpected {
                key: key.to_owned(),
                reason,
            })?;
        self.end += 1;
        self.bytes += object.len() as u64;
        if verdict == Verdict::Void {
            self.void += 1;
            return Ok(());
        }
        if record.header.kind == Kind::Control {
            let control = record
                .control()
                .map_err(|defect| LogError::damaged(key, defect))?;
            self.effects.extend(control.effect);
            self.condemned.extend(control.condemned);
        }
        self.committed_at_ms = self.committed_at_ms.max(record.header.committed_at_ms);
        self.clean = record.header.clean;
        self.valid.push((record, object.len() as u64));
        Ok(())
    }

    /// The last manifest that was put in effect.
    pub(crate) fn effect(&self) -> Option<Effect> {
        self.effects.last().copied()
    }

    /// Takes all durable condemnations that may not have been performed yet.
    pub(crate) fn take_condemned(&mut self, manifest: Option<&Manifest>) -> Vec<Condemned> {
        let mut all = manifest.map_or_else(Vec::new, |manifest| manifest.condemned.clone());
        all.append(&mut self.condemned);
        all
    }
}

/// Facts that help to read a tail, known before its beginning is.
#[derive(Clone, Copy)]
pub(crate) struct Guide<'a> {
    /// Newest known manifest.
    pub(crate) newest: Option<u64>,
    /// Copies of log objects.
    pub(crate) copies: &'a [CondensedName],
    /// First page of the log's listing after this number.
    pub(crate) listed: Option<(u64, &'a [ObjectMeta])>,
}

impl Guide<'_> {
    /// Guide to a log of which only the newest manifest is known.
    pub(crate) fn of(newest: Option<u64>) -> Self {
        Self {
            newest,
            copies: &[],
            listed: None,
        }
    }
}

/// An object to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Object(u64),
    Copy(CondensedName),
}

/// Returns the objects that hold the log from number `from` to the last number that `copies` hold,
/// and the number after that. A copy holds durable records only, so everything before it exists.
fn plan(from: u64, copies: &[CondensedName]) -> (Vec<Part>, u64) {
    let mut parts = Vec::new();
    let mut next = from;
    loop {
        let reach = |copy: &&CondensedName| copy.first <= next && next <= copy.last;
        let best = copies.iter().filter(reach).max_by_key(|copy| copy.last);
        if let Some(copy) = best {
            parts.push(Part::Copy(*copy));
            next = copy.last + 1;
            continue;
        }
        let later = copies.iter().map(|copy| copy.first);
        let Some(gap_end) = later.filter(|first| *first > next).min() else {
            return (parts, next);
        };
        parts.extend((next..gap_end).map(Part::Object));
        next = gap_end;
    }
}

impl PartitionReader {
    /// Reads the log from number `from` to its end, or to the record that satisfies `enough`.
    /// `before` is the owner in force before `from`.
    pub(crate) async fn read_tail(
        &self,
        from: u64,
        before: Owner,
        guide: Guide<'_>,
        enough: &(dyn Fn(&Tail) -> bool + Sync),
    ) -> Result<Tail, Halt> {
        let mut tail = Tail::new(from, before);
        self.extend(&mut tail, guide, enough).await?;
        Ok(tail)
    }

    /// Reads on from the end of a tail, to the end of the log or to the record that satisfies
    /// `enough`.
    pub(crate) async fn extend(
        &self,
        tail: &mut Tail,
        guide: Guide<'_>,
        enough: &(dyn Fn(&Tail) -> bool + Sync),
    ) -> Result<(), Halt> {
        let newest = guide.newest;
        let prefix = self.layout.log_prefix();
        let partition = self.identity.partition;
        let from = tail.end;
        let after = self.layout.log(from - 1);
        if let Some(last) = self.read_ranges(tail, &after, newest, enough).await? {
            if enough(tail) {
                return Ok(());
            }
            return self.follow(tail, last, newest, enough).await;
        }
        let (mut parts, begin) = plan(from, guide.copies);
        let mut last_listed = None;
        let mut after = self.layout.log(begin - 1);
        let mut begin = begin;
        let mut first_page = guide.listed.filter(|(after, _)| *after < begin);
        loop {
            let page = match first_page.take() {
                Some((_, page)) => page.to_vec(),
                None => self.io.list_page(&prefix, Some(&after)).await?,
            };
            let listed: Vec<u64> = page
                .iter()
                .filter_map(|object| number_in(&object.key, &prefix))
                .filter(|number| *number >= begin)
                .collect();
            last_listed = listed.last().copied().or(last_listed);
            let unbroken = (begin..).zip(&listed).take_while(|(n, have)| n == *have);
            let end = begin + unbroken.count() as u64;
            parts.extend((begin..end).map(Part::Object));
            begin = end;
            let mut objects = stream::iter(std::mem::take(&mut parts))
                .map(|part| self.read_part(part))
                .buffered(self.parallel_reads * SMALLER);
            while let Some((part, object)) = objects.next().await {
                let (key, object) = object?;
                tail.reads += 1;
                match (part, object) {
                    (Part::Object(_), Some(object)) => {
                        tail.push(&key, &object, partition)?;
                        if enough(tail) {
                            return Ok(());
                        }
                    }
                    (Part::Object(_), None) => {
                        return Err(self.missing(newest, key, "it was listed").await);
                    }
                    (Part::Copy(name), Some(object)) => {
                        let copied = name
                            .decode(&object, partition)
                            .map_err(|defect| LogError::damaged(&key, defect))?;
                        for (number, object) in (name.first..).zip(&copied) {
                            // Copies overlap, and begin before the replay does.
                            if number == tail.end {
                                tail.push(&key, object, partition)?;
                                if enough(tail) {
                                    return Ok(());
                                }
                            }
                        }
                    }
                    // A newer snapshot needs neither the copy nor the log that it holds.
                    (Part::Copy(_), None) => {
                        return Err(self.missing(newest, key, "it was listed").await);
                    }
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after.clone_from(&last.key),
                _ => break,
            }
        }
        self.follow(tail, last_listed, newest, enough).await
    }

    /// Reads the tail with its objects at once, where the store can do that, up to the first number
    /// that is missing or the record that satisfies `enough`. Returns the last number that was
    /// found, if there was any; `None` if the store cannot do that.
    async fn read_ranges(
        &self,
        tail: &mut Tail,
        after: &str,
        newest: Option<u64>,
        enough: &(dyn Fn(&Tail) -> bool + Sync),
    ) -> Result<Option<Option<u64>>, Halt> {
        let prefix = self.layout.log_prefix();
        let partition = self.identity.partition;
        let mut after = after.to_owned();
        let mut last = None;
        loop {
            let Some(range) = self.io.read_range(&prefix, &after).await? else {
                return Ok(None);
            };
            for (key, object) in &range.objects {
                let number = number_in(key, &prefix);
                last = number.or(last);
                if number == Some(tail.end) {
                    let Some(object) = object else {
                        let reason = "it was listed, but it, or its body, does not exist";
                        return Err(self.missing(newest, key.clone(), reason).await);
                    };
                    tail.reads += 1;
                    tail.push(key, object, partition)?;
                    if enough(tail) {
                        return Ok(Some(last));
                    }
                }
            }
            match range.objects.last() {
                Some((key, _)) if !range.complete => after.clone_from(key),
                _ => return Ok(Some(last)),
            }
        }
    }

    /// Completes a tail whose objects were listed up to `last_listed`.
    async fn follow(
        &self,
        tail: &mut Tail,
        last_listed: Option<u64>,
        newest: Option<u64>,
        enough: &(dyn Fn(&Tail) -> bool + Sync),
    ) -> Result<(), Halt> {
        let partition = self.identity.partition;
        // Writes in flight during the listing may have landed since. A living owner is not followed
        // any further: it may write faster than this process reads. Everything that was durable at
        // the beginning is in the listing.
        while last_listed.is_some_and(|last| tail.end <= last) {
            let key = self.layout.log(tail.end);
            let Some(object) = self.io.get(&key).await? else {
                break;
            };
            tail.reads += 1;
            tail.push(&key, &object, partition)?;
            if enough(tail) {
                return Ok(());
            }
        }
        // An owner that died may leave a hole before its last writes, but none further back than
        // its window.
        if let Some(beyond) = last_listed.filter(|last| *last >= tail.end + DEPTH_MAX) {
            let key = self.layout.log(tail.end);
            let reason = format!("{} exists", self.layout.log(beyond));
            return Err(self.missing(newest, key, &reason).await);
        }
        Ok(())
    }

    /// Reads one object. Also returns its key.
    async fn read_part(&self, part: Part) -> (Part, Result<(String, Option<Bytes>), LogError>) {
        let key = match &part {
            Part::Object(number) => self.layout.log(*number),
            Part::Copy(name) => self.layout.condensed(name),
        };
        let object = self.io.get(&key).await.map_err(LogError::from);
        (part, object.map(|object| (key, object)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(first: u64, last: u64) -> CondensedName {
        CondensedName {
            first,
            last,
            epoch: 1,
        }
    }

    #[test]
    fn the_copies_that_reach_furthest_are_read_and_the_objects_between_them() {
        let copies = [
            copy(21, 22),
            copy(11, 20),
            copy(15, 20),
            copy(11, 14),
            copy(1, 8),
        ];
        let (parts, next) = plan(5, &copies);
        let expected = [
            Part::Copy(copy(1, 8)),
            Part::Object(9),
            Part::Object(10),
            Part::Copy(copy(11, 20)),
            Part::Copy(copy(21, 22)),
        ];
        assert_eq!((parts, next), (expected.to_vec(), 23));
        assert_eq!(plan(23, &copies), (vec![], 23));
        assert_eq!(plan(7, &[]), (vec![], 7));
    }
}
