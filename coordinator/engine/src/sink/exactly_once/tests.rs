//! Stories of a stream with one shard, and of owners that come and go.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const TIMING: ExactlyOnceTiming = ExactlyOnceTiming {
    confirmation_ms: 5_000,
    request_timeout_ms: 1_000,
    settling_ms: 2_000,
};

const LIMITS: Limits = Limits {
    records_per_request: 10,
    bytes_per_request: 1_000,
    requests_in_flight: 4,
    records_in_flight: 100,
};

/// An egress and everything that it said and nobody asked for yet.
struct Owner {
    once: ExactlyOnceSink,
    ms: u64,
    confirmed_ms: Option<u64>,
    outputs: Vec<ExactlyOnceOutput>,
}

impl Owner {
    /// Takes over at `ms` what `marks` say, with these records in the outbox.
    fn takes_over(ms: u64, marks: &[EgressMark], left: &[u64]) -> Self {
        let marks = marks.iter().filter_map(|mark| {
            let value = mark.value.as_deref()?;
            Some((&*mark.name, value))
        });
        let positions = Positions::read(marks).unwrap();
        let left = left.iter().copied().collect();
        let mut owner = Self {
            once: ExactlyOnceSink::new(TIMING, LIMITS, positions, left, ms, 7),
            ms,
            confirmed_ms: Some(ms),
            outputs: Vec::new(),
        };
        owner.tell(ExactlyOnceInput::TimeReached);
        owner
    }

    /// As the first owner there is, with its first notes durable.
    fn first() -> (Self, Vec<EgressMark>) {
        let mut owner = Self::takes_over(0, &[], &[]);
        let (_, marks) = owner.arrived();
        owner.tell(ExactlyOnceInput::NotesDurable);
        (owner, marks)
    }

    fn tell(&mut self, input: ExactlyOnceInput) {
        let now = Now {
            ms: self.ms,
            calendar_ms: 1_000_000 + self.ms,
            confirmed_ms: self.confirmed_ms,
        };
        self.once.handle_input(now, input);
        self.outputs
            .extend(std::iter::from_fn(|| self.once.poll_output()));
    }

    fn at(&mut self, ms: u64) {
        self.ms = ms;
        self.tell(ExactlyOnceInput::TimeReached);
    }

    fn offer(&mut self, number: u64, key: &str, data: &str) {
        let record = Ok(record(number, key, data));
        self.tell(ExactlyOnceInput::Offered(vec![(number, record)]));
    }

    /// The request that is to be put: its name, its records' numbers, and until when.
    fn put(&mut self) -> Option<(u64, Vec<u64>, u64)> {
        let put = |output: &ExactlyOnceOutput| matches!(output, ExactlyOnceOutput::Put { .. });
        let at = self.outputs.iter().position(put)?;
        match self.outputs.remove(at) {
            ExactlyOnceOutput::Put { request, until_ms } => {
                let numbers = request.records.iter().map(|record| record.number);
                Some((request.id, numbers.collect(), until_ms))
            }
            _ => None,
        }
    }

    /// The look that is to be taken, and after which number of the shard.
    fn look(&mut self) -> Option<(u64, Option<String>)> {
        let look = |output: &ExactlyOnceOutput| matches!(output, ExactlyOnceOutput::Scan { .. });
        let at = self.outputs.iter().position(look)?;
        match self.outputs.remove(at) {
            ExactlyOnceOutput::Scan { look, after, .. } => {
                Some((look, after.shards.get("shard").cloned()))
            }
            _ => None,
        }
    }

    /// What arrived and is to be remembered, all of it.
    fn arrived(&mut self) -> (Vec<u64>, Vec<EgressMark>) {
        let mut all = (Vec::new(), Vec::new());
        self.outputs.retain(|output| match output {
            ExactlyOnceOutput::Arrived { numbers, marks, .. } => {
                all.0.extend(numbers);
                all.1.extend(marks.clone());
                false
            }
            _ => true,
        });
        all
    }

    fn wakes_at(&self) -> Option<u64> {
        self.outputs.iter().rev().find_map(|output| match output {
            ExactlyOnceOutput::WakeAt(at_ms) => Some(*at_ms),
            _ => None,
        })
    }
}

fn record(number: u64, key: &str, data: &str) -> Record<Put> {
    Record {
        number,
        destination: "stream".into(),
        key: Some(key.into()),
        bytes: data.len(),
        payload: Put {
            key: key.to_owned(),
            explicit_hash_key: None,
            data: Bytes::copy_from_slice(data.as_bytes()),
        },
    }
}

