//! Reads of a log in a table: its items, and the archived log before them.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, stream};

use super::TabledStore;
use super::archived::{self, ARCHIVED_MAX, Span};
use super::names::{Sequence, Series};
use super::pointer::Pointer;
use crate::io::PAGE;
use crate::store::{ObjectRange, StoreError};

/// Maximum number of archived objects that one call reads, unless they overlap.
const SPANS_MAX: usize = 4;

/// Maximum number of objects that are read at once.
const PARALLEL_READS: usize = 16;

/// Size in bytes at which a range of objects is returned.
const RANGE_BYTES: usize = 32 << 20;

impl TabledStore {
    /// Reads the object under a number.
    pub(super) async fn read(
        &self,
        sequence: Sequence,
        number: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        let mut before = None;
        loop {
            let Some(content) = self.content(sequence, number).await? else {
                return Ok(None);
            };
            if sequence.series == Series::Epochs {
                return Ok(Some(content));
            }
            if let Some(object) = self.resolve(sequence, number, &content).await? {
                return Ok(Some(object));
            }
            // The number may have been deleted between both reads, and be archived or created
            // again.
            if before.as_ref() == Some(&content) {
                return Ok(None);
            }
            before = Some(content);
        }
    }

    /// Reads the content of an item, wherever it is now.
    async fn content(&self, sequence: Sequence, number: u64) -> Result<Option<Bytes>, StoreError> {
        let log = self.names.log(sequence.partition);
        let item = self.table.get(&log, &sequence.item(number)).await?;
        if sequence.series == Series::Epochs {
            return Ok(item);
        }
        let (spans, _) = self.spans(sequence.partition, number, number).await?;
        for span in spans.into_iter().filter(|span| span.contains(number)) {
            if let Some(items) = self.read_archived(sequence.partition, span).await? {
                return Ok(items.into_iter().nth((number - span.first) as usize));
            }
        }
        Ok(item)
    }

    /// Returns the object that an item is or points to; `None` if its body does not exist.
    async fn resolve(
        &self,
        sequence: Sequence,
        number: u64,
        content: &Bytes,
    ) -> Result<Option<Bytes>, StoreError> {
        let damaged = |key: String, reason: String| StoreError::Damaged { key, reason };
        let key = || format!("{}{number:020}", self.names.prefix(sequence));
        let pointer = Pointer::decode(content)
            .map_err(|defect| damaged(key(), format!("the pointer to its body: {defect}")))?;
        let Some(pointer) = pointer else {
            return Ok(Some(content.clone()));
        };
        let body_key = self.body_key(sequence.partition, number, &pointer);
        match self.objects.get(&body_key).await? {
            Some(body) if !pointer.matches(&body) => Err(damaged(
                body_key,
                format!("it is not the body that {} points to", key()),
            )),
            body => Ok(body),
        }
    }

    /// Lists the archived objects that hold numbers from `from` to `to`, and returns the last
    /// number up to which the answer is complete: `to`, or a smaller one that is at least `from`.
    pub(super) async fn spans(
        &self,
        partition: u32,
        from: u64,
        to: u64,
    ) -> Result<(Vec<Span>, u64), StoreError> {
        let prefix = self.names.archived_prefix(partition);
        let mut after = format!("{prefix}{}", Span::name_before(from));
        let mut spans = Vec::new();
        loop {
            let page = self.objects.list(&prefix, Some(&after), PAGE).await?;
            let whole = page.len() == PAGE;
            let mut last = 0;
            for object in page {
                let span = object.key.strip_prefix(&prefix).and_then(Span::parse);
                let Some(span) = span else {
                    return Err(StoreError::Damaged {
                        key: object.key,
                        reason: "no part of an archived log has a name like this".to_owned(),
                    });
                };
                last = span.last;
                if span.first <= to {
                    spans.push(span);
                }
                after = object.key;
            }
            // Objects that are not listed yet end at `last` or later, and begin less than
            // `ARCHIVED_MAX` before.
            if !whole || last >= to.saturating_add(ARCHIVED_MAX) {
                return Ok((spans, to));
            }
            let through = last.saturating_sub(ARCHIVED_MAX);
            if through >= from {
                return Ok((spans, through.min(to)));
            }
        }
    }

    /// Reads an archived object; `None` if it does not exist.
    async fn read_archived(
        &self,
        partition: u32,
        span: Span,
    ) -> Result<Option<Vec<Bytes>>, StoreError> {
        let key = self.names.archived_prefix(partition) + &span.name();
        let Some(object) = self.objects.get(&key).await? else {
            return Ok(None);
        };
        let items = archived::decode(&object, partition, span);
        let items = items.map_err(|defect| StoreError::Damaged {
            key,
            reason: defect.to_string(),
        })?;
        Ok(Some(items))
    }

