//! A fixture whose owner finds images of buckets in a store, and whose loads are answered by the
//! test.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fixture::*;
use crate::durable::Change;
use crate::input::Input;
use crate::output::{BucketImage, Output};
use crate::partition::{Config, LoadedBucket, Overlay, Ownership, Recovery};

/// A fixture with a store of images.
pub(super) struct Library {
    pub(super) fixture: Fixture,
    /// Images in effect, each with the number of deltas of the log that it includes.
    pub(super) images: BTreeMap<u16, (usize, BucketImage)>,
    /// Unanswered loads, oldest first.
    pub(super) asked: Vec<(u16, u64, Arc<Overlay>)>,
    pub(super) snapshots_wanted: usize,
    /// Number of deltas in the log when the present owner took over.
    epoch_start: usize,
}

type Bytes = (Vec<u8>, Option<Vec<u8>>);

impl Library {
    pub(super) fn new(config: Config) -> Self {
        Self {
            fixture: Fixture::with(config),
            images: BTreeMap::new(),
            asked: vec![],
            snapshots_wanted: 0,
            epoch_start: 0,
        }
    }

    /// Takes the loads from the fixture's outputs.
    pub(super) fn collect_loads(&mut self) {
        let mut others = Vec::new();
        for output in std::mem::take(&mut self.fixture.outputs) {
            match output {
                Output::LoadBucket {
                    bucket,
                    load,
                    replayed,
                } => self.asked.push((bucket, load, replayed)),
                Output::SnapshotWanted => self.snapshots_wanted += 1,
                other => others.push(other),
            }
        }
        self.fixture.outputs = others;
    }

    /// Returns the requested buckets, in order.
    pub(super) fn asked(&mut self) -> Vec<u16> {
        self.collect_loads();
        self.asked.iter().map(|(bucket, ..)| *bucket).collect()
    }

    /// Takes images of the buckets in memory. They take effect only with `publish`.
    pub(super) fn image(&mut self, buckets: impl IntoIterator<Item = u16>) -> Vec<BucketImage> {
        self.collect_loads();
        self.fixture
            .handle(Input::ImagesWanted(buckets.into_iter().collect()));
        for _ in 0..10 {
            self.fixture.handle(Input::TimeReached);
        }
        self.take_images()
    }

    pub(super) fn take_images(&mut self) -> Vec<BucketImage> {
        self.collect_loads();
        let mut images = Vec::new();
        self.fixture.outputs.retain(|output| match output {
            Output::Image(image) => {
                images.push((**image).clone());
                false
            }
            _ => true,
        });
        images
    }

    /// Makes images take effect.
    pub(super) fn publish(&mut self, images: Vec<BucketImage>) {
        let taken = images.iter().map(|image| (image.bucket, image.delta));
        let taken = taken.collect();
        for image in images {
            let deltas = match image.delta {
                // The image that this owner found.
                0 => self.epoch_start,
                delta => self.epoch_start + delta as usize,
            };
            self.images.insert(image.bucket, (deltas, image));
        }
        self.fixture.handle(Input::SnapshotTaken(taken));
        self.collect_loads();
    }

    /// Makes everything durable, then images all buckets and publishes the images.
    pub(super) fn snapshot(&mut self) {
        self.fixture.settle();
        let buckets = self.fixture.config.placement.buckets();
        let images = self.image(0..=buckets);
        assert_eq!(images.len(), usize::from(buckets) + 1);
        self.publish(images);
    }

    /// Like [`Self::snapshot`], for these buckets only.
    pub(super) fn snapshot_of(&mut self, buckets: impl IntoIterator<Item = u16>) {
        self.fixture.settle();
        let images = self.image(buckets);
        self.publish(images);
    }

    /// The process dies. The next owner reads only the partition-wide image.
    pub(super) fn crash(&mut self) {
        self.take_over(false);
    }

