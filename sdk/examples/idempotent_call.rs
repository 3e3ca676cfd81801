//! A call to the outside that takes effect once: a payment whose confirmation got lost.
//!
//! Satchel applies the effects of a message exactly once, but it may run the handler again, after a
//! failure or a crash. So a request to another service happens at least once. The idempotency key
//! of the message is the same at every attempt, and lets the service recognise the repetition.
//!
//! ```text
//! cargo run -p satchel-sdk --example idempotent_call
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use satchel_sdk::prelude::*;
use satchel_sdk::testing::Scenario;

/// A payment provider that charges once for each key. Its first answer gets lost on the way.
#[derive(Clone, Default)]
struct Provider {
    charged: Arc<Mutex<HashMap<String, i64>>>,
    requests: Arc<Mutex<u32>>,
}

impl Provider {
    async fn charge(&self, key: &str, cents: i64) -> Result {
        let mut charged = self.charged.lock().map_err(|error| error.to_string())?;
        charged.entry(key.to_owned()).or_insert(cents);
        let mut requests = self.requests.lock().map_err(|error| error.to_string())?;
        *requests += 1;
        if *requests == 1 {
            return Err("the connection was lost".into());
        }
        Ok(())
    }
}

#[derive(State)]
struct Account {
    paid: Value<i64>,
}

/// A type, because it holds the client of the provider.
struct Pay {
    provider: Provider,
}

impl Function for Pay {
    type Message = i64;
    type State = Account;

    async fn invoke(&self, ctx: &mut Context<Account>, cents: i64) -> Result<(), Error> {
        // There is no key under a runtime other than Satchel.
        let key = ctx.idempotency_key().ok_or("no idempotency key")?;
        self.provider.charge(key, cents).await?;
        *ctx.state.paid.get_mut_or_default() += cents;
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let provider = Provider::default();
    let pay = Pay {
        provider: provider.clone(),
    };
    let functions = Functions::new().bind_type("shop/account", pay);
    let mut app = Scenario::new(functions).attempts(3);
    app.send("shop/account/alice", &900_i64);
    app.send("shop/account/alice", &250_i64);
    app.run_to_rest().await?;

    let charged = provider.charged.lock().map_err(|error| error.to_string())?;
    let requests = *provider
        .requests
        .lock()
        .map_err(|error| error.to_string())?;
    assert_eq!(requests, 3);
    assert_eq!(charged.len(), 2);
    assert_eq!(charged.values().sum::<i64>(), 1150);
    let paid = app.state::<Account>("shop/account/alice").paid;
    assert_eq!(paid.get(), Some(&1150));
    println!("{requests} requests, {} charges", charged.len());
    Ok(())
}

#[test]
fn the_example_runs() {
    main().expect("the example succeeds");
}
