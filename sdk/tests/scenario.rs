//! The scenario: messages between functions, and virtual time.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use satchel_sdk::prelude::*;
use satchel_sdk::testing::{CallError, Scenario};

const SECOND: Duration = Duration::from_secs(1);

/// A log of everything a function received, shared with the test.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

#[derive(State)]
struct Memory {
    seen: Value<i64>,
    #[state(expire_after_write = "10s")]
    written: Value<String>,
    #[state(expire_after_invoke = "10s")]
    touched: Value<String>,
}

/// Runs the commands of a message, one in each line.
struct Machine {
    log: Log,
}

impl Function for Machine {
    type Message = String;
    type State = Memory;

    async fn invoke(&self, ctx: &mut Context<Memory>, message: String) -> Result<(), Error> {
        let me = ctx.self_address().clone();
        let key = ctx.idempotency_key().ok_or("no key")?;
        self.log
            .push(format!("{} {message} {}", me.id(), ctx.failed_attempts()));
        if message == "key" {
            self.log.push(format!("{} {key}", me.id()));
        }
        *ctx.state.seen.get_mut_or_default() += 1;
        for command in message.lines() {
            match command.split(' ').collect::<Vec<_>>()[..] {
                ["write", text] => ctx.state.written.set(text.into()),
                ["touch", text] => ctx.state.touched.set(text.into()),
                ["forget"] => ctx.state.seen.clear(),
                ["send", id, ref rest @ ..] => {
                    ctx.send(FunctionType::new("test/machine").id(id), &rest.join(" "));
                }
                ["after", seconds, ref rest @ ..] => {
                    let delay = SECOND * seconds.parse()?;
                    ctx.send_after(delay, me.clone(), &rest.join(" "));
                }
                ["token", token, seconds, ref rest @ ..] => {
                    let delay = SECOND * seconds.parse()?;
                    ctx.send_after(delay, me.clone(), &rest.join(" "))
                        .with_token(token);
                }
                ["cancel", token] => ctx.cancel(token),
                ["tell", text] => ctx.send("test/elsewhere/1", &text.to_owned()),
                ["egress", text] => ctx.egress("test/out", &text.to_owned()),
                ["reply", text] => ctx.reply(&text.to_owned())?,
                ["fail", attempts] if ctx.failed_attempts() < attempts.parse()? => {
                    return Err("not yet".into());
                }
                ["reject"] => return Err(TerminalError::new(422, "never").into()),
                _ => {}
            }
        }
        Ok(())
    }
}

fn application() -> (Scenario, Log) {
    let log = Log::default();
    let machine = Machine { log: log.clone() };
    let functions = Functions::new().bind_type("test/machine", machine);
    (Scenario::new(functions), log)
}

const A: &str = "test/machine/a";
const B: &str = "test/machine/b";

fn text(text: &str) -> String {
    text.to_owned()
}

#[tokio::test]
async fn messages_between_functions_run_to_rest_and_states_remain() {
    let (mut app, log) = application();
    app.send(A, &text("send b one\nsend b two\nsend c three"));
    app.send(B, &text("zero"));
    app.run_to_rest().await.unwrap();
    assert_eq!(app.state::<Memory>(B).seen.get(), Some(&3));
    assert_eq!(app.value::<i64>(A, "seen"), Some(1));
    let of_b: Vec<_> = log
        .lines()
        .into_iter()
        .filter(|line| line.starts_with('b'))
        .collect();
    assert_eq!(of_b, ["b zero 0", "b one 0", "b two 0"]);
    let addresses: Vec<_> = app
        .addresses()
        .iter()
        .map(|address| address.id().to_owned())
        .collect();
    assert_eq!(addresses, ["a", "b", "c"]);
    assert_eq!(app.now(), Duration::ZERO);

    app.send(B, &text("forget"));
    app.run_to_rest().await.unwrap();
    assert_eq!(app.value::<i64>(B, "seen"), None);
    assert_eq!(app.addresses().len(), 2);
}

#[tokio::test]
async fn the_same_story_takes_the_same_course() {
    let mut logs = Vec::new();
    for _ in 0..2 {
        let (mut app, log) = application();
        for id in ["a", "b", "c", "d"] {
            let to = FunctionType::new("test/machine").id(id);
            app.send(&to, &text("send a x\nsend b y\nafter 1 key\nafter 1 key"));
        }
        app.advance(SECOND).await.unwrap();
        logs.push(log.lines());
    }
    assert_eq!(logs[0], logs[1]);
    assert_eq!(logs[0].len(), 4 + 8 + 2 * 8);
}

