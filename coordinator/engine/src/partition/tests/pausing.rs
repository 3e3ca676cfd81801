//! Pauses by a person: of an ingress and of a function type.

use super::fixture::*;
use crate::address::FunctionType;
use crate::endpoint::OnPoison;
use crate::input::{Administration, Input, Verb};
use crate::output::{Answer, Output, Stoppages};
use crate::position::ShardPosition;
use crate::queue::{QueuedId, QueuedMessage};

fn after(number: u64) -> ShardPosition {
    ShardPosition::After {
        sequence: number.into(),
        sub_sequence: 0,
    }
}

impl Fixture {
    fn with_ingress() -> Self {
        let mut config = config(OnPoison::DeadLetter);
        config.ingresses = ["example/in".into()].into();
        Self::with(config)
    }

    fn pause_ingress(&mut self) {
        let paused = self.administer(Administration::PauseIngress {
            ingress: "example/in".into(),
            reason: "a flood".into(),
        });
        assert_eq!(paused, Some(Answer::Done));
    }

    fn resume_ingress(&mut self) -> Option<Answer> {
        self.administer(Administration::ResumeIngress("example/in".into()))
    }

    /// Takes the pauses of the ingress that were announced.
    fn announced(&mut self) -> Vec<bool> {
        let mut announced = Vec::new();
        self.outputs.retain(|output| match output {
            Output::SetIngressPause { paused, .. } => {
                announced.push(*paused);
                false
            }
            _ => true,
        });
        announced
    }

    fn paused_ingresses(&self) -> Vec<(String, String)> {
        let Stoppages {
            paused_ingresses, ..
        } = self.partition.stoppages();
        let stoppages = paused_ingresses.into_iter();
        stoppages.map(|it| (it.name, it.reason)).collect()
    }
}

fn greeter() -> FunctionType {
    FunctionType::new("example", "greeter")
}

fn pause_greeter() -> Administration {
    Administration::PauseFunction {
        function: greeter(),
        reason: "an incident".into(),
    }
}

#[test]
fn nothing_is_applied_after_the_pause_and_everything_once_and_in_order_after_it() {
    let mut fixture = Fixture::with_ingress();
    fixture.find_shard(ShardPosition::Beginning);
    fixture.settle();
    assert_eq!(fixture.reads(), [ShardPosition::Beginning]);
    fixture.read("alice", 1..=2);
    let batch = fixture.batch();
    fixture.complete(batch.attempt, nothing());
    fixture.pause_ingress();
    assert_eq!(fixture.announced(), [true]);
    let expected = [("example/in".to_owned(), "a flood".to_owned())];
    assert_eq!(fixture.paused_ingresses(), expected);

    // The reader had these on the way.
    fixture.read("alice", 3..=4);
    fixture.handle(Input::ShardQuiet {
        shard: shard(),
        until_ms: 5_000,
    });
    fixture.settle();
    assert_eq!(fixture.batches(), []);
    assert_eq!(fixture.plan_of_paused(), [after(2)]);

    assert_eq!(fixture.resume_ingress(), Some(Answer::Done));
    assert_eq!(fixture.announced(), [false]);
    assert_eq!(fixture.paused_ingresses(), []);
    let batch = fixture.batch();
    assert_eq!(texts(&batch), ["3", "4"]);
    fixture.complete(batch.attempt, nothing());
    fixture.read("alice", 4..=5);
    assert_eq!(texts(&fixture.batch()), ["5"]);
    assert!(matches!(
        fixture.resume_ingress(),
        Some(Answer::NotFound(_))
    ));
}

impl Fixture {
    /// Returns the durable positions in the log.
    fn plan_of_paused(&self) -> Vec<ShardPosition> {
        let changes = self.log.iter().flat_map(|delta| &delta.changes);
        let position = |change: &crate::durable::Change| match &change.value {
            Some(crate::durable::Value::Shard(position)) => Some(position.clone()),
            _ => None,
        };
        changes.filter_map(position).last().into_iter().collect()
    }
}

#[test]
fn a_pause_of_an_ingress_outlives_its_owner_and_reading_continues_at_the_position() {
    let mut fixture = Fixture::with_ingress();
    fixture.find_shard(ShardPosition::Beginning);
    fixture.settle();
    fixture.read("alice", 1..=2);
    let batch = fixture.batch();
    fixture.complete(batch.attempt, nothing());
    fixture.settle();
    fixture.pause_ingress();
    fixture.read("alice", 3..=4);
    fixture.settle();
    fixture.crash();
    assert_eq!(fixture.announced(), [true], "the new owner knows");
    assert_eq!(fixture.paused_ingresses().len(), 1);
    fixture.find_shard(ShardPosition::Beginning);
    fixture.handle(Input::StreamFound {
        ingress: shard().ingress,
        stream: shard().stream,
    });
    fixture.settle();
    assert_eq!(fixture.reads(), [], "reading waits");
    let planned = |output: &Output| matches!(output, Output::Plan { .. });
    assert!(!fixture.outputs.iter().any(planned));
    assert_eq!(fixture.resume_ingress(), Some(Answer::Done));
    fixture.settle();
    assert_eq!(fixture.reads(), [after(2)]);
    assert!(fixture.outputs.iter().any(planned));
    fixture.read("alice", 3..=4);
    fixture.commit();
    assert_eq!(texts(&fixture.batch()), ["3", "4"]);
}

