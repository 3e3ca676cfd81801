use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use bytes::Bytes;
use futures::executor::block_on;
use futures::future::{BoxFuture, FutureExt, poll_fn, ready};
use satchel_engine::address::{Address, FunctionType};
use satchel_engine::durable::{Acknowledged, Change, Hold, Key, StoredState, Value};
use satchel_engine::message::{IdSource, Message, MessageId, PeerMessage};
use satchel_engine::placement::{KeyGroup, Placement};
use satchel_log::{
    Application, At, Clock, Contender, Created, Entry, Fold, Io, Layout, MemoryStore, Now,
    ObjectMeta, ObjectStore, Options, Retry, Source, StoreError,
};

use satchel_protocol::types::typed_value;

use super::{
    Content, CreateError, NewRoot, ReadError, Refusal, RootWriter, refuse_filling, take_over,
};
use crate::placement::identity;

struct Frozen;

impl Clock for Frozen {
    fn now(&self) -> Now {
        Now::default()
    }

    fn sleep(&self, _ms: u64) -> BoxFuture<'static, ()> {
        ready(()).boxed()
    }
}

/// A store that stops answering after a number of requests, until [`DyingStore::revive`]. The last
/// request still takes effect.
struct DyingStore {
    inner: Arc<MemoryStore>,
    left: AtomicU64,
    waiting: Mutex<Vec<Waker>>,
}

impl DyingStore {
    fn new(inner: &Arc<MemoryStore>, left: u64) -> Arc<Self> {
        Arc::new(Self {
            inner: inner.clone(),
            left: AtomicU64::new(left),
            waiting: Mutex::default(),
        })
    }

    fn revive(&self) {
        self.left.store(u64::MAX, Ordering::Relaxed);
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap());
        waiting.into_iter().for_each(Waker::wake);
    }

    fn request<'a, T: Send + 'a>(&'a self, request: BoxFuture<'a, T>) -> BoxFuture<'a, T> {
        let answers = move || {
            poll_fn(move |context| match self.left.load(Ordering::Relaxed) {
                0 => {
                    self.waiting.lock().unwrap().push(context.waker().clone());
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            })
        };
        async move {
            answers().await;
            let answer = request.await;
            self.left.fetch_sub(1, Ordering::Relaxed);
            answers().await;
            answer
        }
        .boxed()
    }
}

impl ObjectStore for DyingStore {
    fn create<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        self.request(self.inner.create(key, bytes))
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.request(self.inner.get(key))
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.request(self.inner.get_range(key, range))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectMeta>, StoreError>> {
        self.request(self.inner.list(prefix, start_after, max))
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.request(self.inner.delete(keys))
    }

    fn delete_exactly<'a>(
        &'a self,
        key: &'a str,
        bytes: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.request(self.inner.delete_exactly(key, bytes))
    }
}

const NONCE: [u8; 16] = [7; 16];

fn io(store: Arc<dyn ObjectStore>) -> Io {
    Io {
        store,
        clock: Arc::new(Frozen),
        retry: Retry {
            initial_ms: 1,
            max_ms: 1,
            give_up_ms: None,
        },
        on_store_failure: Arc::new(|_| {}),
    }
}

fn state(id: u64) -> Change {
    Change {
        key: Key::State {
            address: Address::new(FunctionType::new("example", "counter"), id.to_string()),
            name: "sum".into(),
        },
        value: Some(Value::State(StoredState {
            typename: "example/sum".into(),
            expires_at_ms: None,
            value: Bytes::from(vec![id as u8; 50]),
        })),
    }
}

const PLACEMENT: Placement = Placement::id_md5(3, false);

/// Writes a root with this number of states, about two in each delta.
async fn make(store: Arc<dyn ObjectStore>, nonce: u8, states: u64) -> Result<(), CreateError> {
    let mut writer = RootWriter::begin(NewRoot {
        io: io(store),
        root: "fork".to_owned(),
        application: "shop".to_owned(),
        placement: PLACEMENT,
        partitions: 1,
        nonce: [nonce; 16],
        making: format!("root {nonce}"),
        not_before_ms: 0,
        delta_bytes: 150,
    })
    .await?;
    for id in 0..states {
        writer.push(0, &state(id)).await?;
    }
    let hold = Hold {
        origin: "another".into(),
        since_ms: writer.begun_at_ms(),
        filling: false,
    };
    writer.finish(Some(hold)).await
}