#[tokio::test]
async fn timers_fire_in_the_order_of_their_time_and_then_of_their_setting() {
    let (mut app, log) = application();
    app.send(
        A,
        &text("after 3 late\nafter 1 first\nafter 1 second\nafter 0 now"),
    );
    app.run_to_rest().await.unwrap();
    assert_eq!(log.lines()[1..], ["a now 0"]);
    let due: Vec<_> = app
        .pending_timers()
        .iter()
        .map(|timer| timer.due.as_secs())
        .collect();
    assert_eq!(due, [1, 1, 3]);

    app.advance(2 * SECOND).await.unwrap();
    assert_eq!(log.lines()[2..], ["a first 0", "a second 0"]);
    assert_eq!(app.pending_timers().len(), 1);
    assert_eq!(app.now(), 2 * SECOND);

    app.run_until(3 * SECOND).await.unwrap();
    assert_eq!(log.lines()[4..], ["a late 0"]);
    assert_eq!(app.pending_timers(), []);
}

/// A timer that sets the next one counts from its own time, not from the end of the run.
#[tokio::test]
async fn time_passes_from_timer_to_timer() {
    let (mut app, log) = application();
    app.send(A, &text("after 2 after 2 after 2 end"));
    app.advance(5 * SECOND).await.unwrap();
    assert_eq!(app.pending_timers()[0].due, 6 * SECOND);
    assert_eq!(app.pending_timers()[0].message.read::<String>(), "end");
    app.advance(SECOND).await.unwrap();
    assert_eq!(log.lines().last().unwrap(), "a end 0");
}

#[tokio::test]
async fn a_timer_is_cancelled_by_its_token_and_by_its_sender_alone() {
    let (mut app, log) = application();
    app.send(A, &text("token t 5 tick"));
    app.send(B, &text("token t 5 tick"));
    app.run_to_rest().await.unwrap();
    let timers = app.pending_timers();
    assert_eq!(timers.len(), 2);
    assert_eq!(
        (timers[0].from.id(), timers[0].token.as_deref()),
        ("a", Some("t"))
    );

    app.send(B, &text("cancel t\ncancel unknown"));
    app.run_to_rest().await.unwrap();
    let left: Vec<_> = app
        .pending_timers()
        .iter()
        .map(|timer| timer.from.to_string())
        .collect();
    assert_eq!(left, [A]);

    // Once cancelled, the token may be used again, even in the same message.
    app.send(A, &text("cancel t\ntoken t 7 tock"));
    app.advance(10 * SECOND).await.unwrap();
    assert_eq!(log.lines().last().unwrap(), "a tock 0");
    assert!(!log.lines().contains(&text("a tick 0")));
    // Once it has fired as well.
    app.send(A, &text("token t 7 tock"));
    app.run_to_rest().await.unwrap();
}

#[tokio::test]
async fn a_token_that_is_pending_may_not_be_used_again() {
    let (mut app, _) = application();
    app.send(A, &text("token t 5 tick"));
    app.send(A, &text("tell first\ntoken t 6 tick"));
    let letter = app.run_to_rest().await.unwrap_err();
    assert_eq!(
        letter.error.message,
        "the cancellation token \"t\" is still pending"
    );
    // Nothing of the message took effect.
    assert_eq!(app.value::<i64>(A, "seen"), Some(1));
    assert_eq!(app.messages_to::<String>("test/elsewhere/1"), [""; 0]);
    assert_eq!(app.pending_timers().len(), 1);
}

#[tokio::test]
async fn a_value_expires_after_its_last_write_or_after_the_last_invocation() {
    let (mut app, _) = application();
    app.send(A, &text("write x\ntouch y"));
    app.advance(9 * SECOND).await.unwrap();
    app.send(A, &text("nothing"));
    app.run_to_rest().await.unwrap();

    app.advance(SECOND).await.unwrap();
    let state: Memory = app.state(A);
    assert_eq!(state.written.get(), None);
    assert_eq!(state.touched.get().map(String::as_str), Some("y"));
    assert_eq!(app.value::<String>(A, "written"), None);

    app.advance(9 * SECOND).await.unwrap();
    assert_eq!(app.state::<Memory>(A).touched.get(), None);
    assert_eq!(app.state::<Memory>(A).seen.get(), Some(&2));
}

#[tokio::test]
async fn writing_the_same_value_again_defers_its_expiration() {
    let (mut app, _) = application();
    app.set_value(A, "written", &text("x"));
    app.advance(9 * SECOND).await.unwrap();
    app.send(A, &text("write x"));
    app.advance(9 * SECOND).await.unwrap();
    assert_eq!(app.value::<String>(A, "written"), Some(text("x")));
    app.advance(SECOND).await.unwrap();
    assert_eq!(app.value::<String>(A, "written"), None);
}

