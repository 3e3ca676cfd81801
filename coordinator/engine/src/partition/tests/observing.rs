//! Observations of a partition: traces, notices, lists and figures.

use satchel_protocol::reqreply::from_function::{
    DelayedInvocation, EgressMessage, Invocation, InvocationResponse,
};

use super::fixture::*;
use super::library::Library;
use crate::address::{Address, FunctionType};
use crate::endpoint::OnPoison;
use crate::input::{Administration, Input, Record};
use crate::invocation::Batch;
use crate::output::{AddressSummary, Answer};
use crate::partition::{Config, FunctionFigures, Notice, PauseCause};
use crate::position::ShardPosition;
use crate::trace::TraceParent;

/// A trace context that differs for each `number`.
fn trace(number: u8) -> TraceParent {
    TraceParent {
        trace_id: [number; 16],
        parent_id: [number; 8],
        flags: 1,
    }
}

/// Returns the trace contexts of a batch's messages.
fn traces(batch: &Batch) -> Vec<Option<TraceParent>> {
    batch.messages.iter().map(|it| it.trace).collect()
}

fn traced_send(fixture: &mut Fixture, id: &str, text: &str, number: Option<u8>) {
    fixture.trace = number.map(trace);
    fixture.send(id, text);
    fixture.trace = None;
}

#[test]
fn a_trace_context_survives_a_crash_and_reaches_the_function_as_it_came() {
    let mut fixture = Fixture::new();
    traced_send(&mut fixture, "alice", "1", Some(7));
    traced_send(&mut fixture, "bob", "2", None);
    fixture.settle();
    fixture.crash();
    fixture.settle();
    let batches = fixture.batches();
    let of = |id: &str| {
        let batch = batches.iter().find(|batch| batch.target == address(id));
        batch.unwrap()
    };
    assert_eq!(traces(of("alice")), [Some(trace(7))]);
    assert_eq!(traces(of("bob")), [None]);
    let wire = format!("{:?}", of("alice").to_wire());
    assert!(wire.contains(&trace(7).to_string()), "{wire}");
}

