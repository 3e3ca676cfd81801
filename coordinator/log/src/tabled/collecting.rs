//! Deleting a log in a table: archiving what history still needs, and collecting what nothing
//! needs any more.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::TabledStore;
use super::archived::{self, ARCHIVED_MAX, Span};
use super::names::{Sequence, Series};
use super::pointer::number_of_body;
use crate::io::PAGE;
use crate::store::StoreError;

impl TabledStore {
    /// Moves some of the items below `below` into an archived object, and returns false once there
    /// are none.
    ///
    /// The archived log is listed after the items were read: an item that was created again, after
    /// another process had archived and deleted the one before, is found archived.
    pub(super) async fn archive_some(
        &self,
        sequence: Sequence,
        below: u64,
    ) -> Result<bool, StoreError> {
        let Some(last) = below.checked_sub(1) else {
            return Ok(false);
        };
        let partition = sequence.partition;
        let max = usize::try_from(ARCHIVED_MAX).unwrap_or(usize::MAX);
        let (items, _) = self.items(sequence, 0, last, max).await?;
        let (Some((first, _)), Some((last, _))) = (items.first(), items.last()) else {
            return Ok(false);
        };
        let (first, last) = (*first, *last);
        let (spans, through) = self.spans(partition, first, last).await?;
        let is_archived = |number: u64| spans.iter().any(|span| span.contains(number));
        let mut done: Vec<String> = Vec::new();
        let mut run: Vec<(u64, Bytes)> = Vec::new();
        for (number, content) in items {
            if number > through {
                break;
            }
            if is_archived(number) {
                done.push(sequence.item(number));
            } else if run.last().is_none_or(|(before, _)| before + 1 == number) {
                run.push((number, content));
            } else {
                break;
            }
        }
        if let (Some((first, _)), Some((last, _))) = (run.first(), run.last()) {
            let span = Span {
                first: *first,
                last: *last,
            };
            let names = span.numbers().map(|number| sequence.item(number));
            done.extend(names);
            let contents: Vec<Bytes> = run.into_iter().map(|(_, content)| content).collect();
            let key = self.names.archived_prefix(partition) + &span.name();
            let object = archived::encode(partition, span.first, &contents);
            // An object of that name holds the same items: see the documentation of the module.
            self.objects.create(&key, object).await?;
        }
        self.table.delete(&self.names.log(partition), &done).await?;
        Ok(true)
    }

    /// Deletes log objects, which nothing needs any more.
    ///
    /// An archived object stays as long as one of its numbers is not among `numbers`, and goes
    /// after its items: one of them may have outlived the archiving, and would be read again
    /// without it.
    /// Bodies come last: a pointer without a body is no object, and a body without a pointer is
    /// found by the next call.
    pub(super) async fn delete_numbers(
        &self,
        partition: u32,
        numbers: &BTreeSet<u64>,
    ) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
            return Ok(());
        };
        let sequence = Sequence {
            partition,
            series: Series::Log,
        };
        let mut spans: Vec<Span> = Vec::new();
        let mut from = *first;
        while from <= *last {
            let (some, through) = self.spans(partition, from, *last).await?;
            spans.extend(some);
            from = through.saturating_add(1);
        }
        self.delete_items(sequence, numbers).await?;
        let prefix = self.names.archived_prefix(partition);
        let obsolete = |span: &&Span| span.numbers().all(|number| numbers.contains(&number));
        let obsolete = spans.iter().filter(obsolete);
        let keys: BTreeSet<String> = obsolete
            .map(|span| format!("{prefix}{}", span.name()))
            .collect();
        self.delete_objects(&keys.into_iter().collect::<Vec<_>>())
            .await?;
        self.delete_bodies(sequence, *last).await
    }

    /// Deletes the items of `numbers` that exist, archived or not. Deleting one that does not exist
    /// would cost as much, and a repetition after an error would begin anew.
    async fn delete_items(
        &self,
        sequence: Sequence,
        numbers: &BTreeSet<u64>,
    ) -> Result<(), StoreError> {
        let log = self.names.log(sequence.partition);
        let Some(last) = numbers.last() else {
            return Ok(());
        };
        let mut next = numbers.first().copied();
        while let Some(first) = next {
            let (found, through) = self.items(sequence, first, *last, PAGE).await?;
            let found = found.into_iter().map(|(number, _)| number);
            let found = found.filter(|number| numbers.contains(number));
            let names: Vec<String> = found.map(|number| sequence.item(number)).collect();
            self.table.delete(&log, &names).await?;
            next = numbers.range(through.saturating_add(1)..).next().copied();
        }
        Ok(())
    }

    /// Deletes the bodies of numbers up to `last` that do not exist: those that were just deleted,
    /// and those of writers that lost. No number up to `last` can get a pointer that counts.
    async fn delete_bodies(&self, sequence: Sequence, last: u64) -> Result<(), StoreError> {
        let prefix = self.names.bodies_prefix(sequence.partition);
        let mut bodies: Vec<(u64, String)> = Vec::new();
        let mut after: Option<String> = None;
        'pages: loop {
            let page = self.objects.list(&prefix, after.as_deref(), PAGE).await?;
            let whole = page.len() == PAGE;
            for object in page {
                let number = object.key.strip_prefix(&prefix).and_then(number_of_body);
                match number {
                    Some(number) if number > last => break 'pages,
                    Some(number) => bodies.push((number, object.key.clone())),
                    None => {
                        return Err(StoreError::Damaged {
                            key: object.key,
                            reason: "no body of a log object has a name like this".to_owned(),
                        });
                    }
                }
                after = Some(object.key);
            }
            if !whole {
                break;
            }
        }
        let Some((first, _)) = bodies.first() else {
            return Ok(());
        };
        let mut present: BTreeSet<u64> = BTreeSet::new();
        let mut from = *first;
        while from <= last {
            let page = self.numbers(sequence, from, PAGE).await?;
            let more = page.len() == PAGE;
            from = page.last().map_or(u64::MAX, |(number, _)| number + 1);
            present.extend(page.into_iter().map(|(number, _)| number));
            if !more {
                break;
            }
        }
        let orphans = bodies.into_iter();
        let orphans = orphans.filter(|(number, _)| !present.contains(number));
        let keys: Vec<String> = orphans.map(|(_, key)| key).collect();
        self.delete_objects(&keys).await
    }

    async fn delete_objects(&self, keys: &[String]) -> Result<(), StoreError> {
        for page in keys.chunks(PAGE) {
            self.objects.delete(page).await?;
        }
        Ok(())
    }
}
