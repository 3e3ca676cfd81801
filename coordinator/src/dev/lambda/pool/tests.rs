use super::tick::Tick;
use std::time::Duration;

use super::*;

type Answer = oneshot::Receiver<Result<Bytes, InvokeError>>;

/// Pool with its time.
struct Story {
    pool: Pool,
    now: Instant,
}

impl Story {
    fn new(processes_max: usize) -> Self {
        Self {
            pool: Pool::new(processes_max),
            now: Instant::now(),
        }
    }

    fn after(&mut self, ms: u64) -> Tick {
        self.now += Duration::from_millis(ms);
        self.pool.tick(self.now)
    }

    fn submit(&mut self, payload: &'static str) -> Answer {
        let (reply, answer) = oneshot::channel();
        let invocation = Invocation {
            call: Call {
                request: Uuid::new_v4(),
                payload: payload.into(),
                timeout: Duration::from_secs(30),
                trace: None,
                client_context: None,
            },
            reply,
        };
        self.pool.submit(invocation, self.now);
        answer
    }

    fn start(&mut self) -> (ProcessId, watch::Receiver<Control>) {
        self.pool.add(self.now)
    }

    fn waits(&mut self, process: ProcessId) -> oneshot::Receiver<Delivery> {
        match self.pool.next(process, self.now) {
            Next::Wait(delivery) => delivery,
            other => panic!("{other:?}"),
        }
    }

    /// The process asks for a request, gets one, and confirms it.
    fn takes(&mut self, process: ProcessId) -> Delivery {
        let delivery = self.waits(process).try_recv().unwrap();
        self.pool.received(process, delivery.call.request);
        delivery
    }

    fn exits(&mut self, process: ProcessId) {
        self.pool.exited(process, "exit status: 1", self.now);
    }
}