/// Runs a future to its end, or until it waits without progress. Dropping the future then ends it
/// wherever it is, as a crash would.
fn run_until_it_waits<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    // A future may yield without waiting for anything.
    (0..1_000).find_map(|_| future.as_mut().now_or_never())
}

#[derive(Default)]
struct Facts {
    facts: BTreeMap<Vec<u8>, Vec<u8>>,
    hold: Option<Hold>,
}

impl Fold for Facts {
    fn clear(&mut self) {
        *self = Self::default();
    }

    fn apply(&mut self, entry: Entry<'_>) {
        let change = Change::decode(entry.key, entry.value).expect("it was encoded");
        if change.key == Key::Hold {
            self.hold = match change.value {
                Some(Value::Hold(hold)) => Some(hold),
                _ => None,
            };
            return;
        }
        match entry.value {
            Some(value) => self.facts.insert(entry.key.to_vec(), value.to_vec()),
            None => self.facts.remove(entry.key),
        };
    }
}

/// Takes over like an owner. Returns the number of facts that the owner would serve.
async fn serve(store: Arc<MemoryStore>) -> Result<usize, Refusal> {
    let mut facts = Facts::default();
    let place = Contender {
        store,
        root: "fork".to_owned(),
        identity: identity("shop", PLACEMENT),
        nonce: NONCE,
        clock: Arc::new(Frozen),
        options: Options::default(),
        on_store_failure: Arc::new(|_| {}),
    };
    take_over(place, &mut facts).await?;
    refuse_filling(facts.hold.as_ref())?;
    assert!(facts.hold.is_some(), "a fork begins held");
    Ok(facts.facts.len())
}

#[test]
fn a_partial_root_is_refused_wherever_its_writer_dies_and_the_next_writer_resumes_it() {
    let mut unfinished = 0;
    for requests in 1..500 {
        let memory = Arc::new(MemoryStore::new());
        let store = DyingStore::new(&memory, requests);
        let first = run_until_it_waits(make(store, 1, 9));
        let nothing_yet = block_on(memory.list("fork/", None, 1)).unwrap().is_empty();
        let mark_left = !block_on(memory.list("fork/unfinished/", None, 1))
            .unwrap()
            .is_empty();
        if mark_left {
            unfinished += 1;
            let refused = block_on(serve(memory.clone())).unwrap_err();
            assert!(
                matches!(&refused, Refusal::Unfinished { key, making }
                    if key.starts_with("fork/unfinished/0101") && making == "root 1"),
                "after {requests} requests: {refused:?}"
            );
        }
        let whole = !nothing_yet && !mark_left;
        let second = block_on(make(memory.clone(), 2, 4));
        if whole {
            assert_eq!(
                second,
                Err(CreateError::Occupied),
                "after {requests} requests"
            );
            assert_eq!(block_on(serve(memory)), Ok(9));
        } else if second == Err(CreateError::Occupied) {
            // Only the removal of the mark was left, and the second writer has done it.
            assert_eq!(block_on(serve(memory)), Ok(9), "after {requests} requests");
        } else {
            assert_eq!(second, Ok(()), "after {requests} requests");
            assert_eq!(block_on(serve(memory)), Ok(4), "after {requests} requests");
        }
        if first.is_some() {
            break;
        }
    }
    assert!(
        unfinished > 10,
        "the writer died {unfinished} times before it finished"
    );
}