#[test]
fn an_id_does_not_depend_on_the_trace_context() {
    let mut ids = [None, Some(1)].map(|number| {
        let mut fixture = Fixture::new();
        traced_send(&mut fixture, "alice", "1", number);
        fixture.batch().messages[0].id.clone()
    });
    ids.sort();
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn what_a_function_sends_has_the_trace_context_of_the_message_that_caused_it() {
    let mut fixture = Fixture::new();
    traced_send(&mut fixture, "alice", "0", None);
    let first = fixture.batch();
    traced_send(&mut fixture, "alice", "1", Some(1));
    traced_send(&mut fixture, "alice", "2", Some(2));
    fixture.complete(first.attempt, nothing());
    let batch = fixture.batch();
    assert_eq!(traces(&batch), [Some(trace(1)), Some(trace(2))]);
    let to = |id: &str, cause| Invocation {
        cause,
        ..message_to(&address(id), "next")
    };
    fixture.complete(
        batch.attempt,
        effects(InvocationResponse {
            // The cause of the last one is unknown, and the batch has two contexts.
            outgoing_messages: vec![to("bob", 2), to("carol", 0)],
            delayed_invocations: vec![DelayedInvocation {
                cause: 1,
                ..delayed("dave", 10, "later", "")
            }],
            outgoing_egresses: vec![EgressMessage {
                cause: 2,
                ..egress("out", "record")
            }],
            ..Default::default()
        }),
    );
    fixture.settle();
    fixture.crash();
    fixture.later(10_000);
    fixture.settle();
    let mut sent: Vec<_> = fixture
        .batches()
        .iter()
        .map(|batch| (batch.target.id.to_string(), traces(batch)))
        .collect();
    sent.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(
        sent,
        [
            ("bob".to_owned(), vec![Some(trace(2))]),
            ("carol".to_owned(), vec![None]),
            ("dave".to_owned(), vec![Some(trace(1))]),
        ]
    );
    let emitted = fixture.emissions();
    assert!(!emitted.is_empty());
    assert!(emitted.iter().all(|record| record.trace == Some(trace(2))));
}

#[test]
fn without_a_known_cause_a_context_that_the_whole_batch_shares_is_passed_on() {
    let mut fixture = Fixture::new();
    traced_send(&mut fixture, "alice", "1", Some(3));
    let batch = fixture.batch();
    let next = InvocationResponse {
        outgoing_messages: vec![message_to(&address("bob"), "next")],
        ..Default::default()
    };
    fixture.complete(batch.attempt, effects(next));
    assert_eq!(traces(&fixture.batch()), [Some(trace(3))]);
}

#[test]
fn a_retried_dead_letter_keeps_the_trace_context_of_its_message() {
    let mut fixture = Fixture::new();
    traced_send(&mut fixture, "alice", "1", Some(5));
    fail_until_given_up(&mut fixture, "it panicked");
    let [Notice::DeadLetter { id, .. }] = notices(&mut fixture)[..] else {
        panic!("one dead letter");
    };
    fixture.settle();
    fixture.crash();
    fixture.administer(Administration::RetryDeadLetter(id));
    assert_eq!(traces(&fixture.batch()), [Some(trace(5))]);
}

#[test]
fn a_record_in_satchels_envelope_has_its_trace_context_and_any_other_record_none() {
    let mut fixture = Fixture::new();
    let id = "ab".repeat(16);
    let context = trace(6);
    let enclosed = format!(
        "{}{id}{}{context}\",\"data\":1}}",
        TraceParent::ENVELOPE_HEAD,
        TraceParent::ENVELOPE_FIELD
    );
    fixture.handle(Input::ShardFound {
        shard: shard(),
        start: ShardPosition::Beginning,
    });
    let records = [(&*enclosed, Some(context)), ("{\"data\":1}", None)];
    for (number, (text, expected)) in (1_u64..).zip(records) {
        fixture.handle(Input::RecordsRead {
            shard: shard(),
            records: vec![Record {
                sequence: number.into(),
                sub_sequence: 0,
                trace: None,
                headers: None,
                key: "alice".into(),
                routed: Ok(vec![(address("alice"), value(text))]),
            }],
        });
        fixture.commit();
        let batch = fixture.batch();
        assert_eq!(traces(&batch), [expected], "{text}");
        fixture.complete(batch.attempt, nothing());
    }
}

fn notices(fixture: &mut Fixture) -> Vec<Notice> {
    let (notices, missed) = fixture.partition.take_notices();
    assert_eq!(missed, 0);
    notices
}

/// Fails every batch of alice until the address gives up on its message.
fn fail_until_given_up(fixture: &mut Fixture, reason: &str) {
    for _ in 0..3 {
        let attempt = fixture.batch().attempt;
        fixture.fail(attempt, reason);
        fixture.later(1_000);
    }
}

#[test]
fn a_dead_letter_is_noticed_once_with_function_id_and_reason() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "1");
    fail_until_given_up(&mut fixture, "it panicked");
    let [
        Notice::DeadLetter {
            id,
            function,
            egress: None,
            attempts: 3,
            reason,
        },
    ] = &notices(&mut fixture)[..]
    else {
        panic!("one dead letter");
    };
    assert_eq!(function.as_ref(), Some(&address("alice").function));
    assert_eq!(reason, "it panicked");
    let shown = fixture.dead_letters();
    assert_eq!(shown.len(), 1);
    let retried = fixture.administer(Administration::RetryDeadLetter(*id));
    assert_eq!(retried, Some(Answer::Done), "the id is the letter's");
    assert_eq!(notices(&mut fixture), []);
}

#[test]
fn a_suspension_and_its_end_are_noticed() {
    let mut fixture = Fixture::with(config(OnPoison::Suspend));
    fixture.send("alice", "1");
    fail_until_given_up(&mut fixture, "poison");
    let address = address("alice");
    let suspended = Notice::AddressSuspended {
        address: address.clone(),
        reason: "poison".to_owned(),
    };
    assert_eq!(notices(&mut fixture), [suspended]);
    fixture.administer(Administration::Resume(address.clone()));
    assert_eq!(notices(&mut fixture), [Notice::AddressResumed { address }]);
}

#[test]
fn an_answer_that_is_not_accepted_is_noticed() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "1");
    let attempt = fixture.batch().attempt;
    fixture.complete(attempt, set_seen("undeclared"));
    let noticed = notices(&mut fixture);
    // No retry can help, so the message is a dead letter at once.
    let [
        Notice::AnswerRejected { function, reason },
        Notice::DeadLetter { .. },
    ] = &noticed[..]
    else {
        panic!("one rejected answer: {noticed:?}");
    };
    assert_eq!(*function, address("alice").function);
    assert!(reason.contains("was never declared"), "{reason}");
}

#[test]
fn a_pause_of_ingress_is_noticed_with_its_cause_and_so_is_its_end() {
    let mut fixture = Fixture::new();
    let large = "x".repeat(9_000);
    fixture.find_shard(crate::position::ShardPosition::Beginning);
    for number in 0..12 {
        fixture.send(&number.to_string(), &large);
    }
    let cause = PauseCause::PendingBytes;
    assert_eq!(notices(&mut fixture), [Notice::IngressPaused { cause }]);
    for batch in fixture.batches() {
        fixture.complete(batch.attempt, nothing());
    }
    assert_eq!(notices(&mut fixture), [Notice::IngressResumed]);
}

