//! Verification of a root: checks every object, and names each that is damaged, missing or foreign.
//! Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};

use crate::application::Application;
use crate::clock::Clock;
use crate::codec::checksum;
use crate::condensed::CondensedName;
use crate::control::Effect;
use crate::epoch::Claim;
use crate::error::{Defect, LogError};
use crate::io::{Io, OnStoreFailure, Retry};
use crate::keys::{Layout, condensed_in, number_in, savepoint_in, segment_in};
use crate::manifest::Manifest;
use crate::owner::Owner;
use crate::reader::tail::{Verdict, judge};
use crate::record::{Header, Kind, Record};
use crate::savepoint::{Savepoint, SavepointName};
use crate::segment::{SegmentName, check_segment};
use crate::store::{ObjectStore, StoreError};
use crate::writer::DEPTH_MAX;

/// Maximum number of objects that are read at once.
const PARALLEL_READS: usize = 16;

/// Maximum number of missing objects that are named per sequence of numbers. An object that claims
/// a far end of its sequence must not keep the verification busy without end.
const MISSING_NAMED_MAX: usize = 1_000;

/// Result of the verification of a root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Number of objects read.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Findings, in the order of the keys within each partition. Each names its object.
    pub findings: Vec<LogError>,
}

/// Reads everything under `root`, and checks each object alone and all of them together. An owner
/// may be at work: an object that it deletes meanwhile is not reported as missing.
///
/// # Errors
/// The error of the store, if it does not answer before `retry` gives up.
pub async fn verify(
    store: Arc<dyn ObjectStore>,
    root: &str,
    clock: Arc<dyn Clock>,
    retry: Retry,
    on_store_failure: OnStoreFailure,
) -> Result<Verification, StoreError> {
    let io = Io {
        store,
        clock,
        retry,
        on_store_failure,
    };
    let mut verification = Verification::default();
    let key = Layout::new(root, 0).application().to_owned();
    let table = io.store.table_location().cloned();
    let application = match io.get_record(&key).await? {
        None => {
            let reason = "without it this is not a root".to_owned();
            let missing = LogError::Missing { key, reason };
            verification.findings.push(missing);
            return Ok(verification);
        }
        Some(object) => match Application::decode(&object) {
            Ok(application) => {
                verification.objects += 1;
                verification.bytes += object.len() as u64;
                application
            }
            Err(defect) => {
                verification.findings.push(LogError::damaged(&key, defect));
                return Ok(verification);
            }
        },
    };
    if let Err(elsewhere) = application.check_log(&key, table.as_ref()) {
        verification.findings.push(elsewhere);
        return Ok(verification);
    }
    for partition in 0..application.partitions {
        let mut checker = Checker {
            layout: Layout::new(root, partition),
            partition,
            buckets: application.buckets,
            log: BTreeMap::new(),
            unread: BTreeSet::new(),
            log_checksums: BTreeMap::new(),
            copies: Vec::new(),
            claims: BTreeMap::new(),
            manifests: BTreeMap::new(),
            segments: BTreeSet::new(),
            savepoints: Vec::new(),
            findings: Vec::new(),
        };
        checker.read_all(&io, &mut verification).await?;
        checker.check_together();
        checker.check_copies();
        checker.check_claims();
        checker.check_savepoints();
        verification.findings.append(&mut checker.findings);
    }
    Ok(verification)
}

struct Checker {
    layout: Layout,
    partition: u32,
    buckets: u16,
    /// Headers of readable log objects, and the manifests they put in effect. `None` for damaged
    /// ones.
    log: BTreeMap<u64, Option<(Header, Option<Effect>)>>,
    /// Log objects that were listed and could not be found.
    unread: BTreeSet<u64>,
    /// Checksums of log objects, damaged ones included.
    log_checksums: BTreeMap<u64, u64>,
    /// Copies of log objects, each with the checksums of those.
    copies: Vec<(CondensedName, Vec<u64>)>,
    claims: BTreeMap<u64, Option<Claim>>,
    /// Readable manifests with the checksums of their objects.
    manifests: BTreeMap<u64, (Manifest, u64)>,
    segments: BTreeSet<SegmentName>,
    savepoints: Vec<Savepoint>,
    findings: Vec<LogError>,
}

enum ObjectName {
    Log(u64),
    Condensed(CondensedName),
    Epoch(u64),
    Manifest(u64),
    Segment(SegmentName),
    Savepoint(SavepointName),
}