    pub(super) fn take_over(&mut self, clean: bool) {
        self.fixture.sealed.clear();
        self.fixture.outputs.clear();
        self.asked.clear();
        let placement = self.fixture.config.placement;
        let mut recovery = Recovery::new(self.fixture.config.clone());
        let mut from = BTreeMap::new();
        for (bucket, (deltas, image)) in &self.images {
            from.insert(*bucket, *deltas);
            if *bucket < placement.buckets() {
                let entries = image.content.iter().map(to_bytes);
                let bytes: usize = entries
                    .map(|(key, value)| key.len() + value.map_or(0, |value| value.len()))
                    .sum();
                // An empty bucket has no image.
                if bytes > 0 {
                    recovery.absent(*bucket, image.summary, bytes as u64);
                }
                continue;
            }
            for change in &image.content {
                recovery.apply(through_bytes(change));
            }
        }
        for (index, delta) in self.fixture.log.iter().enumerate() {
            for change in &delta.changes {
                let bucket = change.key.bucket(&placement);
                if index >= from.get(&bucket).copied().unwrap_or(0) {
                    let (key, value) = to_bytes(change);
                    recovery
                        .apply_entry(bucket, &key, value.as_deref())
                        .unwrap();
                }
            }
        }
        self.fixture.epoch += 1;
        self.epoch_start = self.fixture.log.len();
        let last = self.fixture.log.last();
        let ownership = Ownership {
            epoch: self.fixture.epoch,
            committed_at_ms: last.map_or(0, |delta| delta.committed_at_ms),
            clean,
        };
        self.fixture.partition = recovery.start(ownership, self.fixture.now_ms);
        self.fixture.handle(Input::TimeReached);
        self.collect_loads();
    }

    /// Decodes the image of a bucket with the replayed entries over it.
    pub(super) fn content(&self, bucket: u16, replayed: &Overlay) -> LoadedBucket {
        let image = self.images.get(&bucket);
        let changes = image.map_or(&[][..], |(_, image)| &image.content);
        let entries: Vec<Bytes> = changes.iter().map(to_bytes).collect();
        let image = entries
            .iter()
            .map(|(key, value)| (&key[..], value.as_deref()));
        let placement = self.fixture.config.placement;
        LoadedBucket::decode(bucket, placement, image, entries.len(), replayed).unwrap()
    }

    /// Answers the load of `bucket`, which must have been requested.
    pub(super) fn load(&mut self, bucket: u16) {
        self.collect_loads();
        let index = self.asked.iter().position(|(asked, ..)| *asked == bucket);
        let index = index.unwrap_or_else(|| panic!("{bucket} was not asked for: {:?}", self.asked));
        let (bucket, load, replayed) = self.asked.remove(index);
        let content = Box::new(self.content(bucket, &replayed));
        self.fixture.handle(Input::BucketLoaded {
            bucket,
            load,
            content,
        });
        self.collect_loads();
    }

    /// Answers every load, including those requested as a result.
    pub(super) fn load_all(&mut self) {
        while let Some(bucket) = self.asked().first().copied() {
            self.load(bucket);
        }
    }

    /// Returns an id whose address lies in `bucket`. `more` distinguishes several.
    pub(super) fn id(&self, bucket: u16, more: usize) -> String {
        let placement = self.fixture.config.placement;
        let mut ids = (0..).map(|n| format!("id-{n}"));
        ids.by_ref()
            .filter(|id| placement.key_group(&address(id)).0 == bucket)
            .nth(more)
            .unwrap()
    }

    /// Sets the state `seen` of the address with this id, and makes it durable.
    pub(super) fn set_seen(&mut self, id: &str, text: &str) {
        self.fixture.send(id, "see");
        self.answer_with(text);
        self.fixture.settle();
        self.fixture.answers();
    }

    /// Like [`Self::set_seen`], for an address whose bucket must be loaded first.
    pub(super) fn load_and_set_seen(&mut self, id: &str, text: &str) {
        self.fixture.send(id, "see");
        self.load_all();
        self.answer_with(text);
        self.fixture.settle();
        self.fixture.answers();
    }

    /// Answers the one batch in flight by setting `seen`, declaring it first if needed.
    pub(super) fn answer_with(&mut self, text: &str) {
        use satchel_protocol::reqreply::from_function::expiration_spec::ExpireMode;
        let batch = self.fixture.batch();
        if batch.state.is_empty() {
            self.fixture.declare(batch.attempt, ExpireMode::None, 0);
            let batch = self.fixture.batch();
            return self.fixture.complete(batch.attempt, set_seen(text));
        }
        self.fixture.complete(batch.attempt, set_seen(text));
    }
}

pub(super) fn to_bytes(change: &Change) -> Bytes {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    change.encode_key(&mut key);
    let set = change.encode_value(&mut value);
    (key, set.then_some(value))
}
