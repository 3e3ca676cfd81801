//! Deletions from a table that fail on the way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::{BoxFuture, ready};
use satchel_log::{
    Created, ItemPage, Layout, LogTable, MemoryStore, MemoryTable, ObjectStore, StoreError,
    TabledStore,
};
use satchel_log_simulation::{drive, simulated_table};

/// A table that stops to delete after some items, and remembers what it was asked to delete.
#[derive(Default)]
struct LimitedTable {
    items: MemoryTable,
    deletions_left: AtomicUsize,
    asked: Mutex<Vec<String>>,
}

impl LogTable for LimitedTable {
    fn put<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
        content: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        self.items.put(log, name, content)
    }

    fn get<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.items.get(log, name)
    }

    fn query<'a>(
        &'a self,
        log: &'a str,
        first: &'a str,
        last: &'a str,
        max: usize,
    ) -> BoxFuture<'a, Result<ItemPage, StoreError>> {
        self.items.query(log, first, last, max)
    }

    fn delete<'a>(
        &'a self,
        log: &'a str,
        names: &'a [String],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.asked.lock().unwrap().extend_from_slice(names);
        let left = self.deletions_left.load(Ordering::Relaxed);
        let count = names.len().min(left);
        self.deletions_left.fetch_sub(count, Ordering::Relaxed);
        if count == names.len() {
            return self.items.delete(log, names);
        }
        drive(&mut self.items.delete(log, &names[..count]))
            .unwrap()
            .unwrap();
        let error = StoreError::Unavailable {
            key: names[count].clone(),
            reason: "no further deletion".to_owned(),
        };
        Box::pin(ready(Err(error)))
    }

    fn delete_exactly<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
        content: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.items.delete_exactly(log, name, content)
    }
}

struct World {
    table: Arc<LimitedTable>,
    objects: Arc<MemoryStore>,
    store: TabledStore,
    layout: Layout,
}

impl World {
    /// A log of this many objects.
    fn of(count: u64) -> Self {
        let (objects, table) = (
            Arc::new(MemoryStore::new()),
            Arc::new(LimitedTable::default()),
        );
        let items: Arc<dyn LogTable> = table.clone();
        let store = TabledStore::new(objects.clone(), items, "root", 1, simulated_table());
        let layout = Layout::new("root", 0);
        for number in 1..=count {
            let (key, content) = (layout.log(number), Bytes::from(format!("commit {number}")));
            let created = drive(&mut store.create(&key, content)).unwrap();
            assert_eq!(created, Ok(Created::Stored));
        }
        Self {
            table,
            objects,
            store,
            layout,
        }
    }

    /// Deletes the objects up to `last`, of which the table performs `allowed` deletions. Returns
    /// how many it was asked for.
    fn delete(&self, last: u64, allowed: usize) -> (Result<(), StoreError>, usize) {
        let before = self.table.asked.lock().unwrap().len();
        self.table.deletions_left.store(allowed, Ordering::Relaxed);
        let keys: Vec<String> = (1..=last).map(|number| self.layout.log(number)).collect();
        let deleted = drive(&mut self.store.delete(&keys)).unwrap();
        let asked = self.table.asked.lock().unwrap().len() - before;
        (deleted, asked)
    }

    fn items(&self) -> usize {
        self.table.items.names().len()
    }
}

#[test]
fn a_deletion_that_failed_late_repeats_only_what_is_left() {
    let world = World::of(2_500);
    let (deleted, _) = world.delete(2_400, 2_100);
    assert!(matches!(deleted, Err(StoreError::Unavailable { .. })));
    assert_eq!(world.items(), 400);
    assert_eq!(world.delete(2_400, usize::MAX), (Ok(()), 300));
    assert_eq!(world.items(), 100);
    assert_eq!(world.delete(2_400, usize::MAX), (Ok(()), 0));
}

#[test]
fn items_whose_archiving_ended_before_their_deletion_do_not_come_back_with_it() {
    let world = World::of(30);
    // The archived object is durable, and the process ends before the items are deleted.
    world.table.deletions_left.store(4, Ordering::Relaxed);
    let prefix = world.layout.log_prefix();
    let archived = drive(&mut world.store.archive(&prefix, 21).unwrap()).unwrap();
    assert!(archived.is_err(), "{archived:?}");
    let archive = world.objects.keys();
    assert_eq!(archive.len(), 1, "{archive:?}");
    assert_eq!(world.items(), 26);

    // Its numbers are condemned before anything is archived again.
    let (deleted, _) = world.delete(20, usize::MAX);
    assert_eq!(deleted, Ok(()));
    assert_eq!(world.objects.keys(), Vec::<String>::new());
    let listed = drive(&mut world.store.list(&prefix, None, 100)).unwrap();
    let listed: Vec<String> = listed.unwrap().into_iter().map(|it| it.key).collect();
    let left: Vec<String> = (21..=30).map(|number| world.layout.log(number)).collect();
    assert_eq!(listed, left);
    let read = drive(&mut world.store.get(&world.layout.log(20))).unwrap();
    assert_eq!(read, Ok(None));
}

#[test]
fn a_part_of_the_log_is_deleted_without_what_lies_between() {
    let world = World::of(50);
    world
        .table
        .deletions_left
        .store(usize::MAX, Ordering::Relaxed);
    let numbers = [3_u64, 4, 17, 40];
    let keys: Vec<String> = numbers.map(|number| world.layout.log(number)).to_vec();
    assert_eq!(drive(&mut world.store.delete(&keys)).unwrap(), Ok(()));
    assert_eq!(world.table.asked.lock().unwrap().len(), 4);
    assert_eq!(world.items(), 46);
}
