//! Who makes the trouble, starts again what ended, and judges how it ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use satchel_testkit::LONG;

use crate::disk::Disk;
use crate::outside::Outside;
use crate::random::Random;
use crate::slot::{End, Slot};

/// How often is looked after processes.
const LOOK: Duration = Duration::from_millis(50);

/// In how many of a hundred cases one who sleeps is spared, so that it wakes and finds that it is no owner any more.
const SPARED_PERCENT: u64 = 80;

/// In how many of a hundred cases the owner is hit, where there are others.
const OWNER_PERCENT: u64 = 50;

/// In how many of a hundred intervals there is more trouble than a kill: the owner is put to sleep, somebody is stopped, the disk gets full.
const PAUSE_PERCENT: u64 = 35;
const STOP_PERCENT: u64 = 20;
const FULL_PERCENT: u64 = 25;

/// How long a disk is full: from, and at most so much longer.
const FULL: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(6));

/// How long after a disk was freed a process may still end because it was full.
const FULL_ECHO: Duration = Duration::from_secs(10);

/// The processes of an application, and what is done to them.
pub(crate) struct Crew {
    pub(crate) outside: Arc<Outside>,
    slots: Vec<Slot>,
    disk: Option<DiskInUse>,
    random: Random,
    /// How long a process sleeps: from, and at most so much longer.
    sleep: (Duration, Duration),
    /// Who served last.
    owner: Option<usize>,
    /// When the owner was troubled, until somebody serves again.
    ownerless_since: Option<Instant>,
}

/// Something that is done to an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Kill,
    Pause,
    Stop,
    FillDisk,
}

struct DiskInUse {
    disk: Disk,
    full_until: Option<Instant>,
    /// When it was full last.
    full_at: Option<Instant>,
}

impl Crew {
    /// Of these processes, over this disk if it can be filled.
    pub(crate) fn of(
        outside: Arc<Outside>,
        slots: Vec<Slot>,
        disk: Option<Disk>,
        sleep: (Duration, Duration),
    ) -> Self {
        let random = Random::of(outside.seed, u64::MAX);
        Self {
            outside,
            slots,
            disk: disk.map(|disk| DiskInUse {
                disk,
                full_until: None,
                full_at: None,
            }),
            random,
            sleep,
            owner: None,
            ownerless_since: None,
        }
    }

