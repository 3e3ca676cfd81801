//! A process that takes over, commits, hands over images, and stops or is stopped.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use futures::future::{Either, select};
use satchel_log::{
    BucketImage, Contender, Delta, Entries, EntriesBuilder, ErrorKind, Fold, Log, LogError, Notice,
    Notices, Ownership, read_ahead, take_over, take_over_from,
};

use crate::executor::yield_turns;
use crate::manual_owner::inline;
use crate::memory::{Memory, summary};
use crate::model::{Model, State, mark};
use crate::mutants::Mutant;
use crate::random::Random;
use crate::readers::Savepoints;

/// State that an owner shares with its world.
pub(crate) struct Shared {
    pub(crate) model: RefCell<Model>,
    pub(crate) snapshots: Cell<u64>,
    pub(crate) loads: Cell<u64>,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) savepoints: RefCell<Savepoints>,
    pub(crate) random: Random,
    pub(crate) buckets: u16,
}

/// Runs the life of one process, of at most `deltas_max` deltas.
pub(crate) async fn run_process(shared: &Shared, contender: Contender, deltas_max: u64) {
    let unread_per_mille = [0, 500, 1000][shared.random.below(3) as usize];
    let mut memory = Memory::new(unread_per_mille, shared.random.clone());
    let ownership = match own(shared, contender, &mut memory).await {
        Ok(ownership) => ownership,
        Err(error) => return check(shared, &error),
    };
    let epoch = ownership.owner.epoch;
    let time = ownership.committed_at_ms;
    let truth = shared.model.borrow_mut().took_over(epoch, &memory);
    let dirty = (0..=shared.buckets)
        .filter(|bucket| !memory.is_absent(*bucket) || memory.is_overlaid(*bucket));
    let changed = dirty.map(|bucket| (bucket, 0)).collect();
    let (log, notices, driver) = ownership.start();
    let engine = Engine {
        shared,
        epoch,
        truth,
        memory,
        changed,
        loading: BTreeSet::new(),
        first_loads: BTreeMap::new(),
        log,
        notices,
        sealed: 0,
        durable: 0,
        time,
        wanted: BTreeSet::new(),
    };
    let engine = Box::pin(engine.work(deltas_max));
    match select(Box::pin(driver.run()), engine).await {
        Either::Left((result, _)) => {
            if let Err(error) = result {
                check(shared, &error);
            }
        }
        Either::Right((notices, driver)) => {
            // The log is dropped: the driver makes durable what it has, and ends.
            let result = driver.await;
            Engine::drain(shared, epoch, notices).await;
            if let Err(error) = result {
                check(shared, &error);
            }
        }
    }
}

/// Takes over at once, or after reading ahead while others may write.
async fn own(
    shared: &Shared,
    contender: Contender,
    memory: &mut Memory,
) -> Result<Ownership, LogError> {
    let random = &shared.random;
    if !random.chance(300) {
        return take_over(contender, memory).await;
    }
    let Ok(ahead) = read_ahead(&contender, memory, inline()).await else {
        // There is no root yet, or the store does not answer.
        memory.clear();
        return take_over(contender, memory).await;
    };
    yield_turns(random.below(200)).await;
    take_over_from(ahead, contender, memory, inline()).await
}

/// Accepts being fenced and giving up on the store. Every other error is a broken law.
fn check(shared: &Shared, error: &LogError) {
    match error.kind() {
        ErrorKind::Fenced | ErrorKind::Environment => {}
        ErrorKind::Refused | ErrorKind::Bug => {
            let violation = format!("an owner ended with: {error}");
            shared.model.borrow_mut().violations.push(violation);
        }
    }
}

struct Engine<'a> {
    shared: &'a Shared,
    epoch: u64,
    /// The content of the partition.
    truth: State,
    /// The part of it that is in memory.
    memory: Memory,
    /// The delta that last changed a bucket, for buckets changed since their images in effect; 0
    /// for a delta of an earlier epoch.
    changed: BTreeMap<u16, u64>,
    loading: BTreeSet<u16>,
    /// For [`Mutant::StaleLoad`].
    first_loads: BTreeMap<u16, Entries>,
    log: Log,
    notices: Notices,
    sealed: u64,
    durable: u64,
    time: u64,
    wanted: BTreeSet<u16>,
}