#[test]
fn messages_of_a_paused_queue_are_neither_applied_nor_deleted() {
    let mut fixture = Fixture::with_ingress();
    let receive = |fixture: &mut Fixture, numbers: std::ops::Range<u8>| {
        let message = |number: u8| QueuedMessage {
            id: QueuedId([number; 16]),
            name: number.to_string().into(),
            routed: Ok(vec![(address("alice"), value(&number.to_string()))]),
            trace: None,
        };
        fixture.handle(Input::MessagesReceived {
            ingress: "example/in".into(),
            messages: numbers.map(message).collect(),
            keep_ms: 60_000,
        });
    };
    fixture.handle(Input::QueueFound {
        ingress: "example/in".into(),
    });
    fixture.settle();
    fixture.pause_ingress();
    receive(&mut fixture, 1..3);
    fixture.settle();
    assert_eq!(fixture.batches(), []);
    let deletable = |output: &Output| matches!(output, Output::Deletable { .. });
    assert!(!fixture.outputs.iter().any(deletable));
    assert!(
        fixture.partition.gauges().pending_bytes > 0,
        "it is counted"
    );
    fixture.resume_ingress();
    fixture.settle();
    assert_eq!(texts(&fixture.batch()), ["1", "2"]);
    assert!(fixture.outputs.iter().any(deletable));
    // A delivery meanwhile is known.
    receive(&mut fixture, 2..3);
    assert_eq!(fixture.partition.counts().repeated_records, 1);
}

#[test]
fn an_unknown_ingress_and_an_unserved_function_are_refused_by_name() {
    let mut fixture = Fixture::with_ingress();
    let paused = fixture.administer(Administration::PauseIngress {
        ingress: "example/other".into(),
        reason: "".into(),
    });
    let unknown = "no ingress is named example/other".to_owned();
    assert_eq!(paused, Some(Answer::NotFound(unknown)));
    let function = FunctionType::new("nowhere", "greeter");
    let paused = fixture.administer(Administration::PauseFunction {
        function: function.clone(),
        reason: "".into(),
    });
    assert_eq!(paused, Some(Answer::UnknownFunction(function)));
    let resumed = fixture.administer(Administration::ResumeFunction(greeter()));
    let not = "the function example/greeter is not paused".to_owned();
    assert_eq!(resumed, Some(Answer::NotFound(not)));
}

#[test]
fn messages_of_a_paused_function_wait_over_a_crash_and_calls_are_rejected_at_once() {
    let mut fixture = Fixture::new();
    let answered = fixture.call_with_key("alice", "0", "key");
    let first = fixture.batch();
    fixture.complete(first.attempt, reply(&first, "hi"));
    fixture.settle();
    assert_eq!(
        fixture.answer_to(answered),
        Some(Answer::Replied(value("hi")))
    );
    fixture.send("alice", "1");
    let flying = fixture.batch();
    assert_eq!(fixture.administer(pause_greeter()), Some(Answer::Done));
    fixture.send("alice", "2");
    fixture.send("bob", "3");
    fixture.complete(flying.attempt, emit("1"));
    fixture.settle();
    assert_eq!(fixture.emissions().len(), 1, "what was in flight counts");
    assert_eq!(fixture.batches(), []);

    let paused = "the function example/greeter is paused: an incident".to_owned();
    let called = fixture.call("alice", "4");
    assert_eq!(
        fixture.answer_to(called),
        Some(Answer::Paused(paused.clone()))
    );
    let repeated = fixture.request(Verb::Call, "alice", "0", Some("key".into()));
    fixture.settle();
    assert_eq!(
        fixture.answer_to(repeated),
        Some(Answer::Replied(value("hi"))),
        "a known outcome is returned"
    );

    fixture.crash();
    fixture.later(20_000);
    fixture.settle();
    assert_eq!(fixture.batches(), [], "the pause is durable");
    let Some(Answer::Address(view)) = fixture.administer(Administration::Inspect(address("bob")))
    else {
        panic!("an address");
    };
    assert_eq!(view.function_stopped, Some(paused));
    let resumed = fixture.administer(Administration::ResumeFunction(greeter()));
    assert_eq!(resumed, Some(Answer::Done));
    fixture.settle();
    let mut resumed: Vec<_> = fixture.batches().iter().map(|it| texts(it)).collect();
    resumed.sort();
    assert_eq!(resumed, [["2"], ["3"]]);
    assert_eq!(fixture.partition.stoppages(), Stoppages::default());
}

#[test]
fn an_attempt_that_the_crash_guard_counted_is_withdrawn_when_its_function_is_paused() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "suspected");
    fixture.settle();
    for _ in 0..2 {
        fixture.crash();
        fixture.settle();
    }
    // The attempt is counted, and not durable yet, when the pause comes.
    fixture.crash();
    fixture.commit();
    fixture.administer(pause_greeter());
    fixture.settle();
    fixture.batches();
    for _ in 0..3 {
        fixture.administer(Administration::ResumeFunction(greeter()));
        fixture.administer(pause_greeter());
        fixture.settle();
        fixture.outputs.clear();
    }
    fixture.settle();
    assert_eq!(fixture.dead_letters(), []);
}
