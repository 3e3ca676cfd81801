//! Bodies of requests: their limits, each and together.

use satchel_engine::input::Verb;

use super::traffic::{CALL, SEND, echo};
use super::*;

#[tokio::test]
async fn a_body_over_the_limit_is_refused_however_it_comes() {
    let body = BodyLimits {
        bytes_max: 1000,
        ..BodyLimits::default()
    };
    let setup = Setup {
        limits: TrafficLimits {
            body,
            ..TrafficLimits::default()
        },
        ..Setup::default()
    };
    let process = Process::start(setup, echo).await;
    let just = format!("\"{}\"", "a".repeat(998));
    let reply = ask(process.traffic, "POST", CALL, &[], just.as_bytes()).await;
    assert_eq!((reply.status, reply.body), (200, just.clone().into_bytes()));
    let over = format!(" {just}");
    let reply = ask(process.traffic, "POST", CALL, &[], over.as_bytes()).await;
    let (status, code, message) = reply.error();
    assert_eq!((status, code.as_str()), (413, "body_too_large"));
    assert!(message.contains("1000 bytes"), "{message}");
    let chunked = format!(
        "POST {CALL} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         transfer-encoding: chunked\r\n\r\n{:x}\r\n{over}\r\n0\r\n\r\n",
        over.len()
    );
    let reply = exchange(process.traffic, chunked.as_bytes()).await.unwrap();
    assert_eq!(reply.code(), (413, "body_too_large".to_owned()));
    process.stop().await;
}

/// Answers what was sent, and leaves calls waiting.
fn accept(input: &Input) -> Option<Answer> {
    matches!(input, Input::CallReceived(call) if call.verb == Verb::Send)
        .then_some(Answer::Accepted)
}

#[tokio::test]
async fn bodies_that_are_too_much_together_are_refused_until_there_is_room() {
    let setup = Setup {
        serve: ServeLimits {
            body_bytes: Limit {
                all: 2000,
                each_client: 1000,
            },
            ..ServeLimits::default()
        },
        ..Setup::default()
    };
    let process = Process::start(setup, accept).await;
    let json = |bytes: usize| format!("\"{}\"", "a".repeat(bytes - 2)).into_bytes();
    let sent = async |bytes| ask(process.traffic, "POST", SEND, &[], &json(bytes)).await;

    // A body of 900 bytes is announced, which takes no room, and comes except for its last byte.
    let mut slow = TcpStream::connect(process.traffic).await.unwrap();
    let head = format!(
        "POST {CALL} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-length: 900\r\n\r\n"
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(sent(1000).await.status, 202);
    let (most, last) = (&json(900)[..899], &json(900)[899..]);
    slow.write_all(most).await.unwrap();
    let refused = async {
        loop {
            let reply = sent(102).await;
            if reply.status != 202 {
                return reply;
            }
            // The slow one has not been read yet.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let reply = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    let (status, code, message) = reply.error();
    assert_eq!((status, code.as_str()), (503, "too_many_bodies_of_client"));
    assert!(
        message.contains("of one client address may have 1000 bytes together"),
        "{message}"
    );
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(sent(101).await.status, 202, "for this one there is room");

    // It came, and the partition has it: that its caller still waits takes no room.
    slow.write_all(last).await.unwrap();
    process
        .hears(|input| matches!(input, Input::CallReceived(call) if call.verb == Verb::Call))
        .await;
    assert_eq!(sent(1000).await.status, 202);
    drop(slow);
    process.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_without_end() {
    let body = BodyLimits {
        time_max: Duration::from_millis(20),
        ..BodyLimits::default()
    };
    let setup = Setup {
        limits: TrafficLimits {
            body,
            ..TrafficLimits::default()
        },
        ..Setup::default()
    };
    let process = Process::start(setup, echo).await;
    let head = format!("POST {CALL} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n1");
    let reply = exchange(process.traffic, head.as_bytes()).await.unwrap();
    assert_eq!(reply.code(), (408, "body_too_slow".to_owned()));
    process.stop().await;
}

#[tokio::test]
async fn a_body_that_stops_coming_is_given_up_before_its_whole_time() {
    let setup = Setup {
        serve: ServeLimits {
            progress_time_max: Duration::from_millis(50),
            ..ServeLimits::default()
        },
        ..Setup::default()
    };
    let process = Process::start(setup, echo).await;
    let head = format!("POST {CALL} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n1");
    let reply = exchange(process.traffic, head.as_bytes()).await.unwrap();
    let (status, code, message) = reply.error();
    assert_eq!((status, code.as_str()), (408, "body_too_slow"));
    assert_eq!(message, "nothing of the body arrived for 50ms");
    process.stop().await;
}
