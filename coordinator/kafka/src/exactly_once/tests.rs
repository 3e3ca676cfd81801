//! Stories of transactions over a cluster that loses answers, fences producers and refuses records.

use std::collections::VecDeque;
use std::sync::Mutex;

use bytes::Bytes;

use super::*;
use crate::outbox::Limits;

/// Content of the topics, and the transactions of one transactional id.
#[derive(Debug, Default)]
struct Cluster {
    topics: BTreeMap<Arc<str>, Vec<u64>>,
    marks: BTreeMap<Arc<str>, (i64, String)>,
    /// Number of the session that is not fenced.
    session: u64,
    /// Transaction whose commit has reached the brokers and is not carried out.
    unfinished: Option<Transaction>,
    /// Records that the brokers never accept.
    poison: Vec<u64>,
}

type Transaction = (Vec<Arc<ProducerRecord>>, BTreeMap<Arc<str>, Mark>);

impl Cluster {
    fn commit(&mut self, (records, marks): Transaction) {
        for record in records {
            let topic = self.topics.entry(Arc::clone(&record.topic)).or_default();
            topic.push(record.number);
        }
        for (topic, mark) in marks {
            let offset = i64::try_from(mark.last).unwrap();
            self.marks.insert(topic, (offset, mark.metadata()));
        }
    }
}

/// Trouble of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// The request does not arrive.
    Lost,
    /// The request is carried out, and its answer is lost.
    AnswerLost,
    /// The commit arrives, its answer is lost, and it is carried out later.
    Late,
    /// The transaction is aborted, because one record was not accepted for now.
    Abort,
}

struct Producer {
    cluster: Arc<Mutex<Cluster>>,
    session: u64,
    trouble: Box<dyn FnMut() -> Trouble + Send>,
}

impl Transactions for Producer {
    async fn begin_session(&mut self) -> Result<(), String> {
        let trouble = (self.trouble)();
        if trouble == Trouble::Lost {
            return Err("no broker".to_owned());
        }
        let mut cluster = self.cluster.lock().unwrap();
        cluster.session += 1;
        // The brokers complete a transaction whose commit they have.
        if let Some(transaction) = cluster.unfinished.take() {
            cluster.commit(transaction);
        }
        self.session = cluster.session;
        match trouble {
            Trouble::AnswerLost => Err("no answer".to_owned()),
            _ => Ok(()),
        }
    }

    async fn marks(&mut self, topics: &[Arc<str>]) -> Result<BTreeMap<Arc<str>, Mark>, String> {
        if (self.trouble)() == Trouble::Lost {
            return Err("no coordinator".to_owned());
        }
        let cluster = self.cluster.lock().unwrap();
        let marks = topics.iter().filter_map(|topic| {
            let (offset, metadata) = cluster.marks.get(topic)?;
            Some((Arc::clone(topic), Mark::read(*offset, metadata).unwrap()))
        });
        Ok(marks.collect())
    }

    async fn transact(
        &mut self,
        records: &[Arc<ProducerRecord>],
        marks: &BTreeMap<Arc<str>, Mark>,
    ) -> Transacted {
        let trouble = (self.trouble)();
        let mut cluster = self.cluster.lock().unwrap();
        if cluster.session != self.session || cluster.unfinished.is_some() {
            return Transacted::InDoubt("fenced".to_owned());
        }
        let is_poison = |record: &Arc<ProducerRecord>| cluster.poison.contains(&record.number);
        if records.iter().any(is_poison) {
            let fates = records.iter().map(|record| match is_poison(record) {
                true => Fate::Refused("poison".to_owned()),
                false => Fate::Delivered,
            });
            return Transacted::Aborted(fates.collect());
        }
        let transaction = (records.to_vec(), marks.clone());
        match trouble {
            Trouble::None => {
                cluster.commit(transaction);
                Transacted::Committed
            }
            Trouble::Lost => Transacted::InDoubt("no connection".to_owned()),
            Trouble::AnswerLost => {
                cluster.commit(transaction);
                Transacted::InDoubt("no answer".to_owned())
            }
            Trouble::Late => {
                cluster.unfinished = Some(transaction);
                Transacted::InDoubt("no answer".to_owned())
            }
            Trouble::Abort => {
                let mut fates = vec![Fate::Delivered; records.len()];
                fates[records.len() / 2] = Fate::Retry("no leader".to_owned());
                Transacted::Aborted(fates)
            }
        }
    }
}

