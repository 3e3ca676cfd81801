//! Timeouts, sizes and the pool of an HTTP endpoint.

use super::*;

#[tokio::test]
async fn the_timeout_that_expired_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let short = Duration::from_millis(100);
    let silent = async {
        let mut connections = Vec::new();
        loop {
            connections.push(listener.accept().await.unwrap());
        }
    };
    let failures = async {
        let read = failure(HttpEndpoint {
            read: Some(short),
            ..HttpEndpoint::new(format!("http://{address}"))
        });
        // The other side never answers the handshake, which belongs to connecting.
        let connect = failure(HttpEndpoint {
            connect: short,
            ..HttpEndpoint::new(format!("https://{address}"))
        });
        [read.await, connect.await]
    };
    let told = tokio::select! {
        told = failures => told,
        () = silent => unreachable!("the listener never ends"),
    };
    let text = "timed out after 100ms without a byte of the answer (read)";
    assert_eq!(told[0], Failure::new(FailureKind::TimedOut, text));
    let text = "cannot connect: timed out after 100ms (connect)";
    assert_eq!(told[1], Failure::new(FailureKind::Unavailable, text));
}

#[tokio::test]
async fn a_request_over_the_limit_of_payloads_is_not_sent() {
    let url = serve(|| unreachable!("nothing is sent")).await;
    let endpoint = HttpEndpoint {
        payload_max_bytes: 50,
        ..HttpEndpoint::new(url)
    };
    let bytes = batch(1).to_wire().encoded_len();
    let text = format!("the request has {bytes} bytes, and 50 are allowed (payload_max_bytes)");
    assert_eq!(
        failure(endpoint).await,
        Failure::new(FailureKind::RequestTooLarge, text)
    );
}

#[tokio::test]
async fn without_a_pool_each_request_makes_a_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = HttpEndpoint {
        pool_idle: Duration::ZERO,
        ..HttpEndpoint::new(format!("http://{}/f", listener.local_addr().unwrap()))
    };
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let router = Router::new().fallback(async || octets(greeting().encode_to_vec()));
    let listener = axum::serve::ListenerExt::tap_io(listener, move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    tokio::spawn(axum::serve(listener, router).into_future());
    let invoker = HttpInvoker::new(&endpoint).unwrap();
    for so_far in 1..=3 {
        let outcome = invoker.invoke(bundle(vec![batch(1)])).await;
        assert!(matches!(outcome, BundleOutcome::Answered(_)), "{outcome:?}");
        assert_eq!(connections.load(Ordering::Relaxed), so_far);
    }
}
