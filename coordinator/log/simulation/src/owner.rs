//! A process that takes over, commits, hands over images, and stops or is stopped.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use futures::StreamExt;
use futures::future::{Either, select};
use satchel_log::{
    BucketImage, Delta, EntriesBuilder, Entry, ErrorKind, Log, LogError, Notice, Notices, Place,
    take_over,
};

use crate::executor::give_way;
use crate::model::{Model, State, mark};
use crate::random::Random;

/// What an owner shares with its world.
pub(crate) struct Shared {
    pub(crate) model: RefCell<Model>,
    pub(crate) snapshots: Cell<u64>,
    pub(crate) random: Random,
    pub(crate) buckets: u16,
}

/// Lives one process's life, of at most `deltas_max` deltas.
pub(crate) async fn live(shared: &Shared, place: Place, deltas_max: u64) {
    let mut state = State::default();
    let ownership = match take_over(place, &mut state).await {
        Ok(ownership) => ownership,
        Err(error) => return judge(shared, &error),
    };
    let epoch = ownership.owner.epoch;
    let time = ownership.committed_at_ms;
    shared.model.borrow_mut().took_over(epoch, &state);
    let (log, notices, driver) = ownership.start();
    let engine = Engine {
        shared,
        epoch,
        state,
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
                judge(shared, &error);
            }
        }
        Either::Right((notices, driver)) => {
            // The handle is dropped: the driver makes durable what it has, and ends.
            let result = driver.await;
            Engine::drain(shared, epoch, notices).await;
            if let Err(error) = result {
                judge(shared, &error);
            }
        }
    }
}

/// Being fenced and losing patience with the store are normal; everything else is a broken law.
fn judge(shared: &Shared, error: &LogError) {
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
    state: State,
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
            self.listen();
            if self.sealed - self.durable < 6 && random.chance(300) {
                self.commit(self.sealed + 1 == deltas_max);
            }
            if random.chance(300) {
                self.image();
            }
            give_way(1).await;
        }
        self.notices
    }

    fn listen(&mut self) {
        while let Ok(notice) = self.notices.try_recv() {
            match notice {
                Notice::Durable { sequence, .. } => {
                    self.durable = sequence;
                    let mut model = self.shared.model.borrow_mut();
                    model.acknowledged(self.epoch, sequence);
                }
                Notice::WantImages(buckets) => self.wanted.extend(buckets),
                Notice::Snapshot(_) => self.shared.snapshots.set(self.shared.snapshots.get() + 1),
                Notice::Loaded { .. } | Notice::Trouble(_) => {}
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
        self.state.fold(&entries);
        let mut model = self.shared.model.borrow_mut();
        model.sealed(self.epoch, entries.clone());
        self.log.commit(Delta {
            sequence: self.sealed,
            committed_at_ms: self.time,
            clean,
            entries,
        });
    }

    /// Images one of the wanted buckets as it is now, which is at the last seal.
    fn image(&mut self) {
        let Some(bucket) = self.wanted.pop_first() else {
            return;
        };
        let entries = self.state.0.iter().filter(|((at, _), _)| *at == bucket);
        let entries = entries.map(|((bucket, key), value)| Entry {
            bucket: *bucket,
            key,
            value: Some(value),
        });
        self.log.keep(BucketImage {
            bucket,
            sequence: self.sealed,
            earliest_due_ms: None,
            pending: false,
            entries: entries.collect(),
        });
    }
}