fn sink(
    cluster: &Arc<Mutex<Cluster>>,
    trouble: impl FnMut() -> Trouble + Send + 'static,
) -> ExactlyOnce<Producer> {
    let producer = Producer {
        cluster: Arc::clone(cluster),
        session: 0,
        trouble: Box::new(trouble),
    };
    let limits = Limits {
        records: 5,
        bytes: 1 << 20,
    };
    ExactlyOnce::new(producer, Outbox::new(limits, 1))
}

fn record(number: u64) -> ProducerRecord {
    ProducerRecord {
        number,
        topic: if number.is_multiple_of(3) { "b" } else { "a" }.into(),
        key: None,
        value: Bytes::new(),
        trace: None,
    }
}

/// Script of troubles, and none after it.
fn script<const N: usize>(troubles: [Trouble; N]) -> impl FnMut() -> Trouble + Send + 'static {
    let mut troubles = troubles.into_iter();
    move || troubles.next().unwrap_or(Trouble::None)
}

/// Advances until nothing is left. Returns what was delivered and refused, by number.
async fn drain(sink: &mut ExactlyOnce<Producer>) -> (Vec<u64>, Vec<u64>) {
    let (mut delivered, mut refused) = (Vec::new(), Vec::new());
    let mut now_ms = 0;
    while let Some(due_ms) = sink.wake_at_ms() {
        now_ms = due_ms.max(now_ms);
        if let Progress::Sent { settled, .. } = sink.advance(now_ms).await {
            for settled in settled {
                match settled {
                    Settled::Delivered(number) => delivered.push(number),
                    Settled::Refused { number, .. } => refused.push(number),
                }
            }
        }
    }
    delivered.sort_unstable();
    (delivered, refused)
}

fn topics(cluster: &Mutex<Cluster>) -> Vec<(String, Vec<u64>)> {
    let cluster = cluster.lock().unwrap();
    let topics = cluster.topics.iter();
    topics
        .map(|(topic, numbers)| (topic.to_string(), numbers.clone()))
        .collect()
}

#[tokio::test]
async fn a_committed_transaction_whose_acknowledgement_is_lost_is_not_repeated() {
    use Trouble::{AnswerLost, Late, Lost, None};
    for answer in [AnswerLost, Late, Lost] {
        let cluster = Arc::default();
        // The session, the marks of both topics, and the commit.
        let mut sink = sink(&cluster, script([None, None, answer]));
        (1..=4).for_each(|number| sink.offer(record(number)));
        assert_eq!(drain(&mut sink).await, (vec![1, 2, 3, 4], vec![]));
        let expected = [("a".to_owned(), vec![1, 2, 4]), ("b".to_owned(), vec![3])];
        assert_eq!(topics(&cluster), expected, "{answer:?}");
    }
}

#[tokio::test]
async fn a_new_owner_skips_what_its_predecessor_committed_and_fences_it() {
    let cluster = Arc::default();
    let mut old = sink(&cluster, script([]));
    (1..=3).for_each(|number| old.offer(record(number)));
    drain(&mut old).await;
    // The acknowledgements were not durable, so the next owner has the records again.
    let mut new = sink(&cluster, script([]));
    (1..=6).for_each(|number| new.offer(record(number)));
    old.offer(record(4));
    let now = new.advance(0).await;
    let skipped = [1, 2, 3].map(Settled::Delivered);
    let Progress::Sent { mut settled, .. } = now else {
        panic!("{now:?}");
    };
    settled.sort_by_key(|settled| match settled {
        Settled::Delivered(number) | Settled::Refused { number, .. } => *number,
    });
    assert_eq!(settled, skipped);
    let fenced = Progress::Failed("fenced".to_owned());
    assert_eq!(old.advance(0).await, fenced, "a zombie");
    assert_eq!(drain(&mut new).await, (vec![4, 5, 6], vec![]));
    let expected = [
        ("a".to_owned(), vec![1, 2, 4, 5]),
        ("b".to_owned(), vec![3, 6]),
    ];
    assert_eq!(topics(&cluster), expected);
}

