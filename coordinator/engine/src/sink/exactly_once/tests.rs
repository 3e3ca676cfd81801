//! Behaviour with a stream of one shard, over several owners.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::sink::reconcile::Recognition;

const TIMING: ExactlyOnceTiming = ExactlyOnceTiming {
    confirmation_ms: 5_000,
    request_timeout_ms: 1_000,
    settling_ms: 2_000,
    ordering_ms: 800,
};

const LIMITS: Limits = Limits {
    records_per_request: 10,
    bytes_per_request: 1_000,
    requests_in_flight: 4,
    records_in_flight: 100,
};

/// An egress, and its outputs that no test has taken yet.
struct Owner {
    sink: ExactlyOnceSink,
    ms: u64,
    confirmed_ms: Option<u64>,
    outputs: Vec<ExactlyOnceOutput>,
}

impl Owner {
    /// Takes over at `ms` with these durable marks and these records in the outbox.
    fn takes_over(ms: u64, marks: &[EgressMark], inherited: &[u64]) -> Self {
        let marks = marks.iter().filter_map(|mark| {
            let value = mark.value.as_deref()?;
            Some((&*mark.name, value))
        });
        let positions = Positions::read(marks, Recognition::Content).unwrap();
        let inherited = inherited.iter().copied().collect();
        let mut owner = Self {
            sink: ExactlyOnceSink::new(TIMING, LIMITS, positions, inherited, ms, 7),
            ms,
            confirmed_ms: Some(ms),
            outputs: Vec::new(),
        };
        owner.handle(ExactlyOnceInput::TimeReached);
        owner
    }

    /// Creates the first owner, with its first marks durable.
    fn first() -> (Self, Vec<EgressMark>) {
        let mut owner = Self::takes_over(0, &[], &[]);
        let (_, marks) = owner.arrived();
        owner.handle(ExactlyOnceInput::MarksDurable);
        (owner, marks)
    }

    fn handle(&mut self, input: ExactlyOnceInput) {
        let now = Now {
            ms: self.ms,
            calendar_ms: 1_000_000 + self.ms,
            confirmed_ms: self.confirmed_ms,
        };
        self.sink.handle_input(now, input);
        self.outputs
            .extend(std::iter::from_fn(|| self.sink.poll_output()));
    }

    fn at(&mut self, ms: u64) {
        self.ms = ms;
        self.handle(ExactlyOnceInput::TimeReached);
    }

    fn offer(&mut self, number: u64, key: &str, data: &str) {
        let record = Ok(record(number, key, data));
        self.handle(ExactlyOnceInput::Offered(vec![(number, record)]));
    }

    /// Takes the put request: its id, the numbers of its records, and its time limit.
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

    /// Takes the scan request: its id, and the position in the shard after which to read.
    fn scan(&mut self) -> Option<(u64, Option<String>)> {
        let scan = |output: &ExactlyOnceOutput| matches!(output, ExactlyOnceOutput::Scan { .. });
        let at = self.outputs.iter().position(scan)?;
        match self.outputs.remove(at) {
            ExactlyOnceOutput::Scan { scan, after, .. } => {
                Some((scan, after.shards.get("shard").cloned()))
            }
            _ => None,
        }
    }

    /// Takes all acknowledged numbers and marks.
    fn arrived(&mut self) -> (Vec<u64>, Vec<EgressMark>) {
        let mut all = (Vec::new(), Vec::new());
        self.outputs.retain(|output| match output {
            ExactlyOnceOutput::Acknowledge { numbers, marks, .. } => {
                all.0.extend(numbers);
                all.1.extend(marks.clone());
                false
            }
            _ => true,
        });
        all
    }

    /// Takes the next output other than a wake-up.
    fn next_output(&mut self) -> Option<ExactlyOnceOutput> {
        let wakes = |output: &ExactlyOnceOutput| matches!(output, ExactlyOnceOutput::WakeAt(_));
        let at = self.outputs.iter().position(|output| !wakes(output))?;
        Some(self.outputs.remove(at))
    }

    fn answer(&mut self, request: u64, results: Vec<PutResult>) {
        let outcome = PutOutcome::Each(results);
        self.handle(ExactlyOnceInput::Answered { request, outcome });
    }