impl Checker {
    async fn read_all(
        &mut self,
        io: &Io,
        verification: &mut Verification,
    ) -> Result<(), StoreError> {
        let listed = io.list(self.layout.partition_prefix(), None).await?;
        let mut keys: Vec<String> = listed.into_iter().map(|object| object.key).collect();
        if io.store.table_location().is_none() {
            return self.read_each(io, keys, verification).await;
        }
        let log = self.layout.log_prefix();
        let behind = keys.partition_point(|key| *key < log || key.starts_with(&log));
        let behind = keys.split_off(behind);
        let log = keys.split_off(keys.partition_point(|key| *key < log));
        self.read_each(io, keys, verification).await?;
        self.read_log(io, log, verification).await?;
        self.read_each(io, behind, verification).await
    }

    async fn read_each(
        &mut self,
        io: &Io,
        keys: Vec<String>,
        verification: &mut Verification,
    ) -> Result<(), StoreError> {
        let mut objects = stream::iter(keys)
            .map(|key| async move {
                let object = io.get(&key).await;
                (key, object)
            })
            .buffered(PARALLEL_READS);
        while let Some((key, object)) = objects.next().await {
            self.check_object(key, object, verification)?;
        }
        Ok(())
    }

    /// Reads log objects, many with one request.
    async fn read_log(
        &mut self,
        io: &Io,
        keys: Vec<String>,
        verification: &mut Verification,
    ) -> Result<(), StoreError> {
        let prefix = self.layout.log_prefix();
        let mut keys = keys.into_iter().peekable();
        while let Some(next) = keys.peek() {
            let number = number_in(next, &prefix).unwrap_or_default();
            let after = self.layout.log(number.saturating_sub(1));
            match io.read_range(&prefix, &after).await {
                Ok(Some(range)) => {
                    let last = range.objects.last().map(|(key, _)| key.clone());
                    let covered = |key: &String| range.complete || Some(key) <= last.as_ref();
                    let mut found: BTreeMap<_, _> = range.objects.into_iter().collect();
                    while let Some(key) = keys.next_if(covered) {
                        let object = found.remove(&key).flatten();
                        self.check_object(key, Ok(object), verification)?;
                    }
                }
                // One object at a time shows which ones cannot be read.
                Ok(None) | Err(StoreError::Damaged { .. }) => {
                    if let Some(key) = keys.next() {
                        let object = io.get(&key).await;
                        self.check_object(key, object, verification)?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Checks an object that was listed and read.
    fn check_object(
        &mut self,
        key: String,
        object: Result<Option<Bytes>, StoreError>,
        verification: &mut Verification,
    ) -> Result<(), StoreError> {
        let name = self.object_name(&key);
        let object = match object {
            Ok(Some(object)) => object,
            // It was deleted after the listing, because an owner collects. Required objects are
            // checked below.
            Ok(None) => {
                if let Some(ObjectName::Log(number)) = name {
                    self.unread.insert(number);
                }
                return Ok(());
            }
            Err(damaged @ StoreError::Damaged { .. }) => {
                if let Some(ObjectName::Log(number)) = name {
                    self.log.insert(number, None);
                }
                let damaged = LogError::Store(damaged);
                if !self.findings.contains(&damaged) {
                    self.findings.push(damaged);
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        verification.objects += 1;
        verification.bytes += object.len() as u64;
        match name {
            None => self.findings.push(LogError::Unexpected {
                key,
                reason: "no object of a partition has a key like this".to_owned(),
            }),
            Some(name) => {
                if let Err(defect) = self.read(&name, &object) {
                    self.findings.push(LogError::damaged(&key, defect));
                }
            }
        }
        Ok(())
    }

    fn object_name(&self, key: &str) -> Option<ObjectName> {
        let layout = &self.layout;
        number_in(key, &layout.log_prefix())
            .map(ObjectName::Log)
            .or_else(|| condensed_in(key, &layout.condensed_prefix()).map(ObjectName::Condensed))
            .or_else(|| number_in(key, &layout.epochs_prefix()).map(ObjectName::Epoch))
            .or_else(|| number_in(key, &layout.manifests_prefix()).map(ObjectName::Manifest))
            .or_else(|| segment_in(key, &layout.segments_prefix()).map(ObjectName::Segment))
            .or_else(|| savepoint_in(key, &layout.savepoints_prefix()).map(ObjectName::Savepoint))
    }

    fn read(&mut self, name: &ObjectName, object: &Bytes) -> Result<(), Defect> {
        match name {
            ObjectName::Log(number) => {
                let number = *number;
                self.log.insert(number, None);
                self.log_checksums.insert(number, checksum(object));
                let read = self.read_record(object, number)?;
                self.log.insert(number, Some(read));
            }
            ObjectName::Condensed(name) => {
                let objects = name.decode(object, self.partition)?;
                let sums = objects.iter().map(|object| checksum(object)).collect();
                self.copies.push((*name, sums));
            }
            ObjectName::Epoch(epoch) => {
                let epoch = *epoch;
                self.claims.insert(epoch, None);
                let claim = Claim::decode(object)?;
                if claim.owner.epoch != epoch || claim.partition != self.partition {
                    return Err(Defect::Mismatch {
                        field: "epoch",
                        found: format!("{} of partition {}", claim.owner.epoch, claim.partition),
                        expected: format!("{epoch} of partition {}", self.partition),
                    });
                }
                self.claims.insert(epoch, Some(claim));
            }
            ObjectName::Manifest(number) => {
                let number = *number;
                let manifest = Manifest::decode(object, self.partition, number, self.buckets)?;
                let sum = checksum(object);
                self.manifests.insert(number, (manifest, sum));
            }
            ObjectName::Segment(name) => {
                self.segments.insert(*name);
                check_segment(object, self.partition, name)?;
            }
            ObjectName::Savepoint(name) => {
                let savepoint = Savepoint::decode(object, self.partition, name)?;
                self.savepoints.push(savepoint);
            }
        }
        Ok(())
    }

    fn read_record(&self, object: &Bytes, number: u64) -> Result<(Header, Option<Effect>), Defect> {
        let record = Record::decode(object, self.partition, number)?;
        let effect = match record.header.kind {
            Kind::Delta => {
                record.entries(self.buckets)?;
                None
            }
            Kind::Control => record.control()?.effect,
            Kind::Takeover => None,
        };
        Ok((record.header, effect))
    }

    /// Checks the objects together: gaps, lost segments, records that no owner may have written.
    fn check_together(&mut self) {
        let mut candidates: Vec<u64> = self.manifests.keys().copied().collect();
        while let Some(number) = candidates.pop() {
            let (manifest, sum) = &self.manifests[&number];
            let (from, before, sum) = (manifest.replay_from(), manifest.before, *sum);
            let effect = self.effect_from(from);
            if let Some(effect) = effect.filter(|effect| effect.manifest == number) {
                if effect.checksum != sum {
                    self.findings.push(LogError::Unexpected {
                        key: self.layout.manifest(number),
                        reason: "it is not the manifest that a log record put in effect".to_owned(),
                    });
                }
                self.check_segments(number);
                self.check_log(from, before);
                return;
            }
        }
        if self.lost_manifest() {
            return;
        }
        let (first, damaged) = (
            self.log.keys().next().copied(),
            self.log.values().any(Option::is_none),
        );
        // With damage among the objects the first number of the log is unknown.
        if first.is_some() && !damaged {
            self.check_log(1, Owner::default());
        }
    }

    /// Returns true if the manifest that took effect last is missing or unreadable. Without it the
    /// first number of the log is unknown.
    fn lost_manifest(&mut self) -> bool {
        let effects = self.log.values().rev().flatten();
        let Some(effect) = effects.filter_map(|(_, effect)| *effect).next() else {
            return false;
        };
        if self.manifests.contains_key(&effect.manifest) {
            return false;
        }
        let key = self.layout.manifest(effect.manifest);
        if !self.names(&key) {
            let reason = "a log record put it in effect".to_owned();
            self.findings.push(LogError::Missing { key, reason });
        }
        true
    }

    /// Returns true if a finding already says that this object is damaged or missing.
    fn names(&self, key: &str) -> bool {
        self.findings.iter().any(|finding| match finding {
            LogError::Damaged { key: named, .. } | LogError::Missing { key: named, .. } => {
                named == key
            }
            _ => false,
        })
    }

    /// Returns the last manifest that the unbroken log from number `from` puts in effect.
    fn effect_from(&self, from: u64) -> Option<Effect> {
        (from..)
            .map_while(|number| self.log.get(&number))
            .filter_map(|read| read.as_ref().and_then(|(_, effect)| *effect))
            .last()
    }

    fn check_segments(&mut self, number: u64) {
        let (manifest, _) = &self.manifests[&number];
        for name in manifest.segments.keys() {
            if !self.segments.contains(name) {
                self.findings.push(LogError::Missing {
                    key: self.layout.segment(name),
                    reason: format!("manifest {number} names it"),
                });
            }
        }
    }

    fn check_log(&mut self, from: u64, before: Owner) {
        let mut in_force = before;
        let mut end = from;
        while let Some(read) = self.log.get(&end) {
            let Some((header, _)) = read else {
                // Nothing behind a damaged object can be judged.
                return;
            };
            let key = self.layout.log(end);
            match judge(&mut in_force, header) {
                Err(reason) => self.findings.push(LogError::Unexpected { key, reason }),
                Ok(Verdict::Valid) if header.kind == Kind::Takeover => {
                    self.check_claim(key, header.owner);
                }
                Ok(_) => {}
            }
            end += 1;
        }
        if self.unread.contains(&end) {
            let key = self.layout.log(end);
            let reason = "it was listed, but it, or its body, does not exist".to_owned();
            return self.findings.push(LogError::Missing { key, reason });
        }
        if let Some(beyond) = self
            .log
            .keys()
            .next_back()
            .filter(|last| **last >= end + DEPTH_MAX)
        {
            self.findings.push(LogError::Missing {
                key: self.layout.log(end),
                reason: format!("{} exists", self.layout.log(*beyond)),
            });
        }
    }

    /// Checks that copies hold what the log holds. Log objects may be deleted before their copies.
    fn check_copies(&mut self) {
        for (name, sums) in &self.copies {
            let mut copied = (name.first..).zip(sums);
            let differs = copied.find(|(number, sum)| {
                let original = self.log_checksums.get(number);
                original.is_some_and(|original| original != *sum)
            });
            if let Some((number, _)) = differs {
                self.findings.push(LogError::Unexpected {
                    key: self.layout.condensed(name),
                    reason: format!("it differs from {}", self.layout.log(number)),
                });
            }
        }
    }

    /// Checks that epochs were claimed without gaps. Claims are never deleted.
    fn check_claims(&mut self) {
        let written = self.manifests.values().map(|(manifest, _)| manifest.writer);
        let highest = written
            .map(|writer| writer.epoch)
            .chain(self.claims.keys().copied())
            .max()
            .unwrap_or(0);
        let missing = (1..=highest).filter(|epoch| !self.claims.contains_key(epoch));
        for epoch in missing.take(MISSING_NAMED_MAX) {
            let key = self.layout.epoch(epoch);
            if !self.names(&key) {
                let reason = format!("epochs up to {highest} were claimed");
                self.findings.push(LogError::Missing { key, reason });
            }
        }
    }

    /// Checks that the objects that savepoints need exist. A creator that died may leave a
    /// savepoint with missing objects; the operator may delete it.
    fn check_savepoints(&mut self) {
        for savepoint in std::mem::take(&mut self.savepoints) {
            let log = (savepoint.replay_from..=savepoint.through)
                .filter(|number| !self.log.contains_key(number))
                .take(MISSING_NAMED_MAX)
                .map(|number| self.layout.log(number));
            let segments = savepoint.segments.iter();
            let segments = segments
                .filter(|name| !self.segments.contains(name))
                .map(|name| self.layout.segment(name));
            let manifest = savepoint.manifest.iter();
            let manifest = manifest.map(|it| self.layout.manifest(it.manifest));
            let unread = manifest.filter(|_| !self.has_manifest_of(&savepoint));
            let missing: Vec<String> = log.chain(segments).chain(unread).collect();
            for key in missing {
                if !self.names(&key) {
                    let reason = format!("savepoint {} needs it", savepoint.name);
                    self.findings.push(LogError::Missing { key, reason });
                }
            }
        }
    }

    fn has_manifest_of(&self, savepoint: &Savepoint) -> bool {
        savepoint.manifest.is_none_or(|wanted| {
            let found = self.manifests.get(&wanted.manifest);
            found.is_some_and(|(_, sum)| *sum == wanted.checksum)
        })
    }

    fn check_claim(&mut self, key: String, owner: Owner) {
        match self.claims.get(&owner.epoch) {
            None => self.findings.push(LogError::Missing {
                key: self.layout.epoch(owner.epoch),
                reason: format!("{key} is a takeover of this epoch"),
            }),
            Some(Some(claim)) if claim.owner != owner => {
                self.findings.push(LogError::Unexpected {
                    key,
                    reason: format!("another process claimed epoch {}", owner.epoch),
                });
            }
            Some(_) => {}
        }
    }
}