impl Engine<'_> {
    async fn work(mut self, deltas_max: u64) -> Notices {
        let random = self.shared.random.clone();
        while self.sealed < deltas_max {
            self.handle_notices();
            if self.sealed - self.durable < 6 && random.chance(300) {
                self.commit(self.sealed + 1 == deltas_max);
            }
            if random.chance(300) {
                self.image();
            }
            if random.chance(20)
                && let Some(bucket) = choose(&random, &self.memory.absent())
            {
                self.load(bucket);
            }
            if random.chance(50) {
                self.evict();
            }
            if random.chance(3) {
                self.log.want_snapshot();
            }
            yield_turns(1).await;
        }
        self.notices
    }

    fn handle_notices(&mut self) {
        while let Ok(notice) = self.notices.try_recv() {
            match notice {
                Notice::Durable { sequence, .. } => {
                    self.durable = sequence;
                    let mut model = self.shared.model.borrow_mut();
                    model.acknowledged(self.epoch, sequence);
                }
                Notice::WantImages(buckets) => self.wanted.extend(buckets),
                Notice::Snapshot(snapshot) => {
                    self.shared.snapshots.set(self.shared.snapshots.get() + 1);
                    for (bucket, sequence) in snapshot.images {
                        let newer = |changed: &u64| *changed > sequence;
                        if !self.changed.get(&bucket).is_some_and(newer) {
                            self.changed.remove(&bucket);
                        }
                    }
                }
                Notice::Loaded {
                    bucket, entries, ..
                } => self.loaded(bucket, entries),
                Notice::NothingDeleted(error) => self.report(&error.to_string()),
                Notice::StoreFailure(_) => {}
            }
        }
    }

    async fn drain(shared: &Shared, epoch: u64, mut notices: Notices) {
        while let Some(notice) = notices.next().await {
            if let Notice::Durable { sequence, .. } = notice {
                shared.model.borrow_mut().acknowledged(epoch, sequence);
            }
        }
    }

    fn commit(&mut self, clean: bool) {
        let random = &self.shared.random;
        self.sealed += 1;
        self.time += random.below(3);
        let mut entries = EntriesBuilder::new();
        let wide = self.shared.buckets;
        entries.push(wide, &mark(self.epoch), Some(&self.sealed.to_le_bytes()));
        for _ in 0..random.below(6) {
            let bucket = random.below(u64::from(wide)) as u16;
            let key = [random.below(6) as u8];
            let value = [self.epoch.to_le_bytes(), self.sealed.to_le_bytes()].concat();
            let value = (!random.chance(250)).then_some(&value[..]);
            entries.push(bucket, &key, value);
        }
        let entries = entries.finish();
        self.truth.fold(&entries);
        for entry in entries.iter() {
            self.memory.apply(entry);
            self.changed.insert(entry.bucket, self.sealed);
        }
        let mut model = self.shared.model.borrow_mut();
        model.sealed(self.epoch, self.time, entries.clone());
        self.log.commit(Delta {
            sequence: self.sealed,
            committed_at_ms: self.time,
            clean,
            entries,
        });
    }

    /// Images one of the wanted buckets as of the last seal. A bucket that is not in memory is
    /// loaded first.
    fn image(&mut self) {
        let wanted: Vec<u16> = self.wanted.iter().copied().collect();
        let Some(bucket) = choose(&self.shared.random, &wanted) else {
            return;
        };
        if self.memory.is_absent(bucket) && self.shared.mutant != Some(Mutant::OverlayAsImage) {
            return self.load(bucket);
        }
        self.wanted.remove(&bucket);
        let entries = self.memory.image(bucket);
        let summary = summary(&entries);
        self.log.keep(BucketImage {
            bucket,
            sequence: self.sealed,
            earliest_due_ms: summary.earliest_due_ms,
            pending: summary.pending,
            entries,
        });
    }

    fn load(&mut self, bucket: u16) {
        if self.loading.insert(bucket) {
            self.log.load(bucket);
        }
    }

    fn loaded(&mut self, bucket: u16, entries: Entries) {
        self.shared.loads.set(self.shared.loads.get() + 1);
        if !self.loading.remove(&bucket) {
            return self.report(&format!("bucket {bucket} was loaded without a request"));
        }
        let entries = match self.shared.mutant {
            Some(Mutant::StaleLoad) => self.first_loads.entry(bucket).or_insert(entries).clone(),
            Some(Mutant::OverlayLost) => {
                self.memory.overlay_is_lost(bucket);
                entries
            }
            _ => entries,
        };
        if let Err(wrong) = self.memory.loaded(bucket, &entries) {
            self.report(&wrong);
        }
        if let Some(difference) = self.memory.contradicts(&self.truth) {
            self.report(&format!("after bucket {bucket} was loaded: {difference}"));
        }
    }

    /// Evicts a bucket that can be loaded again unchanged.
    fn evict(&mut self) {
        let bucket = self.shared.random.below(u64::from(self.shared.buckets)) as u16;
        let changed =
            self.changed.contains_key(&bucket) && self.shared.mutant != Some(Mutant::EvictDirty);
        if !changed && !self.memory.is_absent(bucket) {
            self.memory.evict(bucket);
        }
    }

    fn report(&self, violation: &str) {
        let violation = format!("epoch {}: {violation}", self.epoch);
        self.shared.model.borrow_mut().violations.push(violation);
    }
}

fn choose(random: &Random, among: &[u16]) -> Option<u16> {
    let count = among.len() as u64;
    (count > 0).then(|| among[random.below(count) as usize])
}