#[tokio::test]
async fn a_refusal_that_was_not_durable_is_not_mistaken_for_a_delivery() {
    let cluster: Arc<Mutex<Cluster>> = Arc::default();
    cluster.lock().unwrap().poison = vec![2];
    for _ in 0..2 {
        let mut owner = sink(&cluster, script([]));
        [1, 2, 4]
            .into_iter()
            .for_each(|number| owner.offer(record(number)));
        assert_eq!(drain(&mut owner).await, (vec![1, 4], vec![2]));
        assert_eq!(topics(&cluster), [("a".to_owned(), vec![1, 4])]);
    }
}

#[test]
fn a_mark_survives_its_form_as_an_offset_with_metadata() {
    for refused in [vec![], vec![3], vec![3, 17, u64::MAX]] {
        let mark = Mark { last: 20, refused };
        assert_eq!(Mark::read(20, &mark.metadata()), Some(mark));
    }
    assert_eq!(Mark::read(-1001, ""), None);
    assert_eq!(Mark::read(1, "other"), None);
}

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// An owner of the partition, which hands its outbox to the sink bit by bit.
struct Owner {
    sink: ExactlyOnce<Producer>,
    emitted: VecDeque<u64>,
}

impl Owner {
    fn new(cluster: &Arc<Mutex<Cluster>>, emitted: VecDeque<u64>, mut seed: u64) -> Self {
        let sink = sink(cluster, move || match random(&mut seed) % 16 {
            0 => Trouble::Lost,
            1 => Trouble::AnswerLost,
            2 => Trouble::Late,
            3 => Trouble::Abort,
            _ => Trouble::None,
        });
        Self { sink, emitted }
    }

    /// Sends a round. Returns the numbers of the delivered records.
    async fn advance(&mut self, now_ms: u64) -> Vec<u64> {
        let next = self.emitted.len().min(3);
        let offered = self.emitted.drain(..next);
        offered.for_each(|number| self.sink.offer(record(number)));
        let Progress::Sent { settled, .. } = self.sink.advance(now_ms).await else {
            return Vec::new();
        };
        let delivered = settled.into_iter().map(|settled| match settled {
            Settled::Delivered(number) => number,
            refused @ Settled::Refused { .. } => panic!("{refused:?}"),
        });
        delivered.collect()
    }
}

/// Owners that crash, and go on as zombies, while requests and answers are lost: every record is in
/// its topic once, in order.
#[tokio::test]
async fn over_crashes_zombies_and_lost_answers_each_record_is_in_its_topic_once_and_in_order() {
    const RECORDS: u64 = 60;
    for seed in 0..300 {
        let cluster: Arc<Mutex<Cluster>> = Arc::default();
        let mut state = seed;
        let mut acknowledged: Vec<u64> = Vec::new();
        let mut owners: Vec<Owner> = Vec::new();
        let mut emitted = 0;
        let mut now_ms = 0;
        for _ in 0..400 {
            now_ms += 1_000;
            if owners.is_empty() || random(&mut state).is_multiple_of(12) {
                // Some acknowledgements were not durable.
                let durable = acknowledged
                    .len()
                    .saturating_sub(random(&mut state) as usize % 4);
                acknowledged.truncate(durable);
                let left = (1..=emitted).filter(|number| !acknowledged.contains(number));
                let seed = random(&mut state);
                owners.push(Owner::new(&cluster, left.collect(), seed));
            }
            let owner = owners.last_mut().unwrap();
            if emitted < RECORDS {
                emitted += 1;
                owner.emitted.push_back(emitted);
            }
            acknowledged.extend(owner.advance(now_ms).await);
            let zombie = random(&mut state) as usize % owners.len();
            if zombie + 1 < owners.len() && random(&mut state).is_multiple_of(3) {
                // Its acknowledgements reach no one.
                owners[zombie].advance(now_ms).await;
            }
        }
        let mut last = owners.pop().unwrap();
        while !last.emitted.is_empty() {
            last.advance(now_ms).await;
        }
        drain(&mut last.sink).await;
        let numbers =
            |topic: u64| (1..=RECORDS).filter(move |it| it.is_multiple_of(3) == (topic == 1));
        let expected = [
            ("a".to_owned(), numbers(0).collect::<Vec<_>>()),
            ("b".to_owned(), numbers(1).collect()),
        ];
        assert_eq!(topics(&cluster), expected, "seed {seed}");
    }
}