fn unreachable_with(answer: &mut Answer) -> String {
    match answer.try_recv().unwrap() {
        Err(InvokeError::Unreachable(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn function_error(answer: &mut Answer) -> String {
    match answer.try_recv().unwrap() {
        Err(InvokeError::Function(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_goes_to_a_process_and_its_answer_comes_back() {
    let mut story = Story::new(2);
    let (process, control) = story.start();
    let mut waiting = story.waits(process);
    let mut answer = story.submit("one");
    let delivery = waiting.try_recv().unwrap();
    assert_eq!(delivery.call.payload, "one");
    assert_eq!(delivery.deadline, story.now + Duration::from_secs(30));
    assert_eq!(control.borrow().deadline, Some(delivery.deadline));
    assert!(
        story
            .pool
            .finish(process, delivery.call.request, Ok("done".into()))
    );
    assert_eq!(answer.try_recv().unwrap(), Ok("done".into()));
    assert_eq!(*control.borrow(), Control::default());
}

#[test]
fn requests_wait_in_order_for_a_process_that_holds_one() {
    let mut story = Story::new(1);
    let (process, _control) = story.start();
    let _answers = [story.submit("one"), story.submit("two")];
    let first = story.takes(process);
    assert_eq!(first.call.payload, "one");
    assert!(matches!(
        story.pool.next(process, story.now),
        Next::HoldsOne
    ));
    story
        .pool
        .finish(process, first.call.request, Ok("".into()));
    assert_eq!(story.takes(process).call.payload, "two");
}

#[test]
fn an_answer_to_another_request_is_dropped_and_counted() {
    let mut story = Story::new(2);
    let (one, _) = story.start();
    let (two, _) = story.start();
    let mut answer = story.submit("one");
    let held = story.takes(one).call.request;
    assert!(!story.pool.finish(two, held, Ok("foreign".into())));
    assert!(!story.pool.finish(one, Uuid::new_v4(), Ok("unknown".into())));
    assert!(story.pool.finish(one, held, Ok("right".into())));
    assert!(!story.pool.finish(one, held, Ok("again".into())));
    assert_eq!(answer.try_recv().unwrap(), Ok("right".into()));
    assert_eq!(story.pool.foreign_answers(), 3);
}

#[test]
fn a_request_that_did_not_arrive_is_delivered_again() {
    let mut story = Story::new(1);
    let (process, _control) = story.start();
    let _answer = story.submit("one");
    // The connection breaks before the process has the request.
    let lost = story.waits(process).try_recv().unwrap().call.request;
    let Next::Deliver(again) = story.pool.next(process, story.now) else {
        panic!("it was not delivered again");
    };
    assert_eq!(
        (again.call.request, again.call.payload),
        (lost, "one".into())
    );
}

#[test]
fn a_process_that_stopped_listening_is_passed_over() {
    let mut story = Story::new(2);
    let (one, _one) = story.start();
    let (two, _two) = story.start();
    let mut listens = story.waits(one);
    story.now += Duration::from_millis(1);
    drop(story.waits(two));
    let _answer = story.submit("one");
    assert_eq!(listens.try_recv().unwrap().call.payload, "one");
}

#[test]
fn a_process_that_takes_too_long_is_killed_and_answered_for() {
    let mut story = Story::new(1);
    let (process, control) = story.start();
    let mut answer = story.submit("one");
    let held = story.takes(process);
    story
        .pool
        .expire(process, held.deadline - Duration::from_millis(1));
    assert_eq!(control.borrow().end, None);
    story.pool.expire(process, held.deadline);
    assert_eq!(control.borrow().end, Some(End::AtOnce));
    assert_eq!(
        function_error(&mut answer),
        r#"{"errorMessage":"timed out after 30s","errorType":"Sandbox.Timedout"}"#
    );
    assert!(
        !story
            .pool
            .finish(process, held.call.request, Ok("late".into()))
    );
    assert!(story.after(0).start, "it is replaced");
}

#[test]
fn a_process_that_ends_with_a_request_fails_it_and_is_replaced_at_once() {
    let mut story = Story::new(1);
    let (process, _control) = story.start();
    let mut answer = story.submit("one");
    story.takes(process);
    story.exits(process);
    assert_eq!(
        function_error(&mut answer),
        serde_json::json!({
            "errorMessage": "the handler process ended while it held the request: exit status: 1",
            "errorType": "Runtime.ExitError",
        })
        .to_string()
    );
    assert!(story.after(0).start);
}

#[test]
fn one_process_is_there_from_the_start_and_more_when_requests_wait() {
    let mut story = Story::new(2);
    assert!(story.after(0).start);
    let (one, _one) = story.start();
    assert!(!story.after(0).start);
    let _answers = [
        story.submit("one"),
        story.submit("two"),
        story.submit("three"),
    ];
    assert!(!story.after(1_000).start, "one is starting");
    story.takes(one);
    assert!(story.after(0).start);
    let (two, _two) = story.start();
    story.takes(two);
    assert!(
        !story.after(1_000).start,
        "there are as many as there may be"
    );
}

#[test]
fn a_short_burst_starts_no_process() {
    let mut story = Story::new(2);
    let (one, _one) = story.start();
    let _answers = [story.submit("one"), story.submit("two")];
    story.takes(one);
    let tick = story.after(19);
    assert!(!tick.start);
    assert_eq!(tick.again_at, Some(story.now + Duration::from_millis(1)));
    assert!(story.after(1).start);
}

#[test]
fn requests_that_wait_without_a_break_start_a_process_however_short_they_are() {
    let mut story = Story::new(3);
    let (one, _one) = story.start();
    let mut answers = vec![story.submit("first"), story.submit("second")];
    for _ in 0..3 {
        let held = story.takes(one).call.request;
        assert!(!story.after(6).start);
        answers.push(story.submit("another"));
        story.pool.finish(one, held, Ok("".into()));
    }
    story.takes(one);
    assert!(story.after(2).start);
    let (two, _two) = story.start();
    story.takes(two);
    assert!(!story.after(1_000).start, "nothing waits any more");
}

#[test]
fn what_is_idle_for_long_is_ended_but_the_last() {
    let mut story = Story::new(3);
    let processes = [story.start(), story.start(), story.start()];
    let _waiting: Vec<_> = processes
        .iter()
        .map(|(process, _)| {
            story.now += Duration::from_millis(1);
            story.waits(*process)
        })
        .collect();
    story.after(60_000);
    let ends: Vec<_> = processes
        .iter()
        .map(|(_, control)| control.borrow().end)
        .collect();
    assert_eq!(ends, [Some(End::Gracefully), Some(End::Gracefully), None]);
}

#[test]
fn while_no_process_starts_requests_fail_with_the_reason_and_starts_get_rarer() {
    let mut story = Story::new(2);
    let mut answer = story.submit("one");
    let mut starts = Vec::new();
    for _ in 0..60 {
        let tick = story.after(100);
        if tick.start {
            starts.push(story.now);
            let (process, _) = story.start();
            story.exits(process);
        }
    }
    assert_eq!(
        unreachable_with(&mut answer),
        "the handler ended before it asked for a request: exit status: 1"
    );
    let gaps: Vec<_> = starts
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_millis())
        .collect();
    assert_eq!(gaps, [100, 200, 400, 800, 1600]);
}

#[test]
fn a_process_that_cannot_begin_says_why() {
    let mut story = Story::new(1);
    let (process, _) = story.start();
    story.pool.init_failed(process, "no module named x".into());
    story.exits(process);
    let mut answer = story.submit("one");
    story.after(2_999);
    assert!(answer.try_recv().is_err(), "it may still start");
    story.after(1);
    assert_eq!(
        unreachable_with(&mut answer),
        "the handler does not start: no module named x"
    );
}

#[test]
fn a_process_that_never_asks_is_killed() {
    let mut story = Story::new(1);
    let (process, control) = story.start();
    let mut answer = story.submit("one");
    story.after(29_999);
    assert_eq!(control.borrow().end, None);
    story.after(1);
    assert_eq!(control.borrow().end, Some(End::AtOnce));
    story.exits(process);
    story.after(0);
    assert_eq!(
        unreachable_with(&mut answer),
        "the handler does not start: it did not ask for a request within 30s"
    );
}

#[test]
fn replaced_processes_finish_what_they_hold_and_take_nothing_more() {
    let mut story = Story::new(2);
    let (busy, busy_control) = story.start();
    let (idle, idle_control) = story.start();
    let mut answer = story.submit("one");
    let held = story.takes(busy).call.request;
    let mut waiting = story.waits(idle);
    story.pool.retire_all();
    assert_eq!(idle_control.borrow().end, Some(End::Gracefully));
    assert_eq!(busy_control.borrow().end, None);
    let _later = story.submit("two");
    assert!(waiting.try_recv().is_err(), "it was handed a request");
    assert!(story.after(0).start);
    assert!(story.pool.finish(busy, held, Ok("done".into())));
    assert_eq!(answer.try_recv().unwrap(), Ok("done".into()));
    assert_eq!(busy_control.borrow().end, Some(End::Gracefully));
    assert!(matches!(story.pool.next(busy, story.now), Next::Ending));
    let (new, _new) = story.start();
    assert_eq!(story.takes(new).call.payload, "two");
}

#[test]
fn stopping_fails_what_is_held_and_what_waits_so_that_it_is_sent_again() {
    let mut story = Story::new(1);
    let (process, control) = story.start();
    let mut held = story.submit("one");
    let mut waits = story.submit("two");
    story.takes(process);
    story.pool.stop();
    assert_eq!(control.borrow().end, Some(End::Gracefully));
    assert_eq!(
        unreachable_with(&mut held),
        "the handler was stopped while it held the request"
    );
    assert_eq!(unreachable_with(&mut waits), "the handlers were stopped");
    assert_eq!(
        unreachable_with(&mut story.submit("three")),
        "the handlers were stopped"
    );
    assert!(!story.after(10_000).start);
    assert!(!story.pool.is_over());
    story.exits(process);
    assert!(story.pool.is_over());
}

#[test]
fn a_request_that_was_given_up_is_not_sent() {
    let mut story = Story::new(1);
    let (process, _control) = story.start();
    drop(story.submit("one"));
    let _answer = story.submit("two");
    assert_eq!(story.takes(process).call.payload, "two");
}