/// A failed invocation does not count: it keeps no value alive.
#[tokio::test]
async fn a_failed_invocation_defers_no_expiration() {
    let (mut app, _) = application();
    app.send(A, &text("touch y"));
    app.advance(9 * SECOND).await.unwrap();
    app.send(A, &text("fail 9"));
    app.run_to_rest().await.unwrap_err();
    app.advance(SECOND).await.unwrap();
    assert_eq!(app.value::<String>(A, "touched"), None);
}

#[tokio::test]
async fn a_message_that_fails_is_a_dead_letter_and_has_no_effects() {
    let (mut app, log) = application();
    app.send(A, &text("tell nothing\nfail 9"));
    app.send(A, &text("tell something"));
    app.send_from("test/elsewhere/2", B, &text("fail 9"));
    let letter = app.run_to_rest().await.unwrap_err();
    assert_eq!(
        letter.to_string(),
        "test/machine/a failed after 1 attempts: function: not yet"
    );
    assert_eq!(letter.from, None);
    assert_eq!(letter.message.read::<String>(), "tell nothing\nfail 9");
    assert_eq!(app.messages_to::<String>("test/elsewhere/1"), ["something"]);
    assert_eq!(app.value::<i64>(A, "seen"), Some(1));
    assert_eq!(app.dead_letters().len(), 2);
    assert_eq!(app.dead_letters()[0], *letter);
    assert_eq!(app.dead_letters()[1].from, Some("test/elsewhere/2".into()));
    assert_eq!(log.lines().len(), 3);
    // An earlier dead letter is no error of a later run.
    app.run_to_rest().await.unwrap();
}

#[tokio::test]
async fn a_retry_keeps_the_key_and_the_order() {
    let (app, log) = application();
    let mut app = app.attempts(3);
    app.send(A, &text("key"));
    app.send(A, &text("fail 2"));
    app.send(A, &text("after"));
    app.send(B, &text("key"));
    app.run_to_rest().await.unwrap();
    let lines = log.lines();
    let of_a: Vec<_> = lines.iter().filter(|line| line.starts_with('a')).collect();
    assert_eq!(
        of_a[2..],
        ["a fail 2 0", "a fail 2 1", "a fail 2 2", "a after 0"]
    );
    let keys: Vec<_> = lines.iter().filter(|line| line.len() == 34).collect();
    assert_eq!(keys.len(), 2);
    assert_ne!(keys[0][2..], keys[1][2..]);

    app.send(A, &text("fail 3"));
    assert_eq!(app.run_to_rest().await.unwrap_err().attempts, 3);
}

#[tokio::test]
async fn one_key_belongs_to_one_message_at_all_its_attempts() {
    async fn keys(ctx: &mut Context, message: String) -> Result {
        let key = ctx.idempotency_key().ok_or("no key")?.to_owned();
        KEYS.lock().unwrap().push(key);
        if ctx.failed_attempts() < 2 {
            return Err(message.into());
        }
        Ok(())
    }
    static KEYS: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut app = Scenario::new(Functions::new().bind("test/keys", keys)).attempts(3);
    app.send("test/keys/1", &text("one"));
    app.send("test/keys/1", &text("two"));
    app.run_to_rest().await.unwrap();
    let keys = KEYS.lock().unwrap();
    assert_eq!(keys.len(), 6);
    assert!(keys[..3].iter().all(|key| *key == keys[0]), "{keys:?}");
    assert!(keys[3..].iter().all(|key| *key == keys[3]), "{keys:?}");
    assert_ne!(keys[0], keys[3]);
    assert_eq!(keys[0].len(), 32);
}

#[tokio::test]
async fn a_call_has_a_reply_a_rejection_a_failure_or_none() {
    let (app, _) = application();
    let mut app = app.attempts(2);
    assert_eq!(
        app.call::<String>(A, &text("reply yes")).await,
        Ok(text("yes"))
    );
    assert_eq!(
        app.call::<String>(A, &text("reply yes\nreply no")).await,
        Ok(text("yes"))
    );
    assert_eq!(
        app.call::<String>(A, &text("fail 1\nreply late")).await,
        Ok(text("late"))
    );
    assert_eq!(
        app.call::<String>(A, &text("nothing")).await,
        Err(CallError::NoReply)
    );

    let rejected = CallError::Rejected(TerminalError::new(422, "never"));
    assert_eq!(rejected.to_string(), "status 422: never");
    assert_eq!(
        app.call::<String>(A, &text("reply x\nreject")).await,
        Err(rejected)
    );
    assert_eq!(app.dead_letters(), []);

    let Err(CallError::Failed(letter)) = app.call::<String>(A, &text("fail 2")).await else {
        panic!("it must fail")
    };
    assert_eq!(letter.attempts, 2);
    assert_eq!(app.dead_letters(), [*letter]);
    assert_eq!(app.value::<i64>(A, "seen"), Some(4));
}

