//! Sequences that are put into a stream, item by item.

use std::collections::BTreeMap;

use tokio::sync::Mutex;

use super::Workload;
use crate::functions::items::NewItem;
use crate::left::SeenToLeave;
use crate::outside::{ITEMS, Outside, Reader};

/// How many sequences there are.
const SEQUENCES: usize = 20;

/// How far each sequence is, and what the stream holds of it.
pub(super) struct Items {
    /// The last item of each that is known to be in the stream; one who puts the next holds it.
    last: Vec<Mutex<u64>>,
    put: Mutex<Put>,
}

/// What the stream holds.
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

    async fn operate(&self, n: u64, outside: &Outside) {
        let sequence = usize::try_from(n).unwrap_or(0) % SEQUENCES;
        let mut last = self.last[sequence].lock().await;
        let k = *last + 1;
        let put = |again| {
            let item = NewItem { k, again };
            serde_json::to_vec(&item).expect("it is a number and a truth value")
        };
        outside.put(ITEMS, &key(sequence), put).await;
        *last = k;
    }

    async fn lacks(&self, outside: &Outside, seen: &SeenToLeave) -> Option<String> {
        let mut put = self.put.lock().await;
        let mut reader = put.reader.take().unwrap_or_else(|| outside.reader(ITEMS));
        for record in outside.read_on(&mut reader).await {
            match serde_json::from_slice::<NewItem>(&record.data) {
                Ok(item) => {
                    let items = put.items.entry(record.key).or_default();
                    items.push((item.k, item.again));
                }
                Err(error) => outside.violations.note(format!(
                    "the stream holds what nobody put: {record:?}: {error}"
                )),
            }
        }
        put.reader = Some(reader);
        for (sequence, last) in self.last.iter().enumerate() {
            let (key, last) = (key(sequence), *last.lock().await);
            let none = Vec::new();
            let there = put.items.get(&key).unwrap_or(&none);
            let numbers = there.iter().map(|(k, _)| *k);
            let distinct: std::collections::BTreeSet<u64> = numbers.collect();
            if !distinct.iter().copied().eq(1..=last) {
                // Nobody puts any more, so what is not there now will never be.
                outside.violations.note(format!(
                    "{last} items of {key} were taken, and the stream holds {there:?}"
                ));
                return None;
            }
            let left = seen.items.get(&key).unwrap_or(&none);
            if left != there {
                return Some(format!(
                    "{} items of {key} are in the stream, and {} left{}",
                    there.len(),
                    left.len(),
                    difference(there, left)
                ));
            }
        }
        None
    }
}

/// Where two sequences differ.
fn difference(there: &[(u64, bool)], left: &[(u64, bool)]) -> String {
    let differ = there.iter().zip(left).find(|(there, left)| there != left);
    differ.map_or(String::new(), |(there, left)| {
        format!(", {left:?} where {there:?} is")
    })
}

fn key(sequence: usize) -> String {
    format!("sequence-{sequence}")
}
