//! State with expiry: a login is valid for an hour, and its session for ten minutes without use.
//!
//! ```text
//! cargo run -p satchel-sdk --example expiring_state
//! ```

use std::time::Duration;

use satchel_sdk::prelude::*;
use satchel_sdk::testing::Scenario;
use serde::{Deserialize, Serialize};

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize, Message)]
#[message(typename = "web/login")]
struct Login {
    name: String,
}

#[derive(Serialize, Deserialize, Message)]
#[message(typename = "web/click")]
struct Click {}

#[derive(Message)]
enum UserMessage {
    Login(Login),
    Click(Click),
}

#[derive(State)]
struct User {
    /// Expires an hour after the login, however often it is read.
    #[state(expire_after_write = "1h")]
    name: Value<String>,
    /// Expires ten minutes after the last message to this user.
    #[state(expire_after_invoke = "10m")]
    clicks: Value<i32>,
}

/// Replies to each message with the clicks of the session. No session is no reply.
async fn user(ctx: &mut Context<User>, message: UserMessage) -> Result<Option<i32>> {
    match message {
        UserMessage::Login(Login { name }) => {
            ctx.state.name.set(name);
            ctx.state.clicks.set(0);
        }
        UserMessage::Click(Click {}) => {
            if let Some(clicks) = ctx.state.clicks.get_mut() {
                *clicks += 1;
            }
        }
    }
    let is_logged_in = ctx.state.name.is_set();
    Ok(ctx.state.clicks.get().copied().filter(|_| is_logged_in))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let alice = "web/user/alice";
    let mut app = Scenario::new(Functions::new().bind("web/user", user));
    app.send(
        alice,
        &Login {
            name: "Alice".into(),
        },
    );
    app.run_to_rest().await?;

    // Each click keeps the session alive for another ten minutes.
    for clicks in 1..=6 {
        app.advance(9 * MINUTE).await?;
        assert_eq!(app.call::<i32>(alice, &Click {}).await?, clicks);
    }
    // 54 minutes have passed. The login expires after an hour, whatever the session does.
    app.advance(6 * MINUTE).await?;
    let state: User = app.state(alice);
    assert_eq!((state.name.get(), state.clicks.get()), (None, Some(&6)));
    app.advance(4 * MINUTE).await?;
    assert_eq!(app.addresses(), []);
    println!("After {:?} nothing of Alice is left.", app.now());
    Ok(())
}

#[test]
fn the_example_runs() {
    main().expect("the example succeeds");
}