    fn wakes_at(&self) -> Option<u64> {
        self.outputs.iter().rev().find_map(|output| match output {
            ExactlyOnceOutput::WakeAt(at_ms) => Some(*at_ms),
            _ => None,
        })
    }
}

fn record(number: u64, key: &str, data: &str) -> Record<StreamRecord> {
    Record {
        number,
        destination: "stream".into(),
        key: Some(key.into()),
        bytes: data.len(),
        payload: StreamRecord {
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

fn scanned(sequence: u64, key: &str, data: &str) -> ScannedRecord {
    ScannedRecord {
        shard: "shard".to_owned(),
        sequence: sequence.to_string(),
        key: key.to_owned(),
        data: data.as_bytes().to_vec(),
    }
}

fn scan_result(records: Vec<ScannedRecord>) -> Result<ScanResult, String> {
    Ok(ScanResult {
        shards: vec!["shard".to_owned()],
        records,
    })
}

#[test]
fn rule_13_nothing_is_put_before_the_first_marks_are_durable() {
    let mut owner = Owner::takes_over(0, &[], &[]);
    owner.offer(1, "a", "x");
    assert_eq!(owner.put(), None);
    let confirms = |output: &ExactlyOnceOutput| {
        matches!(output, ExactlyOnceOutput::Acknowledge { confirm: true, .. })
    };
    assert!(owner.outputs.iter().any(confirms));
    let (_, marks) = owner.arrived();
    assert_eq!(marks.len(), 2, "since when, and how long a request takes");
    owner.handle(ExactlyOnceInput::MarksDurable);
    assert_eq!(owner.put(), Some((1, vec![1], 1_000)));
}

#[test]
fn rule_13_nothing_is_put_without_a_recent_confirmation_of_ownership() {
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
fn rule_13_a_record_without_a_timely_answer_is_scanned_for_and_put_again_only_if_missing() {
    let (mut owner, _) = Owner::first();
    owner.offer(1, "a", "x");
    owner.offer(2, "b", "y");
    let (request, numbers, _) = owner.put().unwrap();
    assert_eq!(numbers, [1]);
    let outcome = PutOutcome::Each(vec![taken(10)]);
    owner.handle(ExactlyOnceInput::Answered { request, outcome });
    assert_eq!(owner.arrived().0, [1]);
    let (request, numbers, until_ms) = owner.put().unwrap();
    assert_eq!((numbers, until_ms), (vec![2], 1_000));
    owner.offer(3, "c", "z");
    assert_eq!(owner.put(), None, "one request is under way to a stream");
    owner.at(1_000);
    // The answer comes too late to count.
    let outcome = PutOutcome::Each(vec![taken(11)]);
    owner.handle(ExactlyOnceInput::Answered { request, outcome });
    assert_eq!(owner.arrived(), (vec![], vec![]));
    owner.at(2_999);
    assert_eq!(owner.scan(), None);
    owner.at(3_000);
    let (scan, after) = owner.scan().unwrap();
    assert_eq!(
        after, None,
        "what was put just before the request may follow it in the shard"
    );
    let result = scan_result(vec![scanned(11, "b", "y")]);
    owner.handle(ExactlyOnceInput::Scanned { scan, result });
    assert_eq!(owner.arrived().0, [2]);
    assert_eq!(owner.put().unwrap().1, [3]);
}

#[test]
fn rule_13_a_record_in_doubt_with_a_smaller_number_than_the_one_before_it_is_found() {
    let (mut owner, _) = Owner::first();
    owner.offer(1, "a", "x");
    let (request, ..) = owner.put().unwrap();
    owner.answer(request, vec![taken(50)]);
    owner.at(800);
    owner.confirmed_ms = Some(800);
    owner.offer(2, "a", "x");
    let (request, ..) = owner.put().unwrap();
    owner.answer(request, vec![taken(60)]);
    assert_eq!(owner.arrived().0, [1, 2]);
    owner.offer(3, "b", "y");
    let (request, ..) = owner.put().unwrap();
    let outcome = PutOutcome::InDoubt("500".to_owned());
    owner.handle(ExactlyOnceInput::Answered { request, outcome });
    owner.at(3_800);
    let (scan, after) = owner.scan().unwrap();
    assert_eq!(
        after,
        Some("50".to_owned()),
        "the record acknowledged the margin before the request is the last to begin from"
    );
    let result = scan_result(vec![scanned(55, "b", "y"), scanned(60, "a", "x")]);
    owner.handle(ExactlyOnceInput::Scanned { scan, result });
    assert_eq!(owner.arrived().0, [3]);
}

#[test]
fn rule_13_an_acknowledged_record_is_not_taken_for_an_equal_one_in_doubt() {
    let (mut owner, mut marks) = Owner::first();
    owner.offer(1, "a", "x");
    let (request, ..) = owner.put().unwrap();
    owner.answer(request, vec![taken(50)]);
    marks.extend(owner.arrived().1);
    owner.offer(2, "a", "x");
    let (request, ..) = owner.put().unwrap();
    let outcome = PutOutcome::InDoubt("500".to_owned());
    owner.handle(ExactlyOnceInput::Answered { request, outcome });
    owner.at(3_000);
    // The request died: only the first record is in the stream.
    let (scan, _) = owner.scan().unwrap();
    let result = scan_result(vec![scanned(50, "a", "x")]);
    owner.handle(ExactlyOnceInput::Scanned { scan, result });
    assert_eq!(owner.arrived().0, [] as [u64; 0]);

    // The next owner knows it from the durable marks. Now the second record is there, too, with a
    // smaller number.
    let mut next = Owner::takes_over(4_000, &marks, &[2]);
    next.offer(2, "a", "x");
    next.at(12_000);
    let (scan, _) = next.scan().unwrap();
    let result = scan_result(vec![scanned(49, "a", "x"), scanned(50, "a", "x")]);
    next.handle(ExactlyOnceInput::Scanned { scan, result });
    assert_eq!(next.arrived().0, [2]);

    // Had it died, only the first would be there.
    let mut next = Owner::takes_over(4_000, &marks, &[2]);
    next.offer(2, "a", "x");
    next.at(12_000);
    let (scan, _) = next.scan().unwrap();
    let result = scan_result(vec![scanned(50, "a", "x")]);
    next.handle(ExactlyOnceInput::Scanned { scan, result });
    next.confirmed_ms = Some(12_000);
    next.at(12_001);
    assert_eq!(next.put().unwrap().1, [2]);
}

#[test]
fn an_acknowledgement_of_one_stream_moves_no_position_of_another() {
    let (mut owner, _) = Owner::first();
    let offer = |owner: &mut Owner, number, stream: &str| {
        let record = Record {
            destination: stream.into(),
            ..record(number, "a", "x")
        };
        owner.handle(ExactlyOnceInput::Offered(vec![(number, Ok(record))]));
        owner.put().unwrap().0
    };
    let request = offer(&mut owner, 1, "stream");
    owner.answer(request, vec![taken(50)]);
    let in_doubt = offer(&mut owner, 2, "stream");
    owner.at(900);
    let request = offer(&mut owner, 3, "other");
    owner.answer(request, vec![taken(7)]);
    let outcome = PutOutcome::InDoubt("500".to_owned());
    let request = in_doubt;
    owner.handle(ExactlyOnceInput::Answered { request, outcome });
    owner.at(3_000);
    assert_eq!(owner.scan().unwrap().1, None);
}

#[test]
fn a_failed_scan_is_retried_and_a_missing_record_is_put_again() {
    let (mut owner, _) = Owner::first();
    owner.offer(1, "a", "x");
    let (request, ..) = owner.put().unwrap();
    let outcome = PutOutcome::InDoubt("500".to_owned());
    owner.handle(ExactlyOnceInput::Answered { request, outcome });
    owner.at(3_000);
    let (scan, _) = owner.scan().unwrap();
    let result = Err("503".to_owned());
    owner.handle(ExactlyOnceInput::Scanned { scan, result });
    owner.at(5_000);
    let (scan, after) = owner.scan().unwrap();
    assert_eq!(after, None);
    let result = scan_result(vec![record_of_another_writer()]);
    owner.handle(ExactlyOnceInput::Scanned { scan, result });
    assert_eq!(owner.arrived().0, [] as [u64; 0]);
    owner.confirmed_ms = Some(5_500);
    owner.at(6_000);
    assert_eq!(owner.put().unwrap().1, [1]);
}

fn record_of_another_writer() -> ScannedRecord {
    scanned(4, "a", "of another writer")
}

#[test]
fn rule_13_a_new_owner_waits_for_the_former_owners_requests_and_scans() {
    let (mut former, mut marks) = Owner::first();
    for (number, key) in [(1, "a"), (2, "b"), (3, "c")] {
        former.offer(number, key, "x");
    }
    let (request, ..) = former.put().unwrap();
    let outcome = PutOutcome::Each(vec![taken(10)]);
    former.handle(ExactlyOnceInput::Answered { request, outcome });
    marks.extend(former.arrived().1);
    // Two and three are in flight when the next owner takes over, and two will land.
    let mut next = Owner::takes_over(4_000, &marks, &[2, 3]);
    next.offer(2, "b", "x");
    next.offer(3, "c", "x");
    next.offer(4, "d", "x");
    assert_eq!((next.put(), next.scan()), (None, None));
    next.at(4_000 + 5_000 + 1_000 + 1_999);
    assert_eq!((next.put(), next.scan()), (None, None));
    next.at(12_000);
    let (scan, _) = next.scan().unwrap();
    let result = scan_result(vec![scanned(10, "a", "x"), scanned(11, "b", "x")]);
    next.handle(ExactlyOnceInput::Scanned { scan, result });
    assert_eq!(next.arrived().0, [2]);
    next.confirmed_ms = Some(12_000);
    next.at(12_001);
    assert_eq!(next.put().unwrap().1, [3, 4]);
}

#[test]
fn a_former_owner_with_a_longer_request_timeout_is_waited_for_longer() {
    let mut marks = vec![EgressMark {
        name: "request-timeout".into(),
        value: Some("9000".into()),
    }];
    let (_, first) = Owner::first();
    marks.extend(first.into_iter().filter(|mark| &*mark.name == "since"));
    let mut next = Owner::takes_over(0, &marks, &[1]);
    next.offer(1, "a", "x");
    next.at(15_999);
    assert_eq!(next.scan(), None);
    next.at(16_000);
    let (scan, _) = next.scan().unwrap();
    let result = scan_result(vec![]);
    next.handle(ExactlyOnceInput::Scanned { scan, result });
    let (_, marks) = next.arrived();
    let outcome = marks.iter().find(|mark| &*mark.name == "request-timeout");
    assert_eq!(outcome.unwrap().value.as_deref(), Some(&b"1000"[..]));
}

#[test]
fn records_offered_together_are_put_together() {
    let (mut owner, _) = Owner::first();
    let offered = [(1, "a"), (2, "b")];
    let offered = offered.map(|(number, key)| (number, Ok(record(number, key, "x"))));
    owner.handle(ExactlyOnceInput::Offered(offered.into()));
    assert_eq!(owner.put().unwrap().1, [1, 2]);
}

#[test]
fn a_record_that_can_never_be_put_is_refused_in_every_phase() {
    let (_, marks) = Owner::first();
    let mut owner = Owner::takes_over(0, &marks, &[1, 2]);
    let record = Err("too large".to_owned());
    owner.handle(ExactlyOnceInput::Offered(vec![(1, record)]));
    let refused =
        |output: &ExactlyOnceOutput| matches!(output, ExactlyOnceOutput::Refuse { number: 1, .. });
    assert!(owner.outputs.iter().any(refused));
    owner.offer(2, "a", "x");
    owner.at(8_000);
    assert!(owner.scan().is_some(), "the other one may be there");
}

/// Fate of a request to an unreliable stream.
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
    /// Owners follow each other, each with the durable state of the one before. Acknowledgements
    /// that were not durable are lost. The shard orders records by arrival only coarsely, and many
    /// are equal.
    #[test]
    fn the_stream_holds_each_record_once_and_in_order_whatever_requests_and_owners_do(
        fates in proptest::collection::vec(fate(), 1..60),
        lives in proptest::collection::vec(1..20usize, 1..5),
        keys in proptest::collection::vec(0..3u8, 1..25),
        early_by in proptest::collection::vec(0..TIMING.ordering_ms, 1..10),
        same in 1..5u64,
    ) {
        let mut fates = fates.into_iter();
        let mut lives = lives.into_iter();
        let mut early_by = early_by.iter().cycle();
        // In the order of arrival, with their sequence numbers.
        let mut stream: Vec<(u64, u8, String)> = Vec::new();
        let mut outbox = Outbox::new();
        for (number, key) in (1..).zip(&keys) {
            outbox.insert(number, (*key, format!("{}", number / same)));
        }
        let all = outbox.clone();
        let mut durable: BTreeMap<Arc<str>, EgressMark> = BTreeMap::new();
        let mut ms = 0;
        let mut begun = false;
        while !outbox.is_empty() {
            let steps = lives.next().unwrap_or(10_000);
            let known: Vec<EgressMark> = durable.values().cloned().collect();
            let inherited: Vec<u64> = match begun {
                true => outbox.keys().copied().collect(),
                false => Vec::new(),
            };
            begun = true;
            let mut owner = Owner::takes_over(ms, &known, &inherited);
            for (number, (key, data)) in outbox.clone() {
                owner.offer(number, &key.to_string(), &data);
            }
            // Acknowledgements since the last commit.
            let mut uncommitted: Vec<(Vec<u64>, Vec<EgressMark>)> = Vec::new();
            for _ in 0..steps {
                owner.confirmed_ms = Some(owner.ms);
                while let Some(output) = owner.next_output() {
                    match output {
                        ExactlyOnceOutput::Put { request, until_ms } => {
                            let mut lands = |stream: &mut Vec<_>| -> Vec<PutResult> {
                                let records = request.records.iter();
                                let results = records.map(|record| {
                                    let StreamRecord { key, data, .. } = &record.payload;
                                    let data = String::from_utf8(data.to_vec()).unwrap();
                                    let early_ms = early_by.next().unwrap();
                                    let at_ms = owner.ms + TIMING.ordering_ms - early_ms;
                                    let sequence = at_ms * 1_000 + stream.len() as u64;
                                    stream.push((sequence, key.parse().unwrap(), data));
                                    taken(sequence)
                                });
                                results.collect()
                            };
                            let id = request.id;
                            match fates.next().unwrap_or(Fate::Answered) {
                                Fate::Answered => {
                                    let results = lands(&mut stream);
                                    owner.answer(id, results);
                                }
                                Fate::Throttled => {
                                    let slow = Outcome::Throttled("slow".to_owned());
                                    let slow = PutResult::NotTaken(slow);
                                    let results = request.records.iter().map(|_| slow.clone());
                                    owner.answer(id, results.collect());
                                }
                                Fate::LandsWithoutAnswer => { lands(&mut stream); }
                                Fate::Dies => {}
                            }
                            prop_assert!(until_ms > owner.ms);
                        }
                        ExactlyOnceOutput::Scan { scan, after, .. } => {
                            let after = after.shards.get("shard");
                            let from: u64 = after.map_or(0, |number| number.parse().unwrap());
                            let mut there: Vec<_> = stream.iter().collect();
                            there.sort();
                            let there = there.into_iter().filter(|it| it.0 > from);
                            let there = there
                                .map(|(at, key, data)| scanned(*at, &key.to_string(), data));
                            let result = scan_result(there.collect());
                            owner.handle(ExactlyOnceInput::Scanned { scan, result });
                        }
                        ExactlyOnceOutput::Acknowledge { numbers, marks, confirm } => {
                            uncommitted.push((numbers, marks));
                            if confirm || uncommitted.len() > 2 {
                                commit(&mut uncommitted, &mut outbox, &mut durable);
                                if confirm {
                                    owner.handle(ExactlyOnceInput::MarksDurable);
                                }
                            }
                        }
                        ExactlyOnceOutput::Refuse { .. } => {
                            prop_assert!(false, "nothing is refused");
                        }
                        ExactlyOnceOutput::Report(_) | ExactlyOnceOutput::WakeAt(_) => {}
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
            let put = stream.iter().filter(|(_, of, _)| *of == key).map(|(.., data)| data);
            let wanted = all.values().filter(|(of, _)| *of == key).map(|(_, data)| data);
            prop_assert_eq!(
                put.collect::<Vec<_>>(),
                wanted.collect::<Vec<_>>(),
                "of key {}",
                key
            );
        }
    }
}
