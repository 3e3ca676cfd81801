//! Sequences that are put into a stream, item by item.

use std::collections::BTreeMap;

use tokio::sync::Mutex;

use super::Workload;
use crate::clients::{Clients, ITEMS, Reader};
use crate::egress::SeenEgress;
use crate::functions::items::NewItem;

/// Number of sequences.
const SEQUENCES: usize = 20;

/// Progress of each sequence, and its content in the stream.
pub(super) struct Items {
    /// Last item of each sequence that is known to be in the stream. A task that puts the next item
    /// holds the lock.
    last: Vec<Mutex<u64>>,
    put: Mutex<Put>,
}

/// Content of the stream.
#[derive(Default)]
struct Put {
    reader: Option<Reader>,
    items: BTreeMap<String, Vec<(u64, bool)>>,
}

impl Default for Items {
    fn default() -> Self {
        Self {
            last: (0..SEQUENCES).map(|_| Mutex::new(0)).collect(),
            put: Mutex::default(),
        }
    }
}

impl Workload for Items {
    const NAME: &'static str = "items";
    const SHARE: u64 = 30;

    async fn operate(&self, n: u64, clients: &Clients) {
        let sequence = usize::try_from(n).unwrap_or(0) % SEQUENCES;
        let mut last = self.last[sequence].lock().await;
        let k = *last + 1;
        let put = |again| {
            let item = NewItem { k, again };
            serde_json::to_vec(&item).expect("a number and a boolean serialize")
        };
        clients.put(ITEMS, &key(sequence), put).await;
        *last = k;
    }

    async fn mismatch(&self, clients: &Clients, seen: &SeenEgress) -> Option<String> {
        let mut put = self.put.lock().await;
        let mut reader = match put.reader.take() {
            Some(reader) => reader,
            None => clients.reader(ITEMS).await,
        };
        for record in clients.read_new(&mut reader).await {
            match serde_json::from_slice::<NewItem>(&record.data) {
                Ok(item) => {
                    let items = put.items.entry(record.key).or_default();
                    items.push((item.k, item.again));
                }
                Err(error) => clients.violations.record(format!(
                    "the stream contains an unknown record: {record:?}: {error}"
                )),
            }
        }
        put.reader = Some(reader);
        for (sequence, last) in self.last.iter().enumerate() {
            let (key, last) = (key(sequence), *last.lock().await);
            let none = Vec::new();
            let stored = put.items.get(&key).unwrap_or(&none);
            let numbers = stored.iter().map(|(k, _)| *k);
            let distinct: std::collections::BTreeSet<u64> = numbers.collect();
            if !distinct.iter().copied().eq(1..=last) {
                // No task puts items any more, so a missing item stays missing.
                clients.violations.record(format!(
                    "{last} items of {key} were put, but the stream contains {stored:?}"
                ));
                return None;
            }
            let emitted = seen.items.get(&key).unwrap_or(&none);
            if emitted != stored {
                return Some(format!(
                    "{} items of {key} are in the stream, {} were emitted{}",
                    stored.len(),
                    emitted.len(),
                    difference(stored, emitted)
                ));
            }
        }
        None
    }
}

/// Describes the first difference of two sequences.
fn difference(stored: &[(u64, bool)], emitted: &[(u64, bool)]) -> String {
    let differ = stored
        .iter()
        .zip(emitted)
        .find(|(stored, emitted)| stored != emitted);
    differ.map_or(String::new(), |(stored, emitted)| {
        format!(", {emitted:?} instead of {stored:?}")
    })
}

fn key(sequence: usize) -> String {
    format!("sequence-{sequence}")
}