#[test]
fn however_two_writers_alternate_an_owner_serves_only_the_whole_content_of_one_of_them() {
    let (mut made, mut refused) = (0, 0);
    for first in 0..30 {
        for second in 1..30 {
            let memory = Arc::new(MemoryStore::new());
            let (one, other) = (
                DyingStore::new(&memory, first),
                DyingStore::new(&memory, second),
            );
            let mut writers = [
                Box::pin(make(one.clone(), 1, 9)),
                Box::pin(make(other.clone(), 2, 4)),
            ];
            let mut results: Vec<_> = writers.iter_mut().map(run_until_it_waits).collect();
            for (index, store) in [&one, &other].into_iter().enumerate() {
                store.revive();
                if results[index].is_none() {
                    results[index] = run_until_it_waits(&mut writers[index]);
                }
            }
            let results: Vec<_> = results
                .into_iter()
                .map(|result| result.expect("the writer has ended"))
                .collect();
            let served = block_on(serve(memory.clone()));
            let case = format!("after {first} and {second} requests: {results:?}, {served:?}");
            match &served {
                Ok(9) => assert_eq!(results[0], Ok(()), "{case}"),
                Ok(4) => assert_eq!(results[1], Ok(()), "{case}"),
                Ok(_) => panic!("{case}"),
                Err(_) => assert!(results.iter().all(Result::is_err), "{case}"),
            }
            match served {
                Ok(_) => made += 1,
                Err(_) => {
                    refused += 1;
                    assert_eq!(block_on(make(memory.clone(), 3, 5)), Ok(()), "{case}");
                    assert_eq!(block_on(serve(memory)), Ok(5), "{case}");
                }
            }
        }
    }
    assert!(
        made > 500 && refused < made,
        "{made} made, {refused} refused"
    );
}

#[test]
fn content_that_says_it_is_being_filled_is_refused_without_a_mark() {
    let memory = Arc::new(MemoryStore::new());
    let store = DyingStore::new(&memory, 17);
    assert_eq!(run_until_it_waits(make(store, 1, 9)), None);
    let marks = block_on(memory.list("fork/unfinished/", None, 9)).unwrap();
    let marks: Vec<String> = marks.into_iter().map(|mark| mark.key).collect();
    block_on(memory.delete(&marks)).unwrap();
    let refused = block_on(serve(memory)).unwrap_err();
    let making = "root 1".to_owned();
    assert_eq!(refused, Refusal::Filling { making });
}

fn source(memory: &Arc<MemoryStore>, root: &str) -> Source {
    Source {
        store: memory.clone(),
        root: root.to_owned(),
        clock: Arc::new(Frozen),
        retry: io(memory.clone()).retry,
        on_store_failure: Arc::new(|_| {}),
    }
}

fn read(source: &Source) -> Result<Content, ReadError> {
    let key = Layout::new(&source.root, 0).application().to_owned();
    let application = block_on(source.store.get(&key)).unwrap().unwrap();
    let application = Application::decode(&application).unwrap();
    let mut last = 0.0;
    let content = Content::read(source, &application, At::Latest, |share| last = share);
    let content = block_on(content)?;
    assert!((last - 1.0).abs() < f64::EPSILON, "all of it was read");
    Ok(content)
}

/// Writes a root of two partitions with these facts.
fn make_pair(memory: &Arc<MemoryStore>, root: &str, facts: [&[Change]; 2]) {
    let writer = RootWriter::begin(NewRoot {
        io: io(memory.clone()),
        root: root.to_owned(),
        application: "shop".to_owned(),
        placement: PLACEMENT,
        partitions: 2,
        nonce: [5; 16],
        making: "a pair".to_owned(),
        not_before_ms: 0,
        delta_bytes: 150,
    });
    let mut writer = block_on(writer).unwrap();
    for (partition, facts) in (0..).zip(facts) {
        for fact in facts {
            block_on(writer.push(partition, fact)).unwrap();
        }
    }
    block_on(writer.finish(None)).unwrap();
}

fn set(key: Key, value: Value) -> Change {
    Change {
        key,
        value: Some(value),
    }
}

fn out(peer: u32, number: u64) -> Change {
    let argument = typed_value("t", &b"1"[..]);
    let message = Message {
        id: MessageId::derive(IdSource::Request(&[7; 16]), &argument),
        caller: None,
        argument,
        correction: None,
        trace: None,
        headers: None,
    };
    let message = PeerMessage {
        sender: KeyGroup(0),
        target: Address::new(FunctionType::new("example", "sum"), "1"),
        message,
    };
    set(Key::Out { peer, number }, Value::Out(Box::new(message)))
}

fn assigned(peer: u32, number: u64) -> Change {
    set(Key::Assigned { peer }, Value::LinkNumber(number))
}

fn taken(peer: u32, number: u64) -> Change {
    set(Key::Taken { peer }, Value::LinkNumber(number))
}

fn acknowledged(peer: u32, upto: u64, epoch: u64) -> Change {
    let value = Value::Acknowledged(Acknowledged { upto, epoch });
    set(Key::Acknowledged { peer }, value)
}