    /// Lists up to `max` numbers from `first` on, ascending, with the sizes of their items. Fewer
    /// mean that there are no more. The size of an archived item is not known, and given as 0.
    pub(super) async fn numbers(
        &self,
        sequence: Sequence,
        first: u64,
        max: usize,
    ) -> Result<Vec<(u64, u64)>, StoreError> {
        let mut found: BTreeMap<u64, u64> = BTreeMap::new();
        let mut from = first;
        loop {
            let (items, to) = self.items(sequence, from, u64::MAX, max).await?;
            let (spans, through) = self.spans_of(sequence, from, to).await?;
            let items = items.into_iter().filter(|(number, _)| *number <= through);
            found.extend(items.map(|(number, content)| (number, content.len() as u64)));
            let numbers = spans.iter().flat_map(Span::numbers);
            let numbers = numbers.filter(|number| (from..=through).contains(number));
            found.extend(numbers.map(|number| (number, 0)));
            if found.len() >= max || through == u64::MAX {
                return Ok(found.into_iter().take(max).collect());
            }
            from = through + 1;
        }
    }

    /// Reads items from `first` to `last`, and returns the last number up to which they are
    /// complete.
    pub(super) async fn items(
        &self,
        sequence: Sequence,
        first: u64,
        last: u64,
        max: usize,
    ) -> Result<(Vec<(u64, Bytes)>, u64), StoreError> {
        let log = self.names.log(sequence.partition);
        let (from, to) = (sequence.item(first), sequence.item(last));
        let page = self.table.query(&log, &from, &to, max).await?;
        let mut items = Vec::with_capacity(page.items.len());
        for (name, content) in page.items {
            match sequence.number(&name) {
                Some(number) => items.push((number, content)),
                None => {
                    return Err(StoreError::Damaged {
                        key: format!("{log} {name}"),
                        reason: "no item of a log has a name like this".to_owned(),
                    });
                }
            }
        }
        let through = match items.last() {
            Some((number, _)) if page.more => *number,
            _ => last,
        };
        Ok((items, through))
    }

    async fn spans_of(
        &self,
        sequence: Sequence,
        from: u64,
        to: u64,
    ) -> Result<(Vec<Span>, u64), StoreError> {
        match sequence.series {
            Series::Epochs => Ok((Vec::new(), to)),
            Series::Log => self.spans(sequence.partition, from, to).await,
        }
    }

    /// Reads objects from number `first` on: as many as one query, or a few archived objects,
    /// hold.
    pub(super) async fn range(
        &self,
        sequence: Sequence,
        first: u64,
    ) -> Result<ObjectRange, StoreError> {
        let mut from = first;
        loop {
            let (contents, through) = self.contents(sequence, from).await?;
            let last = through == u64::MAX;
            if !contents.is_empty() || last {
                let (objects, all) = self.resolve_all(sequence, contents).await?;
                if !objects.is_empty() || (all && last) {
                    let complete = all && last;
                    return Ok(ObjectRange { objects, complete });
                }
            }
            from = through + 1;
        }
    }

    /// Reads the contents of items from `from` on, and returns the last number up to which they are
    /// complete.
    async fn contents(
        &self,
        sequence: Sequence,
        from: u64,
    ) -> Result<(BTreeMap<u64, Bytes>, u64), StoreError> {
        let (items, to) = self.items(sequence, from, u64::MAX, PAGE).await?;
        let (mut spans, mut through) = self.spans_of(sequence, from, to).await?;
        spans.sort_by_key(|span| span.first);
        let near = spans.iter().filter(|span| span.first <= from).count();
        let count = near.max(SPANS_MAX).min(spans.len());
        if let Some(unread) = spans.get(count) {
            through = through.min(unread.first - 1);
        }
        let mut contents: BTreeMap<u64, Bytes> = items.into_iter().collect();
        let mut read = stream::iter(spans.into_iter().take(count))
            .map(|span| async move { (span, self.read_archived(sequence.partition, span).await) })
            .buffered(SPANS_MAX);
        while let Some((span, items)) = read.next().await {
            // One that was deleted meanwhile holds nothing any more.
            contents.extend(span.numbers().zip(items?.into_iter().flatten()));
        }
        contents.retain(|number, _| (from..=through).contains(number));
        Ok((contents, through))
    }

    /// Returns the objects, up to the first one that cannot be read now, or to [`RANGE_BYTES`].
    /// Also returns true if these are all.
    async fn resolve_all(
        &self,
        sequence: Sequence,
        contents: BTreeMap<u64, Bytes>,
    ) -> Result<(Vec<(String, Option<Bytes>)>, bool), StoreError> {
        let prefix = self.names.prefix(sequence);
        let mut objects = Vec::with_capacity(contents.len());
        let mut size = 0;
        let mut resolved = stream::iter(contents)
            .map(|(number, content)| async move {
                let object = match self.resolve(sequence, number, &content).await {
                    Ok(None) => self.read(sequence, number).await,
                    resolved => resolved,
                };
                (number, object)
            })
            .buffered(PARALLEL_READS);
        while let Some((number, object)) = resolved.next().await {
            match object {
                Ok(object) => {
                    size += object.as_ref().map_or(0, Bytes::len);
                    objects.push((format!("{prefix}{number:020}"), object));
                }
                Err(_) if !objects.is_empty() => return Ok((objects, false)),
                Err(error) => return Err(error),
            }
            if size >= RANGE_BYTES {
                return Ok((objects, false));
            }
        }
        Ok((objects, true))
    }
}