fn taken(sequence: u64) -> PutResult {
    PutResult::Taken {
        shard: "shard".to_owned(),
        sequence: sequence.to_string(),
    }
}

fn seen(sequence: u64, key: &str, data: &str) -> ScannedRecord {
    ScannedRecord {
        shard: "shard".to_owned(),
        sequence: sequence.to_string(),
        key: key.to_owned(),
        data: data.as_bytes().to_vec(),
    }
}

fn looked(seen: Vec<ScannedRecord>) -> Result<ScanResult, String> {
    Ok(ScanResult {
        shards: vec!["shard".to_owned()],
        seen,
    })
}

#[test]
fn rule_13_nothing_is_put_before_it_is_durable_from_when_on_a_later_owner_must_look() {
    let mut owner = Owner::takes_over(0, &[], &[]);
    owner.offer(1, "a", "x");
    assert_eq!(owner.put(), None);
    let confirms = |output: &ExactlyOnceOutput| {
        matches!(output, ExactlyOnceOutput::Arrived { confirm: true, .. })
    };
    assert!(owner.outputs.iter().any(confirms));
    let (_, marks) = owner.arrived();
    assert_eq!(marks.len(), 2, "since when, and how long a request takes");
    owner.tell(ExactlyOnceInput::NotesDurable);
    assert_eq!(owner.put(), Some((1, vec![1], 1_000)));
}

#[test]
fn rule_13_nothing_is_put_while_ownership_is_not_confirmed_of_late() {
    let (mut owner, _) = Owner::first();
    owner.at(5_000);
    owner.offer(1, "a", "x");
    assert_eq!(owner.put(), None);
    assert_eq!(owner.wakes_at(), Some(5_050));
    owner.confirmed_ms = Some(4_000);
    owner.at(5_050);
    assert_eq!(owner.put(), Some((1, vec![1], 6_050)));
}

#[test]
fn rule_13_what_has_no_answer_in_time_is_looked_for_when_it_must_be_seen_and_put_again_only_if_it_is_not()
 {
    let (mut owner, _) = Owner::first();
    owner.offer(1, "a", "x");
    owner.offer(2, "b", "y");
    let (request, numbers, _) = owner.put().unwrap();
    assert_eq!(numbers, [1]);
    let told = PutOutcome::Each(vec![taken(10)]);
    owner.tell(ExactlyOnceInput::Answered { request, told });
    assert_eq!(owner.arrived().0, [1]);
    let (request, numbers, until_ms) = owner.put().unwrap();
    assert_eq!((numbers, until_ms), (vec![2], 1_000));
    owner.offer(3, "c", "z");
    assert_eq!(owner.put(), None, "one request is under way to a stream");
    owner.at(1_000);
    // The answer comes too late to count.
    let told = PutOutcome::Each(vec![taken(11)]);
    owner.tell(ExactlyOnceInput::Answered { request, told });
    assert_eq!(owner.arrived(), (vec![], vec![]));
    owner.at(2_999);
    assert_eq!(owner.look(), None);
    owner.at(3_000);
    let (look, after) = owner.look().unwrap();
    assert_eq!(after, Some("10".to_owned()));
    let seen = looked(vec![seen(11, "b", "y")]);
    owner.tell(ExactlyOnceInput::Scanned { look, seen });
    assert_eq!(owner.arrived().0, [2]);
    assert_eq!(owner.put().unwrap().1, [3]);
}

#[test]
fn a_look_that_fails_is_taken_again_and_what_is_not_there_is_put_again() {
    let (mut owner, _) = Owner::first();
    owner.offer(1, "a", "x");
    let (request, ..) = owner.put().unwrap();
    let told = PutOutcome::InDoubt("500".to_owned());
    owner.tell(ExactlyOnceInput::Answered { request, told });
    owner.at(3_000);
    let (look, _) = owner.look().unwrap();
    let seen = Err("503".to_owned());
    owner.tell(ExactlyOnceInput::Scanned { look, seen });
    owner.at(5_000);
    let (look, after) = owner.look().unwrap();
    assert_eq!(after, None);
    let seen = looked(vec![seen_by_others()]);
    owner.tell(ExactlyOnceInput::Scanned { look, seen });
    assert_eq!(owner.arrived().0, [] as [u64; 0]);
    owner.confirmed_ms = Some(5_500);
    owner.at(6_000);
    assert_eq!(owner.put().unwrap().1, [1]);
}