#[test]
fn a_fork_of_several_partitions_keeps_each_and_has_seen_no_owner_of_another() {
    let memory = Arc::new(MemoryStore::new());
    let sender = [
        state(1),
        out(1, 1),
        out(1, 2),
        out(1, 3),
        assigned(1, 3),
        acknowledged(1, 2, 7),
    ];
    let receiver = [taken(0, 2), state(2)];
    make_pair(&memory, "pair", [&sender, &receiver]);
    let content = read(&source(&memory, "pair")).unwrap();
    assert_eq!(content.partitions(), 2);
    let writer = RootWriter::begin(NewRoot {
        io: io(memory.clone()),
        root: "copy".to_owned(),
        application: "shop".to_owned(),
        placement: PLACEMENT,
        partitions: content.partitions(),
        nonce: [6; 16],
        making: "a restore".to_owned(),
        not_before_ms: 0,
        delta_bytes: 150,
    });
    let writer = block_on(writer).unwrap();
    // Two acknowledged messages are gone.
    assert_eq!(block_on(content.fork(writer, "pair")), Ok(6));
    let copy = read(&source(&memory, "copy")).unwrap();
    let of = |partition| -> Vec<Change> {
        let facts = copy.facts().filter(|(of, _)| *of == partition);
        let facts = facts.map(|(_, fact)| fact);
        facts.filter(|fact| fact.key != Key::Hold).collect()
    };
    let sender = [state(1), out(1, 3), assigned(1, 3), acknowledged(1, 2, 0)];
    assert_eq!(of(0), sender);
    assert_eq!(of(1), [state(2), taken(0, 2)]);
    let holds = copy.facts().filter(|(_, fact)| fact.key == Key::Hold);
    assert_eq!(holds.count(), 2);
}

#[test]
fn rule_35_partitions_that_were_read_at_different_moments_are_refused_by_their_numbers() {
    for (taken_to, acknowledged_to) in [(4, 0), (1, 2)] {
        let memory = Arc::new(MemoryStore::new());
        let sender = [assigned(1, 3), acknowledged(1, acknowledged_to, 1)];
        make_pair(&memory, "pair", [&sender, &[taken(0, taken_to)]]);
        assert_eq!(
            read(&source(&memory, "pair")).unwrap_err(),
            ReadError::NoCut {
                sender: 0,
                receiver: 1,
                acknowledged: acknowledged_to,
                taken: taken_to,
                assigned: 3,
            }
        );
    }
}

#[test]
fn a_fork_holds_what_its_origin_held_and_is_not_earlier() {
    let memory = Arc::new(MemoryStore::new());
    block_on(make(memory.clone(), 1, 9)).unwrap();
    let source = source(&memory, "fork");
    let content = read(&source).unwrap();
    let expected: Vec<Change> = content.facts().map(|(_, fact)| fact).collect();
    let writer = RootWriter::begin(NewRoot {
        io: source.io(),
        root: "copy".to_owned(),
        application: "shop".to_owned(),
        placement: Placement::xxh3(5),
        partitions: 1,
        nonce: [3; 16],
        making: "a restore".to_owned(),
        not_before_ms: 5_000,
        delta_bytes: 4 << 20,
    });
    let writer = block_on(writer).unwrap();
    assert_eq!(block_on(content.fork(writer, "fork@now")), Ok(10));
    let copy = read(&Source {
        root: "copy".to_owned(),
        ..source
    });
    let copy = copy.unwrap();
    let without_hold = |change: &Change| change.key != Key::Hold;
    let copied = copy.facts().map(|(_, fact)| fact);
    assert_eq!(
        copied.filter(without_hold).collect::<Vec<_>>(),
        expected
            .into_iter()
            .filter(without_hold)
            .collect::<Vec<_>>()
    );
    assert_eq!(copy.committed_at_ms, 5_000);
}

#[test]
fn a_root_that_lost_its_application_is_not_taken_for_an_empty_place() {
    let memory = Arc::new(MemoryStore::new());
    block_on(make(memory.clone(), 1, 3)).unwrap();
    let key = Layout::new("fork", 0).application().to_owned();
    block_on(memory.delete(&[key])).unwrap();
    let refused = block_on(make(memory, 2, 3)).unwrap_err();
    assert_eq!(refused, CreateError::Occupied);
}
