//! Stand-in of the scoring service as a process: `scoring-service [ADDR [FAIL_EVERY]]`.

use fraud_detection::scoring_service::serve_stand_in;
use satchel_sdk::Error;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:9000".to_owned());
    let fail_every = match arguments.next() {
        Some(text) => text
            .parse()
            .map_err(|error| format!("FAIL_EVERY {text:?}: {error}"))?,
        None => 0,
    };
    let listener = tokio::net::TcpListener::bind(&address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    println!("serving on http://{}", listener.local_addr()?);
    serve_stand_in(listener, fail_every).await?;
    Ok(())
}