    /// Kills somebody so often, and makes more trouble in between; for so long, or until something must not be.
    pub(crate) async fn trouble(&mut self, time: Duration, every: Duration) {
        let begun = Instant::now();
        let mut next = begun;
        let mut agenda: Vec<(Instant, Trouble)> = Vec::new();
        while begun.elapsed() < time && !self.outside.violations.any() {
            self.look().await;
            let now = Instant::now();
            if next <= now {
                agenda.extend(self.plan(next, every));
                next += every;
            }
            for (_, trouble) in agenda.extract_if(.., |(due, _)| *due <= now) {
                self.make(trouble);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What is to happen in an interval: a kill at its end, and perhaps more before.
    fn plan(&mut self, begin: Instant, length: Duration) -> Vec<(Instant, Trouble)> {
        let mut troubles = vec![(begin + length, Trouble::Kill)];
        for (trouble, percent) in [
            (Trouble::Pause, PAUSE_PERCENT),
            (Trouble::Stop, STOP_PERCENT),
            (Trouble::FillDisk, FULL_PERCENT),
        ] {
            if self.random.percent(percent) {
                let at = begin + self.between((Duration::ZERO, length));
                troubles.push((at, trouble));
            }
        }
        troubles
    }

    /// Ends all trouble, and waits until everything runs.
    pub(crate) async fn calm(&mut self) {
        for slot in &mut self.slots {
            slot.wake();
        }
        self.free_disk();
        let begun = Instant::now();
        loop {
            self.look().await;
            let all_up = self.slots.iter().all(Slot::is_up);
            if all_up && self.serving().await.is_some() {
                return;
            }
            if begun.elapsed() > LONG {
                let what = format!("not everything runs {LONG:?} after all trouble ended");
                return self.outside.violations.note(what);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Sees to all processes, and to the disk.
    pub(crate) async fn look(&mut self) {
        self.outside.violations.look();
        let freed = self.disk.as_ref().and_then(|disk| disk.full_until);
        if freed.is_some_and(|until| until <= Instant::now()) {
            self.free_disk();
        }
        for at in 0..self.slots.len() {
            if let Some(end) = self.slots[at].look().await {
                self.judge(at, &end);
            }
            if self.slots[at].hangs() {
                let what = format!("{} was told to stop, and does not", self.slots[at].name);
                self.outside.violations.note(what);
                self.slots[at].kill();
            }
        }
        if let Some(serving) = self.serving().await {
            if self.owner != Some(serving) || self.ownerless_since.is_some() {
                self.outside.tally.count("takeovers");
            }
            if let Some(since) = self.ownerless_since.take() {
                self.outside.tally.took("takeover", since.elapsed());
            }
            self.owner = Some(serving);
        }
    }

    /// Stops everything in an orderly way.
    pub(crate) async fn end(&mut self) {
        self.free_disk();
        for slot in &mut self.slots {
            slot.wake();
            slot.stop();
        }
        let begun = Instant::now();
        for at in 0..self.slots.len() {
            if self.slots[at].is_empty() {
                continue;
            }
            let end = loop {
                if let Some(end) = self.slots[at].look().await {
                    break end;
                }
                if begun.elapsed() > LONG {
                    let what = format!("{} does not stop", self.slots[at].name);
                    return self.outside.violations.note(what);
                }
                tokio::time::sleep(LOOK).await;
            };
            self.judge(at, &end);
        }
    }

    /// Who serves now; the one that served last is asked first.
    async fn serving(&mut self) -> Option<usize> {
        let last = self.owner.unwrap_or(0);
        for step in 0..self.slots.len() {
            let at = (last + step) % self.slots.len();
            if self.slots[at].is_ready().await {
                return Some(at);
            }
        }
        None
    }

    fn make(&mut self, trouble: Trouble) {
        if trouble == Trouble::FillDisk {
            return self.fill_disk();
        }
        let Some(at) = self.victim(trouble) else {
            return;
        };
        if Some(at) == self.owner {
            self.ownerless_since.get_or_insert_with(Instant::now);
        }
        let time = self.between(self.sleep);
        let slot = &mut self.slots[at];
        let tally = &self.outside.tally;
        match trouble {
            Trouble::Kill => {
                tally.count("kills");
                slot.kill();
            }
            Trouble::Pause => {
                tally.count("pauses");
                slot.put_to_sleep(time);
            }
            Trouble::Stop => {
                tally.count("orderly stops");
                slot.stop();
            }
            Trouble::FillDisk => {}
        }
    }

    /// Who is hit: for a pause the owner; else also somebody else, and rarely somebody who sleeps.
    fn victim(&mut self, trouble: Trouble) -> Option<usize> {
        let owner = self.owner.unwrap_or(0);
        let others = (0..self.slots.len()).filter(|at| *at != owner);
        let mut order: Vec<usize> = others.collect();
        let first = trouble == Trouble::Pause || self.random.percent(OWNER_PERCENT);
        order.insert(if first { 0 } else { order.len() }, owner);
        let spared = self.random.percent(SPARED_PERCENT) || trouble == Trouble::Pause;
        order.into_iter().find(|at| {
            let slot = &self.slots[*at];
            let is_spared = spared && slot.is_asleep();
            !slot.is_empty() && !is_spared
        })
    }

    fn fill_disk(&mut self) {
        let time = self.between(FULL);
        let Some(disk) = &mut self.disk else {
            return;
        };
        if disk.full_until.is_some() {
            return;
        }
        match disk.disk.fill() {
            Ok(()) => self.outside.tally.count("disks filled"),
            Err(error) => panic!("the disk cannot be filled: {error}"),
        }
        disk.full_until = Some(Instant::now() + time);
    }

    /// From the first on, and less than the second longer.
    fn between(&mut self, (least, more): (Duration, Duration)) -> Duration {
        let more = u64::try_from(more.as_millis()).unwrap_or(u64::MAX).max(1);
        least + Duration::from_millis(self.random.below(more))
    }

    fn free_disk(&mut self) {
        if let Some(disk) = &mut self.disk
            && disk.full_until.take().is_some()
        {
            disk.full_at = Some(Instant::now());
            if let Err(error) = disk.disk.free() {
                panic!("the disk cannot be freed: {error}");
            }
        }
    }

    /// How a process may end, and how it must not.
    fn judge(&self, at: usize, end: &End) {
        let End { ended, done, log } = end;
        let tally = &self.outside.tally;
        let printed = &ended.printed;
        let no_space = printed.contains("no space left") || printed.contains("No space left");
        let name = &self.slots[at].name;
        let wrong = match ended.code {
            _ if printed.contains("panicked at") => "it panicked",
            None if done.killed => return,
            // Before it has begun, nothing in it hears that it is to stop.
            None if done.told_to_stop.is_some() && printed.trim().is_empty() => {
                return tally.count("ended: stopped before it had begun");
            }
            Some(0) if done.told_to_stop.is_some() => {
                return tally.count(match done.was_ready {
                    true => "ended: stopped as the owner",
                    false => "ended: stopped",
                });
            }
            Some(3) => return tally.count("ended: fenced"),
            Some(5) if no_space && self.was_full() => {
                return tally.count("ended: no space left");
            }
            Some(5) if done.told_to_stop.is_some() => {
                return tally.count("ended: stopped, and not all could be made durable");
            }
            Some(_) => "it ended by itself",
            None => "a signal ended it that nobody sent",
        };
        let code = ended.code;
        let lines: Vec<&str> = printed.lines().rev().take(5).collect();
        let lines = lines.into_iter().rev().collect::<Vec<_>>().join("\n    ");
        self.outside.violations.note(format!(
            "{name}: {wrong}, exit code {code:?}, after it was {done:?}; {} ends with\n    {lines}",
            log.display()
        ));
    }

    fn was_full(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| {
            let lately = |at: Instant| at.elapsed() < FULL_ECHO;
            disk.full_until.is_some() || disk.full_at.is_some_and(lately)
        })
    }
}