#[tokio::test]
async fn a_call_with_a_message_that_cannot_be_decoded_is_rejected_with_400() {
    let (mut app, _) = application();
    let Err(CallError::Rejected(error)) = app.call::<String>(A, &true).await else {
        panic!("it must be rejected")
    };
    assert_eq!(error.code(), 400);
    assert!(error.message().starts_with("unknown typename"), "{error}");
}

#[tokio::test]
async fn a_rejected_message_without_a_caller_outside_is_a_dead_letter_at_once() {
    let (app, log) = application();
    let mut app = app.attempts(5);
    app.send(A, &text("reject"));
    app.send(A, &text("send b reject"));
    let letter = app.run_to_rest().await.unwrap_err();
    assert_eq!(
        (letter.attempts, letter.error.kind.as_str()),
        (1, "terminal")
    );
    assert_eq!(app.dead_letters().len(), 2);
    assert_eq!(app.dead_letters()[1].from, Some(A.into()));
    assert_eq!(log.lines().len(), 3);
}

#[tokio::test]
async fn messages_that_leave_the_application_are_kept() {
    let (mut app, _) = application();
    app.send_from(
        "test/elsewhere/2",
        A,
        &text("egress x\ntell z\nreply pong\negress y"),
    );
    app.run_to_rest().await.unwrap();
    assert_eq!(app.egress::<String>("test/out"), ["x", "y"]);
    assert_eq!(app.egress::<String>("test/other"), [""; 0]);
    assert_eq!(app.messages_to::<String>("test/elsewhere/1"), ["z"]);
    assert_eq!(app.messages_to::<String>("test/elsewhere/2"), ["pong"]);
}

#[tokio::test]
async fn several_handlers_make_one_application() {
    async fn greet_twice(ctx: &mut Context, name: String) -> Result {
        ctx.send("test/greeter/1", &name);
        ctx.send("test/greeter/1", &name);
        Ok(())
    }
    async fn greet_once(ctx: &mut Context, name: String) -> Result {
        ctx.egress("test/out", &format!("Hello {name}"));
        Ok(())
    }
    let (app, _) = application();
    let mut app = app
        .with(Functions::new().bind("test/elsewhere", greet_twice))
        .with(Functions::new().bind("test/greeter", greet_once));
    app.send(A, &text("tell Alice"));
    app.run_to_rest().await.unwrap();
    assert_eq!(
        app.egress::<String>("test/out"),
        ["Hello Alice", "Hello Alice"]
    );
}

#[tokio::test]
#[should_panic(expected = "100000 messages did not bring the application to rest")]
async fn messages_without_end_are_noticed() {
    async fn forever(ctx: &mut Context, _: bool) -> Result {
        let me = ctx.self_address().clone();
        ctx.send(me, &true);
        Ok(())
    }
    let mut app = Scenario::new(Functions::new().bind("test/forever", forever));
    app.send("test/forever/1", &true);
    let _ = app.run_to_rest().await;
}

#[tokio::test]
#[should_panic(expected = "is in the past")]
async fn time_does_not_run_backwards() {
    let (mut app, _) = application();
    app.advance(SECOND).await.unwrap();
    let _ = app.run_until(Duration::ZERO).await;
}

#[test]
#[should_panic(expected = "test/machine declares other states")]
fn a_state_of_another_function_is_refused() {
    let (app, _) = application();
    app.state::<()>(A);
}

#[test]
#[should_panic(expected = "test/machine declares no state \"count\"")]
fn an_undeclared_value_is_refused() {
    let (app, _) = application();
    app.value::<i64>(A, "count");
}

#[test]
#[should_panic(expected = "test/machine is bound to two functions")]
fn a_function_type_is_bound_once() {
    let (app, _) = application();
    let (other, log) = (Functions::new(), Log::default());
    let _ = app.with(other.bind_type("test/machine", Machine { log }));
}

/// The story runs in a task of its own as well.
#[test]
fn a_run_can_be_sent_to_another_thread() {
    fn assert_send<T: Send>(_: T) {}
    let (mut app, _) = application();
    assert_send(app.run_to_rest());
}
