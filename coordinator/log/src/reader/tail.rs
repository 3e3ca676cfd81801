//! The log from a number to its end: the valid records, in number order.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;

use crate::control::{Condemned, Effect};
use crate::error::LogError;
use crate::io::PAGE;
use crate::keys::number_in;
use crate::manifest::Manifest;
use crate::owner::Owner;
use crate::reader::{Halt, PartitionReader};
use crate::record::{Header, Kind, Record};
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

impl PartitionReader {
    /// Reads the log from number `from` to its end, or to the record that satisfies `enough`.
    /// `before` is the owner in force before `from`. `newest` is the newest known manifest.
    pub(crate) async fn read_tail(
        &self,
        from: u64,
        before: Owner,
        newest: Option<u64>,
        enough: &(dyn Fn(&Tail) -> bool + Sync),
    ) -> Result<Tail, Halt> {
        let prefix = self.layout.log_prefix();
        let partition = self.identity.partition;
        let mut tail = Tail::new(from, before);
        let mut last_listed = None;
        let mut after = self.layout.log(from - 1);
        if let Some(last) = self.read_ranges(&mut tail, &after, newest, enough).await? {
            if enough(&tail) {
                return Ok(tail);
            }
            return self.follow(tail, last, newest, enough).await;
        }
        loop {
            let page = self.io.list_page(&prefix, Some(&after)).await?;
            let listed: Vec<u64> = page
                .iter()
                .filter_map(|object| number_in(&object.key, &prefix))
                .collect();
            last_listed = listed.last().copied().or(last_listed);
            let begin = tail.end;
            let unbroken = (begin..).zip(&listed).take_while(|(n, have)| n == *have);
            let mut objects = stream::iter(begin..begin + unbroken.count() as u64)
                .map(|number| async move {
                    let key = self.layout.log(number);
                    let object = self.io.get(&key).await;
                    (key, object)
                })
                .buffered(self.parallel_reads * SMALLER);
            while let Some((key, object)) = objects.next().await {
                let Some(object) = object? else {
                    return Err(self.missing(newest, key, "it was listed").await);
                };
                tail.push(&key, &object, partition)?;
                if enough(&tail) {
                    return Ok(tail);
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
        mut tail: Tail,
        last_listed: Option<u64>,
        newest: Option<u64>,
        enough: &(dyn Fn(&Tail) -> bool + Sync),
    ) -> Result<Tail, Halt> {
        let partition = self.identity.partition;
        // Writes in flight during the listing may have landed since. A living owner is not followed
        // any further: it may write faster than this process reads. Everything that was durable at
        // the beginning is in the listing.
        while last_listed.is_some_and(|last| tail.end <= last) {
            let key = self.layout.log(tail.end);
            let Some(object) = self.io.get(&key).await? else {
                break;
            };
            tail.push(&key, &object, partition)?;
            if enough(&tail) {
                return Ok(tail);
            }
        }
        // An owner that died may leave a hole before its last writes, but none further back than
        // its window.
        if let Some(beyond) = last_listed.filter(|last| *last >= tail.end + DEPTH_MAX) {
            let key = self.layout.log(tail.end);
            let reason = format!("{} exists", self.layout.log(beyond));
            return Err(self.missing(newest, key, &reason).await);
        }
        Ok(tail)
    }
}