fn seen_by_others() -> ScannedRecord {
    seen(4, "a", "somebody else's")
}

#[test]
fn rule_13_a_new_owner_waits_until_the_former_ones_requests_have_landed_or_died_and_looks() {
    let (mut former, mut marks) = Owner::first();
    for (number, key) in [(1, "a"), (2, "b"), (3, "c")] {
        former.offer(number, key, "x");
    }
    let (request, ..) = former.put().unwrap();
    let told = PutOutcome::Each(vec![taken(10)]);
    former.tell(ExactlyOnceInput::Answered { request, told });
    marks.extend(former.arrived().1);
    // Two and three are under way as the next one takes over, and two will land.
    let mut next = Owner::takes_over(4_000, &marks, &[2, 3]);
    next.offer(2, "b", "x");
    next.offer(3, "c", "x");
    next.offer(4, "d", "x");
    assert_eq!((next.put(), next.look()), (None, None));
    next.at(4_000 + 5_000 + 1_000 + 1_999);
    assert_eq!((next.put(), next.look()), (None, None));
    next.at(12_000);
    let (look, after) = next.look().unwrap();
    assert_eq!(after, Some("10".to_owned()));
    let seen = looked(vec![seen(11, "b", "x")]);
    next.tell(ExactlyOnceInput::Scanned { look, seen });
    assert_eq!(next.arrived().0, [2]);
    next.confirmed_ms = Some(12_000);
    next.at(12_001);
    assert_eq!(next.put().unwrap().1, [3, 4]);
}

#[test]
fn a_former_owner_whose_requests_took_longer_is_waited_for_as_long() {
    let mut marks = vec![EgressMark {
        name: "request-timeout".into(),
        value: Some("9000".into()),
    }];
    let (_, first) = Owner::first();
    marks.extend(first.into_iter().filter(|mark| &*mark.name == "since"));
    let mut next = Owner::takes_over(0, &marks, &[1]);
    next.offer(1, "a", "x");
    next.at(15_999);
    assert_eq!(next.look(), None);
    next.at(16_000);
    let (look, _) = next.look().unwrap();
    let seen = looked(vec![]);
    next.tell(ExactlyOnceInput::Scanned { look, seen });
    let (_, marks) = next.arrived();
    let told = marks.iter().find(|mark| &*mark.name == "request-timeout");
    assert_eq!(told.unwrap().value.as_deref(), Some(&b"1000"[..]));
}

#[test]
fn records_that_come_together_leave_together() {
    let (mut owner, _) = Owner::first();
    let offered = [(1, "a"), (2, "b")];
    let offered = offered.map(|(number, key)| (number, Ok(record(number, key, "x"))));
    owner.tell(ExactlyOnceInput::Offered(offered.into()));
    assert_eq!(owner.put().unwrap().1, [1, 2]);
}

#[test]
fn a_record_that_never_can_be_put_is_refused_whenever_it_comes() {
    let (_, marks) = Owner::first();
    let mut owner = Owner::takes_over(0, &marks, &[1, 2]);
    let record = Err("too large".to_owned());
    owner.tell(ExactlyOnceInput::Offered(vec![(1, record)]));
    let refused =
        |output: &ExactlyOnceOutput| matches!(output, ExactlyOnceOutput::Refused { number: 1, .. });
    assert!(owner.outputs.iter().any(refused));
    owner.offer(2, "a", "x");
    owner.at(8_000);
    assert!(owner.look().is_some(), "the other one may be there");
}

/// What becomes of a request to a stream that is moody.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Answered,
    Throttled,
    LandsWithoutAnswer,
    Dies,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Answered),
        1 => Just(Fate::Throttled),
        1 => Just(Fate::LandsWithoutAnswer),
        1 => Just(Fate::Dies),
    ]
}

type Outbox = BTreeMap<u64, (u8, String)>;

fn commit(
    uncommitted: &mut Vec<(Vec<u64>, Vec<EgressMark>)>,
    outbox: &mut Outbox,
    durable: &mut BTreeMap<Arc<str>, EgressMark>,
) {
    for (numbers, marks) in uncommitted.drain(..) {
        outbox.retain(|number, _| !numbers.contains(number));
        for mark in marks {
            match mark.value {
                Some(_) => durable.insert(mark.name.clone(), mark),
                None => durable.remove(&mark.name),
            };
        }
    }
}