#[test]
fn notices_that_nobody_takes_are_bounded_and_counted() {
    let mut fixture = Fixture::new();
    let unknown = Address::new(FunctionType::new("nowhere", "function"), "1");
    let message = message_to(&unknown, "lost");
    for round in 0..3 {
        fixture.send("alice", &round.to_string());
        let attempt = fixture.batch().attempt;
        let answer = InvocationResponse {
            outgoing_messages: vec![message.clone(); 400],
            ..Default::default()
        };
        fixture.complete(attempt, effects(answer));
    }
    let (kept, missed) = fixture.partition.take_notices();
    assert_eq!((kept.len(), missed), (1024, 3 * 400 - 1024));
    assert_eq!(fixture.partition.take_notices(), (vec![], 0));
}

fn list(bucket: u16, prefix: &str, after: Option<Address>, limit: usize) -> Administration {
    Administration::ListAddresses {
        bucket,
        function: Some("example/greeter".into()),
        prefix: prefix.into(),
        after,
        limit,
    }
}

fn listed(answer: Option<Answer>) -> Vec<AddressSummary> {
    match answer {
        Some(Answer::Addresses(addresses)) => addresses,
        other => panic!("a list of addresses: {other:?}"),
    }
}

fn ids(addresses: &[AddressSummary]) -> Vec<String> {
    addresses
        .iter()
        .map(|it| it.address.id.to_string())
        .collect()
}

#[test]
fn addresses_are_listed_bucket_by_bucket_in_pages_in_the_order_of_their_ids() {
    let mut fixture = Fixture::new();
    let mut names: Vec<String> = (0..40).map(|number| format!("user-{number:02}")).collect();
    names.push("other".to_owned());
    for name in &names {
        fixture.send(name, "1");
    }
    let mut found = Vec::new();
    for bucket in 0..4 {
        let mut after = None;
        loop {
            let page = listed(fixture.administer(list(bucket, "user-", after, 3)));
            assert!(
                page.iter()
                    .all(|it| it.in_flight && it.backlog_messages == 1)
            );
            let page_ids = ids(&page);
            assert!(page_ids.is_sorted());
            found.extend(page_ids);
            match page.last() {
                Some(last) if page.len() == 3 => after = Some(last.address.clone()),
                _ => break,
            }
        }
    }
    found.sort();
    names.retain(|name| name != "other");
    assert_eq!(found, names, "each one once");
    let other = Administration::ListAddresses {
        bucket: 0,
        function: Some("example/other".into()),
        prefix: "".into(),
        after: None,
        limit: 3,
    };
    assert_eq!(listed(fixture.administer(other)), []);
    assert!(matches!(
        fixture.administer(list(4, "", None, 1)),
        Some(Answer::NotFound(_))
    ));
}

#[test]
fn a_list_loads_its_bucket_first() {
    let mut library = Library::new(Config {
        memory_limit_bytes: Some(1),
        ..config(OnPoison::DeadLetter)
    });
    let id = library.id(1, 0);
    library.set_seen(&id, "before");
    library.snapshot();
    assert_eq!(
        library.fixture.partition.function_figures(1).len(),
        0,
        "the bucket is not in memory"
    );
    assert_eq!(library.fixture.administer(list(1, "", None, 10)), None);
    library.load(1);
    library.fixture.settle();
    let answers = library.fixture.answers();
    let page = listed(answers.into_iter().next().map(|(_, answer)| answer));
    assert_eq!(ids(&page), [id]);
    assert_eq!((page[0].states, page[0].backlog_messages), (1, 0));
}

#[test]
fn figures_of_a_function_are_the_sums_over_the_buckets() {
    let mut fixture = Fixture::new();
    for id in ["alice", "bob", "carol"] {
        fixture.send(id, "1");
    }
    fixture.send("alice", "2");
    let batches = fixture.batches();
    let bob = batches.iter().find(|batch| batch.target == address("bob"));
    fixture.fail(bob.unwrap().attempt, "not now");
    let mut sum = FunctionFigures::default();
    for bucket in 0..4 {
        for (function, figures) in fixture.partition.function_figures(bucket) {
            assert_eq!(function, address("alice").function);
            sum.add(&figures);
        }
    }
    assert_eq!(
        (
            sum.addresses,
            sum.backlog_messages,
            sum.in_flight,
            sum.backing_off
        ),
        (3, 4, 2, 1)
    );
    assert!(sum.backlog_bytes > 0 && sum.suspended == 0 && sum.dead_letters == 0);
    assert!(fixture.partition.function_figures(4).is_empty());
    fixture.handle(Input::TimeReached);
}
