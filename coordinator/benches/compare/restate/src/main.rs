//! The example `greeter` as a virtual object of Restate: reads and writes one state, and replies.

use restate_sdk::prelude::*;
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Serialize, Deserialize)]
struct Name {
    name: String,
}

#[derive(Serialize, Deserialize)]
struct Greeting {
    greeting: String,
    seen: i64,
}

#[restate_sdk::object]
trait Greeter {
    async fn greet(name: Json<Name>) -> Result<Json<Greeting>, HandlerError>;
}

struct Greets;

impl Greeter for Greets {
    async fn greet(
        &self,
        ctx: ObjectContext<'_>,
        Json(Name { name }): Json<Name>,
    ) -> Result<Json<Greeting>, HandlerError> {
        let seen = ctx.get::<i64>("seen").await?.unwrap_or(0) + 1;
        ctx.set("seen", seen);
        let greeting = format!("Hello {name}, we have met {seen} times.");
        Ok(Json(Greeting { greeting, seen }))
    }
}

#[tokio::main]
async fn main() {
    let address = std::env::args().nth(1).expect("an address to listen on");
    let endpoint = Endpoint::builder().bind(Greets.serve()).build();
    let server = HttpServer::new(endpoint);
    server
        .listen_and_serve(address.parse().expect("HOST:PORT"))
        .await;
}