proptest! {
    /// Owners follow each other, each with what was durable of the one before; what they acknowledged last may be lost.
    #[test]
    fn whatever_becomes_of_requests_and_owners_the_stream_holds_each_record_once_and_in_order(
        fates in proptest::collection::vec(fate(), 1..60),
        lives in proptest::collection::vec(1..20usize, 1..5),
        keys in proptest::collection::vec(0..3u8, 1..25),
    ) {
        let mut fates = fates.into_iter();
        let mut lives = lives.into_iter();
        let mut stream: Vec<(u8, String)> = Vec::new();
        let mut outbox = Outbox::new();
        for (number, key) in (1..).zip(&keys) {
            // Some are equal.
            outbox.insert(number, (*key, format!("{}", number / 2)));
        }
        let all = outbox.clone();
        let mut durable: BTreeMap<Arc<str>, EgressMark> = BTreeMap::new();
        let mut ms = 0;
        let mut begun = false;
        while !outbox.is_empty() {
            let steps = lives.next().unwrap_or(10_000);
            let known: Vec<EgressMark> = durable.values().cloned().collect();
            let left: Vec<u64> = match begun {
                true => outbox.keys().copied().collect(),
                false => Vec::new(),
            };
            begun = true;
            let mut owner = Owner::takes_over(ms, &known, &left);
            for (number, (key, data)) in outbox.clone() {
                owner.offer(number, &key.to_string(), &data);
            }
            // What arrived since the last commit.
            let mut uncommitted: Vec<(Vec<u64>, Vec<EgressMark>)> = Vec::new();
            for _ in 0..steps {
                owner.confirmed_ms = Some(owner.ms);
                while let Some(at) = owner.outputs.iter().position(|output| !matches!(output, ExactlyOnceOutput::WakeAt(_))) {
                    match owner.outputs.remove(at) {
                        ExactlyOnceOutput::Put { request, until_ms } => {
                            let lands = |stream: &mut Vec<(u8, String)>| -> Vec<PutResult> {
                                request.records.iter().map(|record| {
                                    let data = String::from_utf8(record.payload.data.to_vec()).unwrap();
                                    stream.push((record.payload.key.parse().unwrap(), data));
                                    taken(stream.len() as u64)
                                }).collect()
                            };
                            let id = request.id;
                            match fates.next().unwrap_or(Fate::Answered) {
                                Fate::Answered => {
                                    let told = PutOutcome::Each(lands(&mut stream));
                                    owner.tell(ExactlyOnceInput::Answered { request: id, told });
                                }
                                Fate::Throttled => {
                                    let results = request.records.iter().map(|_| PutResult::Throttled("slow".to_owned()));
                                    let told = PutOutcome::Each(results.collect());
                                    owner.tell(ExactlyOnceInput::Answered { request: id, told });
                                }
                                Fate::LandsWithoutAnswer => { lands(&mut stream); }
                                Fate::Dies => {}
                            }
                            prop_assert!(until_ms > owner.ms);
                        }
                        ExactlyOnceOutput::Scan { look, after, .. } => {
                            let from = after.shards.get("shard").map_or(0, |number| number.parse().unwrap());
                            let there = (1..).zip(&stream).skip(from);
                            let there = there.map(|(at, (key, data))| seen(at, &key.to_string(), data));
                            let seen = looked(there.collect());
                            owner.tell(ExactlyOnceInput::Scanned { look, seen });
                        }
                        ExactlyOnceOutput::Arrived { numbers, marks, confirm } => {
                            uncommitted.push((numbers, marks));
                            if confirm || uncommitted.len() > 2 {
                                commit(&mut uncommitted, &mut outbox, &mut durable);
                                if confirm {
                                    owner.tell(ExactlyOnceInput::NotesDurable);
                                }
                            }
                        }
                        ExactlyOnceOutput::Refused { .. } => prop_assert!(false, "nothing is refused"),
                        ExactlyOnceOutput::Remark(_) | ExactlyOnceOutput::WakeAt(_) => {}
                    }
                }
                let Some(wakes_at) = owner.wakes_at() else { break };
                owner.outputs.clear();
                let next = owner.ms.max(wakes_at);
                owner.at(next);
            }
            if lives.len() == 0 {
                commit(&mut uncommitted, &mut outbox, &mut durable);
            }
            ms = owner.ms + 1;
        }
        for key in 0..3 {
            let put: Vec<&String> = stream.iter().filter(|record| record.0 == key).map(|record| &record.1).collect();
            let wanted: Vec<&String> = all.values().filter(|record| record.0 == key).map(|record| &record.1).collect();
            prop_assert_eq!(put, wanted, "of key {}", key);
        }
    }
}
